//! The dead letters that one consumer hands out again: those that changed are looked at a few with each read, however
//! many there are, and one that cannot be looked at now keeps nothing from the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::partition::Partition;
use crate::journal::JournalError;

/// Letters looked at in one read.
pub(super) const LOOKED: usize = 256;
/// How many of them at once.
const AT_ONCE: usize = 16;
/// Before one is looked at again that could not be.
const AGAIN: Duration = Duration::from_secs(1);

/// The letters.
#[derive(Debug, Default)]
pub(super) struct Retries {
    /// Those that changed once, and were not looked at since somebody asked last.
    unseen: BTreeMap<i64, Partition>,
    /// Those that could not be looked at, and since when.
    put_off: BTreeMap<i64, Partition>,
    put_off_at: Option<Instant>,
    /// Those that wait to be handed out.
    waiting: BTreeMap<i64, Partition>,
    /// Those that were handed out and not settled.
    handed: BTreeSet<i64>,
}

impl Retries {
    /// These changed once, and any of them may have been asked for since it was looked at.
    pub(super) fn list(&mut self, letters: impl IntoIterator<Item = (i64, Partition)>) {
        let new = |(id, _): &(i64, Partition)| !self.waiting.contains_key(id) && !self.handed.contains(id);
        self.unseen = letters.into_iter().filter(new).collect();
        self.put_off.clear();
    }

    /// Looks at some of those that were not looked at, the oldest first: whether each is to be tried again. Cancel-safe.
    pub(super) async fn look<F>(&mut self, is_asked_for: impl Fn(i64, Partition) -> F)
    where
        F: Future<Output = Result<bool, JournalError>>,
    {
        if self.put_off_at.is_some_and(|at| at.elapsed() >= AGAIN) {
            self.unseen.append(&mut self.put_off);
            self.put_off_at = None;
        }
        let some: Vec<(i64, Partition)> = self.unseen.iter().take(LOOKED).map(|(id, part)| (*id, *part)).collect();
        let looks = some.into_iter().map(|(id, part)| {
            let look = is_asked_for(id, part);
            async move { (id, part, look.await) }
        });
        let mut looked = stream::iter(looks).buffered(AT_ONCE);
        while let Some((id, part, asked_for)) = looked.next().await {
            self.unseen.remove(&id);
            match asked_for {
                Ok(true) => {
                    self.waiting.insert(id, part);
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(letter = id, %error, "whether a dead letter is to be tried again is looked at later");
                    self.put_off(id, part);
                }
            }
        }
    }

    fn put_off(&mut self, id: i64, part: Partition) {
        self.put_off.insert(id, part);
        self.put_off_at.get_or_insert_with(Instant::now);
    }

    /// The next one to hand out.
    pub(super) fn next(&self) -> Option<i64> {
        self.waiting.first_key_value().map(|(id, _)| *id)
    }

    /// The next one is handed out.
    pub(super) fn hand_out(&mut self) {
        self.handed.extend(self.waiting.pop_first().map(|(id, _)| id));
    }

    /// The next one is not to be handed out.
    pub(super) fn pass_over(&mut self) {
        self.waiting.pop_first();
    }

    /// The next one cannot be handed out now.
    pub(super) fn hand_out_later(&mut self) {
        if let Some((id, part)) = self.waiting.pop_first() {
            self.put_off(id, part);
        }
    }

    /// Whether an outcome of this one is awaited.
    pub(super) fn awaits(&self, id: i64) -> bool {
        self.handed.contains(&id)
    }

    /// This one has its outcome.
    pub(super) fn settle(&mut self, id: i64) {
        self.handed.remove(&id);
    }

    /// Whether the next read may hand some out.
    pub(super) fn has_more(&self) -> bool {
        !self.unseen.is_empty() || !self.waiting.is_empty()
    }

    /// Whether there is none that may still have to be handed out.
    pub(super) fn is_done(&self) -> bool {
        !self.has_more() && self.put_off.is_empty()
    }

    /// When those are looked at again that could not be, if there are any.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.put_off_at.filter(|_| !self.put_off.is_empty()).map(|at| at + AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn listed(letters: std::ops::Range<i64>) -> Retries {
        let mut retries = Retries::default();
        retries.list(letters.map(|id| (id, 0)));
        retries
    }

    fn handed_out(retries: &mut Retries) -> Vec<i64> {
        let mut handed = Vec::new();
        while let Some(id) = retries.next() {
            retries.hand_out();
            handed.push(id);
        }
        handed
    }

    #[tokio::test]
    async fn a_read_looks_at_some_and_each_is_looked_at_once() {
        let count = i64::try_from(2 * LOOKED + 10).unwrap();
        let mut retries = listed(0..count);
        let looked = Mutex::new(Vec::new());
        let mut reads = 0;
        while retries.has_more() {
            let before = looked.lock().unwrap().len();
            retries
                .look(|id, _| {
                    looked.lock().unwrap().push(id);
                    async move { Ok(id % 2 == 0) }
                })
                .await;
            assert!(looked.lock().unwrap().len() - before <= LOOKED);
            let odd = handed_out(&mut retries).iter().any(|id| id % 2 != 0);
            assert!(!odd);
            reads += 1;
        }
        assert_eq!((reads, looked.into_inner().unwrap()), (3, (0..count).collect::<Vec<_>>()));
        assert!(retries.is_done());
    }

    #[tokio::test]
    async fn one_that_cannot_be_looked_at_is_put_off_and_the_others_are_not() {
        let mut retries = listed(0..5);
        let looked = Mutex::new(Vec::new());
        let look = |id: i64, works: bool| {
            looked.lock().unwrap().push(id);
            async move { if id != 2 || works { Ok(true) } else { Err(JournalError::Closed) } }
        };
        retries.look(|id, _| look(id, false)).await;
        assert_eq!(handed_out(&mut retries), [0, 1, 3, 4]);
        assert!(!retries.has_more() && !retries.is_done() && retries.again_at().is_some());
        retries.put_off_at = Instant::now().checked_sub(AGAIN);
        retries.look(|id, _| look(id, true)).await;
        assert_eq!(handed_out(&mut retries), [2]);
        assert!(retries.is_done() && retries.again_at().is_none());
        assert_eq!(*looked.lock().unwrap(), [0, 1, 2, 3, 4, 2]);
    }

    #[tokio::test]
    async fn what_waits_or_was_handed_out_is_not_looked_at_again() {
        let mut retries = listed(0..3);
        retries.look(async |_, _| Ok(true)).await;
        retries.hand_out();
        assert!(retries.awaits(0) && !retries.awaits(1));
        retries.list((0..4).map(|id| (id, 0)));
        let looked = Mutex::new(Vec::new());
        retries
            .look(|id, _| {
                looked.lock().unwrap().push(id);
                async { Ok(true) }
            })
            .await;
        assert_eq!(looked.into_inner().unwrap(), [3]);
        retries.settle(0);
        assert_eq!(handed_out(&mut retries), [1, 2, 3]);
    }
}
