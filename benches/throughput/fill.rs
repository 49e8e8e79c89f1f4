//! Journals with a history: written through the journal's own interface, in large batches, by a process of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use hooksink::config::{self, Inputs};
use hooksink::event::{Arrival, Context, EventId, Kind, Place, Proof, Record, Scheme, Subject};
use hooksink::journal::Journal;
use hooksink::journal::sqlite::SqliteJournal;
use hooksink::metrics::Metrics;
use hooksink::names::{SourceName, SourceType};
use uuid::Uuid;

use crate::Failure;
use crate::payload::{Payload, Template};

/// Events a call, and calls at once: a few commits are always on their way.
const EVENTS: u64 = 1000;
const CALLS: u64 = 8;

/// What a filled journal has of events that the client sends in no run.
const RUN: u64 = u64::MAX;

/// Fills the journal that this folder's `hooksink.toml` speaks of with so many echoes, received so long ago.
pub(crate) fn fill(folder: &Path, events: u64, age: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    let numbers = [events.to_string(), age.as_secs().to_string()];
    let status = Command::new(std::env::current_exe()?).arg("fill").args(numbers).current_dir(folder).status()?;
    if !status.success() {
        return Err("the journal could not be filled".into());
    }
    println!("{events} events put into the journal in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// The filler's own process.
pub(crate) async fn run(events: u64, age: Duration) -> Result<(), Failure> {
    let text = std::fs::read_to_string("hooksink.toml")?;
    let inputs = Inputs {
        file: Some(("hooksink.toml".into(), text)),
        environment: BTreeMap::new(),
        flags: Vec::new(),
        read_secret: &|path| std::fs::read(path),
    };
    let journal = SqliteJournal::open(&config::load(&inputs)?.config.journal, Arc::new(Metrics::new()))?;
    let source: SourceName = "messenger".parse()?;
    let received_at = Utc::now() - age;
    let mut template = Template::new(Payload::Echo, RUN);
    let mut number = 0;
    while number < events {
        let mut calls = Vec::new();
        for _ in 0..CALLS {
            let upto = (number + EVENTS).min(events);
            let records = (number..upto).map(|number| record(&mut template, &source, received_at, number)).collect();
            calls.push(journal.append(records));
            number = upto;
        }
        try_join_all(calls).await?;
    }
    journal.close().await;
    Ok(())
}

/// An echo as the source `meta` makes it of a request.
fn record(template: &mut Template, source: &SourceName, received_at: DateTime<Utc>, number: u64) -> Record {
    template.number(usize::try_from(number).unwrap_or(usize::MAX));
    let arrival = Arrival {
        request_id: Uuid::now_v7().to_string(),
        client_address: [127, 0, 0, 1].into(),
        proofs: vec![Proof { scheme: Scheme::HmacSha256, position: 0 }],
        content_type: Some("application/json".into()),
        content_encoding: None,
        user_agent: Some("facebookexternalua".into()),
        wx_gtrid: None,
    };
    Record {
        id: EventId(Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes())),
        source: source.clone(),
        source_type: SourceType::Meta,
        kind: Kind::MetaMessageEcho,
        subject: Subject::new(&format!("{number:010}")),
        occurred_at: DateTime::from_timestamp_millis(1_762_000_000_000),
        received_at,
        context: Context {
            object: Some("page".into()),
            entry_id: Some("1906385232743451".into()),
            entry_time: Some("1762000000123".into()),
            field: None,
            place: Place::Messaging,
            arrival: Arc::new(arrival),
        },
        raw: Bytes::copy_from_slice(template.first_item()),
    }
}
