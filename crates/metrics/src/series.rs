//! One number or distribution, which any thread may change and read: relaxed atomics, no lock.
//!
//! Handles are cheap to clone; clones are the same series. One that was made by `default` is told
//! to nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of a latency's buckets, in microseconds: each is two to two and a half times
/// the one before, from a read in memory to a client's patience.
const LATENCY_BOUNDS_US: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000,
];

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Takes over a count that is kept elsewhere, and that never falls.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// The present count.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls, or is not known.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<AtomicU64>);

impl Default for Gauge {
    /// Not known yet.
    fn default() -> Gauge {
        Gauge(Arc::new(AtomicU64::new(f64::NAN.to_bits())))
    }
}

impl Gauge {
    /// The number from now on.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// The number from now on, or that it is not known, and not told.
    pub fn assign(&self, value: Option<f64>) {
        self.set(value.unwrap_or(f64::NAN));
    }

    /// The number; None if it is not known.
    pub fn value(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Ordering::Relaxed))).filter(|value| !value.is_nan())
    }
}

/// A distribution of durations, in buckets from 50 us to 5 s.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// One more of this duration.
    pub fn observe(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| bound * 1_000 < ns);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// What was observed so far, to be held beside what is observed later.
    pub fn observed(&self) -> Observed {
        Observed(std::array::from_fn(|at| self.0.counts[at].load(Ordering::Relaxed)))
    }

    /// The sum of all, in seconds.
    pub(crate) fn sum(&self) -> f64 {
        self.0.sum_ns.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// How many fell into each bucket, with its upper bound in seconds; the last one has none.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = LATENCY_BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        bounds.zip(counts).collect()
    }
}

/// How many durations fell into each bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed([u64; LATENCY_BOUNDS_US.len() + 1]);

impl Observed {
    /// Those of this distribution and of `other`.
    pub fn with(&self, other: &Observed) -> Observed {
        Observed(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }

    /// Those that came after `earlier`.
    pub fn since(&self, earlier: &Observed) -> Observed {
        Observed(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }

    /// The time that `percent` of them did not exceed, in microseconds, as if those of a bucket lay
    /// evenly in it; 0 if there are none, and the greatest bound for what exceeds it.
    pub fn percentile_us(&self, percent: u64) -> u64 {
        let rank = (self.0.iter().sum::<u64>() * percent).div_ceil(100);
        let (mut below, mut lower) = (0, 0);
        for (upper, count) in LATENCY_BOUNDS_US.into_iter().zip(self.0) {
            if rank > 0 && below + count >= rank {
                return lower + (upper - lower) * (rank - below) / count;
            }
            (below, lower) = (below + count, upper);
        }
        if rank > 0 { lower } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for us in [0, 50, 51, 5_000_000, 5_000_001] {
            histogram.observe(Duration::from_micros(us));
        }
        let counts: Vec<u64> = histogram.buckets().iter().map(|(_, count)| *count).collect();
        assert_eq!((counts[0], counts[1]), (2, 1));
        assert_eq!(counts[counts.len() - 2..], [1, 1]);
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum() - 10.000_102).abs() < 1e-9, "{}", histogram.sum());
    }

    #[test]
    fn percentiles_are_of_what_came_since() {
        let histogram = Histogram::default();
        let observe = |us, times: u64| {
            (0..times).for_each(|_| histogram.observe(Duration::from_micros(us)));
        };
        observe(40, 1_000);
        let before = histogram.observed();
        assert_eq!(histogram.observed().since(&before).percentile_us(99), 0, "there are none");
        observe(700, 98);
        observe(9_000, 2);
        let since = histogram.observed().since(&before);
        assert_eq!(since.percentile_us(50), 500 + 500 * 50 / 98);
        assert_eq!(since.percentile_us(99), 7_500);
        observe(9_000_000, 200);
        let since = histogram.observed().since(&before);
        assert_eq!(since.percentile_us(99), 5_000_000, "the greatest bound");
        assert_eq!(since.with(&before), histogram.observed());
    }

    #[test]
    fn a_gauge_is_not_known_until_it_is_set() {
        let gauge = Gauge::default();
        assert_eq!(gauge.value(), None);
        gauge.set(2.5);
        assert_eq!(gauge.clone().value(), Some(2.5));
        gauge.assign(None);
        assert_eq!(gauge.value(), None);
    }
}
