//! How fast a machine can be at most: the roofline (Williams, Waterman and Patterson, CACM 2009) of a scan, and the makespan of a
//! pipeline.
//!
//! A scan reads every vector once a batch of queries, and multiplies it with each query. Which of the two takes longer bounds the
//! batch: small ones wait for memory, large ones for arithmetic.

use std::hint::black_box;
use std::time::Instant;

use crate::PlanError;
use crate::error::{non_negative, positive};

/// What limits a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Bytes a second.
    Memory,
    /// Operations a second.
    Compute,
}

impl Bound {
    /// `memory` or `compute`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Compute => "compute",
        }
    }
}

/// A machine by its two limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofline {
    /// What it is.
    pub name: &'static str,
    /// Bytes a second from memory.
    pub bytes_per_second: f64,
    /// Additions and multiplications a second.
    pub flops: f64,
}

/// A scan of `rows` vectors of `dim` values of `bytes_per_value` bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scan {
    /// Vectors.
    pub rows: u64,
    /// Values a vector.
    pub dim: u32,
    /// Bytes a value: 4 for f32, 2 for f16, 1 for int8.
    pub bytes_per_value: u32,
}

impl Scan {
    /// A scan of `rows` vectors of `dim` values.
    pub fn new(rows: u64, dim: u32, bytes_per_value: u32) -> Self {
        Self { rows, dim, bytes_per_value }
    }

    /// Bytes that a pass over the vectors reads.
    pub fn bytes(&self) -> f64 {
        self.rows as f64 * f64::from(self.dim) * f64::from(self.bytes_per_value)
    }
}

impl Roofline {
    /// One NVIDIA A100 of 80 GB as its data sheet has it: 2,039 GB/s, 312 TFLOPS (dense, f16).
    pub fn a100_80gb() -> Self {
        Self { name: "A100 80 GB (data sheet, f16)", bytes_per_second: 2_039e9, flops: 312e12 }
    }

    /// One core of this machine, measured in about 50 ms with the crate's own dot product: bytes a second over an array that no
    /// cache holds, and operations a second over one that the first cache holds. Not the same at each call.
    pub fn measure() -> Self {
        use eas_tensor::kernels::dot;
        let large = vec![1.0f32; 16 << 20];
        let query = vec![0.5f32; 1 << 10];
        let pass = |rows: &[f32], times: usize| {
            let start = Instant::now();
            for _ in 0..times {
                for row in rows.chunks_exact(query.len()) {
                    black_box(dot(black_box(&query), row));
                }
            }
            times as f64 * rows.len() as f64 / start.elapsed().as_secs_f64()
        };
        pass(&large, 1);
        let streamed = pass(&large, 2);
        let cached = pass(&large[..4 << 10], 8_000);
        Self {
            name: "one core of this machine (measured, f32)",
            bytes_per_second: 4.0 * streamed,
            flops: 2.0 * cached.max(streamed),
        }
    }

    /// Milliseconds that reading the vectors once takes.
    pub fn memory_ms(&self, scan: &Scan) -> Result<f64, PlanError> {
        Ok(1e3 * scan.bytes() / positive("bytes a second", self.bytes_per_second)?)
    }

    /// Milliseconds that multiplying them with `batch` queries takes: `2 batch rows dim` operations.
    pub fn compute_ms(&self, scan: &Scan, batch: u32) -> Result<f64, PlanError> {
        let operations = 2.0 * f64::from(batch) * scan.rows as f64 * f64::from(scan.dim);
        Ok(1e3 * operations / positive("operations a second", self.flops)?)
    }

    /// What a batch of `batch` queries waits for.
    pub fn bound(&self, scan: &Scan, batch: u32) -> Result<Bound, PlanError> {
        if self.compute_ms(scan, batch)? > self.memory_ms(scan)? { Ok(Bound::Compute) } else { Ok(Bound::Memory) }
    }

    /// Milliseconds that a batch takes at least.
    pub fn least_ms(&self, scan: &Scan, batch: u32) -> Result<f64, PlanError> {
        Ok(self.memory_ms(scan)?.max(self.compute_ms(scan, batch)?))
    }

    /// The batch at which reading and computing take equally long; the vectors' number and length don't matter.
    pub fn ridge_batch(&self, bytes_per_value: u32) -> Result<f64, PlanError> {
        let flops_per_byte =
            positive("operations a second", self.flops)? / positive("bytes a second", self.bytes_per_second)?;
        Ok(flops_per_byte * f64::from(bytes_per_value) / 2.0)
    }
}

/// Time until the last of `items` has left a pipeline whose stages take these times and work side by side: the first item passes
/// through all, each other follows behind the slowest stage. 0 for no items.
///
/// ```
/// use eas_plan::roofline::{makespan, serial};
///
/// assert_eq!(makespan(&[4.0, 4.0, 4.0], 10)?, 48.0);
/// assert_eq!(serial(&[4.0, 4.0, 4.0], 10)?, 120.0);
/// # Ok::<(), eas_plan::PlanError>(())
/// ```
pub fn makespan(stages: &[f64], items: u32) -> Result<f64, PlanError> {
    let one = serial(stages, 1)?;
    let slowest = stages.iter().copied().fold(0.0, f64::max);
    Ok(if items == 0 { 0.0 } else { one + f64::from(items - 1) * slowest })
}

/// The same when each item passes through all stages before the next one starts.
pub fn serial(stages: &[f64], items: u32) -> Result<f64, PlanError> {
    if stages.is_empty() {
        return Err(PlanError::Missing("a stage"));
    }
    for &stage in stages {
        non_negative("stage time", stage)?;
    }
    Ok(f64::from(items) * stages.iter().sum::<f64>())
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a100_figures() {
        let gpu = Roofline::a100_80gb();
        let scan = Scan { rows: 100_000_000, dim: 512, bytes_per_value: 2 };
        assert_relative_eq!(gpu.memory_ms(&scan).unwrap(), 50.220_7, epsilon = 1e-4);
        let ten = Scan { rows: 10 * scan.rows, ..scan };
        assert_relative_eq!(gpu.memory_ms(&ten).unwrap(), 502.207, epsilon = 1e-3);
        assert_relative_eq!(gpu.compute_ms(&scan, 100).unwrap(), 32.820_5, epsilon = 1e-4);
        assert_relative_eq!(gpu.ridge_batch(2).unwrap(), 153.016, epsilon = 1e-3);
        assert_eq!(gpu.bound(&scan, 153).unwrap(), Bound::Memory);
        assert_eq!(gpu.bound(&scan, 154).unwrap(), Bound::Compute);
        assert_relative_eq!(gpu.least_ms(&scan, 1_000).unwrap(), 328.205, epsilon = 1e-3);
        assert!(scan.bytes() > 80e9); // 102.4 GB: it doesn't even fit
    }

    #[test]
    fn this_machine_has_limits() {
        let here = Roofline::measure();
        assert!(here.bytes_per_second > 1e6 && here.flops >= here.bytes_per_second / 2.0, "{here:?}");
    }

    #[test]
    fn published_makespans() {
        for (items, overlapped, one_by_one) in
            [(1, 12.0, 12.0), (2, 16.0, 24.0), (10, 48.0, 120.0), (100, 408.0, 1_200.0)]
        {
            assert_eq!(makespan(&[4.0; 3], items).unwrap(), overlapped);
            assert_eq!(serial(&[4.0; 3], items).unwrap(), one_by_one);
        }
        assert_eq!((makespan(&[2.0, 5.0, 1.0], 10).unwrap(), serial(&[2.0, 5.0, 1.0], 10).unwrap()), (53.0, 80.0));
        assert_eq!(makespan(&[3.0], 0).unwrap(), 0.0);
        assert!(makespan(&[], 3).is_err());
        assert!(makespan(&[1.0, f64::NAN], 3).is_err());
    }

    proptest! {
        #[test]
        fn makespan_equals_the_schedule_item_by_item(stages in prop::collection::vec(0.0f64..9.0, 1..5), items in 1u32..20) {
            let mut free = vec![0.0f64; stages.len()];
            for _ in 0..items {
                let mut ready = 0.0f64;
                for (at, time) in free.iter_mut().zip(&stages) {
                    ready = ready.max(*at) + time;
                    *at = ready;
                }
            }
            prop_assert!((makespan(&stages, items).unwrap() - free[stages.len() - 1]).abs() < 1e-9);
        }
    }
}
