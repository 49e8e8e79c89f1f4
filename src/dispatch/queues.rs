//! Queues by lane. Each has a number for as long as it is there, by which it costs little to find: a lane is hashed
//! when an event of it comes in, when a parked event is loaded, and when its queue goes.

use slab::Slab;

use crate::event::{Lane, LaneMap};

/// The number of a queue. It may be given to another lane once the queue is removed.
pub(super) type Number = usize;

/// The queues.
#[derive(Debug)]
pub(super) struct Queues<Q> {
    numbers: LaneMap<Number>,
    queues: Slab<(Lane, Q)>,
}

impl<Q> Default for Queues<Q> {
    fn default() -> Self {
        Self { numbers: LaneMap::default(), queues: Slab::new() }
    }
}

impl<Q> Queues<Q> {
    /// The queue of this lane, which is made if there is none, and its number if it was.
    pub(super) fn of(&mut self, lane: Lane, make: impl FnOnce() -> Q) -> (&mut Q, Option<Number>) {
        let free = self.queues.vacant_entry();
        let number = *self.numbers.entry(lane.clone()).or_insert(free.key());
        let is_new = number == free.key();
        if is_new {
            free.insert((lane, make()));
        }
        (&mut self.queues[number].1, is_new.then_some(number))
    }

    /// The number of this lane's queue, if there is one.
    pub(super) fn find(&self, lane: &Lane) -> Option<Number> {
        self.numbers.get(lane).copied()
    }

    /// The lane whose queue this is.
    pub(super) fn lane(&self, number: Number) -> Option<&Lane> {
        self.queues.get(number).map(|(lane, _)| lane)
    }

    pub(super) fn get(&self, number: Number) -> Option<&Q> {
        self.queues.get(number).map(|(_, queue)| queue)
    }

    pub(super) fn get_mut(&mut self, number: Number) -> Option<&mut Q> {
        self.queues.get_mut(number).map(|(_, queue)| queue)
    }

    pub(super) fn remove(&mut self, number: Number) {
        if let Some((lane, _)) = self.queues.try_remove(number) {
            self.numbers.remove(&lane);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Number, &Q)> {
        self.queues.iter().map(|(number, (_, queue))| (number, queue))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::event::EventId;

    #[test]
    fn a_number_is_of_one_lane_as_long_as_that_is_there() {
        let lane = |n| Lane::Single(EventId(Uuid::from_u128(n)));
        let mut queues = Queues::default();
        assert_eq!(queues.of(lane(1), || "a"), (&mut "a", Some(0)));
        assert_eq!(queues.of(lane(2), || "b"), (&mut "b", Some(1)));
        assert_eq!(queues.of(lane(1), || "c"), (&mut "a", None), "it keeps what it has");
        assert_eq!((queues.get(0), queues.lane(0), queues.find(&lane(2))), (Some(&"a"), Some(&lane(1)), Some(1)));
        queues.remove(0);
        assert_eq!((queues.get(0), queues.lane(0), queues.find(&lane(1))), (None, None, None));
        assert_eq!(queues.of(lane(3), || "d"), (&mut "d", Some(0)), "it is given to another");
        assert_eq!(queues.iter().map(|(number, queue)| (number, *queue)).collect::<Vec<_>>(), [(0, "d"), (1, "b")]);
        queues.remove(7);
    }
}
