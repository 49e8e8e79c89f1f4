use std::borrow::Cow;

use chrono::{DateTime, Utc};

use crate::json::{Scanner, Type, scalar};
use crate::model::{Zone, parse_time};

/// What must be known of an item when it is received. A look at the item's top, without building anything, so that it
/// costs little and fails never.
#[derive(Clone, Default)]
pub struct Head<'a> {
    /// Which event it is; none if nothing that Meta is known to send is in it.
    pub event: Option<EventKey>,
    /// `sender.id`, digit for digit.
    pub sender_id: Option<Cow<'a, str>>,
    /// `recipient.id`, digit for digit.
    pub recipient_id: Option<Cow<'a, str>>,
    /// `timestamp`, as it stands in the JSON.
    pub timestamp: Option<&'a str>,
    /// `field` of an item of `changes`, if there is a `value` beside it or not.
    pub field: Option<Cow<'a, str>>,
    /// Whether there is a `value`.
    pub has_value: bool,
}

/// Which event an item is. Where an item has keys of several, the first of this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKey {
    /// `message` with `is_echo`.
    MessageEcho,
    /// `message`.
    Message,
    /// `message_edit`.
    MessageEdit,
    /// `reaction`.
    Reaction,
    /// `postback`.
    Postback,
    /// `delivery`.
    Delivery,
    /// `read`.
    Read,
    /// `referral`.
    Referral,
    /// `optin`.
    Optin,
    /// `account_linking`.
    AccountLinking,
    /// `pass_thread_control`, `take_thread_control`, `request_thread_control`, `app_roles`.
    Handover,
    /// Any other that Meta is known to send.
    Other,
}

impl EventKey {
    /// The event that an item with a field of this name is, and whether the field must be an object, since it has a model
    /// of its own; the others need only not be null.
    fn named(name: &str) -> Option<(Self, bool)> {
        Some(match name {
            "message" => (Self::Message, true),
            "message_edit" => (Self::MessageEdit, true),
            "reaction" => (Self::Reaction, true),
            "postback" => (Self::Postback, true),
            "delivery" => (Self::Delivery, true),
            "read" => (Self::Read, true),
            "referral" => (Self::Referral, false),
            "optin" => (Self::Optin, false),
            "account_linking" => (Self::AccountLinking, false),
            "pass_thread_control" | "take_thread_control" | "request_thread_control" | "app_roles" => {
                (Self::Handover, false)
            }
            "policy_enforcement" | "policy-enforcement" | "game_play" | "response_feedback" | "messaging_feedback"
            | "order" | "message_request" => (Self::Other, false),
            _ => return None,
        })
    }
}

/// The last scalar of this name in the next value, if that is an object.
fn scalar_within<'a>(value: &mut Scanner<'a>, name: &str) -> Option<Option<Cow<'a, str>>> {
    let mut found = None;
    value.fields(|field, value| {
        let json = value.value()?;
        if field == name {
            found = scalar(json);
        }
        Some(())
    })?;
    Some(found)
}

impl<'a> Head<'a> {
    /// A look at this item; none if it is no object. Of a key that occurs twice the last counts, as in a JSON parser.
    pub fn of(item: &'a str) -> Option<Self> {
        Self::read(&mut Scanner::new(item)).flatten()
    }

    /// A look at the next value, which is read with it. None if it is no JSON, and no head if it is no object.
    pub(super) fn read(item: &mut Scanner<'a>) -> Option<Option<Self>> {
        let mut head = Self::default();
        let is_object = item.fields(|name, value| {
            match &*name {
                "sender" => head.sender_id = scalar_within(value, "id")?,
                "recipient" => head.recipient_id = scalar_within(value, "id")?,
                "timestamp" => head.timestamp = Some(value.value()?),
                "field" => head.field = scalar(value.value()?),
                other => {
                    head.has_value |= other == "value";
                    if let Some(event) = Self::event(other, value)? {
                        head.event = Some(head.event.map_or(event, |first| first.min(event)));
                    }
                }
            }
            Some(())
        })?;
        Some(is_object.then_some(head))
    }

    /// The event that an item with this field is.
    fn event(name: &str, value: &mut Scanner<'a>) -> Option<Option<EventKey>> {
        let (named, found) = (EventKey::named(name), value.peek()?);
        if matches!(named, Some((EventKey::Message, _))) && found == Type::Object {
            let echo = scalar_within(value, "is_echo")?;
            let echo = echo.is_some_and(|truth| matches!(&*truth, "true" | "True" | "TRUE" | "1"));
            return Some(Some(if echo { EventKey::MessageEcho } else { EventKey::Message }));
        }
        value.value()?;
        let fits = |object| if object { found == Type::Object } else { found != Type::Null };
        Some(named.and_then(|(event, object)| fits(object).then_some(event)))
    }

    /// Whether the item has a `timestamp` that is a number other than 0 or a non-empty string: a time of its own,
    /// readable or not, which is the same in every copy of it.
    pub fn has_own_time(&self) -> bool {
        match self.timestamp {
            None => false,
            Some(json) if json.starts_with('"') => json != "\"\"",
            Some(json) => json.parse::<f64>().is_ok_and(|number| number != 0.0),
        }
    }

    /// The page, and the person on the other side.
    pub fn sides<'s>(&'s self, entry_id: Option<&'s str>) -> (Option<&'s str>, Option<&'s str>) {
        let (sender, recipient) = (self.sender_id.as_deref(), self.recipient_id.as_deref());
        // The page may be the sender of more than echoes: its id is that of the entry.
        let sent_by_page = self.event == Some(EventKey::MessageEcho)
            || (sender.is_some() && sender == entry_id && recipient != entry_id);
        let (page, person) = if sent_by_page { (sender, recipient) } else { (recipient, sender) };
        let page = page.or(entry_id);
        (page, person.filter(|person| Some(*person) != page))
    }

    /// When it happened, if it says so readably.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        parse_time(&scalar(self.timestamp?)?, Zone::UTC)
    }
}

crate::model::veil::veiled!(Head<'_>);

#[cfg(test)]
mod tests {
    use super::*;

    fn event(item: &str) -> Option<EventKey> {
        Head::of(item)?.event
    }

    #[test]
    fn the_event_is_told_by_its_key() {
        for (item, expected) in [
            (r#"{"message":{"is_echo":true}}"#, Some(EventKey::MessageEcho)),
            (r#"{"message":{"is_echo":"true"}}"#, Some(EventKey::MessageEcho)),
            (r#"{"message":{"is_echo":1}}"#, Some(EventKey::MessageEcho)),
            (r#"{"message":{"is_echo":false}}"#, Some(EventKey::Message)),
            (r#"{"message":{}}"#, Some(EventKey::Message)),
            (r#"{"message":"TEST_MESSAGE"}"#, None),
            (r#"{"message":null,"read":{}}"#, Some(EventKey::Read)),
            (r#"{"read":[]}"#, None),
            (r#"{"referral":{},"postback":{}}"#, Some(EventKey::Postback)),
            (r#"{"optin":{"user_ref":"r"}}"#, Some(EventKey::Optin)),
            (r#"{"app_roles":{"1":["primary_receiver"]}}"#, Some(EventKey::Handover)),
            (r#"{"message_request":"accept"}"#, Some(EventKey::Other)),
            (r#"{"policy-enforcement":{}}"#, Some(EventKey::Other)),
            (r#"{"game_play":null}"#, None),
            (r#"{"brand_new":{}}"#, None),
            ("{}", None),
            ("[]", None),
            ("null", None),
        ] {
            assert_eq!(event(item), expected, "{item}");
        }
    }

    #[test]
    fn a_time_of_its_own() {
        for (item, expected) in [
            (r#"{"timestamp":1457764197627}"#, true),
            (r#"{"timestamp":-1}"#, true),
            (r#"{"timestamp":"0"}"#, true),
            (r#"{"timestamp":"yesterday"}"#, true),
            (r#"{"timestamp":0}"#, false),
            (r#"{"timestamp":0.0e5}"#, false),
            (r#"{"timestamp":""}"#, false),
            (r#"{"timestamp":null}"#, false),
            (r#"{"timestamp":{}}"#, false),
            (r#"{"timestamp":true}"#, false),
            ("{}", false),
        ] {
            assert_eq!(Head::of(item).unwrap().has_own_time(), expected, "{item}");
        }
    }

    #[test]
    fn the_person_is_the_side_that_is_not_the_page() {
        for (item, entry, page, person) in [
            (r#"{"sender":{"id":"P"},"recipient":{"id":"U"},"message":{"is_echo":true}}"#, Some("P"), "P", "U"),
            (r#"{"sender":{"id":"P"},"recipient":{"id":"U"},"message":{"is_echo":true}}"#, Some("0"), "P", "U"),
            (r#"{"sender":{"id":"U"},"recipient":{"id":"P"},"message":{}}"#, Some("P"), "P", "U"),
            (r#"{"sender":{"id":"U"},"recipient":{"id":"P"},"message":{}}"#, None, "P", "U"),
            (r#"{"sender":{"id":"P"},"recipient":{"id":"U"},"reaction":{}}"#, Some("P"), "P", "U"),
            (r#"{"sender":{"id":123456789012345678},"recipient":{"id":9}}"#, Some("9"), "9", "123456789012345678"),
            (r#"{"sender":{"user_ref":"r"},"recipient":{"id":"P"},"optin":{}}"#, Some("P"), "P", ""),
            (r#"{"recipient":{"id":"P"},"app_roles":{}}"#, Some("P"), "P", ""),
            (r#"{"message":{}}"#, Some("P"), "P", ""),
            (r#"{"sender":{"id":"P"},"recipient":{"id":"P"},"message":{}}"#, Some("P"), "P", ""),
            ("{}", None, "", ""),
        ] {
            let head = Head::of(item).unwrap();
            let (is_page, is_person) = head.sides(entry);
            assert_eq!((is_page.unwrap_or(""), is_person.unwrap_or("")), (page, person), "{item}");
        }
    }
}
