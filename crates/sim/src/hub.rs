//! The hub: what every part of the world shares, namely the queue of events, the dice, the network,
//! the checkers, the trace and the counters.
//!
//! In: messages to send and traps that the nemesis has set (an ambush, strikes). Out: events in the
//! queue.
//!
//! The hub knows no process: stores, clients and the placement driver use the hub, never the other
//! way round.

use std::collections::BTreeSet;

use flotilla_host::core::message::Envelope;
use flotilla_types::{RegionId, StoreId, proto};

use crate::agenda::Agenda;
use crate::chance::Streams;
use crate::check::Checks;
use crate::check::whole::Whole;
use crate::clock;
use crate::coverage::Coverage;
use crate::event::{Ambush, Asker, Body, Duel, End, Event, Packet, Relief, RumourStage};
use crate::limits::Bounds;
use crate::net::conn::Told;
use crate::net::{Link, Net};
use crate::pd::calls::{Finds, PdCalls, Todo, Wake, member_at, pd_address};
use crate::rumour::{Passage, Rumour};
use crate::scenario::{Act, Scenario};
use crate::store::envelope::asks_for_vote;
use crate::time::{MS, Micros};
use crate::trace::Trace;

/// The greatest value that a clock begins with: thirty years, which a clock that counts from 1970
/// showed in the year 2000.
const CLOCK_START_MS_MAX: u64 = 1_000_000_000_000;

/// Starts of stores in a thousand that find no addresses, in seeds with such starts.
const FORGETS_ADDRESSES: u64 = 300;

/// The longest time that a voter in an ambush takes to restart.
pub const AMBUSH_RESTART_MAX: Micros = 12 * MS;

/// How long a new leader's first entry takes to reach the others, in most worlds.
const RUMOUR_SETTLES: Micros = 200 * MS;

/// How long a late message and its answer travel, in most worlds.
const RUMOUR_HELD_UP: Micros = 50 * MS;

/// What stores, clients, the placement driver and the nemesis share.
pub struct Hub {
    /// The seed's decisions.
    pub scenario: Scenario,
    /// The bounds of all cores.
    pub bounds: Bounds,
    /// The queue of events.
    pub agenda: Agenda,
    /// The sources of chance of all that shares one; each link of the network has its own.
    pub dice: Streams,
    /// The network.
    pub net: Net,
    /// The checkers that look at stores while the world runs.
    pub checks: Checks,
    /// The trace: a hash, and words on demand.
    pub trace: Trace,
    /// Counters of what was reached.
    pub coverage: Coverage,
    /// The greatest time that is added to each sync while disks are slow; 0 while disks are fast.
    pub stall_max: Micros,
    /// Snapshots that were sent and neither installed nor given up yet. Approximate.
    pub snapshots_flying: u64,
    /// The ambush that waits for a candidate to stand for election.
    pub ambush: Option<Ambush>,
    /// The rumour that decides which messages of a region are lost.
    pub rumour: Option<Rumour>,
    /// How many of the next changes of a region's shape kill the store that makes the change.
    pub strikes: u64,
    /// How many of the next joint changes strike the store that applies the change first.
    pub joint_strikes: u64,
    /// Regions in which a leader was elected in this event.
    pub elected: Vec<RegionId>,
    /// The greatest number of a member of the placement driver.
    pub pd_count: u32,
    /// The calls to the placement driver.
    pd_calls: PdCalls,
    /// Stores that are killed when their present checkpoint ends.
    doomed: BTreeSet<StoreId>,
}

impl Hub {
    /// The shared parts of a world at time zero.
    pub fn new(scenario: Scenario, trace: Trace) -> Hub {
        let bounds = scenario.bounds();
        let mut checks = Checks::new(scenario.timing.raft(), bounds, scenario.clients.keys);
        checks.orders.whole = Whole::new(scenario.cluster.replica_count);
        Hub {
            bounds,
            agenda: Agenda::default(),
            dice: Streams::new(scenario.seed),
            net: Net::new(scenario.net.clone(), scenario.links.clone(), scenario.seed),
            checks,
            trace,
            coverage: Coverage::default(),
            stall_max: 0,
            snapshots_flying: 0,
            ambush: None,
            rumour: None,
            strikes: 0,
            joint_strikes: 0,
            elected: vec![],
            pd_count: scenario.cluster.pds,
            pd_calls: PdCalls::new(scenario.cluster.pds),
            doomed: BTreeSet::new(),
            scenario,
        }
    }

    /// The present, in true time.
    pub fn now(&self) -> Micros {
        self.agenda.now()
    }

    /// Prints a line if the trace is told in words.
    pub fn say(&self, line: impl FnOnce() -> String) {
        self.trace.say(self.agenda.now(), line);
    }

    /// Sends a message. False if the network loses the message.
    pub fn send(&mut self, from: End, to: End, body: Body) -> bool {
        if !self.is_let_pass(from, to, &body) {
            self.coverage.hit("messages lost");
            return false;
        }
        let (now, packet) = (self.agenda.now(), Packet { from, to, body });
        self.checks.note_sent(&packet, now);
        let is_sent = self.net.send(now, packet);
        self.settle_net();
        is_sent
    }

    /// Gets a request of `from` answered by the placement driver.
    pub fn ask_pd(&mut self, from: End, asker: Asker, request: proto::PdRequest) {
        let todo = self.pd_calls.begin(self.agenda.now(), from, asker, Box::new(request));
        self.do_for_call(todo);
    }

    /// A member has replied: the reply that ends a call, if it does.
    pub fn pd_replied(&mut self, packet: Packet) -> Option<Packet> {
        let todo = self.pd_calls.take(self.agenda.now(), packet);
        self.do_for_call(todo)
    }

    /// Time has passed for a call to the placement driver: the reply that ends it, if it ends.
    pub fn on_pd_call(&mut self, call: u64) -> Option<Packet> {
        let todo = self.pd_calls.on_time(self.agenda.now(), call);
        self.do_for_call(todo)
    }

    /// The placement driver has a member of this number, the greatest.
    pub fn pd_joined(&mut self, id: u32) {
        self.pd_count = id;
        self.pd_calls.set_count(id);
    }

    /// The machine of a member of the placement driver is gone.
    pub fn pd_gone(&mut self, id: u32) {
        self.pd_calls.gone(id);
    }

    /// A store starts whose directory has these addresses of the placement driver.
    pub fn finds_pd(&mut self, store: StoreId, saved: &[String]) {
        let saved = saved.iter().filter_map(|addr| member_at(addr)).collect();
        match self.pd_calls.store_began(store, saved) {
            Finds::Given => {}
            Finds::Learned => {
                self.coverage.hit("stores that find the placement driver by what they learned");
            }
            Finds::None => self.say(|| format!("store {store} is given another placement driver")),
        }
    }

    /// Stores that know no member that is there are given one.
    pub fn give_pd(&mut self) {
        self.pd_calls.give_members();
    }

    /// Where the members of the placement driver listen, as a store has learned.
    pub fn learned_pd(&self, store: StoreId) -> Vec<String> {
        self.pd_calls.learned(store).iter().map(|member| pd_address(*member)).collect()
    }

    fn do_for_call(&mut self, todo: Todo) -> Option<Packet> {
        for Packet { from, to, body } in todo.sends {
            if let Body::PdRequest { asker: Asker::Probe { .. }, .. } = &body {
                self.coverage.hit("probes for the leader of the placement driver");
            }
            self.send(from, to, body);
        }
        if let Some(Wake { caller, call, at }) = todo.wake {
            self.agenda.at(at, Event::PdCall { caller, call });
        }
        if todo.is_hedged {
            self.coverage.hit("calls answered while another placement driver is silent");
        }
        todo.reply
    }

    /// Plans and counts what the network wants.
    pub fn settle_net(&mut self) {
        let Hub { net, agenda, coverage, .. } = self;
        for told in net.told(agenda.now()).drain(..) {
            match told {
                Told::Plan(at, event) => agenda.at(at, event),
                Told::Count(mark, count) => coverage.add(mark, count),
            }
        }
    }

    /// A process has ended, and its connections with it.
    pub fn process_ended(&mut self, end: End) {
        self.pd_calls.process_ended(end);
        self.net.process_ended(self.agenda.now(), end);
        self.settle_net();
    }

    /// A process has begun.
    pub fn process_began(&mut self, end: End) {
        self.net.process_began(self.agenda.now(), end);
        self.settle_net();
    }

    /// The value that a store's clock shows when the store's process starts, in milliseconds.
    pub fn clock_start(&mut self) -> u64 {
        if self.scenario.has(Act::ClockJump) {
            self.dice.processes.between(clock::START_MS, CLOCK_START_MS_MAX)
        } else {
            clock::START_MS
        }
    }

    /// True if a store that starts now finds no addresses in its directory.
    pub fn forgets_addresses(&mut self) -> bool {
        let may_forget = self.scenario.disk.forgets_addresses && !self.net.is_healed();
        may_forget && self.dice.processes.chance(FORGETS_ADDRESSES)
    }

    /// A store sends a message. If the message is the request for a vote that an ambush waits for,
    /// the ambush begins, and the message is held up until the voters have restarted.
    pub fn spring_ambush(&mut self, from: StoreId, envelope: &Envelope) {
        let region = envelope.region_id;
        let now = self.now();
        let is_it = |ambush: &Ambush| {
            ambush.candidate == from && ambush.region == region && ambush.from <= now
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

    /// False for a message that is lost for the sake of a rumour. The message that the rumour waits
    /// for is held up until the late one has done its work.
    fn is_let_pass(&mut self, from: End, to: End, body: &Body) -> bool {
        let (End::Store(one), End::Store(other), Body::Envelope(envelope)) = (from, to, body)
        else {
            return true;
        };
        let Some(rumour) = &mut self.rumour else { return true };
        match rumour.judge(one, other, envelope) {
            Passage::Free => true,
            Passage::Lost => false,
            Passage::Elected => {
                let settles = Event::Relief(Relief::Rumour(RumourStage::Settles));
                self.agenda.after(RUMOUR_SETTLES, settles);
                true
            }
            Passage::Strikes => {
                let (old, climber, late) = (rumour.old, rumour.climber, rumour.take_late());
                self.coverage.hit("voters that learn of a later term within a lease");
                let links = [old, climber].map(|store| (from, End::Store(store)));
                self.net.clog(&links, self.now() + RUMOUR_HELD_UP);
                if let Some(late) = late {
                    let body = Body::Envelope(Box::new(late));
                    self.send(End::Store(old), End::Store(climber), body);
                }
                true
            }
        }
    }

    /// A store has changed the shape of a region: the store may be killed while the change becomes
    /// durable.
    pub fn strike(&mut self, store: StoreId) {
        if self.strikes > 0 {
            self.strikes -= 1;
            self.coverage.hit("crashes soon after a change of shape");
            if self.dice.acts.chance(500) {
                self.doomed.insert(store);
                return;
            }
            let step = self.disk_time();
            let delay = self.dice.acts.between(0, 2 * step);
            self.agenda.after(delay, Event::Relief(Relief::Crash(store)));
        }
    }

    /// A store has applied a joint change: the store may be struck within two round trips.
    pub fn strike_joint(&mut self, store: StoreId) {
        if self.joint_strikes > 0 {
            self.joint_strikes -= 1;
            let round_trip = 2 * self.scenario.net.delay_max;
            let delay = self.dice.acts.between(0, 2 * round_trip);
            self.agenda.after(delay, Event::Relief(Relief::Joint(store)));
        }
    }

    /// A store's checkpoint is done, and the next has not begun: the store is killed if a strike
    /// waits for this moment.
    pub fn strike_at_checkpoint(&mut self, store: StoreId) {
        if self.doomed.remove(&store) {
            self.agenda.after(0, Event::Relief(Relief::Crash(store)));
        }
    }

    /// How long clients stick to a store: twice the least election timeout, so that the store's
    /// lease ends within this time.
    pub fn duel_time(&self) -> Micros {
        2 * self.scenario.timing.election()
    }

    /// Clients stick to the store `old`, which leads the region now, for `time`.
    pub fn duel(&mut self, region: RegionId, old: StoreId, time: Micros) {
        let until = self.now() + time;
        self.agenda.after(0, Event::Duel(Duel { region, old, until }));
    }

    /// How long the next sync takes.
    pub fn sync_time(&mut self) -> Micros {
        let disk = &self.scenario.disk;
        let usual = self.dice.disks.between(disk.sync_min, disk.sync_max);
        if self.stall_max > 0 { usual + self.dice.disks.between(0, self.stall_max) } else { usual }
    }

    /// How long the next step of a checkpoint takes.
    pub fn disk_time(&mut self) -> Micros {
        let usual = self.dice.disks.between(MS, self.scenario.disk.step_max + MS);
        usual + self.dice.disks.between(0, 2 * self.stall_max)
    }
}
