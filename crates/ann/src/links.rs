//! [`CompressedLinks`]: the neighbour lists of a graph as the differences of their sorted numbers, in as few bytes each as it takes.
//!
//! A list `[17, 3, 900]` becomes 3, 14, 883: small numbers, of which a byte holds seven bits (the high bit says that more follow). What the order in a list said
//! is lost, which a search doesn't need. How much it saves depends on how near the numbers of neighbours are to each other:
//! numbering nodes so that neighbours in space are neighbours in number makes it save more.

/// Lists between two entries of the table of offsets.
const BLOCK: usize = 16;

/// Lists of node numbers, each sorted, in compressed form; list `i` is decoded on its own.
///
/// ```
/// use eas_ann::links::CompressedLinks;
///
/// let lists: [&[u32]; 3] = [&[900, 3, 17], &[], &[5]];
/// let links = CompressedLinks::new(lists);
/// assert_eq!(links.list(0), [3, 17, 900]);
/// assert_eq!(links.list(1), []);
/// assert!(links.bytes() < 4 * 4 + 3 * 8);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompressedLinks {
    lists: usize,
    links: usize,
    /// Where every `BLOCK`-th list begins in `encoded`.
    offsets: Vec<u64>,
    /// Of each list the number of links, then the first link, then the differences.
    encoded: Vec<u8>,
}

impl CompressedLinks {
    /// Compresses the lists. A number that stands twice in a list is kept once.
    pub fn new<L: AsRef<[u32]>>(lists: impl IntoIterator<Item = L>) -> Self {
        let mut out = Self::default();
        let mut sorted = Vec::new();
        for list in lists {
            if out.lists.is_multiple_of(BLOCK) {
                out.offsets.push(out.encoded.len() as u64);
            }
            sorted.clear();
            sorted.extend_from_slice(list.as_ref());
            sorted.sort_unstable();
            sorted.dedup();
            write_varint(&mut out.encoded, sorted.len() as u32);
            let mut last = 0;
            for &link in &sorted {
                write_varint(&mut out.encoded, link - last);
                last = link;
            }
            out.lists += 1;
            out.links += sorted.len();
        }
        out.encoded.shrink_to_fit();
        out
    }

    /// Number of lists.
    pub fn len(&self) -> usize {
        self.lists
    }

    /// True without lists.
    pub fn is_empty(&self) -> bool {
        self.lists == 0
    }

    /// Number of links in all lists.
    pub fn links(&self) -> usize {
        self.links
    }

    /// Bytes of the encoded lists and of the table of offsets.
    pub fn bytes(&self) -> usize {
        self.encoded.len() + size_of_val(self.offsets.as_slice())
    }

    /// List `i`, sorted; empty when there is none.
    pub fn list(&self, i: usize) -> Vec<u32> {
        let mut links = Vec::new();
        self.read(i, &mut links);
        links
    }

    /// Puts list `i` into `links`, which is cleared before.
    pub fn read(&self, i: usize, links: &mut Vec<u32>) {
        links.clear();
        if i >= self.lists {
            return;
        }
        let start = self.offsets.get(i / BLOCK).map_or(self.encoded.len(), |&at| at as usize);
        let mut bytes = self.encoded[start..].iter();
        for _ in 0..i % BLOCK {
            for _ in 0..read_varint(&mut bytes) {
                read_varint(&mut bytes);
            }
        }
        let mut link = 0u32;
        for _ in 0..read_varint(&mut bytes) {
            link = link.wrapping_add(read_varint(&mut bytes));
            links.push(link);
        }
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> u32 {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = bytes.next().copied().unwrap_or(0);
        value |= u32::from(byte & 0x7F).wrapping_shl(shift);
        if byte < 0x80 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_list_decodes_to_its_sorted_self(lists in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![any::<u32>(), 0u32..300, Just(u32::MAX)], 0..40), 0..70)
        ) {
            let links = CompressedLinks::new(&lists);
            prop_assert_eq!(links.len(), lists.len());
            let mut total = 0;
            for (i, list) in lists.iter().enumerate() {
                let mut sorted = list.clone();
                sorted.sort_unstable();
                sorted.dedup();
                total += sorted.len();
                prop_assert_eq!(links.list(i), sorted);
            }
            prop_assert_eq!(links.links(), total);
            prop_assert!(links.list(lists.len()).is_empty());
        }
    }

    #[test]
    fn bytes_are_those_of_the_differences() {
        // 32 links of 10,000 nodes at random: gaps of 312 on average, which take two bytes where they are above 127.
        let mut rng = SplitMix64::new(1);
        let lists: Vec<Vec<u32>> =
            (0..1_000).map(|_| rng.sample_indices(10_000, 32).into_iter().map(|x| x as u32).collect()).collect();
        let links = CompressedLinks::new(&lists);
        let share = links.bytes() as f64 / (4 * links.links()) as f64;
        assert!((0.40..0.50).contains(&share), "{share}");
        let near: Vec<Vec<u32>> = (0..1_000).map(|i| (i..i + 32).collect()).collect();
        let links = CompressedLinks::new(&near);
        assert!(links.bytes() < 1_000 * (1 + 2 + 31 + 1), "one byte a difference: {}", links.bytes());
    }
}
