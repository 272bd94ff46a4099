//! How long a store's reads and writes took lately, for heartbeats.

use std::time::{Duration, Instant};

use flotilla_metrics::Observed;
use flotilla_types::load::Quantiles;

use super::metrics::StoreMetrics;

/// The least time that is told of: a little less than from one heartbeat to the next.
const PERIOD: Duration = Duration::from_millis(900);

/// The last period that is over, and what was observed until then.
pub struct Latency {
    metrics: StoreMetrics,
    since: Instant,
    reads: Observed,
    writes: Observed,
    told: (Quantiles, Quantiles),
}

impl Latency {
    /// A first period begins.
    pub fn new(metrics: StoreMetrics) -> Latency {
        let told = (Quantiles::default(), Quantiles::default());
        let (reads, writes) = (reads(&metrics), metrics.writes.whole.observed());
        Latency { metrics, since: Instant::now(), reads, writes, told }
    }

    /// Of reads and of writes, in the last period that is over.
    pub fn look(&mut self, now: Instant) -> (Quantiles, Quantiles) {
        if now.saturating_duration_since(self.since) >= PERIOD {
            let (reads, writes) = (reads(&self.metrics), self.metrics.writes.whole.observed());
            self.told =
                (quantiles(&reads.since(&self.reads)), quantiles(&writes.since(&self.writes)));
            (self.since, self.reads, self.writes) = (now, reads, writes);
        }
        self.told
    }
}

fn reads(metrics: &StoreMetrics) -> Observed {
    let reads = &metrics.reads;
    reads.permit.observed().with(&reads.lease.observed()).with(&reads.read_index.observed())
}

fn quantiles(observed: &Observed) -> Quantiles {
    Quantiles { p50_us: observed.percentile_us(50), p99_us: observed.percentile_us(99) }
}

#[cfg(test)]
mod tests {
    use flotilla_metrics::Registry;
    use flotilla_types::StoreId;

    use super::*;

    #[test]
    fn a_period_is_told_of_until_the_next_is_over() {
        let metrics = StoreMetrics::new(&Registry::default(), StoreId(1));
        let mut latency = Latency::new(metrics.clone());
        let begun = latency.since;
        metrics.writes.whole.observe(Duration::from_millis(2));
        metrics.reads.permit.observe(Duration::from_micros(40));
        let none = Quantiles::default();
        assert_eq!(latency.look(begun), (none, none));
        let (reads, writes) = latency.look(begun + PERIOD);
        assert_eq!((reads.p99_us, writes.p99_us), (50, 2_500));
        assert_eq!(latency.look(begun + PERIOD), (reads, writes));
        assert_eq!(latency.look(begun + 2 * PERIOD), (none, none));
    }
}
