//! How far a stream of events, the log or a replay of it, is done with towards one sink.

use std::collections::{BTreeSet, VecDeque};

/// The contiguous front of what is done, over a window of what was handed out.
#[derive(Debug, Clone, Default)]
pub(in crate::journal) struct Front {
    /// The last position looked at.
    scanned: u64,
    /// What was handed out after the cursor, in order, and whether it is done with.
    handed: VecDeque<(u64, bool)>,
    /// What the cursor may pass though it is still owed: it has a row of its own.
    parked: BTreeSet<u64>,
}

impl Front {
    /// The front of a stream that is done up to this position, but for what is parked.
    pub(in crate::journal) fn new(cursor: u64, parked: BTreeSet<u64>) -> Self {
        Self { scanned: cursor, handed: VecDeque::new(), parked }
    }

    /// The position up to which nothing has to be handed out any more.
    pub(in crate::journal) fn cursor(&self) -> u64 {
        self.handed.front().map_or(self.scanned, |(seq, _)| seq - 1)
    }

    /// The position up to which nothing is owed.
    pub(in crate::journal) fn owed_nothing_up_to(&self) -> u64 {
        self.parked.first().map_or(self.cursor(), |seq| self.cursor().min(seq - 1))
    }

    /// The last position looked at.
    pub(in crate::journal) fn scanned(&self) -> u64 {
        self.scanned
    }

    /// What is parked.
    pub(in crate::journal) fn parked(&self) -> &BTreeSet<u64> {
        &self.parked
    }

    /// What is parked of the positions that were not looked at: after a restart the cursor may lie before it.
    pub(in crate::journal) fn parked_ahead(&self) -> BTreeSet<u64> {
        self.parked.range(self.scanned + 1..).copied().collect()
    }

    /// Notes what was handed out of the positions up to `scanned`.
    pub(in crate::journal) fn hand_out(&mut self, events: impl IntoIterator<Item = u64>, scanned: u64) {
        for seq in events {
            let place = match self.handed.back() {
                Some((last, _)) if *last >= seq => self.handed.partition_point(|(handed, _)| *handed < seq),
                _ => self.handed.len(),
            };
            match self.handed.get_mut(place) {
                Some((handed, done)) if *handed == seq => *done = false,
                _ => self.handed.insert(place, (seq, false)),
            }
        }
        self.scanned = scanned;
    }

    /// Whether an outcome of this event is awaited: false for one that was settled before.
    pub(in crate::journal) fn awaits(&self, seq: u64) -> bool {
        self.place_of(seq).is_some_and(|place| !self.handed[place].1) || self.parked.contains(&seq)
    }

    /// Whether this event has no final outcome yet.
    pub(in crate::journal) fn owes(&self, seq: u64) -> bool {
        self.awaits(seq) || seq > self.scanned
    }

    /// The event is done with; whether the cursor moved.
    pub(in crate::journal) fn done(&mut self, seq: u64) -> bool {
        self.parked.remove(&seq);
        self.pass(seq)
    }

    /// The event has a row of its own now.
    pub(in crate::journal) fn park(&mut self, seq: u64) -> bool {
        self.parked.insert(seq);
        self.pass(seq)
    }

    fn pass(&mut self, seq: u64) -> bool {
        let Some(place) = self.place_of(seq) else { return false };
        self.handed[place].1 = true;
        let mut moved = false;
        while let Some((_, true)) = self.handed.front() {
            self.handed.pop_front();
            moved = true;
        }
        moved
    }

    /// Where this event stands among those that were handed out.
    fn place_of(&self, seq: u64) -> Option<usize> {
        self.handed.binary_search_by_key(&seq, |(seq, _)| *seq).ok()
    }

    /// Nothing up to this position is owed any more: it was skipped.
    pub(in crate::journal) fn skip_to(&mut self, seq: u64) {
        self.handed.drain(..self.handed.partition_point(|(handed, _)| *handed <= seq));
        self.parked = self.parked.split_off(&(seq + 1));
        self.scanned = self.scanned.max(seq);
    }

    /// Takes back what was handed out and not settled.
    pub(in crate::journal) fn rewind(&mut self) {
        *self = Self::new(self.cursor(), std::mem::take(&mut self.parked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stops_before_the_first_event_without_an_outcome() {
        let mut front = Front::new(10, BTreeSet::new());
        front.hand_out([12, 13, 15], 20);
        assert_eq!(front.cursor(), 11);
        assert!(!front.done(13));
        assert_eq!(front.cursor(), 11);
        assert!(front.done(12));
        assert_eq!(front.cursor(), 14);
        assert!(!front.awaits(12) && front.awaits(15));
        assert!(front.done(15));
        assert_eq!(front.cursor(), 20);
    }

    #[test]
    fn a_parked_event_lets_the_cursor_pass_and_stays_owed() {
        let mut front = Front::new(0, BTreeSet::new());
        front.hand_out([1, 2], 2);
        front.park(1);
        front.done(2);
        assert_eq!((front.cursor(), front.owed_nothing_up_to()), (2, 0));
        front.done(1);
        assert_eq!(front.owed_nothing_up_to(), 2);
    }

    #[test]
    fn rewinding_hands_out_again_what_has_no_outcome() {
        let mut front = Front::new(0, BTreeSet::new());
        front.hand_out([1, 2, 3], 5);
        front.done(1);
        front.rewind();
        assert_eq!((front.cursor(), front.scanned()), (1, 1));
        assert!(!front.awaits(2));
    }

    #[test]
    fn skipping_forgets_what_lies_before() {
        let mut front = Front::new(0, BTreeSet::new());
        front.hand_out([1, 2, 3], 3);
        front.park(1);
        front.skip_to(2);
        assert_eq!((front.cursor(), front.owed_nothing_up_to()), (2, 2));
        assert!(front.awaits(3) && !front.awaits(1));
        front.skip_to(9);
        assert_eq!((front.cursor(), front.scanned()), (9, 9));
    }
}
