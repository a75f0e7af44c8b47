//! Choosing among options that are good at different things: dominance, the Pareto front, and ways to pick a point of it.
//!
//! Miettinen, *Nonlinear Multiobjective Optimization* (1999), for dominance, weighted sums and Chebyshev's distance; Zitzler and
//! Thiele, "Multiobjective Evolutionary Algorithms" (IEEE TEC 1999), for the hypervolume.

use crate::PlanError;
use crate::error::{finite, non_negative};

/// Whether more or less of an objective is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More is better.
    Maximize,
    /// Less is better.
    Minimize,
}

/// An option and its value in each objective.
#[derive(Debug, Clone, PartialEq)]
pub struct ParetoPoint<I> {
    /// The option.
    pub id: I,
    /// One value an objective.
    pub values: Vec<f64>,
}

impl<I> ParetoPoint<I> {
    /// A point.
    pub fn new(id: I, values: impl Into<Vec<f64>>) -> Self {
        Self { id, values: values.into() }
    }
}

/// A selected point: its position among those given, and the score by which it was selected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Position in the slice given.
    pub at: usize,
    /// The score; larger is better but for [`select_chebyshev`], where it is a distance.
    pub score: f64,
}

/// Whether `a` is at least as good as `b` everywhere and better somewhere. Equal points don't dominate each other.
///
/// # Errors
/// Lengths that differ, and values that aren't finite.
pub fn dominates(a: &[f64], b: &[f64], directions: &[Direction]) -> Result<bool, PlanError> {
    Ok(beats(&oriented(a, directions)?, &oriented(b, directions)?))
}

/// Positions, in ascending order, of the points that no other dominates. Equal points are on the front together.
///
/// Two objectives are sorted, `O(n log n)`; more are compared pair by pair.
///
/// # Errors
/// No objectives, points with another number of values, and values that aren't finite.
///
/// ```
/// use eas_plan::pareto::{Direction::{Maximize, Minimize}, ParetoPoint, pareto_front};
///
/// let models = [ParetoPoint::new("a", [0.9, 30.0]), ParetoPoint::new("b", [0.8, 40.0]), ParetoPoint::new("c", [0.7, 10.0])];
/// assert_eq!(pareto_front(&models, &[Maximize, Minimize])?, [0, 2]);
/// # Ok::<(), eas_plan::PlanError>(())
/// ```
pub fn pareto_front<I>(points: &[ParetoPoint<I>], directions: &[Direction]) -> Result<Vec<usize>, PlanError> {
    let values = all_oriented(points, directions)?;
    if directions.len() == 2 {
        return Ok(front_of_two(&values));
    }
    let on_front = |&i: &usize| !values.iter().any(|other| beats(other, &values[i]));
    Ok((0..values.len()).filter(on_front).collect())
}

/// The point of the front with the largest weighted sum of values, of which those to be minimised count as negative. The weights
/// are scaled to sum to 1; ties go to the earlier point.
///
/// The sum depends on the units: an objective with a wide range decides alone. It never selects a point in a dent of the front.
///
/// # Errors
/// No points, weights that are negative or all 0, and what [`pareto_front`] refuses.
pub fn select_weighted<I>(
    points: &[ParetoPoint<I>],
    directions: &[Direction],
    weights: &[f64],
) -> Result<Choice, PlanError> {
    let weights = normalised(weights, directions)?;
    let values = all_oriented(points, directions)?;
    let front = pareto_front(points, directions)?;
    best(&front, |i| weights.iter().zip(&values[i]).map(|(w, v)| w * v).sum())
}

/// As [`select_weighted`], with each objective scaled so that the front's worst value is 0 and its best 1. An objective in which the
/// front is level counts 1 for all.
///
/// # Errors
/// As [`select_weighted`].
pub fn select_normalised<I>(
    points: &[ParetoPoint<I>],
    directions: &[Direction],
    weights: &[f64],
) -> Result<Choice, PlanError> {
    let weights = normalised(weights, directions)?;
    let (front, scaled) = scaled_front(points, directions)?;
    best(&front, |i| weights.iter().zip(&scaled[i]).map(|(w, v)| w * v).sum())
}

/// The point of the front with the least weighted Chebyshev distance to the ideal point: the largest over the objectives of
/// weight times what is missing to the best, on the scale of [`select_normalised`]. It reaches dents of the front too.
///
/// # Errors
/// As [`select_weighted`].
pub fn select_chebyshev<I>(
    points: &[ParetoPoint<I>],
    directions: &[Direction],
    weights: &[f64],
) -> Result<Choice, PlanError> {
    let weights = normalised(weights, directions)?;
    let (front, scaled) = scaled_front(points, directions)?;
    let distance = |i: usize| weights.iter().zip(&scaled[i]).map(|(w, v)| w * (1.0 - v)).fold(0.0, f64::max);
    let nearest = best(&front, |i| -distance(i))?;
    Ok(Choice { score: -nearest.score, ..nearest })
}

/// Area between `reference` and the front of two objectives: how much of the plane the points dominate. Points that aren't better
/// than the reference in both add nothing.
///
/// # Errors
/// Points, directions or a reference that don't have two values, and values that aren't finite.
pub fn hypervolume2d<I>(
    points: &[ParetoPoint<I>],
    directions: &[Direction],
    reference: &[f64],
) -> Result<f64, PlanError> {
    if directions.len() != 2 {
        return Err(PlanError::Length { name: "directions", got: directions.len(), expected: 2 });
    }
    let values = all_oriented(points, directions)?;
    let reference = oriented(reference, directions)?;
    let mut front: Vec<&Vec<f64>> = front_of_two(&values).into_iter().map(|i| &values[i]).collect();
    front.retain(|v| v[0] > reference[0] && v[1] > reference[1]);
    // From the right: each point adds the strip that rises above the ones before.
    front.sort_by(|a, b| b[0].total_cmp(&a[0]));
    let (mut area, mut height) = (0.0, reference[1]);
    for v in front {
        area += (v[0] - reference[0]) * (v[1] - height);
        height = v[1];
    }
    Ok(area)
}

/// `values` turned so that more is better.
fn oriented(values: &[f64], directions: &[Direction]) -> Result<Vec<f64>, PlanError> {
    if directions.is_empty() {
        return Err(PlanError::Missing("an objective"));
    }
    if values.len() != directions.len() {
        return Err(PlanError::Length { name: "values", got: values.len(), expected: directions.len() });
    }
    let turn = |(&value, direction): (&f64, &Direction)| {
        let value = finite("value of an objective", value)?;
        Ok(if *direction == Direction::Maximize { value } else { -value })
    };
    values.iter().zip(directions).map(turn).collect()
}

fn all_oriented<I>(points: &[ParetoPoint<I>], directions: &[Direction]) -> Result<Vec<Vec<f64>>, PlanError> {
    points.iter().map(|point| oriented(&point.values, directions)).collect()
}

fn beats(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a >= b) && a.iter().zip(b).any(|(a, b)| a > b)
}

fn front_of_two(values: &[Vec<f64>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b][0].total_cmp(&values[a][0]).then(values[b][1].total_cmp(&values[a][1])));
    let mut front: Vec<usize> = Vec::new();
    for at in order {
        // The last point kept has the largest second value so far, and a first value no smaller than this one's.
        let keep = front.last().is_none_or(|&last| values[at][1] > values[last][1] || values[at] == values[last]);
        if keep {
            front.push(at);
        }
    }
    front.sort_unstable();
    front
}

fn normalised(weights: &[f64], directions: &[Direction]) -> Result<Vec<f64>, PlanError> {
    if weights.len() != directions.len() {
        return Err(PlanError::Length { name: "weights", got: weights.len(), expected: directions.len() });
    }
    for &weight in weights {
        non_negative("weight", weight)?;
    }
    let total: f64 = weights.iter().sum();
    if total > 0.0 && total.is_finite() {
        return Ok(weights.iter().map(|w| w / total).collect());
    }
    Err(PlanError::OutOfRange { name: "sum of the weights", value: total, expected: "above zero and finite" })
}

/// The front, and every point's values on the front's scale: 0 its worst, 1 its best.
fn scaled_front<I>(
    points: &[ParetoPoint<I>],
    directions: &[Direction],
) -> Result<(Vec<usize>, Vec<Vec<f64>>), PlanError> {
    let mut values = all_oriented(points, directions)?;
    let front = pareto_front(points, directions)?;
    for objective in 0..directions.len() {
        let of_front = || front.iter().map(|&i| points[i].values[objective]);
        let (low, high) = (of_front().fold(f64::INFINITY, f64::min), of_front().fold(f64::NEG_INFINITY, f64::max));
        let worst = if directions[objective] == Direction::Maximize { low } else { -high };
        let range = high - low;
        for row in &mut values {
            row[objective] = if range > 0.0 { (row[objective] - worst) / range } else { 1.0 };
        }
    }
    Ok((front, values))
}

fn best(front: &[usize], score: impl Fn(usize) -> f64) -> Result<Choice, PlanError> {
    let mut scored = front.iter().map(|&at| Choice { at, score: score(at) });
    let first = scored.next().ok_or(PlanError::Missing("a point to choose"))?;
    Ok(scored.fold(first, |best, next| if next.score > best.score { next } else { best }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Maximize, Minimize};
    use eas_tensor::rng::SplitMix64;

    fn points(values: &[&[f64]]) -> Vec<ParetoPoint<usize>> {
        values.iter().enumerate().map(|(id, v)| ParetoPoint::new(id, *v)).collect()
    }

    /// 1,000 sets of two to four objectives on a coarse lattice, so that ties and equal points occur.
    #[test]
    fn fronts_of_random_sets_are_what_dominance_says() {
        let mut rng = SplitMix64::new(4);
        for set in 0..1_000 {
            let objectives = 2 + set % 3;
            let directions: Vec<_> =
                (0..objectives).map(|_| if rng.chance(0.5) { Maximize } else { Minimize }).collect();
            let n = 1 + rng.below(20);
            let all: Vec<_> = (0..n)
                .map(|id| ParetoPoint::new(id, (0..objectives).map(|_| rng.below(6) as f64).collect::<Vec<_>>()))
                .collect();
            let front = pareto_front(&all, &directions).unwrap();
            let everyone: Vec<usize> = (0..n).collect();
            let beaten = |i: usize, by: &[usize]| {
                by.iter().any(|&j| dominates(&all[j].values, &all[i].values, &directions).unwrap())
            };
            for i in 0..n {
                let on_front = front.contains(&i);
                assert_eq!(beaten(i, &everyone), !on_front, "{all:?}");
                assert_eq!(beaten(i, &front), !on_front, "{all:?}");
            }
            let kept: Vec<_> = front.iter().map(|&i| all[i].clone()).collect();
            assert_eq!(pareto_front(&kept, &directions).unwrap().len(), kept.len());
            let weights: Vec<f64> = (0..objectives).map(|_| 0.05 + rng.uniform()).collect();
            let sum = |i: usize| -> f64 {
                let signed = all[i].values.iter().zip(&directions).map(|(v, d)| if *d == Maximize { *v } else { -v });
                signed.zip(&weights).map(|(v, w)| v * w).sum()
            };
            let best = (1..n).fold(0, |best, i| if sum(i) > sum(best) + 1e-9 { i } else { best });
            let choice = select_weighted(&all, &directions, &weights).unwrap();
            assert!((sum(choice.at) - sum(best)).abs() < 1e-9);
            assert!(front.contains(&best), "the optimum of positive weights is on the front");
        }
    }

    #[test]
    fn hypervolume_equals_a_count_of_cells() {
        let mut rng = SplitMix64::new(9);
        for _ in 0..200 {
            let n = 1 + rng.below(8);
            let all: Vec<_> =
                (0..n).map(|id| ParetoPoint::new(id, [rng.below(12) as f64, rng.below(12) as f64])).collect();
            // More of the first, less of the second, from the reference (2, 9).
            let cells = (2..12).flat_map(|x| (0..9).map(move |y| (f64::from(x), f64::from(y))));
            let covered = cells.filter(|&(x, y)| all.iter().any(|p| p.values[0] > x && p.values[1] <= y)).count();
            let area = hypervolume2d(&all, &[Maximize, Minimize], &[2.0, 9.0]).unwrap();
            assert_eq!(area, covered as f64, "{all:?}");
        }
        assert_eq!(hypervolume2d::<u8>(&[], &[Maximize, Maximize], &[0.0, 0.0]).unwrap(), 0.0);
    }

    #[test]
    fn weighted_sums_miss_a_dent_and_chebyshev_finds_it() {
        let all = points(&[&[1.0, 0.0], &[0.45, 0.45], &[0.0, 1.0]]);
        let both = [Maximize, Maximize];
        for step in 0..=1_000 {
            let w = f64::from(step) / 1_000.0;
            assert_ne!(select_weighted(&all, &both, &[w, 1.0 - w]).unwrap().at, 1);
            assert_ne!(select_normalised(&all, &both, &[w, 1.0 - w]).unwrap().at, 1);
        }
        let choice = select_chebyshev(&all, &both, &[1.0, 1.0]).unwrap();
        assert_eq!(choice.at, 1);
        assert!((choice.score - 0.275).abs() < 1e-12);
    }

    #[test]
    fn ties_level_objectives_and_minimised_ones() {
        let all = points(&[&[1.0, 5.0], &[1.0, 5.0], &[1.0, 7.0]]);
        assert_eq!(pareto_front(&all, &[Maximize, Minimize]).unwrap(), [0, 1]);
        assert_eq!(select_normalised(&all, &[Maximize, Minimize], &[0.5, 0.5]).unwrap(), Choice { at: 0, score: 1.0 });
        let cost = points(&[&[0.9, 100.0], &[0.8, 20.0], &[0.5, 10.0]]);
        let choice = select_normalised(&cost, &[Maximize, Minimize], &[0.5, 0.5]).unwrap();
        assert_eq!(choice.at, 1);
        assert!((choice.score - (0.5 * 0.75 + 0.5 * 8.0 / 9.0)).abs() < 1e-12);
    }

    #[test]
    fn bad_input_is_refused() {
        let all = points(&[&[1.0, 0.0]]);
        assert!(pareto_front(&all, &[Maximize]).is_err());
        assert!(pareto_front(&all, &[]).is_err());
        assert!(pareto_front(&points(&[&[f64::NAN, 0.0]]), &[Maximize, Maximize]).is_err());
        assert!(select_weighted::<u8>(&[], &[Maximize], &[1.0]).is_err());
        for weights in [&[1.0][..], &[0.0, 0.0], &[-1.0, 2.0], &[f64::NAN, 1.0], &[f64::MAX, f64::MAX]] {
            assert!(select_chebyshev(&all, &[Maximize, Maximize], weights).is_err(), "{weights:?}");
        }
        assert!(hypervolume2d(&all, &[Maximize, Maximize, Maximize], &[0.0; 3]).is_err());
        assert!(pareto_front::<u8>(&[], &[Maximize]).unwrap().is_empty());
    }
}
