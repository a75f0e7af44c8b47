//! Transactions: ordinary ones and kinds of fraud that differ from them in a few directions of behaviour, hidden under louder
//! coordinates that say nothing.
//!
//! A transaction has 10 behaviour coordinates and 40 nuisance coordinates, all turned by one random rotation. Ordinary behaviour is normal
//! with standard deviation 0.5; fraud of kind `k` has a direction of its own, 3 long, added; nuisance is normal with standard deviation
//! 1.5 for both. Who looks at all coordinates sees mostly nuisance; who has learned from known kinds where behaviour lies recognises kinds
//! nobody has seen.

use std::ops::Range;

use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

use super::vectors::orthonormal;

/// Coordinates of a transaction.
pub const DIM: usize = 50;
/// How many of them are behaviour, before the rotation.
pub const BEHAVIOUR: usize = 10;
/// Standard deviation of a behaviour coordinate within a kind.
const SPREAD: f64 = 0.5;
/// Standard deviation of a nuisance coordinate.
const NUISANCE: f64 = 1.5;
/// Length of a kind's own direction.
const STRENGTH: f64 = 3.0;

/// A rotation and an endless list of kinds of fraud, numbered from 0.
///
/// ```
/// use eas_data::synth::transactions::{DIM, Transactions};
/// use eas_tensor::rng::SplitMix64;
///
/// let world = Transactions::new(7);
/// let mut rng = SplitMix64::new(1);
/// assert_eq!(world.normal(&mut rng, 100).dim(), DIM);
/// let (rows, kinds) = world.fraud(&mut rng, 12..16, 5);
/// assert_eq!((rows.rows(), kinds[0], kinds[19]), (20, 12, 15));
/// ```
#[derive(Debug, Clone)]
pub struct Transactions {
    seed: u64,
    axes: Vec<Vec<f64>>,
}

impl Transactions {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, axes: orthonormal(&mut SplitMix64::stream(seed, 0), DIM, DIM) }
    }

    /// `n` ordinary transactions, shape `(n, 50)`.
    pub fn normal(&self, rng: &mut SplitMix64, n: usize) -> Matrix {
        self.around(rng, &[[0.0; BEHAVIOUR]], n).0
    }

    /// `each` transactions of each of the kinds, kind by kind, and the kind of each row.
    pub fn fraud(&self, rng: &mut SplitMix64, kinds: Range<u32>, each: usize) -> (Matrix, Vec<u32>) {
        let centres: Vec<_> = kinds.clone().map(|kind| self.direction(kind).map(|x| STRENGTH * x)).collect();
        let (rows, which) = self.around(rng, &centres, each);
        (rows, which.into_iter().map(|i| kinds.start + i).collect())
    }

    /// The unit vector that fraud of this kind adds to behaviour.
    pub fn direction(&self, kind: u32) -> [f64; BEHAVIOUR] {
        let mut rng = SplitMix64::stream(self.seed, 1 + u64::from(kind));
        let mut direction = [0.0; BEHAVIOUR];
        direction.fill_with(|| rng.normal());
        let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        direction.map(|x| x / length)
    }

    /// The behaviour coordinates of a transaction as it was before the rotation: the truth, for oracles. Values that a shorter row lacks
    /// count as 0.
    pub fn behaviour(&self, row: &[f32]) -> [f64; BEHAVIOUR] {
        let mut behaviour = [0.0; BEHAVIOUR];
        for (b, axis) in behaviour.iter_mut().zip(&self.axes) {
            *b = axis.iter().zip(row).map(|(a, x)| a * f64::from(*x)).sum();
        }
        behaviour
    }

    /// `each` rows around each centre.
    fn around(&self, rng: &mut SplitMix64, centres: &[[f64; BEHAVIOUR]], each: usize) -> (Matrix, Vec<u32>) {
        let mut rows = Matrix::zeros(centres.len() * each, DIM);
        let mut which = Vec::with_capacity(rows.rows());
        for (i, centre) in centres.iter().enumerate() {
            for _ in 0..each {
                let mut row = [0.0; DIM];
                for (j, axis) in self.axes.iter().enumerate() {
                    let value = match centre.get(j) {
                        Some(mean) => mean + SPREAD * rng.normal(),
                        None => NUISANCE * rng.normal(),
                    };
                    for (x, a) in row.iter_mut().zip(axis) {
                        *x += value * a;
                    }
                }
                for (to, x) in rows.row_mut(which.len()).iter_mut().zip(row) {
                    *to = x as f32;
                }
                which.push(i as u32);
            }
        }
        (rows, which)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
        let values: Vec<f64> = values.collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn behaviour_and_nuisance_have_the_stated_moments() {
        let world = Transactions::new(2);
        let rows = world.normal(&mut SplitMix64::new(5), 4_000);
        let behaviour: Vec<_> = rows.iter_rows().map(|row| world.behaviour(row)).collect();
        let (mean, deviation) = moments(behaviour.iter().flatten().copied());
        assert!(mean.abs() < 0.01 && (deviation - 0.5).abs() < 0.01, "{mean} {deviation}");
        // A rotation keeps lengths: what isn't behaviour is nuisance.
        let square = |row: &[f32]| row.iter().map(|x| f64::from(x * x)).sum::<f64>();
        let total = rows.iter_rows().map(square).sum::<f64>() / 4_000.0;
        assert!((total - (10.0 * 0.25 + 40.0 * 2.25)).abs() < 1.5, "{total}");
    }

    #[test]
    fn each_kind_of_fraud_lies_three_away_in_its_direction() {
        let world = Transactions::new(2);
        let (rows, kinds) = world.fraud(&mut SplitMix64::new(6), 10..13, 2_000);
        for kind in 10..13 {
            let direction = world.direction(kind);
            let along = rows
                .iter_rows()
                .zip(&kinds)
                .filter(|(_, k)| **k == kind)
                .map(|(row, _)| world.behaviour(row).iter().zip(&direction).map(|(b, d)| b * d).sum::<f64>());
            let (mean, deviation) = moments(along);
            assert!((mean - 3.0).abs() < 0.05 && (deviation - 0.5).abs() < 0.03, "{mean} {deviation}");
        }
    }

    #[test]
    fn kinds_are_the_same_whatever_else_is_drawn() {
        let (a, b) = (Transactions::new(9), Transactions::new(9));
        let (few, _) = a.fraud(&mut SplitMix64::new(1), 3..4, 2);
        let (many, _) = b.fraud(&mut SplitMix64::new(1), 3..5, 2);
        assert_eq!(few.as_slice(), &many.as_slice()[..2 * DIM]);
        assert_ne!(a.direction(3), a.direction(4));
        assert_ne!(a.direction(3), Transactions::new(8).direction(3));
        assert_eq!(a.fraud(&mut SplitMix64::new(1), 3..3, 2).0.rows(), 0);
        assert_eq!(a.normal(&mut SplitMix64::new(1), 0).rows(), 0);
    }
}
