//! Collectives on a ring, in which each rank sends to the next and receives from the previous one (Patarasuk and Yuan, "Bandwidth
//! optimal all-reduce algorithms for clusters of workstations", 2009).

use std::ops::Range;

use super::DistError;

/// A rank's two neighbours. Messages arrive in the order in which they were sent.
pub(super) trait Ring {
    fn rank(&self) -> usize;
    fn world(&self) -> usize;
    /// Hands bytes to the next rank without waiting for it to read them.
    fn send(&mut self, bytes: Vec<u8>) -> Result<(), DistError>;
    /// The next message of the previous rank; one of another length than `expected`, if that is given, is an error.
    fn receive(&mut self, expected: Option<usize>) -> Result<Vec<u8>, DistError>;
}

/// The bytes of every rank, in `world - 1` messages a rank: what came in is passed on.
pub(super) fn all_gather_bytes(ring: &mut impl Ring, own: &[u8]) -> Result<Vec<Vec<u8>>, DistError> {
    let (rank, world) = (ring.rank(), ring.world());
    let mut parts = vec![Vec::new(); world];
    parts[rank] = own.to_vec();
    for step in 0..world - 1 {
        ring.send(parts[back(rank, step, world)].clone())?;
        parts[back(rank, step + 1, world)] = ring.receive(None)?;
    }
    Ok(parts)
}

/// Fills the parts of `values` that other ranks hold; this rank's own part, number `rank`, is there already.
pub(super) fn all_gather(ring: &mut impl Ring, values: &mut [f32], part: &Parts) -> Result<(), DistError> {
    let (rank, world) = (ring.rank(), ring.world());
    for step in 0..world - 1 {
        ring.send(super::to_bytes(&values[part.of(back(rank, step, world))]))?;
        let coming = part.of(back(rank, step + 1, world));
        let bytes = ring.receive(Some(4 * coming.len()))?;
        for (value, new) in values[coming].iter_mut().zip(super::from_bytes(&bytes)) {
            *value = new;
        }
    }
    Ok(())
}

/// Makes part number `rank` of `values` the sum over the ranks, in `world - 1` messages a rank; the other parts become partial sums.
///
/// Part `p` starts at rank `p + 1` and is added to by each rank that it passes, so its order of summation is the same in every run.
pub(super) fn reduce_scatter(ring: &mut impl Ring, values: &mut [f32], part: &Parts) -> Result<(), DistError> {
    let (rank, world) = (ring.rank(), ring.world());
    for step in 1..world {
        ring.send(super::to_bytes(&values[part.of(back(rank, step, world))]))?;
        let coming = part.of(back(rank, step + 1, world));
        let bytes = ring.receive(Some(4 * coming.len()))?;
        for (value, sum) in values[coming].iter_mut().zip(super::from_bytes(&bytes)) {
            *value += sum;
        }
    }
    Ok(())
}

/// Passes the values of `root` around the ring.
pub(super) fn broadcast(ring: &mut impl Ring, values: &mut [f32], root: usize) -> Result<(), DistError> {
    let (rank, world) = (ring.rank(), ring.world());
    let mut message = super::to_bytes(values);
    if rank != root {
        message = ring.receive(Some(message.len()))?;
        for (value, new) in values.iter_mut().zip(super::from_bytes(&message)) {
            *value = new;
        }
    }
    if (rank + 1) % world == root { Ok(()) } else { ring.send(message) }
}

/// The rank `steps` before `rank` on the ring.
fn back(rank: usize, steps: usize, world: usize) -> usize {
    (rank + 2 * world - steps) % world
}

/// `values` values cut into one part a rank, of sizes that differ by at most one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    pub(super) values: usize,
    pub(super) world: usize,
}

impl Parts {
    pub(super) fn of(&self, rank: usize) -> Range<usize> {
        let start = |rank: usize| (rank as u128 * self.values as u128 / self.world as u128) as usize;
        start(rank)..start(rank + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn parts_cover_everything_once() {
        for (values, world) in [(0, 3), (2, 4), (10, 4), (12, 4), (7, 1)] {
            let parts = Parts { values, world };
            let all: Vec<usize> = (0..world).flat_map(|rank| parts.of(rank)).collect();
            assert_eq!(all, (0..values).collect::<Vec<_>>());
            assert!((0..world).all(|rank| parts.of(rank).len().abs_diff(values / world) <= 1));
        }
    }

    #[test]
    fn a_ring_of_one_sends_nothing() {
        struct Alone(VecDeque<Vec<u8>>);
        impl Ring for Alone {
            fn rank(&self) -> usize {
                0
            }
            fn world(&self) -> usize {
                1
            }
            fn send(&mut self, bytes: Vec<u8>) -> Result<(), DistError> {
                self.0.push_back(bytes);
                Ok(())
            }
            fn receive(&mut self, _: Option<usize>) -> Result<Vec<u8>, DistError> {
                Err(DistError::Corrupt("nobody sends".to_owned()))
            }
        }
        let (mut ring, mut values) = (Alone(VecDeque::new()), [1.0, 2.0]);
        let parts = Parts { values: 2, world: 1 };
        reduce_scatter(&mut ring, &mut values, &parts).unwrap();
        all_gather(&mut ring, &mut values, &parts).unwrap();
        broadcast(&mut ring, &mut values, 0).unwrap();
        assert_eq!(all_gather_bytes(&mut ring, &[7]).unwrap(), [[7]]);
        assert_eq!((values, ring.0.len()), ([1.0, 2.0], 0));
    }
}
