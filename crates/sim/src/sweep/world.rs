//! The world of a sweep: three stores, the messages between them, a client, and the clock.
//!
//! Everything happens on one thread and in one order: stores take turns by id, each with all
//! messages that have arrived, until nothing moves; then the clock ticks. So the same script on the
//! same disk passes the same points.
//!
//! Promises are kept in [`super::ledger`]; what fails, and when, is decided in [`super`].

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_engine::sim_disk::{Loss, SimDisk};
use flotilla_store::core::peer::Peer;
use flotilla_store::core::{Answer, Input, Op, Request, RequestId};
use flotilla_types::heartbeat::{HeartbeatReply, RegionCommand, Step};
use flotilla_types::{Member, Millis, Mutation, PeerId, Region, RegionError, StoreId, WriteOp};

use super::ledger::Ledger;
use super::script::{Act, Order};
use super::store::{Mail, SWEPT, Store, TurnResult};
use super::turn;

const TICK_MS: u64 = 100;

/// The deadline of a request: as long as two elections.
const DEADLINE_MS: u64 = 5_000;

/// The greatest number of rounds of turns until nothing moves. More rounds mean a cycle of
/// messages.
const ROUNDS_MAX: usize = 1_000;

/// The greatest number of ticks of healing after a restart: a minute.
const HEALING_TICKS_MAX: u64 = 600;

/// The ticks until followers know that a write is committed: a heartbeat tells them, and the tick
/// right after the write sends none.
const TOLD_TICKS: u64 = 2;

/// The number of entries that a leader appends before the others take their turns: less than its
/// limit of messages in flight.
const FILL_AT_ONCE: u64 = 50;

/// The number of keys that scripts write: few, so that keys are overwritten.
const KEYS: u64 = 100;

enum Asked {
    Put(Bytes, Bytes),
    Get(Vec<Bytes>),
}

/// See the module's header.
pub struct World {
    /// The stores.
    pub stores: BTreeMap<StoreId, Store>,
    /// The stores' promises.
    pub ledger: Ledger,
    now: Millis,
    first: Region,
    mails: Vec<Mail>,
    asked: BTreeMap<RequestId, Asked>,
    requests: u64,
    writes: u64,
    is_cut_off: bool,
    wrong_read: Option<String>,
}

impl World {
    /// Three stores that are not started. The swept store is on `disk`; `first` is the first
    /// region.
    pub fn new(disk: SimDisk, first: Region) -> World {
        let mut disk = Some(disk);
        let store = |id: u64| (StoreId(id), Store::new(StoreId(id), disk.take()));
        World {
            stores: (1..=3).map(store).collect(),
            ledger: Ledger::begin(&first),
            now: Millis(1_000_000),
            first,
            mails: vec![],
            asked: BTreeMap::new(),
            requests: 0,
            writes: 0,
            is_cut_off: false,
            wrong_read: None,
        }
    }

    /// Starts the stores whose disks are in memory.
    pub fn start_others(&mut self) -> Result<(), String> {
        for (_, store) in self.stores.iter_mut().filter(|(id, _)| **id != SWEPT) {
            store.start(self.now, &self.first)?;
            self.ledger.observe(store);
        }
        Ok(())
    }

    /// Starts the swept store. The error says why the store refuses to open.
    pub fn start_swept(&mut self) -> Result<(), String> {
        let (now, first) = (self.now, self.first.clone());
        let swept = self.swept();
        // raft-engine panics where a sync fails, also while it closes a log that it could not open.
        super::guarded(|| swept.start(now, &first))
    }

    /// The store on the simulated disk.
    pub fn swept(&mut self) -> &mut Store {
        self.stores.get_mut(&SWEPT).expect("made in new")
    }

    /// The simulated disk.
    pub fn disk(&mut self) -> SimDisk {
        self.swept().disk.clone().expect("made with one in new")
    }

    /// True if the swept store's process has ended or has stopped by itself.
    pub fn is_down(&mut self) -> bool {
        let disk = self.disk();
        let swept = self.swept();
        disk.is_off() || swept.stopped.is_some() || swept.process.is_none()
    }

    /// Ends the swept store's process. The disk loses what `loss` says.
    pub fn crash(&mut self, loss: Loss) -> Result<(), String> {
        let swept = self.swept();
        swept.close();
        let disk = swept.disk.as_ref().map(|disk| disk.crash(loss));
        swept.disk = disk.transpose().map_err(|error| error.to_string())?;
        swept.holds_checkpoints = false;
        self.ledger.reborn(SWEPT);
        self.mails.retain(|mail| mail.from != SWEPT && mail.to != SWEPT);
        Ok(())
    }

    /// Compares the swept store, just opened, with its promises, and takes note of its present
    /// state.
    pub fn check_reopened(&mut self) -> Result<(), String> {
        let swept = self.stores.get(&SWEPT).expect("made in new");
        let Some(process) = &swept.process else { return Err("it is not up".to_string()) };
        self.ledger.check_reopened(process)?;
        self.ledger.observe(swept);
        self.ledger.verdict()
    }

    /// Carries out one act of a script. The act ends early if the swept store goes down.
    pub fn act(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Ticks(ticks) => {
                for _ in 0..*ticks {
                    self.tick()?;
                }
            }
            Act::Puts(count) => {
                for _ in 0..*count {
                    self.put();
                    self.settle()?;
                }
            }
            Act::Fill(count) => {
                for number in 1..=*count {
                    self.put();
                    if let Some((leader, _)) = self.leader_of(b"") {
                        self.turn(leader);
                    }
                    if number.is_multiple_of(FILL_AT_ONCE) || number == *count {
                        self.settle()?;
                    }
                }
            }
            Act::Burst(count) => {
                (0..*count).for_each(|_| self.put());
                self.settle()?;
            }
            Act::Order(order) => {
                self.order(order);
                self.settle()?;
            }
            Act::Hold => self.swept().holds_checkpoints = true,
            Act::Release => {
                let swept = self.stores.get_mut(&SWEPT).expect("made in new");
                swept.holds_checkpoints = false;
                turn::checkpoint(swept, &mut self.ledger);
                self.settle()?;
            }
            Act::Purge => self.swept().purge(),
            Act::CutOff(is_cut_off) => self.cut_off(*is_cut_off),
            Act::Restart => self.restart()?,
        }
        Ok(())
    }

    fn cut_off(&mut self, is_cut_off: bool) {
        self.is_cut_off = is_cut_off;
        self.ledger.is_idle = is_cut_off;
    }

    /// Stops the swept store in good order, and starts it again on the same disk.
    fn restart(&mut self) -> Result<(), String> {
        let swept = self.stores.get_mut(&SWEPT).expect("made in new");
        if let Err(reason) = turn::finish(swept, self.now, &mut self.ledger) {
            swept.stop(reason);
            return Ok(());
        }
        swept.close();
        self.ledger.reborn(SWEPT);
        if self.disk().hit().is_some() {
            // The store does not report an error in closing, because the process was ending anyway.
            self.swept().stopped = Some("it could not be closed".to_string());
            return Ok(());
        }
        if let Err(reason) = self.start_swept() {
            self.swept().stopped = Some(reason);
            return Ok(());
        }
        self.check_reopened()
    }

    fn tick(&mut self) -> Result<(), String> {
        self.now = self.now.plus(TICK_MS);
        for store in self.stores.values_mut().filter(|store| store.process.is_some()) {
            store.inbox.push(Input::Tick);
        }
        self.settle()
    }

    /// Lets all stores take turns until nothing moves or the swept store is down.
    pub fn settle(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            let ids: Vec<StoreId> = self.stores.keys().copied().collect();
            let mut has_moved = false;
            for id in ids {
                has_moved |= self.turn(id);
            }
            self.ledger.verdict()?;
            if !has_moved || self.is_down() {
                return Ok(());
            }
        }
        Err("the stores do not come to rest".to_string())
    }

    fn turn(&mut self, id: StoreId) -> bool {
        let is_cut = |mail: &Mail| self.is_cut_off && (mail.to == SWEPT || mail.from == SWEPT);
        self.mails.retain(|mail| !is_cut(mail));
        let Some(store) = self.stores.get_mut(&id) else { return false };
        let all = std::mem::take(&mut self.mails);
        let (taken, left): (Vec<Mail>, Vec<Mail>) = all.into_iter().partition(|m| m.to == id);
        self.mails = left;
        if store.process.is_none() || store.stopped.is_some() {
            return false;
        }
        taken.into_iter().for_each(|mail| store.receive(mail));
        if store.inbox.is_empty() {
            return false;
        }
        let TurnResult { mails, replies } = turn::take(store, self.now, &mut self.ledger);
        self.mails.extend(mails);
        for (request, result) in replies {
            self.answer(request, result);
        }
        true
    }

    fn answer(&mut self, request: RequestId, result: Result<Answer, RegionError>) {
        match (self.asked.remove(&request), result) {
            (Some(Asked::Put(key, value)), Ok(Answer::Written)) => {
                self.ledger.acknowledged(&key, &value);
            }
            (Some(Asked::Get(keys)), Ok(Answer::Get(values))) => {
                for (key, value) in keys.iter().zip(&values) {
                    if !self.ledger.may_be(key, value.as_ref()) {
                        let expected = self.ledger.tell(key);
                        let what = format!("{key:?} reads {value:?}, expected {expected}");
                        self.wrong_read.get_or_insert(what);
                    }
                }
            }
            (Some(asked @ Asked::Get(_)), Err(_)) => {
                // The call that waits for the read sends it again.
                self.asked.insert(request, asked);
            }
            _ => {}
        }
    }

    /// The peers that lead, with their stores.
    fn leaders(&self) -> impl Iterator<Item = (StoreId, &Peer)> {
        self.stores.values().filter(|store| store.stopped.is_none()).flat_map(|store| {
            let worker = store.process.as_ref().map(|process| &process.worker);
            let peers = worker
                .into_iter()
                .flat_map(|worker| worker.regions().filter_map(|region| worker.peer(region.id)));
            peers.filter(|peer| peer.has_state() && peer.is_leader()).map(|peer| (store.id, peer))
        })
    }

    /// The leader of the region of `key`, and the region as the leader has it; None without a
    /// leader.
    fn leader_of(&self, key: &[u8]) -> Option<(StoreId, Region)> {
        let of_key = self.leaders().filter(|(_, peer)| peer.region.range.contains(key));
        let latest = of_key.max_by_key(|(_, peer)| peer.group.role().term);
        latest.map(|(store, peer)| (store, peer.region.clone()))
    }

    fn ask(&mut self, to: StoreId, region: &Region, asked: Asked) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        let op = match &asked {
            Asked::Put(key, value) => {
                self.ledger.asked(key, value);
                let put = Mutation::Put { key: key.clone(), value: value.clone() };
                Op::Write(WriteOp::Mutate(vec![put]))
            }
            Asked::Get(keys) => Op::Get(keys.clone()),
        };
        self.asked.insert(id, asked);
        let deadline = self.now.plus(DEADLINE_MS);
        let request = Request { id, region: region.id, epoch: region.epoch, deadline, op };
        if let Some(store) = self.stores.get_mut(&to) {
            store.inbox.push(Input::Request(request));
        }
        id
    }

    fn put(&mut self) {
        self.writes += 1;
        // Successive writes go to distant keys, so that all regions are written.
        let key = Bytes::from(format!("k{:03}", self.writes * 37 % KEYS));
        let value = Bytes::from(format!("value {:0>40}", self.writes));
        if let Some((store, region)) = self.leader_of(&key) {
            self.ask(store, &region, Asked::Put(key, value));
        }
    }

    fn order(&mut self, order: &Order) {
        let key = match order {
            Order::Split(key) => key,
            Order::AddLearner(..) | Order::Promote(_) | Order::Remove(_) | Order::Lead(_) => "",
        };
        let Some((store, region)) = self.leader_of(key.as_bytes()) else { return };
        let step = match *order {
            Order::Split(key) => Step::Split(key.into()),
            Order::AddLearner(store, peer) => {
                let peer = Member::learner(PeerId(peer), StoreId(store));
                Step::AddLearner(peer)
            }
            Order::Promote(peer) => Step::Promote(PeerId(peer)),
            Order::Remove(peer) => Step::RemovePeer(PeerId(peer)),
            Order::Lead(peer) => Step::TransferLeader(PeerId(peer)),
        };
        self.command(store, &region, step);
    }

    fn command(&mut self, store: StoreId, region: &Region, step: Step) {
        let command = RegionCommand { region_id: region.id, epoch: region.epoch, step };
        let reply = HeartbeatReply { commands: vec![command], ..Default::default() };
        if let Some(store) = self.stores.get_mut(&store) {
            store.inbox.push(Input::HeartbeatReply(Some(reply)));
        }
    }

    /// Orders removed peers to be destroyed, as the placement driver does for a leaderless peer: a
    /// learner requests no votes, and so learns from no other peer that it was removed.
    fn destroy_left_over(&mut self) {
        let mut left_over = vec![];
        for store in self.stores.values() {
            let Some(process) = &store.process else { continue };
            for peer in process.worker.regions().filter_map(|r| process.worker.peer(r.id)) {
                let leader = self.leaders().find(|(_, leader)| leader.region.id == peer.region.id);
                let Some((_, leader)) = leader else { continue };
                let is_later = leader.region.epoch.conf_ver > peer.known_epoch().conf_ver;
                if is_later && leader.region.member(peer.id).is_none() {
                    left_over.push((store.id, leader.region.clone(), peer.id));
                }
            }
        }
        for (store, region, peer) in left_over {
            let step = Step::DestroyPeer(peer);
            self.command(store, &region, step);
        }
    }

    /// Runs the world until every key can be written and read, and all members of each region are
    /// level. The error names a wrong read, or what did not become true in time.
    pub fn heal(&mut self) -> Result<(), String> {
        self.cut_off(false);
        let mut reason = String::new();
        for _ in 0..HEALING_TICKS_MAX {
            self.destroy_left_over();
            self.tick()?;
            if self.is_down() {
                return Ok(());
            }
            match self.probe()? {
                Ok(()) => return Ok(()),
                Err(not_yet) => reason = not_yet,
            }
        }
        Err(format!("it does not heal: {reason}"))
    }

    /// Checks whether the world has healed. The inner error says what is still missing, the outer
    /// one what is wrong.
    fn probe(&mut self) -> Result<Result<(), String>, String> {
        let Some(regions) = self.cover() else { return Ok(Err("keys without a leader".into())) };
        let mut asked = vec![];
        for (store, region) in &regions {
            let mut key = region.range.start.to_vec();
            key.push(b'!');
            self.writes += 1;
            let put = Asked::Put(key.into(), format!("probe {}", self.writes).into());
            asked.push(self.ask(*store, region, put));
        }
        self.settle()?;
        let of = |region: &Region, keys: &[Bytes]| -> Vec<Bytes> {
            keys.iter().filter(|key| region.range.contains(key)).cloned().collect()
        };
        let keys = self.ledger.keys();
        for (store, region) in &regions {
            asked.push(self.ask(*store, region, Asked::Get(of(region, &keys))));
        }
        self.settle()?;
        if let Some(wrong) = &self.wrong_read {
            return Err(wrong.clone());
        }
        let open = asked.iter().filter(|id| self.asked.contains_key(id)).count();
        asked.iter().for_each(|id| drop(self.asked.remove(id)));
        if open > 0 {
            return Ok(Err(format!("{open} requests without an answer")));
        }
        for _ in 0..TOLD_TICKS {
            self.tick()?;
            if self.is_down() {
                return Ok(Ok(()));
            }
        }
        Ok(self.is_level())
    }

    /// The leaders whose regions cover the key space, in key order; None if keys have no leader.
    fn cover(&self) -> Option<Vec<(StoreId, Region)>> {
        let mut cover: Vec<(StoreId, Region)> = vec![];
        loop {
            let start = cover.last().map_or(Bytes::new(), |(_, region)| region.range.end.clone());
            if start.is_empty() && !cover.is_empty() {
                return Some(cover);
            }
            let next = self.leader_of(&start).filter(|(_, region)| region.range.start == start)?;
            cover.push(next);
        }
    }

    fn is_level(&self) -> Result<(), String> {
        for (_, leader) in self.leaders() {
            for member in &leader.region.members {
                let store = self.stores.get(&member.store_id).filter(|s| s.process.is_some());
                let worker = store.and_then(|store| store.process.as_ref()).map(|p| &p.worker);
                let peer = worker.and_then(|worker| worker.peer(leader.region.id));
                let is_level = peer.is_some_and(|peer| {
                    peer.id == member.id
                        && peer.has_state()
                        && peer.applied.index == leader.applied.index
                });
                if !is_level {
                    return Err(format!("peer {} of region {} lags", member.id, leader.region.id));
                }
            }
        }
        for store in self.stores.values() {
            let Some(process) = &store.process else { continue };
            for region in process.worker.regions() {
                let leader = self.leaders().find(|(_, peer)| peer.region.id == region.id);
                if leader.is_none_or(|(_, leader)| leader.region.member_on(store.id).is_none()) {
                    return Err(format!("store {} has a peer too many of {}", store.id, region.id));
                }
            }
        }
        Ok(())
    }
}
