//! What clients have the store and each of its regions do.
//!
//! Requests are counted where they are answered well: writes by the leader that applies them, reads
//! by whichever thread finds the answer, so counts are atomics. Each region has its own, which also
//! count for the store. A get of no keys asks only whether this store leads, and is no load.
//!
//! A [`LoadMeter`] makes rates of counts. Its periods are those between the moments at which it is
//! looked at, and at least as long as it was told.
//!
//! Not here: when a region's rate is worth a report ([`super::report`]), and how long requests
//! took, which only the driver knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Answer, Load, Millis, RegionError};

/// Counts that only grow.
#[derive(Debug, Default)]
pub struct LoadCounts {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
}

impl LoadCounts {
    /// What was counted so far.
    pub fn total(&self) -> Load {
        Load {
            reads: self.reads.load(Ordering::Relaxed),
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
        }
    }

    fn add(&self, more: Load) {
        for (count, more) in [
            (&self.reads, more.reads),
            (&self.read_bytes, more.read_bytes),
            (&self.writes, more.writes),
            (&self.written_bytes, more.written_bytes),
        ] {
            if more > 0 {
                count.fetch_add(more, Ordering::Relaxed);
            }
        }
    }
}

/// The counts of one region, which count for its store, too.
#[derive(Debug, Default)]
pub struct RegionCounts {
    own: LoadCounts,
    store: Arc<LoadCounts>,
}

impl RegionCounts {
    /// Nothing was done in the region yet.
    pub fn of(store: &Arc<LoadCounts>) -> Arc<RegionCounts> {
        Arc::new(RegionCounts { own: LoadCounts::default(), store: store.clone() })
    }

    /// What was counted so far.
    pub fn total(&self) -> Load {
        self.own.total()
    }

    /// Counts what was done.
    pub fn add(&self, done: Load) {
        self.own.add(done);
        self.store.add(done);
    }

    /// Counts a read that was answered under a permit.
    pub fn add_permitted(&self, result: &Result<Answer, RegionError>) {
        let read = read_load(result);
        self.own.add(read);
        if !planted(Mutant::PermitReadsUncounted) {
            self.store.add(read);
        }
    }
}

/// What an answer to a read counts.
pub fn read_load(result: &Result<Answer, RegionError>) -> Load {
    let of_value = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    let bytes: usize = match result {
        Ok(Answer::Get(values)) if !values.is_empty() => values.iter().map(of_value).sum(),
        Ok(Answer::Scan { pairs, .. }) => pairs.iter().map(|(k, v)| k.len() + v.len()).sum(),
        Ok(Answer::Get(_) | Answer::Written | Answer::Swapped { .. }) | Err(_) => {
            return Load::default();
        }
    };
    Load { reads: 1, read_bytes: bytes as u64, ..Load::default() }
}

/// Makes rates of counts.
#[derive(Debug)]
pub struct LoadMeter {
    period_ms: u64,
    since: Millis,
    counted: Load,
    per_second: Load,
}

impl LoadMeter {
    /// Rates over periods of at least `period_ms`, the first of which begins at `now`.
    pub fn new(now: Millis, period_ms: u64) -> LoadMeter {
        let none = Load::default();
        LoadMeter { period_ms, since: now, counted: none, per_second: none }
    }

    /// The rate over the last period that is over, given what was counted until `now`.
    pub fn look(&mut self, now: Millis, total: Load) -> Load {
        let ms = now.since(self.since);
        if ms >= self.period_ms {
            self.per_second = total.since(self.counted).per_second(ms);
            (self.since, self.counted) = (now, total);
        }
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_counted_by_region_and_store_and_refusals_are_not() {
        let store = Arc::new(LoadCounts::default());
        let (one, other) = (RegionCounts::of(&store), RegionCounts::of(&store));
        one.add_permitted(&Ok(Answer::Get(vec![Some("abc".into()), None])));
        let pairs = vec![("k".into(), "vw".into())];
        other.add(read_load(&Ok(Answer::Scan { pairs, is_done: true, walked_to: None })));
        one.add_permitted(&Ok(Answer::Get(vec![])));
        let region_id = flotilla_types::RegionId(1);
        one.add_permitted(&Err(RegionError::RegionNotFound { region_id }));
        let read = Load { reads: 1, read_bytes: 3, ..Load::default() };
        assert_eq!((one.total(), other.total()), (read, read));
        assert_eq!(store.total(), Load { reads: 2, read_bytes: 6, ..Load::default() });
    }

    #[test]
    fn a_meter_keeps_its_rate_until_a_period_is_over() {
        let mut meter = LoadMeter::new(Millis(100), 1_000);
        let writes = |writes| Load { writes, ..Load::default() };
        assert_eq!(meter.look(Millis(1_099), writes(500)), writes(0));
        assert_eq!(meter.look(Millis(2_100), writes(500)), writes(250));
        assert_eq!(meter.look(Millis(2_200), writes(900)), writes(250));
        assert_eq!(meter.look(Millis(3_100), writes(900)), writes(400));
        assert_eq!(meter.look(Millis(4_100), writes(900)), writes(0));
    }
}
