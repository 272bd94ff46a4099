//! Failures of the disk.

use std::fmt;
use std::path::{Path, PathBuf};

/// A failure of the disk or of what is on it. None is retryable: the process reports it and stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The operating system answered with an error.
    #[error("{}: {reason}", .file.display())]
    Io {
        /// The file or directory concerned.
        file: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// The file does not hold what was written to it.
    #[error("{} is damaged: {reason}", .file.display())]
    Corrupt {
        /// The file or directory concerned.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An earlier write or sync failed, so what is on disk is unknown.
    #[error("refused after an earlier failure: {reason}")]
    Poisoned {
        /// The earlier failure.
        reason: String,
    },
}

impl EngineError {
    pub(crate) fn io(file: &Path, reason: impl fmt::Display) -> EngineError {
        EngineError::Io { file: file.to_path_buf(), reason: reason.to_string() }
    }

    pub(crate) fn corrupt(file: &Path, reason: impl fmt::Display) -> EngineError {
        EngineError::Corrupt { file: file.to_path_buf(), reason: reason.to_string() }
    }
}
