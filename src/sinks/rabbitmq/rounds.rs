//! Which events are published at once: of each person one.

use std::collections::HashMap;

use crate::event::{Event, Lane};

/// Positions of events in rounds, each with one event of a lane at most; each lane's events keep their order.
pub(super) fn rounds(events: &[Event]) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut next: HashMap<Lane, usize> = HashMap::new();
    for (position, event) in events.iter().enumerate() {
        let round = next.entry(event.record.lane()).or_insert(0);
        if *round == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*round].push(position);
        *round += 1;
    }
    rounds
}
