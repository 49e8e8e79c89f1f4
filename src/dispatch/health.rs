//! Whether a sink is up, and when one that is down is tried again. Pure: time and randomness come in.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use crate::event::Lane;

/// Failed calls in a row, each begun after the failure before, after which a sink is down.
const DOWN_AFTER: u32 = 5;

/// People whose events failed in a row before the failures are taken for the sink's fault whatever the events: up to
/// then someone not tried yet is tried soon, after that everyone waits for the growing back-off.
pub(super) const WITNESSES: usize = 8;

/// When a call began, in terms of failures seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// The health of a sink.
#[derive(Debug)]
pub(super) struct Health {
    backoff: Backoff,
    /// Failures counted, ever.
    epoch: u64,
    /// Failures counted since the sink last accepted something.
    row: u32,
    /// Some of the lanes that failed since then.
    witnesses: HashSet<Lane>,
    down_since: Option<Instant>,
    /// When a lane that failed already may be tried while the sink is down.
    probe_at: Option<Instant>,
    /// When a lane that did not fail yet may be tried while the sink is down.
    newcomer_at: Option<Instant>,
    /// The target asked for no calls before.
    pause_until: Option<Instant>,
}

impl Health {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            epoch: 0,
            row: 0,
            witnesses: HashSet::new(),
            down_since: None,
            probe_at: None,
            newcomer_at: None,
            pause_until: None,
        }
    }

    /// To be kept with a call that begins now.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.epoch)
    }

    pub(super) fn is_down(&self) -> bool {
        self.down_since.is_some()
    }

    /// Until when there are to be no calls at all.
    pub(super) fn paused(&self, now: Instant) -> Option<Instant> {
        self.pause_until.filter(|until| *until > now)
    }

    /// The sink accepted something. How long it was down, if it was.
    pub(super) fn accepted(&mut self, now: Instant) -> Option<Duration> {
        self.row = 0;
        self.witnesses.clear();
        self.probe_at = None;
        self.newcomer_at = None;
        self.down_since.take().map(|since| now.saturating_duration_since(since))
    }

    /// A call that began at `mark` and whose first undelivered event is of `lane` failed. Whether the sink is down
    /// since this moment.
    ///
    /// Calls that failed side by side are one failure: a rate limit that hits eight at once is no outage.
    pub(super) fn failed(
        &mut self,
        mark: Mark,
        lane: &Lane,
        asked: Option<Duration>,
        now: Instant,
        jitter: f64,
    ) -> bool {
        if self.witnesses.len() < WITNESSES {
            self.witnesses.insert(lane.clone());
        }
        if mark.0 >= self.epoch {
            self.epoch += 1;
            self.row = self.row.saturating_add(1);
        }
        if asked.is_some() {
            let until = now + self.backoff.asked(asked);
            self.pause_until = Some(self.pause_until.map_or(until, |before| before.max(until)));
        }
        let newly = self.down_since.is_none() && self.row >= DOWN_AFTER;
        if newly {
            self.down_since = Some(now);
        }
        if self.is_down() {
            self.probe_at = Some(now + self.backoff.delay(self.row - DOWN_AFTER.min(self.row) + 1, jitter));
            self.newcomer_at = Some(now + self.backoff.delay(1, jitter));
        }
        newly
    }

    /// Whether more than one lane failed since the sink last accepted something.
    pub(super) fn several_failed(&self) -> bool {
        self.witnesses.len() > 1
    }

    /// Whether nothing but this lane failed since the sink last accepted something.
    pub(super) fn only_witness(&self, lane: &Lane) -> bool {
        self.witnesses.iter().all(|witness| witness == lane)
    }

    /// When the next probe may begin, if later than now. A `newcomer` is a lane of which nothing failed in this row.
    pub(super) fn probe_wait(&self, newcomer: bool, now: Instant) -> Option<Instant> {
        let soon = newcomer && self.witnesses.len() < WITNESSES;
        if soon { self.newcomer_at } else { self.probe_at }.filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;

    fn lane(n: u128) -> Lane {
        Lane::Single(EventId(uuid::Uuid::from_u128(n)))
    }

    fn health() -> Health {
        Health::new(Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60) })
    }

    #[test]
    fn failures_one_after_another_take_it_down_and_one_acceptance_brings_it_back() {
        let (mut health, now) = (health(), Instant::now());
        for n in 1..=5 {
            let mark = health.mark();
            assert_eq!(health.failed(mark, &lane(1), None, now, 1.0), n == 5);
        }
        assert!(health.is_down());
        assert_eq!(health.accepted(now + Duration::from_secs(3)), Some(Duration::from_secs(3)));
        assert!(!health.is_down());
    }

    #[test]
    fn failures_side_by_side_are_one() {
        let (mut health, now) = (health(), Instant::now());
        let mark = health.mark();
        for n in 0..100 {
            assert!(!health.failed(mark, &lane(n), None, now, 1.0));
        }
        assert!(!health.is_down());
    }

    #[test]
    fn while_down_the_wait_grows_but_not_for_the_first_few_newcomers() {
        let (mut health, now) = (health(), Instant::now());
        for _ in 0..20 {
            let mark = health.mark();
            health.failed(mark, &lane(1), None, now, 1.0);
        }
        assert_eq!(health.probe_wait(false, now), Some(now + Duration::from_secs(60)));
        assert_eq!(health.probe_wait(true, now), Some(now + Duration::from_secs(1)));
        for n in 2..=8 {
            let mark = health.mark();
            health.failed(mark, &lane(n), None, now, 1.0);
        }
        let wait = health.probe_wait(true, now);
        assert_eq!(wait, Some(now + Duration::from_secs(60)), "eight people failed: it is the sink");
    }

    #[test]
    fn a_pause_that_the_target_asks_for_holds_for_all() {
        let (mut health, now) = (health(), Instant::now());
        let mark = health.mark();
        health.failed(mark, &lane(1), Some(Duration::from_secs(30)), now, 0.0);
        assert_eq!(health.paused(now), Some(now + Duration::from_secs(30)));
        assert_eq!(health.paused(now + Duration::from_secs(30)), None);
    }
}
