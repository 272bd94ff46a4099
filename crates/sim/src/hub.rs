//! What every part of the world shares: the queue, the dice, the network, and who watches.

use std::collections::BTreeSet;

use flotilla_types::dice::Dice;
use flotilla_types::proto::Envelope;
use flotilla_types::{RegionId, StoreId};

use crate::agenda::Agenda;
use crate::check::Checks;
use crate::clock;
use crate::coverage::Coverage;
use crate::event::{Ambush, Body, Duel, End, Event, Packet, Relief};
use crate::net::{Link, Net};
use crate::scenario::{Act, Scenario};
use crate::store::envelope::asks_for_vote;
use crate::time::{MS, Micros};
use crate::trace::Trace;

/// The greatest number that a clock begins with: thirty years, as far as a clock that counts from
/// 1970 would be by the year 2000.
const CLOCK_START_MS_MAX: u64 = 1_000_000_000_000;

/// How long voters in an ambush take to start again, at most.
pub const AMBUSH_RESTART_MAX: Micros = 12 * MS;

/// How long clients stick to a store: twice the least election timeout, so that its lease is over.
pub const DUEL: Micros = 1_000 * MS;

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
    /// What happens when a certain candidate next stands for election.
    pub ambush: Option<Ambush>,
    /// How many of the next changes of a region's shape cost their store its life.
    pub strikes: u64,
    /// Stores that are killed as soon as a checkpoint of theirs is done.
    doomed: BTreeSet<StoreId>,
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
            ambush: None,
            strikes: 0,
            doomed: BTreeSet::new(),
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

    /// What a store's clock shows when its process starts.
    pub fn clock_start(&mut self) -> u64 {
        if self.scenario.has(Act::ClockJump) {
            self.dice.between(clock::START_MS, CLOCK_START_MS_MAX)
        } else {
            clock::START_MS
        }
    }

    /// A store sends a message; if an ambush waits for it, it begins. The message is held up until
    /// those who are to get it have started again.
    pub fn spring_ambush(&mut self, from: StoreId, envelope: &Envelope) {
        let region = envelope.region_id;
        let now = self.now();
        let is_it = |ambush: &Ambush| {
            ambush.candidate == from && ambush.region.0 == region && ambush.from <= now
        };
        if !asks_for_vote(envelope) || !self.ambush.as_ref().is_some_and(is_it) {
            return;
        }
        let Some(ambush) = self.ambush.take() else { return };
        if ambush.kills {
            let link = |voter: &StoreId| (End::Store(from), End::Store(*voter));
            let links: Vec<Link> = ambush.voters.iter().map(link).collect();
            self.net.clog(&links, now + AMBUSH_RESTART_MAX);
        }
        self.agenda.after(0, Event::Relief(Relief::Ambush(ambush)));
    }

    /// A store has changed the shape of a region: it may be killed while that becomes durable.
    pub fn strike(&mut self, store: StoreId) {
        if self.strikes > 0 {
            self.strikes -= 1;
            self.coverage.hit("crashes soon after a change of shape");
            if self.dice.chance(500) {
                self.doomed.insert(store);
                return;
            }
            let step = self.disk_time();
            let delay = self.dice.between(0, 2 * step);
            self.agenda.after(delay, Event::Relief(Relief::Crash(store)));
        }
    }

    /// A store's checkpoint is done, and the next has not begun.
    pub fn strike_at_checkpoint(&mut self, store: StoreId) {
        if self.doomed.remove(&store) {
            self.agenda.after(0, Event::Relief(Relief::Crash(store)));
        }
    }

    /// Clients stick to the store that leads the region now, for a while.
    pub fn duel(&mut self, region: RegionId, old: StoreId, time: Micros) {
        let until = self.now() + time;
        self.agenda.after(0, Event::Duel(Duel { region, old, until }));
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
