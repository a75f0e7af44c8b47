//! Indexes that threads share: [`Versioned`] replaces a whole one while searches run, [`Shared`] changes one in place.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use eas_tensor::Matrix;

use crate::{AnnError, Hit, VectorIndex};

/// One version of a value. A search holds it to its end, whatever is put in its place meanwhile.
#[derive(Debug)]
pub struct Version<T> {
    /// 1 for the first, one more at each swap.
    pub number: u64,
    /// The value.
    pub value: T,
}

/// A value that is replaced as a whole, as by an index that was built anew in the background. No reader waits for the building, and
/// none sees a part of each.
///
/// ```
/// use eas_ann::versioned::Versioned;
///
/// let index = Versioned::new(vec![1, 2]);
/// let searching = index.current();
/// index.swap(vec![1, 2, 3]);
/// assert_eq!((searching.number, searching.value.len()), (1, 2));
/// assert_eq!((index.current().number, index.current().value.len()), (2, 3));
/// ```
#[derive(Debug)]
pub struct Versioned<T> {
    current: RwLock<Arc<Version<T>>>,
}

impl<T> Versioned<T> {
    /// Version 1.
    pub fn new(value: T) -> Self {
        Self { current: RwLock::new(Arc::new(Version { number: 1, value })) }
    }

    /// The version in force, for as long as the caller holds it.
    pub fn current(&self) -> Arc<Version<T>> {
        // A lock is poisoned by a panic while it was held; what it protects is one pointer, which is whole at any time.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `value` in force for every search that begins from now on, and returns the version before it.
    pub fn swap(&self, value: T) -> Arc<Version<T>> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let number = current.number + 1;
        std::mem::replace(&mut current, Arc::new(Version { number, value }))
    }
}

/// An index for many threads: any number of searches at a time, or one change. A change is visible to every search that begins after it returned.
#[derive(Debug)]
pub struct Shared<I> {
    index: RwLock<I>,
}

impl<I: VectorIndex> Shared<I> {
    /// Shares `index`.
    pub fn new(index: I) -> Self {
        Self { index: RwLock::new(index) }
    }

    /// The index for reading; changes wait while it is held.
    pub fn read(&self) -> RwLockReadGuard<'_, I> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index for changes of more than one step; everything waits while it is held.
    pub fn write(&self) -> RwLockWriteGuard<'_, I> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`VectorIndex::add`].
    pub fn add(&self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        self.write().add(ids, vectors)
    }

    /// [`VectorIndex::upsert`].
    pub fn upsert(&self, ids: &[u64], vectors: &Matrix) -> Result<usize, AnnError> {
        self.write().upsert(ids, vectors)
    }

    /// [`VectorIndex::remove`].
    pub fn remove(&self, ids: &[u64]) -> Result<usize, AnnError> {
        self.write().remove(ids)
    }

    /// [`VectorIndex::search`].
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, AnnError> {
        self.read().search(query, k)
    }

    /// The index, no longer shared.
    pub fn into_inner(self) -> I {
        self.index.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn readers_see_whole_versions_in_order() {
        let versions = Versioned::new(vec![1u64; 100]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let (mut last, mut seen) = (0, 0);
                        while !stop.load(Ordering::Relaxed) || seen == 0 {
                            let version = versions.current();
                            assert!(version.value.iter().all(|&x| x == version.number));
                            assert!(version.number >= last);
                            last = version.number;
                            seen += 1;
                        }
                        seen
                    })
                })
                .collect();
            for number in 2..500 {
                assert_eq!(versions.swap(vec![number; 100]).number, number - 1);
            }
            stop.store(true, Ordering::Relaxed);
            assert!(readers.into_iter().all(|reader| reader.join().unwrap() > 0));
        });
        assert_eq!(versions.current().number, 499);
    }
}
