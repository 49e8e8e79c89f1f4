//! Which events may be sent at once.

use std::collections::HashMap;

use crate::event::Lane;

/// Positions of events in rounds, of which each begins when the one before was acknowledged: within a round, each lane
/// has one stream. In both, events keep their order.
pub(super) fn rounds<'a>(events: impl Iterator<Item = (Lane, &'a str)>) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut last: HashMap<Lane, (usize, &str)> = HashMap::new();
    for (position, (lane, stream)) in events.enumerate() {
        let (round, of_lane) = last.entry(lane).or_insert((0, stream));
        if *of_lane != stream {
            (*round, *of_lane) = (*round + 1, stream);
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
    use crate::event::Subject;

    #[test]
    fn a_person_waits_only_where_the_stream_changes() {
        let of = |events: &[(&str, &'static str)]| {
            let lane = |person: &str| Lane::Person("m".parse().unwrap(), Subject::new(person).unwrap());
            rounds(events.iter().map(|(person, stream)| (lane(person), *stream)))
        };
        assert_eq!(of(&[("ann", "x"), ("ann", "x"), ("bob", "y")]), [vec![0, 1, 2]]);
        let events = [("ann", "x"), ("ann", "y"), ("bob", "y"), ("ann", "y"), ("ann", "x"), ("bob", "y")];
        assert_eq!(of(&events), [vec![0, 2, 5], vec![1, 3], vec![4]]);
        assert_eq!(of(&[]), [[0; 0]; 0]);
    }
}
