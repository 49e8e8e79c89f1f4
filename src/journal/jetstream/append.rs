//! Storing: each event is published with its id and acknowledged by the stream before its request is answered. Events
//! of one request go side by side, those of one lane one after the other, so that one which fails cannot end up behind
//! a later one of the same person.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::error::unavailable;
use super::shared::Shared;
use super::{envelope, partition};
use crate::event::{LaneMap, Record};
use crate::journal::{Appended, JournalError, ORDINARY};

/// Before an event is published again that was not acknowledged.
const AGAIN: Duration = Duration::from_millis(100);
/// It is twice as long each time, up to this.
const AGAIN_MAX: Duration = Duration::from_millis(800);
/// What headers take beside the payload, of which both together have to fit into `max_payload`.
const HEADERS: usize = 512;
/// The server has neither memory nor disk for it.
const NO_ROOM: [ErrorCode; 4] = [
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_STORE_FAILED,
];

/// Stores records; what became of each, in order. An error says that not all of them are stored; those that are will be
/// duplicates when they come again.
pub(super) async fn append(shared: Arc<Shared>, records: Vec<Record>) -> Result<Vec<Appended>, JournalError> {
    let started = Instant::now();
    let count = records.len();
    let mut under_way: FuturesUnordered<_> =
        by_lane(records).into_iter().map(|events| in_order(&shared, events, started)).collect();
    let mut answers = vec![None; count];
    let mut failed = None;
    while let Some(lane) = under_way.next().await {
        match lane {
            Ok(stored) => stored.into_iter().for_each(|(position, answer)| answers[position] = Some(answer)),
            // What is wrong with one event says nothing of the journal.
            Err(error) if matches!(failed, None | Some(JournalError::Refused(_))) => failed = Some(error),
            Err(_) => {}
        }
    }
    let answers: Option<Vec<Appended>> = answers.into_iter().collect();
    let result = match (answers, failed) {
        (Some(answers), None) => Ok(answers),
        (_, failed) => {
            Err(failed.unwrap_or_else(|| JournalError::Unavailable("an event has no acknowledgement".to_owned())))
        }
    };
    shared.metrics.journal_batch_events.observe(count as f64);
    if result.is_ok() {
        shared.metrics.journal_commit_seconds.observe(started.elapsed().as_secs_f64());
    }
    match &result {
        // The keeper tells where there is room again for an ordinary request, which this one need not have been.
        Ok(_) if shared.has_room(ORDINARY) => shared.trouble(None),
        Ok(_) | Err(JournalError::Refused(_)) => {}
        Err(error) => shared.trouble(Some(error)),
    }
    result
}

/// The events of each lane in order, each with its position in the request; lanes in the order of their first.
fn by_lane(records: Vec<Record>) -> Vec<Vec<(usize, Record)>> {
    let mut lanes: Vec<Vec<(usize, Record)>> = Vec::new();
    let mut places: LaneMap<usize> = LaneMap::default();
    for (position, record) in records.into_iter().enumerate() {
        let place = *places.entry(record.lane()).or_insert(lanes.len());
        match lanes.get_mut(place) {
            Some(events) => events.push((position, record)),
            None => lanes.push(vec![(position, record)]),
        }
    }
    lanes
}

async fn in_order(
    shared: &Shared,
    events: Vec<(usize, Record)>,
    started: Instant,
) -> Result<Vec<(usize, Appended)>, JournalError> {
    let mut stored = Vec::with_capacity(events.len());
    for (position, record) in events {
        stored.push((position, publish(shared, &record, started).await?));
    }
    Ok(stored)
}

/// Publishes an event until it is acknowledged, for as long as an append may take.
async fn publish(shared: &Shared, record: &Record, started: Instant) -> Result<Appended, JournalError> {
    let payload = envelope::write(record)?;
    if payload.len() + HEADERS > shared.client.max_payload() {
        return Err(too_large(shared, record, payload.len()));
    }
    let part = partition::of(record, shared.partitions());
    let (subject, id) = (shared.log_subject(part), record.id.to_string());
    let mut pause = AGAIN;
    loop {
        let error = match once(shared, &subject, &id, payload.clone()).await {
            // A copy that is on its way into the stream, or that was refused after all, has no position.
            Ok(ack) if ack.sequence == 0 => unavailable("the event was not stored", "it has no position"),
            Ok(ack) if ack.duplicate => return Ok(Appended::Duplicate),
            Ok(ack) => {
                stored(shared, ack.sequence, payload.len());
                return Ok(Appended::Stored);
            }
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                return Err(too_large(shared, record, payload.len()));
            }
            Err(error) => match meaning(&error) {
                JournalError::Unavailable(reason) => JournalError::Unavailable(reason),
                other => return Err(other),
            },
        };
        if started.elapsed() + pause >= shared.own.append_timeout || shared.stop.is_cancelled() {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

async fn once(shared: &Shared, subject: &str, id: &str, payload: Bytes) -> Result<PublishAck, PublishError> {
    let message = PublishMessage::build().payload(payload).message_id(id).expected_stream(&shared.names.log);
    shared.publisher.send_publish(subject.to_owned(), message).await?.await
}

/// The status goes ahead of what the servers are asked about once a second.
fn stored(shared: &Shared, seq: u64, bytes: usize) {
    let mut status = shared.status();
    status.bytes += bytes as u64;
    status.events += 1;
    status.last_seq = status.last_seq.max(seq);
}

/// The event is refused, and the journal is as good as before.
fn too_large(shared: &Shared, record: &Record, bytes: usize) -> JournalError {
    let max_payload = shared.client.max_payload();
    tracing::error!(
        event = %record.id,
        bytes,
        max_payload,
        "an event is refused, since it is larger than the journal's servers take; raise their max_payload"
    );
    JournalError::Refused(format!("an event of {bytes} bytes is larger than max_payload of the servers, {max_payload}"))
}

fn meaning(error: &PublishError) -> JournalError {
    let code = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>())
        .map(|error| (error.error_code(), error.to_string()));
    match (error.kind(), code) {
        (_, Some((code, words))) if NO_ROOM.contains(&code) => JournalError::Full(format!("the servers say: {words}")),
        (_, Some((_, words))) => unavailable("the event was not stored", words),
        (kind, None) => unavailable("the event was not stored", kind),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn events_of_a_lane_stay_in_order_and_lanes_in_that_of_their_first() {
        let nobody = |n| Record { subject: None, ..record(n) };
        // Of seven persons, and of nobody.
        let records = vec![record(0), record(1), nobody(2), record(7), nobody(2), record(8), record(3), record(14)];
        let lanes = by_lane(records);
        let positions: Vec<Vec<usize>> =
            lanes.iter().map(|events| events.iter().map(|(position, _)| *position).collect()).collect();
        assert_eq!(positions, [vec![0, 3, 7], vec![1, 5], vec![2, 4], vec![6]]);
        assert!(lanes.iter().all(|events| events.iter().all(|(_, record)| record.lane() == events[0].1.lane())));
    }
}
