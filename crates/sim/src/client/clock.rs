//! A client's own clock, and the timers that its calls set by the clock.
//!
//! The clock runs at a rate of its own and may jump forward, because the client's machine was
//! suspended. A timer of the past goes off at once after a jump, as the timers of the driver's
//! runtime do.
//!
//! In: times on the client's clock. Out: [`ClientWake::Timer`] events, and what the timers that are
//! due are for.

use std::collections::BTreeMap;

use flotilla_types::Millis;

use crate::clock::{Clock, START_MS};
use crate::event::{ClientWake, Event};
use crate::hub::Hub;
use crate::time::{MS, Micros};

/// The clock of one life of a client's process, with the timers of that life.
#[derive(Debug)]
pub struct LocalClock {
    clock: Clock,
    /// By the local time at which they are due, and by the order in which they were set.
    timers: BTreeMap<(Micros, u64), ClientWake>,
    set: u64,
    /// What the clock showed right after its last jump.
    landed: Millis,
}

impl LocalClock {
    /// A clock that begins now, at `rate` local microseconds per true second.
    pub fn begin(now: Micros, rate: u64) -> LocalClock {
        let clock = Clock::begin(now, rate);
        LocalClock { clock, timers: BTreeMap::new(), set: 0, landed: Millis(0) }
    }

    /// The client's time.
    pub fn now(&self, hub: &Hub) -> Millis {
        self.clock.millis(hub.now())
    }

    /// Sets a timer of client `client` to the local time `at`.
    pub fn set(&mut self, hub: &mut Hub, client: u32, at: Millis, wake: ClientWake) {
        let local = at.0.saturating_sub(START_MS) * MS;
        self.set += 1;
        self.timers.insert((local, self.set), wake);
        self.plan(hub, client, local);
    }

    /// A timer that is due, and that is not due any more.
    pub fn take_due(&mut self, hub: &Hub) -> Option<ClientWake> {
        let first = self.timers.first_entry()?;
        (first.key().0 <= self.clock.local(hub.now())).then(|| first.remove())
    }

    /// The clock jumps forward.
    pub fn jump(&mut self, hub: &mut Hub, client: u32, by: Micros) {
        self.clock.jump(hub.now(), by);
        self.landed = self.now(hub);
        let planned: Vec<Micros> = self.timers.keys().map(|(local, _)| *local).collect();
        planned.into_iter().for_each(|local| self.plan(hub, client, local));
    }

    /// The earliest time at which something that was to end by `deadline` can end: the client's
    /// process does nothing while its clock jumps.
    pub fn reachable(&self, deadline: Millis) -> Millis {
        deadline.max(self.landed)
    }

    fn plan(&self, hub: &mut Hub, client: u32, local: Micros) {
        let at = self.clock.true_at(local).max(hub.now());
        hub.agenda.at(at, Event::Client { client, wake: ClientWake::Timer });
    }
}
