//! How far a sink is in one part of the log: a document for each, which one consumer writes at a time.
//!
//! Who takes a place over writes it first, with a name of its own. Whatever the one before still writes is refused then,
//! so that it finds out. A place only ever tells of events that the sink has, that are dead letters, or that are parked
//! in it; so that whoever goes on from it hands out each person's events from one that every earlier one of theirs was
//! delivered before. First arrivals at the sink are in order, however many consumers believe that the place is theirs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::marks::{Cut, Mark, Trail, thinned};
use super::partition::Partition;
use super::table::{Known, Replay, VERSION};
use crate::journal::front::Front;
use crate::names::SinkName;

/// Events of a part that may be parked before one is not passed that a later version wrote.
const HELD_BACK: usize = 10_000;

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) version: u32,
    /// The consumer that took it last.
    pub(super) holder: String,
    /// Positions up to here are done with, but for what is parked.
    pub(super) cursor: u64,
    /// The last event that was read at or before the cursor, of whichever part, and a few before it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) marks: Vec<Mark>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) parked: BTreeSet<u64>,
    /// Of what is parked, what nobody could read yet, of the log (0) or of a replay: no sink's dispatcher has seen it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) held_back: BTreeSet<(i64, u64)>,
    /// Positions up to here were skipped at the size limit: of them nothing is parked either.
    #[serde(default)]
    pub(super) skipped_to: u64,
    /// Whether it was ever delivered anything.
    #[serde(default)]
    pub(super) delivered: bool,
    /// The renaming by which it came here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) renaming: Option<Uuid>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) replays: BTreeMap<i64, Walk>,
}

/// How far a replay is in this part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Walk {
    pub(super) cursor: u64,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) parked: BTreeSet<u64>,
    /// Delivered, or given up on.
    pub(super) delivered: u64,
}

impl Document {
    /// The place of a sink that was nowhere in this part yet.
    pub(super) fn new(known: &Known) -> Self {
        let marks = known.start_id.map(|id| Mark { seq: known.start, id }).into_iter().collect();
        Self { version: VERSION, cursor: known.start, marks, ..Self::default() }
    }

    /// How far it is by events that it knows: from there to the cursor there was none of this part. If there is one now,
    /// it is another than the place has passed.
    pub(super) fn certain(&self) -> u64 {
        self.marks.last().map_or(self.cursor, |mark| mark.seq.max(self.skipped_to).min(self.cursor))
    }

    /// The furthest position that it tells of.
    pub(super) fn furthest(&self) -> u64 {
        let replays = self.replays.values().filter_map(|walk| walk.parked.last());
        self.parked.last().into_iter().chain(replays).copied().fold(self.cursor, u64::max)
    }

    /// Goes back to where the log is as it was; whether it had to. What was parked beyond is not there any more.
    pub(super) fn go_back(&mut self, cut: Cut) -> bool {
        let before = self.clone();
        self.marks.retain(|mark| mark.seq <= cut.upto);
        if self.cursor > cut.upto {
            self.cursor = cut.upto;
            self.marks.extend(cut.mark.filter(|mark| self.marks.last() != Some(mark)));
        }
        self.skipped_to = self.skipped_to.min(cut.upto);
        self.parked.split_off(&(cut.upto + 1));
        self.held_back.retain(|(_, seq)| *seq <= cut.upto);
        for walk in self.replays.values_mut() {
            // What is new there came later than what the replay is of.
            walk.parked.split_off(&(cut.upto + 1));
        }
        *self != before
    }

    /// Nothing up to this position is owed any more.
    pub(super) fn skip_to(&mut self, seq: u64) {
        self.skipped_to = self.skipped_to.max(seq);
        self.cursor = self.cursor.max(seq);
        self.parked = self.parked.split_off(&(seq + 1));
        for walk in self.replays.values_mut() {
            walk.cursor = walk.cursor.max(seq);
            walk.parked = walk.parked.split_off(&(seq + 1));
        }
    }
}

/// The key of the document.
pub(super) fn key(sink: &SinkName, part: Partition) -> String {
    format!("place.{sink}.{part}")
}

/// A place that a consumer works on.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) log: Front,
    pub(super) replays: BTreeMap<i64, Running>,
    pub(super) held_back: BTreeSet<(i64, u64)>,
    pub(super) delivered: bool,
    /// What a change of the document has to name.
    pub(super) revision: u64,
    /// Whether something was settled that is not written yet.
    pub(super) dirty: bool,
    /// The document as it was last written.
    pub(super) written: Document,
}

/// A replay in one part.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) front: Front,
    pub(super) last_seq: u64,
    pub(super) delivered: u64,
}

impl Place {
    /// The place that this document, of this revision, tells of.
    pub(super) fn new(document: Document, revision: u64, replays: &[(i64, Replay)]) -> Self {
        let mut place = Self {
            log: Front::new(document.cursor, document.parked.clone()),
            replays: BTreeMap::new(),
            held_back: document.held_back.clone(),
            delivered: document.delivered,
            revision,
            dirty: false,
            written: document,
        };
        place.know(replays);
        place
    }

    /// Begins what runs now and did not before, and forgets what has ended.
    pub(super) fn know(&mut self, replays: &[(i64, Replay)]) {
        self.replays.retain(|id, _| replays.iter().any(|(running, _)| running == id));
        for (id, replay) in replays {
            let walk = self.written.replays.get(id);
            self.replays.entry(*id).or_insert_with(|| {
                let cursor = walk.map_or(replay.first_seq.saturating_sub(1), |walk| walk.cursor);
                let parked = walk.map(|walk| walk.parked.clone()).unwrap_or_default();
                let delivered = walk.map_or(0, |walk| walk.delivered);
                Running { front: Front::new(cursor, parked), last_seq: replay.last_seq, delivered }
            });
        }
    }

    /// The document as it should be.
    pub(super) fn document(&self, trail: &Trail) -> Document {
        let walk = |running: &Running| Walk {
            cursor: running.front.cursor(),
            parked: running.front.parked().clone(),
            delivered: running.delivered,
        };
        let cursor = self.log.cursor();
        let mut marks = self.written.marks.clone();
        let newest = marks.last().map_or(0, |mark| mark.seq);
        if let Some(mark) = trail.at(cursor).filter(|mark| mark.seq > newest) {
            marks.push(mark);
        }
        Document {
            version: VERSION,
            holder: self.written.holder.clone(),
            cursor,
            marks: thinned(marks),
            parked: self.log.parked().clone(),
            held_back: self.held_back.iter().filter(|(replay, seq)| self.parks(*replay, *seq)).copied().collect(),
            skipped_to: self.written.skipped_to,
            delivered: self.delivered,
            renaming: self.written.renaming,
            replays: self.replays.iter().map(|(id, running)| (*id, walk(running))).collect(),
        }
    }

    /// Goes back to where the log is as it was. What was handed out of what lies beyond is not awaited any more.
    pub(super) fn go_back(&mut self, cut: Cut, trail: &Trail) -> bool {
        let mut document = self.document(trail);
        let changed = document.go_back(cut);
        if changed {
            self.log = Front::new(document.cursor, document.parked.clone());
            self.held_back.clone_from(&document.held_back);
            for running in self.replays.values_mut() {
                let gone: Vec<u64> = running.front.parked().range(cut.upto + 1..).copied().collect();
                for seq in gone {
                    running.front.done(seq);
                }
            }
            self.written = document;
            self.dirty = true;
        }
        changed
    }

    /// The front that a ticket belongs to; 0 is the log.
    pub(super) fn front(&mut self, replay: i64) -> Option<&mut Front> {
        if replay == 0 { Some(&mut self.log) } else { self.replays.get_mut(&replay).map(|running| &mut running.front) }
    }

    fn parks(&self, replay: i64, seq: u64) -> bool {
        let front = if replay == 0 { Some(&self.log) } else { self.replays.get(&replay).map(|running| &running.front) };
        front.is_some_and(|front| front.parked().contains(&seq))
    }

    /// Keeps an event that cannot be read here as one that is owed, and lets others pass it; whether it could: of more
    /// than a place may hold none is passed.
    pub(super) fn hold_back(&mut self, replay: i64, seq: u64) -> bool {
        let Some(front) = self.front(replay).filter(|front| front.parked().len() < HELD_BACK) else { return false };
        front.hand_out([seq], seq);
        front.park(seq);
        self.held_back.insert((replay, seq));
        self.dirty = true;
        true
    }

    /// Whether so much is parked that the document could soon be larger than a message may be. What is handed out already
    /// can still be parked.
    pub(super) fn is_full(&self, max_payload: usize) -> bool {
        let replays: usize = self.replays.values().map(|running| running.front.parked().len()).sum();
        // With what stands around it; of what is held back, once more with its replay.
        let position = self.log.scanned().checked_ilog10().unwrap_or_default() as usize + 2;
        let bytes = (self.log.parked().len() + replays) * position + self.held_back.len() * (position + 10);
        bytes > max_payload / 2
    }

    /// Takes over what somebody else wrote into the document, though this consumer holds it: what was skipped. Its own
    /// words, written and not acknowledged, may stand there as well.
    pub(super) fn merge(&mut self, document: Document, revision: u64) {
        if document.skipped_to > self.written.skipped_to {
            self.log.skip_to(document.skipped_to);
            for running in self.replays.values_mut() {
                running.front.skip_to(document.skipped_to.min(running.last_seq));
            }
        }
        self.written = document;
        self.revision = revision;
        self.dirty = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_full_before_its_document_is_too_large() {
        const MAX_PAYLOAD: usize = 100_000;
        let replay = Replay {
            sink: "crm".parse().unwrap(),
            from: 0,
            to: 0,
            kinds: Vec::new(),
            first_seq: 1,
            last_seq: 10_000_000,
            finished: None,
        };
        for (parks_for, holds_back) in [(0, false), (7, false), (0, true)] {
            let mut place = Place::new(Document::new(&Known::default()), 1, &[(7, replay.clone())]);
            let mut seq = 9_000_000;
            place.log.hand_out([], seq);
            while !place.is_full(MAX_PAYLOAD) {
                seq += 1;
                place.log.hand_out([], seq);
                if holds_back {
                    assert!(place.hold_back(parks_for, seq));
                } else {
                    place.front(parks_for).unwrap().park(seq);
                }
            }
            let bytes = serde_json::to_vec(&place.document(&Trail::default())).unwrap().len();
            assert!((MAX_PAYLOAD / 4..MAX_PAYLOAD * 3 / 4).contains(&bytes), "{bytes}");
        }
    }
}
