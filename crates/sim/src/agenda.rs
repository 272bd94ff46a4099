//! What happens next: one queue of events ordered by (time, sequence).
//!
//! Events are never removed: whoever handles an event decides whether it still matters.

use std::collections::BTreeMap;

use crate::event::Event;
use crate::time::Micros;

/// The queue, and the present.
#[derive(Default)]
pub struct Agenda {
    now: Micros,
    sequence: u64,
    stamps: u64,
    queue: BTreeMap<(Micros, u64), Event>,
}

impl Agenda {
    /// The present, in true time.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// A number greater than all that were given before. Stamps order what happens at one moment.
    pub fn stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    /// Adds an event at `time`, or now if `time` is past.
    pub fn at(&mut self, time: Micros, event: Event) {
        self.sequence += 1;
        self.queue.insert((time.max(self.now), self.sequence), event);
    }

    /// Adds an event that happens after `delay`.
    pub fn after(&mut self, delay: Micros, event: Event) {
        self.at(self.now + delay, event);
    }

    /// The time of the last event in the queue that `is_meant`.
    pub fn last_planned(&self, is_meant: impl Fn(&Event) -> bool) -> Option<Micros> {
        let planned = self.queue.iter().rev().find(|(_, event)| is_meant(event));
        planned.map(|((time, _), _)| *time)
    }

    /// The next event up to `until`. The present moves to the event's time, or to `until` if there
    /// is no event.
    pub fn next(&mut self, until: Micros) -> Option<Event> {
        match self.queue.first_key_value() {
            Some((&(time, _), _)) if time <= until => {
                let ((time, _), event) = self.queue.pop_first()?;
                self.now = time;
                Some(event)
            }
            Some(_) | None => {
                self.now = self.now.max(until);
                None
            }
        }
    }
}
