//! What is looked after about once a second: what grew too old, the size limit, renamings that were not ended, what is
//! left of forgotten sinks, replays that have ended, status and metrics. One replica does the first for all, the first in
//! the table; should two believe that they are it, they do the same twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Info;

use super::failing::{Failing, News};
use super::shared::Shared;
use super::sinks::before;
use super::table::Table;
use crate::journal::{JournalError, ORDINARY};
use crate::metrics::SinkLabels;
use crate::names::SinkName;

const ROUND: Duration = Duration::from_secs(1);
/// How often metrics of sinks are brought up to date.
const METRICS: Duration = Duration::from_secs(5);

/// Looks after the journal until it stops.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut shown: Option<Instant> = None;
    let mut rounds = Rounds::default();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let show = shown.is_none_or(|shown| shown.elapsed() >= METRICS);
        shared.round(show, &mut rounds).await;
        if show {
            shown = Some(Instant::now());
        }
    }
}

/// How often in a row each of what is looked after failed.
#[derive(Default)]
struct Rounds(BTreeMap<&'static str, Failing>);

impl Rounds {
    fn note(&mut self, what: &'static str, result: Result<(), JournalError>) {
        let news = self.0.entry(what).or_default().note(result.is_ok());
        match (news, result) {
            (Some(News::Fails), Err(error)) => {
                tracing::warn!(%error, what, "the journal cannot be looked after, which is tried again and again");
            }
            (Some(News::WorksAgain), _) => tracing::info!(what, "the journal is looked after again"),
            (_, Err(error)) => tracing::debug!(%error, what, "the journal is looked after later"),
            (_, Ok(())) => {}
        }
    }
}

/// Whom events may be owed to: sinks, each with where it began, and replays.
type Owed = (Vec<(SinkName, u64)>, Vec<i64>);

fn owed(table: &Table) -> Owed {
    let sinks = table.sinks.iter().map(|(sink, known)| (sink.clone(), known.start));
    let replays = table.replays.iter().filter(|(_, replay)| replay.finished.is_none());
    (sinks.collect(), replays.map(|(id, _)| *id).collect())
}

impl Shared {
    /// Each on its own, so that what fails for one keeps nothing else from being done.
    async fn round(&self, show: bool, rounds: &mut Rounds) {
        let measured = self.measure().await;
        let trouble = match &measured {
            // Full until there is room, and in trouble until the servers answer, which they just did.
            Ok(_) => self.look_for_room(ORDINARY).await.err(),
            Err(error) => Some(error.clone()),
        };
        let unfit = super::connect::unfit(&self.client, &self.config);
        let trouble = unfit.map(|unfit| JournalError::Unavailable(unfit.to_string())).or(trouble);
        // That the servers do not answer this is no news: storing tells, and so does the table.
        if measured.is_ok() && (trouble.is_some() || self.view.borrow().alive) {
            self.trouble(trouble.as_ref());
        }
        if self.table().members.keys().next() == Some(&self.me) {
            rounds.note("renamings", self.end_renamings().await);
            rounds.note("forgotten sinks", self.end_forgettings().await);
            rounds.note("replays", self.end_replays().await);
            if let Ok(info) = &measured {
                rounds.note("retention", self.tidy(info).await);
            }
            let expired = self.expire_letters(before(self.config.dead_letter_retention)).await;
            rounds.note("dead letters", expired.map(|_| ()));
        }
        rounds.note("size", measured.map(|_| ()));
        if show {
            rounds.note("status of sinks", self.show().await);
        }
    }

    /// Brings the status up to date.
    pub(super) async fn measure(&self) -> Result<Info, JournalError> {
        let info = self.log_info().await?;
        let dead = self.dead.get_info().await;
        let dead =
            dead.map_err(|error| super::error::unavailable("the dead letters cannot be counted", error.kind()))?;
        self.room.beside_the_log.store(dead.state.bytes, Ordering::Relaxed);
        let mut status = self.status();
        status.bytes = info.state.bytes + dead.state.bytes;
        status.events = info.state.messages;
        status.last_seq = status.last_seq.max(info.state.last_sequence);
        let bytes = status.bytes;
        drop(status);
        self.metrics.journal_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(info)
    }

    async fn show(&self) -> Result<(), JournalError> {
        for state in self.sink_states().await? {
            let labels = SinkLabels { sink: state.sink.to_string() };
            let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let metrics = &self.metrics;
            metrics.sink_dead_letters.get_or_create(&labels).set(gauge(state.dead_letters));
            metrics.sink_lag_events.get_or_create(&labels).set(gauge(state.lag_events));
            let age = state.oldest_unsent.map_or(0, |oldest| (chrono::Utc::now() - oldest).num_seconds().max(0));
            metrics.sink_oldest_unsent_seconds.get_or_create(&labels).set(age);
            metrics.sink_unconfigured.get_or_create(&labels).set(i64::from(!state.configured));
        }
        Ok(())
    }

    /// The position up to which no sink is owed anything, by the leader of the log that this state is from; none if
    /// the leader changed meanwhile, so that what it said of single parts and of the whole may not fit together.
    pub(super) async fn floor(&self, info: &Info) -> Result<Option<u64>, JournalError> {
        let leader = |info: &Info| info.cluster.as_ref().and_then(|cluster| cluster.leader.clone());
        let last = info.state.last_sequence;
        let table = self.table();
        let mut floor = last;
        for (sink, known) in &table.sinks {
            floor = floor.min(self.survey(sink, known, &table, last).await?.owed_nothing_up_to);
        }
        let after = self.log_info().await?;
        // A sink or a replay that came meanwhile may begin at the start.
        let same = leader(&after) == leader(info) && self.fresh_owed().await? == owed(&table);
        Ok(same.then_some(floor))
    }

    async fn fresh_owed(&self) -> Result<Owed, JournalError> {
        Ok(owed(&*self.change_table(|_| Ok(false)).await?))
    }

    /// Removes what is older than `retention` and owed to no sink.
    async fn tidy(&self, info: &Info) -> Result<(), JournalError> {
        let cutoff = before(self.config.retention);
        let is_old = async |seq: u64| {
            let next = self.next_event(None, seq).await?;
            Ok::<_, JournalError>(next.filter(|(_, record)| record.received_at < cutoff).map(|(seq, _)| seq))
        };
        let first = info.state.first_sequence;
        if info.state.messages == 0 || is_old(first).await?.is_none() {
            return Ok(());
        }
        let Some(floor) = self.floor(info).await? else { return Ok(()) };
        if floor < first {
            return Ok(());
        }
        // The last position that is old, of those that may go: events are nearly in the order of their receipt.
        let (mut old, mut young) = (first, floor + 1);
        while young - old > 1 {
            let middle = old + (young - old) / 2;
            match is_old(middle).await? {
                Some(seq) if seq < young => old = seq.max(middle),
                Some(_) => young = middle,
                None => young = middle,
            }
        }
        self.purge_up_to(old).await
    }

    /// Removes everything up to this position.
    pub(super) async fn purge_up_to(&self, seq: u64) -> Result<(), JournalError> {
        let purged = self.log.purge().sequence(seq + 1).await;
        purged.map_err(|error| super::error::unavailable("old events cannot be removed", error.kind()))?;
        self.measure().await.map(|_| ())
    }
}
