//! What needs no server: the envelope, and the parts of the log.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::envelope::{self, Kept};
use super::partition;
use crate::event::{Arrival, Context, EventId, Kind, Place, Proof, Record, Scheme, Subject};
use crate::filter::{Filter, Pattern};
use crate::names::SourceType;

/// An event of one of seven persons.
pub(super) fn record(n: u128) -> Record {
    Record {
        id: EventId(Uuid::from_u128(n)),
        source: "messenger".parse().unwrap(),
        source_type: SourceType::Meta,
        kind: Kind::MetaMessageEcho,
        subject: Subject::new(&format!("person-{}", n % 7)),
        occurred_at: (!n.is_multiple_of(2)).then(|| DateTime::from_timestamp_millis(1_700_000_000_123).unwrap()),
        received_at: DateTime::from_timestamp_millis(Utc::now().timestamp_millis()).unwrap(),
        context: Arc::new(Context {
            object: Some("page".to_owned()),
            entry_id: None,
            entry_time: Some("0".to_owned()),
            field: None,
            place: Place::Standby,
            arrival: Arc::new(Arrival {
                request_id: "request".to_owned(),
                client_address: [192, 0, 2, 1].into(),
                proofs: vec![Proof { scheme: Scheme::HmacSha256, position: 1 }],
                content_type: None,
                content_encoding: None,
                user_agent: Some("ünï\u{0}\r\n".to_owned()),
                wx_gtrid: None,
            }),
        }),
        raw: Bytes::from_static(b"{\"a\": 1.10 }\0\xff\r\n"),
    }
}

#[test]
fn a_record_comes_back_from_its_envelope() {
    for n in 0..4 {
        let record = record(n);
        let Kept::Event(back) = envelope::read(&envelope::write(&record).unwrap()) else {
            panic!("it was written here")
        };
        let context = |record: &Record| serde_json::to_value(&record.context).unwrap();
        assert_eq!((back.id, &back.source, back.source_type), (record.id, &record.source, record.source_type));
        assert!(back.kind == record.kind && back.subject == record.subject);
        assert_eq!((back.occurred_at, back.received_at), (record.occurred_at, record.received_at));
        assert_eq!((context(&back), &back.raw), (context(&record), &record.raw));
    }
}

#[test]
fn what_is_no_envelope_is_no_event_and_no_panic() {
    let whole = envelope::write(&record(1)).unwrap();
    let end = whole.len() - record(1).raw.len();
    for length in 0..end {
        assert!(matches!(envelope::read(&whole[..length]), Kept::Nothing), "{length}");
    }
    for first in [0, b' ', b'{', 255] {
        let other = [&[first], &whole[1..]].concat();
        assert!(matches!(envelope::read(&other), Kept::Nothing), "{first}");
    }
}

#[test]
fn what_a_later_version_wrote_is_known_as_such_and_routed_as_far_as_it_can_be_read() {
    let whole = envelope::write(&record(1)).unwrap();
    let filter =
        |source: &str, kind: &str| Filter { sources: vec![Pattern::new(source)], kinds: vec![Pattern::new(kind)] };
    for (known, unknown) in [("\"t\":\"meta\"", "\"t\":\"beta\""), ("hmac_sha256", "hmac_sha999")] {
        let at = memchr::memmem::find(&whole, known.as_bytes()).expect(known);
        let mut later = whole.to_vec();
        later[at..at + known.len()].copy_from_slice(unknown.as_bytes());
        let Kept::Later(later) = envelope::read(&later) else { panic!("{unknown}") };
        assert_eq!((later.id, later.received_at().is_some()), (record(1).id, true));
        assert!(later.may_fit(&Filter::default()) && later.may_fit(&filter("mess*", "meta.*")));
        assert!(!later.may_fit(&filter("connect", "*")) && !later.may_fit(&filter("*", "webex_connect.*")));
    }
    let later = [&[2], &whole[1..]].concat();
    let Kept::Later(later) = envelope::read(&later) else { panic!("version 2") };
    assert!(later.id == record(1).id && later.may_fit(&filter("connect", "*")));
}

#[test]
fn the_part_of_an_event_is_fixed_for_ever() {
    let parts: Vec<_> = (0..7).map(|n| partition::of(&record(n), 12)).collect();
    assert_eq!(parts, (7..14).map(|n| partition::of(&record(n), 12)).collect::<Vec<_>>());
    assert_eq!(parts, GOLDEN);
    let nobody = |n| Record { subject: None, ..record(n) };
    assert_eq!(partition::of(&nobody(1), 12), partition::of(&nobody(1), 12));
    assert!((0..100).map(|n| partition::of(&nobody(n), 12)).collect::<std::collections::BTreeSet<_>>().len() > 6);
}

const GOLDEN: [u16; 7] = [9, 8, 2, 7, 2, 11, 5];
