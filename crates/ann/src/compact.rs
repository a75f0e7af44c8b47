//! [`CompactFlat`]: the scan of [`crate::FlatIndex`] over vectors in half precision or in 8 bits. A scan is bound by the memory it
//! reads, so half or a quarter of the bytes is half or a quarter of the time, for scores that are off by the rounding of the values.

use std::collections::{BinaryHeap, HashMap};
use std::path::Path;

use eas_tensor::quant::{Codec, F16, Int8};
use eas_tensor::{Matrix, kernels};

use crate::AnnError;
use crate::file::{Reader, Writer};
use crate::index::{
    Candidate, Hit, Metric, SearchStats, VectorIndex, check_dim, check_new_ids, check_rows, keep_best, prepare_query,
    sorted_hits,
};

const KIND: [u8; 4] = *b"CFLT";

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// IEEE half precision: 2 bytes a value.
    F16,
    /// A signed byte a value and one scale a row.
    Int8,
}

/// An exact scan over rounded vectors. The query stays in f32, and sums are in f32.
#[derive(Debug, Clone)]
pub struct CompactFlat {
    metric: Metric,
    dim: usize,
    storage: Storage,
    ids: Vec<u64>,
    /// Half precision bits, `dim` a row; empty for [`Storage::Int8`].
    halves: Vec<u16>,
    /// Levels, `dim` a row, and the scale of each row; empty for [`Storage::F16`].
    levels: Vec<i8>,
    scales: Vec<f32>,
    /// Squared length of each rounded row, from which distances are made of products.
    squares: Vec<f32>,
    row_of: HashMap<u64, usize>,
}

impl CompactFlat {
    /// An empty index for vectors of `dim >= 1` values.
    pub fn new(dim: usize, metric: Metric, storage: Storage) -> Result<Self, AnnError> {
        check_dim(dim)?;
        Ok(Self {
            metric,
            dim,
            storage,
            ids: Vec::new(),
            halves: Vec::new(),
            levels: Vec::new(),
            scales: Vec::new(),
            squares: Vec::new(),
            row_of: HashMap::new(),
        })
    }

    /// How values are stored.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Bytes of the values and their scales, without ids and squared lengths.
    pub fn value_bytes(&self) -> usize {
        2 * self.halves.len() + self.levels.len() + 4 * self.scales.len()
    }

    /// [`VectorIndex::search_where`], and what it cost.
    pub fn search_counted(
        &self,
        query: &[f32],
        k: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(Vec<Hit>, SearchStats), AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        let query = query.row(0);
        let own = kernels::dot(query, query);
        let (mut best, mut stats) = (BinaryHeap::new(), SearchStats::default());
        if k == 0 {
            return Ok((Vec::new(), stats));
        }
        for (row, &id) in self.ids.iter().enumerate() {
            if !keep(id) {
                continue;
            }
            let range = row * self.dim..(row + 1) * self.dim;
            let product = match self.storage {
                Storage::F16 => kernels::dot_f16(query, &self.halves[range]),
                Storage::Int8 => self.scales[row] * kernels::dot_levels(query, &self.levels[range]),
            };
            let distance = match self.metric {
                Metric::Dot | Metric::Cosine => -product,
                // Rounding may bring the distance of equal vectors below 0.
                Metric::SquaredL2 => (own - 2.0 * product + self.squares[row]).max(0.0),
            };
            stats.codes_scanned += 1;
            keep_best(&mut best, Candidate { distance, id }, k);
        }
        let width = if self.storage == Storage::F16 { 2 } else { 1 };
        stats.values_read = stats.codes_scanned * self.dim as u64;
        stats.bytes_read = stats.values_read * width;
        Ok((sorted_hits(self.metric, best), stats))
    }

    /// Lengths of the rounded rows from `row` on.
    fn extend_squares(&mut self) {
        for row in self.squares.len()..self.ids.len() {
            let range = row * self.dim..(row + 1) * self.dim;
            let square = match self.storage {
                Storage::F16 => self.halves[range].iter().map(|&h| kernels::f16_value(h).powi(2)).sum(),
                Storage::Int8 => {
                    let levels = &self.levels[range];
                    self.scales[row].powi(2) * kernels::dot_i8(levels, levels) as f32
                }
            };
            self.squares.push(square);
        }
    }
}

impl VectorIndex for CompactFlat {
    fn dim(&self) -> usize {
        self.dim
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn contains(&self, id: u64) -> bool {
        self.row_of.contains_key(&id)
    }

    /// Cosine normalizes before it rounds. Half precision refuses values beyond 65,504.
    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim, ids, vectors)?;
        check_new_ids(ids, |id| self.contains(id))?;
        let vectors = self.metric.stored(vectors.clone());
        let codec: &dyn Codec = match self.storage {
            Storage::F16 => &F16::new(self.dim),
            Storage::Int8 => &Int8::new(self.dim),
        };
        let codes: Vec<Vec<u8>> = vectors.iter_rows().map(|row| codec.encode(row)).collect::<Result<_, _>>()?;
        for (&id, code) in ids.iter().zip(codes) {
            self.row_of.insert(id, self.ids.len());
            self.ids.push(id);
            match self.storage {
                Storage::F16 => self.halves.extend(code.as_chunks::<2>().0.iter().map(|&h| u16::from_le_bytes(h))),
                Storage::Int8 => {
                    if let Some((scale, levels)) = code.split_first_chunk::<4>() {
                        self.scales.push(f32::from_le_bytes(*scale));
                        self.levels.extend(levels.iter().map(|&level| level as i8));
                    }
                }
            }
        }
        self.extend_squares();
        Ok(())
    }

    /// The last row moves into the gap.
    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        let before = self.ids.len();
        for id in ids {
            let Some(row) = self.row_of.remove(id) else { continue };
            self.ids.swap_remove(row);
            self.squares.swap_remove(row);
            let last = self.ids.len() * self.dim;
            match self.storage {
                Storage::F16 => {
                    self.halves.copy_within(last.., row * self.dim);
                    self.halves.truncate(last);
                }
                Storage::Int8 => {
                    self.scales.swap_remove(row);
                    self.levels.copy_within(last.., row * self.dim);
                    self.levels.truncate(last);
                }
            }
            if let Some(&moved) = self.ids.get(row) {
                self.row_of.insert(moved, row);
            }
        }
        Ok(before - self.ids.len())
    }

    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        Ok(self.search_counted(query, k, keep)?.0)
    }

    fn save(&self, path: &Path) -> Result<(), AnnError> {
        let mut out = Writer::default();
        out.u8(self.metric.code());
        out.u8(u8::from(self.storage == Storage::Int8));
        out.u32(self.dim as u32);
        out.u64(self.ids.len() as u64);
        out.u64s(&self.ids);
        out.f32s(&self.scales);
        let halves = self.halves.iter().flat_map(|half| half.to_le_bytes());
        out.bytes(&halves.chain(self.levels.iter().map(|&level| level as u8)).collect::<Vec<u8>>());
        out.finish(path, KIND)
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut file = Reader::open(path, KIND)?;
        let metric = Metric::from_code(file.u8()?).ok_or_else(|| file.corrupt("unknown metric"))?;
        let storage = if file.u8()? == 0 { Storage::F16 } else { Storage::Int8 };
        let mut index = Self::new(file.u32()? as usize, metric, storage)?;
        let rows = file.u64()? as usize;
        index.ids = file.u64s(rows)?;
        let values = rows.saturating_mul(index.dim);
        match storage {
            Storage::F16 => {
                let bytes = file.bytes(values.saturating_mul(2))?;
                index.halves = bytes.as_chunks::<2>().0.iter().map(|&half| u16::from_le_bytes(half)).collect();
            }
            Storage::Int8 => {
                index.scales = file.f32s(rows)?;
                index.levels = file.bytes(values)?.into_iter().map(|level| level as i8).collect();
            }
        }
        index.row_of = index.ids.iter().copied().zip(0..).collect();
        if index.row_of.len() != rows {
            return Err(file.corrupt("an id stands twice"));
        }
        file.finish()?;
        index.extend_squares();
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FlatIndex, recall};
    use eas_data::synth::unit_cube;

    #[test]
    fn rounded_scans_agree_with_the_exact_one_within_their_rounding() {
        let (vectors, queries) = (unit_cube(11, 1_000, 64), unit_cube(12, 5, 64));
        let ids: Vec<u64> = (0..1_000).collect();
        for metric in [Metric::Cosine, Metric::Dot, Metric::SquaredL2] {
            let mut flat = FlatIndex::new(64, metric).unwrap();
            flat.add(&ids, &vectors).unwrap();
            let truth = flat.search_batch(&queries, 10).unwrap();
            for (storage, bytes, error, least) in
                [(Storage::F16, 128_000, 2.0e-4, 1.0), (Storage::Int8, 68_000, 8e-3, 0.9)]
            {
                let mut compact = CompactFlat::new(64, metric, storage).unwrap();
                compact.add(&ids, &vectors).unwrap();
                assert_eq!(compact.value_bytes(), bytes);
                let found = compact.search_batch(&queries, 10).unwrap();
                assert!(recall(&found, &truth) >= least, "{metric:?} {storage:?}");
                for (query, hits) in queries.iter_rows().zip(&found) {
                    let all = flat.search(query, 1_000).unwrap();
                    for hit in hits {
                        let exact = all.iter().find(|other| other.id == hit.id).unwrap().score;
                        assert!((hit.score - exact).abs() <= error, "{metric:?} {storage:?}: {} {exact}", hit.score);
                    }
                }
                let (odd, stats) = compact.search_counted(queries.row(0), 7, &|id| id % 2 == 1).unwrap();
                assert!(odd.len() == 7 && odd.iter().all(|hit| hit.id % 2 == 1) && stats.codes_scanned == 500);
                compact.remove(&[259, 999, 5_000]).unwrap();
                assert_eq!(compact.len(), 998);
                let path = tempfile::tempdir().unwrap().keep().join("index");
                compact.save(&path).unwrap();
                let loaded = CompactFlat::load(&path).unwrap();
                assert_eq!(loaded.search_batch(&queries, 50).unwrap(), compact.search_batch(&queries, 50).unwrap());
            }
        }
    }

    #[test]
    fn values_beyond_half_precision_are_refused_and_nothing_changes() {
        let mut index = CompactFlat::new(2, Metric::Dot, Storage::F16).unwrap();
        let rows = Matrix::from_rows(&[[1.0, 2.0], [7e4, 0.0]]).unwrap();
        assert!(index.add(&[1, 2], &rows).unwrap_err().to_string().contains("half precision"));
        assert!(index.is_empty());
        // Cosine normalizes first: 64 values of 60 become 0.125 each.
        let mut cosine = CompactFlat::new(64, Metric::Cosine, Storage::F16).unwrap();
        cosine.add(&[1], &Matrix::from_rows(&[[6e6; 64]]).unwrap()).unwrap();
        assert_eq!(cosine.search(&[1.0; 64], 1).unwrap()[0].score, 1.0);
    }
}
