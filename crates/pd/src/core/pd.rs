//! One PD member: its Raft group, the replicated state, and what it knows while it leads.
//!
//! ```text
//!   Input::Request --> check leadership and cluster --> read: confirmed by lease or ReadIndex
//!                                                   `-> write: propose a Command
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
//! (`heartbeat`, `admin`, `reads`), and any clock, thread, socket
//! or file. Messages to other members: this version has exactly one.

use std::sync::Arc;

use flotilla_engine::{EngineError, LogOp, LogStore, StateStore};
use flotilla_group::{Group, GroupConfig, GroupError, Membership, Opening, Position, Timing};
use flotilla_types::{Millis, WireError, proto};
use proto::pd_error::Kind;
use proto::pd_request::Op;

use crate::core::command::Command;
use crate::core::io::{Event, Input, Output, RequestId};
use crate::core::leading::Leading;
use crate::core::operator::Operator;
use crate::core::records::{LoadError, load};
use crate::core::reply::{self, Outcome, busy, refused};
use crate::core::schedule::{Plan, plan};
use crate::core::state::State;
use crate::core::view::{Patience, View};
use crate::core::waiting::{Waiter, Waiting};

/// The number of PD's group in the log; a log of PD holds no other.
pub const PD_GROUP: u64 = 1;

/// Ids in a block: a store splits a few hundred times before it needs another.
pub(crate) const ID_BLOCK: u64 = 1_000;

/// How a member keeps time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PdTiming {
    /// The Raft group's clock.
    pub raft: Timing,
    /// How often stores should send heartbeats when there is nothing to do.
    pub heartbeat_ms: u64,
    /// How often while operators are under way, or a region has no known leader.
    pub busy_heartbeat_ms: u64,
    /// A store that is silent for longer receives no peers and no leaders.
    pub disconnected_after_ms: u64,
    /// The time from one plan to the next while there is something to do; otherwise it is
    /// `heartbeat_ms`.
    pub plan_ms: u64,
    /// The most time that an applied entry waits for a checkpoint. Short: entries are few, and
    /// what the state holds survives even the loss of a lone member's log.
    pub checkpoint_ms: u64,
}

impl Default for PdTiming {
    fn default() -> PdTiming {
        PdTiming {
            raft: Timing::DEFAULT,
            heartbeat_ms: 1_000,
            busy_heartbeat_ms: 100,
            disconnected_after_ms: 10_000,
            plan_ms: 100,
            checkpoint_ms: 50,
        }
    }
}

/// What a member is told when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreConfig {
    /// The member's id; never 0.
    pub id: u64,
    /// Where the member listens, as others should call it.
    pub addr: String,
    /// What dice and, for a new cluster, the cluster id are made from.
    pub seed: u64,
    /// Voters that every region of a new cluster should have.
    pub replica_count: u64,
    /// A store that is silent for longer is down.
    pub down_after_ms: u64,
    /// The clock.
    pub timing: PdTiming,
}

/// Why a member cannot be opened. Fatal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The state cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The log cannot be read, or does not fit the state.
    #[error(transparent)]
    Group(#[from] GroupError),
}

/// Why a member cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("log entry {index}: {error}")]
    Entry { index: u64, error: WireError },
    #[error("log entry {index} changes PD's members, which this version cannot")]
    Membership { index: u64 },
}

/// What is durable of what is applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Checkpoints {
    pub durable: u64,
    pub dirty_since: Option<Millis>,
    pub is_running: bool,
}

/// One PD member. See the module's header.
pub struct Pd {
    pub(crate) config: CoreConfig,
    pub(crate) group: Group,
    pub(crate) state: State,
    pub(crate) waiting: Waiting,
    pub(crate) leading: Option<Leading>,
    pub(crate) store: Arc<StateStore>,
    pub(crate) applied: Position,
    pub(crate) checkpoints: Checkpoints,
    outbox: Vec<Output>,
    is_failed: bool,
}

impl Pd {
    /// Opens the member over what the log and the state hold; both empty for a new cluster.
    pub fn open(
        config: CoreConfig,
        log: Arc<dyn LogStore>,
        store: Arc<StateStore>,
        now: Millis,
    ) -> Result<Pd, OpenError> {
        let loaded = load(&store)?;
        let applied = loaded.applied;
        let group_config = GroupConfig {
            group: PD_GROUP,
            peer: config.id,
            seed: config.seed,
            timing: config.timing.raft,
        };
        let opening = Opening {
            applied,
            membership: Membership::of_voters(&[config.id]),
            is_restart: log.state(PD_GROUP).map_err(GroupError::from)?.is_some(),
        };
        let (mut group, repairs) = Group::open(group_config, log, opening, now)?;
        // The only voter need not wait for a timeout to find out that nobody else leads.
        group.campaign();
        let mut pd = Pd {
            config,
            group,
            state: State::from_records(loaded),
            waiting: Waiting::default(),
            leading: None,
            store,
            applied,
            checkpoints: Checkpoints { durable: applied.index, ..Checkpoints::default() },
            outbox: vec![],
            is_failed: false,
        };
        pd.append(None, repairs, true);
        Ok(pd)
    }

    /// What is committed and applied.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// True if this member leads and answers.
    pub fn is_leading(&self) -> bool {
        self.leading.is_some()
    }

    /// The operators under way, by region.
    pub fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.leading.iter().flat_map(|leading| leading.operators.iter())
    }

    /// Takes one input and adds what is to be done to `out`.
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
                self.group.persisted(turn);
                Ok(())
            }
            Input::Checkpointed { applied } => {
                self.checkpointed(applied);
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

    pub(crate) fn emit(&mut self, output: Output) {
        self.outbox.push(output);
    }

    pub(crate) fn answer(&mut self, id: RequestId, outcome: Outcome) {
        self.emit(Output::Reply { id, reply: Box::new(reply::reply(outcome)) });
    }

    pub(crate) fn append(&mut self, turn: Option<u64>, ops: Vec<LogOp>, sync: bool) {
        if turn.is_some() || !ops.is_empty() {
            self.emit(Output::Append { turn, ops, sync });
        }
    }

    fn abandon_all(&mut self, reason: &str) {
        for id in self.waiting.take_all() {
            self.answer(id, Err(busy(reason)));
        }
    }

    fn request(&mut self, now: Millis, id: RequestId, request: proto::PdRequest) {
        if let Err(kind) = self.check_request(&request) {
            return self.answer(id, Err(kind));
        }
        match request.op {
            None => self.answer(id, Err(refused("the request names no operation"))),
            Some(op @ (Op::ClusterStatus(_) | Op::Regions(_) | Op::Stores(_))) => {
                self.read(now, id, op);
            }
            Some(Op::RegisterStore(request)) => self.register_store(now, id, request),
            Some(Op::Heartbeat(beat)) => self.heartbeat(now, id, beat),
            Some(Op::AllocateIds(request)) => self.allocate_ids(id, request.count),
            Some(Op::SetStoreState(request)) => self.set_store_state(now, id, request),
            Some(Op::AddOperator(request)) => self.add_operator(now, id, request),
            Some(Op::Operators(_)) => self.list_operators(now, id),
            Some(Op::CancelOperator(request)) => self.cancel_operator(id, request.operator_id),
        }
    }

    fn check_request(&self, request: &proto::PdRequest) -> Result<(), Kind> {
        if self.leading.is_none() {
            return Err(match self.group.role().leader {
                0 => busy("the placement driver has no leader yet"),
                leader if leader == self.config.id => busy("the placement driver is starting"),
                _ => Kind::NotLeader(proto::NotPdLeader::default()),
            });
        }
        let cluster_id = self.state.cluster_id();
        if cluster_id == 0 {
            return Err(busy("the cluster is being created"));
        }
        if request.cluster_id != 0 && request.cluster_id != cluster_id {
            return Err(Kind::ClusterMismatch(proto::ClusterMismatch { cluster_id }));
        }
        if self.waiting.is_full() {
            return Err(busy("too many requests are waiting"));
        }
        Ok(())
    }

    /// Proposes a command; a refusal is answered at once and has no effect.
    pub(crate) fn propose(&mut self, command: &Command, waiter: Waiter) {
        match self.group.propose(command.encode()) {
            Ok(position) => self.waiting.await_proposal(position, waiter),
            Err(error) => self.disappoint(waiter, &error.to_string()),
        }
    }

    pub(crate) fn disappoint(&mut self, waiter: Waiter, reason: &str) {
        if let (Waiter::OwnIds, Some(leading)) = (&waiter, &mut self.leading) {
            leading.ids.ask_again();
        }
        if let Some(id) = waiter.request() {
            self.answer(id, Err(busy(reason)));
        }
    }

    fn tick(&mut self, now: Millis) -> Result<(), Failure> {
        self.group.tick();
        for id in self.waiting.take_late_reads(now) {
            self.answer(id, Err(busy("the read was not confirmed in time")));
        }
        self.follow_role(now);
        self.plan(now);
        self.checkpoint_if_due(now);
        Ok(())
    }

    fn flush(&mut self, now: Millis) -> Result<(), Failure> {
        self.propose_regions();
        while let Some(ready) = self.group.ready() {
            self.carry_out(now, ready)?;
            self.follow_role(now);
        }
        self.checkpoint_if_due(now);
        Ok(())
    }

    /// Begins or ends leadership. A leader answers only after it has applied an entry of its own
    /// term, for only then is all that was committed before it applied too.
    fn follow_role(&mut self, now: Millis) {
        let role = self.group.role();
        let leads = role.is_leader && self.applied.term == role.term;
        if let Some(term) = self.leading.as_ref().map(|leading| leading.term) {
            if leads && term == role.term {
                return;
            }
            self.leading = None;
            self.emit(Output::Event(Event::LeadershipEnded { term }));
            self.abandon_all("leadership was lost; what became of the request is not known");
        }
        if leads {
            self.begin_leading(now, role.term);
        }
    }

    fn begin_leading(&mut self, now: Millis, term: u64) {
        let patience = Patience {
            disconnected_after_ms: self.config.timing.disconnected_after_ms,
            down_after_ms: self.config.down_after_ms,
        };
        self.leading = Some(Leading::new(term, now, View::new(now, patience)));
        self.emit(Output::Event(Event::LeadershipBegan { term }));
        if self.state.cluster_id() == 0 {
            // 53 bits, so that the id survives tools that read JSON numbers as floating point.
            let cluster_id = (self.config.seed >> 11).max(1);
            let replica_count = self.config.replica_count;
            self.propose(&Command::Bootstrap { cluster_id, replica_count }, Waiter::Nobody);
        }
    }

    /// A leader needs ids once there is a region that it may plan for.
    fn ask_own_ids(&mut self) {
        if self.state.regions().is_empty() {
            return;
        }
        let watermark = self.state.next_id();
        if self.leading.as_mut().is_some_and(|leading| leading.ids.ask(watermark)) {
            self.propose(&Command::TakeIds { count: ID_BLOCK }, Waiter::OwnIds);
        }
    }

    fn plan(&mut self, now: Millis) {
        self.ask_own_ids();
        let Some(leading) = &mut self.leading else { return };
        if now < leading.next_plan {
            return;
        }
        let hopeless = leading.operators.end_hopeless(&leading.view, now);
        let Plan { drafts, unled } = plan(&self.state, &leading.view, &leading.operators, now);
        leading.view.ask_again(&unled, now);
        leading.has_unled = !unled.is_empty();
        let is_busy = leading.has_unled || !leading.operators.is_empty() || !drafts.is_empty();
        let timing = &self.config.timing;
        let pause_ms = if is_busy { timing.plan_ms } else { timing.heartbeat_ms };
        leading.next_plan = now.plus(pause_ms);
        for (operator, reason) in hopeless {
            self.note_end(&operator, reason);
        }
        for draft in drafts {
            self.start_planned(now, draft);
        }
    }

    /// Proposes the regions whose reports are ahead of the range map.
    pub(crate) fn propose_regions(&mut self) {
        let Some(leading) = &mut self.leading else { return };
        let state = &self.state;
        let regions = leading.take_changes(&|shape| {
            state.regions().region(shape.id) != Some(shape) && state.admits(shape)
        });
        if regions.is_empty() {
            return;
        }
        let command = Command::PutRegions(regions);
        // A refusal is not lost: the change stays noted and is proposed in a later turn.
        let Ok(position) = self.group.propose(command.encode()) else { return };
        self.waiting.await_proposal(position, Waiter::Nobody);
        if let Command::PutRegions(regions) = &command {
            leading.note_proposed(regions);
        }
    }
}
