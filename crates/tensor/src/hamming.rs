//! Bits that differ between binary codes.

/// Number of bits in which `a` and `b` differ.
///
/// # Panics
/// When the lengths differ, as slice indexing does.
pub fn hamming(a: &[u64], b: &[u64]) -> u32 {
    assert_eq!(a.len(), b.len(), "codes of different length");
    a.iter().zip(b).map(|(x, y)| (x ^ y).count_ones()).sum()
}

/// A tree of 64-bit codes for radius search under the Hamming distance (Burkhard and Keller 1973): below a node, child
/// `d` holds the codes at distance `d` from it, so by the triangle inequality only children within the radius of the
/// query's own distance can hold a match.
#[derive(Debug, Clone, Default)]
pub struct BkTree {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
struct Node {
    code: u64,
    ids: Vec<usize>,
    /// `(distance, node)` of each child, in order of insertion.
    children: Vec<(u32, usize)>,
}

/// What a radius search found, and how much of the tree it looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RadiusHits {
    /// `(distance, id)`, nearest first, ties by lower id.
    pub hits: Vec<(u32, usize)>,
    /// Nodes whose distance to the query was computed.
    pub visited: usize,
}

impl BkTree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Distinct codes held.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Adds `code` under `id`; several ids may share a code.
    pub fn insert(&mut self, code: u64, id: usize) {
        let leaf = Node { code, ids: vec![id], children: Vec::new() };
        let fresh = self.nodes.len();
        if self.nodes.is_empty() {
            self.nodes.push(leaf);
            return;
        }
        let mut at = 0;
        loop {
            let node = &mut self.nodes[at];
            let distance = (node.code ^ code).count_ones();
            if distance == 0 {
                node.ids.push(id);
                return;
            }
            if let Some(&(_, child)) = node.children.iter().find(|(d, _)| *d == distance) {
                at = child;
            } else {
                node.children.push((distance, fresh));
                self.nodes.push(leaf);
                return;
            }
        }
    }

    /// All ids whose code differs from `code` in at most `radius` bits.
    pub fn within(&self, code: u64, radius: u32) -> RadiusHits {
        let mut hits = Vec::new();
        let mut visited = 0;
        let mut open: Vec<usize> = if self.nodes.is_empty() { vec![] } else { vec![0] };
        while let Some(at) = open.pop() {
            let node = &self.nodes[at];
            visited += 1;
            let distance = (node.code ^ code).count_ones();
            if distance <= radius {
                hits.extend(node.ids.iter().map(|&id| (distance, id)));
            }
            let near = node.children.iter().filter(|(d, _)| d.abs_diff(distance) <= radius);
            open.extend(near.map(|&(_, child)| child));
        }
        hits.sort_unstable();
        RadiusHits { hits, visited }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;
    use proptest::prelude::*;

    #[test]
    fn differing_bits_are_counted() {
        assert_eq!(hamming(&[0b1011, u64::MAX], &[0b0001, 0]), 66);
        assert_eq!(hamming(&[], &[]), 0);
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_scan_finds(
            codes in prop::collection::vec(prop_oneof![any::<u64>(), (0u64..64)], 0..60), query in any::<u64>(), radius in 0u32..40
        ) {
            let mut tree = BkTree::new();
            for (id, &code) in codes.iter().enumerate() {
                tree.insert(code, id);
            }
            for query in [query, query % 64] {
                let mut scan: Vec<(u32, usize)> = codes.iter().enumerate()
                    .map(|(id, c)| ((c ^ query).count_ones(), id)).filter(|(d, _)| *d <= radius).collect();
                scan.sort_unstable();
                let found = tree.within(query, radius);
                prop_assert_eq!(found.hits, scan);
                prop_assert!(found.visited <= tree.nodes());
            }
        }
    }

    #[test]
    fn a_small_radius_visits_part_of_the_tree() {
        let mut rng = SplitMix64::new(1);
        let mut tree = BkTree::new();
        for id in 0..2_000 {
            tree.insert(rng.next_u64(), id);
        }
        let visited: usize = (0..100).map(|_| tree.within(rng.next_u64(), 5).visited).sum();
        assert!(visited < 100 * 2_000 * 6 / 10, "{visited}");
        assert_eq!(BkTree::new().within(7, 64).hits, []);
    }
}
