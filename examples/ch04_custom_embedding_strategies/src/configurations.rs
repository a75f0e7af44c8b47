//! The layouts of `eas_plan::frontier`, built for real.

use eas_ann::{FlatIndex, Hnsw, HnswConfig, IvfConfig, IvfIndex, Metric, VectorIndex};
use eas_plan::frontier::{Config, Layout, Precision, Search};
use eas_tensor::binary::{Binarizer, BinaryIndex};
use eas_tensor::quant::{Binary, Codec, F16, Int8, Pq, PqConfig};
use eas_tensor::rabitq::Rotation;
use eas_tensor::{Matrix, top_k};

/// An index of one configuration.
pub enum Built {
    /// Over the values that the codes stand for; where those are bits, a query is rotated and coded like the vectors.
    Decoded(Box<dyn VectorIndex>, Option<Rotation>),
    /// Sign bits, compared by popcount.
    Bits(BinaryIndex),
    /// Product codes and their quantizer.
    Codes(Box<Pq>, Vec<u8>),
}

impl Built {
    /// Builds `config` over unit rows of its dimension.
    pub fn new(config: Config, rows: &Matrix, seed: u64) -> anyhow::Result<Self> {
        let (precision, search) = match config.layout {
            Layout::Pq => {
                let settings =
                    PqConfig { subspaces: config.dim / 8, iterations: 6, sample: 2_000, seed, ..PqConfig::default() };
                let pq = Pq::train(rows, &settings)?;
                let codes = pq.encode_all(rows)?;
                return Ok(Self::Codes(Box::new(pq), codes));
            }
            Layout::Scalar(Precision::Binary, Search::Flat) => {
                return Ok(Self::Bits(BinaryIndex::new(Binarizer::new(config.dim)?.rotated(seed), rows)?));
            }
            Layout::Scalar(precision, search) => (precision, search),
        };
        let decoded = match precision {
            Precision::F32 => rows.clone(),
            Precision::F16 => F16::new(config.dim).reconstruct(rows)?,
            Precision::Int8 => Int8::new(config.dim).reconstruct(rows)?,
            // Principal components differ in size and a sign doesn't tell: a random rotation makes them alike first.
            Precision::Binary => signs(&Rotation::new(config.dim, seed), rows)?,
        };
        let mut index: Box<dyn VectorIndex> = match search {
            Search::Flat => Box::new(FlatIndex::new(decoded.dim(), Metric::Cosine)?),
            Search::Ivf => {
                let settings =
                    IvfConfig { lists: 64, nprobe: 16, max_iter: 8, spherical: true, seed, ..IvfConfig::default() };
                Box::new(IvfIndex::train(&decoded, Metric::Cosine, settings)?)
            }
            Search::Hnsw => {
                let settings = HnswConfig { m: 16, ef_construction: 60, ef: 100, seed, ..HnswConfig::default() };
                Box::new(Hnsw::new(decoded.dim(), Metric::Cosine, settings)?)
            }
        };
        index.add(&(0..rows.rows() as u64).collect::<Vec<_>>(), &decoded)?;
        let rotation = (precision == Precision::Binary).then(|| Rotation::new(config.dim, seed));
        Ok(Self::Decoded(index, rotation))
    }

    /// The `k` nearest rows.
    pub fn search(&self, query: &[f32], k: usize) -> anyhow::Result<Vec<usize>> {
        match self {
            Self::Decoded(index, rotation) => {
                let hits = match rotation {
                    None => index.search(query, k)?,
                    Some(rotation) => index.search(signs(rotation, &Matrix::from_rows(&[query])?)?.row(0), k)?,
                };
                Ok(hits.iter().map(|hit| hit.id as usize).collect())
            }
            Self::Bits(index) => Ok(index.search(query, k)?.iter().map(|hit| hit.id).collect()),
            Self::Codes(pq, codes) => {
                let table = pq.dot_table(query)?;
                let scores: Vec<f32> =
                    codes.chunks_exact(pq.subspaces()).map(|code| Pq::look_up(&table, code)).collect();
                Ok(top_k(&scores, k).iter().map(|hit| hit.id).collect())
            }
        }
    }
}

/// The signs of rotated rows, at unit length.
fn signs(rotation: &Rotation, rows: &Matrix) -> anyhow::Result<Matrix> {
    let mut turned = Matrix::zeros(rows.rows(), rotation.padded());
    let mut buffer = Vec::new();
    for (i, row) in rows.iter_rows().enumerate() {
        rotation.rotate(row, &mut buffer);
        turned.row_mut(i).copy_from_slice(&buffer);
    }
    Ok(Binary::new(rotation.padded()).reconstruct(&turned)?)
}
