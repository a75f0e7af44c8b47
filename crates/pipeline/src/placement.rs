//! Which shard owns a key, computed instead of asked for: every router that knows the shards gives the same answer.
//!
//! [`ModHash`] is the obvious rule and moves nearly every key when the number of shards changes. [`JumpHash`] moves only
//! what has to move, for shards numbered `0..n` that are added and removed at the end. [`Rendezvous`] does it for named nodes
//! of which any may leave, and ranks the others, which gives replicas for free.
//!
//! Text ids become numbers through [`stable_hash`], never through the language's own hash tables, whose hash is keyed
//! anew in every process.

use eas_ann::jump_hash;
use eas_tensor::rng::SplitMix64;
use sha2::{Digest, Sha256};

/// What a placement refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// There must be a shard to place keys on.
    #[error("0 shards given, at least 1 is needed")]
    NoShards,
    /// Two nodes have one name.
    #[error("node {0:?} is in the placement already")]
    DuplicateNode(String),
    /// The node isn't part of the placement.
    #[error("node {0:?} isn't in the placement")]
    UnknownNode(String),
}

/// The first eight bytes, little-endian, of the SHA-256 of an id: the same in every process, on every machine, in every
/// language.
///
/// ```
/// assert_eq!(eas_pipeline::placement::stable_hash(b"abc"), 0xeacf_018f_bf16_78ba);
/// ```
pub fn stable_hash(id: &[u8]) -> u64 {
    let digest = Sha256::digest(id);
    digest.iter().take(8).rev().fold(0, |hash, &byte| hash << 8 | u64::from(byte))
}

/// A rule that gives every 64-bit key a shard.
pub trait Placement {
    /// Shards, numbered from 0.
    fn shards(&self) -> usize;

    /// The shard of `key`, below [`Placement::shards`].
    fn shard_of(&self, key: u64) -> usize;

    /// Keys on each shard.
    fn loads(&self, keys: &[u64]) -> Vec<usize> {
        let mut loads = vec![0; self.shards()];
        for &key in keys {
            loads[self.shard_of(key)] += 1;
        }
        loads
    }
}

/// `key mod shards`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModHash {
    shards: u32,
}

impl ModHash {
    /// A placement on `shards >= 1` shards.
    pub fn new(shards: u32) -> Result<Self, PlacementError> {
        if shards == 0 {
            return Err(PlacementError::NoShards);
        }
        Ok(Self { shards })
    }
}

impl Placement for ModHash {
    fn shards(&self) -> usize {
        self.shards as usize
    }

    fn shard_of(&self, key: u64) -> usize {
        (key % u64::from(self.shards)) as usize
    }
}

/// [`jump_hash`]: from `n` to `n + 1` shards a share of `1/(n+1)` of the keys moves, all of them to the new shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JumpHash {
    shards: u32,
}

impl JumpHash {
    /// A placement on `shards >= 1` shards.
    pub fn new(shards: u32) -> Result<Self, PlacementError> {
        if shards == 0 {
            return Err(PlacementError::NoShards);
        }
        Ok(Self { shards })
    }
}

impl Placement for JumpHash {
    fn shards(&self) -> usize {
        self.shards as usize
    }

    fn shard_of(&self, key: u64) -> usize {
        jump_hash(key, self.shards) as usize
    }
}

/// Highest random weight (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998): every node
/// draws a number from the key and its own name, and the highest draw owns the key. When a node leaves, its keys go to the
/// nodes that came second on them, and no other key moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendezvous {
    nodes: Vec<(String, u64)>,
}

impl Rendezvous {
    /// A placement on nodes with distinct names.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self, PlacementError> {
        let mut nodes: Vec<(String, u64)> = Vec::new();
        for name in names {
            let name = name.into();
            if nodes.iter().any(|(present, _)| *present == name) {
                return Err(PlacementError::DuplicateNode(name));
            }
            let hash = stable_hash(name.as_bytes());
            nodes.push((name, hash));
        }
        if nodes.is_empty() {
            return Err(PlacementError::NoShards);
        }
        Ok(Self { nodes })
    }

    /// The placement without one of its nodes.
    pub fn without(&self, name: &str) -> Result<Self, PlacementError> {
        if !self.nodes.iter().any(|(present, _)| present == name) {
            return Err(PlacementError::UnknownNode(name.to_owned()));
        }
        Self::new(self.nodes.iter().filter(|(present, _)| present != name).map(|(present, _)| present.clone()))
    }

    /// The name of the node that owns `key`.
    pub fn node_of(&self, key: u64) -> &str {
        &self.nodes[self.shard_of(key)].0
    }

    /// All nodes in the order of their claim on `key`: the first `r` hold its `r` replicas.
    pub fn ranked(&self, key: u64) -> Vec<&str> {
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|&node| (std::cmp::Reverse(self.draw(node, key)), node));
        order.into_iter().map(|node| self.nodes[node].0.as_str()).collect()
    }

    fn draw(&self, node: usize, key: u64) -> u64 {
        SplitMix64::stream(key, self.nodes[node].1).next_u64()
    }
}

impl Placement for Rendezvous {
    fn shards(&self) -> usize {
        self.nodes.len()
    }

    fn shard_of(&self, key: u64) -> usize {
        // Of equal draws the first node wins: `max_by_key` keeps the last, hence the reversed position.
        let best = (0..self.nodes.len()).max_by_key(|&node| (self.draw(node, key), std::cmp::Reverse(node)));
        best.unwrap_or(0)
    }
}

/// What a change of placement does to a set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moves {
    /// Keys whose shard changed.
    pub moved: usize,
    /// Of these, keys that went to a shard which the old placement didn't have.
    pub to_new_shards: usize,
}

/// Compares two placements of numbered shards on the same keys.
pub fn moves(keys: &[u64], before: &impl Placement, after: &impl Placement) -> Moves {
    let mut moves = Moves { moved: 0, to_new_shards: 0 };
    for &key in keys {
        let target = after.shard_of(key);
        if target != before.shard_of(key) {
            moves.moved += 1;
            moves.to_new_shards += usize::from(target >= before.shards());
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_stable_hash_is_the_start_of_sha256() {
        // FIPS 180-2: SHA-256("abc") begins ba7816bf 8f01cfea.
        assert_eq!(stable_hash(b"abc").to_le_bytes(), [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea]);
    }

    #[test]
    fn jump_hash_has_its_published_values() {
        for (key, buckets, bucket) in [(256, 1024, 520), (42, 57, 43), (0xDEAD_10CC, 666, 361), (1, 1, 0)] {
            assert_eq!(JumpHash::new(buckets).unwrap().shard_of(key), bucket);
        }
    }

    #[test]
    fn bad_placements_are_refused_by_name() {
        assert_eq!(ModHash::new(0), Err(PlacementError::NoShards));
        assert_eq!(JumpHash::new(0), Err(PlacementError::NoShards));
        assert_eq!(Rendezvous::new(Vec::<String>::new()), Err(PlacementError::NoShards));
        assert_eq!(Rendezvous::new(["a", "a"]), Err(PlacementError::DuplicateNode("a".into())));
        let one = Rendezvous::new(["a"]).unwrap();
        assert_eq!(one.without("b"), Err(PlacementError::UnknownNode("b".into())));
        assert_eq!(one.without("a"), Err(PlacementError::NoShards));
    }

    #[test]
    fn rendezvous_is_balanced_and_independent_of_the_order_of_nodes() {
        let names: Vec<String> = (0..10).map(|i| format!("node-{i}")).collect();
        let forward = Rendezvous::new(names.clone()).unwrap();
        let backward = Rendezvous::new(names.into_iter().rev()).unwrap();
        let keys: Vec<u64> = (0..50_000).collect();
        assert!(keys.iter().all(|&key| forward.node_of(key) == backward.node_of(key)));
        // Binomial: mean 5,000, standard deviation 67.
        assert!(forward.loads(&keys).iter().all(|&load| load.abs_diff(5_000) < 5 * 67));
    }

    proptest! {
        #[test]
        fn jump_moves_keys_to_the_new_shard_only(shards in 1u32..200, keys in proptest::collection::vec(any::<u64>(), 100)) {
            let (before, after) = (JumpHash::new(shards).unwrap(), JumpHash::new(shards + 1).unwrap());
            let moves = moves(&keys, &before, &after);
            prop_assert_eq!(moves.moved, moves.to_new_shards);
        }

        #[test]
        fn a_leaving_node_moves_its_own_keys_to_their_second_choice(gone in 0usize..7, keys in proptest::collection::vec(any::<u64>(), 100)) {
            let names: Vec<String> = (0..7).map(|i| format!("node-{i}")).collect();
            let all = Rendezvous::new(names.clone()).unwrap();
            let rest = all.without(&names[gone]).unwrap();
            for key in keys {
                let ranked = all.ranked(key);
                prop_assert_eq!(ranked[0], all.node_of(key));
                let heir = if ranked[0] == names[gone] { ranked[1] } else { ranked[0] };
                prop_assert_eq!(rest.node_of(key), heir);
            }
        }
    }
}
