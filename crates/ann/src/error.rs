//! [`AnnError`]: what an index refuses, with the offending value.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use eas_tensor::TensorError;

/// Why an index refused an operation. Nothing was changed when one of these comes back.
#[derive(Debug, thiserror::Error)]
pub enum AnnError {
    /// A vector's dimension isn't the index's.
    #[error("the index holds vectors of dimension {expected}, got {got}")]
    Dimension {
        /// The index's dimension.
        expected: usize,
        /// The dimension given.
        got: usize,
    },
    /// A vector holds NaN or an infinite value.
    #[error("row {row}, column {column} is {value}, not a finite number")]
    NotFinite {
        /// Row of the matrix given (0 for a single query).
        row: usize,
        /// Column of the first offending value.
        column: usize,
        /// The value itself.
        value: f32,
    },
    /// As many ids as vectors are needed.
    #[error("{ids} ids for {rows} vectors")]
    Ids {
        /// Number of ids.
        ids: usize,
        /// Number of rows.
        rows: usize,
    },
    /// The id is in the index already, or stands twice in one call of `add`.
    #[error("id {0} is already in the index; upsert replaces it")]
    DuplicateId(u64),
    /// A parameter is outside what the index accepts.
    #[error("{name} is {got}, must be {expected}")]
    Parameter {
        /// The parameter's name.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// A numeric routine refused its input.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Every replica of a shard is down.
    #[error("shard {0} is unavailable: all its replicas have failed")]
    ShardUnavailable(usize),
    /// The replica missed writes and no live replica has them.
    #[error("replica {replica} of shard {shard} missed writes: recover one that has them first")]
    StaleReplica {
        /// The shard.
        shard: usize,
        /// The replica.
        replica: usize,
    },
    /// There is no such file; only `create` makes one.
    #[error("{}: there is no such file", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The file ends before what its header says it holds.
    #[error("{}: the file is cut off: {bytes} bytes of {expected}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The size it should have at least.
        expected: u64,
    },
    /// There are fewer rows.
    #[error("row {row} of {rows} rows")]
    OutOfRange {
        /// The row asked for.
        row: u64,
        /// How many there are.
        rows: u64,
    },
    /// A change of what was opened for reading.
    #[error("{}: opened for reading only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// Another writer has the file open.
    #[error("{}: another writer has it open", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file isn't a whole, unaltered index of the expected kind.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An engine outside this library refused, or its server doesn't answer.
    #[error("{backend} ({at}): {reason}")]
    Backend {
        /// The engine.
        backend: &'static str,
        /// Which server and collection, or which index.
        at: String,
        /// What was tried, and what came of it.
        reason: String,
    },
}

impl AnnError {
    /// A [`Parameter`](Self::Parameter) error.
    pub(crate) fn parameter(name: &'static str, got: &impl ToString, expected: &'static str) -> Self {
        Self::Parameter { name, got: got.to_string(), expected }
    }

    /// What the system says about a file; that it isn't there has a name of its own.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Io { path, source },
        }
    }
}
