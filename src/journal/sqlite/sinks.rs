//! What the journal knows of each sink, in memory: the consumers move it, the writer makes it durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};

use super::replay::{self, Replay};
use crate::filter::Filter;
use crate::journal::front::Front;
use crate::journal::{JournalError, Ticket};
use crate::names::SinkName;

/// A sink's place.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Whether it is in the configuration, and what it says there.
    pub(super) configured: bool,
    pub(super) wants: Filter,
    pub(super) skip_when_full: bool,
    /// How far it is in the log.
    pub(super) log: Front,
    /// The replays that run.
    pub(super) replays: BTreeMap<i64, Replay>,
    /// How often dead letters were asked to be tried again, and how many of these askings were looked after.
    pub(super) letters_asked: u64,
    pub(super) letters_seen: u64,
    /// Dead letters that were handed out.
    pub(super) letters_handed: BTreeSet<i64>,
    /// Parked events that came with a place taken over from another sink while this one's consumer ran.
    pub(super) adopted: VecDeque<Ticket>,
    /// Which consumer has the place: a later one takes it from an earlier one.
    pub(super) consumer: u64,
    /// Whether it was ever delivered anything.
    pub(super) delivered: bool,
    /// Events it lost at the size limit.
    pub(super) skipped: u64,
    /// Dead letters, as last counted.
    pub(super) dead_letters: u64,
    /// Whether there is something to make durable.
    pub(super) dirty: bool,
    /// Whether it is about to be replaced by that of another sink, and must not be written over that.
    pub(super) given_up: bool,
}

impl Place {
    /// The front that a ticket belongs to.
    pub(super) fn front(&mut self, replay: i64) -> Option<&mut Front> {
        if replay == 0 { Some(&mut self.log) } else { self.replays.get_mut(&replay).map(|replay| &mut replay.front) }
    }

    /// The position up to which neither the log nor a replay owes it anything.
    pub(super) fn owed_nothing_up_to(&self) -> u64 {
        let replays = self.replays.values().map(|replay| replay.front.owed_nothing_up_to());
        replays.fold(self.log.owed_nothing_up_to(), u64::min)
    }

    /// Whether it is owed this event, if it wants it, by the log or by being parked.
    pub(super) fn owes(&self, seq: u64) -> bool {
        self.log.owes(seq) || self.replays.values().any(|replay| replay.front.parked().contains(&seq))
    }

    /// Events in rows of their own.
    pub(super) fn parked(&self) -> usize {
        self.log.parked().len() + self.replays.values().map(|replay| replay.front.parked().len()).sum::<usize>()
    }

    /// A new consumer takes the place; what an earlier one had in hand is handed out again.
    pub(super) fn take(&mut self) -> u64 {
        self.consumer += 1;
        self.log.rewind();
        self.replays.values_mut().for_each(|replay| replay.front.rewind());
        self.letters_handed.clear();
        self.letters_asked += 1;
        self.adopted.clear();
        self.consumer
    }
}

/// The places of all sinks.
#[derive(Debug, Default)]
pub(super) struct Sinks(Mutex<BTreeMap<SinkName, Place>>);

impl Sinks {
    /// All of them. Held only for work in memory.
    pub(super) fn all(&self) -> MutexGuard<'_, BTreeMap<SinkName, Place>> {
        // A panic elsewhere leaves places behind that are at worst not up to date.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The places as the journal has them.
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut sinks = BTreeMap::new();
        let mut statement = conn.prepare("SELECT name FROM sinks")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name: SinkName = row.get_ref(0)?.as_str()?.parse().map_err(|error| super::row::invalid(0, error))?;
            let place = load_place(conn, &name)?;
            sinks.insert(name, place);
        }
        Ok(Self(Mutex::new(sinks)))
    }
}

/// The place of this sink as the journal has it.
pub(super) fn load_place(conn: &Connection, name: &SinkName) -> rusqlite::Result<Place> {
    let mut place =
        conn.query_row("SELECT cursor, delivered, skipped FROM sinks WHERE name = ?1", [name.as_str()], |row| {
            Ok(Place {
                log: Front::new(row.get(0)?, parked(conn, name, 0)?),
                delivered: row.get(1)?,
                skipped: row.get(2)?,
                letters_asked: 1,
                ..Place::default()
            })
        })?;
    place.replays = replay::running(conn, name)?;
    Ok(place)
}

/// What of the log (0) or of a replay is parked for this sink.
pub(super) fn parked(conn: &Connection, sink: &SinkName, replay: i64) -> rusqlite::Result<BTreeSet<u64>> {
    let mut statement = conn.prepare_cached("SELECT seq FROM parked WHERE sink = ?1 AND replay = ?2")?;
    statement.query_map(params![sink.as_str(), replay], |row| row.get(0))?.collect()
}

/// The sink is not known.
pub(super) fn unknown(sink: &SinkName) -> JournalError {
    JournalError::Refused(format!("the journal knows no sink {sink}"))
}

/// Places that are being made durable by a transaction.
#[derive(Default)]
pub(super) struct Saving(Vec<SinkName>);

/// Writes the places that moved. They count as saved from now on; [`Saving::failed`] takes that back.
pub(super) fn save(conn: &Connection, sinks: &Sinks) -> rusqlite::Result<Saving> {
    let mut saving = Saving(Vec::new());
    let mut all = sinks.all();
    for (name, place) in all.iter_mut().filter(|(_, place)| place.dirty && !place.given_up) {
        conn.prepare_cached("UPDATE sinks SET cursor = ?2, delivered = ?3, skipped = ?4 WHERE name = ?1")?
            .execute(params![name.as_str(), place.log.cursor(), place.delivered, place.skipped])?;
        for (id, replay) in &place.replays {
            replay::save(conn, *id, replay)?;
        }
        saving.0.push(name.clone());
    }
    for name in &saving.0 {
        if let Some(place) = all.get_mut(name) {
            place.dirty = false;
        }
    }
    Ok(saving)
}

impl Saving {
    /// The transaction is committed.
    pub(super) fn committed(self, sinks: &Sinks) {
        let mut all = sinks.all();
        for name in self.0 {
            if let Some(place) = all.get_mut(&name) {
                place.replays.retain(|_, replay| !replay.finished() || place.dirty);
            }
        }
    }

    /// The transaction was rolled back.
    pub(super) fn failed(self, sinks: &Sinks) {
        let mut all = sinks.all();
        for name in self.0 {
            if let Some(place) = all.get_mut(&name) {
                place.dirty = true;
            }
        }
    }
}
