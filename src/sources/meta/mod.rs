//! Meta: an envelope of items a request, signed with the app secret.

mod handshake;

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{Handshake, Source, Split, identity};
use crate::auth::{Received, Refusal, Schemes, SignatureRules, Verified};
use crate::config::MetaConfig;
use crate::event::{Arrival, Context, Kind, Place, Record, Subject};
use crate::json;
use crate::model::meta::envelope::{self, List, Part};
use crate::model::meta::{
    Apps, Delivery, EventKey, Message, MessageEcho, MessageEdit, MetaFields, Postback, Reaction, Read, Surroundings,
};
use crate::model::{Payload, Zone, parse_time};
use crate::names::{SourceName, SourceType};
use crate::secret::Secrets;

/// The apps of Meta's own inboxes: as Meta's page has it, as everything else has it, and that of Instagram.
pub(super) const PAGE_INBOX_APP_IDS: [&str; 3] = ["26390203743090", "263902037430900", "1217981644879628"];

/// The longest name of a field and id of a person that stand beside an event, in bytes.
const MAX_NAME: usize = 256;

/// A `meta` source.
///
/// Sender's pages: Meta, "Webhooks" (developers.facebook.com/docs/graph-api/webhooks/getting-started) and "Webhooks for
/// Messenger Platform" (developers.facebook.com/docs/messenger-platform/webhooks).
pub(super) struct Meta {
    name: SourceName,
    schemes: Schemes,
    verify_tokens: Secrets,
    apps: Apps,
    max_body: usize,
}

impl Meta {
    pub(super) fn new(name: SourceName, config: &MetaConfig) -> Self {
        Self {
            name,
            schemes: Schemes::new(&config.auth, SignatureRules::Meta),
            verify_tokens: config.verify_token.clone(),
            apps: Apps { own: config.own_app_ids.clone(), page_inbox: config.page_inbox_app_ids.clone() },
            max_body: usize::try_from(config.max_body).unwrap_or(usize::MAX),
        }
    }
}

impl Source for Meta {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn source_type(&self) -> SourceType {
        SourceType::Meta
    }

    fn max_body(&self) -> usize {
        self.max_body
    }

    fn challenges(&self) -> Vec<&'static str> {
        self.schemes.challenges()
    }

    fn handshake(&self, query: &str) -> Handshake {
        handshake::answer(query, &self.verify_tokens)
    }

    fn screen(&self, request: &Received) -> Result<(), Refusal> {
        self.schemes.screen(request)
    }

    fn authenticate(&self, request: Received) -> Result<Verified, Refusal> {
        self.schemes.authenticate(request)
    }

    fn split(&self, request: &Verified, received_at: DateTime<Utc>) -> Split {
        split(&self.name, request.body(), request.arrival(), received_at)
    }

    fn decode(&self, record: &Record) -> Payload {
        decode(record, &self.apps)
    }
}

fn split(source: &SourceName, body: &Bytes, arrival: &Arc<Arrival>, received_at: DateTime<Utc>) -> Split {
    let recorder = Recorder { source, body, arrival, received_at };
    let repaired = json::repair(body);
    let text = readable(&repaired, arrival);
    match text.and_then(|text| Some((text, envelope::parts(text).ok()?))) {
        Some((text, parts)) => {
            Split { records: parts.into_iter().map(|part| recorder.record(text, part)).collect(), json: true }
        }
        None => Split { records: vec![recorder.opaque()], json: false },
    }
}

/// The body as text, unless it is none or encoded.
fn readable<'a>(repaired: &'a [u8], arrival: &Arrival) -> Option<&'a str> {
    str::from_utf8(repaired).ok().filter(|_| !arrival.is_encoded())
}

/// Makes the records of one request.
struct Recorder<'a> {
    source: &'a SourceName,
    body: &'a Bytes,
    arrival: &'a Arc<Arrival>,
    received_at: DateTime<Utc>,
}

impl Recorder<'_> {
    fn record(&self, text: &str, part: Part<'_>) -> Record {
        let kind = kind(&part);
        let head = part.head.unwrap_or_default();
        // The repaired text is as long as the body, so that an item is found in the one and cut out of the other.
        let start = part.json.as_ptr() as usize - text.as_ptr() as usize;
        let raw = self.body.slice(start..start + part.json.len());
        let in_changes = kind == Kind::MetaChange;
        let field = head.field.as_deref().filter(|field| in_changes && field.len() <= MAX_NAME);
        let around = identity::MetaIdentity {
            object: part.object.as_deref(),
            entry_id: part.entry_id.as_deref(),
            field,
            entry_time: part.entry_time.as_deref().filter(|_| in_changes || !head.has_own_time),
        };
        let sides = if in_changes { (None, None) } else { head.sides(part.entry_id.as_deref()) };
        Record {
            id: identity::meta(self.source, around, &raw),
            source: self.source.clone(),
            source_type: SourceType::Meta,
            kind,
            subject: sides.1.filter(|person| person.len() <= MAX_NAME).and_then(Subject::new),
            occurred_at: head.time().or_else(|| parse_time(part.entry_time.as_deref()?, Zone::UTC)),
            received_at: self.received_at,
            context: Arc::new(Context {
                object: part.object.as_deref().map(str::to_owned),
                entry_id: part.entry_id.as_deref().map(str::to_owned),
                entry_time: part.entry_time.as_deref().map(str::to_owned),
                field: field.map(str::to_owned),
                place: match part.list {
                    List::Messaging => Place::Messaging,
                    List::Standby => Place::Standby,
                    List::Changes => Place::Changes,
                    List::Bare => Place::Bare,
                },
                arrival: self.arrival.clone(),
            }),
            raw,
        }
    }

    /// The record of a body that is not JSON.
    fn opaque(&self) -> Record {
        Record {
            id: identity::meta(self.source, identity::MetaIdentity::default(), self.body),
            source: self.source.clone(),
            source_type: SourceType::Meta,
            kind: Kind::MetaUnrecognized,
            subject: None,
            occurred_at: None,
            received_at: self.received_at,
            context: Arc::new(Context::bare(self.arrival.clone())),
            raw: self.body.clone(),
        }
    }
}

/// The kind of a part. Items of `messaging` and `standby` are typed by their own keys whatever the object says; items of
/// `changes` never are, since WhatsApp has a field called message_echoes there.
fn kind(part: &Part<'_>) -> Kind {
    if part.list == List::Changes {
        return Kind::MetaChange;
    }
    let Some(head) = &part.head else { return Kind::MetaUnrecognized };
    match head.event {
        Some(EventKey::MessageEcho) => Kind::MetaMessageEcho,
        Some(EventKey::Message) => Kind::MetaMessage,
        Some(EventKey::MessageEdit) => Kind::MetaMessageEdit,
        Some(EventKey::Reaction) => Kind::MetaReaction,
        Some(EventKey::Postback) => Kind::MetaPostback,
        Some(EventKey::Delivery) => Kind::MetaDelivery,
        Some(EventKey::Read) => Kind::MetaRead,
        Some(EventKey::Referral) => Kind::MetaReferral,
        Some(EventKey::Optin) => Kind::MetaOptin,
        Some(EventKey::AccountLinking) => Kind::MetaAccountLinking,
        Some(EventKey::Handover) => Kind::MetaHandover,
        Some(EventKey::Other) => Kind::MetaEvent,
        None if part.list == List::Bare => Kind::MetaChange,
        None => Kind::MetaUnrecognized,
    }
}

fn decode(record: &Record, apps: &Apps) -> Payload {
    let repaired = json::repair(&record.raw);
    let Some(text) = readable(&repaired, &record.context.arrival) else { return Payload::Opaque };
    let around = Surroundings {
        object: record.context.object.as_deref(),
        entry_id: record.context.entry_id.as_deref(),
        standby: record.context.place == Place::Standby,
    };
    typed(record.kind, text, around, apps)
        .or_else(|| MetaFields::from_json(text, around).map(Box::new).map(Payload::MetaFields))
        .unwrap_or(Payload::Opaque)
}

fn typed(kind: Kind, json: &str, around: Surroundings<'_>, apps: &Apps) -> Option<Payload> {
    Some(match kind {
        Kind::MetaMessageEcho => Payload::MessageEcho(Box::new(MessageEcho::from_json(json, around, apps)?)),
        Kind::MetaMessage => Payload::Message(Box::new(Message::from_json(json, around)?)),
        Kind::MetaMessageEdit => Payload::MessageEdit(Box::new(MessageEdit::from_json(json, around)?)),
        Kind::MetaReaction => Payload::Reaction(Box::new(Reaction::from_json(json, around)?)),
        Kind::MetaDelivery => Payload::Delivery(Box::new(Delivery::from_json(json, around)?)),
        Kind::MetaRead => Payload::Read(Box::new(Read::from_json(json, around)?)),
        Kind::MetaPostback => Payload::Postback(Box::new(Postback::from_json(json, around)?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
