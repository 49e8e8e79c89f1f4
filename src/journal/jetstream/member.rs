//! This replica among the others: a task that shows that it is alive, looks who else is, and takes its share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use super::shared::{Shared, View};
use super::table::VERSION;
use crate::journal::JournalError;

/// Signs of life within a lease.
const BEATS: u32 = 5;

impl Shared {
    /// One sign of life, and what follows from those of others.
    pub(super) async fn turn(&self) -> Result<(), JournalError> {
        let mut seen = self.seen.lock().await;
        if self.stop.is_cancelled() {
            // It would come back after it left.
            return Ok(());
        }
        let sinks = self.configured();
        let working = self.working();
        let uses =
            |sink: &_, part: u16| working.iter().any(|places| places.sink() == sink && places.parts().contains(&part));
        let lease = self.own.lease;
        let mut gone = Vec::new();
        let table = self
            .state
            .change(super::shared::TABLE, |table: &mut super::table::Table| {
                seen.note(table, Instant::now(), lease / BEATS * 2);
                gone = seen.gone(lease);
                gone.retain(|member| *member != self.me);
                table.version = VERSION;
                table.turn(&self.me, &sinks, &gone, self.partitions(), uses);
                Ok(true)
            })
            .await?;
        for replica in gone {
            tracing::info!(%replica, ?lease, "a replica is silent; the others take over what it handed out");
        }
        self.view.send_replace(View { table: Arc::new(table), alive: true });
        Ok(())
    }

    /// Takes this replica off.
    pub(super) async fn leave(&self) -> Result<(), JournalError> {
        // After the turn that is under way.
        let _alone = self.seen.lock().await;
        self.change_table(|table| {
            table.leave(&self.me);
            Ok(true)
        })
        .await
        .map(|_| ())
    }
}

/// Takes turns until the journal stops.
pub(super) async fn take_turns(shared: Arc<Shared>) {
    let beat: Duration = shared.own.lease / BEATS;
    let mut ticks = tokio::time::interval(beat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    let mut failing = false;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match tokio::time::timeout(shared.own.lease, shared.turn())
            .await
            .unwrap_or_else(|_| Err(JournalError::Unavailable("the servers do not answer".to_owned())))
        {
            Ok(()) => {
                last = Instant::now();
                if failing {
                    failing = false;
                    tracing::info!("the journal's servers answer again");
                }
            }
            Err(error) => {
                if !failing {
                    failing = true;
                    tracing::warn!(%error, "the journal's servers do not answer as they should");
                }
                shared.trouble(Some(&error));
                if last.elapsed() > shared.own.lease {
                    // Others may have taken over what was this replica's.
                    shared.view.send_if_modified(|view| std::mem::take(&mut view.alive));
                }
            }
        }
    }
}
