//! A sink under another name: its place, what it gave up on, and replays for it.
//!
//! ```text
//! noted in the table ─► each place copied ─► each dead letter handed over ─► the old places removed ─► the table changed
//! ```
//! Each step can be done again, by whichever replica, until the last one has been: what was handed over is known by the
//! renaming's id. Whoever calls it again, the keeper, and a start with the old name in its configuration go on with it.

use uuid::Uuid;

use super::place::{self, Document};
use super::shared::Shared;
use super::sinks::{not_forgotten, not_renamed};
use super::table::{Known, Renaming, Table};
use crate::journal::JournalError;
use crate::names::SinkName;

impl Shared {
    /// Hands the place of an unconfigured sink to another name, or ends that if it was begun.
    pub(super) async fn rename(&self, old: &SinkName, new: &SinkName) -> Result<(), JournalError> {
        if old == new {
            return Err(JournalError::Refused("the two names are the same".to_owned()));
        }
        for places in self.working() {
            places.save(self, true).await?;
        }
        let table = self.fresh_table().await?;
        if !table.sinks.contains_key(old) && table.sinks.get(new).is_some_and(|known| known.was.as_ref() == Some(old)) {
            // It has ended, and who called did not hear of it.
            return Ok(());
        }
        if !has_begun(&table, old, new) {
            self.begin_renaming(old, new, &table).await?;
        }
        self.end_renaming(old).await.map_err(|error| match error {
            JournalError::Unavailable(why) => JournalError::Unavailable(format!(
                "{why}; the renaming of {old} to {new} has begun and is tried again and again, or when it is called again"
            )),
            other => other,
        })
    }

    async fn begin_renaming(&self, old: &SinkName, new: &SinkName, table: &Table) -> Result<(), JournalError> {
        let may = |table: &Table| {
            not_renamed(old, table)?;
            not_renamed(new, table)?;
            not_forgotten(new, table)?;
            self.unconfigured(old, table)
        };
        may(table)?;
        if let Some(taken) = table.sinks.get(new) {
            let last = self.log_info().await?.state.last_sequence;
            let to = self.survey(new, taken, table, last).await?;
            if !table.configured(new) || to.delivered || self.count_letters(new).await? > 0 {
                return Err(JournalError::Refused(format!("sink {new} has a place of its own already")));
            }
        }
        let renaming = Renaming { id: Uuid::new_v4(), to: new.clone() };
        self.change_table(|table| {
            if has_begun(table, old, new) {
                return Ok(false);
            }
            may(table)?;
            table.renamings.insert(old.clone(), renaming.clone());
            Ok(true)
        })
        .await
        .map(|_| ())
    }

    /// Ends the renaming of this sink, if there is one that has begun.
    pub(super) async fn end_renaming(&self, old: &SinkName) -> Result<(), JournalError> {
        let _alone = self.renaming.lock().await;
        self.go_on_with(old).await
    }

    async fn go_on_with(&self, old: &SinkName) -> Result<(), JournalError> {
        // Read before it is seen that it goes on: letters of a new sink of the old name come after this one, however slow
        // this replica is.
        let last_letter = self.last_letter().await?;
        let table = self.fresh_table().await?;
        let (Some(renaming), Some(known)) = (table.renamings.get(old), table.sinks.get(old)) else { return Ok(()) };
        let Renaming { id, to: new } = renaming;
        self.hand_places(old, new, known, *id).await?;
        self.hand_letters(old, new, *id, last_letter).await?;
        let goes_on = |table: &Table| table.renamings.get(old) == Some(renaming);
        self.remove_places(old, goes_on).await?;
        self.change_table(|table| {
            if !goes_on(table) {
                return Ok(false);
            }
            table.renamings.remove(old);
            if let Some(known) = table.sinks.remove(old) {
                let holders = table.sinks.get(new).map(|taken| taken.holders.clone()).unwrap_or_default();
                table.sinks.insert(new.clone(), Known { holders, was: Some(old.clone()), ..known });
            }
            table.replays.values_mut().filter(|replay| replay.sink == *old).for_each(|replay| {
                replay.sink = new.clone();
            });
            table.asked += 1;
            Ok(true)
        })
        .await?;
        // What was handed out here is another place's now.
        if let Some(places) = self.working_on(new) {
            places.moved().cancel();
        }
        Ok(())
    }

    /// Goes on with every renaming that was begun and not ended, unless somebody here does. One that cannot end keeps no
    /// other from it.
    pub(super) async fn end_renamings(&self) -> Result<(), JournalError> {
        let Ok(_alone) = self.renaming.try_lock() else { return Ok(()) };
        let mut result = Ok(());
        for old in self.table().renamings.keys() {
            result = result.and(self.go_on_with(old).await);
        }
        result
    }

    async fn hand_places(&self, old: &SinkName, new: &SinkName, known: &Known, id: Uuid) -> Result<(), JournalError> {
        for part in 0..self.partitions() {
            let kept = self.state.get::<Document>(&place::key(old, part)).await?;
            let document = kept.map_or_else(|| Document::new(known), |kept| kept.value);
            // Whoever works on it finds out, and goes on from here.
            let hand = |place: &mut Document| {
                if place.renaming == Some(id) {
                    return Ok(false);
                }
                *place = Document { holder: String::new(), renaming: Some(id), ..document.clone() };
                Ok(true)
            };
            self.state.change(&place::key(new, part), hand).await?;
        }
        Ok(())
    }
}

/// Whether this renaming has begun and not ended.
fn has_begun(table: &Table, old: &SinkName, new: &SinkName) -> bool {
    table.renamings.get(old).is_some_and(|renaming| renaming.to == *new)
}
