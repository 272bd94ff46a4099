//! One PD member: its Raft group, the replicated state, and the leader's state while it leads.
//!
//! ```text
//!   Input::Request --> leadership is confirmed by lease or ReadIndex --> read: answered
//!                                                                    `-> write: a PdCommand
//!   Input::Flush   --> Group::ready --> Output::Append ... Input::Persisted
//!                                   `-> committed: State::apply + records + applied, ONE batch
//!                                       --> the waiter at (index, term) --> Output::Reply
//! ```
//!
//! In: [`Input`]s, one at a time, with the driver's clock. Out: [`Output`]s, in order. The driver
//! ends each turn with [`Input::Flush`] and repeats it after each [`Input::Persisted`] until
//! nothing comes out.
//!
//! Invariants: a change is answered only after it is applied; an id block is answered only after
//! its watermark is committed; the applied position is written with what was applied; the log is
//! truncated only up to what a checkpoint has made durable.
//!
//! Not here: what is done with what the group hands out (`turn`), what each request does
//! (`heartbeat`, `registration`, `admin`, `reads`), snapshots (`snapshots`), and any clock, thread,
//! socket or file.

use std::sync::Arc;

use flotilla_engine::StateBatch;
use flotilla_engine::{EngineError, LogStore, StateStore};
use flotilla_group::{Group, GroupConfig, GroupError, Opening, Position};
use flotilla_host::core::message::Envelope;
use flotilla_host::core::turn::{Ended, LogTurn, SentReady};
use flotilla_types::heartbeat::IdBlock;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::placement::{PdError, PdOp, PdReply, PdRequest};
use flotilla_types::{Load, Millis, RegionId, WireError};

use crate::core::checkpoints::{Checkpoints, Snapshots};
use crate::core::command::PdCommand;
use crate::core::config::{CoreConfig, OtherReplicas, REPLICAS_DEFAULT};
use crate::core::context::{Action, LeaderContext, Outcome};
use crate::core::errors::busy;
use crate::core::ids::NamedIds;
use crate::core::introductions::{INTRODUCTIONS, Introductions};
use crate::core::io::{Event, Input, Output, RequestId};
use crate::core::leader_state::LeaderState;
use crate::core::limits::PdLimits;
use crate::core::members::Members;
use crate::core::operator::Operator;
use crate::core::reads::ReadContext;
use crate::core::records::{GROUP_KEY, LoadError, Loaded, StoreMode, load};
use crate::core::reports::{LivenessTimeouts, Reports};
use crate::core::schedule::{Plan, plan};
use crate::core::state::State;
use crate::core::waiting::{Read, Waiter, Waiting};
use crate::core::{admin, explain, first_region, heartbeat, reads, registration};

/// The number of PD's group in the log; a log of PD holds no other.
pub const PD_GROUP: u64 = 1;

/// Requests of another cluster are told of no more often: its stores ask every second.
const OTHER_CLUSTER_MS: u64 = 60_000;

/// Why a member cannot be opened. Fatal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The state cannot be read.
    #[error(transparent)]
    StoreCounts(#[from] LoadError),
    /// Another replica count was asked for than the cluster has.
    #[error(transparent)]
    Replicas(#[from] OtherReplicas),
    /// The member was started with another list of members than the group has.
    #[error(
        "the directory is of a group of the members {kept:?}, and {given:?} were given: give the \
         same, or none"
    )]
    Members {
        /// As they were given.
        given: Vec<u64>,
        /// As the directory has them.
        kept: Vec<u64>,
    },
    /// The group has removed the member.
    #[error("member {id} was removed from the placement drivers for ever: join under a new id")]
    Removed {
        /// Its id.
        id: u64,
    },
    /// The log cannot be read, or does not fit the state.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// What the log has on record of the members' directories is damaged.
    #[error("the log's record of the members' directories is damaged: {0}")]
    Introductions(WireError),
}

/// Why a member cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("log entry {index}: {error}")]
    Entry { index: u64, error: WireError },
    #[error(transparent)]
    Replicas(#[from] OtherReplicas),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("a snapshot does not say who PD's members are")]
    Snapshot,
    #[error("{reason}")]
    LostLog { reason: String },
}

/// One PD member. See the module's header.
pub struct Pd {
    pub(crate) config: CoreConfig,
    pub(crate) group: Group,
    pub(crate) state: State,
    pub(crate) waiting: Waiting,
    pub(crate) leader: Option<LeaderState>,
    pub(crate) store: Arc<StateStore>,
    pub(crate) applied: Position,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) log_turn: LogTurn<Envelope>,
    pub(crate) members: Members,
    pub(crate) introductions: Introductions,
    pub(crate) snapshots: Snapshots,
    last: Last,
    outbox: Vec<Output>,
    is_failed: bool,
}

/// When something happened last; None if it never did.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    tick: Option<Millis>,
    /// A request of another cluster was told of.
    other_cluster: Option<Millis>,
}

/// What a member holds in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PdHeld {
    /// Requests that are not answered yet.
    pub requests: usize,
    /// Regions of which a report is known.
    pub reports: usize,
}

impl Pd {
    /// Opens the member over what the log and the state hold; both empty for a new cluster.
    pub fn open(
        config: CoreConfig,
        log: Arc<dyn LogStore>,
        store: Arc<StateStore>,
        now: Millis,
    ) -> Result<Pd, OpenError> {
        let config = CoreConfig { limits: config.limits.workable(), ..config };
        let loaded = load(&store)?;
        let applied = loaded.applied;
        config.check_replicas(loaded.meta.as_ref().map_or(0, |meta| meta.replica_count))?;
        let members = Self::first_members(&config, &loaded, &store)?;
        let group_config = GroupConfig {
            group: PD_GROUP,
            peer: config.id,
            seed: config.seed,
            timing: config.timing.raft,
            limits: config.limits.group,
        };
        let opening = Opening {
            applied,
            membership: members.membership(),
            is_restart: log.state(PD_GROUP).map_err(GroupError::from)?.is_some(),
        };
        let record = log.state(INTRODUCTIONS).map_err(GroupError::from)?;
        let is_unrecorded = record.is_none();
        let introductions = Introductions::open(record, members.is_fresh(), config.seed)
            .map_err(OpenError::Introductions)?;
        let (group, repairs) = Group::open(group_config, log, opening, now)?;
        let mut pd = Pd {
            config,
            group,
            state: State::from_records(loaded),
            members,
            introductions,
            snapshots: Snapshots::default(),
            waiting: Waiting::default(),
            leader: None,
            store,
            applied,
            checkpoints: Checkpoints { durable: applied.index, ..Checkpoints::default() },
            log_turn: LogTurn::default(),
            last: Last::default(),
            outbox: vec![],
            is_failed: false,
        };
        if !repairs.is_empty() {
            pd.log_turn.write_synced(repairs);
        }
        if is_unrecorded {
            pd.keep_introductions();
        }
        pd.emit(Output::MemberAddrs(pd.members.addrs().clone()));
        Ok(pd)
    }

    /// Who the members are. A new member keeps what it is told, durably, before it does anything
    /// else: with another list it might elect itself later.
    fn first_members(
        config: &CoreConfig,
        loaded: &Loaded,
        store: &StateStore,
    ) -> Result<Members, OpenError> {
        if let Some(mut kept) = loaded.members.clone() {
            if kept.is_removed(config.id) {
                return Err(OpenError::Removed { id: config.id });
            }
            if !kept.agree_with(&config.members) {
                let given = config.members.keys().copied().collect();
                return Err(OpenError::Members {
                    given,
                    kept: kept.addrs().keys().copied().collect(),
                });
            }
            kept.move_to(&config.members);
            return Ok(kept);
        }
        let members = match &config.joins {
            // The list must not make members of others that know nothing of what is applied.
            _ if loaded.is_of_lone_member() => {
                let lone = Members::alone(config.id, &config.addr, config.seed);
                if !lone.agree_with(&config.members) {
                    let given = config.members.keys().copied().collect();
                    return Err(OpenError::Members { given, kept: vec![config.id] });
                }
                lone
            }
            Some(told) => Members::joined(told),
            None if config.members.is_empty() => {
                Members::alone(config.id, &config.addr, config.seed)
            }
            None => Members::first(&config.members),
        };
        let mut batch = StateBatch::default();
        batch.put(GROUP_KEY, members.encode());
        store.write(batch).map_err(LoadError::from)?;
        store.freeze();
        store.flush().map_err(LoadError::from)?;
        Ok(members)
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.config.id
    }

    /// What is committed and applied.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// True if this member leads and answers.
    pub fn is_leading(&self) -> bool {
        self.leader.is_some()
    }

    /// The term in which this member leads; None if it does not lead, as far as it knows.
    pub fn leading_term(&self) -> Option<u64> {
        self.leader.as_ref().map(|leader| leader.term)
    }

    /// PD's members.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// This member's half of PD's Raft group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The index up to which entries are applied, and the index up to which the state is durable.
    pub fn applied_and_durable(&self) -> (u64, u64) {
        (self.applied.index, self.checkpoints.durable)
    }

    /// Its bounds.
    pub fn limits(&self) -> &PdLimits {
        &self.config.limits
    }

    /// True if the request is decided on only once this member is confirmed to lead.
    pub fn awaits_confirmation(&self, id: RequestId) -> bool {
        self.waiting.is_read(id)
    }

    /// True if it leads, and waits for stores to say which ids are in use.
    pub fn awaits_ids(&self, now: Millis) -> bool {
        self.leader.as_ref().is_some_and(|leader| !leader.may_lease_ids(&self.state, now))
    }

    /// What it holds, by kind, for inspection.
    pub fn held(&self) -> PdHeld {
        let leader = self.leader.as_ref();
        PdHeld {
            requests: self.waiting.requests(),
            reports: leader.map_or(0, |leader| leader.reports.count()),
        }
    }

    /// What clients have the regions do, as last reported, for inspection.
    pub fn loads(&self) -> impl Iterator<Item = (RegionId, Load)> {
        self.leader.iter().flat_map(|leader| leader.reports.loads())
    }

    /// The operators under way, by region.
    pub fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.leader.iter().flat_map(|leader| leader.operators.iter())
    }

    /// Handles one input and appends what is to be done to `out`.
    pub fn step(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        if self.is_failed {
            return;
        }
        let result = match input {
            Input::Tick => self.tick(now),
            Input::Request { id, request } => {
                self.request(now, id, request);
                Ok(())
            }
            Input::Flush => self.flush(now),
            Input::Persisted { turn } => {
                let readies = self.log_turn.persisted(turn);
                self.report_persisted(readies);
                Ok(())
            }
            Input::Checkpointed { applied } => self.checkpointed(now, applied),
            Input::Message(envelope) => self.message(now, envelope),
            Input::SnapshotStaged { staged, envelope } => {
                self.snapshot_staged(now, staged, envelope);
                Ok(())
            }
            Input::SnapshotSent { member, is_ok } => {
                if self.group.awaits_snapshot_of(member) {
                    self.group.report_snapshot(member, is_ok);
                }
                Ok(())
            }
            Input::Unreachable { member } => {
                self.group.report_unreachable(member);
                Ok(())
            }
            Input::Stop => {
                self.abandon_all("the placement driver is stopping");
                self.begin_checkpoint();
                Ok(())
            }
        };
        if let Err(failure) = result {
            self.is_failed = true;
            self.abandon_all("the placement driver has failed");
            self.emit(Output::Failed { reason: failure.to_string() });
        }
        out.append(&mut self.outbox);
    }

    /// The group has removed this member: it takes part in nothing any more.
    pub(crate) fn end_as_removed(&mut self) {
        self.is_failed = true;
        self.emit(Output::Removed);
    }

    /// Another member knows another directory of this one: it takes part in nothing.
    pub(crate) fn end_as_stranger(&mut self, known_by: u64) {
        self.is_failed = true;
        self.emit(Output::Stranger { known_by });
    }

    pub(crate) fn emit(&mut self, output: Output) {
        self.outbox.push(output);
    }

    pub(crate) fn answer(&mut self, id: RequestId, outcome: Outcome) {
        self.emit(Output::Reply { id, reply: outcome });
    }

    fn report_persisted(&mut self, readies: Vec<SentReady>) {
        readies.into_iter().for_each(|ready| self.group.persisted(ready.number));
    }

    fn abandon_all(&mut self, reason: &str) {
        for id in self.waiting.take_all() {
            self.answer(id, Err(busy(reason)));
        }
    }

    /// What handlers decide on; None unless this member leads.
    pub(crate) fn context(&mut self, now: Millis) -> Option<LeaderContext<'_>> {
        Some(LeaderContext {
            now,
            timing: &self.config.timing,
            state: &self.state,
            waiting: &self.waiting,
            leader: self.leader.as_mut()?,
            out: &mut self.outbox,
        })
    }

    /// Whatever is asked is decided on only once this member is known to lead at that moment: by
    /// the leader lease, or else by a round of ReadIndex.
    fn request(&mut self, now: Millis, id: RequestId, request: PdRequest) {
        if let Err(error) = self.check_request(&request) {
            self.note_other_cluster(now, &request, &error);
            return self.answer(id, Err(error));
        }
        if self.group.lease_holds(now) || planted(Mutant::PdUnconfirmed) {
            return self.decide(now, id, request);
        }
        match self.group.read_index(now) {
            Some(ticket) => {
                self.waiting.await_read(ticket, Read { id, asked: now, request });
            }
            None => self.answer(id, Err(busy("the placement driver is starting"))),
        }
    }

    /// Decides on a request of a confirmed leader.
    pub(crate) fn decide(&mut self, now: Millis, id: RequestId, request: PdRequest) {
        let Some(mut context) = self.context(now) else {
            return self.answer(id, Err(busy("leadership was lost")));
        };
        let names_cluster = request.cluster_id != 0;
        let action = match request.op {
            PdOp::ClusterStatus => {
                let members = self.told_members(now).members;
                self.read(now, |context| {
                    Ok(PdReply::ClusterStatus(reads::cluster_status(context, members)))
                })
            }
            PdOp::Stores => self.read(now, |context| Ok(PdReply::Stores(reads::stores(context)))),
            PdOp::Regions { start_key, limit } => {
                self.read(now, |context| reads::page(context, &start_key, limit))
            }
            PdOp::RegisterStore(request) => {
                registration::register_store(&context, id, request, names_cluster).into()
            }
            PdOp::Heartbeat(beat) => heartbeat::heartbeat(&mut context, id, *beat).into(),
            PdOp::AllocateIds { count } => registration::allocate_ids(&context, id, count).into(),
            PdOp::SetStoreState { store_id, state, is_lost } => {
                let wanted = admin::Wanted { store: store_id, state, is_lost };
                admin::set_store_state(&context, id, wanted).into()
            }
            PdOp::AddOperator { region_id, kind } => {
                Action::Answer(admin::add_operator(&mut context, region_id, kind))
            }
            PdOp::Operators => {
                Action::Answer(Ok(admin::list_operators(&context.leader.operators, now)))
            }
            PdOp::CancelOperator { operator_id } => {
                Action::Answer(admin::cancel_operator(&mut context, operator_id))
            }
            PdOp::Members => Action::Answer(Ok(PdReply::Members(self.told_members(now)))),
            PdOp::ChangeMembers(change) => self.change_members(now, id, change),
            PdOp::Explain(question) => self.read(now, |context| explain::answer(context, question)),
        };
        self.act(id, action);
    }

    /// Carries out what a handler decided.
    pub(crate) fn act(&mut self, id: RequestId, action: Action) {
        match action {
            Action::Answer(outcome) => self.answer(id, outcome),
            Action::Propose(command, waiter) => self.propose(&command, waiter),
            Action::Waits => {}
        }
    }

    fn check_request(&self, request: &PdRequest) -> Result<(), PdError> {
        if self.leader.is_none() {
            return Err(self.not_leading());
        }
        let cluster_id = self.state.cluster_id();
        if cluster_id == 0 {
            return Err(busy("the cluster is being created"));
        }
        let is_for_another = request.cluster_id != 0 && request.cluster_id != cluster_id;
        if is_for_another && !planted(Mutant::OtherClusterServed) {
            return Err(PdError::ClusterMismatch { cluster_id });
        }
        if self.waiting.len() >= self.config.limits.waiting_max {
            return Err(busy("too many requests are waiting"));
        }
        Ok(())
    }

    fn note_other_cluster(&mut self, now: Millis, request: &PdRequest, error: &PdError) {
        let &PdError::ClusterMismatch { cluster_id: cluster } = error else { return };
        let last = self.last.other_cluster;
        if last.is_some_and(|last| now.since(last) < OTHER_CLUSTER_MS) {
            return;
        }
        self.last.other_cluster = Some(now);
        let store = match &request.op {
            PdOp::Heartbeat(heartbeat) => Some(heartbeat.store_id),
            PdOp::RegisterStore(register) => Some(register.store_id).filter(|id| id.0 != 0),
            PdOp::ClusterStatus
            | PdOp::Stores
            | PdOp::Regions { .. }
            | PdOp::AllocateIds { .. }
            | PdOp::SetStoreState { .. }
            | PdOp::AddOperator { .. }
            | PdOp::Operators
            | PdOp::CancelOperator { .. }
            | PdOp::Members
            | PdOp::ChangeMembers(_)
            | PdOp::Explain(_) => None,
        };
        let wanted = request.cluster_id;
        self.emit(Output::Event(Event::OtherCluster { wanted, cluster, store }));
    }

    fn not_leading(&self) -> PdError {
        match self.group.role().leader {
            0 if self.members.addrs().len() == 1 => busy("the placement driver has no leader yet"),
            // Cut off from the others, perhaps: they may have one.
            0 => PdError::NotLeader { leader_addr: String::new() },
            leader if leader == self.config.id => busy("the placement driver is starting"),
            leader => {
                let leader_addr = self.members.addrs().get(&leader).cloned().unwrap_or_default();
                PdError::NotLeader { leader_addr }
            }
        }
    }

    /// Proposes a command. If the group refuses it, the waiter is answered at once and nothing
    /// changes.
    pub(crate) fn propose(&mut self, command: &PdCommand, waiter: Waiter) {
        if planted(Mutant::IdsBeforeCommit)
            && let (Waiter::HeartbeatIds { id, reply }, PdCommand::TakeIds { count }) =
                (&waiter, command)
        {
            let (id, mut reply) = (*id, reply.clone());
            reply.ids = Some(IdBlock { start: self.state.next_id(), count: *count });
            self.answer(id, Ok(PdReply::Heartbeat(*reply)));
            return self.propose(command, Waiter::Nobody);
        }
        match self.group.propose(command.encode()) {
            Ok(position) => self.waiting.await_proposal(position, waiter),
            Err(error) => self.fail_waiter(waiter, &error.to_string()),
        }
    }

    pub(crate) fn fail_waiter(&mut self, waiter: Waiter, reason: &str) {
        if let (Waiter::LeaderIds, Some(leader)) = (&waiter, &mut self.leader) {
            leader.ids.request_failed();
        }
        if let Some(id) = waiter.request() {
            self.answer(id, Err(busy(reason)));
        }
    }

    /// What the applied state and the reports say.
    fn read(&self, now: Millis, answer: impl FnOnce(&ReadContext<'_>) -> Outcome) -> Action {
        let (config, state) = (&self.config, &self.state);
        Action::Answer(match &self.leader {
            Some(leader) => answer(&ReadContext { now, config, state, leader }),
            None => Err(busy("leadership was lost")),
        })
    }

    fn tick(&mut self, now: Millis) -> Result<(), Failure> {
        if self.introductions.has_begun() {
            self.group.tick();
        } else {
            self.introduce(now);
        }
        self.note_tick(now);
        for id in self.waiting.take_late_reads(now, self.config.limits.read_ms_max) {
            self.answer(id, Err(busy("the read was not confirmed in time")));
        }
        self.follow_role(now);
        self.begin_cluster(now);
        self.plan(now);
        self.promote_members();
        self.drop_export_if_needless(now);
        self.truncate();
        self.checkpoint_if_due(now);
        Ok(())
    }

    /// A gap between two ticks is time in which no heartbeat could be taken, so it does not count
    /// as time without heartbeats.
    fn note_tick(&mut self, now: Millis) {
        let gap_ms = self.last.tick.map_or(0, |tick| now.since(tick));
        self.last.tick = Some(now);
        if let Some(leader) = &mut self.leader
            && gap_ms >= self.config.timing.disconnected_after_ms
        {
            leader.reports.measure_anew(now);
        }
    }

    fn flush(&mut self, now: Millis) -> Result<(), Failure> {
        self.propose_regions();
        loop {
            while let Some(ready) = self.group.ready() {
                self.on_ready(now, ready)?;
                self.follow_role(now);
            }
            match self.log_turn.end() {
                Ended::Empty => break,
                Ended::Durable { messages, readies } => {
                    messages.into_iter().for_each(|message| self.emit(Output::Send(message)));
                    self.report_persisted(readies);
                }
                Ended::Append(append) => self.emit(Output::Append(append)),
            }
        }
        self.settle_snapshots();
        self.checkpoint_if_due(now);
        self.check();
        Ok(())
    }

    /// Begins or ends leadership. A leader answers only after it has applied an entry of its own
    /// term: only then has it applied all that was committed before it led.
    fn follow_role(&mut self, now: Millis) {
        let role = self.group.role();
        let leads = role.is_leader && self.applied.term == role.term;
        if let Some(term) = self.leader.as_ref().map(|leader| leader.term) {
            if leads && term == role.term {
                return;
            }
            self.leader = None;
            self.emit(Output::Event(Event::LeadershipEnded { term }));
            self.abandon_all("leadership was lost; what became of the request is not known");
        }
        if leads {
            self.begin_leading(now, role.term);
        }
    }

    fn begin_leading(&mut self, now: Millis, term: u64) {
        let timeouts = LivenessTimeouts {
            disconnected_after_ms: self.config.timing.disconnected_after_ms,
            down_after_ms: self.config.down_after_ms,
        };
        let is_lone = self.members.is_lone();
        let awaited =
            self.state.stores().filter(|store| is_lone && store.mode != StoreMode::Removed);
        let named_ids = NamedIds::awaited_from(awaited.map(|store| store.id));
        let (reports, limits) = (Reports::new(now, timeouts), self.config.limits);
        let mut leader = LeaderState::new(term, reports, limits, named_ids);
        leader.heard = self.members.addrs().keys().map(|member| (*member, now)).collect();
        self.leader = Some(leader);
        self.emit(Output::Event(Event::LeadershipBegan { term }));
        if self.state.cluster_id() == 0 {
            // 53 bits, so that the id survives tools that read JSON numbers as floating point.
            let cluster_id = (self.config.seed >> 11).max(1);
            let replica_count = self.config.replica_count.unwrap_or(REPLICAS_DEFAULT);
            self.propose(&PdCommand::Bootstrap { cluster_id, replica_count }, Waiter::Nobody);
        }
    }

    /// Chooses the first region's stores once there are enough, and says what it waits for.
    fn begin_cluster(&mut self, now: Millis) {
        let Some(leader) = &mut self.leader else { return };
        let awaited = first_region::awaited(&self.state, &leader.reports, now);
        let said = leader.awaited.note(awaited, now);
        self.outbox.extend(said.map(|what| Output::Event(Event::Awaits { what })));
        let chosen = first_region::choose(&self.state, &leader.reports, leader.registered_at, now);
        let may_lease = self.context(now).is_some_and(|context| context.may_lease_ids());
        if let Some(stores) = chosen.filter(|_| may_lease && !self.waiting.has_first_region()) {
            self.propose(&PdCommand::CreateFirst(stores), Waiter::FirstRegion);
        }
    }

    /// Raises the watermark above the ids that stores name. A leader needs ids of its own once
    /// there is a region that it may plan for.
    fn request_ids(&mut self, now: Millis) {
        let watermark = self.state.next_id();
        if let Some(highest) =
            self.leader.as_ref().and_then(|leader| leader.named_ids.above(watermark))
        {
            // Until this is applied no ids are leased, and it is proposed again if it is lost.
            return self.propose(&PdCommand::RaiseIds { highest }, Waiter::Nobody);
        }
        if !self.context(now).is_some_and(|context| context.may_lease_ids()) {
            return;
        }
        if self.state.regions().is_empty() {
            return;
        }
        if self.leader.as_mut().is_some_and(|leader| leader.ids.request(watermark)) {
            let count = self.config.limits.id_block;
            self.propose(&PdCommand::TakeIds { count }, Waiter::LeaderIds);
        }
    }

    /// Ends operators that are stuck and starts those that the plan names, if a plan is due.
    fn plan(&mut self, now: Millis) {
        self.request_ids(now);
        let Some(mut context) = self.context(now) else { return };
        let LeaderContext { state, timing, ref mut leader, .. } = context;
        if !leader.plans_by(now) {
            return;
        }
        let stuck = leader.operators.end_stuck(&leader.reports, now);
        let Plan { operators, leaderless, accounts } =
            plan(state, &leader.reports, &leader.operators, now);
        leader.schedulers.note(now, accounts);
        leader.reports.ask_again(&leaderless, now);
        leader.has_leaderless = !leaderless.is_empty();
        let is_busy =
            leader.has_leaderless || !leader.operators.is_empty() || !operators.is_empty();
        let pause_ms = if is_busy { timing.plan_ms } else { timing.heartbeat_ms };
        leader.plan_at = Some(now.plus(pause_ms));
        for (operator, reason) in stuck {
            context.note_end(&operator, reason);
        }
        for plan in operators {
            let report = context.leader.reports.region(plan.region);
            if let Some(version) = report.map(|report| report.region.epoch.version) {
                // Without ids the operator is planned again later. Regions that have an operator
                // get no plan, so there is no conflict.
                let _ = context.start_operator(plan, version);
            }
        }
    }

    /// Proposes the regions whose reports are ahead of the range map.
    fn propose_regions(&mut self) {
        let Some(leader) = &mut self.leader else { return };
        let state = &self.state;
        let regions = leader.take_changes(&|shape| {
            state.regions().region(shape.id) != Some(shape) && state.admits(shape)
        });
        if regions.is_empty() {
            return;
        }
        let command = PdCommand::PutRegions(regions);
        // A refusal is not lost: the region stays noted and is proposed in a later turn.
        let Ok(position) = self.group.propose(command.encode()) else { return };
        self.waiting.await_proposal(position, Waiter::Nobody);
        if let PdCommand::PutRegions(regions) = &command {
            leader.note_proposed(regions);
        }
    }

    /// Checks the invariants between the parts, at the end of a turn.
    ///
    /// # Panics
    /// If one does not hold; the message has the values.
    fn check(&self) {
        let (applied, durable) = (self.applied.index, self.checkpoints.durable);
        assert!(durable <= applied, "checkpointed up to {durable}, applied up to {applied}");
        self.state.check();
        if let Some(leader) = &self.leader {
            let (term, led) = (self.applied.term, leader.term);
            assert!(term <= led, "an entry of term {term} is applied while leading term {led}");
            leader.check(self.state.next_id());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config::PdTiming;
    use crate::core::records::{APPLIED_KEY, encode_position};
    use flotilla_engine::MemLog;

    fn open(members: &[u64]) -> Result<Pd, OpenError> {
        let store = StateStore::in_memory();
        let mut batch = StateBatch::default();
        batch.put(APPLIED_KEY, encode_position(Position { index: 7, term: 2 }));
        store.write(batch).expect("memory does not fail");
        let config = CoreConfig {
            id: 1,
            addr: "a:1".into(),
            members: members.iter().map(|id| (*id, format!("a:{id}"))).collect(),
            joins: None,
            seed: 1,
            replica_count: None,
            down_after_ms: 1_000,
            timing: PdTiming::default(),
            limits: PdLimits::default(),
        };
        Pd::open(config, Arc::new(MemLog::default()), Arc::new(store), Millis(1_000))
    }

    #[test]
    fn a_directory_without_a_record_of_members_stays_a_lone_members() {
        let kept = open(&[]).expect("a lone member").members().addrs().clone();
        assert_eq!(kept.keys().copied().collect::<Vec<u64>>(), [1]);
        match open(&[1, 2, 3]).err() {
            Some(OpenError::Members { given, kept }) => {
                assert_eq!((given, kept), (vec![1, 2, 3], vec![1]));
            }
            other => panic!("two empty members could outvote it: {other:?}"),
        }
    }
}
