//! By which events a place knows the log that it tells of. A log may go back: its servers lost what they had not synced,
//! or an older copy of it was put back. Positions that a sink is done with are given to other events then, which nobody
//! would hand out. So a place names, beside its position, the event it found there and a few before it; where the log
//! has another one, or ends before, the place goes back to the last position that is as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::envelope::Kept;
use super::place::Document;
use super::shared::Shared;
use crate::event::EventId;
use crate::journal::JournalError;

/// Events looked up at once.
const AT_ONCE: usize = 16;
/// What was read since the oldest event without an outcome; of more, every second one is forgotten, so that some events
/// may come again when the place changes hands.
const TRAIL: usize = 16 * 1024;
/// A server that has only just come to lead the log may not know its end yet: so often it is asked again.
const TRIES: usize = 4;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(250);

/// An event at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) seq: u64,
    pub(super) id: EventId,
}

/// Up to where a log that went back is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) upto: u64,
    /// The event there, if it is known.
    pub(super) mark: Option<Mark>,
}

/// What one consumer read, in order.
#[derive(Debug, Default)]
pub(super) struct Trail(BTreeMap<u64, EventId>);

impl Trail {
    pub(super) fn note(&mut self, seq: u64, id: EventId) {
        self.0.insert(seq, id);
        if self.0.len() > TRAIL {
            let mut keep = false;
            self.0.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
    }

    /// The last event read at or before this position.
    pub(super) fn at(&self, seq: u64) -> Option<Mark> {
        self.0.range(..=seq).next_back().map(|(seq, id)| Mark { seq: *seq, id: *id })
    }

    /// Forgets what lies before the last event at or before this position.
    pub(super) fn forget_before(&mut self, seq: u64) {
        if let Some(mark) = self.at(seq) {
            self.0 = self.0.split_off(&mark.seq);
        }
    }

    /// Forgets what is not as it was.
    pub(super) fn cut(&mut self, cut: Cut) {
        self.0.split_off(&(cut.upto + 1));
    }

    /// A few of them.
    pub(super) fn marks(&self) -> Vec<Mark> {
        thinned(self.0.iter().map(|(seq, id)| Mark { seq: *seq, id: *id }).collect())
    }
}

/// The newest of these marks and a few of the others, the further back the fewer: at most sixteen times as much is read
/// again as was lost.
pub(super) fn thinned(marks: Vec<Mark>) -> Vec<Mark> {
    let Some(newest) = marks.last().map(|mark| mark.seq) else { return marks };
    let far = |mark: &Mark| (newest - mark.seq).checked_ilog2().map(|far| far / 2);
    let mut last = None;
    let mut kept = marks;
    // The oldest of each distance, so that it grows old enough for the next one.
    kept.retain(|mark| last.replace(far(mark)) != Some(far(mark)));
    kept
}

impl Shared {
    /// Whether the log has this event at this position; none if it has none there any more.
    async fn fits(&self, mark: Mark, last: u64) -> Result<Option<bool>, JournalError> {
        Ok(match self.kept(mark.seq).await? {
            Some(Kept::Event(record)) => Some(record.id == mark.id),
            Some(Kept::Later(later)) => Some(later.id == mark.id),
            _ if mark.seq > last => Some(false),
            _ => None,
        })
    }

    /// Up to where the log is as these places and marks know it, if it is not altogether.
    pub(super) async fn cut(&self, marks: &BTreeSet<Mark>, furthest: u64) -> Result<Option<Cut>, JournalError> {
        let mut cut = self.look_for_cut(marks, furthest).await?;
        for _ in 1..TRIES {
            if cut.is_none() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            cut = self.look_for_cut(marks, furthest).await?;
        }
        Ok(cut)
    }

    async fn look_for_cut(&self, marks: &BTreeSet<Mark>, furthest: u64) -> Result<Option<Cut>, JournalError> {
        let state = self.log_info().await?.state;
        let (first, last) = (state.first_sequence, state.last_sequence);
        let mut cut = Cut { upto: first.saturating_sub(1).min(last), mark: None };
        let held: Vec<Mark> = marks.iter().filter(|mark| mark.seq >= first).copied().collect();
        let looked: Vec<Result<(Mark, Option<bool>), JournalError>> = stream::iter(held)
            .map(|mark| async move { Ok((mark, self.fits(mark, last).await?)) })
            .buffered(AT_ONCE)
            .collect()
            .await;
        for looked in looked {
            match looked? {
                (mark, Some(true)) => cut = Cut { upto: mark.seq, mark: Some(mark) },
                (_, Some(false)) => return Ok(Some(cut)),
                // It was removed, so that nobody can tell.
                (_, None) => {}
            }
        }
        Ok((furthest > last).then_some(cut))
    }

    /// Whether the log has these events still, or may have had them.
    pub(super) async fn has(&self, marks: &[Mark]) -> Result<bool, JournalError> {
        for mark in marks {
            if self.fits(*mark, 0).await? != Some(true) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Up to where a place is done with the log as it is now.
    pub(super) async fn sure(&self, document: &Document, last: u64) -> Result<u64, JournalError> {
        for (back, mark) in document.marks.iter().rev().enumerate() {
            match self.fits(*mark, last).await? {
                Some(false) => {}
                Some(true) | None if back == 0 => return Ok(document.certain().min(last.max(mark.seq))),
                _ => return Ok(mark.seq),
            }
        }
        Ok(if document.marks.is_empty() { document.cursor.min(last) } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn mark(seq: u64) -> Mark {
        Mark { seq, id: EventId(Uuid::from_u128(seq.into())) }
    }

    #[test]
    fn marks_are_few_and_reach_far_back() {
        let mut marks = Vec::new();
        for seq in 1..100_000 {
            marks.push(mark(seq));
            marks = thinned(marks);
            assert!(marks.len() <= 11 && marks.is_sorted());
            assert_eq!((marks[0], marks[marks.len() - 1]), (mark(1), mark(seq)));
            // Of whatever was lost, a mark before it is no more than sixteen times as far back.
            for pair in marks.windows(2) {
                let (before, after) = (seq - pair[0].seq, seq - pair[1].seq);
                assert!(before <= 16 * after.max(1), "{marks:?}");
            }
        }
    }

    #[test]
    fn a_trail_tells_the_event_at_or_before_a_position_and_is_bounded() {
        let mut trail = Trail::default();
        for seq in (10..100_000).step_by(10) {
            trail.note(seq, mark(seq).id);
        }
        assert!(trail.0.len() <= TRAIL);
        trail.forget_before(99_975);
        assert_eq!((trail.at(99_969), trail.at(99_995)), (None, Some(mark(99_990))));
        trail.cut(Cut { upto: 99_980, mark: None });
        assert_eq!(trail.at(u64::MAX), Some(mark(99_980)));
    }
}
