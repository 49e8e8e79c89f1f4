//! Dead letters: events that a sink gave up on, in a stream of their own, with their own copy of the record. A letter's
//! number is its position there; a sink has one letter of an event. What changes about a letter, that it is to be tried
//! again or that it failed again, stands in a document beside it.
//!
//! A letter that cannot be read, or whose description cannot, is listed as such, and keeps nothing from the others.

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::envelope::{self, Kept};
use super::error::unavailable;
use super::partition::{self, Partition};
use super::shared::{Shared, found};
use crate::event::{EventId, Record};
use crate::journal::{DeadLetter, JournalError, Letters};
use crate::names::SinkName;

/// Letters of which at most one answer tells.
const LISTED: usize = 1000;
/// Where a letter's description stands.
const HEADER: &str = "Hooksink-Letter";
/// How long the server keeps a consumer that was left behind.
const FORGET: std::time::Duration = std::time::Duration::from_secs(5);

/// What is known of a letter without its event.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Description {
    sink: SinkName,
    part: Partition,
    event: EventId,
    source: String,
    kind: String,
    received_at: i64,
    bytes: u64,
    died_at: i64,
    attempts: u32,
    reason: String,
    /// Whether it could not be read: what it says is made up then, of what can be said.
    #[serde(skip)]
    unreadable: bool,
}

/// What changed about a letter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    retrying: bool,
    /// When, how often and why it failed since, if it did.
    died_at: Option<i64>,
    attempts: u32,
    reason: String,
}

/// What is done with letters.
#[derive(Clone, Copy)]
enum Deed {
    Retry,
    Drop,
}

fn key(description: &Description, letter: i64) -> String {
    format!("letter.{}.{}.{letter}", description.sink, description.part)
}

fn position(letter: i64) -> u64 {
    u64::try_from(letter).unwrap_or_default()
}

fn number(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// The description of a letter, or what can be said of one that cannot be read; none for what no sink can have left here.
fn described(subject: &str, headers: Option<&HeaderMap>, stored_at: i64) -> Option<Description> {
    let mut names = subject.rsplit('.');
    let (event, sink) = (names.next()?, names.next()?.parse::<SinkName>().ok()?);
    let text = headers.and_then(|headers| headers.get(HEADER));
    let description = text.and_then(|text| serde_json::from_str::<Description>(text.as_str()).ok());
    Some(description.map_or_else(
        || Description {
            sink: sink.clone(),
            part: 0,
            event: EventId(Uuid::parse_str(event).unwrap_or_default()),
            source: "?".to_owned(),
            kind: "unreadable".to_owned(),
            received_at: stored_at,
            bytes: 0,
            died_at: stored_at,
            attempts: 0,
            reason: "what it says cannot be read: it is damaged, or of another version of hooksink".to_owned(),
            unreadable: true,
        },
        // It is where it is, whatever it says.
        |description| Description { sink: sink.clone(), ..description },
    ))
}

fn letter(id: i64, description: Description, change: Option<Change>) -> DeadLetter {
    let change = change.unwrap_or_default();
    let time = |millis| DateTime::from_timestamp_millis(millis).unwrap_or_default();
    let Description { died_at, attempts, reason, .. } = description;
    let (died_at, attempts, reason) = match change.died_at {
        Some(at) => (at, change.attempts, change.reason),
        None => (died_at, attempts, reason),
    };
    DeadLetter {
        id,
        sink: description.sink,
        event_id: description.event,
        source: description.source,
        kind: description.kind,
        received_at: time(description.received_at),
        died_at: time(died_at),
        attempts,
        reason,
        bytes: description.bytes,
        retrying: change.retrying,
    }
}

impl Shared {
    fn letter_subject(&self, sink: &SinkName, event: &str) -> String {
        format!("{}.{sink}.{event}", self.names.dead_subjects())
    }

    /// Keeps an event that a sink gave up on. One that has a letter already brings it up to date.
    pub(super) async fn bury(
        &self,
        sink: &SinkName,
        record: &Record,
        attempts: u32,
        reason: &str,
    ) -> Result<(), JournalError> {
        let description = Description {
            sink: sink.clone(),
            part: partition::of(record, self.partitions()),
            event: record.id,
            source: record.source.to_string(),
            kind: record.kind.as_str().to_owned(),
            received_at: record.received_at.timestamp_millis(),
            bytes: record.raw.len() as u64,
            died_at: Utc::now().timestamp_millis(),
            attempts,
            reason: reason.to_owned(),
            unreadable: false,
        };
        let failed = |error: &dyn std::fmt::Display| unavailable("a dead letter was not stored", error);
        let subject = self.letter_subject(sink, &record.id.to_string());
        let text = serde_json::to_string(&description).map_err(|error| failed(&error))?;
        let message = PublishMessage::build()
            .payload(envelope::write(record)?)
            .header(HEADER, text.as_str())
            .expected_last_subject_sequence(0);
        let sent = match self.js.send_publish(subject.clone(), message).await {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(ack) if ack.sequence > 0 => Ok(()),
            Ok(_) => Err(failed(&"it has no position")),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                let there = found(self.dead.get_last_raw_message_by_subject(&subject).await)?;
                match there {
                    Some(message) => self.bury_again(number(message.sequence), Some(attempts), reason, None).await,
                    // Dropped this moment: it is tried again.
                    None => Err(failed(&"it changed meanwhile")),
                }
            }
            Err(error) => Err(failed(&error.kind())),
        }
    }

    /// A letter failed again; after how many attempts, and whether it is still to be tried, if that is new.
    pub(super) async fn bury_again(
        &self,
        id: i64,
        attempts: Option<u32>,
        reason: &str,
        retrying: Option<bool>,
    ) -> Result<(), JournalError> {
        let Some((description, _)) = self.letter_message(id).await? else { return Ok(()) };
        let died_at = Some(Utc::now().timestamp_millis());
        let change = |change: &mut Change| {
            let retrying = retrying.unwrap_or(change.retrying);
            let before = if change.died_at.is_some() { change.attempts } else { description.attempts };
            let attempts = attempts.unwrap_or(before);
            *change = Change { retrying, died_at, attempts, reason: reason.to_owned() };
            Ok(true)
        };
        self.state.change(&key(&description, id), change).await.map(|_| ())
    }

    async fn letter_message(&self, id: i64) -> Result<Option<(Description, bytes::Bytes)>, JournalError> {
        let Some(message) = found(self.dead.get_raw_message(position(id)).await)? else { return Ok(None) };
        let stored_at = message.time.unix_timestamp() * 1000;
        let description = described(&message.subject, Some(&message.headers), stored_at);
        Ok(description.map(|description| (description, message.payload)))
    }

    /// What changed about a letter, if anything did that can be read.
    async fn change_of(&self, description: &Description, id: i64) -> Result<Option<Change>, JournalError> {
        self.state.get_readable(&key(description, id)).await
    }

    /// The event of a letter.
    pub(super) async fn letter_event(&self, id: i64) -> Result<Option<Kept>, JournalError> {
        Ok(self.letter_message(id).await?.map(|(_, payload)| envelope::read(&payload)))
    }

    /// A letter and its event.
    pub(super) async fn show_letter(&self, id: i64) -> Result<Option<(DeadLetter, Record)>, JournalError> {
        let Some((description, payload)) = self.letter_message(id).await? else { return Ok(None) };
        let change = self.change_of(&description, id).await?;
        match envelope::read(&payload) {
            Kept::Event(record) => Ok(Some((letter(id, description, change), *record))),
            Kept::Later(_) | Kept::Nothing => Err(JournalError::unreadable_letter(id)),
        }
    }

    /// Letters after this number, oldest first.
    pub(super) async fn list_letters(
        &self,
        sink: Option<&SinkName>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError> {
        let mut letters = Vec::new();
        for (id, description) in self.letters_after(sink, after, limit.min(LISTED)).await? {
            letters.push((id, description));
        }
        let changed = self.state.below("letter").await?;
        let mut listed = Vec::with_capacity(letters.len());
        for (id, description) in letters {
            let key = key(&description, id);
            let is_changed = changed.binary_search_by(|other| other.as_str().cmp(&key["letter.".len()..])).is_ok();
            let change = if is_changed { self.change_of(&description, id).await? } else { None };
            listed.push(letter(id, description, change));
        }
        Ok(listed)
    }

    /// How many letters a sink has.
    pub(super) async fn count_letters(&self, sink: &SinkName) -> Result<u64, JournalError> {
        let consumer = self.letter_consumer(Some(sink), 0).await?;
        let count = consumer.cached_info().num_pending;
        self.forget_consumer(&consumer).await;
        Ok(count)
    }

    async fn letters_after(
        &self,
        sink: Option<&SinkName>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Description)>, JournalError> {
        let failed = |error: &dyn std::fmt::Display| unavailable("dead letters cannot be read", error);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let consumer = self.letter_consumer(sink, after).await?;
        let mut letters = Vec::new();
        if consumer.cached_info().num_pending > 0 {
            let mut messages =
                consumer.fetch().max_messages(limit).messages().await.map_err(|error| failed(&error.kind()))?;
            while let Some(message) = messages.next().await {
                let message = message.map_err(|error| failed(&error))?;
                let info = message.info().map_err(|error| failed(&error))?;
                let (id, stored_at) = (number(info.stream_sequence), info.published.unix_timestamp() * 1000);
                match described(&message.subject, message.headers.as_ref(), stored_at) {
                    Some(description) => letters.push((id, description)),
                    None => tracing::error!(position = id, "what is no dead letter is passed over among them"),
                }
            }
        }
        self.forget_consumer(&consumer).await;
        Ok(letters)
    }

    async fn letter_consumer(
        &self,
        sink: Option<&SinkName>,
        after: i64,
    ) -> Result<Consumer<pull::Config>, JournalError> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: position(after) + 1 },
            ack_policy: AckPolicy::None,
            filter_subject: sink
                .map_or_else(|| format!("{}.>", self.names.dead_subjects()), |sink| self.letter_subject(sink, "*")),
            inactive_threshold: FORGET,
            num_replicas: 1,
            memory_storage: true,
            headers_only: true,
            ..pull::Config::default()
        };
        let made = self.js.create_consumer_on_stream(config, self.names.dead.as_str()).await;
        made.map_err(|error| unavailable("dead letters cannot be read", error.kind()))
    }

    async fn forget_consumer(&self, consumer: &Consumer<pull::Config>) {
        // The server forgets it by itself soon.
        let _ = self.dead.delete_consumer(&consumer.cached_info().name).await;
    }

    /// Marks letters to be tried again; how many were not marked before.
    pub(super) async fn retry_letters(&self, which: Letters) -> Result<u64, JournalError> {
        let count = self.each_letter(which, Deed::Retry).await?;
        if count > 0 {
            self.change_table(|table| {
                table.asked += 1;
                Ok(true)
            })
            .await?;
        }
        Ok(count)
    }

    async fn act(&self, deed: Deed, id: i64, description: &Description) -> Result<bool, JournalError> {
        match deed {
            Deed::Retry => self.mark(id, description).await,
            Deed::Drop => self.remove(id, description).await,
        }
    }

    async fn mark(&self, id: i64, description: &Description) -> Result<bool, JournalError> {
        let mut marked = false;
        let mark = |change: &mut Change| {
            marked = !change.retrying;
            change.retrying = true;
            Ok(marked)
        };
        self.state.change(&key(description, id), mark).await?;
        Ok(marked)
    }

    /// Drops letters for good; how many there were.
    pub(super) async fn drop_letters(&self, which: Letters) -> Result<u64, JournalError> {
        self.each_letter(which, Deed::Drop).await
    }

    /// The number of the last letter, of whichever sink.
    pub(super) async fn last_letter(&self) -> Result<i64, JournalError> {
        let info = self.dead.get_info().await;
        let info = info.map_err(|error| unavailable("dead letters cannot be read", error.kind()))?;
        Ok(number(info.state.last_sequence))
    }

    /// Drops the letters of a sink up to this number for good.
    pub(super) async fn drop_letters_up_to(&self, sink: &SinkName, last: i64) -> Result<(), JournalError> {
        let mut after = 0;
        while let Some(letters) = self.letters_up_to(sink, &mut after, last).await? {
            for (id, description) in letters {
                self.remove(id, &description).await?;
            }
        }
        Ok(())
    }

    /// The next letters of a sink after one number and up to another; nothing when there are none left.
    async fn letters_up_to(
        &self,
        sink: &SinkName,
        after: &mut i64,
        last: i64,
    ) -> Result<Option<Vec<(i64, Description)>>, JournalError> {
        if *after >= last {
            return Ok(None);
        }
        let letters = self.letters_after(Some(sink), *after, LISTED).await?;
        *after = letters.last().map_or(last, |(id, _)| *id);
        Ok(Some(letters.into_iter().take_while(|(id, _)| *id <= last).collect()))
    }

    /// Drops a letter.
    pub(super) async fn drop_letter(&self, id: i64) -> Result<(), JournalError> {
        if let Some((description, _)) = self.letter_message(id).await? {
            self.remove(id, &description).await?;
        }
        Ok(())
    }

    async fn remove(&self, id: i64, description: &Description) -> Result<bool, JournalError> {
        let deleted = match self.dead.delete_message(position(id)).await {
            Ok(deleted) => deleted,
            // Somebody else did.
            Err(_) if found(self.dead.get_raw_message(position(id)).await)?.is_none() => false,
            Err(error) => return Err(unavailable("a dead letter cannot be dropped", error.kind())),
        };
        self.state.remove(&key(description, id)).await?;
        Ok(deleted)
    }

    async fn each_letter(&self, which: Letters, deed: Deed) -> Result<u64, JournalError> {
        let mut count = 0;
        match which {
            Letters::Ids(mut ids) => {
                ids.sort_unstable();
                ids.dedup();
                for id in ids {
                    if let Some((description, _)) = self.letter_message(id).await? {
                        count += u64::from(self.act(deed, id, &description).await?);
                    }
                }
            }
            Letters::Sink(sink) => {
                let mut after = 0;
                loop {
                    let letters = self.letters_after(Some(&sink), after, LISTED).await?;
                    let Some((last, _)) = letters.last() else { break };
                    after = *last;
                    for (id, description) in letters {
                        count += u64::from(self.act(deed, id, &description).await?);
                    }
                }
            }
        }
        Ok(count)
    }

    /// Letters of a sink that changed once, in whichever part, by their numbers.
    pub(super) async fn changed_letters(&self, sink: &SinkName) -> Result<Vec<(i64, Partition)>, JournalError> {
        let keys = self.state.below(&format!("letter.{sink}")).await?;
        let letters = keys.iter().filter_map(|rest| {
            let (part, id) = rest.split_once('.')?;
            Some((id.parse().ok()?, part.parse().ok()?))
        });
        Ok(letters.collect())
    }

    /// Whether a letter is to be tried again.
    pub(super) async fn is_asked_for(
        &self,
        sink: &SinkName,
        part: Partition,
        letter: i64,
    ) -> Result<bool, JournalError> {
        let change = self.state.get_readable::<Change>(&format!("letter.{sink}.{part}.{letter}")).await?;
        Ok(change.is_some_and(|change| change.retrying))
    }

    /// Drops letters that died before this time and are not to be tried again; how many.
    pub(super) async fn expire_letters(&self, before: DateTime<Utc>) -> Result<u64, JournalError> {
        let mut dropped = 0;
        let mut after = 0;
        loop {
            let letters = self.letters_after(None, after, LISTED).await?;
            let Some((last, _)) = letters.last() else { return Ok(dropped) };
            after = *last;
            for (id, description) in letters {
                // They are in the order in which they died first.
                if description.died_at >= before.timestamp_millis() {
                    return Ok(dropped);
                }
                let change = self.change_of(&description, id).await?.unwrap_or_default();
                let old = change.died_at.is_none_or(|at| at < before.timestamp_millis());
                if old && !change.retrying {
                    dropped += u64::from(self.remove(id, &description).await?);
                }
            }
        }
    }

    /// Hands the letters of a sink up to this number to another. When it is called again after it failed, with the same
    /// renaming, none is there twice.
    pub(super) async fn hand_letters(
        &self,
        old: &SinkName,
        new: &SinkName,
        renaming: Uuid,
        last: i64,
    ) -> Result<(), JournalError> {
        let mut after = 0;
        while let Some(letters) = self.letters_up_to(old, &mut after, last).await? {
            for (id, description) in letters {
                self.hand_letter(id, &description, new, renaming).await?;
            }
        }
        Ok(())
    }

    async fn hand_letter(
        &self,
        id: i64,
        description: &Description,
        new: &SinkName,
        renaming: Uuid,
    ) -> Result<(), JournalError> {
        let failed = |error: &dyn std::fmt::Display| unavailable("a dead letter was not handed over", error);
        let Some(message) = found(self.dead.get_raw_message(position(id)).await)? else { return Ok(()) };
        let change = self.change_of(description, id).await?.unwrap_or_default();
        let mut handed = Description { sink: new.clone(), ..description.clone() };
        if let Some(died_at) = change.died_at {
            handed = Description { died_at, attempts: change.attempts, reason: change.reason, ..handed };
        }
        let text = match message.headers.get(HEADER) {
            // Another version may read it.
            Some(text) if description.unreadable => text.as_str().to_owned(),
            _ => serde_json::to_string(&handed).map_err(|error| failed(&error))?,
        };
        let subject = self.letter_subject(new, message.subject.rsplit('.').next().unwrap_or_default());
        let message = PublishMessage::build()
            .payload(message.payload)
            .header(HEADER, text.as_str())
            .message_id(format!("{renaming}.{id}"))
            .expected_last_subject_sequence(0);
        let sent = match self.js.send_publish(subject.clone(), message).await {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(ack) if ack.sequence > 0 => {}
            Ok(_) => return Err(failed(&"it has no position")),
            // It was handed over before.
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {}
            Err(error) => return Err(failed(&error.kind())),
        }
        if change.retrying
            && let Some(there) = found(self.dead.get_last_raw_message_by_subject(&subject).await)?
        {
            self.mark(number(there.sequence), &handed).await?;
        }
        self.remove(id, description).await.map(|_| ())
    }
}
