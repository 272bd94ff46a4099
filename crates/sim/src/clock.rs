//! A process's monotonic clock, with an own zero, an own rate, and jumps forward.
//!
//! A running clock may jump forward: a host gave a guest no time and made up for it later. It
//! counts the time in which its machine is suspended, in which the process does nothing. A running
//! clock never goes back: "monotonic" promises that, the cores rely on it, and this world does not
//! break it. The clock of the next process may begin at any value, lower or higher than the value
//! that the last clock showed.

use flotilla_types::Millis;
use flotilla_types::mutant::{Mutant, planted};

use crate::time::Micros;

/// The value that the runtime's clock shows when a process starts (see the store driver's `Clock`),
/// and the least value that any clock of this world shows.
pub const START_MS: u64 = 1_000_000;

const MILLION: u64 = 1_000_000;

/// A clock. The rate may change; the value never goes back.
#[derive(Clone, Debug)]
pub struct Clock {
    base_true: Micros,
    base_local: Micros,
    /// Local microseconds in a million true microseconds.
    rate: u64,
    /// The value at the beginning, in milliseconds.
    start_ms: u64,
}

impl Clock {
    /// A clock that begins at `now` and runs at `rate` local microseconds per true second.
    pub fn begin(now: Micros, rate: u64) -> Clock {
        Clock::begin_at(now, rate, START_MS)
    }

    /// As [`Clock::begin`], with the value at the beginning, in milliseconds.
    pub fn begin_at(now: Micros, rate: u64, start_ms: u64) -> Clock {
        Clock { base_true: now, base_local: 0, rate, start_ms }
    }

    /// The local microseconds that the clock has counted.
    pub fn local(&self, now: Micros) -> Micros {
        self.base_local + now.saturating_sub(self.base_true) * self.rate / MILLION
    }

    /// The value that a core is given.
    pub fn millis(&self, now: Micros) -> Millis {
        Millis(self.start_ms + self.local(now) / 1_000)
    }

    /// The true time at which the clock will have counted `local`.
    pub fn true_at(&self, local: Micros) -> Micros {
        let left = local.saturating_sub(self.base_local);
        self.base_true + (left * MILLION).div_ceil(self.rate)
    }

    /// Changes the rate from `now` on.
    pub fn set_rate(&mut self, now: Micros, rate: u64) {
        *self = Clock { base_true: now, base_local: self.local(now), rate, ..*self };
    }

    /// Its machine was suspended from `since` to `now`, and its process with it. The drivers' clock
    /// is `CLOCK_BOOTTIME`, which counts suspended time: it shows what has passed.
    pub fn wake(&mut self, since: Micros, now: Micros) {
        if planted(Mutant::ClockSleeps) {
            // `CLOCK_MONOTONIC`, which the drivers' choice of a clock avoids.
            *self = Clock { base_true: now, base_local: self.local(since), ..*self };
        }
    }

    /// Jumps forward by `by`.
    pub fn jump(&mut self, now: Micros, by: Micros) {
        *self = Clock { base_true: now, base_local: self.local(now) + by, ..*self };
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

    #[test]
    fn a_clock_counts_the_time_in_which_its_machine_was_suspended() {
        let mut clock = Clock::begin_at(0, 1_000_000, 5_000_000);
        clock.wake(1_000_000, 4_000_000);
        assert_eq!(clock.millis(4_000_000), Millis(5_004_000));
    }

    #[test]
    fn a_clock_that_jumped_runs_on_at_its_rate() {
        let mut clock = Clock::begin_at(0, 1_000_000, 5_000_000);
        clock.jump(1_000_000, 30_000_000);
        assert_eq!(clock.millis(1_000_000), Millis(5_031_000));
        assert_eq!(clock.millis(2_000_000), Millis(5_032_000));
        assert_eq!(clock.true_at(32_000_000), 2_000_000);
    }
}
