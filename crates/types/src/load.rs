//! What clients have stores and regions do.
//!
//! A [`Load`] is either a count since some moment or a rate; the field that holds it says which.
//! Requests are counted where they are answered: by the leader, once it has answered well. What is
//! refused is no load, and neither is what members of a region send each other.

/// Requests and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    /// Requests that read: gets, and chunks of scans.
    pub reads: u64,
    /// Bytes of the values that gets returned, and of the keys and values of scans.
    pub read_bytes: u64,
    /// Requests that write: batches, and comparisons whether or not they swapped.
    pub writes: u64,
    /// Bytes that writes take in the log.
    pub written_bytes: u64,
}

impl Load {
    /// What was done since `earlier`, an earlier count of the same.
    pub fn since(self, earlier: Load) -> Load {
        Load {
            reads: self.reads.saturating_sub(earlier.reads),
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            writes: self.writes.saturating_sub(earlier.writes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
        }
    }

    /// What was done in `ms` milliseconds as a rate per second; 1 at least of what there was any.
    pub fn per_second(self, ms: u64) -> Load {
        let rate = |count: u64| count.saturating_mul(1_000).div_ceil(ms.max(1));
        Load {
            reads: rate(self.reads),
            read_bytes: rate(self.read_bytes),
            writes: rate(self.writes),
            written_bytes: rate(self.written_bytes),
        }
    }

    /// True if nothing was done.
    pub fn is_none(self) -> bool {
        self == Load::default()
    }
}

/// How long requests took, from their arrival to their answer; zeros if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of the requests took no longer, in microseconds.
    pub p50_us: u64,
    /// All but one in a hundred took no longer, in microseconds.
    pub p99_us: u64,
}

/// What clients have a store do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreLoad {
    /// Since the store's process started.
    pub total: Load,
    /// Per second, over the last second or so.
    pub per_second: Load,
    /// How long reads took, over about the same time.
    pub reads: Quantiles,
    /// How long writes took.
    pub writes: Quantiles,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_never_rounded_to_nothing() {
        let done = Load { reads: 1, read_bytes: 0, writes: 500, written_bytes: 3_000 };
        let rate = Load { reads: 1, read_bytes: 0, writes: 50, written_bytes: 300 };
        assert_eq!(done.per_second(10_000), rate);
        assert_eq!(done.per_second(0).writes, 500_000, "no time is taken for a millisecond");
    }

    #[test]
    fn a_count_that_fell_is_no_load() {
        let done = Load { reads: 3, ..Load::default() };
        assert!(Load::default().since(done).is_none());
        assert_eq!(Load { reads: 5, ..done }.since(done).reads, 2);
    }
}
