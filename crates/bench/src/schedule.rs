//! When the operations of an open loop are due: at even intervals from the start on.

use std::time::Duration;

/// Evenly spaced moments, counted from 0.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    per_second: f64,
}

impl Schedule {
    /// This many moments a second, above 0.
    pub fn new(per_second: f64) -> Schedule {
        Schedule { per_second }
    }

    /// When operation number `ticket` is due, since the start.
    pub fn offset(&self, ticket: u64) -> Duration {
        Duration::from_secs_f64(ticket as f64 / self.per_second)
    }

    /// How many operations are due by `elapsed` after the start: number 0 at once.
    pub fn due(&self, elapsed: Duration) -> u64 {
        let guess = (elapsed.as_secs_f64() * self.per_second) as u64;
        // Rounding may put the guess one beside what `offset` says; `offset` decides.
        let first = guess.saturating_sub(1);
        (first..)
            .take_while(|ticket| self.offset(*ticket) <= elapsed)
            .last()
            .map_or(first, |t| t + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_due_evenly_and_do_not_drift() {
        let schedule = Schedule::new(1000.0);
        assert_eq!(schedule.offset(0), Duration::ZERO);
        assert_eq!(schedule.offset(1), Duration::from_millis(1));
        assert_eq!(schedule.offset(3_600_000), Duration::from_secs(3600));
    }

    #[test]
    fn what_is_due_agrees_with_when_it_is_due() {
        for rate in [0.5, 3.0, 999.0, 12_345.6, 1e6] {
            let schedule = Schedule::new(rate);
            for ticket in [0, 1, 2, 7, 1000, 123_457] {
                let offset = schedule.offset(ticket);
                assert_eq!(schedule.due(offset), ticket + 1, "{rate} {ticket}");
                if let Some(before) = offset.checked_sub(Duration::from_nanos(1)) {
                    assert_eq!(schedule.due(before), ticket, "{rate} {ticket}");
                }
            }
        }
    }
}
