use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::channel::Channel;
use super::time::first_time;
use super::{ConnectPostback, User};
use crate::model::lenient::{self, Room, opened};
use crate::model::{Attachment, AttachmentType, Extra, Fields, Zone, serialize_time};

/// A message, a postback or another event that came in through Webex Connect: one shape for all three, since senders mix
/// their fields. A flat object; which fields it has differs per channel.
///
/// Sender's page: <https://developers.webexconnect.io/reference/outbound-webhooks>.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct ConnectEvent {
    /// As sent: Facebook, WhatsApp, rcs, AppleBusinessChat, Rtm, SMS and others.
    pub channel: Option<String>,
    /// As sent: MO, OnPostback and others. SMS and MMS have none.
    pub event: Option<String>,
    /// The app or number of ours it came to, as Webex Connect names it.
    pub app_id: Option<String>,
    /// `tid`.
    pub transaction_id: Option<String>,
    /// Whom it comes from.
    pub user: User,
    /// The message's text.
    pub text: Option<String>,
    /// The message's attachments. Webex Connect hosts copies of them, whose URLs expire.
    pub attachments: Vec<Attachment>,
    /// The button the person pressed.
    pub postback: Option<ConnectPostback>,
    /// When it happened, in UTC; times without a zone are in the source's `timezone`. One that cannot be read stays under
    /// `extra`.
    #[serde(serialize_with = "serialize_time")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub timestamp: Option<DateTime<Utc>>,
    /// Every other field as sent; `optin` opened where it is JSON text.
    pub extra: Extra,
}

/// Where the time of a message can stand, the best first.
pub(super) const TIMES: &[&str] = &["ts", "timeStamp", "timestamp", "datetime"];
/// Where its channel can stand.
pub(super) const CHANNELS: &[&str] = &["channel", "Channel"];

impl ConnectEvent {
    /// The event in this JSON (repaired). None if it is no object.
    pub fn from_json(json: &str, zone: Zone) -> Option<Self> {
        let mut fields = Fields::new(lenient::object(json)?);
        let channel = fields.first_text(CHANNELS);
        let known = channel.as_deref().map_or(Channel::Other, Channel::parse);
        let user = User::take(&mut fields, known);
        // One for all texts of the event that hold JSON.
        let mut room = Room::default();
        let mut attachments = fields.value("attachments").map(|json| attachments(json, &mut room)).unwrap_or_default();
        if known == Channel::Mms {
            attachments.extend(take_files(&mut fields, &mut room));
        }
        if let Some(optin) = fields.value("optin").and_then(|json| opened_optin(json, &mut room)) {
            fields.put("optin", optin);
        }
        Some(Self {
            channel,
            event: fields.text("event"),
            app_id: fields.text("appId"),
            transaction_id: fields.text("tid"),
            user,
            text: fields.text("message"),
            attachments,
            postback: fields.value("postback").and_then(|json| ConnectPostback::from_json(json, &mut room)),
            timestamp: first_time(&mut fields, TIMES, zone).map(|(time, _)| time),
            extra: fields.into_extra(),
        })
    }

    /// Whether the sender sent fields that no model names.
    pub fn has_extra(&self) -> bool {
        !self.extra.is_empty()
            || self.attachments.iter().any(Attachment::has_extra)
            || self.postback.as_ref().is_some_and(|postback| !postback.extra.is_empty())
    }
}

/// A list, one attachment, JSON text of either, or text that is the only thing known of an attachment.
fn attachments(json: Value, room: &mut Room) -> Vec<Attachment> {
    match json {
        Value::String(text) => match opened(&text, room) {
            Some(open @ (Value::Array(_) | Value::Object(_) | Value::Null)) => attachments(open, room),
            Some(_) | None if text.trim().is_empty() => Vec::new(),
            Some(_) | None => vec![Attachment::from_json(Value::String(text))],
        },
        Value::Array(items) => {
            items.into_iter().filter(|item| !item.is_null()).map(|item| attachment(item, room)).collect()
        }
        Value::Object(object) if object.is_empty() => Vec::new(),
        Value::Null => Vec::new(),
        one => vec![attachment(one, room)],
    }
}

fn attachment(json: Value, room: &mut Room) -> Attachment {
    let json = match json {
        Value::String(text) => match opened(&text, room) {
            Some(open @ Value::Object(_)) => open,
            Some(_) | None => Value::String(text),
        },
        other => other,
    };
    let mut attachment = Attachment::from_json(json);
    if attachment.kind == AttachmentType::Other {
        attachment.kind = media_type(&attachment).unwrap_or(AttachmentType::Other);
    }
    attachment
}

/// What an attachment is, by the media type (RFC 6838) that e-mail and MMS give instead of a kind.
fn media_type(attachment: &Attachment) -> Option<AttachmentType> {
    let named = ["contentType", "content_type", "mimeType", "mime_type"];
    let beside = named.iter().find_map(|name| attachment.extra.get(*name)?.as_str());
    let (top, _) = attachment.type_text.as_deref().filter(|text| text.contains('/')).or(beside)?.split_once('/')?;
    match top.trim().to_ascii_lowercase().as_str() {
        "image" => Some(AttachmentType::Image),
        "video" => Some(AttachmentType::Video),
        "audio" => Some(AttachmentType::Audio),
        "application" | "text" | "message" | "model" | "font" => Some(AttachmentType::File),
        _ => None,
    }
}

/// The files of an MMS, whose message is then a list (or JSON text of one) and no text. A text that happens to be JSON
/// of anything else stays a text.
fn take_files(fields: &mut Fields, room: &mut Room) -> Vec<Attachment> {
    let open = match fields.peek("message") {
        Some(Value::String(text)) => opened(text, room),
        Some(other) => Some(other.clone()),
        None => None,
    };
    let Some(Value::Array(files)) = open else { return Vec::new() };
    if files.is_empty() || !files.iter().all(is_file) {
        return Vec::new();
    }
    fields.value("message");
    files
        .into_iter()
        .map(|file| {
            let mut attachment = attachment(if file.is_string() { json!({ "url": file }) } else { file }, room);
            if attachment.kind == AttachmentType::Other && attachment.type_text.is_none() {
                attachment.kind = AttachmentType::File;
            }
            attachment
        })
        .collect()
}

fn is_file(json: &Value) -> bool {
    match json {
        Value::Object(object) => !object.is_empty(),
        Value::String(text) => text.starts_with("http://") || text.starts_with("https://"),
        _ => false,
    }
}

/// An opt-in as JSON where it can be opened. None if nothing is in it.
fn opened_optin(json: Value, room: &mut Room) -> Option<Value> {
    let open = match json {
        Value::String(text) => opened(&text, room).unwrap_or(Value::String(text)),
        other => other,
    };
    let nothing = match &open {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    (!nothing).then_some(open)
}

crate::model::veil::veiled!(ConnectEvent);
