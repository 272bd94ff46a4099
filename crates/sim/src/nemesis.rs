//! The one who makes things fail: at random moments, one of the acts that the seed has.

use std::collections::BTreeSet;

use flotilla_types::{Region, RegionId, StoreId, proto};
use proto::add_operator_request::Kind as Operator;

use crate::agenda::{MS, Micros};
use crate::check::Verdict;
use crate::event::{Asker, Body, End, Event, Relief};
use crate::net::{Link, between};
use crate::scenario::{Act, RATES};
use crate::store::SimStore;
use crate::store::disk::Loss;
use crate::world::World;

/// Restarts in a storm at most.
const STORM_RESTARTS_MAX: u64 = 6;

/// The number under which the nemesis sends.
pub const NEMESIS: End = End::Client(u32::MAX);

/// What the nemesis remembers.
#[derive(Debug, Default)]
pub struct Nemesis {
    /// Stores that it kills again as soon as they have started, and how often.
    storms: std::collections::BTreeMap<StoreId, u64>,
    /// True once it has retired.
    pub is_over: bool,
}

impl World {
    /// Plans the next act.
    pub(crate) fn plan_act(&mut self) {
        let delay = self.hub.dice.between(100 * MS, self.hub.scenario.act_max);
        self.hub.agenda.after(delay, Event::Nemesis);
    }

    /// Acts.
    pub(crate) fn act(&mut self) -> Verdict {
        if self.nemesis.is_over {
            return Ok(());
        }
        self.plan_act();
        let acts = self.hub.scenario.acts.clone();
        let Some(act) = self.hub.dice.pick(&acts).copied() else { return Ok(()) };
        self.hub.say(|| format!("nemesis: {act:?}"));
        self.hub.trace.add(&[act as u64]);
        match act {
            Act::CrashOne => self.crash_some(1, "crashes of one"),
            Act::CrashMajority => {
                let most = self.stores.len() as u64;
                let count = self.hub.dice.between(most / 2 + 1, most);
                self.crash_some(count as usize, "crashes of several")
            }
            Act::CrashAll => self.crash_some(self.stores.len(), "crashes of all"),
            Act::RestartStorm => self.storm(),
            Act::Pause => {
                self.pause();
                Ok(())
            }
            Act::ClockRate => {
                self.change_rate();
                Ok(())
            }
            Act::DiskStall => {
                self.stall();
                Ok(())
            }
            Act::Isolate | Act::Halves | Act::Ring | Act::OneWay | Act::Clog => {
                self.disturb_links(act);
                Ok(())
            }
            Act::CrashPd => {
                let down = self.fault_time();
                self.pd.crash(&mut self.hub, down);
                Ok(())
            }
            Act::Transfer | Act::Split | Act::MovePeer | Act::RemovePeer => {
                self.ask_operator(act);
                Ok(())
            }
            Act::TransferAway => {
                self.transfer_away();
                Ok(())
            }
            Act::Drain => {
                self.drain();
                Ok(())
            }
        }
    }

    fn fault_time(&mut self) -> Micros {
        self.hub.dice.between(50 * MS, self.hub.scenario.fault_max)
    }

    fn loss(&mut self) -> Loss {
        if !self.hub.scenario.power_loss || self.hub.dice.chance(200) {
            return Loss::Nothing;
        }
        if self.hub.dice.chance(400) { Loss::Some } else { Loss::All }
    }

    fn crash_some(&mut self, count: usize, mark: &'static str) -> Verdict {
        self.hub.coverage.hit(mark);
        let mut victims: Vec<StoreId> = self.stores.keys().copied().collect();
        self.hub.dice.shuffle(&mut victims);
        for victim in victims.into_iter().take(count) {
            let (loss, down) = (self.loss(), self.fault_time());
            self.crash_store(victim, loss, down)?;
        }
        Ok(())
    }

    fn crash_store(&mut self, victim: StoreId, loss: Loss, down: Micros) -> Verdict {
        match self.stores.get_mut(&victim) {
            Some(store) => store.crash(&mut self.hub, loss, down),
            None => Ok(()),
        }
    }

    fn any_store(&mut self) -> Option<StoreId> {
        let ids: Vec<StoreId> = self.stores.keys().copied().collect();
        self.hub.dice.pick(&ids).copied()
    }

    /// Any store, or rather one that leads some region.
    fn victim(&mut self) -> Option<StoreId> {
        let leads = |store: &SimStore| {
            let process = store.process.as_ref()?;
            let mut peers = process.worker.regions().filter_map(|r| process.worker.peer(r.id));
            peers.any(|peer| peer.is_leader()).then_some(store.id)
        };
        let leaders: Vec<StoreId> = self.stores.values().filter_map(leads).collect();
        match self.hub.dice.chance(700) {
            true => self.hub.dice.pick(&leaders).copied(),
            false => self.any_store(),
        }
    }

    fn storm(&mut self) -> Verdict {
        self.hub.coverage.hit("restart storms");
        let Some(victim) = self.any_store() else { return Ok(()) };
        let times = self.hub.dice.between(1, STORM_RESTARTS_MAX);
        self.nemesis.storms.insert(victim, times);
        let loss = self.loss();
        self.crash_store(victim, loss, 50 * MS)
    }

    /// A store has started: it may be killed again, in the middle of what it begins with.
    pub(crate) fn storm_on(&mut self, store: StoreId) {
        if self.nemesis.is_over {
            return;
        }
        if let Some(times) = self.nemesis.storms.get_mut(&store) {
            *times -= 1;
            if *times == 0 {
                self.nemesis.storms.remove(&store);
            }
            let delay = self.hub.dice.between(0, 400 * MS);
            self.hub.agenda.after(delay, Event::Relief(Relief::Storm(store)));
        }
    }

    fn pause(&mut self) {
        // Many pauses are about as long as an election: that is when a lease is at stake.
        let is_short = self.hub.dice.chance(600);
        let (usual, victim) = (self.fault_time(), self.victim());
        let time = if is_short { self.hub.dice.between(200 * MS, 1_800 * MS) } else { usual };
        let until = self.hub.now() + time;
        let store = victim.and_then(|victim| self.stores.get_mut(&victim));
        if let Some(process) = store.and_then(|store| store.process.as_mut()) {
            process.paused_until = process.paused_until.max(until);
            self.hub.coverage.hit("pauses");
        }
    }

    fn change_rate(&mut self) {
        let (rate, victim) = (self.hub.dice.between(RATES.0, RATES.1), self.any_store());
        if let Some(store) = victim.and_then(|victim| self.stores.get_mut(&victim)) {
            store.set_rate(self.hub.now(), rate);
            self.hub.coverage.hit("clock rates changed");
        }
    }

    fn stall(&mut self) {
        self.hub.coverage.hit("disk stalls");
        self.hub.stall_max = self.hub.dice.between(10 * MS, 700 * MS);
        let time = self.fault_time();
        self.hub.agenda.after(time, Event::Relief(Relief::Disks));
    }

    fn ends(&self) -> Vec<End> {
        let stores = self.stores.keys().map(|store| End::Store(*store));
        let clients = self.clients.iter().map(|client| End::Client(client.number));
        stores.chain([End::Pd]).chain(clients).collect()
    }

    fn disturb_links(&mut self, act: Act) {
        let links = self.choose_links(act);
        let time = self.fault_time();
        if act == Act::Clog {
            self.hub.coverage.hit("links clogged");
            let until = self.hub.now() + time;
            self.hub.net.clog(&links, until);
            return;
        }
        self.hub.coverage.hit("partitions");
        self.hub.net.cut(&links);
        self.hub.agenda.after(time, Event::Relief(Relief::Links(links)));
    }

    fn choose_links(&mut self, act: Act) -> Vec<Link> {
        let mut ends = self.ends();
        let stores: Vec<End> = self.stores.keys().map(|store| End::Store(*store)).collect();
        match act {
            Act::Isolate => {
                let one: BTreeSet<End> = self.victim().map(End::Store).into_iter().collect();
                // A store that its clients still reach may give stale answers.
                let rest = if self.hub.dice.chance(700) { stores } else { ends };
                between(&one, &rest.into_iter().filter(|end| !one.contains(end)).collect())
            }
            Act::Ring => {
                let mut links = vec![];
                for (at, from) in stores.iter().enumerate() {
                    for (other, to) in stores.iter().enumerate() {
                        let apart = at.abs_diff(other);
                        if apart > 1 && apart + 1 < stores.len() {
                            links.push((*from, *to));
                        }
                    }
                }
                links
            }
            Act::Halves => {
                self.hub.dice.shuffle(&mut ends);
                let cut = self.hub.dice.between(1, ends.len() as u64) as usize;
                let other = ends.split_off(cut);
                between(&ends.into_iter().collect(), &other.into_iter().collect())
            }
            _ => {
                let share = self.hub.dice.between(50, 500);
                let all: BTreeSet<End> = ends.into_iter().collect();
                let mut links = between(&all, &all);
                links.retain(|(from, to)| from != to && self.hub.dice.chance(share));
                links.sort_unstable();
                links.dedup();
                links
            }
        }
    }

    fn ask_pd(&mut self, op: proto::pd_request::Op) {
        let request = Box::new(proto::PdRequest { cluster_id: 0, op: Some(op) });
        let body = Body::PdRequest { asker: Asker::Nemesis, request };
        self.hub.send(NEMESIS, End::Pd, body);
    }

    fn ask_operator(&mut self, act: Act) {
        let regions: Vec<Region> =
            self.pd.regions().map(|map| map.iter().cloned().collect()).unwrap_or_default();
        let Some(region) = self.hub.dice.pick(&regions).cloned() else { return };
        let Some(kind) = self.operator(act, &region) else { return };
        let RegionId(region_id) = region.id;
        let request = proto::AddOperatorRequest { region_id, kind: Some(kind) };
        self.ask_pd(proto::pd_request::Op::AddOperator(request));
    }

    fn operator(&mut self, act: Act, region: &Region) -> Option<Operator> {
        let held: Vec<StoreId> = region.peers.iter().map(|peer| peer.store_id).collect();
        let free: Vec<StoreId> =
            self.stores.keys().copied().filter(|store| !held.contains(store)).collect();
        let from = self.hub.dice.pick(&held)?.0;
        match act {
            Act::Transfer => Some(Operator::TransferLeaderStore(from)),
            Act::RemovePeer => Some(Operator::RemovePeerStore(from)),
            Act::MovePeer => {
                let to_store = self.hub.dice.pick(&free)?.0;
                Some(Operator::MovePeer(proto::MovePeer { from_store: from, to_store }))
            }
            _ => {
                let key = self.hub.dice.between(0, u64::from(self.hub.scenario.keys)) as u16;
                let at = crate::client::work::stored(key);
                let is_exact = region.range.contains(&at) && self.hub.dice.chance(500);
                let split_key = if is_exact { at } else { bytes::Bytes::new() };
                Some(Operator::Split(proto::SplitStep { split_key }))
            }
        }
    }

    /// A leader hands its leaderships on and, in the same moment or a little later, does not hear
    /// from other stores any more: whether they have taken it over, it cannot know.
    fn transfer_away(&mut self) {
        let Some(victim) = self.victim() else { return };
        let others = self.stores.keys().filter(|store| **store != victim);
        let deaf: Vec<Link> = others.map(|o| (End::Store(*o), End::Store(victim))).collect();
        let time = self.fault_time();
        if let Some(process) = self.stores.get_mut(&victim).and_then(|s| s.process.as_mut()) {
            process.orders = Some((deaf, time));
        }
    }

    fn drain(&mut self) {
        let Some(victim) = self.any_store() else { return };
        self.set_state(victim, proto::StoreState::Draining);
        let time = 4 * self.fault_time();
        self.hub.agenda.after(time, Event::Relief(Relief::Undrain(victim)));
    }

    fn set_state(&mut self, store: StoreId, state: proto::StoreState) {
        let request = proto::SetStoreStateRequest { store_id: store.0, state: state.into() };
        self.ask_pd(proto::pd_request::Op::SetStoreState(request));
    }

    /// A fault ends.
    pub(crate) fn relieve(&mut self, relief: Relief) -> Verdict {
        match relief {
            Relief::Links(links) => self.hub.net.mend(&links),
            Relief::CutOff(links) => {
                if !self.nemesis.is_over {
                    self.hub.coverage.hit("partitions");
                    self.hub.net.cut(&links);
                }
            }
            Relief::Undrain(store) => self.set_state(store, proto::StoreState::Up),
            Relief::Disks => self.hub.stall_max = 0,
            Relief::Storm(store) => {
                if !self.nemesis.is_over {
                    let loss = self.loss();
                    return self.crash_store(store, loss, 50 * MS);
                }
            }
        }
        Ok(())
    }

    /// Retires: everything that is broken is mended, every process starts.
    pub(crate) fn heal(&mut self) -> Verdict {
        self.hub.say(|| "healed".into());
        self.nemesis.is_over = true;
        self.hub.net.heal();
        self.hub.stall_max = 0;
        if !self.pd.is_up() {
            self.pd.start(&mut self.hub)?;
        }
        let ids: Vec<StoreId> = self.stores.keys().copied().collect();
        for id in ids {
            self.set_state(id, proto::StoreState::Up);
            let Some(store) = self.stores.get_mut(&id) else { continue };
            if !store.is_up() {
                store.start(&mut self.hub, None)?;
            } else if let Some(process) = &mut store.process {
                process.resume(&mut self.hub);
            }
        }
        Ok(())
    }
}
