//! [`TieredStore`]: a file of vectors on disk with its most wanted rows in memory.

use std::borrow::Cow;

use eas_ann::{AnnError, VectorFile};

use crate::{Cache, CacheStats, Policy};

/// A [`VectorFile`] behind a cache of rows.
///
/// ```
/// use eas_ann::{Dtype, VectorFile};
/// use eas_ops::{Policy, TieredStore};
/// use eas_tensor::Matrix;
///
/// let path = std::env::temp_dir().join(format!("eas-tiered-{}.vec", std::process::id()));
/// let mut file = VectorFile::create(&path, 2, Dtype::F32)?;
/// file.append(&Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])?)?;
///
/// let mut store = TieredStore::new(file, 2, Policy::Lru);
/// for row in [2, 2, 0, 2] {
///     store.get(row)?;
/// }
/// assert_eq!((store.stats().hits, store.stats().misses), (2, 2));
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TieredStore {
    file: VectorFile,
    cache: Cache<u64, Box<[f32]>>,
}

impl TieredStore {
    /// Keeps up to `ram_rows` rows of `file` in memory, chosen by `policy`.
    pub fn new(file: VectorFile, ram_rows: usize, policy: Policy) -> Self {
        Self { file, cache: Cache::new(ram_rows, policy) }
    }

    /// The file.
    pub fn file(&self) -> &VectorFile {
        &self.file
    }

    /// Hits, misses and evictions so far.
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Whether the row is in memory.
    pub fn in_ram(&self, row: u64) -> bool {
        self.cache.peek(&row).is_some()
    }

    /// Row `row`, from memory or else from the file. A row that isn't there is an error and no access.
    pub fn get(&mut self, row: u64) -> Result<Cow<'_, [f32]>, AnnError> {
        if self.cache.peek(&row).is_none() {
            let values = self.file.get(row)?;
            if self.cache.get(&row).is_none() {
                self.cache.insert(row, Box::from(values.as_ref()));
            }
            return Ok(values);
        }
        Ok(Cow::Borrowed(self.cache.get(&row).map_or(&[], |values| values)))
    }
}

/// Average memory access time in ms: a share `hit_rate` of the accesses takes `ram_ms`, the rest `disk_ms`.
pub fn amat(hit_rate: f64, ram_ms: f64, disk_ms: f64) -> f64 {
    hit_rate * ram_ms + (1.0 - hit_rate) * disk_ms
}

#[cfg(test)]
mod tests {
    use eas_ann::Dtype;
    use eas_data::synth::vectors::unit_cube;

    use super::*;

    #[test]
    fn rows_are_the_files_whatever_the_tier() {
        let dir = tempfile::tempdir().unwrap();
        let rows = unit_cube(11, 50, 8);
        let mut file = VectorFile::create(&dir.path().join("a.vec"), 8, Dtype::F32).unwrap();
        file.append(&rows).unwrap();
        let mut store = TieredStore::new(file, 5, Policy::Lfu);
        for access in 0..500u64 {
            let row = access * access % 50;
            assert_eq!(*store.get(row).unwrap(), *rows.row(row as usize));
        }
        let stats = store.stats();
        assert_eq!(stats.accesses(), 500);
        assert!(matches!(store.get(50), Err(AnnError::OutOfRange { row: 50, rows: 50 })));
        assert_eq!(store.stats(), stats);
    }

    #[test]
    fn mean_access_times_are_the_published_ones() {
        assert!((amat(0.9, 0.1, 10.0) - 1.09).abs() < 1e-12);
        assert!((amat(0.764_791, 0.1, 10.0) - 2.428_571).abs() < 2e-6);
    }
}
