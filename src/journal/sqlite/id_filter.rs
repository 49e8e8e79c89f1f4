//! A set that may say yes wrongly, about once in a thousand times, and never no: the split block Bloom filter of Apache
//! Parquet (<https://parquet.apache.org/docs/file-format/bloomfilter/>), whose layout is fixed, since it is kept in the
//! file. Ids are digests, so that their first bytes are as good as a hash of them.

use crate::event::EventId;

/// Bits an id.
const BITS: usize = 16;
/// Words of a block.
const WORDS: usize = 8;
/// The constants of the specification, one a word.
const SALTS: [u32; WORDS] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

type Block = [u32; WORDS];

/// A set of ids.
#[derive(Debug, Clone)]
pub(super) struct IdFilter {
    blocks: Vec<Block>,
}

impl IdFilter {
    /// An empty set for so many ids.
    pub(super) fn for_ids(count: usize) -> Self {
        let blocks = (count * BITS).div_ceil(WORDS * 32).max(1);
        Self { blocks: vec![[0; WORDS]; blocks] }
    }

    /// The set that [`IdFilter::to_bytes`] wrote; none for what it did not write.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let (blocks, left) = words.as_chunks::<WORDS>();
        (rest.is_empty() && left.is_empty() && !blocks.is_empty()).then(|| Self { blocks: blocks.to_vec() })
    }

    /// The set as bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Adds an id.
    pub(super) fn insert(&mut self, id: EventId) {
        let (block, mask) = self.place(id);
        for (word, bit) in self.blocks[block].iter_mut().zip(mask) {
            *word |= bit;
        }
    }

    /// Whether the id may have been added: if not, it was not.
    pub(super) fn may_hold(&self, id: EventId) -> bool {
        let (block, mask) = self.place(id);
        self.blocks[block].iter().zip(mask).all(|(word, bit)| word & bit != 0)
    }

    /// The block of an id, and its bits there.
    fn place(&self, id: EventId) -> (usize, Block) {
        let (high, low) = id.0.as_u64_pair();
        // Uuids have fixed bits in their middle; the ends are those of the digest.
        let block = ((high >> 32) * self.blocks.len() as u64) >> 32;
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
        let key = low as u32;
        // Below the number of blocks, since the upper half of the product of a 32-bit number and it.
        (usize::try_from(block).unwrap_or(0), SALTS.map(|salt| 1 << (key.wrapping_mul(salt) >> 27)))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(n: u32) -> EventId {
        EventId(Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_le_bytes()))
    }

    #[test]
    fn what_was_added_is_found_also_after_a_round_through_bytes_and_little_else_is() {
        let mut filter = IdFilter::for_ids(10_000);
        (0..10_000).for_each(|n| filter.insert(id(n)));
        let filter = IdFilter::from_bytes(&filter.to_bytes()).unwrap();
        assert!((0..10_000).all(|n| filter.may_hold(id(n))));
        let wrong = (10_000..110_000).filter(|n| filter.may_hold(id(*n))).count();
        assert!(wrong < 500, "{wrong} of 100,000 ids that were never added");
    }

    #[test]
    fn bytes_of_something_else_are_no_set() {
        for bytes in [0, 1, 31, 33] {
            assert!(IdFilter::from_bytes(&vec![0; bytes]).is_none(), "{bytes}");
        }
    }
}
