//! Which events may be sent at once, for sinks that send several before they wait for any.

use std::hash::Hash;

use crate::event::LaneMap;

/// Positions of events in rounds, of which each begins when the one before was acknowledged: within a round, all events
/// of a lane go to one place, which keeps their order. Where none does, each event is a place of its own. In rounds and
/// within them, events keep their order.
pub(super) fn rounds<L: Eq + Hash, P: Copy + PartialEq>(events: impl Iterator<Item = (L, P)>) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut last: LaneMap<(usize, P), L> = LaneMap::default();
    for (position, (lane, place)) in events.enumerate() {
        let (round, of_lane) = last.entry(lane).or_insert((0, place));
        if *of_lane != place {
            (*round, *of_lane) = (*round + 1, place);
        }
        if *round >= rounds.len() {
            rounds.resize_with(*round + 1, Vec::new);
        }
        rounds[*round].push(position);
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_waits_only_where_the_place_changes() {
        let of = |events: &[(&str, &'static str)]| rounds(events.iter().map(|(person, stream)| (*person, *stream)));
        assert_eq!(of(&[("ann", "x"), ("ann", "x"), ("bob", "y")]), [vec![0, 1, 2]]);
        let events = [("ann", "x"), ("ann", "y"), ("bob", "y"), ("ann", "y"), ("ann", "x"), ("bob", "y")];
        assert_eq!(of(&events), [vec![0, 2, 5], vec![1, 3], vec![4]]);
        assert_eq!(of(&[]), [[0; 0]; 0]);
        let alone = [("ann", "1"), ("bob", "2"), ("ann", "3"), ("ann", "4"), ("bob", "5")];
        assert_eq!(of(&alone), [vec![0, 1], vec![2, 4], vec![3]]);
    }
}
