use chrono::{DateTime, Utc};

use super::channel::Channel;
use super::connect_event::{CHANNELS, TIMES};
use super::delivery_notification::Levels;
use super::status::fold;
use super::time::first_time;
use super::user::take_id;
use crate::json::NotJson;
use crate::model::lenient::select;
use crate::model::{Fields, Zone};

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It has `deliveryInfoNotification`.
    DeliveryNotification,
    /// It has a channel, and `event` says that it is a message or `oa`/`da` say so without.
    Message,
    /// It has a channel, and `event` says that a button was pressed.
    Postback,
    /// It has a channel and any other `event`.
    Event,
}

/// What the receiving side must know of a body before it is stored, without building the whole of it: an e-mail can carry
/// megabytes of attachments.
#[derive(Clone, PartialEq, Eq)]
pub struct Glance {
    /// What it is.
    pub shape: Shape,
    /// The person it concerns: destination of a notification, sender of a message.
    pub person: Option<String>,
    /// When it happened.
    pub time: Option<DateTime<Utc>>,
}

impl Glance {
    /// A glance at this text (repaired). None if it is nothing that Webex Connect is known to send.
    pub fn at(json: &str, zone: Zone) -> Result<Option<Self>, NotJson> {
        Ok(select(json, is_needed)?.and_then(|fields| Self::of(Fields::new(fields), zone)))
    }

    fn of(mut fields: Fields<'_>, zone: Zone) -> Option<Self> {
        if Levels::fit(&fields) {
            let mut levels = Levels::of(fields)?;
            let (time, _) = levels.time(zone);
            return Some(Self { shape: Shape::DeliveryNotification, person: levels.destination(), time });
        }
        let channel = Channel::parse(&fields.first_text(CHANNELS)?);
        let shape = match fields.text("event").as_deref().map(fold).as_deref() {
            Some("mo" | "attachment" | "inboundmessage") => Shape::Message,
            Some("onpostback" | "postback") => Shape::Postback,
            Some(_) => Shape::Event,
            None if ["oa", "da"].iter().any(|name| fields.peek(name).is_some_and(|value| !value.is_null())) => {
                Shape::Message
            }
            None => return None,
        };
        let person = take_id(&mut fields, channel).map(|(id, _)| id);
        Some(Self { shape, person, time: first_time(&mut fields, TIMES, zone).map(|(time, _)| time) })
    }
}

/// Whether a member is looked at. Every name is compared with this, so that it is one match.
fn is_needed(name: &str) -> bool {
    matches!(
        name,
        "deliveryInfoNotification" | "destination" | "event" | "channel" | "Channel" // what it is
            | "ts" | "timeStamp" | "timestamp" | "datetime" // when
            | "psid" | "waid" | "bsuid" | "userHandle" | "igsid" | "msisdn" | "abcUserId" | "userId" | "userld" // who
            | "oa" | "da" | "from" | "twitterid" | "twitterId" | "conversationid"
    )
}

#[cfg(test)]
mod tests {
    use super::super::channel::ANY_USER_KEY;
    use super::*;

    #[test]
    fn all_that_is_asked_for_is_needed() {
        let keys = Channel::ALL.iter().flat_map(|channel| channel.user_keys()).chain(ANY_USER_KEY);
        for name in keys.map(|(key, _)| key).chain(CHANNELS).chain(TIMES) {
            assert!(is_needed(name), "{name}");
        }
        assert!(!is_needed("attachments"));
    }
}
