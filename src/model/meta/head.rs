use std::borrow::Cow;

use chrono::{DateTime, Utc};

use crate::json::{Json, Scanner, Type, scalar};
use crate::model::{Fields, Zone, parse_time};

/// What must be known of an item when it is received. A look at the item's top, without building anything, so that it
/// costs little and fails never. Where an item has been read as a tree, the tree is looked at.
#[derive(Clone, Default)]
pub struct Head<'a> {
    /// Which event it is; none if nothing that Meta is known to send is in it.
    pub event: Option<EventKey>,
    /// `sender.id`, digit for digit.
    pub sender_id: Option<Cow<'a, str>>,
    /// `recipient.id`, digit for digit.
    pub recipient_id: Option<Cow<'a, str>>,
    /// `timestamp`, where it is a scalar.
    pub timestamp: Option<Cow<'a, str>>,
    /// Whether the `timestamp` is a number other than 0 or a non-empty string: a time of its own, readable or not, which
    /// is the same in every copy of the item.
    pub has_own_time: bool,
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

    /// The field that the event's model stands in, if it has one.
    pub(super) fn field(self) -> Option<&'static str> {
        Some(match self {
            Self::MessageEcho | Self::Message => "message",
            Self::MessageEdit => "message_edit",
            Self::Reaction => "reaction",
            Self::Postback => "postback",
            Self::Delivery => "delivery",
            Self::Read => "read",
            Self::Referral | Self::Optin | Self::AccountLinking | Self::Handover | Self::Other => return None,
        })
    }

    /// The event that an item with a field of this name and type is. `is_echo` is what a `message` says of itself.
    fn of(name: &str, found: Type, is_echo: bool) -> Option<Self> {
        let (event, object) = Self::named(name)?;
        let fits = if object { found == Type::Object } else { found != Type::Null };
        fits.then_some(if event == Self::Message && is_echo { Self::MessageEcho } else { event })
    }
}

fn is_true(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "1")
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
    /// A look at this item; none if it is no object. Of a key that occurs twice the last counts, as in a JSON
    /// parser; of several events the first of their order does, each time they occur.
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
                "timestamp" => {
                    let json = value.value()?;
                    head.has_own_time = match json.strip_prefix('"') {
                        Some(text) => text != "\"",
                        None => is_other_than_zero(json),
                    };
                    head.timestamp = scalar(json);
                }
                "field" => head.field = scalar(value.value()?),
                other => {
                    head.has_value |= other == "value";
                    head.note(Self::event(other, value)?);
                }
            }
            Some(())
        })?;
        Some(is_object.then_some(head))
    }

    /// The same of an item that has been read as a tree, where each key stands once.
    pub(super) fn of_tree(item: &'a Fields<'_>) -> Self {
        let mut head = Self::default();
        for (name, value) in item.iter() {
            match name {
                "sender" => head.sender_id = value.member("id").and_then(Json::scalar).map(Cow::Borrowed),
                "recipient" => head.recipient_id = value.member("id").and_then(Json::scalar).map(Cow::Borrowed),
                "timestamp" => {
                    head.has_own_time = match value {
                        Json::Text(text) => !text.is_empty(),
                        Json::Number(digits) => is_other_than_zero(digits),
                        _ => false,
                    };
                    head.timestamp = value.scalar().map(Cow::Borrowed);
                }
                "field" => head.field = value.scalar().map(Cow::Borrowed),
                other => {
                    head.has_value |= other == "value";
                    let is_echo = value.member("is_echo").and_then(Json::scalar).is_some_and(is_true);
                    head.note(EventKey::of(other, value.kind(), is_echo));
                }
            }
        }
        head
    }

    /// Of several events the first of their order counts.
    fn note(&mut self, event: Option<EventKey>) {
        self.event = self.event.into_iter().chain(event).min();
    }

    /// The event that an item with this field is.
    fn event(name: &str, value: &mut Scanner<'a>) -> Option<Option<EventKey>> {
        let found = value.peek()?;
        let is_echo = if name == "message" {
            scalar_within(value, "is_echo")?.is_some_and(|truth| is_true(&truth))
        } else {
            value.value()?;
            false
        };
        Some(EventKey::of(name, found, is_echo))
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
        parse_time(self.timestamp.as_deref()?, Zone::UTC)
    }
}

/// Whether this JSON is a number other than 0.
fn is_other_than_zero(json: &str) -> bool {
    json.parse::<f64>().is_ok_and(|number| number != 0.0)
}

crate::model::veil::veiled!(Head<'_>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lenient;

    /// What a look at this item tells, and the same of its tree.
    fn head<T>(item: &str, tell: impl Fn(&Head<'_>) -> T) -> Option<T>
    where
        T: PartialEq + std::fmt::Debug,
    {
        let told = tell(&Head::of(item)?);
        let tree = Fields::new(lenient::object(item).unwrap());
        assert_eq!(tell(&Head::of_tree(&tree)), told, "{item}");
        Some(told)
    }

    fn event(item: &str) -> Option<EventKey> {
        head(item, |head| head.event)?
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
            assert_eq!(head(item, |head| head.has_own_time), Some(expected), "{item}");
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
            let sides = |head: &Head<'_>| {
                let (page, person) = head.sides(entry);
                (page.unwrap_or("").to_owned(), person.unwrap_or("").to_owned())
            };
            assert_eq!(head(item, sides), Some((page.to_owned(), person.to_owned())), "{item}");
        }
    }
}
