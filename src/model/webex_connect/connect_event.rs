use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::channel::Channel;
use super::time::first_time;
use super::{ConnectPostback, User};
use crate::json::{Json, mended};
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
fn attachments(json: Json<'_>, room: &mut Room) -> Vec<Attachment> {
    match json {
        Json::Text(text) => match opened(&mended(&text), room) {
            Some(open @ (Json::List(_) | Json::Object(_) | Json::Null)) => attachments(open, room),
            Some(_) | None if text.trim().is_empty() => Vec::new(),
            Some(_) | None => vec![Attachment::from_json(Json::Text(text.clone()))],
        },
        Json::List(items) => {
            items.into_iter().filter(|item| !item.is_null()).map(|item| attachment(item, room)).collect()
        }
        Json::Object(object) if object.is_empty() => Vec::new(),
        Json::Null => Vec::new(),
        one => vec![attachment(one, room)],
    }
}

fn attachment(json: Json<'_>, room: &mut Room) -> Attachment {
    let mut attachment = match json {
        Json::Text(text) => match opened(&mended(&text), room) {
            Some(open @ Json::Object(_)) => Attachment::from_json(open),
            Some(_) | None => Attachment::from_json(Json::Text(text.clone())),
        },
        other => Attachment::from_json(other),
    };
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
fn take_files(fields: &mut Fields<'_>, room: &mut Room) -> Vec<Attachment> {
    let text = match fields.peek("message") {
        Some(Json::Text(text)) => Some(mended(text).into_owned()),
        _ => None,
    };
    let open = match &text {
        Some(text) => opened(text, room),
        None => fields.peek("message").cloned(),
    };
    let Some(Json::List(files)) = open else { return Vec::new() };
    if files.is_empty() || !files.iter().all(is_file) {
        return Vec::new();
    }
    fields.value("message");
    files
        .into_iter()
        .map(|file| {
            let is_url = matches!(file, Json::Text(_));
            let file = if is_url { Json::Object(vec![("url".into(), file)]) } else { file };
            let mut attachment = attachment(file, room);
            if attachment.kind == AttachmentType::Other && attachment.type_text.is_none() {
                attachment.kind = AttachmentType::File;
            }
            attachment
        })
        .collect()
}

fn is_file(json: &Json<'_>) -> bool {
    match json {
        Json::Object(object) => !object.is_empty(),
        Json::Text(text) => text.starts_with("http://") || text.starts_with("https://"),
        _ => false,
    }
}

/// An opt-in as JSON where it can be opened. None if nothing is in it.
fn opened_optin<'a>(json: Json<'a>, room: &mut Room) -> Option<Json<'a>> {
    let open = match json {
        Json::Text(text) => {
            let open = opened(&mended(&text), room).map(Json::into_owned);
            open.unwrap_or(Json::Text(text))
        }
        other => other,
    };
    let nothing = match &open {
        Json::Null => true,
        Json::Text(text) => text.trim().is_empty(),
        Json::List(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
        Json::Truth(_) | Json::Number(_) => false,
    };
    (!nothing).then_some(open)
}

crate::model::veil::veiled!(ConnectEvent);
