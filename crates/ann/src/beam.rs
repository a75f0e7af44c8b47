//! What the walk through a graph needs beside the graph: the beam of nearest nodes, the set of nodes met, and a pool of both, so that
//! a search allocates nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use eas_tensor::buffer::Buffer;

use crate::AnnError;
use crate::index::{ordered_bits, ordered_value};

/// Marks a free place in a list of links.
pub(crate) const NONE: u32 = u32::MAX;
/// Nodes that a graph can number: one bit less than 32, which [`Near`] needs.
pub(crate) const MAX_NODES: usize = (1 << 31) - 1;

/// Refuses more nodes than a graph can number.
pub(crate) fn check_room(present: usize, more: usize) -> Result<(), AnnError> {
    if present + more > MAX_NODES {
        return Err(AnnError::Parameter {
            name: "number of vectors",
            got: (present + more).to_string(),
            expected: "at most 2^31 - 1, removed ones included",
        });
    }
    Ok(())
}

/// Share of the nodes that aren't `removed` to which links lead from `entry`; 1 when there are none.
pub(crate) fn reachable_share<L: IntoIterator<Item = u32>>(
    entry: Option<u32>,
    removed: &[bool],
    links: impl Fn(u32) -> L,
) -> f64 {
    let mut met = vec![false; removed.len()];
    let mut open: Vec<u32> = entry.into_iter().collect();
    for &node in &open {
        met[node as usize] = true;
    }
    while let Some(node) = open.pop() {
        for to in links(node) {
            if !std::mem::replace(&mut met[to as usize], true) {
                open.push(to);
            }
        }
    }
    let live = removed.iter().filter(|&&removed| !removed).count();
    let reached = met.iter().zip(removed).filter(|&(&met, &removed)| met && !removed).count();
    if live == 0 { 1.0 } else { reached as f64 / live as f64 }
}

/// A node and its distance from the query in one integer, so that one comparison orders by distance (as `f32::total_cmp`) and then by
/// node. The lowest bit says whether the node's links were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Near(u64);

impl Near {
    #[inline]
    pub(crate) fn new(distance: f32, node: u32) -> Self {
        Self(u64::from(ordered_bits(distance)) << 32 | u64::from(node) << 1)
    }

    #[inline]
    pub(crate) fn distance(self) -> f32 {
        ordered_value((self.0 >> 32) as u32)
    }

    #[inline]
    pub(crate) fn node(self) -> u32 {
        self.0 as u32 >> 1
    }

    #[inline]
    fn expanded(self) -> bool {
        self.0 & 1 == 1
    }

    /// The ordered bits of the distance, for comparisons that leave the node out.
    #[inline]
    pub(crate) fn key(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The `width` nearest nodes that a walk has met, nearest first, and which of them it has yet to expand.
#[derive(Debug, Default)]
pub(crate) struct Beam {
    width: usize,
    nearest: Vec<Near>,
    /// Everything before this place is expanded.
    next: usize,
}

impl Beam {
    pub(crate) fn clear(&mut self, width: usize) {
        self.width = width;
        self.nearest.clear();
        self.next = 0;
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.nearest.len() == self.width
    }

    /// True when the beam has room for `candidate`, or something worse to give up for it.
    #[inline]
    pub(crate) fn wants(&self, candidate: Near) -> bool {
        !self.is_full() || self.nearest.last().is_some_and(|&worst| candidate < worst)
    }

    /// The distance that a candidate must stay below to be wanted.
    #[inline]
    pub(crate) fn bound(&self) -> f32 {
        match self.nearest.last() {
            Some(worst) if self.is_full() => worst.distance(),
            _ => f32::INFINITY,
        }
    }

    /// The nearest node that isn't expanded yet.
    #[inline]
    pub(crate) fn peek(&self) -> Option<Near> {
        self.nearest.get(self.next).copied()
    }

    /// Takes the node that [`Self::peek`] shows, which counts as expanded from now on.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Near> {
        let nearest = self.nearest.get_mut(self.next)?;
        let taken = *nearest;
        nearest.0 |= 1;
        self.next += 1;
        while self.nearest.get(self.next).is_some_and(|near| near.expanded()) {
            self.next += 1;
        }
        Some(taken)
    }

    /// Puts `candidate` in its place, and the worst out if there is one too many.
    #[inline]
    pub(crate) fn push(&mut self, candidate: Near) {
        if self.is_full() {
            match self.nearest.last() {
                Some(&worst) if candidate < worst => self.nearest.pop(),
                _ => return,
            };
        }
        let place = self.nearest.partition_point(|&near| near < candidate);
        self.nearest.insert(place, candidate);
        self.next = self.next.min(place);
    }

    /// As [`Self::push`] of each of `new`, which may be reordered.
    #[inline]
    pub(crate) fn merge(&mut self, new: &mut [Near]) {
        // One pass over a beam costs about as much as pushing one node for each eight that are in it.
        if self.nearest.len() > 8 * new.len() {
            for &near in new.iter() {
                self.push(near);
            }
            return;
        }
        new.sort_unstable();
        let (mut old, mut added) = (self.nearest.len(), new.len());
        while old + added > self.width {
            match (old.checked_sub(1).map(|last| self.nearest[last]), added.checked_sub(1).map(|last| new[last])) {
                (Some(a), Some(b)) if a > b => old -= 1,
                (_, Some(_)) => added -= 1,
                _ => old -= 1,
            }
        }
        if added == 0 {
            return;
        }
        self.nearest.resize(old + added, new[0]);
        // From the back, so that nothing is overwritten before it is moved.
        while old > 0 && added > 0 {
            let (a, b) = (self.nearest[old - 1], new[added - 1]);
            let stays = a > b;
            self.nearest[old + added - 1] = if stays { a } else { b };
            old -= usize::from(stays);
            added -= usize::from(!stays);
        }
        self.nearest[..added].copy_from_slice(&new[..added]);
        self.next = self.next.min(old);
    }

    /// What was met, nearest first.
    pub(crate) fn found(&self) -> impl ExactSizeIterator<Item = Near> + '_ {
        self.nearest.iter().map(|near| Near(near.0 & !1))
    }
}

/// A set of nodes, one bit each, that is emptied at the price of what it held.
#[derive(Debug, Default)]
pub(crate) struct Met {
    bits: Vec<u64>,
    nodes: Vec<u32>,
}

impl Met {
    pub(crate) fn clear(&mut self, nodes: usize) {
        for &node in &self.nodes {
            self.bits[node as usize / 64] = 0;
        }
        self.nodes.clear();
        self.bits.resize(nodes.div_ceil(64), 0);
    }

    /// True when `node` wasn't in the set.
    #[inline]
    pub(crate) fn insert(&mut self, node: u32) -> bool {
        let (word, bit) = (&mut self.bits[node as usize / 64], 1 << (node % 64));
        let new = *word & bit == 0;
        if new {
            *word |= bit;
            self.nodes.push(node);
        }
        new
    }

    #[inline]
    pub(crate) fn contains(&self, node: u32) -> bool {
        self.bits[node as usize / 64] & 1 << (node % 64) != 0
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}

/// The working memory of one search.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) beam: Beam,
    /// Nodes that may not be returned and still have to be walked through.
    pub(crate) detours: BinaryHeap<Reverse<Near>>,
    pub(crate) met: Met,
    pub(crate) batch: Vec<u32>,
    /// Where a caller wants to know them: level and node of everything expanded.
    pub(crate) trace: Option<Vec<(usize, u32)>>,
}

/// Working memory to borrow; it grows to as many as were ever in use at once.
#[derive(Debug, Default)]
pub(crate) struct Pool<T>(Mutex<Vec<T>>);

impl<T: Default> Pool<T> {
    pub(crate) fn with<R>(&self, run: impl FnOnce(&mut T) -> R) -> R {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = taken.unwrap_or_default();
        let result = run(&mut scratch);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        result
    }
}

impl<T: Default> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Lists of up to `stride` links, one a row, filled from the front: a row is one run of memory, and its end is its first [`NONE`].
#[derive(Debug, Clone)]
pub(crate) struct Links {
    stride: usize,
    slots: Buffer<u32>,
}

impl Links {
    pub(crate) fn new(stride: usize) -> Self {
        Self { stride, slots: Buffer::new() }
    }

    /// `slots` as [`Self::slots`] gave them; `None` when they are no rows of links packed to the front.
    pub(crate) fn from_slots(stride: usize, slots: &[u32]) -> Option<Self> {
        let packed = |row: &[u32]| row.iter().skip_while(|&&to| to != NONE).all(|&to| to == NONE);
        (slots.len().is_multiple_of(stride) && slots.chunks(stride).all(packed))
            .then(|| Self { stride, slots: slots.into() })
    }

    pub(crate) fn slots(&self) -> &[u32] {
        &self.slots
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    pub(crate) fn rows(&self) -> usize {
        self.slots.len() / self.stride
    }

    pub(crate) fn add_rows(&mut self, rows: usize) {
        self.slots.resize(self.slots.len() + rows * self.stride, NONE);
    }

    #[inline]
    pub(crate) fn places(&self, row: usize) -> &[u32] {
        &self.slots[row * self.stride..(row + 1) * self.stride]
    }

    #[inline]
    pub(crate) fn row(&self, row: usize) -> &[u32] {
        let places = self.places(row);
        &places[..places.partition_point(|&to| to != NONE)]
    }

    pub(crate) fn set(&mut self, row: usize, links: &[u32]) {
        let count = links.len().min(self.stride);
        let places = &mut self.slots[row * self.stride..(row + 1) * self.stride];
        places[..count].copy_from_slice(&links[..count]);
        places[count..].fill(NONE);
    }

    /// Adds a link where there is room for it.
    pub(crate) fn push(&mut self, row: usize, link: u32) -> bool {
        let free = self.row(row).len();
        if free == self.stride {
            return false;
        }
        self.slots[row * self.stride + free] = link;
        true
    }

    /// Puts `new` where `old` stands.
    pub(crate) fn replace(&mut self, row: usize, old: u32, new: u32) {
        let places = &mut self.slots[row * self.stride..(row + 1) * self.stride];
        if let Some(place) = places.iter_mut().find(|to| **to == old) {
            *place = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn merging_is_pushing(old in prop::collection::vec(-9i8..9, 0..90), new in prop::collection::vec(-9i8..9, 0..12), width in 1usize..99, popped in 0usize..99) {
            let (mut pushed, mut merged) = (Beam::default(), Beam::default());
            for beam in [&mut pushed, &mut merged] {
                beam.clear(width);
                for (node, &distance) in old.iter().enumerate() {
                    beam.push(Near::new(f32::from(distance), node as u32));
                }
                for _ in 0..popped {
                    beam.pop();
                }
            }
            let mut new: Vec<Near> = new.iter().zip(90..).map(|(&distance, node)| Near::new(f32::from(distance), node)).collect();
            for &near in &new {
                pushed.push(near);
            }
            merged.merge(&mut new);
            prop_assert_eq!(&pushed.nearest, &merged.nearest);
            for _ in 0..=width {
                prop_assert_eq!(pushed.pop(), merged.pop());
            }
        }

        #[test]
        fn near_orders_as_distance_then_node(a in any::<f32>(), b in any::<f32>(), i in 0u32..9, j in 0u32..9) {
            let (x, y) = (Near::new(a, i), Near::new(b, j));
            prop_assert_eq!(x.cmp(&y), a.total_cmp(&b).then(i.cmp(&j)));
            prop_assert_eq!((x.distance().to_bits(), x.node()), (a.to_bits(), i));
        }

        #[test]
        fn the_beam_keeps_the_nearest_and_expands_each_once(distances in prop::collection::vec(-5i8..5, 1..60), width in 1usize..9) {
            let mut beam = Beam::default();
            beam.clear(width);
            let mut popped = Vec::new();
            for (node, &distance) in distances.iter().enumerate() {
                beam.push(Near::new(f32::from(distance), node as u32));
                if node % 3 == 2 {
                    popped.extend(beam.pop());
                }
            }
            let mut all: Vec<Near> = distances.iter().zip(0..).map(|(&d, i)| Near::new(f32::from(d), i)).collect();
            all.sort_unstable();
            all.truncate(width);
            prop_assert_eq!(beam.found().collect::<Vec<_>>(), all.clone());
            while let Some(near) = beam.pop() {
                popped.push(near);
            }
            prop_assert!(all.iter().all(|near| popped.contains(near)), "everything kept was expanded");
            let times = popped.len();
            popped.sort_unstable();
            popped.dedup();
            prop_assert_eq!(popped.len(), times);
        }
    }

    #[test]
    fn the_set_forgets_and_grows() {
        let mut met = Met::default();
        met.clear(10);
        assert!(met.insert(9) && !met.insert(9) && met.insert(8));
        met.clear(200);
        assert!(met.insert(9) && met.insert(199));
        assert_eq!(met.len(), 2);
    }

    #[test]
    fn links_are_packed_to_the_front() {
        let mut links = Links::new(3);
        links.add_rows(2);
        assert!(links.push(1, 7) && links.push(1, 8) && links.push(1, 9) && !links.push(1, 5));
        links.replace(1, 8, 4);
        links.set(0, &[1]);
        assert_eq!((links.row(0), links.row(1)), (&[1][..], &[7, 4, 9][..]));
        assert_eq!(Links::from_slots(3, links.slots()).unwrap().row(1), [7, 4, 9]);
        assert!(Links::from_slots(3, &[1, NONE, 2]).is_none());
        assert!(Links::from_slots(2, &[1, 2, 3]).is_none());
    }
}
