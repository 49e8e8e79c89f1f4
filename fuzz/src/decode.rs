//! Decoding of any bytes as any kind, as a later version may have to. An input is a kind, a place, how it arrived and
//! the bytes of the event.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use hooksink::event::{Arrival, Context, EventId, Format, Kind, Place, Record};
use hooksink::model::Payload;
use uuid::Uuid;

use super::json::Json;
use super::request::{LONGEST, now, source, sources};

/// Whatever the bytes are, there is a payload, and with the raw JSON beside it nothing of them is lost.
pub fn check(input: &[u8]) {
    let [kind, place, encoding, raw @ ..] = input else { return };
    if raw.len() > LONGEST {
        return;
    }
    let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
    let place = [Place::Messaging, Place::Standby, Place::Changes, Place::Bare][usize::from(*place) % 4];
    let encoded = encoding % 16 == 15;
    let arrival = Arrival {
        request_id: "request".to_owned(),
        client_address: Ipv4Addr::LOCALHOST.into(),
        proofs: Vec::new(),
        content_type: None,
        content_encoding: encoded.then(|| "gzip".to_owned()),
        user_agent: None,
        wx_gtrid: None,
    };
    let context = Context { entry_id: Some("104927135872001".to_owned()), place, ..Context::bare(Arc::new(arrival)) };
    let record = Record {
        id: EventId(Uuid::nil()),
        source: source(kind.source_type()).name().clone(),
        source_type: kind.source_type(),
        kind,
        subject: None,
        occurred_at: None,
        received_at: now(),
        context: Arc::new(context),
        raw: Bytes::copy_from_slice(raw),
    };
    let event = sources().decode(Arc::new(record.clone()));
    let json = str::from_utf8(raw).ok().filter(|_| !encoded).and_then(Json::read);
    assert_eq!(matches!(*event.payload, Payload::Opaque), json.is_none(), "what is JSON has a payload");
    assert_eq!(*event.record.raw, *raw);
    let again = sources().decode(Arc::new(record));
    let written = |event: &hooksink::event::Event| serde_json::to_string(&*event.payload).expect("a payload is JSON");
    assert_eq!(written(&event), written(&again), "the same bytes, the same payload");

    let line = event.to_json(Format::Raw, false);
    let line = Json::read(str::from_utf8(&line).expect("a line is text")).expect("a line is JSON");
    if let Some(json) = &json {
        assert!(line.root().says_the_same(json.root(), false), "the raw JSON says what was sent");
    }
}
