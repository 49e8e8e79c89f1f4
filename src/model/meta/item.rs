use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{EventKey, Head};
use crate::json::Json;
use crate::model::lenient;
use crate::model::{Extra, Fields, serialize_time};

/// What every event of Meta has.
#[derive(Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Item {
    /// page, instagram, whatsapp_business_account…: `object` of the envelope.
    pub object: Option<String>,
    /// The page: sender of an echo, else recipient, else the id of the entry.
    pub page_id: Option<String>,
    /// `sender.id`.
    pub sender_id: Option<String>,
    /// `recipient.id`.
    pub recipient_id: Option<String>,
    /// When it happened. A time that cannot be read stays in `extra`.
    #[serde(serialize_with = "serialize_time")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub timestamp: Option<DateTime<Utc>>,
    /// Whether it came through `standby`: another app owns the thread.
    pub standby: bool,
    /// Everything that no model names, as sent and where it stood: what is left of `message` stands under `message`.
    pub extra: Extra,
}

/// What stood around an item in its envelope.
#[derive(Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// `object`.
    pub object: Option<&'a str>,
    /// `entry[].id`.
    pub entry_id: Option<&'a str>,
    /// Whether the item stood in `standby`.
    pub standby: bool,
}

impl Item {
    /// What a look at the item tells.
    pub fn new(head: &Head<'_>, around: Surroundings<'_>) -> Self {
        let (page, _) = head.sides(around.entry_id);
        Self {
            object: around.object.map(str::to_owned),
            page_id: page.map(str::to_owned),
            sender_id: head.sender_id.as_deref().map(str::to_owned),
            recipient_id: head.recipient_id.as_deref().map(str::to_owned),
            timestamp: head.time(),
            standby: around.standby,
            extra: Extra::new(),
        }
    }
}

/// An item whose event object is being taken apart.
pub(super) struct Opened<'a> {
    item: Item,
    fields: Fields<'a>,
    key: &'static str,
}

impl<'a> Opened<'a> {
    /// The item, which was found to be this event when it was received, and the fields of the event's object; none if the
    /// item is no object.
    pub(super) fn at(json: &'a str, around: Surroundings<'_>, event: EventKey) -> Option<(Self, Fields<'a>)> {
        let mut fields = Fields::new(lenient::object(json)?);
        let key = event.field()?;
        // What a tree does not hold stands in it as text.
        let whole = ["sender", "recipient", key].iter().all(|name| !matches!(fields.peek(name), Some(Json::Text(_))));
        let mut head = if whole { Head::of_tree(&fields) } else { Head::of(json)? };
        head.event = Some(event);
        let (item, has_own_time) = (Item::new(&head, around), head.has_own_time);
        for (name, id) in [("sender", &item.sender_id), ("recipient", &item.recipient_id)] {
            if id.is_some()
                && let Some(mut side) = fields.object(name)
            {
                side.value("id");
                fields.put_rest(name, side);
            }
        }
        // Both 0 and an empty text say that there is none, which is nothing to keep.
        let says_none = !has_own_time && matches!(fields.peek("timestamp"), Some(Json::Number(_) | Json::Text(_)));
        if item.timestamp.is_some() || says_none {
            fields.value("timestamp");
        }
        let event = fields.object(key).unwrap_or_default();
        Some((Self { item, fields, key }, event))
    }

    /// What every event has, with all that nobody took, where it stood.
    pub(super) fn close(mut self, rest: Fields<'a>) -> Item {
        self.fields.put_rest(self.key, rest);
        Item { extra: self.fields.into_extra(), ..self.item }
    }
}

crate::model::veil::veiled!(Item, Surroundings<'_>);
