//! Which part of the log an event belongs to: all events of a lane to one.

use sha2::{Digest as _, Sha256};

use crate::event::{Lane, Record};

/// The number of a part of the log, from 0.
pub(super) type Partition = u16;

/// The part of so many that a record belongs to. Fixed for ever: events of a person would be in two parts.
pub(super) fn of(record: &Record, partitions: Partition) -> Partition {
    let hash = match record.lane() {
        // No name of a source holds the separator.
        Lane::Person(source, subject) => {
            Sha256::new().chain_update(source.as_str()).chain_update([0]).chain_update(subject.as_str()).finalize()
        }
        Lane::Single(id) => Sha256::digest(id.0.as_bytes()),
    };
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
    let part = u32::from_be_bytes([a, b, c, d]) % u32::from(partitions.max(1));
    // It is less than a number of 16 bits.
    Partition::try_from(part).unwrap_or_default()
}
