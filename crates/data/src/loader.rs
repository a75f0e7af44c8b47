//! [`Loader`]: batches that several threads prepare ahead, in the order in which they were asked for.

use std::sync::mpsc::sync_channel;

use crate::DataError;

/// Prepares batches on `workers` threads, a few ahead of whoever uses them.
///
/// Worker `w` makes batches `w`, `w + workers`, ... and hands each over through a channel of its own that holds `ahead` of them. Whoever
/// uses them takes from the channels in turn, so the order is that of the indices whatever the number of workers, and memory is bounded.
///
/// ```
/// use eas_data::loader::Loader;
///
/// let mut sums = Vec::new();
/// let load = |index: usize| Ok::<_, eas_data::DataError>(index * 10);
/// let batches = Loader::new(2, 4)?.run(&[3, 1, 2, 5, 4], load, |batch| {
///     sums.push(batch.into_iter().sum::<usize>());
///     Ok(())
/// })?;
/// assert_eq!((batches, sums), (2, vec![40, 70]));       // the last, incomplete batch is dropped
/// # Ok::<(), eas_data::DataError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loader {
    /// Items a batch.
    pub batch: usize,
    /// Threads.
    pub workers: usize,
    /// Whether an incomplete last batch is left out.
    pub drop_last: bool,
    /// Batches that a worker may be ahead.
    pub ahead: usize,
}

impl Loader {
    /// Complete batches of `batch` items, two ahead a worker.
    pub fn new(batch: usize, workers: usize) -> Result<Self, DataError> {
        let loader = Self { batch, workers, drop_last: true, ahead: 2 };
        loader.check().map(|()| loader)
    }

    fn check(&self) -> Result<(), DataError> {
        for (what, value) in [("batch", self.batch), ("workers", self.workers)] {
            if value == 0 {
                return Err(DataError::Argument { what, given: "0".to_owned(), expected: "at least 1" });
            }
        }
        Ok(())
    }

    /// How many batches `items` items make.
    pub fn batches(&self, items: usize) -> usize {
        let batch = self.batch.max(1);
        if self.drop_last { items / batch } else { items.div_ceil(batch) }
    }

    /// Loads the items of `indices` and hands the batches to `each` in order; the number of batches handed over. The first error, of an
    /// item or of `each`, ends the run.
    pub fn run<T, E>(
        &self,
        indices: &[usize],
        load: impl Fn(usize) -> Result<T, E> + Sync,
        mut each: impl FnMut(Vec<T>) -> Result<(), E>,
    ) -> Result<usize, E>
    where
        T: Send,
        E: Send + From<DataError>,
    {
        self.check()?;
        let batches = self.batches(indices.len());
        let load = &load;
        std::thread::scope(|scope| {
            let mut channels = Vec::new();
            for worker in 0..self.workers.min(batches) {
                let (sender, receiver) = sync_channel(self.ahead);
                channels.push(receiver);
                scope.spawn(move || {
                    let own = indices.chunks(self.batch).take(batches).skip(worker).step_by(self.workers);
                    for chunk in own {
                        // Nobody takes it any more when the run has ended early.
                        if sender.send(chunk.iter().map(|&index| load(index)).collect::<Result<Vec<T>, E>>()).is_err() {
                            return;
                        }
                    }
                });
            }
            for batch in 0..batches {
                // A worker that panicked sends nothing; the scope passes its panic on.
                let Ok(loaded) = channels[batch % channels.len()].recv() else { return Ok(batch) };
                each(loaded?)?;
            }
            Ok(batches)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn collect(loader: Loader, items: usize) -> Vec<Vec<usize>> {
        let indices: Vec<usize> = (0..items).map(|i| i * 7 % 101).collect();
        let mut seen = Vec::new();
        // Early batches take longest: an order by completion would turn them around.
        let load = |index: usize| {
            std::thread::sleep(Duration::from_micros(if index < 20 { 300 } else { 0 }));
            Ok::<_, DataError>(index)
        };
        let made = loader.run(&indices, load, |batch| {
            seen.push(batch);
            Ok(())
        });
        assert_eq!(made.unwrap(), seen.len());
        seen
    }

    #[test]
    fn the_order_does_not_depend_on_the_workers() {
        for items in [0, 1, 4, 5, 50, 51] {
            for drop_last in [true, false] {
                let loader = |workers| Loader { batch: 5, workers, drop_last, ahead: 1 };
                let expected: Vec<usize> = (0..items).map(|i| i * 7 % 101).collect();
                let kept = if drop_last { items / 5 * 5 } else { items };
                let expected: Vec<Vec<usize>> = expected[..kept].chunks(5).map(<[usize]>::to_vec).collect();
                for workers in [1, 2, 3, 16] {
                    assert_eq!(collect(loader(workers), items), expected);
                }
            }
        }
    }

    #[test]
    fn workers_are_only_a_little_ahead() {
        let loaded = AtomicUsize::new(0);
        let indices: Vec<usize> = (0..1_000).collect();
        let load = |index: usize| {
            loaded.fetch_add(1, Ordering::SeqCst);
            Ok::<_, DataError>(index)
        };
        let mut used = 0;
        Loader { batch: 1, workers: 3, drop_last: true, ahead: 2 }
            .run(&indices, load, |_| {
                used += 1;
                // Two in each channel, and one in each worker's hands.
                assert!(loaded.load(Ordering::SeqCst) <= used + 3 * 3);
                Ok(())
            })
            .unwrap();
        assert_eq!(used, 1_000);
    }

    #[test]
    fn the_first_error_ends_the_run() {
        let error = || DataError::Argument { what: "item", given: "7".to_owned(), expected: "another" };
        let loader = Loader::new(2, 3).unwrap();
        let indices: Vec<usize> = (0..100).collect();
        let mut seen = 0;
        let load = |index: usize| if index == 7 { Err(error()) } else { Ok(index) };
        let result = loader.run(&indices, load, |_| {
            seen += 1;
            Ok(())
        });
        assert!(matches!(result, Err(DataError::Argument { what: "item", .. })));
        assert_eq!(seen, 3);
        let result = loader.run(&indices, Ok, |batch| if batch[0] == 4 { Err(error()) } else { Ok(()) });
        assert!(result.is_err());
        assert!(Loader::new(0, 1).is_err() && Loader::new(1, 0).is_err());
    }
}
