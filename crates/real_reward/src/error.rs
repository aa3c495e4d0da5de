//! What can go wrong in the world around a program. A bad program is never one of these.

use std::path::PathBuf;

/// Why tasks could not be loaded, a scorer not built or a tool not set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of a JSON-lines file is not what it should be.
    #[error("{path}, line {line}: {source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A Parquet file does not have the layout of its benchmark.
    #[error("{path}: {reason}")]
    Layout {
        /// The file.
        path: PathBuf,
        /// What was expected.
        reason: String,
    },
    /// There is no such benchmark or split.
    #[error("{0}")]
    Unknown(String),
    /// A field of the reward's configuration is out of range.
    #[error("reward.{field}: {reason}")]
    Config {
        /// Its name.
        field: &'static str,
        /// What is allowed.
        reason: String,
    },
    /// Python, or a package that the judges need, is missing. The message says what to do.
    #[error("{0}")]
    Tools(String),
    /// The sandbox could not be started or did not answer.
    #[error("sandbox: {0}")]
    Sandbox(String),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
