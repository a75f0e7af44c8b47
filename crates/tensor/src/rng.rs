//! Seeded randomness: one generator for the whole workspace, so that a seed means the same stream everywhere.
//!
//! [`SplitMix64`] is the generator of Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014).

/// A 64-bit generator with a 64-bit state; equal seeds give equal streams on every machine.
///
/// ```
/// use eas_tensor::rng::SplitMix64;
///
/// let mut rng = SplitMix64::new(42);
/// assert_eq!(rng.next_u64(), 0xbdd7_3226_2feb_6e95);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// A stream that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// An independent stream for part `index` of a job that was seeded with `seed`.
    pub fn stream(seed: u64, index: u64) -> Self {
        let mut outer = Self::new(seed ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03));
        Self::new(outer.next_u64())
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A uniform number in `[0, 1)` with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A uniform integer in `0..n`, the high 64 bits of `next_u64() * n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// A standard normal number (Box-Muller, the cosine branch; consumes two uniforms).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// A draw from the exponential distribution with mean `mean`.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.uniform()).ln()
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// One element of `items` by uniform choice; `None` when there is none.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// Fisher-Yates shuffle, from the last element down.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// `k` distinct indices of `0..n` in random order (all of them when `k >= n`).
    pub fn sample_indices(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        let k = k.min(n);
        for i in 0..k {
            let j = i + self.below(n - i);
            all.swap(i, j);
        }
        all.truncate(k);
        all
    }

    /// A Gamma(`shape`, 1) number for `shape > 0` (Marsaglia and Tsang 2000; the boost `U^(1/shape)` below 1).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = (1.0 - self.uniform()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// A draw from Dirichlet(`alpha`, ..., `alpha`) over `n` outcomes; the entries sum to 1.
    pub fn dirichlet(&mut self, alpha: f64, n: usize) -> Vec<f64> {
        let mut draw: Vec<f64> = (0..n).map(|_| self.gamma(alpha).max(f64::MIN_POSITIVE)).collect();
        let total: f64 = draw.iter().sum();
        for p in &mut draw {
            *p /= total;
        }
        draw
    }

    /// An index drawn with probability proportional to `weights` (non-negative, not all zero).
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut target = self.uniform() * weights.iter().sum::<f64>();
        for (i, &w) in weights.iter().enumerate() {
            target -= w;
            if target < 0.0 {
                return i;
            }
        }
        weights.len().saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_seed_42_is_the_published_one() {
        let mut rng = SplitMix64::new(42);
        assert_eq!(rng.uniform(), 0.741_564_878_771_823_3);
        assert_eq!(rng.uniform(), 0.159_910_392_876_920_1);
        assert_eq!(rng.uniform(), 0.278_601_130_255_138_66);
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let mut rng = SplitMix64::new(7);
        let draws: Vec<f64> = (0..100_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn exponentials_have_their_mean_and_no_memory() {
        let mut rng = SplitMix64::new(9);
        let draws: Vec<f64> = (0..100_000).map(|_| rng.exponential(2.0)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 2.0).abs() < 0.03, "{mean}");
        let above = |x: f64| draws.iter().filter(|&&draw| draw > x).count() as f64;
        assert!((above(3.0) / above(1.0) - (-1.0f64).exp()).abs() < 0.01);
    }

    #[test]
    fn gamma_has_mean_and_variance_equal_to_its_shape() {
        for shape in [0.05, 0.5, 1.0, 3.0] {
            let mut rng = SplitMix64::new(3);
            let n = 200_000;
            let draws: Vec<f64> = (0..n).map(|_| rng.gamma(shape)).collect();
            let mean = draws.iter().sum::<f64>() / n as f64;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            assert!((mean - shape).abs() < 0.03 * shape + 0.003, "shape {shape}: mean {mean}");
            assert!((variance - shape).abs() < 0.08 * shape + 0.01, "shape {shape}: variance {variance}");
        }
    }

    #[test]
    fn samples_are_distinct_and_shuffles_keep_all() {
        let mut rng = SplitMix64::new(1);
        let mut sample = rng.sample_indices(100, 40);
        sample.sort_unstable();
        sample.dedup();
        assert_eq!(sample.len(), 40);
        let mut items: Vec<u32> = (0..50).collect();
        rng.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.choose::<u8>(&[]), None);
    }
}
