//! What has to be agreed: one holder at a time, and a number that outlives it.
//!
//! A [`LeaseTable`] grants a resource (the shard map, the leadership of a shard, a change of schema) to one holder until a
//! time. That alone isn't safe: a holder that was paused past its time still believes in it. So every grant carries a
//! *fencing token*, larger than every one before, and the resource itself ([`Fenced`]) refuses a token that is older than
//! one it has seen (Gray and Cheriton, "Leases", 1989; Burrows, "The Chubby lock service", 2006, where the token is called
//! a sequencer).
//!
//! The table is the one part that has to be kept by a consensus protocol when it must itself survive a crash.

use std::collections::BTreeMap;

use eas_ops::clock::{Clock, Micros};

/// What a lease or a fence refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Another holder has the resource.
    #[error("{resource:?} is held by node {holder} for another {left} us")]
    Held {
        /// The resource.
        resource: String,
        /// Who has it.
        holder: u32,
        /// Microseconds until it is free unless renewed.
        left: Micros,
    },
    /// The lease has run out or was given to another.
    #[error("the lease of node {holder} on {resource:?} with token {token} is over")]
    Over {
        /// The resource.
        resource: String,
        /// Whose lease it was.
        holder: u32,
        /// Its token.
        token: u64,
    },
    /// A write came with a token older than one that was seen.
    #[error("token {given} is stale: token {newest} has been seen")]
    StaleToken {
        /// The token of the write.
        given: u64,
        /// The newest token seen.
        newest: u64,
    },
    /// A lease must last.
    #[error("a lease of 0 us would be over before it began")]
    ZeroTerm,
}

/// The right of one node to one resource until a time on the table's clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// What is held.
    pub resource: String,
    /// Who holds it.
    pub holder: u32,
    /// Larger than the token of every lease granted before.
    pub token: u64,
    /// When it ends unless renewed.
    pub expires: Micros,
}

/// Grants leases; the token counter is shared by all resources and never goes back.
#[derive(Debug)]
pub struct LeaseTable<C> {
    clock: C,
    current: BTreeMap<String, Lease>,
    granted: u64,
}

impl<C: Clock> LeaseTable<C> {
    /// A table without leases that reads the time from `clock`.
    pub fn new(clock: C) -> Self {
        Self { clock, current: BTreeMap::new(), granted: 0 }
    }

    /// Grants `resource` to `holder` for `term` microseconds when it is free. The holder of a lease that runs gets a new
    /// one with a new token: whatever it did under the old token may still be on its way.
    pub fn acquire(&mut self, resource: &str, holder: u32, term: Micros) -> Result<Lease, LeaseError> {
        if term == 0 {
            return Err(LeaseError::ZeroTerm);
        }
        let now = self.clock.now();
        if let Some(lease) = self.current.get(resource)
            && lease.holder != holder
            && now < lease.expires
        {
            return Err(LeaseError::Held {
                resource: resource.to_owned(),
                holder: lease.holder,
                left: lease.expires - now,
            });
        }
        self.granted += 1;
        let lease =
            Lease { resource: resource.to_owned(), holder, token: self.granted, expires: now.saturating_add(term) };
        self.current.insert(lease.resource.clone(), lease.clone());
        Ok(lease)
    }

    /// Extends a lease that still runs to `term` from now, under the same token.
    pub fn renew(&mut self, lease: &Lease, term: Micros) -> Result<Lease, LeaseError> {
        let now = self.clock.now();
        match self.current.get_mut(&lease.resource) {
            Some(current) if current.token == lease.token && now < current.expires => {
                current.expires = current.expires.max(now.saturating_add(term));
                Ok(current.clone())
            }
            _ => Err(over(lease)),
        }
    }

    /// Gives a lease back before its time.
    pub fn release(&mut self, lease: &Lease) -> Result<(), LeaseError> {
        match self.current.get_mut(&lease.resource) {
            Some(current) if current.token == lease.token && self.clock.now() < current.expires => {
                current.expires = self.clock.now();
                Ok(())
            }
            _ => Err(over(lease)),
        }
    }

    /// The lease on `resource` that runs now.
    pub fn holder(&self, resource: &str) -> Option<&Lease> {
        let lease = self.current.get(resource)?;
        (self.clock.now() < lease.expires).then_some(lease)
    }
}

fn over(lease: &Lease) -> LeaseError {
    LeaseError::Over { resource: lease.resource.clone(), holder: lease.holder, token: lease.token }
}

/// A value that is changed only under the newest token it has seen. It needs no clock: the order of tokens is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fenced<T> {
    value: T,
    newest: u64,
}

impl<T> Fenced<T> {
    /// A value that has seen no token.
    pub fn new(value: T) -> Self {
        Self { value, newest: 0 }
    }

    /// The value; reading needs no token.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// The newest token seen.
    pub fn newest_token(&self) -> u64 {
        self.newest
    }

    /// Changes the value under `token`, or refuses a token older than one seen.
    pub fn write<R>(&mut self, token: u64, change: impl FnOnce(&mut T) -> R) -> Result<R, LeaseError> {
        if token < self.newest {
            return Err(LeaseError::StaleToken { given: token, newest: self.newest });
        }
        self.newest = token;
        Ok(change(&mut self.value))
    }
}

/// The agreement that routers work under: where the shards are, and what the vectors in them are. Kept in a [`Fenced`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMap {
    /// Number of the map; a router that has an older one asks again.
    pub epoch: u64,
    /// Dimension of all vectors.
    pub dim: usize,
    /// The leading node of each shard.
    pub leaders: Vec<u32>,
}

impl ShardMap {
    /// Applies a change and numbers the map anew.
    pub fn change(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_ops::clock::{SECOND, VirtualClock};
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_paused_leader_is_fenced_off() {
        let clock = VirtualClock::new();
        let mut table = LeaseTable::new(clock.clone());
        let mut map = Fenced::new(ShardMap { epoch: 1, dim: 256, leaders: vec![0, 1] });
        let old = table.acquire("shard-map", 0, 10 * SECOND).unwrap();
        let refused = table.acquire("shard-map", 1, 10 * SECOND).unwrap_err();
        assert_eq!(refused.to_string(), "\"shard-map\" is held by node 0 for another 10000000 us");
        clock.advance(11 * SECOND);
        let new = table.acquire("shard-map", 1, 10 * SECOND).unwrap();
        map.write(new.token, |map| map.change(|map| map.leaders[0] = 1)).unwrap();
        let late = map.write(old.token, |map| map.change(|map| map.dim = 768));
        assert_eq!(late, Err(LeaseError::StaleToken { given: 1, newest: 2 }));
        assert_eq!((map.get().epoch, map.get().dim), (2, 256));
        assert!(table.renew(&old, SECOND).is_err() && table.release(&old).is_err());
        assert_eq!(table.holder("shard-map"), Some(&new));
    }

    #[test]
    fn renewing_keeps_the_token_and_releasing_frees_the_resource() {
        let clock = VirtualClock::new();
        let mut table = LeaseTable::new(clock.clone());
        let lease = table.acquire("a", 0, 10).unwrap();
        clock.advance(9);
        assert_eq!(table.renew(&lease, 10).unwrap().expires, 19);
        clock.advance(9);
        assert!(table.acquire("a", 1, 10).is_err());
        table.release(&lease).unwrap();
        assert_eq!(table.holder("a"), None);
        assert_eq!(table.acquire("a", 1, 10).unwrap().token, 2);
        assert_eq!(table.acquire("b", 1, 0), Err(LeaseError::ZeroTerm));
    }

    proptest! {
        /// Random acquiring, renewing, releasing and waiting by four nodes on two resources.
        #[test]
        fn never_two_holders_of_a_token_or_of_a_resource(seed in any::<u64>()) {
            let mut rng = SplitMix64::new(seed);
            let clock = VirtualClock::new();
            let mut table = LeaseTable::new(clock.clone());
            let mut leases: Vec<Lease> = Vec::new();
            let mut tokens = BTreeSet::new();
            for _ in 0..200 {
                let (node, resource) = (rng.below(4) as u32, ["a", "b"][rng.below(2)]);
                let before = table.holder(resource).cloned();
                match rng.below(4) {
                    0 | 1 => if let Ok(lease) = table.acquire(resource, node, 1 + rng.below(20) as u64) {
                        prop_assert!(tokens.insert(lease.token), "token {} twice", lease.token);
                        prop_assert_eq!(tokens.last(), Some(&lease.token));
                        if let Some(before) = before {
                            prop_assert_eq!(before.holder, node);
                        }
                        leases.push(lease);
                    },
                    2 => if let Some(lease) = rng.choose(&leases) {
                        let held = table.holder(&lease.resource).is_some_and(|now| now.token == lease.token);
                        let outcome = if rng.chance(0.5) { table.renew(lease, 5).map(|_| ()) } else { table.release(lease) };
                        prop_assert_eq!(outcome.is_ok(), held);
                    },
                    _ => clock.advance(rng.below(10) as u64),
                }
            }
        }

        /// Writes under random tokens: accepted ones never go back.
        #[test]
        fn accepted_tokens_never_go_back(tokens in proptest::collection::vec(0u64..30, 1..100)) {
            let mut log = Fenced::new(Vec::new());
            for &token in &tokens {
                let accepted = log.write(token, |log| log.push(token)).is_ok();
                prop_assert_eq!(accepted, log.newest_token() == token);
            }
            prop_assert!(log.get().is_sorted());
        }
    }
}
