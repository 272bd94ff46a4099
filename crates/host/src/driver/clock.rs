//! The clock of a process that hosts Raft groups.
//!
//! Owns nothing but its origin. Out: [`Millis`] for a core. Invariants: the clock never goes back,
//! and it goes on while the machine is suspended.
//!
//! A leader's lease is a promise about the clocks of other machines. A clock that stands still
//! while its machine is suspended (`CLOCK_MONOTONIC`, which [`std::time::Instant`] reads) leaves a
//! leader that wakes up a lease that ran out long ago, and the leader answers reads from a state
//! that its successor has changed. So the clock is `CLOCK_BOOTTIME`. Where that clock is missing,
//! `CLOCK_MONOTONIC` serves, and the log says so.
//!
//! Not here: the pace of ticks. A thread that waits for its next tick may wait by
//! [`std::time::Instant`], for a tick that comes late costs only time.

use flotilla_types::Millis;
use rustix::time::{ClockId, Timespec, clock_gettime};
use tracing::warn;

/// What the clock shows when it begins. Not 0, because 0 means "never" to a core. So large that a
/// core may subtract any of its time-outs from the present.
const ORIGIN_MS: u64 = 1_000_000;

/// A clock that never goes back and counts suspended time. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    id: ClockId,
    begun: Timespec,
}

impl Clock {
    /// A clock that shows 1,000,000 ms now. Warns in the log if the system has no clock that counts
    /// suspended time.
    pub fn begin() -> Clock {
        let id = choose(suspend_aware());
        Clock { id, begun: clock_gettime(id) }
    }

    /// The present, in milliseconds.
    pub fn now(&self) -> Millis {
        Millis(ORIGIN_MS.saturating_add(passed_ms(self.begun, clock_gettime(self.id))))
    }
}

/// The system's clock that counts suspended time; None if the system has none.
#[cfg(target_os = "linux")]
fn suspend_aware() -> Option<ClockId> {
    use rustix::time::{DynamicClockId, clock_gettime_dynamic};
    // Linux has it since 2.6.39, but a sandbox may emulate an older kernel.
    clock_gettime_dynamic(DynamicClockId::Boottime).ok().map(|_| ClockId::Boottime)
}

#[cfg(not(target_os = "linux"))]
fn suspend_aware() -> Option<ClockId> {
    None
}

fn choose(suspend_aware: Option<ClockId>) -> ClockId {
    suspend_aware.unwrap_or_else(|| {
        warn!(
            "this system has no CLOCK_BOOTTIME: a leader whose machine was suspended may answer \
             reads from before the suspension until its lease ends"
        );
        ClockId::Monotonic
    })
}

/// Whole milliseconds from `begun` to `now`; 0 if `now` is earlier.
fn passed_ms(begun: Timespec, now: Timespec) -> u64 {
    let nanos = (i128::from(now.tv_sec) - i128::from(begun.tv_sec)) * 1_000_000_000
        + i128::from(now.tv_nsec)
        - i128::from(begun.tv_nsec);
    u64::try_from(nanos.max(0) / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tv_sec: i64, tv_nsec: i64) -> Timespec {
        Timespec { tv_sec, tv_nsec }
    }

    #[test]
    fn a_clock_begins_at_its_origin_and_goes_on_in_all_copies() {
        let clock = Clock::begin();
        let copy = clock;
        let first = clock.now();
        assert!(first.0 >= ORIGIN_MS, "{first:?}");
        let mut last = first;
        while last < Millis(first.0 + 3) {
            let now = copy.now();
            assert!(now >= last, "{now:?} after {last:?}");
            last = now;
        }
        assert!(clock.now() >= last, "copies agree");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn on_linux_suspended_time_counts() {
        assert_eq!(Clock::begin().id, ClockId::Boottime);
    }

    #[test]
    fn without_a_clock_that_counts_suspended_time_the_monotonic_one_serves() {
        assert_eq!(choose(None), ClockId::Monotonic);
    }

    #[test]
    fn what_passed_is_counted_in_whole_milliseconds_and_is_never_negative() {
        assert_eq!(passed_ms(at(5, 0), at(5, 999_999)), 0);
        assert_eq!(passed_ms(at(5, 999_000_000), at(6, 1_000_000)), 2);
        assert_eq!(passed_ms(at(5, 0), at(65, 0)), 60_000, "a minute's suspension counts whole");
        assert_eq!(passed_ms(at(6, 0), at(5, 0)), 0);
    }
}
