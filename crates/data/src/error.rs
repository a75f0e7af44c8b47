use std::path::PathBuf;

/// What a loader, a reader or a generator refuses.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The folder with the bundled data cannot be found.
    #[error("no data folder at {path}: set EAS_DATA to the `data` folder of a checkout")]
    NoRoot {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A bundled file isn't there.
    #[error("missing data file {path}: restore it with `git checkout -- data/{name}`")]
    Missing {
        /// The full path.
        path: PathBuf,
        /// Its name under `data/`.
        name: String,
    },
    /// A bundled file is shorter or longer than the table of origins says.
    #[error("data file {path} has {found} bytes, {expected} expected: restore it with `git checkout -- data/{name}`")]
    WrongLength {
        /// The full path.
        path: PathBuf,
        /// Its name under `data/`.
        name: String,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// A bundled file has the right length and other content.
    #[error(
        "data file {path} is altered (sha256 {found}, {expected} expected): restore it with `git checkout -- data/{name}`"
    )]
    Altered {
        /// The full path.
        path: PathBuf,
        /// Its name under `data/`.
        name: String,
        /// The digest in the table of origins.
        expected: String,
        /// The digest of the file.
        found: String,
    },
    /// A file has no row in the table of origins.
    #[error("data file {name} has no row in {table}: run the script that makes it, which adds one")]
    Unlisted {
        /// The name under `data/`.
        name: String,
        /// Path of the table.
        table: PathBuf,
    },
    /// A file's content isn't what its format demands.
    #[error("{path}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the offending value.
        problem: String,
    },
    /// An argument of a generator or reader is outside what it accepts.
    #[error("{what} is {given}, {expected} expected")]
    Argument {
        /// The argument's name.
        what: &'static str,
        /// What was given.
        given: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
