//! A linear projection learned to keep the cosines of pairs.

use candle_core::{D, Device, Tensor};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

use crate::NnError;
use crate::descent::Descent;
use crate::layers::l2_normalize;
use crate::params::Parameters;

/// Learns directions `W`, shape `(to, dim)`, that make `cos(Wx, Wy)` follow `cos(x, y)`: the mean squared difference over `pairs` random
/// pairs of `rows`, drawn anew at each step. `start`, of `W`'s shape, are the directions to begin with.
///
/// ```
/// use eas_nn::descent::Descent;
/// use eas_nn::projection::learn_cosines;
/// use eas_tensor::Matrix;
///
/// let rows = Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])?;
/// let start = Matrix::from_rows(&[[1.0, 0.5], [0.0, 1.0]])?;
/// let learned = learn_cosines(&rows, &start, 8, Descent { steps: 5, learning_rate: 1e-2, seed: 1 })?;
/// assert_eq!((learned.rows(), learned.dim()), (2, 2));
/// # Ok::<(), eas_nn::NnError>(())
/// ```
pub fn learn_cosines(rows: &Matrix, start: &Matrix, pairs: usize, descent: Descent) -> Result<Matrix, NnError> {
    let refused = |name, got: String, expected: &str| NnError::Argument { name, got, expected: expected.to_owned() };
    if rows.rows() < 2 {
        return Err(refused("rows", rows.rows().to_string(), "at least 2"));
    }
    if pairs == 0 {
        return Err(refused("pairs", "0".to_owned(), "at least 1"));
    }
    if start.dim() != rows.dim() || start.rows() == 0 {
        return Err(NnError::Shape {
            what: "directions to start from".to_owned(),
            expected: format!("(at least 1, {})", rows.dim()),
            got: vec![start.rows(), start.dim()],
        });
    }
    rows.check_finite()?;
    let device = Device::Cpu;
    let tensor = |m: &Matrix| Tensor::from_slice(m.as_slice(), (m.rows(), m.dim()), &device);
    let mut params = Parameters::new(descent.seed, &device);
    let directions = params.adopt("directions", &tensor(start)?)?;
    // Cosines don't depend on length, and rows of one length have gradients of one size.
    let units = l2_normalize(&tensor(rows)?)?;
    let draw = |rng: &mut SplitMix64| -> Result<Tensor, NnError> {
        let ids: Vec<u32> = (0..pairs).map(|_| rng.below(rows.rows()) as u32).collect();
        Ok(units.index_select(&Tensor::new(ids, &device)?, 0)?)
    };
    descent.run(&params, |_, rng| {
        let (x, y) = (draw(rng)?, draw(rng)?);
        let turn = directions.t()?;
        let project = |x: &Tensor| l2_normalize(&x.matmul(&turn)?);
        let cosine = |x: &Tensor, y: &Tensor| (x * y)?.sum(D::Minus1);
        Ok((cosine(&project(&x)?, &project(&y)?)? - cosine(&x, &y)?)?.sqr()?.mean_all()?)
    })?;
    Ok(Matrix::from_vec(start.rows(), start.dim(), directions.flatten_all()?.to_vec1::<f32>()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::pca::RandomProjection;
    use eas_tensor::projection::{Projection, cosine_error};

    const RUN: Descent = Descent { steps: 200, learning_rate: 1e-2, seed: 1 };

    #[test]
    fn the_error_falls_from_any_start() {
        let mut rng = SplitMix64::new(4);
        let values = (0..200 * 6).map(|i| ((6 - i % 6) as f64 * rng.normal() + 1.0) as f32).collect();
        let rows = Matrix::from_vec(200, 6, values).unwrap();
        let pairs: Vec<_> = (0..200).map(|i| (i, (7 * i + 3) % 200)).collect();
        let error = |w: &Matrix| {
            let projected = Projection::Linear(w.clone()).apply(&rows).unwrap();
            cosine_error(&rows, &projected, &pairs).unwrap()
        };
        let start = RandomProjection::new(6, 3, 2).unwrap().directions;
        let learned = learn_cosines(&rows, &start, 100, RUN).unwrap();
        assert!(error(&learned) < 0.5 * error(&start), "{} {}", error(&learned), error(&start));
        assert_eq!(learned, learn_cosines(&rows, &start, 100, RUN).unwrap());
    }

    #[test]
    fn bad_input_is_refused() {
        let rows = Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0]]).unwrap();
        assert!(learn_cosines(&rows, &Matrix::zeros(1, 3), 4, RUN).is_err());
        assert!(learn_cosines(&rows, &Matrix::zeros(0, 2), 4, RUN).is_err());
        assert!(learn_cosines(&rows, &rows, 0, RUN).is_err());
        assert!(learn_cosines(&rows.select(&[0]), &rows, 4, RUN).is_err());
    }
}
