//! Vectors in numbered lists, and the place of every id: what inverted files and trees have at their ends.

use std::collections::{BinaryHeap, HashMap};

use crate::AnnError;
use crate::file::{Reader, Writer};
use crate::index::{Candidate, Metric, SearchStats, keep_best};

#[derive(Debug, Clone, Default)]
struct List {
    ids: Vec<u64>,
    values: Vec<f32>,
}

/// Lists of vectors of one dimension; an id is in one of them.
#[derive(Debug, Clone)]
pub(crate) struct VectorLists {
    dim: usize,
    lists: Vec<List>,
    place: HashMap<u64, (u32, u32)>,
}

impl VectorLists {
    /// `count` empty lists.
    pub(crate) fn new(dim: usize, count: usize) -> Self {
        Self { dim, lists: vec![List::default(); count], place: HashMap::new() }
    }

    /// Number of lists.
    pub(crate) fn count(&self) -> usize {
        self.lists.len()
    }

    /// Number of vectors in all lists.
    pub(crate) fn len(&self) -> usize {
        self.place.len()
    }

    /// Number of vectors in each list.
    pub(crate) fn lens(&self) -> Vec<usize> {
        self.lists.iter().map(|list| list.ids.len()).collect()
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.place.contains_key(&id)
    }

    /// Bytes of vectors and ids.
    pub(crate) fn bytes(&self) -> usize {
        self.len() * (4 * self.dim + 8)
    }

    pub(crate) fn push(&mut self, list: usize, id: u64, vector: &[f32]) {
        let to = &mut self.lists[list];
        self.place.insert(id, (list as u32, to.ids.len() as u32));
        to.ids.push(id);
        to.values.extend_from_slice(vector);
    }

    /// Removes the ids that are present and returns how many were: the last vector of the list moves into the gap.
    pub(crate) fn remove(&mut self, ids: &[u64]) -> usize {
        let before = self.place.len();
        for id in ids {
            let Some((number, slot)) = self.place.remove(id) else {
                continue;
            };
            let (list, slot) = (&mut self.lists[number as usize], slot as usize);
            list.ids.swap_remove(slot);
            let last = list.ids.len() * self.dim;
            list.values.copy_within(last.., slot * self.dim);
            list.values.truncate(last);
            if let Some(&moved) = list.ids.get(slot) {
                self.place.insert(moved, (number, slot as u32));
            }
        }
        before - self.place.len()
    }

    /// Offers the vectors of one list whose ids pass `keep` to the `k` best.
    #[expect(clippy::too_many_arguments, reason = "a query, its filter, and what it collects")]
    pub(crate) fn scan(
        &self,
        list: usize,
        metric: Metric,
        query: &[f32],
        k: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
        best: &mut BinaryHeap<Candidate<u64>>,
        stats: &mut SearchStats,
    ) {
        let list = &self.lists[list];
        stats.lists_probed += 1;
        for (&id, row) in list.ids.iter().zip(list.values.chunks_exact(self.dim)) {
            if keep(id) {
                let distance = metric.distance(query, row);
                stats.full_distances(1, self.dim);
                keep_best(best, Candidate { distance, id }, k);
            }
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        for list in &self.lists {
            out.u64(list.ids.len() as u64);
            out.u64s(&list.ids);
            out.f32s(&list.values);
        }
    }

    /// Reads `count` lists as [`Self::write`] wrote them.
    pub(crate) fn read(file: &mut Reader, dim: usize, count: usize) -> Result<Self, AnnError> {
        let mut lists = Vec::new();
        for _ in 0..count {
            let len = file.u64()? as usize;
            let ids = file.u64s(len)?;
            let values = file.f32s(len.saturating_mul(dim))?;
            lists.push(List { ids, values });
        }
        let place = places(lists.iter().map(|list| list.ids.as_slice()));
        let place = place.ok_or_else(|| file.corrupt("an id stands twice"))?;
        Ok(Self { dim, lists, place })
    }
}

/// List and slot of every id; `None` when one stands twice.
pub(crate) fn places<'a>(lists: impl Iterator<Item = &'a [u64]>) -> Option<HashMap<u64, (u32, u32)>> {
    let mut place = HashMap::new();
    for (list, ids) in lists.enumerate() {
        for (slot, &id) in ids.iter().enumerate() {
            if place.insert(id, (list as u32, slot as u32)).is_some() {
                return None;
            }
        }
    }
    Some(place)
}
