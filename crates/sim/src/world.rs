//! The world: stores, the placement driver, clients and the nemesis around one queue of events.
//!
//! In: a scenario. Out: the first violation, and what was counted. The world carries each event to
//! the process that the event names; what the process does is in that process's module.

use std::collections::BTreeMap;

use flotilla_store::core::Input;
use flotilla_types::dice::mix;
use flotilla_types::{StoreId, proto};
use proto::pd_reply::Result as Answer;

use crate::admin::{ADMIN, SimAdmin};
use crate::check::{Verdict, Violation, broken, show};
use crate::client::{SimClient, World as ClientWorld};
use crate::event::{Asker, Body, ClientWake, ConnEvent, End, Event, Packet, Relief};
use crate::history::History;
use crate::hub::Hub;
use crate::nemesis::Nemesis;
use crate::pd::SimPd;
use crate::probes::{PROBE, Probes};
use crate::scenario::{RATES, Scenario};
use crate::store::jobs::Report;
use crate::store::permit;
use crate::store::process::Mail;
use crate::store::thread::Thread;
use crate::store::{DiskEnd, SimStore, unexpected};
use crate::time::{LOOK, MS, Micros};
use crate::trace::Trace;

/// The greatest number of events in a world: several times what a busy world has. A world with more
/// has a cycle of events.
const EVENTS_MAX: u64 = 20_000_000;

/// How long a question past the network waits for a leader and its answer.
const LEADER_ANSWERS: Micros = 3_000 * MS;

/// The pause before that.
const LEADER_PAUSE: Micros = 300 * MS;

/// The members of a new placement driver elect a leader within this time.
const FIRST_LEADER_MAX: Micros = 20_000 * MS;

/// How often it is asked anew.
const LEADER_TRIES: usize = 20;

/// A cluster, its clients and the nemesis.
pub struct World {
    /// What all parts share.
    pub hub: Hub,
    /// The stores by id.
    pub stores: BTreeMap<StoreId, SimStore>,
    /// The placement driver.
    pub pd: SimPd,
    /// The clients.
    pub clients: Vec<SimClient>,
    /// What clients asked, and what they were told.
    pub history: History,
    /// The source of faults.
    pub nemesis: Nemesis,
    /// The clients of duels, which stick to a store.
    pub probes: Probes,
    /// The administrator.
    pub admin: SimAdmin,
    /// The number of the next store that registers.
    pub(crate) next_store: u64,
    /// True while a question past the network waits for its answer.
    is_asking: bool,
    events: u64,
}

impl World {
    /// The world of a scenario, with every process started.
    pub fn begin(scenario: Scenario, trace: Trace) -> Result<World, Violation> {
        let seed = scenario.seed;
        let pds = scenario.cluster.pds;
        let hub = Hub::new(scenario, trace);
        let clients = (0..hub.scenario.clients.count)
            .map(|number| SimClient::new(number, mix(seed ^ (u64::from(number) << 40)), &hub))
            .collect();
        let mut world = World {
            hub,
            stores: BTreeMap::new(),
            pd: SimPd::new(pds),
            clients,
            history: History::default(),
            nemesis: Nemesis::default(),
            probes: Probes::default(),
            admin: SimAdmin::new(seed),
            next_store: 0,
            is_asking: false,
            events: 0,
        };
        world.pd.start(&mut world.hub)?;
        let (on_time, late) = world.hub.scenario.cluster.on_time_and_late();
        world.next_store = on_time;
        for _ in 0..late {
            let delay = world.hub.dice.acts.between(0, world.hub.scenario.cluster.late_max);
            world.hub.agenda.after(delay, Event::Relief(Relief::Latecomer));
        }
        if pds > 1 {
            world.run_until(FIRST_LEADER_MAX, &|world| world.pd.is_led())?;
        }
        for number in 0..on_time {
            if !world.add_store(number)? {
                broken("a store can register", format!("store number {number}"))?;
            }
        }
        for client in &mut world.clients {
            client.nudge(&mut world.hub);
        }
        world.hub.agenda.after(LOOK, Event::Look);
        world.plan_acts();
        world.plan_question();
        Ok(world)
    }

    /// Registers a store as the store's driver does, and starts the store. False if the placement
    /// driver does not answer now.
    pub(crate) fn add_store(&mut self, number: u64) -> Result<bool, Violation> {
        let addr = format!("store{number}:1");
        let request = proto::RegisterStoreRequest { store_id: 0, addr, labels: Default::default() };
        let op = proto::pd_request::Op::RegisterStore(request);
        let reply = self.ask_leader(op)?.and_then(|reply| reply.result);
        let Some(Answer::RegisterStore(reply)) = reply else { return Ok(false) };
        let rate = self.hub.dice.processes.between(RATES.0, RATES.1);
        let has_engines = self.hub.scenario.cluster.has_engines;
        let mut store = SimStore::new(StoreId(reply.store_id), rate, has_engines)?;
        store.format(reply.cluster_id)?;
        store.start(&mut self.hub, reply.ids.as_ref())?;
        self.stores.insert(store.id, store);
        Ok(true)
    }

    /// Asks the placement driver past the network. A lone member answers in no time; of several,
    /// the leader answers once the others have confirmed it, while the world goes on. None if
    /// nobody answers soon.
    pub(crate) fn ask_leader(
        &mut self,
        op: proto::pd_request::Op,
    ) -> Result<Option<proto::PdReply>, Violation> {
        if self.hub.scenario.cluster.pds == 1 {
            return self.pd.ask_lone(&mut self.hub, op);
        }
        // What happens while the world goes on may ask, too. It tries again later.
        if self.is_asking {
            return Ok(None);
        }
        self.is_asking = true;
        let answer = self.ask_until_answered(op);
        self.is_asking = false;
        answer
    }

    fn ask_until_answered(
        &mut self,
        op: proto::pd_request::Op,
    ) -> Result<Option<proto::PdReply>, Violation> {
        for _ in 0..LEADER_TRIES {
            let until = self.hub.now() + LEADER_ANSWERS;
            self.run_until(until, &|world| world.pd.is_led())?;
            let Some(question) = self.pd.put_question(&mut self.hub, op.clone())? else {
                continue;
            };
            self.run_until(until, &|world| world.pd.is_settled(question))?;
            let is_final = |reply: &proto::PdReply| !is_to_be_asked_again(reply);
            if let Some(reply) = self.pd.answer(question).filter(is_final) {
                return Ok(Some(reply));
            }
            self.run(self.hub.now() + LEADER_PAUSE)?;
        }
        Ok(None)
    }

    /// Runs all events up to `until`.
    pub fn run(&mut self, until: Micros) -> Verdict {
        self.run_until(until, &|_| false)
    }

    /// Runs events up to `until`, or until `is_enough` is true.
    pub fn run_until(&mut self, until: Micros, is_enough: &dyn Fn(&World) -> bool) -> Verdict {
        while let Some(event) = self.hub.agenda.next(until) {
            self.events += 1;
            if self.events > EVENTS_MAX {
                return broken("the world does not go round in circles", "too many events");
            }
            self.hub.trace.begin_event(self.events);
            self.happen(event)?;
            self.check_elected()?;
            self.hub.settle_net();
            if is_enough(self) {
                break;
            }
        }
        Ok(())
    }

    /// Asks all stores whether they still hold the lease of a region that has a new leader.
    fn check_elected(&mut self) -> Verdict {
        for region in std::mem::take(&mut self.hub.elected) {
            for process in self.stores.values().filter_map(|store| store.process.as_ref()) {
                let Some(peer) = process.worker.peer(region) else { continue };
                let now = process.clock.millis(self.hub.now());
                self.hub.checks.after_election(process.id, peer, now)?;
            }
        }
        Ok(())
    }

    /// The number of events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    fn happen(&mut self, event: Event) -> Verdict {
        let Some(event) = self.nemesis.suspended.pass(event) else { return Ok(()) };
        let hub = &mut self.hub;
        match event {
            Event::Wake { store, life, at } => {
                if let Some((process, disk)) = living(&mut self.stores, store, life) {
                    Thread::new(process, hub, disk).on_wake(at)?;
                }
                self.stop_if_failed(store)
            }
            Event::Synced { store, life } => {
                if let Some((process, disk)) = living(&mut self.stores, store, life) {
                    Thread::new(process, hub, disk).on_synced()?;
                }
                self.stop_if_failed(store)
            }
            Event::Depart { store, life, packet } => {
                if living(&mut self.stores, store, life).is_some() {
                    let Packet { from, to, body } = *packet;
                    hub.send(from, to, body);
                }
                Ok(())
            }
            Event::PermitRead { store, life, id } => match living(&mut self.stores, store, life) {
                Some((process, _)) => permit::go_on(process, hub, id),
                None => Ok(()),
            },
            Event::Disk { store, life } => self.on_disk(store, life),
            Event::SendSnapshot { store, life, envelope, to, number } => {
                if let Some(store) = self.stores.get_mut(&store).filter(|s| s.life == life) {
                    store.send_snapshot(hub, to, *envelope, number);
                }
                Ok(())
            }
            Event::Report { store, life, input } => {
                if let Some(store) = self.stores.get_mut(&store) {
                    store.report(hub, life, *input);
                }
                Ok(())
            }
            Event::HeartbeatLate { store, life, number } => {
                if let Some((process, _)) = living(&mut self.stores, store, life) {
                    process.on_heartbeat_late(hub, number);
                }
                Ok(())
            }
            Event::Arrive(packet) => self.arrive(*packet),
            Event::PdCall { call, .. } => {
                let reply = hub.on_pd_call(call);
                reply.map_or(Ok(()), |reply| self.deliver(reply))
            }
            Event::Conn(event) => self.on_conn(event),
            Event::Unreachable { end: End::Pd(_), of: End::Pd(_) }
            | Event::PdTick { .. }
            | Event::PdSynced { .. }
            | Event::PdSnapshotSent { .. }
            | Event::PdDisk { .. } => self.pd.happen(hub, event),
            Event::Unreachable { end, of } => {
                self.on_unreachable(end, of);
                Ok(())
            }
            Event::Client { client, wake } => self.on_client(client, wake),
            Event::Admin(wake) => {
                self.on_admin(wake);
                Ok(())
            }
            Event::Look => self.on_look(),
            Event::Nemesis(planned) => self.act(planned),
            Event::Duel(duel) => {
                self.on_duel(duel);
                Ok(())
            }
            Event::Relief(relief) => self.relieve(relief),
            Event::Restart { end, life } => self.restart(end, life),
        }
    }

    fn on_client(&mut self, client: u32, wake: ClientWake) -> Verdict {
        let mut world = ClientWorld { hub: &mut self.hub, history: &mut self.history };
        match self.clients.get_mut(client as usize) {
            Some(client) => client.on_wake(&mut world, wake),
            None => Ok(()),
        }
    }

    fn on_conn(&mut self, event: ConnEvent) -> Verdict {
        let now = self.hub.now();
        for packet in self.hub.net.on(now, event) {
            // Packets wait at a machine that is suspended.
            self.happen(Event::Arrive(Box::new(packet)))?;
        }
        Ok(())
    }

    fn on_unreachable(&mut self, end: End, of: End) {
        if let (End::Store(store), End::Store(of)) = (end, of)
            && let Some(process) = self.stores.get_mut(&store).and_then(|s| s.process.as_mut())
        {
            let input = Input::Unreachable { store: of };
            process.put(&mut self.hub, Mail::Input(Box::new(input)));
        }
    }

    /// A store's disk thread has finished a step.
    fn on_disk(&mut self, store: StoreId, life: u32) -> Verdict {
        let hub = &mut self.hub;
        let Some((process, disk)) = living(&mut self.stores, store, life) else { return Ok(()) };
        match process.jobs.advance(hub)? {
            Some(Report::Input(input)) => {
                disk.purge().map_err(unexpected)?;
                hub.agenda.after(0, Event::Report { store, life, input });
            }
            Some(Report::Failed(reason)) => {
                hub.coverage.hit("checkpoints failed");
                process.put(hub, Mail::Failed(reason));
            }
            None => {}
        }
        Ok(())
    }

    fn stop_if_failed(&mut self, store: StoreId) -> Verdict {
        match self.stores.get_mut(&store) {
            Some(store) => store.stop_if_failed(&mut self.hub),
            None => Ok(()),
        }
    }

    /// Prints the state of every peer, if the trace is told in words.
    pub fn survey(&self) {
        for store in self.stores.values() {
            let Some(process) = &store.process else {
                self.hub.say(|| format!("store {} is down", store.id));
                continue;
            };
            for region in process.worker.regions() {
                let Some(peer) = process.worker.peer(region.id) else { continue };
                self.hub.say(|| {
                    let (role, group) = (peer.group.role(), &peer.group);
                    format!(
                        "store {}: peer {} of {}; {}term {} leader {} last {} commit {} applied \
                         {} durable {} truncated {}{}{}",
                        store.id,
                        peer.id,
                        show(region),
                        if role.is_leader { "LEADS " } else { "" },
                        role.term,
                        role.leader,
                        group.last_index(),
                        group.commit_index(),
                        peer.applied.index,
                        peer.durable_applied,
                        group.truncated().index,
                        if peer.has_state() { "" } else { " without state" },
                        if group.is_paused() { " paused" } else { "" },
                    )
                });
            }
        }
    }

    fn arrive(&mut self, packet: Packet) -> Verdict {
        if let Body::PdReply { .. } = &packet.body {
            let reply = self.hub.pd_replied(packet);
            return reply.map_or(Ok(()), |reply| self.deliver(reply));
        }
        self.deliver(packet)
    }

    fn deliver(&mut self, packet: Packet) -> Verdict {
        match packet.to {
            End::Store(store) => {
                if let Some(store) = self.stores.get_mut(&store) {
                    return store.arrive(&mut self.hub, packet);
                }
                Ok(())
            }
            End::Pd(_) => self.pd.arrive(&mut self.hub, packet),
            End::Client(PROBE) => self.on_probe_answer(packet),
            End::Client(ADMIN) => match packet.body {
                Body::PdReply { asker: Asker::Admin { number }, reply } => {
                    self.on_admin_answer(number, reply.map(|reply| *reply))
                }
                _ => Ok(()),
            },
            End::Client(client) => {
                let mut world = ClientWorld { hub: &mut self.hub, history: &mut self.history };
                match self.clients.get_mut(client as usize) {
                    Some(client) => client.arrive(&mut world, packet),
                    None => Ok(()),
                }
            }
        }
    }

    fn restart(&mut self, end: End, life: u32) -> Verdict {
        match end {
            End::Pd(node) => self.pd.restart(&mut self.hub, node, life),
            End::Store(id) => {
                let Some(store) = self.stores.get_mut(&id) else { return Ok(()) };
                if store.end == Some(DiskEnd::Damaged) {
                    self.hub.coverage.hit("stores that refused a damaged disk");
                }
                if store.life == life && !store.is_up() {
                    store.start(&mut self.hub, None)?;
                    self.storm_on(id);
                }
                Ok(())
            }
            End::Client(_) => Ok(()),
        }
    }
}

/// True for an answer that another member, or the same a moment later, may give otherwise.
fn is_to_be_asked_again(reply: &proto::PdReply) -> bool {
    use proto::pd_error::Kind;
    let Some(Answer::Error(error)) = &reply.result else { return false };
    matches!(error.kind, Some(Kind::Busy(_) | Kind::NotLeader(_)))
}

fn living(
    stores: &mut BTreeMap<StoreId, SimStore>,
    store: StoreId,
    life: u32,
) -> Option<(&mut crate::store::process::Process, &mut crate::store::disk::Disk)> {
    stores.get_mut(&store)?.living(life)
}
