//! The checkers: what must hold, one file for each invariant.
//!
//! * [`group`]: which Raft group, and whose log: names that the checkers of Raft share; [`terms`]:
//!   the terms of a log.
//! * [`election`]: at most one leader in a term of a group.
//! * [`commits`]: a leader has all that was committed before its term.
//! * [`lease`]: a read reflects what was committed before it; one store at a time holds the lease.
//! * [`ballot`]: term and vote never go back; no message leaves before what it implies is durable.
//! * [`quorum`]: what is applied is durable on a quorum.
//! * [`answers`]: what a store answers is what the log says at one index, all keys at once.
//! * [`replies`]: a store answers each request once and by its deadline.
//! * [`model`]: committed entries are equal on all peers, and the state of every peer at an index
//!   is what the entries up to it say; [`region_model`]: a region's shape and members;
//!   [`rows`]: its rows at its last indexes.
//! * [`progress`]: truncated <= durable <= applied <= committed.
//! * [`epoch`]: epochs never go back, on a store or in the placement driver.
//! * [`disjoint`]: the live regions of a store do not overlap.
//! * [`tiling`]: at their newest epochs the regions tile the key space.
//! * [`whole`]: a cluster begins with one region that has all its voters, and none has too few.
//! * [`tombstone`]: a removed peer never lives again.
//! * [`effects`]: what was acknowledged is committed, what failed never is, and nothing happens
//!   more often than it was requested; [`deletes`]: the same for deletes, which have no value to
//!   name them.
//! * [`admin`]: what the placement driver answers an administrator is true.
//! * [`attempts`]: no attempt of a client is sent too late, and no retry too early.
//! * [`routes`]: a client does not use a route that a store has called stale.
//! * [`views`]: a view for snapshots is kept until followers can ask for it.
//! * [`load`]: what a store tells of its load is what it has answered.
//! * [`memory`]: what a core holds stays under its bound.
//! * [`pd_addrs`]: a store keeps what it learned of where the placement driver listens.
//! * [`linear`]: at the end, each key's history is linearizable; [`second`]: an independent checker
//!   agrees. Both are `flotilla-history`'s.
//! * [`ids`]: the placement driver hands each id out once.
//! * [`operators`]: one operator on a region; the placement driver takes no older report, commands
//!   only leaders, and lets no voter go for its silence.
//! * [`balance`]: regions move to stores in service, none to and fro, and stores become even.
//! * [`changes`]: no change of members that the placement driver orders takes a quorum away.
//! * [`availability`]: a region with a quorum that works serves whoever asks.
//! * [`recovery`]: every region serves soon after healing.
//! * [`quiet`]: nothing happens in a healed cluster that nobody uses.
//! * [`level`]: no peer stays behind its leader, and at the end none is.
//! * [`placement`]: at the end, the placement driver and the stores know the same peers, and each
//!   region has as many as it should.
//!
//! * [`fresh`]: what the placement driver answers is not stale.
//! * [`agreement`]: the placement driver's members hold the same state at the same position.
//! * [`pd_members`]: its members are those on record, and its voters have its state.
//!
//! The placement driver's Raft group is judged by the same checkers as the groups of regions:
//! [`election`], [`commits`], [`quorum`], [`ballot`], [`progress`] ([`Checks::observe_member`]).
//!
//! The world shows the checkers one store after each of the store's steps, as a [`Sight`]
//! ([`Checks::observe`]). A peer that did not change since its last `Glance` is not checked
//! again.
//!
//! A checker changes nothing in the world that it looks at.

pub mod admin;
pub mod agreement;
pub mod answers;
pub mod attempts;
pub mod availability;
pub mod balance;
pub mod ballot;
pub mod changes;
pub mod commits;
pub mod deletes;
pub mod disjoint;
pub mod effects;
pub mod election;
pub mod epoch;
pub mod fresh;
pub mod group;
pub mod ids;
pub mod lease;
pub mod level;
pub mod load;
pub mod memory;
pub mod model;
pub mod operators;
pub mod pd_addrs;
pub mod pd_members;
pub mod placement;
pub mod progress;
pub mod quiet;
pub mod quorum;
pub mod recovery;
pub mod region_model;
pub mod replies;
pub mod routes;
pub mod rows;
pub mod terms;
pub mod tiling;
pub mod tombstone;
pub mod views;
pub mod whole;

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_engine::{MemLog, StateStore};
use flotilla_group::Timing;
use flotilla_pd::core::pd::PD_GROUP;
use flotilla_pd::core::{Event as PdEvent, Pd};
use flotilla_store::core::peer::Peer;
use flotilla_store::core::worker::Worker;
use flotilla_store::core::{Answer, Event, Op, Output, Request, RequestId};
use flotilla_types::heartbeat::{RegionCommand, StoreHeartbeat};
use flotilla_types::placement::PdReply;
use flotilla_types::{Millis, Region, RegionError, RegionId, StoreId};

pub use flotilla_history::{Verdict, Violation, broken, linear, second};

use crate::event::{Body, Packet};
use crate::history::History;
use crate::limits::Bounds;
use crate::time::Micros;
use ballot::NodeLog;
use commits::Leading;
use group::{Configuration, GroupId, Node};
use model::News;
use operators::{OrderedBy, PdSight};
use whole::First;

/// Keeps the first violation of several steps. The error says what the violation of this one is.
pub fn keep<T>(first: &mut Verdict, tried: Result<T, Violation>) -> Result<T, String> {
    tried.map_err(|violation| {
        let what = violation.what.clone();
        if first.is_ok() {
            *first = Err(violation);
        }
        what
    })
}

/// A region in words: the keys of this world are printable.
pub fn show(region: &Region) -> String {
    let key = |key: &[u8]| String::from_utf8_lossy(key.get(4..).unwrap_or(key)).into_owned();
    let peers: Vec<String> = region
        .members
        .iter()
        .map(|peer| format!("{}@{}{:?}", peer.id, peer.store_id, peer.role))
        .collect();
    format!(
        "region {} [{}..{}) epoch {} peers {}",
        region.id,
        key(&region.range.start),
        if region.range.end.is_empty() { "inf".into() } else { key(&region.range.end) },
        region.epoch,
        peers.join(",")
    )
}

/// A sight: one store after a step, as the checkers see it.
pub struct Sight<'a> {
    /// The store.
    pub store: StoreId,
    /// The store's core.
    pub worker: &'a Worker,
    /// The store's log.
    pub log: &'a MemLog,
    /// The store's state.
    pub state: &'a StateStore,
    /// The stamp of the step; see [`crate::agenda::Agenda::stamp`].
    pub stamp: u64,
    /// The present by the store's clock.
    pub now: Millis,
}

/// A glance: the numbers by which a peer's change is noticed, as they were at the last check.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glance {
    peer: u64,
    numbers: [u64; 9],
}

impl Glance {
    fn is_other_shape(&self, other: &Glance) -> bool {
        self.peer != other.peer
            || self.numbers[2] / 2 != other.numbers[2] / 2
            || self.numbers[7..] != other.numbers[7..]
    }
}

fn glance(peer: &Peer) -> Glance {
    let role = peer.group.role();
    Glance {
        peer: peer.id.0,
        numbers: [
            role.term,
            role.leader,
            u64::from(role.is_leader) + 2 * u64::from(peer.has_state()),
            peer.group.commit_index(),
            peer.applied.index,
            peer.durable_applied,
            peer.group.truncated().index,
            peer.region.epoch.conf_ver,
            peer.region.epoch.version,
        ],
    }
}

/// The checkers of what the placement driver says.
#[derive(Default)]
pub struct Orders {
    /// See [`ids`].
    pub ids: ids::Ids,
    /// See [`operators`].
    pub operators: BTreeMap<u64, operators::Operators>,
    /// See [`balance`].
    pub balance: balance::Balance,
    /// See [`changes`].
    pub changes: changes::Changes,
    /// See [`whole`].
    pub whole: whole::Whole,
    /// See [`agreement`].
    pub agreement: agreement::Agreement,
    /// See [`fresh`].
    pub fresh: fresh::Fresh,
    /// See [`pd_members`].
    pub pd_members: pd_members::PdMembers,
    /// The configurations that each member of the placement driver was in, the newest first.
    configurations: BTreeMap<Node, Vec<Arc<Configuration>>>,
}

/// How many configurations of the placement driver's group may be in force at once: one change is
/// applied in a step, and one may be proposed.
const CONFIGURATIONS: usize = 3;

impl Orders {
    /// The configurations that may be in force for what a member applies in a step, after which it
    /// is in `one`.
    fn configurations_of_pd(
        &mut self,
        node: Node,
        one: Arc<Configuration>,
    ) -> Vec<Arc<Configuration>> {
        let known = self.configurations.entry(node).or_default();
        if known.first() != Some(&one) {
            known.insert(0, one);
            known.truncate(CONFIGURATIONS);
        }
        known.clone()
    }

    /// Checks what the placement driver puts out in a step, in which it was given `heartbeat`, if
    /// it was given one.
    pub fn put_out(
        &mut self,
        sight: &PdSight<'_>,
        heartbeat: Option<&(flotilla_pd::core::RequestId, StoreHeartbeat)>,
        outputs: &[flotilla_pd::core::Output],
    ) -> Verdict {
        if let Some(term) = sight.pd.leading_term() {
            self.ids.put_out((term, sight.pd.state().next_id()), outputs)?;
        }
        let operators = self.operators.entry(sight.pd.group().peer()).or_default();
        operators.put_out(sight, heartbeat, outputs)?;
        for id in outputs.iter().filter_map(started) {
            let operator = sight.pd.operators().find(|operator| operator.id == id);
            operator.map_or(Ok(()), |operator| self.balance.started(sight, operator))?;
        }
        for command in outputs.iter().flat_map(commands) {
            match operators.ordered_by(command.region_id) {
                OrderedBy::Pd => {}
                OrderedBy::Admin | OrderedBy::Unknown => {
                    self.changes.ordered_by_admin(command);
                    self.whole.ordered(command.region_id);
                }
                OrderedBy::AdminToGrow => self.changes.grown_by_admin(command.region_id),
            }
        }
        Ok(())
    }
}

/// The operator that begins, if one does.
fn started(output: &flotilla_pd::core::Output) -> Option<u64> {
    match output {
        flotilla_pd::core::Output::Event(PdEvent::OperatorStarted { id, .. }) => Some(*id),
        _ => None,
    }
}

fn commands(output: &flotilla_pd::core::Output) -> &[RegionCommand] {
    match output {
        flotilla_pd::core::Output::Reply { reply: Ok(PdReply::Heartbeat(reply)), .. } => {
            &reply.commands
        }
        _ => &[],
    }
}

/// The checkers that look at stores while the world runs.
#[derive(Default)]
pub struct Checks {
    /// See [`election`].
    pub election: election::Election,
    /// See [`commits`].
    pub commits: commits::Commits,
    /// See [`lease`].
    pub reads: lease::Reads,
    /// See [`deletes`].
    pub deletes: deletes::Deletes,
    /// See [`ballot`].
    pub ballots: ballot::Ballots,
    /// See [`model`].
    pub model: model::Model,
    /// See [`answers`].
    pub answers: answers::Answers,
    /// See [`replies`].
    pub replies: replies::Replies,
    /// See [`epoch`].
    pub epochs: epoch::Epochs,
    /// See [`tiling`].
    pub tiling: tiling::Tiling,
    /// See [`tombstone`].
    pub tombstones: tombstone::Tombstones,
    /// See [`admin`].
    pub admin: admin::Admin,
    /// See [`attempts`].
    pub attempts: attempts::Attempts,
    /// See [`routes`].
    pub routes: routes::Routes,
    /// See [`pd_addrs`].
    pub pd_addrs: pd_addrs::PdAddrs,
    /// See [`views`].
    pub views: views::Views,
    /// What the placement driver says and what comes of it.
    pub orders: Orders,
    /// See [`availability`].
    pub availability: availability::Availability,
    /// See [`recovery`].
    pub recovery: recovery::Recovery,
    /// See [`quiet`].
    pub quiet: quiet::Quiet,
    /// See [`memory`].
    pub memory: memory::Memory,
    /// See [`load`].
    pub load: load::Loads,
    seen: BTreeMap<(StoreId, RegionId), Glance>,
}

impl Checks {
    /// The checkers of a world with these bounds and so many keys, whose groups keep time by
    /// `timing`.
    pub fn new(timing: Timing, bounds: Bounds, keys: u16) -> Checks {
        let (views, memory) = (views::Views::new(timing), memory::Memory::new(bounds, keys));
        Checks { views, memory, ..Checks::default() }
    }

    /// A store's process has started: what the last process had in memory is lost.
    pub fn reborn(&mut self, store: StoreId) {
        self.seen.retain(|(other, _), _| *other != store);
        self.epochs.reborn(store);
        self.reads.reborn(store);
        self.answers.reborn(store);
        self.replies.reborn(store);
        self.tombstones.reborn(store);
        self.views.reborn(store);
        self.availability.reborn(store);
        self.memory.reborn(store);
        self.load.reborn(store);
    }

    /// The index up to which a store had applied a region's entries at the last check.
    pub fn applied(&self, store: StoreId, region: RegionId) -> u64 {
        self.seen.get(&(store, region)).map_or(0, |glance| glance.numbers[4])
    }

    /// Takes note of the outputs of a store's core.
    pub fn note_outputs(&mut self, store: StoreId, outputs: &[Output]) -> Verdict {
        self.load.put_out(store, outputs)?;
        for output in outputs {
            match output {
                Output::Event(event) => self.note_event(store, event)?,
                Output::Checkpoint { .. } => self.tombstones.frozen(store),
                Output::Fatal { reason } => {
                    return broken("no store gives up", format!("store {store}: {reason}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn note_event(&mut self, store: StoreId, event: &Event) -> Verdict {
        match event {
            Event::BecameLeader { region, term } => {
                self.election.leads(GroupId::Region(*region), *term, Node::Store(store))?;
            }
            Event::FirstRegion { region } => {
                if self.orders.whole.begins(region)? == First::New {
                    self.tiling.note(region);
                    self.model.begin(region.clone());
                }
            }
            Event::Split { left, right } => {
                self.orders.whole.split(left.id, right.id);
                self.tiling.note(left);
                self.tiling.note(right);
                self.orders.changes.split(left, right);
            }
            Event::MembersChanged { region } => {
                self.tiling.note(region);
                self.orders.whole.has_voters(region)?;
                self.orders.changes.applied(region)?;
            }
            Event::PeerDestroyed { region, peer } => {
                self.seen.remove(&(store, *region));
                self.tombstones.written(store, *region, *peer);
            }
            Event::PeerCreated { .. }
            | Event::SnapshotInstalled { .. }
            | Event::EntriesHeldBack { .. }
            | Event::EntriesRefused { .. } => {}
        }
        Ok(())
    }

    /// Takes note of a request that a store takes up.
    pub fn note_request(&mut self, store: StoreId, request: &Request) {
        self.answers.taken_up(store, request, &self.model);
        self.load.taken_up(store, request);
        self.availability.taken_up(store, request.id, request.region);
        if !matches!(request.op, Op::Write(_)) {
            self.reads.taken_up((store, request.id), request.region, &self.commits);
        }
    }

    /// Takes note of a store's answers in a step; `asked` is the request that the step took up.
    pub fn note_answers(
        &mut self,
        store: StoreId,
        worker: &Worker,
        outputs: &[Output],
        asked: Option<RequestId>,
    ) -> Verdict {
        // Both checkers see each answer, whatever the other says: what is left with one of them
        // would be judged with a later answer, although this one may never leave the store.
        let mut verdict = Ok(());
        for output in outputs {
            let Output::Reply { id, result } = output else { continue };
            let answer = (result, asked == Some(*id));
            let peer = |region| worker.peer(region);
            self.note_answer((store, *id), result, worker);
            let read = self.reads.answered((store, *id), answer, peer, &self.election);
            verdict = verdict.and(read);
        }
        verdict.and(self.answers.judge(&self.model))
    }

    fn note_answer(
        &mut self,
        at: (StoreId, RequestId),
        result: &Result<Answer, RegionError>,
        worker: &Worker,
    ) {
        let Some(region) = self.answers.region(at) else { return };
        // A read under a permit may find no peer any more; then its second look refuses it.
        let peer = worker.peer(region);
        let applied = (self.applied(at.0, region), peer.map_or(0, |peer| peer.applied.index));
        self.answers.answered(at, result.as_ref().ok().filter(|_| peer.is_some()), applied);
    }

    /// Takes note of an answer that leaves a store.
    pub fn note_reply(
        &mut self,
        store: StoreId,
        id: RequestId,
        result: &Result<Answer, RegionError>,
        now: Micros,
    ) {
        if let Some((region, kind)) = self.availability.replied(store, id, result) {
            self.recovery.serves(region, kind, now);
        }
    }

    /// Takes note of a message that is sent.
    pub fn note_sent(&mut self, packet: &Packet, now: Micros) {
        if let Body::Request(request) = &packet.body {
            let kind = match request.op {
                Op::Get(_) | Op::Scan(_) => availability::Kind::Read,
                Op::Write(_) => availability::Kind::Write,
            };
            self.availability.asks(request.region, kind, now);
        }
        self.quiet.sends(now, packet);
    }

    /// Checks a store after a step.
    pub fn observe(&mut self, sight: &Sight<'_>) -> Verdict {
        self.memory.observe(sight)?;
        let mut changed: Vec<&Peer> = vec![];
        let mut is_reshaped = false;
        for region in sight.worker.regions() {
            let Some(peer) = sight.worker.peer(region.id) else { continue };
            let now = glance(peer);
            let before = self.seen.get(&(sight.store, region.id));
            if before == Some(&now) {
                continue;
            }
            if before.is_none_or(|before| before.is_other_shape(&now)) {
                is_reshaped = true;
                if peer.has_state() {
                    self.orders.changes.note(&peer.region);
                }
            }
            self.seen.insert((sight.store, region.id), now);
            changed.push(peer);
        }
        self.model.follow_logs(sight, &changed)?;
        for news in self.model.take_news() {
            match news {
                News::Entry { region, entry, configurations } => {
                    let group = GroupId::Region(region);
                    self.commits.learned(group, entry);
                    quorum::check(&self.ballots, group, entry, &configurations)?;
                    let holders = quorum::holders(&self.ballots, group, entry, &configurations);
                    self.orders.whole.is_held(region, entry.index, holders)?;
                }
                News::Removed(range) => self.deletes.removed(range, sight.stamp),
            }
        }
        self.answers.judge(&self.model)?;
        changed.iter().try_for_each(|peer| self.observe_peer(sight, peer))?;
        if is_reshaped {
            disjoint::check(sight)?;
            self.tiling.check()?;
        }
        Ok(())
    }

    /// The only member of the placement driver was put back from an older copy of its directory:
    /// what its group has committed since is gone.
    pub fn put_back(&mut self, node: Node, copy: &NodeLog, watermark: u64) {
        self.commits.put_back(GroupId::Pd);
        self.ballots.put_back(node, copy.clone());
        self.epochs.put_back();
        self.admin.put_back(watermark);
        self.orders.ids.put_back(watermark);
        self.orders.agreement = agreement::Agreement::default();
        self.orders.fresh.put_back();
    }

    /// Looks at a member of the placement driver after its thread ran.
    pub fn observe_member(&mut self, node: Node, log: &MemLog, pd: &Pd) -> Verdict {
        let (group, number, raft) = (GroupId::Pd, PD_GROUP, pd.group());
        let role = raft.role();
        progress::check(node, group, raft, pd.applied_and_durable())?;
        let (applied, _) = pd.applied_and_durable();
        self.orders.agreement.observe(raft.peer(), applied, pd.state())?;
        self.orders.fresh.observe(applied);
        self.orders.pd_members.observe(pd)?;
        let one = Arc::new(Configuration::of_pd(&raft.membership()));
        let configurations = self.orders.configurations_of_pd(node, one);
        for entry in self.commits.news(log, (group, number), (applied, role.term))? {
            self.commits.learned(group, entry);
            quorum::check(&self.ballots, group, entry, &configurations)?;
        }
        if role.is_leader {
            self.election.leads(group, role.term, node)?;
            self.commits.leads(&Leading { group, node, log, number, raft })?;
        }
        Ok(())
    }

    /// Checks, at the end, what clients saw. `is_crossed` asks the second checker, too. Answers how
    /// many keys the second checker has skipped and compared.
    pub fn check_history(
        &self,
        keys: u16,
        history: &History,
        is_crossed: bool,
    ) -> Result<(u64, u64), Violation> {
        effects::check(&self.model, &history.records)?;
        let (mut skipped, mut compared) = (0, 0);
        for key in 0..keys {
            let records = history.of_key(key);
            self.deletes.check(key, &records)?;
            let verdict = linear::check(key, &records);
            if is_crossed {
                match second::agrees(key, &records, &verdict)? {
                    second::Compared::Skipped => skipped += 1,
                    second::Compared::Agreed => compared += 1,
                }
            }
            verdict?;
        }
        Ok((skipped, compared))
    }

    /// Checks, after a leader was elected, that no store's peer of the region still holds the lease
    /// of an earlier term. `now` is the present by the store's clock.
    pub fn after_election(&self, store: StoreId, peer: &Peer, now: Millis) -> Verdict {
        lease::holds(store, peer, now, &self.election)
    }

    fn observe_peer(&mut self, sight: &Sight<'_>, peer: &Peer) -> Verdict {
        let (node, number) = (Node::Store(sight.store), peer.region.id.0);
        let group = node.group(number);
        let role = peer.group.role();
        if role.is_leader {
            self.election.leads(group, role.term, node)?;
            let (log, raft) = (sight.log, &peer.group);
            self.commits.leads(&Leading { group, node, log, number, raft })?;
            lease::holds(sight.store, peer, sight.now, &self.election)?;
        }
        self.tombstones.lives(sight.store, peer.region.id, peer.id)?;
        if !peer.has_state() {
            return Ok(());
        }
        self.epochs.seen(sight.store, peer)?;
        progress::check(node, group, &peer.group, (peer.applied.index, peer.durable_applied))?;
        self.tiling.note(&peer.region);
        self.model.check_state(sight, peer)
    }
}
