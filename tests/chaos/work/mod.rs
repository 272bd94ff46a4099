//! What clients do while the cluster is under fire, and what must hold of what they were told.
//!
//! * [`registers`]: get, put, delete and swap of single keys; linearizable by two checkers.
//! * [`batches`]: writes and reads of four keys of one region at once; one register of their own.
//! * [`set`]: elements that are added and never removed.
//! * [`appends`]: lists that grow by swaps.
//! * [`scans`]: rows that are always there, so that no scan may leave one out or tell one twice.
//! * [`http`]: registers by way of the HTTP API.
//! * [`clients`]: who asks what, and when.
//!
//! Every workload keeps what was asked and answered in memory, with stamps that order all
//! invocations and answers, and judges it at the end.

pub mod appends;
pub mod batches;
pub mod clients;
pub mod http;
pub mod registers;
pub mod scans;
pub mod set;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use flotilla_client::Error;

/// What kind of wrong a judge has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// What was acknowledged is gone.
    Lost,
    /// What was told is older than what was acknowledged before, or cannot be.
    Stale,
    /// What was asked once happened twice.
    Duplicated,
    /// A part of a batch was seen without the rest.
    Torn,
}

/// What a judge has found, with all that is needed to understand it.
pub type Findings = Vec<(Wrong, String)>;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It did what it was asked to.
    Ok,
    /// It had no effect, and will have none.
    Failed,
    /// A write that may have had an effect, or may have one later.
    Undetermined,
}

impl End {
    /// How a call of a client ended.
    pub fn of<T>(answer: &Result<T, Error>) -> End {
        match answer {
            Ok(_) => End::Ok,
            Err(error) if error.is_undetermined() => End::Undetermined,
            Err(_) => End::Failed,
        }
    }
}

/// Stamps in the order in which they are taken: what ends before another thing begins has the
/// smaller one.
#[derive(Debug, Default)]
pub struct Stamps(AtomicU64);

impl Stamps {
    /// The next one.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// How many calls of each workload ended how, and why some failed.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<(&'static str, End), u64>>);

impl Tally {
    /// Counts a call.
    pub fn count(&self, workload: &'static str, end: End) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((workload, end)).or_default() += 1;
    }

    /// By workload and end.
    pub fn counts(&self) -> BTreeMap<(&'static str, End), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that ended so.
    pub fn of(&self, end: End) -> u64 {
        self.counts().iter().filter(|((_, other), _)| *other == end).map(|(_, count)| count).sum()
    }
}

/// A name for the key of this number of a workload. The names of a workload are spread over its
/// part of the key space, so that every region in it has its share.
pub fn spread(workload: &str, number: u64) -> String {
    let place = (number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16;
    format!("{workload}/{place:04x}/{number}")
}
