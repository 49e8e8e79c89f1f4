//! Webex Connect: one JSON object a request, whose shape says what it is.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Handshake, Source, Split, identity};
use crate::auth::{Received, Refusal, Schemes, SignatureRules, Verified};
use crate::config::WebexConnectConfig;
use crate::event::{Context, Kind, Record, Subject};
use crate::json::{self, NotJson, repair};
use crate::model::webex_connect::{ConnectEvent, DeliveryNotification, Glance, Shape};
use crate::model::{Payload, Unrecognized, Zone};
use crate::names::{SourceName, SourceType};

/// A `webex-connect` source.
///
/// Sender's page: <https://developers.webexconnect.io/reference/outbound-webhooks>.
pub(super) struct WebexConnect {
    name: SourceName,
    schemes: Schemes,
    zone: Zone,
    max_body: usize,
}

impl WebexConnect {
    pub(super) fn new(name: SourceName, config: &WebexConnectConfig) -> Self {
        Self {
            name,
            schemes: Schemes::new(&config.auth, SignatureRules::WebexConnect),
            zone: config.timezone.unwrap_or(Zone::UTC),
            max_body: usize::try_from(config.max_body).unwrap_or(usize::MAX),
        }
    }

    /// The typed view of a body of this kind. None if it is unrecognized, or no longer fits its kind.
    fn typed(&self, kind: Kind, raw: &[u8]) -> Option<Payload> {
        let repaired = repair(raw);
        let json = str::from_utf8(&repaired).ok()?;
        match kind {
            Kind::ConnectDeliveryNotification => {
                DeliveryNotification::from_json(json, self.zone).map(Box::new).map(Payload::DeliveryNotification)
            }
            Kind::ConnectMessage | Kind::ConnectPostback | Kind::ConnectEvent => {
                ConnectEvent::from_json(json, self.zone).map(Box::new).map(Payload::ConnectEvent)
            }
            _ => None,
        }
    }
}

impl Source for WebexConnect {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn source_type(&self) -> SourceType {
        SourceType::WebexConnect
    }

    fn max_body(&self) -> usize {
        self.max_body
    }

    fn challenges(&self) -> Vec<&'static str> {
        self.schemes.challenges()
    }

    /// Connect saves a URL only after a 200 to its own HEAD, and whether that carries credentials is not documented.
    fn handshake(&self, _query: &str) -> Handshake {
        Handshake::Empty
    }

    fn screen(&self, request: &Received) -> Result<(), Refusal> {
        self.schemes.screen(request)
    }

    fn authenticate(&self, request: Received) -> Result<Verified, Refusal> {
        self.schemes.authenticate(request)
    }

    /// Always one record, and the whole body its item: no sample of the sender holds more than one event.
    fn split(&self, request: &Verified, received_at: DateTime<Utc>) -> Split {
        let raw = request.body();
        let repaired = repair(raw);
        let text = str::from_utf8(&repaired).ok().filter(|_| !request.arrival().is_encoded());
        let glance = text.ok_or(NotJson).and_then(|text| Glance::at(text, self.zone));
        let json = glance.is_ok();
        let (kind, subject, occurred_at) = match glance {
            Ok(Some(Glance { shape, person, time })) => {
                (kind_of(shape), person.as_deref().and_then(Subject::new), time)
            }
            Ok(None) | Err(NotJson) => (Kind::ConnectUnrecognized, None, None),
        };
        let record = Record {
            id: identity::webex_connect(&self.name, raw),
            source: self.name.clone(),
            source_type: SourceType::WebexConnect,
            kind,
            subject,
            occurred_at,
            received_at,
            context: Arc::new(Context::bare(request.arrival().clone())),
            raw: raw.clone(),
        };
        Split { records: vec![record], json }
    }

    fn decode(&self, record: &Record) -> Payload {
        if record.context.arrival.is_encoded() {
            return Payload::Opaque;
        }
        self.typed(record.kind, &record.raw).unwrap_or_else(|| unrecognized(&record.raw))
    }
}

fn kind_of(shape: Shape) -> Kind {
    match shape {
        Shape::DeliveryNotification => Kind::ConnectDeliveryNotification,
        Shape::Message => Kind::ConnectMessage,
        Shape::Postback => Kind::ConnectPostback,
        Shape::Event => Kind::ConnectEvent,
    }
}

/// The JSON as sent, or nothing but its bytes where it is none.
fn unrecognized(raw: &[u8]) -> Payload {
    str::from_utf8(&repair(raw))
        .ok()
        .and_then(json::verbatim)
        .map_or(Payload::Opaque, |fields| Payload::Unrecognized(Unrecognized { fields }))
}

#[cfg(test)]
mod tests;
