//! Large batches from small ones: the gradient of many micro-batches before one step.

use candle_core::{DType, Tensor};

use crate::NnError;
use crate::gradients::Gradients;
use crate::params::Parameters;

/// Adds up micro-batch gradients until the effective batch is full.
///
/// Each micro-batch counts by its rows, so for a loss that is a mean over rows the result is the gradient of the effective batch, even
/// when its parts differ in size. A contrastive loss isn't such a mean: a row's negatives are the rest of its batch, and the sum over
/// micro-batches is the gradient of another, easier problem. [`GradCache`](eas_losses::wrapper::GradCache) is the exact method there.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use eas_nn::{accumulate::Accumulator, params::Parameters};
///
/// let mut params = Parameters::new(1, &Device::Cpu);
/// let weight = params.constant("weight", &[1], 0.0)?;
/// let mut batch = Accumulator::new(5)?;
/// for rows in [[1f32, 2.0].as_slice(), &[3.0, 4.0, 5.0]] {
///     let error = Tensor::new(rows, &Device::Cpu)?.broadcast_sub(&weight)?;
///     batch.add(&params, &error.sqr()?.mean_all()?, rows.len())?;
/// }
/// let done = batch.take()?.expect("five rows are in");
/// assert_eq!(done.gradients.get("weight").unwrap().to_vec1::<f32>()?, [-6.0]);   // -2 times the mean of 1 to 5
/// assert!((done.loss - 11.0).abs() < 1e-5);                                       // (1 + 4 + 9 + 16 + 25) / 5
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Accumulator {
    effective: usize,
    rows: usize,
    loss: f64,
    sum: Option<Gradients>,
}

/// The gradient of an effective batch.
#[derive(Debug, Clone)]
pub struct Accumulated {
    /// The mean gradient over all rows.
    pub gradients: Gradients,
    /// The mean loss over all rows.
    pub loss: f64,
    /// The rows that came in.
    pub rows: usize,
}

impl Accumulator {
    /// Batches of `effective` rows.
    pub fn new(effective: usize) -> Result<Self, NnError> {
        if effective == 0 {
            return Err(NnError::Argument {
                name: "effective batch",
                got: "0".to_owned(),
                expected: "at least 1".to_owned(),
            });
        }
        Ok(Self { effective, rows: 0, loss: 0.0, sum: None })
    }

    /// Adds the gradient of `loss`, the mean over `rows` rows; true when the effective batch is full.
    pub fn add(&mut self, params: &Parameters, loss: &Tensor, rows: usize) -> Result<bool, NnError> {
        let value: f64 = loss.to_dtype(DType::F64)?.to_scalar()?;
        self.add_gradients(params, &Gradients::of(loss, params)?, value, rows)
    }

    /// [`add`](Self::add) for a gradient that is there already.
    pub fn add_gradients(
        &mut self,
        params: &Parameters,
        gradients: &Gradients,
        loss: f64,
        rows: usize,
    ) -> Result<bool, NnError> {
        if rows == 0 {
            return Err(NnError::Empty { what: "micro-batch".to_owned() });
        }
        self.sum.get_or_insert_with(|| Gradients::none(params)).add(gradients, rows as f64)?;
        self.loss += loss * rows as f64;
        self.rows += rows;
        Ok(self.rows >= self.effective)
    }

    /// Rows added since the last [`take`](Self::take).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The mean over what came in, full or not, and an empty accumulator; `None` when nothing came in.
    ///
    /// At the end of the data this gives the rows that didn't fill a batch, which would be lost otherwise.
    pub fn take(&mut self) -> Result<Option<Accumulated>, NnError> {
        let Some(mut gradients) = self.sum.take() else { return Ok(None) };
        let rows = std::mem::take(&mut self.rows);
        let loss = std::mem::take(&mut self.loss) / rows as f64;
        gradients.scale(1.0 / rows as f64)?;
        Ok(Some(Accumulated { gradients, loss, rows }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use eas_losses::wrapper::GradCache;
    use eas_losses::{InfoNce, LossError, Negatives, fixtures};

    /// The encoder `W x` of listing 5.15 on fixture T.
    fn linear(dtype: DType) -> (Parameters, Var, fixtures::Tiny) {
        let mut params = Parameters::new(1, &Device::Cpu);
        let start = Tensor::new(&[[0.5f64, -0.25, 1.0], [0.75, 1.0, -0.5]], &Device::Cpu).unwrap();
        let weight = params.adopt("weight", &start.to_dtype(dtype).unwrap()).unwrap();
        (params, weight, fixtures::tiny(dtype, &Device::Cpu).unwrap())
    }

    fn info_nce(a: &Tensor, b: &Tensor, temperature: f64) -> Result<Tensor, LossError> {
        Ok(InfoNce::new(temperature).forward(a, b, Negatives::InBatch)?.loss)
    }

    fn rows(x: &Tensor, from: usize, count: usize) -> Tensor {
        x.narrow(0, from, count).unwrap()
    }

    fn flat(x: &Tensor) -> Vec<f64> {
        x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn assert_close(left: &[f64], right: &[f64], tolerance: f64) {
        assert_eq!(left.len(), right.len());
        for (l, r) in left.iter().zip(right) {
            assert!((l - r).abs() < tolerance, "{left:?} differs from {right:?}");
        }
    }

    const FULL: [f64; 6] = [0.46495357, -0.39416908, -0.19914631, -0.01389608, -0.10390518, 0.03509101];
    const ACCUMULATED: [f64; 6] = [0.55985691, -0.66229191, -0.39417692, -0.39185375, 0.36328441, 0.24143721];

    #[test]
    fn the_loss_of_two_halves_is_not_the_loss_of_the_whole() {
        let t = fixtures::tiny(DType::F64, &Device::Cpu).unwrap();
        for (temperature, whole, halves) in
            [(0.07, 0.011_811_276_0, 0.002_263_240_9), (0.5, 0.561_919_005_8, 0.250_532_434_8)]
        {
            let loss = |from, count| {
                let pair = (rows(&t.anchors, from, count), rows(&t.positives, from, count));
                info_nce(&pair.0, &pair.1, temperature).unwrap().to_scalar::<f64>().unwrap()
            };
            assert!((loss(0, 4) - whole).abs() < 1e-9);
            assert!((f64::midpoint(loss(0, 2), loss(2, 2)) - halves).abs() < 1e-9);
        }
    }

    #[test]
    fn accumulation_is_another_gradient_and_grad_cache_the_same() {
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-12)] {
            let (params, weight, t) = linear(dtype);
            let encode = |x: &Tensor| x.matmul(&weight.t().unwrap()).unwrap();
            let whole = info_nce(&encode(&t.anchors), &encode(&t.positives), 0.5).unwrap();
            let full = Gradients::of(&whole, &params).unwrap();
            assert_close(&flat(full.get("weight").unwrap()), &FULL, 1e-7);
            assert!((flat(&whole)[0] - 0.829_597_308_2).abs() < 1e-7);

            let mut naive = Accumulator::new(4).unwrap();
            for from in [0, 2] {
                let (a, p) = (rows(&t.anchors, from, 2), rows(&t.positives, from, 2));
                let full = naive.add(&params, &info_nce(&encode(&a), &encode(&p), 0.5).unwrap(), 2).unwrap();
                assert_eq!(full, from == 2);
            }
            let naive = naive.take().unwrap().unwrap();
            assert!((naive.loss - 0.433_749_616_6).abs() < 1e-7);
            assert_close(&flat(naive.gradients.get("weight").unwrap()), &ACCUMULATED, 1e-7);

            for micro in [1, 2, 4] {
                let chunks = |x: &Tensor| (0..4 / micro).map(|i| rows(x, i * micro, micro)).collect::<Vec<_>>();
                let (loss, store) = GradCache::step(
                    &[chunks(&t.anchors), chunks(&t.positives)],
                    |_, x| Ok(x.matmul(&weight.t()?)?),
                    |e| info_nce(&e[0], &e[1], 0.5),
                )
                .unwrap();
                let cached = Gradients::from_store(&store, &params);
                assert!((loss - 0.829_597_308_2).abs() < 1e-7);
                let (ours, theirs) = (cached.get("weight").unwrap(), full.get("weight").unwrap());
                assert_close(&flat(ours), &flat(theirs), tolerance);
            }
        }
    }

    #[test]
    fn towers_may_be_cut_differently() {
        let (params, weight, t) = linear(DType::F64);
        let chunks = |x: &Tensor, micro| (0..4 / micro).map(|i| rows(x, i * micro, micro)).collect::<Vec<_>>();
        let step = |a, p| {
            let inputs = [chunks(&t.anchors, a), chunks(&t.positives, p)];
            let encode = |_: usize, x: &Tensor| -> Result<Tensor, LossError> { Ok(x.matmul(&weight.t()?)?) };
            let (_, store) = GradCache::step(&inputs, encode, |e| info_nce(&e[0], &e[1], 0.5)).unwrap();
            flat(Gradients::from_store(&store, &params).get("weight").unwrap())
        };
        assert_close(&step(1, 4), &step(4, 4), 1e-12);
    }

    #[test]
    fn a_mean_over_rows_is_accumulated_exactly_whatever_the_parts() {
        let (params, weight, t) = linear(DType::F64);
        let mse = |from, count| {
            let out = rows(&t.anchors, from, count).matmul(&weight.t().unwrap()).unwrap();
            (out - rows(&t.positives, from, count).narrow(1, 0, 2).unwrap()).unwrap().sqr().unwrap().mean_all().unwrap()
        };
        let full = Gradients::of(&mse(0, 4), &params).unwrap();
        for parts in [&[2, 2][..], &[3, 1], &[1, 1, 2]] {
            let mut sum = Accumulator::new(4).unwrap();
            let mut from = 0;
            for &count in parts {
                sum.add(&params, &mse(from, count), count).unwrap();
                from += count;
            }
            let done = sum.take().unwrap().unwrap();
            assert_close(&flat(done.gradients.get("weight").unwrap()), &flat(full.get("weight").unwrap()), 1e-14);
            assert!((done.loss - flat(&mse(0, 4))[0]).abs() < 1e-14);
        }
    }

    #[test]
    fn the_rest_of_the_data_is_not_lost_and_nothing_is_refused() {
        let (params, weight, _) = linear(DType::F64);
        let mut sum = Accumulator::new(4).unwrap();
        assert!(sum.take().unwrap().is_none());
        let loss = weight.sqr().unwrap().sum_all().unwrap();
        assert!(!sum.add(&params, &loss, 3).unwrap());
        assert!(matches!(sum.add(&params, &loss, 0), Err(NnError::Empty { .. })));
        let rest = sum.take().unwrap().unwrap();
        assert_eq!((rest.rows, sum.rows()), (3, 0));
        assert_close(&flat(rest.gradients.get("weight").unwrap()), &flat(&(weight.as_tensor() * 2.0).unwrap()), 1e-15);
        assert!(Accumulator::new(0).is_err());
    }
}
