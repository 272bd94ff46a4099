//! Stops everything after the first failure of a disk.
//!
//! After a failed write or sync, what is on disk is unknown: a second fsync may report success for
//! pages that the kernel has dropped. No continuation is safe.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crate::error::EngineError;

/// Remembers the first failure and refuses all work after it.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    reason: OnceLock<String>,
}

impl Poison {
    /// Runs `work` unless something has failed before. An error or a panic in `work` is the
    /// failure that every later call reports.
    pub(crate) fn run<T>(
        &self,
        work: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.check()?;
        let error = match catch_panic(work) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(reason) => EngineError::Poisoned { reason },
        };
        // Of two failures at the same time, the first is reported.
        let _ = self.reason.set(error.to_string());
        Err(error)
    }

    /// `Ok` as long as nothing has failed.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        match self.reason.get() {
            None => Ok(()),
            Some(reason) => Err(EngineError::Poisoned { reason: reason.clone() }),
        }
    }
}

thread_local! {
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// True if a panic on this thread becomes an error of this crate. For a panic hook that would end
/// the process before the caller hears of that error.
pub fn catches_panics() -> bool {
    IS_CATCHING.get()
}

/// Turns a panic in `work` into its message. The storage crates below panic where this one answers
/// an error: raft-engine on a failed fsync, redb on pages that make no sense.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = IS_CATCHING.replace(true);
    // State that `work` left half changed is never used again: the caller drops it or is poisoned.
    let caught = catch_unwind(AssertUnwindSafe(work)).map_err(|payload| message(&*payload));
    IS_CATCHING.set(outer);
    caught
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return text.to_string();
    }
    match payload.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => "a panic without a message".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(reason: &str) -> EngineError {
        EngineError::Io { file: "f".into(), reason: reason.into() }
    }

    #[test]
    fn the_first_failure_is_what_all_later_calls_report() {
        let poison = Poison::default();
        assert_eq!(poison.run(|| Ok(1)), Ok(1));
        assert_eq!(poison.run(|| Err::<(), _>(io("disk full"))), Err(io("disk full")));
        let refused = Err(EngineError::Poisoned { reason: "f: disk full".into() });
        assert_eq!(poison.run(|| Ok(())), refused);
        assert_eq!(poison.check(), refused);
    }

    #[test]
    fn a_panic_poisons_too() {
        let poison = Poison::default();
        let failed = poison.run(|| -> Result<(), EngineError> { panic!("sync of {}", "log") });
        assert_eq!(failed, Err(EngineError::Poisoned { reason: "sync of log".into() }));
        assert!(poison.check().is_err());
    }

    #[test]
    fn a_thread_catches_panics_only_while_storage_works() {
        assert!(!catches_panics());
        assert_eq!(catch_panic(|| catch_panic(catches_panics)), Ok(Ok(true)));
        let failed: Result<(), String> = catch_panic(|| panic!("a page"));
        assert_eq!(failed, Err("a page".into()));
        assert!(!catches_panics());
    }
}
