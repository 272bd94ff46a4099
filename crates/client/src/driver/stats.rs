//! What a client counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::failure::{self, CAUSE_COUNT, Failure};

/// What a client and its clones have done since the first of them connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Calls that were begun, without scans.
    pub calls: u64,
    /// Attempts that failed, by cause, such as `not_leader` or `connection_lost`; every cause is
    /// there. A call goes on after most of them: what is counted is not what its caller sees.
    pub failed_attempts: BTreeMap<&'static str, u64>,
}

impl ClientStats {
    /// Every cause that there is.
    pub fn causes() -> impl Iterator<Item = &'static str> {
        failure::causes()
    }
}

/// The counts as they grow.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    calls: AtomicU64,
    failed_attempts: [AtomicU64; CAUSE_COUNT],
}

impl Stats {
    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn attempt_failed(&self, failure: &Failure) {
        let cause = failure.cause();
        if let Some(at) = failure::causes().position(|known| known == cause) {
            self.failed_attempts[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> ClientStats {
        let counts = self.failed_attempts.iter().map(|count| count.load(Ordering::Relaxed));
        ClientStats {
            calls: self.calls.load(Ordering::Relaxed),
            failed_attempts: failure::causes().zip(counts).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_counted_under_its_cause() {
        let stats = Stats::default();
        stats.call();
        stats.attempt_failed(&Failure::Timeout);
        stats.attempt_failed(&Failure::Timeout);
        let read = stats.read();
        assert_eq!((read.calls, read.failed_attempts["timeout"]), (1, 2));
        assert_eq!(read.failed_attempts.values().sum::<u64>(), 2);
        assert_eq!(read.failed_attempts.len(), CAUSE_COUNT);
    }
}
