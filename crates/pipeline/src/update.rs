//! Growing and migrating a store of vectors without mixing the spaces of two encoders.

use eas_tensor::align::AffineMap;
use eas_tensor::{Matrix, TensorError};

/// Something that turns items into vectors, and says which version of itself does.
///
/// Two encoders are of one version only if they give the same vector for the same item: any change of weights is a new version.
pub trait VersionedEncoder {
    /// Identifies the weights.
    fn version(&self) -> &str;

    /// Vectors of shape `(rows, dim)` for items given as rows of `items`.
    fn encode(&self, items: &Matrix) -> Result<Matrix, UpdateError>;
}

/// What a store refuses.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The vectors come from another encoder than the stored ones.
    #[error(
        "the store holds vectors of encoder {stored:?}, got {given:?}: re-embed the store or align the new space first"
    )]
    VersionMismatch {
        /// The version of the stored vectors.
        stored: String,
        /// The version of the encoder given.
        given: String,
    },
    /// An encoder returned another number of vectors than it was given items.
    #[error("the encoder returned {vectors} vectors for {items} items")]
    Count {
        /// Vectors returned.
        vectors: usize,
        /// Items given.
        items: usize,
    },
    /// Shapes or values of vectors were refused.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The encoder failed.
    #[error("the encoder failed: {0}")]
    Encoder(Box<dyn std::error::Error + Send + Sync>),
}

/// Vectors of one encoder version; row `i` is the `i`-th item ever appended.
///
/// Every change happens whole or not at all: an error leaves the store as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingStore {
    vectors: Matrix,
    encoder_version: String,
    encoder_calls: usize,
}

impl EmbeddingStore {
    /// A store of the vectors that `encoder` gives for `items`.
    pub fn build(encoder: &impl VersionedEncoder, items: &Matrix) -> Result<Self, UpdateError> {
        Ok(Self {
            vectors: encode(encoder, items)?,
            encoder_version: encoder.version().to_owned(),
            encoder_calls: items.rows(),
        })
    }

    /// All vectors, shape `(items, dim)`.
    pub fn vectors(&self) -> &Matrix {
        &self.vectors
    }

    /// The version that all vectors are of.
    pub fn encoder_version(&self) -> &str {
        &self.encoder_version
    }

    /// Items that were encoded for this store so far: what its vectors have cost.
    pub fn encoder_calls(&self) -> usize {
        self.encoder_calls
    }

    /// Adds the vectors of `items`, at the cost of one encoder call each.
    ///
    /// An encoder of another version is refused: its vectors lie in another space, and neighbours across the two would mean
    /// nothing even though the dimensions agree.
    pub fn append(&mut self, encoder: &impl VersionedEncoder, items: &Matrix) -> Result<(), UpdateError> {
        self.check_version(encoder)?;
        let vectors = encode(encoder, items)?;
        self.vectors.append(&vectors)?;
        self.encoder_calls += items.rows();
        Ok(())
    }

    /// Replaces every vector by that of another encoder; `items` are all items of the store, in order.
    pub fn reembed_all(&mut self, encoder: &impl VersionedEncoder, items: &Matrix) -> Result<(), UpdateError> {
        if items.rows() != self.vectors.rows() {
            return Err(UpdateError::Count { vectors: self.vectors.rows(), items: items.rows() });
        }
        self.vectors = encode(encoder, items)?;
        encoder.version().clone_into(&mut self.encoder_version);
        self.encoder_calls += items.rows();
        Ok(())
    }

    /// Moves the stored vectors into the space of encoder `version` by a map learnt from anchors, without encoding anything.
    pub fn align(&mut self, map: &AffineMap, version: impl Into<String>) -> Result<(), UpdateError> {
        self.vectors = map.apply(&self.vectors)?;
        self.encoder_version = version.into();
        Ok(())
    }

    /// The vectors of `items` as queries against this store; an encoder of another version is refused.
    pub fn queries(&self, encoder: &impl VersionedEncoder, items: &Matrix) -> Result<Matrix, UpdateError> {
        self.check_version(encoder)?;
        encode(encoder, items)
    }

    fn check_version(&self, encoder: &impl VersionedEncoder) -> Result<(), UpdateError> {
        if encoder.version() == self.encoder_version {
            return Ok(());
        }
        Err(UpdateError::VersionMismatch { stored: self.encoder_version.clone(), given: encoder.version().to_owned() })
    }
}

fn encode(encoder: &impl VersionedEncoder, items: &Matrix) -> Result<Matrix, UpdateError> {
    let vectors = encoder.encode(items)?;
    if vectors.rows() != items.rows() {
        return Err(UpdateError::Count { vectors: vectors.rows(), items: items.rows() });
    }
    vectors.check_finite()?;
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Multiplies by a number, or fails on command.
    struct Scale {
        version: &'static str,
        by: f32,
        drops_a_row: bool,
    }

    impl VersionedEncoder for Scale {
        fn version(&self) -> &str {
            self.version
        }

        fn encode(&self, items: &Matrix) -> Result<Matrix, UpdateError> {
            let keep = items.rows() - usize::from(self.drops_a_row);
            let values = items.as_slice()[..keep * items.dim()].iter().map(|x| x * self.by);
            Ok(Matrix::from_vec(keep, items.dim(), values.collect())?)
        }
    }

    fn scale(version: &'static str, by: f32) -> Scale {
        Scale { version, by, drops_a_row: false }
    }

    fn items(n: usize) -> Matrix {
        Matrix::from_vec(n, 2, (0..2 * n).map(|i| i as f32).collect()).unwrap()
    }

    #[test]
    fn appending_encodes_the_new_items_only() {
        let old = scale("v1", 2.0);
        let mut store = EmbeddingStore::build(&old, &items(5)).unwrap();
        store.append(&old, &items(3)).unwrap();
        assert_eq!((store.vectors().rows(), store.encoder_calls()), (8, 8));
        assert_eq!(store.vectors().row(6), [4.0, 6.0]);
    }

    #[test]
    fn another_version_is_refused_until_the_store_has_moved() {
        let (old, new) = (scale("v1", 2.0), scale("v2", 3.0));
        let mut store = EmbeddingStore::build(&old, &items(5)).unwrap();
        let before = store.clone();
        let message = store.append(&new, &items(1)).unwrap_err().to_string();
        assert!(message.contains("\"v1\"") && message.contains("\"v2\""), "{message}");
        assert!(store.queries(&new, &items(1)).is_err());
        assert_eq!(store, before);

        let mut moved = store.clone();
        moved.reembed_all(&new, &items(5)).unwrap();
        assert_eq!((moved.encoder_version(), moved.encoder_calls()), ("v2", 10));
        assert_eq!(moved.queries(&new, &items(5)).unwrap(), *moved.vectors());

        // The map between these two encoders is known: times 1.5.
        let map = AffineMap { weights: Matrix::from_rows(&[[1.5, 0.0], [0.0, 1.5]]).unwrap(), offset: vec![0.0, 0.0] };
        store.align(&map, "v2").unwrap();
        assert_eq!(store.vectors(), moved.vectors());
        assert_eq!(store.encoder_calls(), 5);
    }

    #[test]
    fn a_failing_encoder_changes_nothing() {
        let mut store = EmbeddingStore::build(&scale("v1", 1.0), &items(4)).unwrap();
        let before = store.clone();
        let lossy = Scale { drops_a_row: true, ..scale("v1", 1.0) };
        assert!(matches!(store.append(&lossy, &items(3)), Err(UpdateError::Count { vectors: 2, items: 3 })));
        assert!(matches!(
            store.append(&scale("v1", f32::NAN), &items(3)),
            Err(UpdateError::Tensor(TensorError::NotFinite { .. }))
        ));
        assert!(store.append(&scale("v1", 1.0), &Matrix::zeros(2, 3)).is_err());
        assert!(store.reembed_all(&scale("v2", 1.0), &items(3)).is_err());
        assert_eq!(store, before);
    }

    proptest! {
        #[test]
        fn appending_in_parts_equals_building_at_once(cut in 0usize..20) {
            let encoder = scale("v1", 0.5);
            let all = items(20);
            let indices: Vec<usize> = (0..20).collect();
            let mut store = EmbeddingStore::build(&encoder, &all.select(&indices[..cut])).unwrap();
            store.append(&encoder, &all.select(&indices[cut..])).unwrap();
            prop_assert_eq!(store, EmbeddingStore::build(&encoder, &all).unwrap());
        }
    }
}
