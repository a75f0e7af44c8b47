//! Sparse messages: the largest tenth of a vector instead of all of it.

use super::DistError;

/// Which entries of a vector are the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Those of the largest absolute value, which keep most of the length.
    Magnitude,
    /// Those of the largest value, whatever the size of the negative ones; for comparison.
    Value,
}

/// Keeps the `floor(ratio * dim)` largest entries of a vector, at least one (Aji and Heafield, "Sparse communication for distributed
/// gradient descent", EMNLP 2017).
///
/// An entry travels as a u16 index and an f32 value, 6 bytes, so a vector has at most 65,536 of them; [`encode`](Self::encode) cuts
/// longer ones into blocks.
///
/// ```
/// use eas_nn::dist::compress::{By, TopK};
///
/// let top = TopK::new(0.4, By::Magnitude)?.compress(&[0.6, -0.9, 0.1, 0.3, -0.2])?;
/// assert_eq!(top.indices, [1, 0]);
/// assert_eq!(top.to_dense(), [0.6, -0.9, 0.0, 0.0, 0.0]);
/// # Ok::<(), eas_nn::dist::DistError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopK {
    ratio: f64,
    by: By,
}

/// The longest vector whose entries a u16 can number.
const BLOCK: usize = 1 << 16;
/// Bytes of an index and a value.
const ENTRY: usize = 6;

/// Some entries of a vector; the others are 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Sparse {
    /// Entries of the whole vector.
    pub dim: usize,
    /// Which entries there are, the largest first.
    pub indices: Vec<u16>,
    /// Their values.
    pub values: Vec<f32>,
}

impl Sparse {
    /// The whole vector.
    pub fn to_dense(&self) -> Vec<f32> {
        let mut dense = vec![0.0; self.dim];
        for (&index, &value) in self.indices.iter().zip(&self.values) {
            if let Some(entry) = dense.get_mut(usize::from(index)) {
                *entry = value;
            }
        }
        dense
    }
}

impl TopK {
    /// Keeps a share `ratio` of the entries, above 0 and at most 1.
    pub fn new(ratio: f64, by: By) -> Result<Self, DistError> {
        if ratio > 0.0 && ratio <= 1.0 {
            return Ok(Self { ratio, by });
        }
        Err(DistError::Argument {
            name: "share of entries",
            got: ratio.to_string(),
            expected: "above 0 and at most 1".to_owned(),
        })
    }

    /// How many entries of `dim` are kept.
    pub fn kept(&self, dim: usize) -> usize {
        // The small addend keeps a share such as 0.29 of 100 from becoming 28.
        ((self.ratio * dim as f64 + 1e-9) as usize).clamp(usize::from(dim > 0), dim)
    }

    /// The largest entries, the largest first, ties to the lower index. At most 65,536 entries, all finite.
    pub fn compress(&self, vector: &[f32]) -> Result<Sparse, DistError> {
        if vector.len() > BLOCK {
            let (got, expected) = (vector.len().to_string(), format!("at most {BLOCK}"));
            return Err(DistError::Argument { name: "entries of a vector", got, expected });
        }
        if let Some(value) = vector.iter().find(|value| !value.is_finite()) {
            let (got, expected) = (value.to_string(), "finite".to_owned());
            return Err(DistError::Argument { name: "entry", got, expected });
        }
        let size = |index: &u16| {
            let value = vector[usize::from(*index)];
            if self.by == By::Magnitude { value.abs() } else { value }
        };
        let order = |a: &u16, b: &u16| size(b).total_cmp(&size(a)).then(a.cmp(b));
        let mut indices: Vec<u16> = (0..vector.len()).map(|index| index as u16).collect();
        let kept = self.kept(vector.len());
        if kept < indices.len() {
            indices.select_nth_unstable_by(kept, order);
            indices.truncate(kept);
        }
        indices.sort_unstable_by(order);
        let values = indices.iter().map(|&index| vector[usize::from(index)]).collect();
        Ok(Sparse { dim: vector.len(), indices, values })
    }

    /// The message for rows of `dim` entries: of each row, or each block of a longer one, indices and values.
    pub fn encode(&self, rows: &[f32], dim: usize) -> Result<Vec<u8>, DistError> {
        let mut message = Vec::with_capacity(self.message_len(rows.len(), dim)?);
        for block in blocks(rows.len(), dim) {
            let top = self.compress(&rows[block])?;
            message.extend(top.indices.iter().flat_map(|index| index.to_le_bytes()));
            message.extend(top.values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Ok(message)
    }

    /// The `values` numbers, 0 where nothing was kept, of a message that [`encode`](Self::encode) made of as many.
    pub fn decode(&self, message: &[u8], values: usize, dim: usize) -> Result<Vec<f32>, DistError> {
        let expected = self.message_len(values, dim)?;
        if message.len() != expected {
            return Err(DistError::Corrupt(format!("{} bytes, expected {expected}", message.len())));
        }
        let mut rows = vec![0.0; values];
        let mut rest = message;
        for block in blocks(values, dim) {
            let row = &mut rows[block];
            let kept = self.kept(row.len());
            let (indices, tail) = rest.split_at(2 * kept);
            let (numbers, tail) = tail.split_at(4 * kept);
            rest = tail;
            for (index, value) in indices.as_chunks::<2>().0.iter().zip(super::from_bytes(numbers)) {
                let index = usize::from(u16::from_le_bytes(*index));
                let dim = row.len();
                let entry = row.get_mut(index).filter(|_| value.is_finite());
                let corrupt = || DistError::Corrupt(format!("value {value} at {index} of {dim}"));
                *entry.ok_or_else(corrupt)? = value;
            }
        }
        Ok(rows)
    }

    /// Bytes of the message for `values` numbers in rows of `dim`.
    pub fn message_len(&self, values: usize, dim: usize) -> Result<usize, DistError> {
        if dim == 0 || !values.is_multiple_of(dim) {
            let (got, expected) = (format!("{values} values"), format!("rows of {dim}, and not of 0"));
            return Err(DistError::Argument { name: "matrix to compress", got, expected });
        }
        Ok(blocks(values, dim).map(|block| ENTRY * self.kept(block.len())).sum())
    }
}

/// The rows of `dim` among `values` numbers, long ones cut into blocks.
fn blocks(values: usize, dim: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..values)
        .step_by(dim.max(1))
        .flat_map(move |row| (row..row + dim).step_by(BLOCK).map(move |from| from..(from + BLOCK).min(row + dim)))
}

/// Sends later what a compression leaves out now: of `x` goes `C(x + e)`, and `e` becomes what is missing, `x + e - C(x + e)` (Seide et
/// al., Interspeech 2014; Stich et al., "Sparsified SGD with memory", NeurIPS 2018).
#[derive(Debug, Clone)]
pub struct ErrorFeedback {
    top: TopK,
    residual: Vec<f32>,
}

impl ErrorFeedback {
    /// For vectors of `dim` entries.
    pub fn new(top: TopK, dim: usize) -> Self {
        Self { top, residual: vec![0.0; dim] }
    }

    /// What hasn't been sent yet.
    pub fn residual(&self) -> &[f32] {
        &self.residual
    }

    /// The message for `x` and what was left before, see [`TopK::encode`]; what it leaves out is kept.
    pub fn encode(&mut self, x: &[f32]) -> Result<Vec<u8>, DistError> {
        let dim = self.residual.len();
        if x.len() != dim {
            let (got, expected) = (x.len().to_string(), dim.to_string());
            return Err(DistError::Argument { name: "entries of a vector", got, expected });
        }
        let due: Vec<f32> = x.iter().zip(&self.residual).map(|(x, e)| x + e).collect();
        let message = self.top.encode(&due, dim)?;
        let sent = self.top.decode(&message, dim, dim)?;
        self.residual = due.iter().zip(sent).map(|(due, sent)| due - sent).collect();
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    const X: [f32; 8] = [0.6, -0.9, 0.1, 0.3, -0.2, 0.05, 0.4, -0.5];

    fn energy(x: &[f32]) -> f64 {
        x.iter().map(|&v| f64::from(v).powi(2)).sum()
    }

    #[test]
    fn magnitudes_keep_more_than_values() {
        for (by, indices, kept, cosine) in [
            (By::Magnitude, [1, 0, 7], 0.824_383_164_0, 0.907_955_485_7),
            (By::Value, [0, 6, 3], 0.354_136_429_6, 0.595_093_631_0),
        ] {
            let top = TopK::new(0.375, by).unwrap().compress(&X).unwrap();
            assert_eq!(top.indices, indices);
            let dense = top.to_dense();
            let share = energy(&dense) / energy(&X);
            assert!((share - kept).abs() < 1e-7, "{share}");
            let product: f64 = dense.iter().zip(&X).map(|(a, b)| f64::from(a * b)).sum();
            assert!((product / (energy(&dense) * energy(&X)).sqrt() - cosine).abs() < 1e-7);
        }
    }

    #[test]
    fn the_selection_is_that_of_a_full_sort() {
        let mut rng = SplitMix64::new(1);
        let top = TopK::new(0.3, By::Magnitude).unwrap();
        for n in [0, 1, 2, 7, 100] {
            // Few distinct values: ties go to the lower index.
            let x: Vec<f32> = (0..n).map(|_| rng.below(5) as f32 - 2.0).collect();
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| x[b].abs().total_cmp(&x[a].abs()));
            order.truncate(if n == 0 { 0 } else { (3 * n / 10).max(1) });
            let found: Vec<usize> = top.compress(&x).unwrap().indices.iter().map(|&i| usize::from(i)).collect();
            assert_eq!(found, order);
        }
        assert_eq!(TopK::new(0.29, By::Value).unwrap().kept(100), 29);
    }

    #[test]
    fn a_tenth_of_gaussian_entries_holds_the_known_share_of_their_energy() {
        let mut rng = SplitMix64::new(2);
        let x: Vec<f32> = (0..50_000).map(|_| rng.normal() as f32).collect();
        for (by, share) in [(By::Magnitude, 0.4393), (By::Value, 0.3249)] {
            let kept = energy(&TopK::new(0.1, by).unwrap().compress(&x).unwrap().values) / energy(&x);
            assert!((kept - share).abs() < 0.02, "{kept}");
        }
    }

    #[test]
    fn a_message_has_six_bytes_an_entry_and_comes_back() {
        let mut rng = SplitMix64::new(3);
        let top = TopK::new(0.1, By::Magnitude).unwrap();
        for (dim, bytes) in [(128, 72), (768, 456), (70_000, 6 * (6_553 + 446))] {
            let rows: Vec<f32> = (0..2 * dim).map(|_| rng.normal() as f32).collect();
            let message = top.encode(&rows, dim).unwrap();
            assert_eq!(message.len(), 2 * bytes);
            let back = top.decode(&message, 2 * dim, dim).unwrap();
            if dim < BLOCK {
                let dense = |row: &[f32]| top.compress(row).unwrap().to_dense();
                assert_eq!(back, rows.chunks(dim).flat_map(dense).collect::<Vec<f32>>());
            }
            assert!(back.iter().zip(&rows).all(|(b, x)| *b == 0.0 || b == x));
        }
    }

    #[test]
    fn damaged_messages_and_unusable_vectors_are_refused() {
        let top = TopK::new(0.5, By::Magnitude).unwrap();
        let message = top.encode(&X, 8).unwrap();
        assert!(matches!(top.decode(&message[1..], 8, 8), Err(DistError::Corrupt(_))));
        let mut wrong_index = message.clone();
        wrong_index[0] = 8;
        assert!(top.decode(&wrong_index, 8, 8).unwrap_err().to_string().contains("at 8 of 8"));
        let mut nan = message;
        let at = nan.len() - 4;
        nan[at..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(top.decode(&nan, 8, 8).is_err());
        assert!(top.encode(&[1.0, f32::NAN], 2).is_err());
        assert!(top.encode(&X, 3).is_err() && top.encode(&X, 0).is_err());
        assert!(top.compress(&vec![0.0; BLOCK + 1]).is_err());
        for ratio in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(TopK::new(ratio, By::Magnitude).is_err());
        }
    }

    #[test]
    fn what_is_sent_and_what_is_kept_add_up() {
        let (dim, mut rng) = (50, SplitMix64::new(4));
        let top = TopK::new(0.1, By::Magnitude).unwrap();
        let mut feedback = ErrorFeedback::new(top, dim);
        let (mut given, mut sent) = (vec![0.0f64; dim], vec![0.0f64; dim]);
        for _ in 0..100 {
            let x: Vec<f32> = (0..dim).map(|_| rng.normal() as f32).collect();
            let message = feedback.encode(&x).unwrap();
            assert_eq!(message.len(), 6 * 5);
            for (sum, v) in sent.iter_mut().zip(top.decode(&message, dim, dim).unwrap()) {
                *sum += f64::from(v);
            }
            for (sum, v) in given.iter_mut().zip(&x) {
                *sum += f64::from(*v);
            }
        }
        for ((given, sent), left) in given.iter().zip(&sent).zip(feedback.residual()) {
            assert!((sent + f64::from(*left) - given).abs() < 1e-5);
        }
        assert!(feedback.encode(&[1.0]).is_err());
    }
}
