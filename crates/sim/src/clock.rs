//! A process's monotonic clock: its own zero, its own rate.

use flotilla_types::Millis;

use crate::agenda::Micros;

/// What the runtime's clock shows when a process starts (see the store driver's `Clock`).
const START_MS: u64 = 1_000_000;

const MILLION: u64 = 1_000_000;

/// A clock. Its rate may change; what it shows never goes back.
#[derive(Clone, Debug)]
pub struct Clock {
    base_true: Micros,
    base_local: Micros,
    /// Local microseconds in a million true ones.
    rate: u64,
}

impl Clock {
    /// A clock that begins at `now` and runs at `rate` local microseconds per true second.
    pub fn begin(now: Micros, rate: u64) -> Clock {
        Clock { base_true: now, base_local: 0, rate }
    }

    /// Microseconds that it has counted.
    pub fn local(&self, now: Micros) -> Micros {
        self.base_local + now.saturating_sub(self.base_true) * self.rate / MILLION
    }

    /// What a core is told.
    pub fn millis(&self, now: Micros) -> Millis {
        Millis(START_MS + self.local(now) / 1_000)
    }

    /// The true time at which it will have counted `local`.
    pub fn true_at(&self, local: Micros) -> Micros {
        let left = local.saturating_sub(self.base_local);
        self.base_true + (left * MILLION).div_ceil(self.rate)
    }

    /// Runs at another rate from `now` on.
    pub fn set_rate(&mut self, now: Micros, rate: u64) {
        *self = Clock { base_true: now, base_local: self.local(now), rate };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_on_from_where_its_rate_changed() {
        let mut clock = Clock::begin(1_000, 1_050_000);
        assert_eq!(clock.local(1_001_000), 1_050_000);
        clock.set_rate(1_001_000, 950_000);
        assert_eq!(clock.local(2_001_000), 2_000_000);
        assert_eq!(clock.true_at(2_000_000), 2_001_000);
        assert_eq!(clock.millis(2_001_000), Millis(1_002_000));
    }
}
