use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::channel::Channel;
use super::code::meaning;
use super::status::Status;
use super::time::first_time;
use crate::json::Json;
use crate::model::lenient;
use crate::model::{Extra, Fields, Zone, serialize_time};

/// What became of a message that was sent through Webex Connect.
///
/// The sender's envelope is `{"deliveryInfoNotification": {"deliveryInfo": {…}, "transid", …}}`. A field is looked for in
/// the delivery info, then in the notification, then beside it, since channels differ in where they put the ids. Sender's
/// page: <https://developers.webexconnect.io/reference/outbound-webhooks>.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct DeliveryNotification {
    /// `deliveryChannel` as sent: fb, SMS, whatsapp and others, in any case.
    pub channel: Option<String>,
    /// `deliveryStatus` read.
    pub status: Option<Status>,
    /// `deliveryStatus` as sent.
    pub status_text: Option<String>,
    /// The code of the channel: four or seven digits, or a placeholder.
    pub code: Option<String>,
    /// What the code means on this channel, where that is known publicly.
    pub code_meaning: Option<String>,
    /// The status in the sender's words.
    pub description: Option<String>,
    /// More on a failure in the channel's words; may hold personal data.
    pub additional_info: Option<String>,
    /// The person's id on the channel.
    pub destination: Option<String>,
    /// What `destination` is: psid, msisdn, waid, email and others.
    pub destination_type: Option<String>,
    /// The request that sent the message; its notifications share it, and so do the recipients of one e-mail.
    pub transaction_id: Option<String>,
    /// `subtid`.
    pub sub_transaction_id: Option<String>,
    /// What the request gave as correlation id.
    pub correlation_id: Option<String>,
    /// What the request gave as callback data, up to 2,000 characters.
    pub callback_data: Option<String>,
    /// When it happened, in UTC; times without a zone are in the source's `timezone`.
    #[serde(serialize_with = "serialize_time")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub timestamp: Option<DateTime<Utc>>,
    /// The time as sent.
    pub timestamp_text: Option<String>,
    /// Whether code and status rule each other out. Both stand as sent.
    pub contradictory: bool,
    /// Every other field as sent, of all levels side by side. Where one name occurs on several levels, that of the delivery
    /// info has it, and the outer ones stand under `deliveryInfoNotification.NAME` and `$.NAME`, with a
    /// number behind where there is one of that name too.
    pub extra: Extra,
}

impl DeliveryNotification {
    /// The notification in this JSON (repaired). None if it has not the shape.
    pub fn from_json(json: &str, zone: Zone) -> Option<Self> {
        let mut levels = Levels::of(Fields::new(lenient::object(json)?))?;
        let channel = levels.text(&["deliveryChannel"]);
        let status_text = levels.text(&["deliveryStatus"]);
        let status = status_text.as_deref().map(Status::parse);
        let code = levels.text(&["code"]);
        let meaning =
            code.as_deref().and_then(|code| meaning(channel.as_deref().map_or(Channel::Other, Channel::parse), code));
        let contradictory = meaning.zip(status).is_some_and(|(meaning, status)| meaning.contradicts(status));
        let (timestamp, timestamp_text) = levels.time(zone);
        Some(Self {
            channel,
            status,
            status_text,
            code,
            code_meaning: meaning.map(|meaning| meaning.text.to_owned()),
            description: levels.text(&["Description", "description"]),
            additional_info: levels.text(&["additionalInfo", "additional_info"]),
            destination: levels.destination(),
            destination_type: levels.text(&["destinationType"]),
            transaction_id: levels.text(&["transid", "transId"]),
            sub_transaction_id: levels.text(&["subtid", "subTid"]),
            correlation_id: levels.text(&["correlationid", "correlationId"]),
            callback_data: levels.text(&["callbackData"]),
            timestamp,
            timestamp_text,
            contradictory,
            extra: levels.into_extra(),
        })
    }

    /// Whether the sender sent fields that no model names.
    pub fn has_extra(&self) -> bool {
        !self.extra.is_empty()
    }
}

const ENVELOPE: &str = "deliveryInfoNotification";
const TIMES: &[&str] = &["timeStamp", "timestamp"];

/// The objects of a notification, the innermost first: delivery info, notification, body.
pub(super) struct Levels<'a>([Fields<'a>; 3]);

impl<'a> Levels<'a> {
    /// Whether a body has the shape of a notification.
    pub(super) fn fit(body: &Fields<'_>) -> bool {
        matches!(body.peek(ENVELOPE), Some(Json::Object(_)))
    }

    /// The levels of a body. None if it has not the shape.
    pub(super) fn of(mut body: Fields<'a>) -> Option<Self> {
        let mut notification = body.object(ENVELOPE)?;
        // A delivery info of another type stays where it is, and its fields are looked for around it.
        let info = notification.object("deliveryInfo").unwrap_or_default();
        Some(Self([info, notification, body]))
    }

    /// The first text on the way out; the same text further out goes with it.
    fn text(&mut self, names: &[&str]) -> Option<String> {
        let mut first = None;
        for level in &mut self.0 {
            match &first {
                None => first = level.first_text(names),
                Some(text) => {
                    for name in names {
                        if level.peek(name).is_some_and(|other| other.scalar().is_none_or(|other| other == text)) {
                            level.text(name);
                        }
                    }
                }
            }
        }
        first
    }

    pub(super) fn destination(&mut self) -> Option<String> {
        self.text(&["destination"])
    }

    /// The time and its text; text without a time where none can be read.
    pub(super) fn time(&mut self, zone: Zone) -> (Option<DateTime<Utc>>, Option<String>) {
        match self.0.iter_mut().find_map(|level| first_time(level, TIMES, zone)) {
            Some((time, text)) => (Some(time), Some(text)),
            None => (None, self.text(TIMES)),
        }
    }

    fn into_extra(self) -> Extra {
        let mut extra = Extra::new();
        // Counts up over all names, so that names made to collide cost no more than their own length.
        let mut number = 1_u64;
        for (level, prefix) in self.0.into_iter().zip(["", "deliveryInfoNotification.", "$."]) {
            for (mut name, value) in level.into_extra() {
                if extra.contains_key(&name) {
                    name.insert_str(0, prefix);
                    let end = name.len();
                    while extra.contains_key(&name) {
                        number += 1;
                        name.truncate(end);
                        name.push_str(&format!(".{number}"));
                    }
                }
                extra.insert(name, value);
            }
        }
        extra
    }
}

crate::model::veil::veiled!(DeliveryNotification);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn extra(json: &str) -> Extra {
        DeliveryNotification::from_json(json, Zone::UTC).unwrap().extra
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let seen = extra(
            r#"{"a":1,"deliveryInfoNotification":{"a":2,"deliveryInfoNotification.a":3,
                "deliveryInfo":{"a":4,"deliveryInfoNotification.a":5,"$.a":6}}}"#,
        );
        let expected = r#"{"a":4,"deliveryInfoNotification.a":5,"$.a":6,"deliveryInfoNotification.a.2":2,
            "deliveryInfoNotification.deliveryInfoNotification.a":3,"$.a.3":1}"#;
        assert_eq!(serde_json::to_value(seen).unwrap(), serde_json::from_str::<Value>(expected).unwrap());
    }

    /// Names made to collide with whatever they are renamed to once made the work grow with the cube of their number.
    #[test]
    fn names_made_to_collide_do_not_grow() {
        let names: Vec<String> = (0..200).map(|n| format!("{}a", "deliveryInfoNotification.".repeat(n))).collect();
        let level = |value: u8| names.iter().map(|name| format!(r#""{name}":{value},"#)).collect::<String>();
        let json = format!(
            r#"{{{}"deliveryInfoNotification":{{{}"deliveryInfo":{{{}"z":1}}}}}}"#,
            level(3),
            level(2),
            level(1)
        );
        let seen = extra(&json);
        assert_eq!(seen.len(), 3 * names.len() + 1);
        let longest = names.iter().map(String::len).max().unwrap();
        assert!(seen.keys().all(|name| name.len() <= longest + 32));
    }
}
