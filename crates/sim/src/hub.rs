//! What every part of the world shares: the queue, the dice, the network, and who watches.

use crate::agenda::{Agenda, MS, Micros};
use crate::check::Checks;
use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::event::{Body, End, Event, Packet};
use crate::net::Net;
use crate::scenario::Scenario;
use crate::trace::Trace;

/// Shared by stores, clients, the placement driver and the nemesis.
pub struct Hub {
    /// What the seed decided.
    pub scenario: Scenario,
    /// What happens next.
    pub agenda: Agenda,
    /// Chance.
    pub dice: Dice,
    /// The network.
    pub net: Net,
    /// What must hold.
    pub checks: Checks,
    /// What happened.
    pub trace: Trace,
    /// What was reached.
    pub coverage: Coverage,
    /// Added to each sync while disks are slow.
    pub stall_max: Micros,
    /// Snapshots sent and not yet installed or given up, roughly.
    pub snapshots_flying: u64,
}

impl Hub {
    /// The shared parts of a world.
    pub fn new(scenario: Scenario, trace: Trace) -> Hub {
        Hub {
            agenda: Agenda::default(),
            dice: Dice::new(scenario.seed),
            net: Net::new(scenario.net.clone()),
            checks: Checks::default(),
            trace,
            coverage: Coverage::default(),
            stall_max: 0,
            snapshots_flying: 0,
            scenario,
        }
    }

    /// The present.
    pub fn now(&self) -> Micros {
        self.agenda.now()
    }

    /// Tells people who asked for it.
    pub fn say(&self, line: impl FnOnce() -> String) {
        self.trace.say(self.agenda.now(), line);
    }

    /// Sends a message. False if it was lost on the way.
    pub fn send(&mut self, from: End, to: End, body: Body) -> bool {
        let packet = Packet { from, to, body };
        let fate = self.net.fate(&mut self.dice, self.agenda.now(), &packet);
        match fate.arrivals.len() {
            0 => self.coverage.hit(match packet.body {
                Body::Reply { .. } => "replies lost",
                _ => "messages lost",
            }),
            1 => {}
            _ => self.coverage.hit(match packet.body {
                Body::PdRequest { .. } => "heartbeats duplicated",
                _ => "messages duplicated",
            }),
        }
        for at in &fate.arrivals {
            self.agenda.at(*at, Event::Arrive(Box::new(packet.clone())));
        }
        !fate.arrivals.is_empty()
    }

    /// How long a sync takes.
    pub fn sync_time(&mut self) -> Micros {
        let disk = &self.scenario.disk;
        let usual = self.dice.between(disk.sync_min, disk.sync_max);
        if self.stall_max > 0 { usual + self.dice.between(0, self.stall_max) } else { usual }
    }

    /// How long a step of a checkpoint takes.
    pub fn disk_time(&mut self) -> Micros {
        let usual = self.dice.between(MS, self.scenario.disk.step_max + MS);
        usual + self.dice.between(0, 2 * self.stall_max)
    }
}
