//! How two vectors compare, and how much the distances of a collection differ from one another.

use crate::EvalError;
use crate::error::{finite, not_empty, same_length};
use eas_tensor::Matrix;

/// One pair of vectors by every measure in use, in f64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairGeometry {
    /// Euclidean distance.
    pub l2: f64,
    /// Cosine of the angle, in [-1, 1].
    pub cosine: f64,
    /// Inner product.
    pub dot: f64,
    /// The angle in degrees.
    pub angle: f64,
    /// Euclidean distance of the unit vectors: `sqrt(2 - 2 cosine)`.
    pub l2_unit: f64,
    /// Length of the projection of `a` on the direction of `b`.
    pub projection: f64,
}

impl PairGeometry {
    /// Measures `a` against `b`. A vector of length zero has no direction and is an error, as are different lengths and values that
    /// aren't finite.
    ///
    /// ```
    /// use eas_eval::geometry::PairGeometry;
    ///
    /// let pair = PairGeometry::of(&[3.0, 0.0], &[3.0, 4.0])?;
    /// assert_eq!((pair.l2, pair.dot, pair.cosine, pair.projection), (4.0, 9.0, 0.6, 1.8));
    /// # Ok::<(), eas_eval::EvalError>(())
    /// ```
    pub fn of(a: &[f64], b: &[f64]) -> Result<Self, EvalError> {
        same_length("vector", a.len(), b.len())?;
        not_empty("a", a)?;
        finite("a", a)?;
        finite("b", b)?;
        let dot: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
        let (length_a, length_b) = (length(a, "length of a")?, length(b, "length of b")?);
        let cosine = (dot / (length_a * length_b)).clamp(-1.0, 1.0);
        let differences = |scale_a: f64, scale_b: f64| {
            let squares = a.iter().zip(b).map(|(x, y)| (x / scale_a - y / scale_b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        Ok(Self {
            l2: differences(1.0, 1.0),
            cosine,
            dot,
            angle: cosine.acos().to_degrees(),
            l2_unit: differences(length_a, length_b),
            projection: dot / length_b,
        })
    }
}

fn length(vector: &[f64], name: &'static str) -> Result<f64, EvalError> {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length > 0.0 {
        Ok(length)
    } else {
        Err(EvalError::Argument {
            name,
            got: length.to_string(),
            expected: "above zero: a zero vector has no direction",
        })
    }
}

/// How distances from queries to points are spread (Beyer et al., "When Is Nearest Neighbor Meaningful?", 1999).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Concentration {
    /// Mean distance over all pairs of a query and a point.
    pub mean: f64,
    /// Standard deviation over mean, of all pairs together.
    pub cv: f64,
    /// `(farthest - nearest) / nearest` of a query, averaged over the queries: how much better the best answer is than the worst.
    pub contrast: f64,
    /// Mean distance over distance to the nearest, averaged over the queries.
    pub mean_to_nearest: f64,
}

/// Measures all Euclidean distances from `queries` to `points`, shapes `(q, dim)` and `(n, dim)`. A query that is equal to a point
/// has no contrast and is left out of its average; an error when all are.
pub fn concentration(points: &Matrix, queries: &Matrix) -> Result<Concentration, EvalError> {
    not_empty("points", points.as_slice())?;
    not_empty("queries", queries.as_slice())?;
    same_length("vector", queries.dim(), points.dim())?;
    let (mut sum, mut squares, mut contrast, mut ratio, mut counted) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for query in queries.iter_rows() {
        let distances: Vec<f64> = points.iter_rows().map(|point| distance(query, point)).collect();
        finite("distances", &distances)?;
        let total: f64 = distances.iter().sum();
        sum += total;
        squares += distances.iter().map(|d| d * d).sum::<f64>();
        let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
        let farthest = distances.iter().copied().fold(0.0, f64::max);
        if nearest > 0.0 {
            contrast += (farthest - nearest) / nearest;
            ratio += total / distances.len() as f64 / nearest;
            counted += 1.0;
        }
    }
    if counted == 0.0 {
        return Err(EvalError::Argument {
            name: "distance of every query to its nearest point",
            got: "0".into(),
            expected: "above zero for at least one query",
        });
    }
    let pairs = (points.rows() * queries.rows()) as f64;
    let mean = sum / pairs;
    Ok(Concentration {
        mean,
        cv: (squares / pairs - mean * mean).max(0.0).sqrt() / mean,
        contrast: contrast / counted,
        mean_to_nearest: ratio / counted,
    })
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Coefficient of variation of the distance between two uniform points of the unit cube of `dim` dimensions, for large `dim`:
/// `sqrt(1.4 / dim) / 2`. That of the squared distance is exactly `sqrt(1.4 / dim)`.
pub fn cube_cv(dim: usize) -> f64 {
    (1.4 / dim as f64).sqrt() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    #[test]
    fn the_pair_of_the_page() {
        let pair = PairGeometry::of(&[0.5, 0.3, 0.8, 0.1], &[0.6, 0.4, 0.7, 0.2]).unwrap();
        for (got, want) in [
            (pair.l2, 0.2),
            (pair.cosine, 0.980_816_477),
            (pair.dot, 1.0),
            (pair.angle, 11.240_834),
            (pair.l2_unit, 0.195_875_076),
            (pair.projection, 0.975_900),
        ] {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
        assert!((pair.l2_unit - (2.0 - 2.0 * pair.cosine).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn vectors_without_direction_are_refused() {
        let message = PairGeometry::of(&[0.0, 0.0], &[1.0, 0.0]).unwrap_err().to_string();
        assert!(message.contains("length of a is 0"), "{message}");
        assert!(PairGeometry::of(&[1.0], &[0.0]).is_err());
        assert!(PairGeometry::of(&[1.0], &[1.0, 2.0]).is_err());
        assert!(PairGeometry::of(&[], &[]).is_err());
        assert!(PairGeometry::of(&[f64::NAN], &[1.0]).is_err());
    }

    #[test]
    fn a_hand_made_spread() {
        let points = Matrix::from_rows(&[[1.0], [2.0], [3.0]]).unwrap();
        let spread = concentration(&points, &Matrix::from_rows(&[[0.0], [4.0]]).unwrap()).unwrap();
        assert_eq!((spread.mean, spread.contrast, spread.mean_to_nearest), (2.0, 2.0, 2.0));
        assert!((spread.cv - (2.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
        // The second query is a point: only the first has a contrast.
        let mixed = concentration(&points, &Matrix::from_rows(&[[0.0], [2.0]]).unwrap()).unwrap();
        assert_eq!(mixed.contrast, 2.0);
        assert!(concentration(&points, &Matrix::from_rows(&[[2.0]]).unwrap()).is_err());
        assert!(concentration(&points, &Matrix::zeros(1, 2)).is_err());
        assert!(concentration(&Matrix::zeros(0, 1), &points).is_err());
    }

    #[test]
    fn the_cube_has_the_spread_of_theory() {
        let mut rng = SplitMix64::new(5);
        let mut cube = |rows: usize, dim| {
            let values = (0..rows * dim).map(|_| rng.uniform() as f32).collect();
            Matrix::from_vec(rows, dim, values).unwrap()
        };
        for dim in [64, 256] {
            let spread = concentration(&cube(1_000, dim), &cube(100, dim)).unwrap();
            assert!((spread.cv / cube_cv(dim) - 1.0).abs() < 0.05, "{dim}: {}", spread.cv);
        }
    }
}
