//! What can go wrong between a file, a model and what computes it.

use std::io;
use std::path::{Path, PathBuf};

/// A checkpoint, tokenizer, chat template or GPU could not be read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it claims to be: cut off, damaged, or of another format.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and at which byte or key.
        what: String,
    },
    /// The file is sound but asks for something that this crate does not compute.
    #[error("{}: not supported: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        what: String,
    },
    /// No file, folder or cached hub model of this name.
    #[error(
        "no model {name:?}: it is neither a GGUF file nor a folder with config.json, and not in the cache at {}. \
         To put a hub model there: `hf download {name}`", cache.display()
    )]
    NotFound {
        /// What was asked for.
        name: String,
        /// Where hub models are kept.
        cache: PathBuf,
    },
    /// The chat template does not parse, or refused the conversation.
    #[error("chat template: {0}")]
    ChatTemplate(String),
    /// A tokenizer could not be trained or asked.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A GPU could not be used.
    #[error(transparent)]
    Gpu(#[from] crate::cuda::Error),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn malformed(path: &Path, what: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), what: what.into() }
    }
}
