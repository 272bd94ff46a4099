//! A PD member over disks in memory, and stores that obey it at once. Several members that exchange
//! messages: [`group`].

pub mod group;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::mem_base::MemBase;
use flotilla_engine::{LogBatch, LogStore, MemLog, Order, StateBatch, StateStore};
use flotilla_host::core::carry_out::{Io, Written};
use flotilla_host::core::message::{Envelope, StagedId};
use flotilla_pd::core::carry_out::{self, Outputs, PdIo};
use flotilla_pd::core::limits::PdLimits;
use flotilla_pd::core::{CoreConfig, Event, Input, Output, Pd, PdTiming, RequestId};
use flotilla_types::heartbeat::{
    HeartbeatReply, IdBlock, RegionCommand, RegionReport, Step, StoreHeartbeat, StoreUsage,
    TombstonedPeer,
};
use flotilla_types::placement::{
    ClusterStatus, PdError, PdOp, PdReply, PdRequest, RegisterStore, Registration, StoreState,
    StoreStatus,
};
use flotilla_types::{KeyRange, Member, MemberRole, Millis, PeerId, Region, RegionId, StoreId};

pub const DOWN_AFTER_MS: u64 = 60_000;

/// One member, its disks, and the clock.
pub struct PdMember {
    pub log: MemLog,
    pub base: MemBase,
    pub store: Arc<StateStore>,
    pub pd: Pd,
    pub now: Millis,
    pub replies: BTreeMap<RequestId, Result<PdReply, PdError>>,
    pub events: Vec<Event>,
    /// True while writes to the log are kept from becoming durable.
    pub holds_log: bool,
    /// What it has for the other members, and from them.
    pub links: Links,
    config: CoreConfig,
    outputs: Outputs,
    /// A checkpoint that is to be made.
    checkpoint: Option<Checkpoint>,
    next_request: u64,
}

/// The rows of a snapshot.
pub type Rows = Vec<(Bytes, Bytes)>;

/// What passes between a member and the others.
#[derive(Default)]
pub struct Links {
    /// Messages to others, in order; those of snapshots with the rows.
    pub outgoing: Vec<(Envelope, Option<Rows>)>,
    /// The view that snapshots are sent from, by its number.
    view: Option<(u64, Rows)>,
    staged: BTreeMap<StagedId, Rows>,
    /// Set once the process has ended for good.
    pub ended: Option<Ended>,
}

/// Why a member's process ended for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The member was removed.
    Removed,
    /// Its directory is not the one that the others know.
    Stranger,
}

/// A checkpoint, as [`Output::Checkpoint`] has it.
struct Checkpoint {
    applied: u64,
    exports: bool,
    install: Option<StagedId>,
}

impl Io<Pd> for PdMember {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        self.pd.step(self.now, input, out);
    }

    fn send(&mut self, message: Envelope) {
        self.links.outgoing.push((message, None));
    }

    fn flush_messages(&mut self) {}

    fn write_log(&mut self, _turn: u64, batch: LogBatch, sync: bool) -> Written {
        let syncs = sync && !self.holds_log;
        self.log.write(batch, syncs).expect("memory does not fail");
        if sync && self.holds_log { Written::Later } else { Written::Done }
    }

    fn fail(&mut self, reason: String) {
        panic!("{reason}");
    }

    fn has_failed(&self) -> bool {
        false
    }
}

impl PdIo for PdMember {
    fn reply(&mut self, id: RequestId, reply: Result<PdReply, PdError>) {
        assert!(self.replies.insert(id, reply).is_none(), "{id:?} answered twice");
    }

    fn checkpoint(&mut self, applied: u64, exports: bool, install: Option<StagedId>) {
        let checkpoint = Checkpoint { applied, exports, install };
        assert!(self.checkpoint.replace(checkpoint).is_none(), "one checkpoint at a time");
    }

    fn send_snapshot(&mut self, envelope: Envelope, number: u64) {
        let view = self.links.view.as_ref().filter(|(kept, _)| *kept == number);
        let (_, rows) = view.expect("the view was left by a checkpoint");
        self.links.outgoing.push((envelope, Some(rows.clone())));
    }

    fn drop_export(&mut self) {
        self.links.view = None;
    }

    fn discard_staged(&mut self, staged: StagedId) {
        self.links.staged.remove(&staged);
    }

    fn member_addrs(&mut self, _addrs: BTreeMap<u64, String>) {}

    fn removed(&mut self) {
        self.links.ended = Some(Ended::Removed);
    }

    fn stranger(&mut self, _known_by: u64) {
        self.links.ended = Some(Ended::Stranger);
    }

    fn event(&mut self, event: &Event) {
        self.events.push(event.clone());
    }
}

pub fn config() -> CoreConfig {
    CoreConfig {
        id: 1,
        addr: "127.0.0.1:2379".into(),
        members: BTreeMap::new(),
        joins: None,
        seed: 7 << 20,
        replica_count: Some(3),
        down_after_ms: DOWN_AFTER_MS,
        timing: PdTiming::default(),
        limits: PdLimits::default(),
    }
}

impl PdMember {
    pub fn new() -> PdMember {
        PdMember::with_replicas(3)
    }

    pub fn with_replicas(count: u64) -> PdMember {
        let config = CoreConfig { replica_count: Some(count), ..config() };
        PdMember::open(config, MemLog::default(), MemBase::default(), Millis(1_000))
    }

    fn open(config: CoreConfig, log: MemLog, base: MemBase, now: Millis) -> PdMember {
        let member = PdMember::start(config, log, base, now);
        assert!(member.pd.is_leading());
        assert!(member.links.outgoing.is_empty(), "a lone member has nobody to send to");
        member
    }

    /// A member of a group, which need not lead.
    pub fn start(config: CoreConfig, log: MemLog, base: MemBase, now: Millis) -> PdMember {
        let store = StateStore::new(Box::new(base.clone())).expect("memory does not fail");
        let store = Arc::new(store);
        let shared: Arc<dyn LogStore> = Arc::new(log.clone());
        let pd = Pd::open(config.clone(), shared, store.clone(), now).expect("opens");
        let (replies, events) = (BTreeMap::new(), vec![]);
        let mut member = PdMember {
            log,
            base,
            store,
            pd,
            now,
            replies,
            events,
            holds_log: false,
            links: Links::default(),
            config,
            outputs: Outputs::default(),
            checkpoint: None,
            next_request: 0,
        };
        member.flush();
        member
    }

    /// The process dies and starts again: what was not synced or flushed is gone.
    pub fn crash(self) -> PdMember {
        let member = self.crash_in_group();
        assert!(member.pd.is_leading());
        member
    }

    /// The same for a member that need not lead.
    pub fn crash_in_group(self) -> PdMember {
        self.log.crash();
        let config = CoreConfig { replica_count: None, ..self.config };
        PdMember::start(config, self.log, self.base, self.now.plus(1_000))
    }

    /// A message of another member arrives, and the rows if it is a snapshot's.
    pub fn receive(&mut self, envelope: Envelope, rows: Option<Rows>) {
        let input = match rows {
            None => Input::Message(envelope),
            Some(rows) => {
                let staged = StagedId(self.next_request);
                self.next_request += 1;
                self.links.staged.insert(staged, rows);
                Input::SnapshotStaged { staged, envelope }
            }
        };
        self.step(input);
        self.flush();
    }

    /// One input, with nothing of what it leads to carried out.
    pub fn step(&mut self, input: Input) {
        self.run(|outputs, turn| outputs.step(turn, input));
    }

    /// Ends the turn and carries out what it asks for, and what that leads to.
    pub fn flush(&mut self) {
        self.run(carry_out::end_turn);
    }

    /// Ends in good order what it does.
    pub fn stop(&mut self) {
        self.run(carry_out::stop);
    }

    fn run(&mut self, act: impl FnOnce(&mut Outputs, &mut PdMember)) {
        let mut outputs = std::mem::take(&mut self.outputs);
        act(&mut outputs, self);
        self.outputs = outputs;
        while let Some(checkpoint) = self.checkpoint.take() {
            let applied = checkpoint.applied;
            self.make_durable(checkpoint);
            self.step(Input::Checkpointed { applied });
            self.flush();
        }
    }

    fn make_durable(&mut self, checkpoint: Checkpoint) {
        let Checkpoint { applied, exports, install } = checkpoint;
        self.store.flush().expect("memory does not fail");
        if let Some(rows) = install.and_then(|staged| self.links.staged.remove(&staged)) {
            let mut rows = rows.into_iter();
            let next = &mut || Ok(rows.next());
            let installed = self.store.install(&[KeyRange::all()], next, StateBatch::default());
            installed.expect("memory does not fail");
        }
        if exports {
            let view = self.store.view().expect("memory does not fail");
            let mut rows = vec![];
            let visit = &mut |key: &[u8], value: &[u8]| {
                rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                true
            };
            view.scan(&KeyRange::all(), Order::Ascending, visit).expect("memory does not fail");
            self.links.view = Some((applied, rows));
        }
    }

    pub fn tick(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        self.step(Input::Tick);
        self.flush();
    }

    /// Asks without carrying anything out.
    pub fn ask(&mut self, cluster_id: u64, op: PdOp) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let request = PdRequest { cluster_id, op };
        self.step(Input::Request { id, request });
        id
    }

    fn outcome(&mut self, op: PdOp) -> Result<PdReply, PdError> {
        let id = self.ask(0, op);
        self.flush();
        self.replies.remove(&id).expect("answered")
    }

    pub fn call(&mut self, op: PdOp) -> PdReply {
        self.outcome(op).expect("a reply")
    }

    pub fn error(&mut self, op: PdOp) -> PdError {
        self.outcome(op).expect_err("an error")
    }

    pub fn register(&mut self, store: StoreId, addr: &str) -> Registration {
        match self.call(register(store, addr)) {
            PdReply::RegisterStore(registration) => registration,
            other => panic!("expected a registration: {other:?}"),
        }
    }

    pub fn heartbeat(&mut self, heartbeat: StoreHeartbeat) -> HeartbeatReply {
        match self.call(PdOp::Heartbeat(Box::new(heartbeat))) {
            PdReply::Heartbeat(reply) => reply,
            other => panic!("expected a heartbeat's reply: {other:?}"),
        }
    }

    pub fn ids(&mut self, count: u64) -> IdBlock {
        match self.call(PdOp::AllocateIds { count }) {
            PdReply::Ids(block) => block,
            other => panic!("expected ids: {other:?}"),
        }
    }

    pub fn status(&mut self) -> ClusterStatus {
        match self.call(PdOp::ClusterStatus) {
            PdReply::ClusterStatus(status) => status,
            other => panic!("expected a status: {other:?}"),
        }
    }

    pub fn stores(&mut self) -> Vec<StoreStatus> {
        match self.call(PdOp::Stores) {
            PdReply::Stores(stores) => stores,
            other => panic!("expected stores: {other:?}"),
        }
    }

    pub fn region(&self, id: RegionId) -> Region {
        self.pd.state().regions().region(id).cloned().expect("known")
    }

    pub fn set_store(&mut self, store: StoreId, state: StoreState) -> PdReply {
        self.call(set_store(store, state))
    }
}

/// The id that a new store registers with.
pub const NEW_STORE: StoreId = StoreId(0);

pub fn register(store_id: StoreId, addr: &str) -> PdOp {
    PdOp::RegisterStore(RegisterStore { store_id, addr: addr.into(), labels: BTreeMap::new() })
}

pub fn set_store(store_id: StoreId, state: StoreState) -> PdOp {
    PdOp::SetStoreState { store_id, state, is_lost: false }
}

pub fn beat(store_id: StoreId, is_full: bool, reports: Vec<RegionReport>) -> StoreHeartbeat {
    StoreHeartbeat {
        store_id,
        is_full,
        reports,
        usage: StoreUsage { used_bytes: 10, capacity_bytes: 100, ..StoreUsage::default() },
        ids_left: 1_000,
        ..StoreHeartbeat::default()
    }
}

/// A region and its Raft group, which does at once what its leader is told.
#[derive(Clone, Debug)]
pub struct Led {
    pub region: Region,
    pub leader: PeerId,
    pub term: u64,
    /// Learners that do not have the log yet; they have it at the second report.
    pub lagging: Vec<PeerId>,
    /// Members that the leader does not hear.
    pub unreachable: Vec<PeerId>,
}

impl Led {
    pub fn new(region: Region) -> Led {
        let leader = region.members.first().expect("a member").id;
        Led { region, leader, term: 6, lagging: vec![], unreachable: vec![] }
    }

    pub fn store(&self) -> StoreId {
        self.region.member(self.leader).expect("the leader is a member").store_id
    }

    pub fn report(&self) -> RegionReport {
        RegionReport {
            region: self.region.clone(),
            leader: self.region.member(self.leader).copied(),
            term: self.term,
            approximate_bytes: 1,
            approximate_keys: 1,
            load: Default::default(),
            lagging: self.lagging.clone(),
            unreachable: self.unreachable.clone(),
        }
    }

    /// Carries a command out, unless it was meant for another shape of the region.
    pub fn obey(&mut self, command: &RegionCommand) {
        if command.region_id != self.region.id || command.epoch != self.region.epoch {
            return;
        }
        match command.step.clone() {
            Step::AddLearner(member) => {
                let other = self.region.member_on(member.store_id);
                assert!(other.is_none(), "two peers on one store");
                self.region.members.push(Member::learner(member.id, member.store_id));
                self.lagging.push(member.id);
                self.region.epoch.conf_ver += 1;
            }
            Step::Promote(peer) => {
                self.promote(peer);
                self.region.epoch.conf_ver += 1;
            }
            Step::RemovePeer(peer) => {
                assert_ne!(self.leader, peer, "the leader was removed");
                if !self.demote(peer) {
                    self.region.members.retain(|member| member.id != peer);
                }
                self.region.epoch.conf_ver += 1;
            }
            Step::ReplaceVoter { added, removed } => {
                assert_ne!(self.leader, removed, "the leader was replaced");
                self.promote(added);
                assert!(self.demote(removed), "not a voter: {command:?}");
                self.region.epoch.conf_ver += 2;
            }
            Step::TransferLeader(peer) => {
                let to = self.region.member(peer).expect("a member");
                assert_eq!(to.role, MemberRole::Voter);
                self.leader = to.id;
                self.term += 1;
            }
            Step::Split(_) | Step::DestroyPeer(_) => panic!("not expected: {command:?}"),
        }
    }

    /// Makes a learner a voter.
    fn promote(&mut self, id: PeerId) {
        assert!(!self.lagging.contains(&id), "a lagging learner was promoted");
        let mut members = self.region.members.iter_mut();
        members.find(|member| member.id == id).expect("a member").role = MemberRole::Voter;
    }

    /// Makes a voter a learner; false if it is none.
    fn demote(&mut self, id: PeerId) -> bool {
        let mut peers = self.region.members.iter_mut();
        let voter = peers.find(|peer| peer.id == id && peer.role == MemberRole::Voter);
        voter.map(|voter| voter.role = MemberRole::Learner).is_some()
    }
}

/// A member, registered stores that are alive, and the regions that they lead.
pub struct Cluster {
    pub member: PdMember,
    pub alive: Vec<StoreId>,
    pub regions: Vec<Led>,
    /// Commands received, described.
    pub commands: Vec<String>,
    /// Stores that were asked for a full heartbeat, and in which term.
    asked_full: BTreeMap<StoreId, u64>,
    /// Peers that stores say they have lost for good.
    pub tombstoned: BTreeMap<StoreId, Vec<TombstonedPeer>>,
}

impl Cluster {
    /// `stores` stores and the first region, of three replicas, or one if there are fewer stores.
    pub fn new(stores: u64) -> Cluster {
        Cluster::of(PdMember::with_replicas(if stores < 3 { 1 } else { 3 }), stores)
    }

    /// The member, `stores` stores that register with it, and the first region.
    pub fn of(mut member: PdMember, stores: u64) -> Cluster {
        let addrs = (1..=stores).map(|n| format!("10.0.0.{n}:20160"));
        let alive: Vec<StoreId> =
            addrs.map(|addr| member.register(NEW_STORE, &addr).store_id).collect();
        let (asked_full, tombstoned) = (BTreeMap::new(), BTreeMap::new());
        let (regions, commands) = (vec![], vec![]);
        let mut cluster = Cluster { member, alive, regions, commands, asked_full, tombstoned };
        for _ in 0..10 {
            if cluster.regions.is_empty() {
                cluster.round(100);
            }
        }
        assert_eq!(cluster.regions.len(), 1, "the cluster begins");
        cluster
    }

    pub fn add_store(&mut self, addr: &str) -> StoreId {
        let store = self.member.register(NEW_STORE, addr).store_id;
        self.alive.push(store);
        store
    }

    /// Every live store sends a heartbeat, full if it was asked for one, and does what it is told;
    /// then time passes.
    pub fn round(&mut self, ms: u64) {
        for store in self.alive.clone() {
            let asked = self.asked_full.remove(&store);
            let led = self.regions.iter().filter(|led| led.store() == store);
            let reports = led.map(Led::report).collect();
            let mut beat = beat(store, asked.is_some(), reports);
            beat.asked_in_term = asked.unwrap_or(0);
            beat.tombstoned = self.tombstoned.get(&store).cloned().unwrap_or_default();
            let reply = self.member.heartbeat(beat);
            if let Some(first) = reply.first_region.filter(|_| self.regions.is_empty()) {
                self.regions.push(Led::new(first));
            }
            if reply.needs_full {
                self.asked_full.insert(store, reply.term);
            }
            for led in self.regions.iter_mut().filter(|led| led.store() == store) {
                led.lagging.clear();
            }
            for command in &reply.commands {
                self.commands.push(format!("{:?}", command.step));
                for led in &mut self.regions {
                    led.obey(command);
                }
            }
        }
        self.member.tick(ms);
    }

    /// Rounds until no operator is under way and none is planned.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            let before = self.commands.len();
            for _ in 0..12 {
                self.round(200);
            }
            let is_idle = self.member.pd.operators().next().is_none();
            if is_idle && self.commands.len() == before {
                return;
            }
        }
        panic!("never settles: {:?}", self.commands);
    }

    /// The stores of a region's voters, ascending.
    pub fn voter_stores(&self, region: usize) -> Vec<u64> {
        let peers = self.regions[region].region.members.iter();
        let voters = peers.filter(|peer| peer.role == MemberRole::Voter);
        let mut stores: Vec<u64> = voters.map(|peer| peer.store_id.0).collect();
        stores.sort_unstable();
        stores
    }

    pub fn crash_pd(mut self) -> Cluster {
        self.member = self.member.crash();
        self
    }
}
