//! The places that one consumer works on, and the task that writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::failing::{Failing, News};
use super::marks::{Cut, Mark, Trail};
use super::partition::Partition;
use super::place::{self, Document, Place};
use super::shared::Shared;
use super::state::{Kept, NotPut};
use super::table::Replay;
use crate::journal::JournalError;
use crate::names::SinkName;

/// How long an outcome may wait to be written: what a crash makes a sink get again.
const DELAY: Duration = Duration::from_millis(200);
/// How often a place is written in which nothing happened but that others' events were passed over.
const IDLE: Duration = Duration::from_secs(10);
/// How often it is looked whether the log is as it was.
const VERIFY: Duration = Duration::from_secs(1);
/// Places read or written at once.
const AT_ONCE: usize = 16;

/// The places.
pub(super) struct Places {
    sink: SinkName,
    /// The name of the consumer.
    holder: String,
    parts: BTreeSet<Partition>,
    places: Mutex<BTreeMap<Partition, Place>>,
    /// What was read of the log. Locked after the places.
    trail: Mutex<Trail>,
    /// One writes at a time.
    writing: tokio::sync::Mutex<()>,
    changed: Notify,
    /// The consumer is to end: another has a place of it, or is to have one.
    moved: CancellationToken,
}

impl Places {
    /// Takes these parts over: what another consumer of them writes from now on is refused.
    pub(super) async fn take(
        shared: &Shared,
        sink: &SinkName,
        parts: BTreeSet<Partition>,
        replays: &[(i64, Replay)],
    ) -> Result<Self, JournalError> {
        let holder = uuid::Uuid::new_v4().to_string();
        let known = shared.table().sinks.get(sink).cloned().unwrap_or_default();
        let taken = stream::iter(parts.iter().copied())
            .map(|part| {
                let (holder, known) = (&holder, &known);
                async move {
                    let key = place::key(sink, part);
                    let take = |document: &mut Document| {
                        if document.version == 0 {
                            *document = Document::new(known);
                        }
                        document.holder.clone_from(holder);
                        Ok(true)
                    };
                    shared.state.change(&key, take).await?;
                    // Read once more for its revision: whoever wrote since has taken it.
                    let kept = shared.state.get::<Document>(&key).await?;
                    let kept = kept.filter(|kept| kept.value.holder == *holder);
                    let kept = kept.ok_or_else(|| JournalError::Refused(format!("sink {sink} was taken over")))?;
                    Ok((part, kept))
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<Result<_, JournalError>>>()
            .await;
        let taken = taken.into_iter().collect::<Result<BTreeMap<_, Kept<Document>>, _>>()?;
        let marks = taken.values().flat_map(|kept| kept.value.marks.iter().copied()).collect();
        let furthest = taken.values().map(|kept| kept.value.furthest()).max().unwrap_or_default();
        let cut = shared.cut(&marks, furthest).await?;
        let mut went_back = false;
        let places = taken.into_iter().map(|(part, Kept { mut value, revision })| {
            let dirty = cut.is_some_and(|cut| value.go_back(cut));
            went_back |= dirty;
            value.cursor = value.certain();
            let mut place = Place::new(value, revision, replays);
            place.dirty = dirty;
            (part, place)
        });
        let places = places.collect();
        if let Some(cut) = cut.filter(|_| went_back) {
            tell(sink, cut, furthest);
        }
        Ok(Self {
            sink: sink.clone(),
            holder,
            parts,
            places: Mutex::new(places),
            trail: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            moved: CancellationToken::new(),
        })
    }

    /// The sink they are of.
    pub(super) fn sink(&self) -> &SinkName {
        &self.sink
    }

    /// The parts they are of.
    pub(super) fn parts(&self) -> &BTreeSet<Partition> {
        &self.parts
    }

    /// All of them. Held only for work in memory.
    pub(super) fn all(&self) -> MutexGuard<'_, BTreeMap<Partition, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read of the log. To be locked after the places.
    pub(super) fn trail(&self) -> MutexGuard<'_, Trail> {
        self.trail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest event that was read, or that an earlier consumer noted.
    fn newest(&self) -> Option<Mark> {
        let places = self.all();
        let read = self.trail().at(u64::MAX);
        read.or_else(|| places.values().filter_map(|place| place.written.marks.last().copied()).max())
    }

    /// Goes back if the log did, and has the consumer end then: the next one begins where the log is as it was.
    /// `before` is what was newest the last time.
    async fn verify(&self, shared: &Shared, before: &mut Option<Mark>) -> Result<(), JournalError> {
        let newest = self.newest();
        let looked: Vec<Mark> = newest.into_iter().chain(before.filter(|before| Some(*before) != newest)).collect();
        if shared.has(&looked).await? {
            *before = newest;
            return Ok(());
        }
        let (marks, furthest) = {
            let places = self.all();
            let noted = places.values().flat_map(|place| place.written.marks.iter().copied());
            let marks = noted.chain(self.trail().marks()).chain(looked).collect();
            (marks, places.values().map(|place| place.log.scanned()).max().unwrap_or_default())
        };
        let Some(cut) = shared.cut(&marks, furthest).await? else {
            *before = newest;
            return Ok(());
        };
        let _alone = self.writing.lock().await;
        // Nothing is read from here on.
        self.moved.cancel();
        let mut places = self.all();
        let mut trail = self.trail();
        let mut went_back = false;
        for place in places.values_mut() {
            went_back |= place.go_back(cut, &trail);
        }
        trail.cut(cut);
        if went_back {
            tell(&self.sink, cut, furthest);
        }
        self.changed();
        Ok(())
    }

    /// Has them written soon.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Cancelled when the consumer is to end.
    pub(super) fn moved(&self) -> &CancellationToken {
        &self.moved
    }

    /// Writes what was settled; with `all`, also how far it passed over others' events.
    pub(super) async fn save(&self, shared: &Shared, all: bool) -> Result<(), JournalError> {
        let _alone = self.writing.lock().await;
        let due: Vec<(Partition, Document, u64)> = {
            let mut places = self.all();
            let mut trail = self.trail();
            trail.forget_before(places.values().map(|place| place.log.cursor()).min().unwrap_or_default());
            let due = places.iter_mut().filter_map(|(part, place)| {
                let document = place.document(&trail);
                let write = place.dirty || all && document != place.written;
                // What is settled from now on is written the next time.
                place.dirty &= !write;
                write.then_some((*part, document, place.revision))
            });
            due.collect()
        };
        let written: Vec<Result<(), JournalError>> = stream::iter(due)
            .map(|(part, document, revision)| self.write(shared, part, document, revision))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        written.into_iter().collect()
    }

    async fn write(
        &self,
        shared: &Shared,
        part: Partition,
        document: Document,
        revision: u64,
    ) -> Result<(), JournalError> {
        let key = place::key(&self.sink, part);
        let outcome = match shared.state.put(&key, &document, revision).await {
            Ok(revision) => {
                if let Some(place) = self.all().get_mut(&part) {
                    place.revision = revision;
                    place.written = document;
                }
                return Ok(());
            }
            Err(NotPut::Failed(error)) => Err(error),
            Err(NotPut::Changed) => match shared.state.get::<Document>(&key).await {
                Ok(Some(kept)) if kept.value.holder == self.holder => {
                    if let Some(place) = self.all().get_mut(&part) {
                        place.merge(kept.value, kept.revision);
                    }
                    self.changed();
                    return Ok(());
                }
                Ok(_) => {
                    tracing::info!(sink = %self.sink, part, "another replica hands out this part now");
                    // What becomes of its events here is not this consumer's to tell any more.
                    self.all().remove(&part);
                    self.moved.cancel();
                    return Ok(());
                }
                Err(error) => Err(error),
            },
        };
        if let Some(place) = self.all().get_mut(&part) {
            place.dirty = true;
        }
        outcome
    }
}

/// Writes places as long as the consumer is there, and tells it when it is to end.
pub(super) async fn look_after(shared: Arc<Shared>, places: Arc<Places>) {
    let mut view = shared.view.subscribe();
    let mut idle = tokio::time::interval(IDLE);
    let mut verify = tokio::time::interval(VERIFY);
    verify.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    let mut failing = Failing::default();
    loop {
        let all = tokio::select! {
            () = places.changed.notified() => false,
            _ = idle.tick() => true,
            _ = verify.tick(), if !places.moved.is_cancelled() => {
                if let Err(error) = places.verify(&shared, &mut before).await {
                    tracing::debug!(sink = %places.sink, %error, "whether the log went back is looked at later");
                }
                continue;
            }
            changed = view.changed() => {
                if changed.is_err() {
                    return;
                }
                let mine = mine(&shared, &places.sink);
                if mine != places.parts {
                    places.moved.cancel();
                }
                continue;
            }
        };
        if !all {
            tokio::time::sleep(DELAY).await;
        }
        let saved = places.save(&shared, all).await;
        let (sink, news) = (&places.sink, failing.note(saved.is_ok()));
        match (news, &saved) {
            (Some(News::Fails), Err(error)) => tracing::warn!(
                %sink, %error,
                "how far the sink is cannot be written, which is tried again and again; until then a restart makes it get \
                 again what it has"
            ),
            (Some(News::WorksAgain), _) => tracing::info!(%sink, "how far the sink is can be written again"),
            (_, Err(error)) => tracing::debug!(%sink, %error, "places are written later"),
            (_, Ok(())) => {}
        }
        if saved.is_err() {
            places.changed();
        }
    }
}

fn tell(sink: &SinkName, cut: Cut, was: u64) {
    tracing::warn!(
        %sink, was, now = cut.upto,
        "the log went back behind the place of the sink, which goes on from the last position that is as it was; what \
         came after it may be lost, or come again"
    );
}

/// What this replica is to hand out to this sink now.
pub(super) fn mine(shared: &Shared, sink: &SinkName) -> BTreeSet<Partition> {
    let view = shared.view.borrow();
    if view.alive { view.table.mine(&shared.me, sink, shared.partitions()) } else { BTreeSet::new() }
}
