//! Who hands out what: one document that all replicas read and change, each change on the condition that nobody else
//! changed it meanwhile. Pure: the document, the time and who is gone come in.
//!
//! A replica shows that it is alive by raising its beat. Each part of the log has, for each sink, one holder at most. A
//! holder gives a part up only when it has finished with it; one that is gone is taken off by the others, and what it
//! held is free. What is free is taken by the one whose share it is, and the document alone says whose it is, so that
//! all agree.
//!
//! This keeps replicas from working on the same events; that nothing is lost and nobody's events overtake each other
//! does not depend on it (see `place`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::partition::Partition;
use crate::event::EventId;
use crate::filter::Pattern;
use crate::names::SinkName;

/// The name of a replica: new with each start.
pub(super) type Member = String;

/// The version of the document, and of all others beside it.
pub(super) const VERSION: u32 = 1;

/// Replays that are remembered when they have ended.
const REPLAYS: usize = 100;

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) version: u32,
    /// The replicas that are alive.
    pub(super) members: BTreeMap<Member, Alive>,
    /// Every sink the journal knows.
    pub(super) sinks: BTreeMap<SinkName, Known>,
    /// Replays, running or ended, by number.
    pub(super) replays: BTreeMap<i64, Replay>,
    /// The number of the next replay.
    pub(super) next_replay: i64,
    /// Grows when somebody asks for something that consumers have to look for.
    pub(super) asked: u64,
    /// Sinks whose places are on their way to another name, by the name they had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) renamings: BTreeMap<SinkName, Renaming>,
    /// Sinks that the journal knows no more, of which something may still be written, and the last of the numbers that
    /// their dead letters may have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) forgetting: BTreeMap<SinkName, i64>,
}

/// A renaming that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Renaming {
    /// By which what was handed over is known.
    pub(super) id: Uuid,
    /// The new name.
    pub(super) to: SinkName,
}

/// A replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Alive {
    /// Grows as long as it is alive.
    pub(super) beat: u64,
    /// The sinks it has in its configuration.
    pub(super) sinks: BTreeSet<SinkName>,
}

/// A sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The position after which it begins.
    pub(super) start: u64,
    /// The event there, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) start_id: Option<EventId>,
    /// The name whose place it was given last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) was: Option<SinkName>,
    /// Events it lost at the size limit.
    pub(super) skipped: u64,
    /// The holder of each part of the log.
    pub(super) holders: Vec<Option<Member>>,
}

/// A replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replay {
    pub(super) sink: SinkName,
    /// Received at or after, in milliseconds.
    pub(super) from: i64,
    /// Received before, in milliseconds.
    pub(super) to: i64,
    pub(super) kinds: Vec<Pattern>,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    /// How many events were delivered, when it has ended.
    pub(super) finished: Option<u64>,
}

/// What a replica has seen of the others: the last beat of each, and how long it has looked at it since, by its own
/// clock. The time between two looks counts up to a limit only: a replica that stood still, or could not reach the
/// servers, has not seen the others silent for so long.
#[derive(Debug, Default)]
pub(super) struct Seen {
    looked: Option<Instant>,
    members: HashMap<Member, (u64, Duration)>,
}

impl Seen {
    /// Notes who is alive now. The time since the last look counts as `at_most` if it was longer.
    pub(super) fn note(&mut self, table: &Table, now: Instant, at_most: Duration) {
        let passed = self.looked.replace(now).map_or(Duration::ZERO, |looked| now.duration_since(looked).min(at_most));
        self.members.retain(|member, _| table.members.contains_key(member));
        for (member, alive) in &table.members {
            let (beat, silence) = self.members.entry(member.clone()).or_insert((alive.beat, Duration::ZERO));
            *silence = if *beat == alive.beat { *silence + passed } else { Duration::ZERO };
            *beat = alive.beat;
        }
    }

    /// Who showed no sign of life for so long.
    pub(super) fn gone(&self, lease: Duration) -> Vec<Member> {
        let silent = self.members.iter().filter(|(_, (_, silence))| *silence > lease);
        silent.map(|(member, _)| member.clone()).collect()
    }
}

impl Table {
    /// A sign of life of this replica with these sinks, the others that are gone taken off, and its share taken: of
    /// what it holds and is no longer to hold it gives up what it does not use.
    pub(super) fn turn(
        &mut self,
        me: &str,
        sinks: &BTreeSet<SinkName>,
        gone: &[Member],
        partitions: Partition,
        uses: impl Fn(&SinkName, Partition) -> bool,
    ) {
        for member in gone.iter().filter(|member| *member != me) {
            self.members.remove(member);
        }
        let alive = self.members.entry(me.to_owned()).or_default();
        alive.beat += 1;
        alive.sinks.clone_from(sinks);
        let names: Vec<SinkName> = self.sinks.keys().cloned().collect();
        for sink in names {
            let shares = self.shares(&sink, partitions);
            let members = &self.members;
            let Some(known) = self.sinks.get_mut(&sink) else { continue };
            known.holders.resize(partitions.into(), None);
            for ((holder, share), part) in known.holders.iter_mut().zip(shares).zip(0..) {
                if holder.as_ref().is_some_and(|holder| !members.contains_key(holder)) {
                    *holder = None;
                }
                match holder {
                    Some(holder) if holder == me && share.as_deref() != Some(me) && !uses(&sink, part) => {
                        // To the next one at once: it need not come by again to take it.
                        if let Some(share) = share {
                            *holder = share;
                        }
                    }
                    None if share.as_deref() == Some(me) => *holder = share,
                    _ => {}
                }
            }
        }
    }

    /// Takes this replica off, in order: what it held is free.
    pub(super) fn leave(&mut self, me: &str) {
        self.members.remove(me);
        for known in self.sinks.values_mut() {
            for holder in known.holders.iter_mut().filter(|holder| holder.as_deref() == Some(me)) {
                *holder = None;
            }
        }
    }

    /// What this replica is to hand out to a sink: what it holds and is to go on holding. Nobody hands anything out to
    /// either name of a renaming before it has ended.
    pub(super) fn mine(&self, me: &str, sink: &SinkName, partitions: Partition) -> BTreeSet<Partition> {
        let Some(known) = self.sinks.get(sink).filter(|_| self.renaming(sink).is_none()) else {
            return BTreeSet::new();
        };
        let shares = self.shares(sink, partitions);
        let mine = known
            .holders
            .iter()
            .zip(shares)
            .zip(0..)
            .filter(|((holder, share), _)| holder.as_deref() == Some(me) && share.as_deref() == Some(me));
        mine.map(|(_, part)| part).collect()
    }

    /// Whose share each part is: as equal as can be among those that have the sink, and as little moved as can be.
    fn shares(&self, sink: &SinkName, partitions: Partition) -> Vec<Option<Member>> {
        let members: Vec<&Member> =
            self.members.iter().filter(|(_, alive)| alive.sinks.contains(sink)).map(|(member, _)| member).collect();
        let count = usize::from(partitions);
        let mut shares: Vec<Option<Member>> = vec![None; count];
        if members.is_empty() {
            return shares;
        }
        let (each, mut one_more) = (count / members.len(), count % members.len());
        let holders = self.sinks.get(sink).map(|known| known.holders.as_slice()).unwrap_or_default();
        let mut counts: BTreeMap<&Member, usize> = members.iter().map(|member| (*member, 0)).collect();
        for member in &members {
            let held: Vec<usize> = holders
                .iter()
                .enumerate()
                .filter(|(_, holder)| holder.as_ref() == Some(*member))
                .map(|(at, _)| at)
                .collect();
            let mut keeps = each;
            if held.len() > each && one_more > 0 {
                one_more -= 1;
                keeps += 1;
            }
            for part in held.into_iter().take(keeps).filter(|part| *part < count) {
                shares[part] = Some((*member).clone());
                *counts.entry(*member).or_default() += 1;
            }
        }
        for share in shares.iter_mut().filter(|share| share.is_none()) {
            let fewest = counts.iter().min_by_key(|(_, count)| **count).map(|(member, _)| *member);
            if let Some(member) = fewest {
                *share = Some(member.clone());
                *counts.entry(member).or_default() += 1;
            }
        }
        shares
    }

    /// The renaming that this is one of the names of: the old one and the new one.
    pub(super) fn renaming(&self, sink: &SinkName) -> Option<(&SinkName, &SinkName)> {
        let mut renamings = self.renamings.iter().map(|(old, renaming)| (old, &renaming.to));
        renamings.find(|(old, new)| *old == sink || *new == sink)
    }

    /// Whether a replica that is alive has the sink in its configuration.
    pub(super) fn configured(&self, sink: &SinkName) -> bool {
        self.members.values().any(|alive| alive.sinks.contains(sink))
    }

    /// The running replays of a sink.
    pub(super) fn running<'a>(&'a self, sink: &'a SinkName) -> impl Iterator<Item = (i64, &'a Replay)> {
        self.replays
            .iter()
            .filter(move |(_, replay)| replay.sink == *sink && replay.finished.is_none())
            .map(|(id, replay)| (*id, replay))
    }

    /// Adds a replay; its number.
    pub(super) fn add_replay(&mut self, replay: Replay) -> i64 {
        self.next_replay += 1;
        self.replays.insert(self.next_replay, replay);
        let ended = self.replays.iter().filter(|(_, replay)| replay.finished.is_some()).map(|(id, _)| *id);
        let ended: Vec<i64> = ended.collect();
        for id in ended.iter().take(ended.len().saturating_sub(REPLAYS)) {
            self.replays.remove(id);
        }
        self.asked += 1;
        self.next_replay
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTS: Partition = 12;

    fn crm() -> SinkName {
        "crm".parse().unwrap()
    }

    fn table() -> Table {
        Table { sinks: BTreeMap::from([(crm(), Known::default())]), ..Table::default() }
    }

    /// A turn of one that stops using at once what it is not to have.
    fn turn(table: &mut Table, me: &str, gone: &[&str]) {
        let gone: Vec<Member> = gone.iter().map(|member| (*member).to_owned()).collect();
        table.turn(me, &BTreeSet::from([crm()]), &gone, PARTS, |_, _| false);
    }

    fn counts(table: &Table, members: &[&str]) -> Vec<usize> {
        members.iter().map(|member| table.mine(member, &crm(), PARTS).len()).collect()
    }

    #[test]
    fn the_first_takes_all_and_later_ones_their_share() {
        let mut table = table();
        turn(&mut table, "a", &[]);
        assert_eq!(counts(&table, &["a"]), [12]);
        turn(&mut table, "b", &[]);
        // What it is to have is in use still.
        assert_eq!(counts(&table, &["a", "b"]), [6, 0]);
        turn(&mut table, "a", &[]);
        assert_eq!(counts(&table, &["a", "b"]), [6, 6]);
        for member in ["c", "a", "b", "c"] {
            turn(&mut table, member, &[]);
        }
        assert_eq!(counts(&table, &["a", "b", "c"]), [4, 4, 4]);
    }

    #[test]
    fn what_is_in_use_stays_until_it_is_not() {
        let mut table = table();
        turn(&mut table, "a", &[]);
        turn(&mut table, "b", &[]);
        table.turn("a", &BTreeSet::from([crm()]), &[], PARTS, |_, part| part < 11);
        let holders = &table.sinks[&crm()].holders;
        assert_eq!(holders.iter().filter(|holder| holder.as_deref() == Some("b")).count(), 1);
        assert_eq!(counts(&table, &["a", "b"]), [6, 1]);
    }

    #[test]
    fn of_one_that_is_gone_the_others_take_all_and_keep_their_own() {
        let mut table = table();
        for member in ["a", "b", "c", "a", "b", "c", "a"] {
            turn(&mut table, member, &[]);
        }
        let before = table.mine("a", &crm(), PARTS);
        turn(&mut table, "b", &["c"]);
        turn(&mut table, "a", &[]);
        assert_eq!(counts(&table, &["a", "b", "c"]), [6, 6, 0]);
        assert!(table.mine("a", &crm(), PARTS).is_superset(&before));
    }

    #[test]
    fn silence_is_measured_by_ones_own_clock_and_not_while_one_could_not_look() {
        let (lease, begin) = (Duration::from_secs(5), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut table = table();
        turn(&mut table, "a", &[]);
        turn(&mut table, "b", &[]);
        let mut seen = Seen::default();
        let mut look = |table: &Table, seconds| {
            seen.note(table, at(seconds), Duration::from_secs(2));
            seen.gone(lease)
        };
        assert!(look(&table, 0).is_empty());
        for seconds in [2, 4] {
            turn(&mut table, "a", &[]);
            assert!(look(&table, seconds).is_empty());
        }
        // A day in which it did not look.
        turn(&mut table, "b", &[]);
        assert!(look(&table, 86_400).is_empty());
        assert!(look(&table, 86_402).is_empty());
        turn(&mut table, "a", &[]);
        assert!(look(&table, 86_404).is_empty());
        assert_eq!(look(&table, 86_406), ["b"]);
    }

    #[test]
    fn neither_name_of_a_renaming_is_handed_out() {
        let mut table = table();
        turn(&mut table, "a", &[]);
        for (old, new) in [("crm", "new"), ("old", "crm")] {
            let renaming = Renaming { id: Uuid::nil(), to: new.parse().unwrap() };
            table.renamings = BTreeMap::from([(old.parse().unwrap(), renaming)]);
            assert_eq!(counts(&table, &["a"]), [0]);
        }
        table.renamings.clear();
        assert_eq!(counts(&table, &["a"]), [12]);
    }

    #[test]
    fn who_leaves_holds_nothing() {
        let mut table = table();
        turn(&mut table, "a", &[]);
        turn(&mut table, "b", &[]);
        table.leave("a");
        turn(&mut table, "b", &[]);
        assert_eq!(counts(&table, &["a", "b"]), [0, 12]);
    }

    proptest! {
        /// Whoever comes, goes and takes turns in whatever order: when all that are alive have had a few turns, each
        /// part has one holder, and shares differ by one at most.
        #[test]
        fn shares_become_equal_and_whole(steps in prop::collection::vec((0..5_usize, any::<bool>()), 0..60)) {
            let names = ["a", "b", "c", "d", "e"];
            let mut table = table();
            let mut alive: BTreeSet<usize> = BTreeSet::from([0]);
            for (who, comes) in steps {
                if comes || alive.len() == 1 {
                    alive.insert(who);
                    turn(&mut table, names[who], &[]);
                } else if alive.remove(&who) {
                    let other = *alive.first().unwrap();
                    turn(&mut table, names[other], &[names[who]]);
                }
            }
            for _ in 0..3 {
                for who in &alive {
                    turn(&mut table, names[*who], &[]);
                }
            }
            let members: Vec<&str> = alive.iter().map(|who| names[*who]).collect();
            let counts = counts(&table, &members);
            prop_assert_eq!(counts.iter().sum::<usize>(), 12);
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        }
    }
}
