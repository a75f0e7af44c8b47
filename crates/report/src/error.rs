//! What can go wrong while a listing reports.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// `listings.toml` is malformed or breaks a rule.
    #[error("{path}: {reason}")]
    Catalogue {
        /// The `listings.toml` in question.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An example has no entry in its chapter's `listings.toml`.
    #[error("the listing `{name}` has no entry in {path}")]
    NotInCatalogue {
        /// The example's name.
        name: String,
        /// The `listings.toml` that lacks it.
        path: PathBuf,
    },
    /// A chart cannot be drawn from the values given.
    #[error("chart \"{title}\": {reason}")]
    Chart {
        /// The chart's title.
        title: String,
        /// What is missing or not a number.
        reason: String,
    },
    /// A chart's file name has neither of the two endings that can be drawn.
    #[error("chart file \"{file}\": the name must end in .svg or .png and contain no folder")]
    ChartFile {
        /// The name given.
        file: String,
    },
    /// The output of a listing or an expected file is not what [`crate::Record`] describes.
    #[error("{what}: {reason}")]
    Record {
        /// Where the text came from.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A listing could not be started, ran too long, or ended with an error.
    #[error("{name}: {reason}")]
    Run {
        /// The listing.
        name: String,
        /// What happened, with the end of what it wrote to stderr.
        reason: String,
    },
}

impl ReportError {
    /// Wraps an I/O error with the path it is about.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
