//! The ids of the newest events, which no table holds yet. Ids are random, so that an index which is written with each
//! event has a page of its own for each. Here they wait in memory until there are many, and are then written in their
//! order, a few with each event: neighbours share pages. What waits is in the log as well, from which it is read at start.

use std::collections::BTreeMap;

use uuid::Uuid;

/// Ids that gather before they are written, at most, and as a part of a segment: more of them share pages in a smaller
/// table.
const GATHER: usize = 32_768;
const PART: u64 = 16;
/// Ids that are written for each that comes: those that gathered before are written long before the next are many.
const PACE: usize = 2;
/// Ids written at once, at least.
const STEP: usize = 64;

/// Ids on their way, with the positions of their events.
#[derive(Debug)]
pub(super) struct Young {
    /// How many gather.
    enough: usize,
    gathering: BTreeMap<Uuid, u64>,
    leaving: BTreeMap<Uuid, u64>,
    /// How many may leave by now.
    due: usize,
    /// What to take back when the transaction fails: what came, with what it replaced, and what left.
    came: Vec<(Uuid, Option<u64>)>,
    left: Vec<(Uuid, u64)>,
    /// The position from which on ids may be in no table, once it has changed and until that is kept.
    since: Option<u64>,
}

impl Young {
    /// None yet, in a log of so many events a segment.
    pub(super) fn new(segment_events: u64) -> Self {
        let enough = usize::try_from(segment_events / PART).map_or(GATHER, |part| part.min(GATHER));
        Self {
            enough: enough.max(1),
            gathering: BTreeMap::new(),
            leaving: BTreeMap::new(),
            due: 0,
            came: Vec::new(),
            left: Vec::new(),
            since: None,
        }
    }

    /// The position of the event with this id, if it is one of these.
    pub(super) fn seq(&self, id: Uuid) -> Option<u64> {
        self.gathering.get(&id).or_else(|| self.leaving.get(&id)).copied()
    }

    /// An id that came.
    pub(super) fn insert(&mut self, id: Uuid, seq: u64) {
        let replaced = self.gathering.insert(id, seq);
        self.came.push((id, replaced));
        self.due += PACE;
    }

    /// Ids that are to be written to their tables now, in order.
    pub(super) fn take(&mut self) -> &[(Uuid, u64)] {
        let begin = self.left.len();
        if self.leaving.is_empty() {
            self.due = 0;
        } else if self.due >= STEP.min(self.enough) {
            for _ in 0..self.due {
                self.left.extend(self.leaving.pop_first());
            }
            self.due = 0;
        }
        &self.left[begin..]
    }

    /// The position from which on ids may be in no table, where that is to be kept.
    pub(super) fn since(&self) -> Option<u64> {
        self.since
    }

    /// The transaction is committed, and `since` kept with it if it was asked for.
    pub(super) fn committed(&mut self, kept_since: Option<u64>) {
        self.came.clear();
        self.left.clear();
        if self.since == kept_since {
            self.since = None;
        }
        if self.gathering.len() >= self.enough && self.leaving.is_empty() {
            self.leaving = std::mem::take(&mut self.gathering);
            self.since = self.leaving.values().min().copied();
            self.due = 0;
        }
    }

    /// The transaction failed.
    pub(super) fn rolled_back(&mut self) {
        self.leaving.extend(self.left.drain(..));
        while let Some((id, replaced)) = self.came.pop() {
            match replaced {
                Some(seq) => self.gathering.insert(id, seq),
                None => self.gathering.remove(&id),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: usize = 1000;

    fn id(n: u64) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_be_bytes())
    }

    /// Stores one event a transaction; what was written, in order.
    fn store(young: &mut Young, events: std::ops::Range<u64>) -> (Vec<(Uuid, u64)>, u64) {
        let (mut written, mut since) = (Vec::new(), 0);
        for n in events {
            young.insert(id(n), n);
            written.extend_from_slice(young.take());
            let keep = young.since();
            since = keep.unwrap_or(since);
            young.committed(keep);
        }
        (written, since)
    }

    #[test]
    fn every_id_is_written_once_or_waits_and_is_found_until_then() {
        let mut young = Young::new(ENOUGH as u64 * PART);
        let events = 5 * ENOUGH as u64 + 17;
        let (written, since) = store(&mut young, 0..events);
        let mut positions: Vec<u64> = written.iter().map(|(_, seq)| *seq).collect();
        positions.sort_unstable();
        positions.dedup();
        assert_eq!(positions.len(), written.len());
        let waiting = (0..events).filter(|n| young.seq(id(*n)) == Some(*n)).count();
        assert_eq!(waiting + written.len(), usize::try_from(events).unwrap());
        assert!(waiting <= 2 * ENOUGH, "{waiting}");
        // What a start reads from the log has all of them, and not much more.
        assert!((0..since).all(|n| young.seq(id(n)).is_none()));
        assert!(events - since <= 2 * ENOUGH as u64, "{since} of {events}");
        // Neighbours come together, so that they share pages.
        let in_order = written.windows(2).filter(|pair| pair[0].0 < pair[1].0).count();
        assert!(written.len() - in_order < 10, "{in_order} of {}", written.len());
    }

    #[test]
    fn what_is_rolled_back_is_as_it_was() {
        let mut young = Young::new(ENOUGH as u64 * PART);
        let first = ENOUGH as u64 + 100;
        store(&mut young, 0..first);
        let before = (young.gathering.clone(), young.leaving.clone());
        assert!(!before.1.is_empty());
        // One of them comes anew, as an event whose first copy has left the journal does.
        for (n, seq) in (first..first + 100).map(|n| (n, n)).chain([(first - 1, first + 100)]) {
            young.insert(id(n), seq);
        }
        assert!(!young.take().is_empty());
        assert_eq!(young.seq(id(first - 1)), Some(first + 100));
        young.rolled_back();
        assert_eq!((young.gathering, young.leaving), before);
    }
}
