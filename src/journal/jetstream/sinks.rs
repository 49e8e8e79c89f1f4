//! The sinks that the journal knows: made known, surveyed, forgotten; and replays for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use futures_util::stream;

use super::partition::Partition;
use super::place::{self, Document};
use super::shared::Shared;
use super::table::{Known, Replay, Table};
use crate::journal::{ConsumerSpec, JournalError, ReplayProgress, ReplayRequest, SinkStatus, StartFrom};
use crate::names::SinkName;

/// Documents or events read at once.
const AT_ONCE: usize = 16;
/// Between two tries to take part.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// How far a sink is over all parts of the log.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    /// Up to here everything is done with, but for what is parked.
    pub(super) cursor: u64,
    /// Up to here nothing is owed, by the log, by replays or parked.
    pub(super) owed_nothing_up_to: u64,
    pub(super) parked: u64,
    pub(super) delivered: bool,
    pub(super) places: BTreeMap<Partition, Document>,
}

pub(super) fn unknown(sink: &SinkName) -> JournalError {
    JournalError::Refused(format!("the journal knows no sink {sink}"))
}

/// Says what to do about a renaming that has begun and not ended, if this is one of its names.
pub(super) fn not_renamed(sink: &SinkName, table: &Table) -> Result<(), JournalError> {
    let Some((old, new)) = table.renaming(sink) else { return Ok(()) };
    Err(JournalError::Refused(format!(
        "sink {old} is being renamed to {new}, which is tried again and again; `hooksink sinks rename {old} {new}` tries \
         at once, and says what is in its way"
    )))
}

/// Says what to do about a forgetting that has begun and not ended.
pub(super) fn not_forgotten(sink: &SinkName, table: &Table) -> Result<(), JournalError> {
    if !table.forgetting.contains_key(sink) {
        return Ok(());
    }
    Err(JournalError::Refused(format!(
        "sink {sink} is being forgotten, which is tried again and again; `hooksink sinks forget {sink}` tries at once, and \
         says what is in its way"
    )))
}

impl Shared {
    /// Makes sinks known, and takes part for them. Tries as long as a start may take.
    pub(super) async fn configure(&self, specs: Vec<ConsumerSpec>) -> Result<(), JournalError> {
        let started = Instant::now();
        loop {
            let error = match self.make_known(&specs).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if started.elapsed() > self.own.start_timeout {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn make_known(&self, specs: &[ConsumerSpec]) -> Result<(), JournalError> {
        let table = self.fresh_table().await?;
        let mine = |sink: &&SinkName| specs.iter().any(|spec| spec.sink == **sink);
        for old in table.renamings.keys().filter(mine) {
            self.end_renaming(old).await?;
        }
        for sink in table.forgetting.keys().filter(mine) {
            self.end_forgetting(sink).await?;
        }
        let state = self.log_info().await?.state;
        let newest = match state.last_sequence {
            0 => None,
            last => self.event(last).await?.map(|record| record.id),
        };
        *self.specs() = specs.iter().map(|spec| (spec.sink.clone(), spec.clone())).collect();
        let configured = self.configured();
        self.change_table(|table| {
            // At once with what is made known, so that nobody takes it for a sink that left.
            let alive = table.members.entry(self.me.clone()).or_default();
            let mut changed = alive.sinks != configured;
            alive.sinks.clone_from(&configured);
            for spec in specs {
                if table.renamings.contains_key(&spec.sink) {
                    not_renamed(&spec.sink, table)?;
                }
                not_forgotten(&spec.sink, table)?;
                table.sinks.entry(spec.sink.clone()).or_insert_with(|| {
                    changed = true;
                    let (start, start_id) = match spec.from {
                        StartFrom::Now => (state.last_sequence, newest),
                        StartFrom::Start => (state.first_sequence.saturating_sub(1), None),
                    };
                    Known { start, start_id, ..Known::default() }
                });
            }
            Ok(changed)
        })
        .await?;
        self.turn().await
    }

    /// How far a sink is, as written. `last` is the position of the newest event as the log's leader told it before.
    pub(super) async fn survey(
        &self,
        sink: &SinkName,
        known: &Known,
        table: &Table,
        last: u64,
    ) -> Result<Survey, JournalError> {
        let surveyed: Vec<Result<(Partition, Document, u64), JournalError>> = stream::iter(0..self.partitions())
            .map(|part| async move {
                let kept = self.state.get::<Document>(&place::key(sink, part)).await?;
                let document = kept.map_or_else(|| Document::new(known), |kept| kept.value);
                let mut cursor = self.sure(&document, last).await?;
                // Where nothing came but what is parked, nothing is to be read, though the place is far back.
                while cursor < last {
                    match self.next_event(Some(part), cursor + 1).await? {
                        Some((seq, _)) if document.parked.contains(&seq) => cursor = seq,
                        Some((seq, _)) => {
                            cursor = seq - 1;
                            break;
                        }
                        None => cursor = last,
                    }
                }
                Ok((part, document, cursor))
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut survey = Survey {
            cursor: u64::MAX,
            owed_nothing_up_to: u64::MAX,
            parked: 0,
            delivered: false,
            places: BTreeMap::new(),
        };
        for surveyed in surveyed {
            let (part, document, cursor) = surveyed?;
            let first_parked = document.parked.first().map_or(u64::MAX, |seq| seq - 1);
            survey.cursor = survey.cursor.min(cursor);
            survey.owed_nothing_up_to = survey.owed_nothing_up_to.min(cursor).min(first_parked);
            survey.parked += document.parked.len() as u64;
            survey.delivered |= document.delivered;
            for (id, replay) in table.running(sink) {
                let walk = document.replays.get(&id).cloned().unwrap_or_else(|| place::Walk {
                    cursor: replay.first_seq.saturating_sub(1),
                    ..place::Walk::default()
                });
                let first_parked = walk.parked.first().map_or(u64::MAX, |seq| seq - 1);
                let walked = if walk.cursor >= replay.last_seq { u64::MAX } else { walk.cursor };
                survey.owed_nothing_up_to = survey.owed_nothing_up_to.min(walked).min(first_parked);
                survey.parked += walk.parked.len() as u64;
            }
            survey.places.insert(part, document);
        }
        Ok(survey)
    }

    /// Every sink the journal knows.
    pub(super) async fn sink_states(&self) -> Result<Vec<SinkStatus>, JournalError> {
        for places in self.working() {
            places.save(self, true).await?;
        }
        let last = self.log_info().await?.state.last_sequence;
        let table = self.table();
        let mut states = Vec::new();
        for (sink, known) in &table.sinks {
            let survey = self.survey(sink, known, &table, last).await?;
            let oldest_unsent = if survey.owed_nothing_up_to < last {
                self.next_event(None, survey.owed_nothing_up_to + 1).await?.map(|(_, record)| record.received_at)
            } else {
                None
            };
            states.push(SinkStatus {
                sink: sink.clone(),
                configured: table.configured(sink),
                cursor: survey.cursor,
                lag_events: last.saturating_sub(survey.cursor) + survey.parked,
                oldest_unsent,
                dead_letters: self.count_letters(sink).await?,
                parked: survey.parked,
                skipped: known.skipped,
            });
        }
        Ok(states)
    }

    /// Forgets an unconfigured sink, or ends that if it was begun. Whether it may be is settled by one change of the table,
    /// before anything is removed: a replica that starts with the sink meanwhile finds it known, or makes it anew.
    pub(super) async fn forget(&self, sink: &SinkName) -> Result<(), JournalError> {
        let last_letter = self.last_letter().await?;
        self.change_table(|table| {
            if table.forgetting.contains_key(sink) {
                return Ok(false);
            }
            not_renamed(sink, table)?;
            self.unconfigured(sink, table)?;
            table.sinks.remove(sink);
            table.replays.retain(|_, replay| replay.sink != *sink);
            table.forgetting.insert(sink.clone(), last_letter);
            Ok(true)
        })
        .await?;
        self.end_forgetting(sink).await.map_err(|error| match error {
            JournalError::Unavailable(why) => JournalError::Unavailable(format!(
                "{why}; sink {sink} is known no more, and what is left of it is removed again and again, or when it is called \
                 again"
            )),
            other => other,
        })
    }

    /// Removes what is left of a sink that is known no more, if that is not done.
    async fn end_forgetting(&self, sink: &SinkName) -> Result<(), JournalError> {
        let _alone = self.renaming.lock().await;
        self.remove_forgotten(sink).await
    }

    async fn remove_forgotten(&self, sink: &SinkName) -> Result<(), JournalError> {
        let Some(last_letter) = self.fresh_table().await?.forgetting.get(sink).copied() else { return Ok(()) };
        self.drop_letters_up_to(sink, last_letter).await?;
        let goes_on = |table: &Table| table.forgetting.get(sink) == Some(&last_letter);
        self.remove_places(sink, goes_on).await?;
        self.change_table(|table| Ok(goes_on(table) && table.forgetting.remove(sink).is_some())).await.map(|_| ())
    }

    /// Removes what is left of all sinks that are known no more, unless somebody here does. One that cannot be removed keeps
    /// no other from it.
    pub(super) async fn end_forgettings(&self) -> Result<(), JournalError> {
        let Ok(_alone) = self.renaming.try_lock() else { return Ok(()) };
        let mut result = Ok(());
        for sink in self.table().forgetting.keys() {
            result = result.and(self.remove_forgotten(sink).await);
        }
        result
    }

    /// Removes what was written of how far a sink is, while `goes_on` holds of the table, so that nobody makes it known
    /// anew. Where another replica has ended it meanwhile, and there is a new sink of this name, its places stay.
    pub(super) async fn remove_places(
        &self,
        sink: &SinkName,
        goes_on: impl Fn(&Table) -> bool,
    ) -> Result<(), JournalError> {
        // Read before it is seen that it goes on: whatever a new sink writes comes after this, however slow this one is.
        let last = self.state.last_revision().await?;
        if !goes_on(&*self.fresh_table().await?) {
            return Ok(());
        }
        for part in 0..self.partitions() {
            self.state.remove_up_to(&place::key(sink, part), last).await?;
        }
        let rest = self.state.below(&format!("place.{sink}")).await?;
        if !rest.is_empty() && goes_on(&*self.fresh_table().await?) {
            return Err(JournalError::Unavailable(format!("the place of sink {sink} was written meanwhile")));
        }
        Ok(())
    }

    /// The table as it is now.
    pub(super) async fn fresh_table(&self) -> Result<Arc<Table>, JournalError> {
        self.change_table(|_| Ok(false)).await
    }

    pub(super) fn unconfigured(&self, sink: &SinkName, table: &Table) -> Result<(), JournalError> {
        if !table.sinks.contains_key(sink) {
            return Err(unknown(sink));
        }
        if table.configured(sink) {
            return Err(JournalError::Refused(format!(
                "sink {sink} is in the configuration; take it out and restart every replica first"
            )));
        }
        Ok(())
    }

    /// Begins a replay.
    pub(super) async fn begin_replay(&self, request: ReplayRequest) -> Result<ReplayProgress, JournalError> {
        let ReplayRequest { sink, from, to, kinds } = request;
        let state = self.log_info().await?.state;
        let (first_seq, last_seq) = (state.first_sequence, state.last_sequence);
        let finished = (state.messages == 0).then_some(0);
        let mut id = 0;
        let table = self
            .change_table(|table| {
                if !table.sinks.contains_key(&sink) {
                    return Err(unknown(&sink));
                }
                if !table.configured(&sink) {
                    return Err(JournalError::Refused(format!("sink {sink} is not in the configuration")));
                }
                id = table.add_replay(Replay {
                    sink: sink.clone(),
                    from: from.timestamp_millis(),
                    to: to.unwrap_or_else(Utc::now).timestamp_millis(),
                    kinds: kinds.clone(),
                    first_seq,
                    last_seq,
                    finished,
                });
                Ok(true)
            })
            .await?;
        let replay = table.replays.get(&id).ok_or_else(|| unknown(&sink))?;
        Ok(progress(id, replay, first_seq.saturating_sub(1), 0, replay.finished.is_some()))
    }

    /// How far a replay is.
    pub(super) async fn replay_progress(&self, id: i64) -> Result<Option<ReplayProgress>, JournalError> {
        let table = self.fresh_table().await?;
        let Some(replay) = table.replays.get(&id) else { return Ok(None) };
        if let Some(delivered) = replay.finished {
            return Ok(Some(progress(id, replay, replay.last_seq, delivered, true)));
        }
        if let Some(places) = self.working_on(&replay.sink) {
            places.save(self, true).await?;
        }
        let (cursor, delivered, finished) = self.walked(id, replay).await?;
        Ok(Some(progress(id, replay, cursor, delivered, finished)))
    }

    /// The lowest position a replay has come to, what it delivered, and whether it owes nothing more.
    async fn walked(&self, id: i64, replay: &Replay) -> Result<(u64, u64, bool), JournalError> {
        let (mut cursor, mut delivered, mut finished) = (replay.last_seq, 0, true);
        for part in 0..self.partitions() {
            let kept = self.state.get::<Document>(&place::key(&replay.sink, part)).await?;
            match kept.and_then(|kept| kept.value.replays.get(&id).cloned()) {
                Some(walk) => {
                    cursor = cursor.min(walk.cursor);
                    delivered += walk.delivered;
                    finished &= walk.cursor >= replay.last_seq && walk.parked.is_empty();
                }
                None => {
                    cursor = replay.first_seq.saturating_sub(1);
                    finished = false;
                }
            }
        }
        Ok((cursor, delivered, finished))
    }

    /// Notes in the table which replays have ended.
    pub(super) async fn end_replays(&self) -> Result<(), JournalError> {
        let table = self.table();
        for (id, replay) in table.replays.iter().filter(|(_, replay)| replay.finished.is_none()) {
            let (_, delivered, finished) = self.walked(*id, replay).await?;
            if finished {
                self.change_table(|table| {
                    if let Some(replay) = table.replays.get_mut(id) {
                        replay.finished = Some(delivered);
                    }
                    table.asked += 1;
                    Ok(true)
                })
                .await?;
            }
        }
        Ok(())
    }
}

fn progress(id: i64, replay: &Replay, cursor: u64, delivered: u64, finished: bool) -> ReplayProgress {
    ReplayProgress {
        id,
        sink: replay.sink.clone(),
        done: (cursor + 1).saturating_sub(replay.first_seq),
        total: (replay.last_seq + 1).saturating_sub(replay.first_seq),
        delivered,
        finished,
    }
}

/// The time, before which something of this age began.
pub(super) fn before(age: std::time::Duration) -> DateTime<Utc> {
    let age = chrono::TimeDelta::from_std(age).unwrap_or(chrono::TimeDelta::MAX);
    Utc::now().checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC)
}
