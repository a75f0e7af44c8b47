//! Optimizers whose state can be saved, and learning-rate schedules.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use candle_core::{CpuStorage, DType, Device, InplaceOp3, Layout, Tensor, Var};

use crate::NnError;
use crate::fused::AdamStep;
use crate::gradients::Gradients;
use crate::params::Parameters;

/// How a gradient becomes a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Stochastic gradient descent, `theta <- theta - lr v` with `v <- momentum v + g`, where `g` has `weight_decay theta` added.
    Sgd {
        /// What the earlier steps' sum is multiplied by; 0 for none.
        momentum: f64,
        /// Whether the step looks ahead, `g + momentum v` (Nesterov 1983).
        nesterov: bool,
        /// L2 penalty.
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019): `theta <- (1 - lr wd) theta - lr m^ / (sqrt(v^) + epsilon)`.
    AdamW {
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squared gradients.
        beta2: f64,
        /// Added to the denominator.
        epsilon: f64,
        /// Decay of the weights.
        weight_decay: f64,
    },
    /// LAMB, Adam's direction scaled layer by layer to the length of the weights, for large batches (You et al., ICLR 2020):
    /// `r = m^ / (sqrt(v^) + epsilon) + wd theta`, `theta <- theta - lr |theta| / |r| r`; the ratio is 1 where a length is 0.
    Lamb {
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squared gradients.
        beta2: f64,
        /// Added to the denominator.
        epsilon: f64,
        /// Decay of the weights.
        weight_decay: f64,
    },
}

impl Method {
    /// Plain gradient descent.
    pub const SGD: Self = Self::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    /// Adam (Kingma and Ba 2015) with its usual constants and no weight decay.
    pub const ADAM: Self = Self::adamw(0.0);
    /// LAMB with its usual constants.
    pub const LAMB: Self = Self::Lamb { beta1: 0.9, beta2: 0.999, epsilon: 1e-6, weight_decay: 0.01 };

    /// [`Method::AdamW`] with betas 0.9 and 0.999 and epsilon 1e-8.
    pub const fn adamw(weight_decay: f64) -> Self {
        Self::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay }
    }

    fn check(self) -> Result<(), NnError> {
        let below_one = |x: f64| (0.0..1.0).contains(&x);
        let not_negative = |x: f64| x >= 0.0 && x.is_finite();
        let fine = match self {
            Self::Sgd { momentum, weight_decay, .. } => below_one(momentum) && not_negative(weight_decay),
            Self::AdamW { beta1, beta2, epsilon, weight_decay }
            | Self::Lamb { beta1, beta2, epsilon, weight_decay } => {
                below_one(beta1) && below_one(beta2) && epsilon > 0.0 && not_negative(weight_decay)
            }
        };
        if fine {
            return Ok(());
        }
        Err(NnError::Argument {
            name: "optimizer",
            got: format!("{self:?}"),
            expected:
                "momentum and betas at least 0 and below 1, a positive epsilon, a finite weight decay of at least 0"
                    .to_owned(),
        })
    }

    /// The tensors that it keeps beside each weight.
    fn slots(self) -> &'static [&'static str] {
        match self {
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &["momentum"],
            Self::AdamW { .. } | Self::Lamb { .. } => &["mean", "square"],
        }
    }
}

/// The state of an optimization of some [`Parameters`]. The learning rate is given at each step: see [`Schedule`].
///
/// ```
/// use candle_core::Device;
/// use eas_nn::{gradients::Gradients, optim::{Method, Optimizer}, params::Parameters};
///
/// let mut params = Parameters::new(1, &Device::Cpu);
/// let x = params.constant("x", &[1], 5.0)?;
/// let mut optimizer = Optimizer::new(Method::SGD, &params)?;
/// for _ in 0..3 {
///     let loss = x.sqr()?.sum_all()?;
///     optimizer.step(&Gradients::of(&loss, &params)?, 0.25)?;     // x <- x - 0.25 * 2 x
/// }
/// assert_eq!(x.to_vec1::<f32>()?, [0.625]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Optimizer {
    method: Method,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    name: String,
    weight: Var,
    /// Steps in which this weight had a gradient.
    steps: u32,
    state: Vec<Var>,
}

impl Optimizer {
    /// An optimizer of all of `params` that has made no step.
    pub fn new(method: Method, params: &Parameters) -> Result<Self, NnError> {
        method.check()?;
        let slots = params
            .named()
            .map(|(name, weight)| {
                let state = method.slots().iter().map(|_| Var::from_tensor(&weight.zeros_like()?));
                Ok(Slot {
                    name: name.to_owned(),
                    weight: weight.clone(),
                    steps: 0,
                    state: state.collect::<candle_core::Result<_>>()?,
                })
            })
            .collect::<Result<_, NnError>>()?;
        Ok(Self { method, slots })
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Makes a step of the given learning rate. A weight without a gradient stays, decay included, as in PyTorch.
    ///
    /// Gradients that aren't finite are an error that names the tensor, and then no weight is changed.
    pub fn step(&mut self, gradients: &Gradients, learning_rate: f64) -> Result<(), NnError> {
        if !(learning_rate >= 0.0 && learning_rate.is_finite()) {
            return Err(NnError::Argument {
                name: "learning rate",
                got: learning_rate.to_string(),
                expected: "at least 0 and finite".to_owned(),
            });
        }
        if let Some((tensor, value)) = gradients.first_not_finite()? {
            return Err(NnError::NotFinite { what: format!("the gradient of {tensor:?}"), value });
        }
        self.step_unchecked(gradients, learning_rate)
    }

    /// [`step`](Self::step) for gradients that are known to be finite.
    pub(crate) fn step_unchecked(&mut self, gradients: &Gradients, learning_rate: f64) -> Result<(), NnError> {
        let names: usize = gradients.iter().count();
        if names != self.slots.len() {
            return Err(NnError::Argument {
                name: "gradients",
                got: format!("{names} tensors"),
                expected: format!("{} tensors", self.slots.len()),
            });
        }
        for (slot, (name, gradient)) in self.slots.iter_mut().zip(gradients.iter()) {
            if slot.name != name {
                return Err(NnError::Parameter(name.to_owned()));
            }
            let Some(gradient) = gradient else { continue };
            slot.steps += 1;
            match self.method {
                Method::Sgd { momentum, nesterov, weight_decay } => {
                    slot.descend(gradient, learning_rate, momentum, nesterov, weight_decay)?;
                }
                Method::AdamW { beta1, beta2, epsilon, weight_decay } => {
                    let betas = [beta1, beta2];
                    let corrections = slot.corrections(betas);
                    let shrink = 1.0 - learning_rate * weight_decay;
                    let [mean, square] = [&slot.state[0], &slot.state[1]];
                    let fused = AdamStep { betas, corrections, epsilon, learning_rate, shrink };
                    if !fused.apply(&slot.weight, mean, square, gradient)? {
                        slot.adam(gradient, betas)?;
                        let [first, second] = corrections;
                        let step = ((mean.as_tensor() * first)? / ((square.as_tensor() * second)?.sqrt()? + epsilon)?)?;
                        slot.weight.set(&((slot.weight.as_detached_tensor() * shrink)? - (step * learning_rate)?)?)?;
                    }
                }
                Method::Lamb { beta1, beta2, epsilon, weight_decay } => {
                    slot.adam(gradient, [beta1, beta2])?;
                    let [first, second] = slot.corrections([beta1, beta2]);
                    let weight = slot.weight.as_detached_tensor();
                    let adam = ((slot.state[0].as_tensor() * first)?
                        / ((slot.state[1].as_tensor() * second)?.sqrt()? + epsilon)?)?;
                    let direction = (adam + (&weight * weight_decay)?)?;
                    let (own, other) = (length(&weight)?, length(&direction)?);
                    let ratio = if own > 0.0 && other > 0.0 { own / other } else { 1.0 };
                    slot.weight.set(&(weight - (direction * (learning_rate * ratio))?)?)?;
                }
            }
        }
        Ok(())
    }

    /// All that a later [`restore`](Self::restore) needs, by name.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>, NnError> {
        let steps: Vec<u32> = self.slots.iter().map(|slot| slot.steps).collect();
        let mut state = BTreeMap::from([(STEPS.to_owned(), Tensor::new(steps, &Device::Cpu)?)]);
        for slot in &self.slots {
            for (kind, tensor) in self.method.slots().iter().zip(&slot.state) {
                state.insert(format!("{}/{kind}", slot.name), tensor.as_tensor().copy()?);
            }
        }
        Ok(state)
    }

    /// Goes on from a saved [`state`](Self::state) of the same method and model; otherwise an error, and nothing is changed.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), NnError> {
        let missing = |name: &str| NnError::Parameter(name.to_owned());
        let steps = state.get(STEPS).ok_or_else(|| missing(STEPS))?.to_vec1::<u32>()?;
        if steps.len() != self.slots.len() {
            return Err(missing(STEPS));
        }
        let known = 1 + self.slots.len() * self.method.slots().len();
        let mut found = Vec::with_capacity(known);
        for slot in &self.slots {
            for (kind, own) in self.method.slots().iter().zip(&slot.state) {
                let name = format!("{}/{kind}", slot.name);
                let saved = state.get(&name).ok_or_else(|| missing(&name))?;
                if saved.dims() != own.dims() || saved.dtype() != own.dtype() {
                    return Err(NnError::Shape {
                        what: name,
                        expected: format!("{:?}", own.dims()),
                        got: saved.dims().to_vec(),
                    });
                }
                found.push((own, saved));
            }
        }
        if state.len() != known {
            return Err(missing("of another optimizer"));
        }
        for (own, saved) in found {
            own.set(&saved.to_device(own.device())?.copy()?)?;
        }
        for (slot, steps) in self.slots.iter_mut().zip(steps) {
            slot.steps = steps;
        }
        Ok(())
    }
}

const STEPS: &str = "steps";

impl Slot {
    fn descend(
        &self,
        gradient: &Tensor,
        learning_rate: f64,
        momentum: f64,
        nesterov: bool,
        weight_decay: f64,
    ) -> Result<(), NnError> {
        let weight = self.weight.as_detached_tensor();
        let gradient = if weight_decay > 0.0 { (gradient + (&weight * weight_decay)?)? } else { gradient.clone() };
        let direction = match self.state.first() {
            None => gradient,
            Some(velocity) => {
                let next = ((velocity.as_detached_tensor() * momentum)? + &gradient)?;
                velocity.set(&next)?;
                if nesterov { (gradient + (next * momentum)?)? } else { next }
            }
        };
        Ok(self.weight.set(&(weight - (direction * learning_rate)?)?)?)
    }

    /// Takes `gradient` into the running means of gradients and of their squares.
    fn adam(&self, gradient: &Tensor, [beta1, beta2]: [f64; 2]) -> Result<(), NnError> {
        let [mean, square] = [&self.state[0], &self.state[1]];
        let (own, new) = (beta1 as f32, (1.0 - beta1) as f32);
        if !in_place(mean, gradient, gradient, move |m, g, _| m * own + g * new)? {
            mean.set(&((mean.as_detached_tensor() * beta1)? + (gradient * (1.0 - beta1))?)?)?;
        }
        let (own, new) = (beta2 as f32, (1.0 - beta2) as f32);
        if !in_place(square, gradient, gradient, move |v, g, _| v * own + (g * g) * new)? {
            square.set(&((square.as_detached_tensor() * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?)?;
        }
        Ok(())
    }

    /// What makes the running means unbiased: they started from zero.
    fn corrections(&self, betas: [f64; 2]) -> [f64; 2] {
        betas.map(|beta| 1.0 / (1.0 - beta.powi(self.steps as i32)))
    }
}

fn length(x: &Tensor) -> Result<f64, NnError> {
    Ok(x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
}

/// `x <- f(x, a, b)` value by value; false, and nothing done, unless all three are contiguous f32 on a CPU.
fn in_place(x: &Var, a: &Tensor, b: &Tensor, f: impl Fn(f32, f32, f32) -> f32) -> Result<bool, NnError> {
    let plain = |t: &Tensor| t.device().is_cpu() && t.dtype() == DType::F32 && t.is_contiguous();
    if !(plain(x) && plain(a) && plain(b)) {
        return Ok(false);
    }
    x.inplace_op3(a, b, &ValueByValue(f))?;
    Ok(true)
}

struct ValueByValue<F>(F);

impl<F: Fn(f32, f32, f32) -> f32> InplaceOp3 for ValueByValue<F> {
    fn name(&self) -> &'static str {
        "value-by-value"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<()> {
        let part = |layout: &Layout| {
            layout
                .contiguous_offsets()
                .map(|(from, to)| from..to)
                .ok_or_else(|| candle_core::Error::msg("contiguous tensors only"))
        };
        let (CpuStorage::F32(x), CpuStorage::F32(a), CpuStorage::F32(b)) = (x, a, b) else {
            candle_core::bail!("f32 only");
        };
        let (x, a, b) = (&mut x[part(x_layout)?], &a[part(a_layout)?], &b[part(b_layout)?]);
        for ((x, &a), &b) in x.iter_mut().zip(a).zip(b) {
            *x = (self.0)(*x, a, b);
        }
        Ok(())
    }
}

/// What follows the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// The peak for ever.
    Constant,
    /// A line from the peak to the floor.
    Linear,
    /// Half a cosine from the peak to the floor (Loshchilov and Hutter, ICLR 2017).
    Cosine,
}

/// The learning rate of each step: a line from 0 up to the peak, then a [`Decay`].
///
/// ```
/// use eas_nn::optim::{Decay, Schedule};
///
/// let schedule = Schedule { peak: 1.0, warm_up: 4, total: 12, decay: Decay::Linear, floor: 0.0 };
/// let rates: Vec<f64> = [0, 1, 3, 4, 8, 12, 99].map(|step| schedule.at(step)).to_vec();
/// assert_eq!(rates, [0.25, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The largest rate.
    pub peak: f64,
    /// Steps of the warm-up: step `t` from 0 has the rate `peak (t + 1) / warm_up`, so that the first one isn't lost.
    pub warm_up: u64,
    /// The step at which the floor is reached.
    pub total: u64,
    /// The way from the peak to the floor.
    pub decay: Decay,
    /// The smallest rate after the warm-up.
    pub floor: f64,
}

impl Schedule {
    /// The same rate always.
    pub fn constant(rate: f64) -> Self {
        Self { peak: rate, warm_up: 0, total: 0, decay: Decay::Constant, floor: 0.0 }
    }

    /// Warm-up, then a line to 0 at step `total`.
    pub fn linear(peak: f64, warm_up: u64, total: u64) -> Self {
        Self { peak, warm_up, total, decay: Decay::Linear, floor: 0.0 }
    }

    /// Warm-up, then half a cosine to 0 at step `total`.
    pub fn cosine(peak: f64, warm_up: u64, total: u64) -> Self {
        Self { peak, warm_up, total, decay: Decay::Cosine, floor: 0.0 }
    }

    /// An error unless `0 <= floor <= peak` are finite, the peak is positive and the warm-up ends before a decay does.
    pub fn check(&self) -> Result<(), NnError> {
        let rates = self.peak > 0.0 && self.peak.is_finite() && (0.0..=self.peak).contains(&self.floor);
        if rates && (self.decay == Decay::Constant || self.warm_up < self.total) {
            return Ok(());
        }
        Err(NnError::Argument {
            name: "learning-rate schedule",
            got: format!("{self:?}"),
            expected: "0 <= floor <= peak, a positive finite peak, and a warm-up shorter than the total".to_owned(),
        })
    }

    /// The rate of step `step`, from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f64 / self.warm_up as f64;
        }
        let span = self.total.saturating_sub(self.warm_up).max(1);
        let way = ((step - self.warm_up) as f64 / span as f64).min(1.0);
        let left = match self.decay {
            Decay::Constant => return self.peak,
            Decay::Linear => 1.0 - way,
            Decay::Cosine => 0.5 * (1.0 + (PI * way).cos()),
        };
        self.floor + (self.peak - self.floor) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_nn::optim::{AdamW, Optimizer as _, ParamsAdamW};

    /// A model of two tensors and a loss whose gradient changes from step to step.
    fn model(dtype: DType) -> (Parameters, impl Fn() -> Tensor) {
        let mut params = Parameters::new(1, &Device::Cpu);
        let mut rng = eas_tensor::rng::SplitMix64::new(7);
        let mut normals = |shape: &[usize]| {
            let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
        };
        let weight = params.adopt("weight", &normals(&[5, 3])).unwrap();
        let bias = params.adopt("bias", &normals(&[5])).unwrap();
        let (x, y) = (normals(&[4, 3]), normals(&[4, 5]));
        let loss = move || {
            let out = x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
            (out.tanh().unwrap() - &y).unwrap().sqr().unwrap().mean_all().unwrap()
        };
        (params, loss)
    }

    fn values(params: &Parameters) -> Vec<f64> {
        let flat = |v: Var| v.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        params.vars().into_iter().flat_map(flat).collect()
    }

    fn run(method: Method, dtype: DType, steps: u64) -> Vec<f64> {
        let (params, loss) = model(dtype);
        let mut optimizer = Optimizer::new(method, &params).unwrap();
        for step in 0..steps {
            let gradients = Gradients::of(&loss(), &params).unwrap();
            optimizer.step(&gradients, 0.05 / (1 + step) as f64).unwrap();
        }
        values(&params)
    }

    #[test]
    fn adam_is_candles_to_the_bit() {
        for weight_decay in [0.0, 0.1] {
            let (params, loss) = model(DType::F32);
            let settings = ParamsAdamW { lr: 0.05, weight_decay, ..ParamsAdamW::default() };
            let mut theirs = AdamW::new(params.vars(), settings).unwrap();
            let (our_params, our_loss) = model(DType::F32);
            let mut ours = Optimizer::new(Method::adamw(weight_decay), &our_params).unwrap();
            for _ in 0..20 {
                theirs.backward_step(&loss()).unwrap();
                ours.step(&Gradients::of(&our_loss(), &our_params).unwrap(), 0.05).unwrap();
            }
            assert_eq!(values(&params), values(&our_params));
        }
    }

    /// Every method against loops over single numbers in f64.
    #[test]
    fn every_method_equals_its_formula() {
        let methods = [
            Method::SGD,
            Method::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.1 },
            Method::Sgd { momentum: 0.8, nesterov: true, weight_decay: 0.0 },
            Method::adamw(0.1),
            Method::LAMB,
        ];
        for method in methods {
            let (params, loss) = model(DType::F64);
            let mut weights = values(&params);
            let (mut first, mut second) = (vec![0.0; 20], vec![0.0; 20]);
            for step in 0..6u64 {
                params.restore(&tensors(&weights)).unwrap();
                let gradients = Gradients::of(&loss(), &params).unwrap();
                let g: Vec<f64> = gradients
                    .iter()
                    .flat_map(|(_, g)| g.unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap())
                    .collect();
                let lr = 0.05 / (1 + step) as f64;
                let t = step as i32 + 1;
                let mut direction = vec![0.0; 20];
                for i in 0..20 {
                    match method {
                        Method::Sgd { momentum, nesterov, weight_decay } => {
                            let g = g[i] + weight_decay * weights[i];
                            first[i] = momentum * first[i] + g;
                            direction[i] = if nesterov { g + momentum * first[i] } else { first[i] };
                        }
                        Method::AdamW { beta1, beta2, epsilon, weight_decay }
                        | Method::Lamb { beta1, beta2, epsilon, weight_decay } => {
                            first[i] = beta1 * first[i] + (1.0 - beta1) * g[i];
                            second[i] = beta2 * second[i] + (1.0 - beta2) * g[i] * g[i];
                            let (m, v) = (first[i] / (1.0 - beta1.powi(t)), second[i] / (1.0 - beta2.powi(t)));
                            direction[i] = m / (v.sqrt() + epsilon) + weight_decay * weights[i];
                        }
                    }
                }
                for tensor in [0..15, 15..20] {
                    let length = |x: &[f64]| x[tensor.clone()].iter().map(|v| v * v).sum::<f64>().sqrt();
                    let ratio =
                        if matches!(method, Method::Lamb { .. }) { length(&weights) / length(&direction) } else { 1.0 };
                    for i in tensor {
                        weights[i] -= lr * ratio * direction[i];
                    }
                }
            }
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-6)] {
                for (ours, theirs) in run(method, dtype, 6).into_iter().zip(&weights) {
                    assert!((ours - theirs).abs() < tolerance, "{method:?}: {ours} {theirs}");
                }
            }
        }
    }

    fn tensors(values: &[f64]) -> BTreeMap<String, Tensor> {
        let weight = Tensor::from_slice(&values[..15], (5, 3), &Device::Cpu).unwrap();
        let bias = Tensor::from_slice(&values[15..], 5, &Device::Cpu).unwrap();
        BTreeMap::from([("weight".to_owned(), weight), ("bias".to_owned(), bias)])
    }

    #[test]
    fn a_restored_optimizer_goes_on_to_the_bit() {
        for method in [
            Method::SGD,
            Method::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.1 },
            Method::adamw(0.1),
            Method::LAMB,
        ] {
            let whole = run(method, DType::F32, 10);
            let (params, loss) = model(DType::F32);
            let mut optimizer = Optimizer::new(method, &params).unwrap();
            for step in 0..10u64 {
                if step == 4 {
                    let state = optimizer.state().unwrap();
                    optimizer = Optimizer::new(method, &params).unwrap();
                    optimizer.restore(&state).unwrap();
                }
                optimizer.step(&Gradients::of(&loss(), &params).unwrap(), 0.05 / (1 + step) as f64).unwrap();
            }
            assert_eq!(values(&params), whole, "{method:?}");
        }
    }

    #[test]
    fn a_weight_without_a_gradient_stays() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let used = params.constant("used", &[1], 1.0).unwrap();
        let idle = params.constant("idle", &[1], 1.0).unwrap();
        let mut optimizer = Optimizer::new(Method::adamw(0.5), &params).unwrap();
        let loss = used.sqr().unwrap().sum_all().unwrap();
        optimizer.step(&Gradients::of(&loss, &params).unwrap(), 0.1).unwrap();
        assert_eq!(idle.to_vec1::<f32>().unwrap(), [1.0]);
        // The first step of Adam has length lr, whatever the gradient: 1 (1 - 0.1 0.5) - 0.1.
        assert!((used.to_vec1::<f32>().unwrap()[0] - 0.85).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_finite_changes_nothing() {
        let (params, loss) = model(DType::F32);
        let before = values(&params);
        let mut optimizer = Optimizer::new(Method::ADAM, &params).unwrap();
        let gradients = Gradients::of(&(loss() * f64::NAN).unwrap(), &params).unwrap();
        let error = optimizer.step(&gradients, 0.1).unwrap_err();
        assert!(matches!(&error, NnError::NotFinite { what, .. } if what.contains("weight")), "{error}");
        assert!(optimizer.step(&Gradients::of(&loss(), &params).unwrap(), f64::NAN).is_err());
        assert_eq!(values(&params), before);
    }

    #[test]
    fn foreign_states_and_impossible_settings_are_refused() {
        let (params, _) = model(DType::F32);
        let mut adam = Optimizer::new(Method::ADAM, &params).unwrap();
        let good = adam.state().unwrap();
        let momentum = Method::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        let other = Optimizer::new(momentum, &params).unwrap().state().unwrap();
        assert!(adam.restore(&other).is_err());
        assert!(Optimizer::new(Method::SGD, &params).unwrap().restore(&good).is_err());
        let mut short = good.clone();
        short.insert("bias/mean".to_owned(), Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap());
        assert!(matches!(adam.restore(&short), Err(NnError::Shape { .. })));
        short.remove("bias/mean");
        assert!(matches!(adam.restore(&short), Err(NnError::Parameter(name)) if name == "bias/mean"));
        for method in [
            Method::Sgd { momentum: 1.0, nesterov: false, weight_decay: 0.0 },
            Method::adamw(-1.0),
            Method::Lamb { beta1: 0.9, beta2: 0.999, epsilon: 0.0, weight_decay: 0.0 },
        ] {
            assert!(Optimizer::new(method, &params).is_err(), "{method:?}");
        }
    }

    #[test]
    fn schedules_by_hand() {
        let cosine = Schedule { floor: 0.1, ..Schedule::cosine(1.1, 2, 6) };
        let rates =
            [0.55, 1.1, 1.1, 0.1 + 0.5 * (1.0 + 0.5f64.sqrt()), 0.6, 0.1 + 0.5 * (1.0 - 0.5f64.sqrt()), 0.1, 0.1];
        for (step, rate) in rates.into_iter().enumerate() {
            assert!((cosine.at(step as u64) - rate).abs() < 1e-12, "step {step}");
        }
        assert_eq!([0, 1, 1_000_000].map(|step| Schedule::constant(0.3).at(step)), [0.3; 3]);
        assert_eq!(Schedule { warm_up: 10, ..Schedule::constant(1.0) }.at(4), 0.5);
        assert!(Schedule::linear(1.0, 3, 3).check().is_err());
        assert!(Schedule::constant(f64::NAN).check().is_err() && Schedule::constant(0.0).check().is_err());
        assert!(Schedule { floor: 2.0, ..Schedule::constant(1.0) }.check().is_err());
        assert!(cosine.check().is_ok());
    }
}
