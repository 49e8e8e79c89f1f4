//! The newest events, kept in memory: a sink that is up to date is handed them from here, rather than having them read
//! back from the file they were written to a moment ago.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::page::{Budget, Page, Request, WINDOW};
use crate::event::Record;

/// Positions that are kept.
const POSITIONS: usize = 8192;
/// Bytes that are kept, by [`weight`].
const BYTES: usize = 8 * 1024 * 1024;
/// Events with more raw bytes are read from the file: they are rare, and one of them would push out all others.
pub(super) const MAX_RAW: usize = 64 * 1024;

/// What is kept of a position.
pub(super) enum Slot {
    /// No sink of the configuration wants the event.
    Unwanted,
    /// The event.
    Event(Arc<Record>),
    /// The event is only in the file.
    InFile,
}

/// About the bytes that a slot takes.
fn weight(slot: &Slot) -> usize {
    match slot {
        Slot::Event(record) => record.raw.len() + 512,
        Slot::Unwanted | Slot::InFile => 0,
    }
}

#[derive(Default)]
struct Slots {
    /// The position of the first slot; those behind it follow without holes.
    first: u64,
    slots: VecDeque<Slot>,
    bytes: usize,
}

/// The end of the log. Only what is committed is in it.
#[derive(Default)]
pub(super) struct Tail(Mutex<Slots>);

impl Tail {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        // What a panic elsewhere leaves is whole, or shorter than it should be, which only costs reading the file.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was committed, the first of it at position `first`.
    pub(super) fn extend(&self, first: u64, committed: Vec<Slot>) {
        let mut tail = self.slots();
        if tail.first + tail.slots.len() as u64 != first {
            *tail = Slots { first, ..Slots::default() };
        }
        for slot in committed {
            tail.bytes += weight(&slot);
            tail.slots.push_back(slot);
        }
        while (tail.slots.len() > POSITIONS || tail.bytes > BYTES)
            && let Some(oldest) = tail.slots.pop_front()
        {
            tail.bytes -= weight(&oldest);
            tail.first += 1;
        }
    }

    /// The next events, as far as the budget goes and as far as they are here; none, if the first of them is not.
    pub(super) fn read(&self, request: &Request, budget: &mut Budget) -> Option<Page> {
        let tail = self.slots();
        let begin = usize::try_from((request.after + 1).checked_sub(tail.first)?).ok()?;
        let mut page = Page { scanned: request.after, ..Page::default() };
        for slot in tail.slots.range(begin.min(tail.slots.len())..).take(WINDOW) {
            let seq = page.scanned + 1;
            if seq > request.upto {
                break;
            }
            match slot {
                Slot::InFile => break,
                Slot::Event(record) if request.is_for_record(record, seq) => {
                    if !budget.admits(record.raw.len()) {
                        break;
                    }
                    page.events.push((seq, Arc::clone(record)));
                }
                Slot::Event(_) | Slot::Unwanted => {}
            }
            page.scanned = seq;
        }
        page.more = page.scanned < request.upto;
        (page.scanned > request.after).then_some(page)
    }
}
