//! Which ids a segment cannot hold: a blocked Bloom filter, so that an id that is new costs one look into memory a
//! segment, and no page of any index, however long the history is.

use uuid::Uuid;

/// Bits for each id: about one new id in a hundred is looked for in vain.
const BITS: u64 = 10;
/// Bits that each id sets, all in one block.
const MARKS: u32 = 7;
/// Words of 64 bits a block: a cache line.
const WORDS: usize = 8;
/// Ids beyond which a filter does not grow: those of a larger segment are looked for in vain more often.
const MOST: u64 = 4_000_000;

/// The filter of one segment.
#[derive(Debug)]
pub(super) struct Bloom(Vec<[u64; WORDS]>);

impl Bloom {
    /// An empty filter for so many ids.
    pub(super) fn new(ids: u64) -> Self {
        let blocks = (ids.min(MOST) * BITS).div_ceil(64 * WORDS as u64).max(1);
        Self(vec![[0; WORDS]; usize::try_from(blocks).unwrap_or(1)])
    }

    /// Notes an id.
    pub(super) fn insert(&mut self, id: Uuid) {
        let (block, marks) = self.place(id);
        for (word, bit) in positions(marks) {
            self.0[block][word] |= bit;
        }
    }

    /// Whether the id may have been noted; false is certain.
    pub(super) fn may_hold(&self, id: Uuid) -> bool {
        let (block, marks) = self.place(id);
        positions(marks).all(|(word, bit)| self.0[block][word] & bit != 0)
    }

    fn place(&self, id: Uuid) -> (usize, u64) {
        let (high, low) = id.as_u64_pair();
        let block = (u128::from(mix(high ^ low.rotate_left(32))) * self.0.len() as u128) >> 64;
        // Below the number of blocks.
        (usize::try_from(block).unwrap_or(0), mix(low ^ high.rotate_left(17)))
    }

    /// As it is kept in the journal.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What was kept; none if it is damaged.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (blocks, rest_words) = words.as_chunks::<WORDS>();
        let whole = rest.is_empty() && rest_words.is_empty() && !blocks.is_empty();
        whole.then(|| Self(blocks.iter().map(|block| block.map(u64::from_le_bytes)).collect()))
    }
}

/// The words and bits within a block.
fn positions(marks: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..MARKS).map(move |mark| {
        let position = marks >> (9 * mark);
        (((position >> 6) & 7) as usize, 1 << (position & 63))
    })
}

/// Spreads what differs in a few bits over all of them (the finalizer of MurmurHash3).
fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_be_bytes())
    }

    #[test]
    fn every_id_is_found_and_few_others_are() {
        for ids in [1, 1000, 100_000] {
            let mut bloom = Bloom::new(ids);
            (0..ids).for_each(|n| bloom.insert(id(n)));
            assert!((0..ids).all(|n| bloom.may_hold(id(n))));
            let others = (ids..ids + 100_000).filter(|n| bloom.may_hold(id(*n))).count();
            assert!(ids == 1 || others < 3_000, "{others} of 100,000 with {ids} ids");
        }
    }

    #[test]
    fn ids_that_differ_little_are_spread_as_well() {
        let mut bloom = Bloom::new(1000);
        (0..1000).for_each(|n| bloom.insert(Uuid::from_u128(n)));
        let others = (1000..11_000).filter(|n| bloom.may_hold(Uuid::from_u128(*n))).count();
        assert!(others < 500, "{others} of 10,000");
    }

    #[test]
    fn what_was_kept_is_the_same() {
        let mut bloom = Bloom::new(1000);
        (0..500).for_each(|n| bloom.insert(id(n)));
        let bytes = bloom.to_bytes();
        assert_eq!(Bloom::from_bytes(&bytes).unwrap().0, bloom.0);
        assert!(Bloom::from_bytes(&bytes[1..]).is_none());
        assert!(Bloom::from_bytes(&[]).is_none());
    }
}
