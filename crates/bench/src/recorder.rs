//! Counts and latencies of one run.
//!
//! A run has a window `[from, until)` after its warm-up. An operation counts towards the throughput
//! if it ended within the window, and towards the latencies if it was *due* in the window, whenever
//! it ended: a straggler is never left out.
//!
//! Clients record into a few shared tallies, not one each: a histogram takes some 100 KiB, and
//! 4,096 clients must not need 400 MiB.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::target::{Answer, CallError};

/// Tallies that clients share; several, so that they rarely wait for each other.
const TALLIES: usize = 8;

/// Decimal digits that a latency keeps: errors below 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Latencies are kept up to this; longer ones count as this. Far above the timeout of a call.
const LATENCY_MAX: Duration = Duration::from_secs(120);

/// Different texts of errors that are kept: a load causes few kinds of failures.
const ERROR_TEXTS_MAX: usize = 4;

/// Counts and latencies.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Operations that ended well within the window.
    pub ops: u64,
    /// Operations that ended badly within the window or were due in it.
    pub errors: u64,
    /// Of the errors, those that may have taken effect.
    pub undetermined: u64,
    /// Of the operations, reads of absent keys.
    pub absent: u64,
    /// Nanoseconds from when an operation was due to its good end.
    pub latencies_ns: Histogram<u64>,
    /// Some of the errors' texts.
    pub error_texts: Vec<String>,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Tally {
        let max_ns = LATENCY_MAX.as_nanos() as u64;
        let latencies_ns = Histogram::new_with_bounds(1_000, max_ns, SIGNIFICANT_DIGITS);
        Tally {
            ops: 0,
            errors: 0,
            undetermined: 0,
            absent: 0,
            latencies_ns: latencies_ns.expect("the bounds are constants and valid"),
            error_texts: Vec::new(),
        }
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: &Tally) {
        self.ops += other.ops;
        self.errors += other.errors;
        self.undetermined += other.undetermined;
        self.absent += other.absent;
        for text in &other.error_texts {
            self.note_error_text(text);
        }
        let merged = self.latencies_ns.add(&other.latencies_ns);
        merged.expect("all tallies have the same bounds");
    }

    fn latency(&mut self, latency: Duration) {
        self.latencies_ns.saturating_record(latency.as_nanos().min(u128::from(u64::MAX)) as u64);
    }

    fn note_error_text(&mut self, text: &str) {
        let known = self.error_texts.iter().any(|kept| kept == text);
        if !known && self.error_texts.len() < ERROR_TEXTS_MAX {
            self.error_texts.push(text.to_string());
        }
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new()
    }
}

/// The tallies of all clients of a run.
#[derive(Debug)]
pub struct Recorder {
    from: Instant,
    until: Instant,
    tallies: Vec<Mutex<Tally>>,
    /// Nanoseconds since `from` of the last good end.
    last_end_ns: AtomicU64,
    longest_gap_ns: AtomicU64,
}

impl Recorder {
    /// A recorder of the window `[from, until)`.
    pub fn new(from: Instant, until: Instant) -> Recorder {
        Recorder {
            from,
            until,
            tallies: (0..TALLIES).map(|_| Mutex::default()).collect(),
            last_end_ns: AtomicU64::new(0),
            longest_gap_ns: AtomicU64::new(0),
        }
    }

    /// The window's end.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Notes an operation that was due at `due` and ended at `end`.
    pub fn record(
        &self,
        lane: usize,
        (due, end): (Instant, Instant),
        outcome: Result<Answer, CallError>,
    ) {
        let in_window = self.from <= end && end < self.until;
        let was_due = self.from <= due && due < self.until;
        if !in_window && !was_due {
            return;
        }
        let mut tally = self.tally(lane);
        match outcome {
            Ok(answer) => {
                tally.ops += u64::from(in_window);
                tally.absent += u64::from(in_window && answer == Answer::Absent);
                if was_due {
                    tally.latency(end.saturating_duration_since(due));
                }
                drop(tally);
                self.note_gap(end);
            }
            Err(error) => {
                tally.errors += 1;
                tally.undetermined += u64::from(error.undetermined);
                tally.note_error_text(&error.reason);
            }
        }
    }

    /// Notes an operation that was due at `due` and not begun by the window's end: its latency
    /// would be at least the time that it waited. Returns whether it was due within the window.
    pub fn record_unstarted(&self, due: Instant) -> bool {
        let was_due = self.from <= due && due < self.until;
        if was_due {
            self.tally(0).latency(self.until.saturating_duration_since(due));
        }
        was_due
    }

    /// All tallies together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::new();
        for lane in 0..TALLIES {
            total.merge(&self.tally(lane));
        }
        total
    }

    /// The longest time within the window in which no operation ended well.
    pub fn longest_gap(&self) -> Duration {
        let window = self.until.saturating_duration_since(self.from).as_nanos() as u64;
        let last = self.last_end_ns.load(Ordering::Relaxed);
        let to_the_end = window.saturating_sub(last);
        Duration::from_nanos(self.longest_gap_ns.load(Ordering::Relaxed).max(to_the_end))
    }

    fn note_gap(&self, end: Instant) {
        let end_ns = end.min(self.until).saturating_duration_since(self.from).as_nanos() as u64;
        let last_ns = self.last_end_ns.fetch_max(end_ns, Ordering::Relaxed);
        let gap_ns = end_ns.saturating_sub(last_ns);
        if gap_ns > self.longest_gap_ns.load(Ordering::Relaxed) {
            self.longest_gap_ns.fetch_max(gap_ns, Ordering::Relaxed);
        }
    }

    fn tally(&self, lane: usize) -> MutexGuard<'_, Tally> {
        self.tallies[lane % TALLIES].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn merged_tallies_are_as_one() {
        let mut parts = [Tally::new(), Tally::new()];
        let mut whole = Tally::new();
        for micros in 1..=1000_u64 {
            let latency = Duration::from_micros(micros);
            parts[(micros % 2) as usize].latency(latency);
            whole.latency(latency);
        }
        parts[0].note_error_text("a");
        parts[1].note_error_text("a");
        let [mut merged, other] = parts;
        merged.merge(&other);
        assert_eq!(merged.latencies_ns, whole.latencies_ns);
        assert_eq!(merged.latencies_ns.len(), 1000);
        assert_eq!(merged.error_texts, ["a"]);
        let p99_us = merged.latencies_ns.value_at_quantile(0.99) / 1_000;
        assert!((989..=991).contains(&p99_us), "{p99_us}");
    }

    #[test]
    fn warm_up_is_left_out_and_stragglers_are_not() {
        let start = Instant::now();
        let recorder = Recorder::new(start + SECOND, start + 3 * SECOND);
        let done = |due: u32, end: u32| {
            recorder.record(0, (start + due * SECOND, start + end * SECOND), Ok(Answer::Done));
        };
        done(0, 0);
        assert_eq!(recorder.total().ops, 0);
        done(0, 2);
        assert_eq!((recorder.total().ops, recorder.total().latencies_ns.len()), (1, 0));
        done(2, 9);
        let total = recorder.total();
        assert_eq!((total.ops, total.latencies_ns.len()), (1, 1));
        assert!(total.latencies_ns.max() >= 7_000_000_000 / 1001 * 1000);
    }

    #[test]
    fn the_longest_gap_includes_both_ends_of_the_window() {
        let start = Instant::now();
        let recorder = Recorder::new(start, start + 10 * SECOND);
        assert_eq!(recorder.longest_gap(), 10 * SECOND);
        for end in [1, 2, 6] {
            let end = start + end * SECOND;
            recorder.record(end.elapsed().as_secs() as usize, (end, end), Ok(Answer::Done));
        }
        assert_eq!(recorder.longest_gap(), 4 * SECOND);
    }

    #[test]
    fn errors_are_counted_and_have_no_latency() {
        let start = Instant::now();
        let recorder = Recorder::new(start, start + SECOND);
        for lane in 0..20 {
            let reason = format!("reason {lane}");
            let error = CallError { undetermined: lane % 2 == 0, reason };
            recorder.record(lane, (start, start), Err(error));
        }
        let total = recorder.total();
        assert_eq!((total.errors, total.undetermined, total.latencies_ns.len()), (20, 10, 0));
        assert_eq!(total.error_texts.len(), ERROR_TEXTS_MAX);
    }
}
