//! What makes a triple plausible: four score functions and their gradients.
//!
//! Each has the same two steps. [`Scorer::apply`] moves the head by the relation to a query vector `q`, the place where the tail
//! should be; [`Scorer::compare`] says how well an entity fits that place. Applying two relations one after the other answers a
//! path query, and ranking all tails needs one `apply` and as many `compare`s.

/// The norm that measures how far TransE misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// Sum of absolute values.
    L1,
    /// Euclidean length.
    L2,
}

/// A score function over `(head, relation, tail)`; higher is more plausible.
///
/// Complex vectors of `dim / 2` numbers are stored as their real parts followed by their imaginary parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scorer {
    /// `-||h + r - t||`: a relation is a translation (Bordes et al. 2013). Symmetric relations force `r = 0`.
    TransE(Norm),
    /// `sum h r t`: a relation is a scaling of the axes (Yang et al. 2015). Every relation is symmetric.
    DistMult,
    /// `Re sum h r conj(t)` over complex numbers (Trouillon et al. 2016): symmetric where `r` is real.
    ComplEx,
    /// `-sum |h e^(i theta) - t|` over complex numbers (Sun et al. 2019): a relation is a rotation, so that symmetry
    /// (`theta` 0 or pi), inverses (`-theta`) and composition (sums of angles) can all be expressed.
    RotatE,
}

impl Scorer {
    /// The name used in the literature.
    pub fn name(self) -> &'static str {
        match self {
            Self::TransE(_) => "TransE",
            Self::DistMult => "DistMult",
            Self::ComplEx => "ComplEx",
            Self::RotatE => "RotatE",
        }
    }

    /// True when entities are read as complex numbers, which needs an even dimension.
    pub fn is_complex(self) -> bool {
        matches!(self, Self::ComplEx | Self::RotatE)
    }

    /// Numbers a relation is made of when entities have `dim`: RotatE has one angle for each complex number.
    pub fn relation_dim(self, dim: usize) -> usize {
        match self {
            Self::RotatE => dim / 2,
            _ => dim,
        }
    }

    /// The score of a triple; `h` and `t` have the entity dimension, `r` has [`Scorer::relation_dim`].
    pub fn score(self, h: &[f32], r: &[f32], t: &[f32]) -> f32 {
        self.compare(&self.apply(h, r), t)
    }

    /// Where the tail should be, given the head and the relation.
    pub fn apply(self, h: &[f32], r: &[f32]) -> Vec<f32> {
        match self {
            Self::TransE(_) => h.iter().zip(r).map(|(h, r)| h + r).collect(),
            Self::DistMult => h.iter().zip(r).map(|(h, r)| h * r).collect(),
            Self::ComplEx => {
                let half = h.len() / 2;
                complex(half, |i| {
                    let (a, b, c, d) = (h[i], h[i + half], r[i], r[i + half]);
                    (a * c - b * d, a * d + b * c)
                })
            }
            Self::RotatE => {
                let half = h.len() / 2;
                complex(half, |i| {
                    let (a, b, (sin, cos)) = (h[i], h[i + half], r[i].sin_cos());
                    (a * cos - b * sin, a * sin + b * cos)
                })
            }
        }
    }

    /// How well the entity `t` fits the place `q`.
    pub fn compare(self, q: &[f32], t: &[f32]) -> f32 {
        match self {
            Self::TransE(Norm::L1) => -q.iter().zip(t).map(|(q, t)| (q - t).abs()).sum::<f32>(),
            Self::TransE(Norm::L2) => -q.iter().zip(t).map(|(q, t)| (q - t) * (q - t)).sum::<f32>().sqrt(),
            Self::DistMult | Self::ComplEx => q.iter().zip(t).map(|(q, t)| q * t).sum(),
            Self::RotatE => {
                let half = q.len() / 2;
                -(0..half).map(|i| (q[i] - t[i]).hypot(q[i + half] - t[i + half])).sum::<f32>()
            }
        }
    }

    /// Adds `weight` times the gradient of the score to `gh`, `gr` and `gt`.
    ///
    /// Where a distance is 0 its gradient is taken as 0.
    pub fn add_gradient(self, (h, r, t): (&[f32], &[f32], &[f32]), weight: f32, into: &mut Gradient) {
        let Gradient { head: gh, relation: gr, tail: gt } = into;
        match self {
            Self::TransE(norm) => {
                let length = -self.score(h, r, t);
                for i in 0..h.len() {
                    let d = h[i] + r[i] - t[i];
                    let slope = match norm {
                        Norm::L1 if d != 0.0 => d.signum(),
                        Norm::L2 if length > 0.0 => d / length,
                        _ => 0.0,
                    };
                    gh[i] -= weight * slope;
                    gr[i] -= weight * slope;
                    gt[i] += weight * slope;
                }
            }
            Self::DistMult => {
                for i in 0..h.len() {
                    gh[i] += weight * r[i] * t[i];
                    gr[i] += weight * h[i] * t[i];
                    gt[i] += weight * h[i] * r[i];
                }
            }
            Self::ComplEx => {
                let half = h.len() / 2;
                for i in 0..half {
                    let j = i + half;
                    // Re(h r conj(t)) = (a c - b d) e + (a d + b c) f.
                    let (a, b, c, d, e, f) = (h[i], h[j], r[i], r[j], t[i], t[j]);
                    gh[i] += weight * (c * e + d * f);
                    gh[j] += weight * (c * f - d * e);
                    gr[i] += weight * (a * e + b * f);
                    gr[j] += weight * (a * f - b * e);
                    gt[i] += weight * (a * c - b * d);
                    gt[j] += weight * (a * d + b * c);
                }
            }
            Self::RotatE => {
                let half = h.len() / 2;
                for i in 0..half {
                    let j = i + half;
                    let (sin, cos) = r[i].sin_cos();
                    let (x, y) = (h[i] * cos - h[j] * sin, h[i] * sin + h[j] * cos);
                    let (dx, dy) = (x - t[i], y - t[j]);
                    let length = dx.hypot(dy);
                    if length == 0.0 {
                        continue;
                    }
                    let (sx, sy) = (weight * dx / length, weight * dy / length);
                    gh[i] -= sx * cos + sy * sin;
                    gh[j] -= sy * cos - sx * sin;
                    // Turning q by d theta moves it by (-y, x) d theta.
                    gr[i] -= sy * x - sx * y;
                    gt[i] += sx;
                    gt[j] += sy;
                }
            }
        }
    }
}

/// The gradient of a score with respect to the three vectors of a triple.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    /// With respect to the head.
    pub head: Vec<f32>,
    /// With respect to the relation.
    pub relation: Vec<f32>,
    /// With respect to the tail.
    pub tail: Vec<f32>,
}

impl Gradient {
    /// Zeros for entities of dimension `dim`.
    pub fn zeros(scorer: Scorer, dim: usize) -> Self {
        Self { head: vec![0.0; dim], relation: vec![0.0; scorer.relation_dim(dim)], tail: vec![0.0; dim] }
    }

    /// Sets everything to zero.
    pub fn clear(&mut self) {
        for part in [&mut self.head, &mut self.relation, &mut self.tail] {
            part.fill(0.0);
        }
    }
}

/// `half` complex numbers as a vector of real parts followed by imaginary parts.
fn complex(half: usize, value: impl Fn(usize) -> (f32, f32)) -> Vec<f32> {
    let mut out = vec![0.0; 2 * half];
    for i in 0..half {
        (out[i], out[i + half]) = value(i);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use eas_tensor::rng::SplitMix64;

    const ALL: [Scorer; 5] =
        [Scorer::TransE(Norm::L1), Scorer::TransE(Norm::L2), Scorer::DistMult, Scorer::ComplEx, Scorer::RotatE];

    #[test]
    fn hand_worked_scores() {
        let (h, r, t) = ([0.6, 0.8], [0.1, -0.3], [0.5, 0.4]);
        assert_abs_diff_eq!(Scorer::TransE(Norm::L2).score(&h, &r, &t), -0.223_607, epsilon = 1e-6);
        assert_abs_diff_eq!(Scorer::TransE(Norm::L1).score(&h, &r, &t), -0.3, epsilon = 1e-6);
        assert_eq!(Scorer::DistMult.score(&[1.0, 2.0], &[0.5, -1.0], &[3.0, 1.0]), -0.5);
        let (h, r, t) = ([1.0, 2.0], [0.5, -1.0], [3.0, 1.0]);
        assert_eq!(Scorer::ComplEx.score(&h, &r, &t), 7.5);
        assert_eq!(Scorer::ComplEx.score(&t, &r, &h), -2.5);
        let third = [std::f32::consts::FRAC_PI_3];
        assert_abs_diff_eq!(Scorer::RotatE.score(&h, &third, &t), -4.319_752, epsilon = 1e-5);
    }

    /// The formulas of the papers once more, in f64.
    fn reference(scorer: Scorer, h: &[f64], r: &[f64], t: &[f64]) -> f64 {
        let half = h.len() / 2;
        let miss = |i: usize| h[i] + r[i] - t[i];
        match scorer {
            Scorer::TransE(Norm::L1) => -(0..h.len()).map(|i| miss(i).abs()).sum::<f64>(),
            Scorer::TransE(Norm::L2) => -(0..h.len()).map(|i| miss(i).powi(2)).sum::<f64>().sqrt(),
            Scorer::DistMult => (0..h.len()).map(|i| h[i] * r[i] * t[i]).sum(),
            Scorer::ComplEx => (0..half)
                .map(|i| (i, i + half))
                .map(|(re, im)| {
                    h[re] * r[re] * t[re] + h[im] * r[re] * t[im] + h[re] * r[im] * t[im] - h[im] * r[im] * t[re]
                })
                .sum(),
            Scorer::RotatE => -(0..half)
                .map(|i| (i, i + half, r[i]))
                .map(|(re, im, angle)| {
                    let x = angle.cos() * h[re] - angle.sin() * h[im] - t[re];
                    let y = angle.cos() * h[im] + angle.sin() * h[re] - t[im];
                    (x * x + y * y).sqrt()
                })
                .sum::<f64>(),
        }
    }

    #[test]
    fn scores_and_gradients_match_the_formulas_and_finite_differences() {
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        for scorer in ALL {
            for seed in 0..8 {
                let mut rng = SplitMix64::new(seed);
                let mut draw = |n: usize| (0..n).map(|_| rng.normal() as f32).collect::<Vec<f32>>();
                let (h, r, t) = (draw(8), draw(scorer.relation_dim(8)), draw(8));
                let mut parts = [wide(&h), wide(&r), wide(&t)];
                assert_abs_diff_eq!(
                    f64::from(scorer.score(&h, &r, &t)),
                    reference(scorer, &parts[0], &parts[1], &parts[2]),
                    epsilon = 1e-5
                );
                let mut gradient = Gradient::zeros(scorer, 8);
                scorer.add_gradient((&h, &r, &t), 2.0, &mut gradient);
                for (part, analytic) in [gradient.head, gradient.relation, gradient.tail].iter().enumerate() {
                    for (i, &analytic) in analytic.iter().enumerate() {
                        let here = parts[part][i];
                        let mut at = |value| {
                            parts[part][i] = value;
                            reference(scorer, &parts[0], &parts[1], &parts[2])
                        };
                        let difference = 2.0 * (at(here + 1e-6) - at(here - 1e-6)) / 2e-6;
                        at(here);
                        assert!(
                            (difference - f64::from(analytic)).abs() <= 1e-4,
                            "{scorer:?} part {part} value {i}: {difference} differs from {analytic}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_perfect_translation_has_a_zero_gradient_instead_of_nan() {
        for scorer in [Scorer::TransE(Norm::L1), Scorer::TransE(Norm::L2), Scorer::RotatE] {
            let mut gradient = Gradient::zeros(scorer, 2);
            scorer.add_gradient((&[0.5, 0.25], &[0.0, 0.0], &[0.5, 0.25]), 1.0, &mut gradient);
            assert_eq!(gradient, Gradient::zeros(scorer, 2));
        }
    }

    #[test]
    fn distmult_is_symmetric_and_rotations_compose() {
        let mut rng = SplitMix64::new(4);
        let mut draw = |n: usize| (0..n).map(|_| rng.normal() as f32).collect::<Vec<f32>>();
        let (h, r, t) = (draw(8), draw(8), draw(8));
        let (forth, back) = (Scorer::DistMult.score(&h, &r, &t), Scorer::DistMult.score(&t, &r, &h));
        assert_abs_diff_eq!(forth, back, epsilon = 1e-6);
        let (first, second) = (draw(4), draw(4));
        let both: Vec<f32> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
        let twice = Scorer::RotatE.apply(&Scorer::RotatE.apply(&h, &first), &second);
        for (a, b) in twice.iter().zip(Scorer::RotatE.apply(&h, &both)) {
            assert_abs_diff_eq!(*a, b, epsilon = 1e-5);
        }
    }
}
