//! WordNet glosses as rows of a database: a vector, and what is known of each (listing 3.6).

use eas_data::wordnet::{Pos, WordNet};
use eas_retrieval::planner::Kind;
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;
use eas_text::encoder::SentenceEncoder;

use crate::mini_db::Row;

/// Columns: part of speech, lexicographer file, length of the gloss in bytes.
pub const SCHEMA: [(&str, Kind); 3] = [("pos", Kind::Text), ("file", Kind::Text), ("length", Kind::Number)];

/// Rows to keep, and other glosses to ask with.
#[derive(Debug)]
pub struct GlossRows {
    /// Ids 0 to n - 1, with metadata as [`SCHEMA`] says.
    pub rows: Vec<Row>,
    /// Shape `(n, dim)`.
    pub vectors: Matrix,
    /// Shape `(queries, dim)`.
    pub queries: Matrix,
}

impl GlossRows {
    /// `n` random glosses, and `queries` others.
    pub fn new(encoder: &dyn SentenceEncoder, n: usize, queries: usize, seed: u64) -> anyhow::Result<Self> {
        let wordnet = WordNet::load()?;
        let synsets = wordnet.synsets();
        let chosen = SplitMix64::new(seed).sample_indices(synsets.len(), n + queries);
        anyhow::ensure!(chosen.len() == n + queries, "WordNet has only {} glosses", synsets.len());
        let (kept, asked) = chosen.split_at(n);
        let texts = |chosen: &[usize]| chosen.iter().map(|&i| synsets[i].gloss.as_str()).collect::<Vec<_>>();
        let row = |(id, &i): (u64, &usize)| Row {
            id,
            metadata: vec![
                pos(synsets[i].pos).into(),
                synsets[i].lexicographer.into(),
                (synsets[i].gloss.len() as f64).into(),
            ],
        };
        Ok(Self {
            rows: (0..).zip(kept).map(row).collect(),
            vectors: encoder.encode(&texts(kept))?,
            queries: encoder.encode(&texts(asked))?,
        })
    }

    /// Bounds of lengths that about a share `selectivity` of the rows is within, from the shortest on.
    pub fn shortest(&self, selectivity: f64) -> (f64, f64) {
        let mut lengths: Vec<f64> = self.rows.iter().filter_map(length).collect();
        lengths.sort_by(f64::total_cmp);
        let last = ((lengths.len() as f64 * selectivity) as usize).clamp(1, lengths.len());
        (0.0, lengths[last - 1])
    }
}

fn length(row: &Row) -> Option<f64> {
    match row.metadata.get(2) {
        Some(eas_retrieval::planner::Value::Number(length)) => Some(*length),
        _ => None,
    }
}

fn pos(pos: Pos) -> &'static str {
    match pos {
        Pos::Noun => "noun",
        Pos::Verb => "verb",
        Pos::Adjective => "adjective",
        Pos::Adverb => "adverb",
    }
}
