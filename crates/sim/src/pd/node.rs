//! One member of the placement driver: its disk, its clock and its process.
//!
//! Its thread runs the loop that ships (`thread`), and waits for each sync of its log;
//! what comes in meanwhile waits. Its disk may fail or be full, its clock runs at a rate of its own
//! and jumps. A process whose disk has failed stops and is started again. What it is asked while it
//! is down gets no answer.
//!
//! Not here: syncs of its start, and of what is asked past the network, take no time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flotilla_group::Timing;
use flotilla_host::core::pace::TURN_INPUTS_MAX;
use flotilla_pd::core::carry_out::{self, Outputs};
use flotilla_pd::core::records::StoreMode;
use flotilla_pd::core::{CoreConfig, Input, Pd, PdTiming, RequestId};
use flotilla_types::dice::mix;
use flotilla_types::placement::{PdMembers, PdRequest};
use flotilla_types::{Load, RangeMap, RegionId, StoreId, proto};

use super::calls::pd_address as address;
use super::process::Process;
use super::thread::{ASKED, Life, Thread};
use crate::check::admin::MEMBER_BITS;
use crate::check::ballot::NodeLog;
use crate::check::{Verdict, Violation, group};
use crate::clock::Clock;
use crate::event::{Asker, Body, End, Event, Packet};
use crate::hub::Hub;
use crate::scenario::{RATES, Scenario};
use crate::store::base::BaseFault;
use crate::store::disk::{Disk, Done, LogFault, Loss};
use crate::store::unexpected;
use crate::time::{MS, Micros};

/// The member's tick.
const TICK: Micros = Timing::DEFAULT.tick_ms * MS;

/// An answer past the network takes no more turns than this.
const ASKED_TURNS_MAX: usize = 1_000;

/// In every third life, a member is stopped in good order rather than killed.
const STOPPED_LIVES: u32 = 3;

/// A copy of a member's directory, and what the checkers are told of it.
pub struct PdCopy {
    disk: Disk,
    log: NodeLog,
    watermark: u64,
    /// The stores and their modes.
    stores: Vec<(StoreId, StoreMode)>,
}

/// One member of the placement driver.
pub struct Node {
    /// Its id, by which the network knows it.
    pub id: u32,
    /// Its processes so far.
    pub life: u32,
    pub(super) disk: Disk,
    /// The rate of its clock, once it was changed.
    rate: Option<u64>,
    process: Option<Process>,
    /// What it was added to, if it joined a group that ran.
    joins: Option<PdMembers>,
    is_retired: bool,
    /// True if its directory was lost, and it has a new one.
    is_stranger: bool,
}

/// A member's own, so that members do not stand for election at the same moments.
fn seed(id: u32, scenario: &Scenario) -> u64 {
    let first = mix(scenario.seed) | 1 << 20;
    if id == 1 { first } else { mix(first ^ u64::from(id)) }
}

/// `joins` is what a member was told that joined later. Who the members are is told over a new
/// directory only: they may change.
fn config(id: u32, is_new: bool, joins: Option<&PdMembers>, scenario: &Scenario) -> CoreConfig {
    let is_told = is_new && joins.is_none();
    let last = if is_told { scenario.cluster.pds } else { 0 };
    CoreConfig {
        id: u64::from(id),
        addr: address(id),
        members: (1..=last).map(|id| (u64::from(id), address(id))).collect(),
        joins: joins.cloned(),
        seed: seed(id, scenario),
        replica_count: Some(scenario.cluster.replica_count),
        down_after_ms: scenario.cluster.down_after_ms,
        timing: PdTiming {
            disconnected_after_ms: scenario.cluster.disconnected_after_ms,
            ..PdTiming::default()
        },
        limits: scenario.bounds().pd,
    }
}

impl Node {
    /// A member whose process has not been started.
    pub fn new(id: u32) -> Node {
        Node {
            id,
            life: 0,
            disk: Disk::default(),
            rate: None,
            process: None,
            joins: None,
            is_retired: false,
            is_stranger: false,
        }
    }

    /// A member that joins a group that runs.
    pub fn joining(id: u32, told: PdMembers) -> Node {
        Node { joins: Some(told), ..Node::new(id) }
    }

    /// True if its machine is gone for good, or it was removed and knows it.
    pub fn is_retired(&self) -> bool {
        self.is_retired
    }

    /// Its machine is gone for good.
    pub fn retire(&mut self, hub: &mut Hub) -> Verdict {
        hub.say(|| format!("placement driver {} is gone for good", self.id));
        self.is_retired = true;
        hub.pd_gone(self.id);
        if self.process.is_some() {
            self.end_process(hub, Loss::Some, 0)?;
        }
        Ok(())
    }

    /// Its directory is lost: it starts over an empty one, as at first.
    pub fn lose_directory(&mut self, hub: &mut Hub, down: Micros) -> Verdict {
        hub.say(|| format!("the directory of placement driver {} is lost", self.id));
        if self.process.is_some() {
            self.end_process(hub, Loss::All, down)?;
        }
        hub.checks.ballots.lose(self.name());
        self.disk.put_back(Disk::default());
        self.is_stranger = true;
        Ok(())
    }

    /// Where the network delivers what is for it.
    pub fn end(&self) -> End {
        End::Pd(self.id)
    }

    /// By which name the checkers of Raft know its log.
    fn name(&self) -> group::Node {
        group::Node::Pd(u64::from(self.id))
    }

    /// True if its process runs and leads.
    pub fn is_leading(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.pd.is_leading())
    }

    /// The term in which it leads; 0 if it does not.
    pub fn term(&self) -> u64 {
        self.process.as_ref().and_then(|process| process.pd.leading_term()).unwrap_or(0)
    }

    /// The term and the position of the last entry that it has applied; none while it is down.
    pub fn applied(&self) -> (u64, u64) {
        self.process.as_ref().map_or((0, 0), |process| {
            (process.pd.group().role().term, process.pd.applied_and_durable().0)
        })
    }

    /// Who votes, if all members do, as far as it knows.
    pub fn voters(&self) -> Option<Vec<u64>> {
        let membership = self.process.as_ref()?.pd.group().membership();
        (!membership.is_joint() && membership.learners.is_empty()).then_some(membership.voters)
    }

    /// The members that it knows to be removed; none while it is down.
    pub fn removed_members(&self) -> Vec<u32> {
        let members = self.process.iter().flat_map(|process| process.pd.members().removed());
        members.filter_map(|id| u32::try_from(id).ok()).collect()
    }

    /// True if its process runs.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// What it knows; None while it is down.
    pub fn regions(&self) -> Option<&RangeMap> {
        self.process.as_ref().map(|process| process.pd.state().regions())
    }

    /// What clients have the regions do, as it was told; nothing while it is down.
    pub fn loads(&self) -> impl Iterator<Item = (RegionId, Load)> {
        self.process.iter().flat_map(|process| process.pd.loads())
    }

    /// True if it leads, and waits for stores to say which ids are in use.
    pub fn awaits_ids(&self, now: Micros) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.pd.awaits_ids(process.clock.millis(now)))
    }

    /// The stores that it knows to be in this mode; none while it is down.
    pub fn stores_in(&self, mode: StoreMode) -> Vec<StoreId> {
        let stores = self.process.iter().flat_map(|process| process.pd.state().stores());
        stores.filter(|store| store.mode == mode).map(|store| store.id).collect()
    }

    /// Starts its process.
    pub fn start(&mut self, hub: &mut Hub) -> Verdict {
        self.life += 1;
        if self.is_stranger {
            // On a disk without room, or that fails, a process with a new directory ends at once.
            self.disk.mend();
        }
        let store = Arc::new(self.disk.open().map_err(unexpected)?);
        let rate = self.rate.unwrap_or((RATES.0 + RATES.1) / 2);
        let start_ms = hub.clock_start();
        let clock = Clock::begin_at(hub.now(), rate, start_ms);
        let now = clock.millis(hub.now());
        let is_new = self.life == 1 || self.is_stranger;
        let mut config = config(self.id, is_new, self.joins.as_ref(), &hub.scenario);
        if self.is_stranger {
            config.seed = mix(config.seed);
        }
        let opened = Pd::open(config, self.disk.shared_log(), store.clone(), now);
        let pd = opened.map_err(|error| Violation {
            invariant: "the placement driver can be started again",
            what: error.to_string(),
        })?;
        hub.say(|| format!("placement driver {} starts (life {})", self.id, self.life));
        hub.checks.admin.reborn(self.first_request());
        hub.process_began(self.end());
        hub.checks.orders.operators.remove(&u64::from(self.id));
        self.process = Some(Process {
            pd,
            store,
            clock,
            callers: BTreeMap::new(),
            member_addrs: vec![],
            answers: BTreeMap::new(),
            next_request: self.first_request().0,
            inbox: VecDeque::new(),
            is_tick_due: false,
            outputs: Outputs::default(),
            checkpoint: None,
            view: None,
            staged: BTreeMap::new(),
            next_staged: 0,
            failed: None,
            is_removed: false,
        });
        hub.agenda.after(TICK, Event::PdTick { node: self.id, life: self.life });
        self.turn(hub, true).map(drop)
    }

    /// A copy of what is durable of its disk, if it leads.
    pub fn copy(&self, hub: &Hub) -> Option<PdCopy> {
        let state = self.process.as_ref().filter(|_| self.is_leading())?.pd.state();
        let (log, watermark) = (hub.checks.ballots.copy(self.name()), state.next_id());
        Some(PdCopy { disk: self.disk.copy(), log, watermark, stores: self.modes() })
    }

    /// True if it leads, and knows the same stores as the copy.
    pub fn has_stores_of(&self, copy: &PdCopy) -> bool {
        self.is_leading() && self.modes() == copy.stores
    }

    fn modes(&self) -> Vec<(StoreId, StoreMode)> {
        let stores = self.process.iter().flat_map(|process| process.pd.state().stores());
        stores.map(|store| (store.id, store.mode)).collect()
    }

    /// Kills its process, and puts the copy in the place of its disk. Answers how many ids it has
    /// handed out since the copy was made.
    pub fn put_back(
        &mut self,
        hub: &mut Hub,
        copy: PdCopy,
        down: Micros,
    ) -> Result<u64, Violation> {
        let next_id = self.process.as_ref().map_or(0, |process| process.pd.state().next_id());
        if self.crash(hub, down)? {
            hub.say(|| format!("placement driver {} is put back from an older copy", self.id));
        }
        hub.checks.put_back(self.name(), &copy.log, copy.watermark);
        self.disk.put_back(copy.disk);
        Ok(next_id.saturating_sub(copy.watermark))
    }

    /// Requests of a process count from here, apart from those of other members.
    fn first_request(&self) -> RequestId {
        RequestId((u64::from(self.id - 1) << MEMBER_BITS) + 1)
    }

    /// Its next write, sync or checkpoint fails.
    pub fn fail_next(&mut self, is_log: bool, is_sync: bool) {
        if is_log {
            self.disk.fail_next(if is_sync { LogFault::Sync } else { LogFault::Write });
        } else {
            self.disk.base.fail_next(if is_sync { BaseFault::Unsure } else { BaseFault::Refused });
        }
    }

    /// While its disk is full, it can write nothing.
    pub fn set_full(&mut self, is_full: bool) {
        self.disk.set_full(is_full);
    }

    /// Its disk does not fail any more.
    pub fn mend(&mut self) {
        self.disk.mend();
    }

    /// Its clock runs at another rate.
    pub fn set_rate(&mut self, now: Micros, rate: u64) {
        self.rate = Some(rate);
        if let Some(process) = &mut self.process {
            process.clock.set_rate(now, rate);
        }
    }

    /// Its machine was suspended.
    pub fn wake(&mut self, since: Micros, now: Micros) {
        if let Some(process) = &mut self.process {
            process.clock.wake(since, now);
        }
    }

    /// Its clock jumps forward.
    pub fn jump(&mut self, now: Micros, by: Micros) {
        if let Some(process) = &mut self.process {
            process.clock.jump(now, by);
        }
    }

    /// Kills its process, or stops it in good order in some of its lives. False if none ran.
    pub fn crash(&mut self, hub: &mut Hub, down: Micros) -> Result<bool, Violation> {
        if self.process.is_none() {
            return Ok(false);
        }
        if self.life.is_multiple_of(STOPPED_LIVES) {
            self.stop(hub)?;
        }
        hub.say(|| format!("placement driver {} crashes", self.id));
        self.end_process(hub, Loss::Some, down)?;
        Ok(true)
    }

    /// Ends what its process does in good order, unless its thread waits for the disk.
    fn stop(&mut self, hub: &mut Hub) -> Verdict {
        let can_stop =
            |process: &Process| !process.outputs.is_waiting() && process.failed.is_none();
        if !self.process.as_ref().is_some_and(can_stop) {
            return Ok(());
        }
        hub.say(|| format!("placement driver {} stops", self.id));
        self.run(hub, true, |outputs, io| carry_out::stop(outputs, io))?;
        let is_saved = self.process.as_ref().is_some_and(|process| process.store.flush().is_ok());
        if is_saved {
            hub.coverage.hit("placement driver stopped in good order");
        }
        Ok(())
    }

    /// Its process ends with this loss, and is started again after `down`.
    fn end_process(&mut self, hub: &mut Hub, loss: Loss, down: Micros) -> Verdict {
        self.process = None;
        hub.process_ended(self.end());
        hub.checks.orders.agreement.process_ended(u64::from(self.id));
        hub.checks.orders.fresh.process_ended(u64::from(self.id));
        self.disk.crash(self.name(), loss, hub)?;
        hub.agenda.after(down, Event::Restart { end: self.end(), life: self.life });
        Ok(())
    }

    /// The sync that its thread waited for is done.
    pub fn on_synced(&mut self, hub: &mut Hub, life: u32) -> Verdict {
        if life != self.life || !self.finish_sync(hub)? {
            return Ok(());
        }
        self.go_on(hub)
    }

    /// True if there was a sync to wait for.
    fn finish_sync(&mut self, hub: &mut Hub) -> Result<bool, Violation> {
        if !self.process.as_ref().is_some_and(|process| process.outputs.is_waiting()) {
            return Ok(false);
        }
        match self.disk.sync()? {
            Done::Failed(reason) => self.fail(reason.into()),
            Done::Well => {
                hub.checks.ballots.sync(self.name())?;
                self.run(hub, false, |outputs, io| carry_out::written(outputs, io))?;
            }
        }
        Ok(true)
    }

    fn fail(&mut self, reason: String) {
        if let Some(process) = &mut self.process {
            process.failed.get_or_insert(reason);
        }
    }

    /// Ends its process if its disk has failed; it is started again after a while.
    fn stop_if_failed(&mut self, hub: &mut Hub) -> Verdict {
        if self.process.as_ref().is_some_and(|process| process.is_removed) {
            hub.coverage.hit(match self.is_stranger {
                true => "members of the placement driver told that their directory was lost",
                false => "members of the placement driver told that they were removed",
            });
            return self.retire(hub);
        }
        let Some(reason) = self.process.as_ref().and_then(|process| process.failed.clone()) else {
            return Ok(());
        };
        hub.say(|| format!("placement driver {} stops: {reason}", self.id));
        hub.coverage.hit("placement driver stopped by its disk");
        let down = hub.dice.processes.between(50 * MS, hub.scenario.faults.fault_max);
        self.end_process(hub, self.disk.loss(), down)
    }

    /// Its clock ticks.
    pub fn on_tick(&mut self, hub: &mut Hub, life: u32) -> Verdict {
        if life != self.life || self.process.is_none() {
            return Ok(());
        }
        hub.agenda.after(TICK, Event::PdTick { node: self.id, life });
        self.process.iter_mut().for_each(|process| process.is_tick_due = true);
        self.take_turn(hub)
    }

    /// Its checkpoint is done.
    pub fn on_disk(&mut self, hub: &mut Hub, life: u32, applied: u64) -> Verdict {
        let Some(process) = self.process.as_mut().filter(|_| life == self.life) else {
            return Ok(());
        };
        if process.finish_checkpoint(applied).is_err() {
            process.failed = Some("checkpoint failed".into());
            return self.stop_if_failed(hub);
        }
        self.input(hub, Input::Checkpointed { applied })
    }

    /// The sending of a snapshot has ended.
    pub fn on_snapshot_sent(
        &mut self,
        hub: &mut Hub,
        life: u32,
        (member, is_ok): (u64, bool),
    ) -> Verdict {
        if life != self.life {
            return Ok(());
        }
        self.input(hub, Input::SnapshotSent { member, is_ok })
    }

    /// Its messages to another member were dropped.
    pub fn on_unreachable(&mut self, hub: &mut Hub, member: u32) -> Verdict {
        self.input(hub, Input::Unreachable { member: u64::from(member) })
    }

    fn on_snapshot(&mut self, hub: &mut Hub, packet: Packet) -> Verdict {
        let Body::Snapshot { envelope, rows, life } = packet.body else { return Ok(()) };
        let is_taken = self.process.is_some() && !hub.dice.processes.chance(50);
        if let End::Pd(node) = packet.from {
            let (member, is_ok) = (u64::from(self.id), is_taken);
            let delay = hub.dice.processes.between(MS, 50 * MS);
            hub.agenda.after(delay, Event::PdSnapshotSent { node, life, member, is_ok });
        }
        let Some(process) = self.process.as_mut().filter(|_| is_taken) else { return Ok(()) };
        let staged = process.stage(rows);
        self.input(hub, Input::SnapshotStaged { staged, envelope: *envelope })
    }

    /// A message arrives.
    pub fn arrive(&mut self, hub: &mut Hub, packet: Packet) -> Verdict {
        match packet.body {
            Body::Envelope(envelope) => self.input(hub, Input::Message(*envelope)),
            Body::Snapshot { .. } => self.on_snapshot(hub, packet),
            _ => self.on_request(hub, packet),
        }
    }

    fn on_request(&mut self, hub: &mut Hub, packet: Packet) -> Verdict {
        let Body::PdRequest { asker, request } = packet.body else { return Ok(()) };
        let Some(process) = &mut self.process else {
            if hub.dice.processes.chance(500) {
                hub.send(self.end(), packet.from, Body::PdReply { asker, reply: None });
            }
            return Ok(());
        };
        let id = RequestId(process.next_request);
        process.next_request += 1;
        process.callers.insert(id, (packet.from, asker));
        let request = readable(*request)?;
        if let Asker::Admin { .. } = asker {
            hub.checks.admin.asked(id, request.op.clone());
        }
        self.input(hub, Input::Request { id, request })
    }

    /// Asks it past the network and in no time. None if it is down, or its disk fails at that.
    pub fn ask(
        &mut self,
        hub: &mut Hub,
        op: proto::pd_request::Op,
    ) -> Result<Option<proto::PdReply>, Violation> {
        let request = readable(proto::PdRequest { cluster_id: 0, op: Some(op) })?;
        let Some(process) = &mut self.process else { return Ok(None) };
        process.inbox.push_back(Input::Request { id: ASKED, request });
        let mut reply = None;
        // What came before it is done first, and few entries are applied at once if bounds are
        // small.
        for _ in 0..ASKED_TURNS_MAX {
            self.finish_sync(hub)?;
            reply = self.turn(hub, true)?;
            self.stop_if_failed(hub)?;
            if reply.is_some() || self.process.is_none() {
                break;
            }
        }
        Ok(reply)
    }

    /// Asks it past the network, to be answered in its time.
    pub fn put_question(
        &mut self,
        hub: &mut Hub,
        id: RequestId,
        op: proto::pd_request::Op,
    ) -> Verdict {
        let request = readable(proto::PdRequest { cluster_id: 0, op: Some(op) })?;
        self.input(hub, Input::Request { id, request })
    }

    /// Asks it to remove a voter, if it leads and hears no majority of the others. False unless it
    /// has decided on that at once: later it may hear more.
    pub fn ask_too_much(&mut self, hub: &mut Hub, id: RequestId) -> Result<bool, Violation> {
        let leading = self.process.as_ref().filter(|process| process.pd.is_leading());
        let Some(process) = leading.filter(|process| process.inbox.is_empty()) else {
            return Ok(false);
        };
        let told = process.pd.told_members(process.clock.millis(hub.now())).members;
        let voters: Vec<_> = told.iter().filter(|member| !member.is_learner).collect();
        let is_needed = |target: u64| {
            let others = voters.iter().filter(|voter| voter.id != target);
            let heard = others.filter(|voter| !voter.is_silent).count();
            heard * 2 < voters.len()
        };
        let others = voters.iter().map(|voter| voter.id).filter(|voter| *voter != process.pd.id());
        let Some(target) = others.into_iter().find(|voter| is_needed(*voter)) else {
            return Ok(false);
        };
        if process.outputs.is_waiting() {
            return Ok(false);
        }
        let change = proto::change_members_request::Kind::Remove(target);
        let request = proto::ChangeMembersRequest { kind: Some(change) };
        self.put_question(hub, id, proto::pd_request::Op::ChangeMembers(request))?;
        hub.coverage.hit("removals of placement drivers that are needed");
        Ok(self.process.as_ref().is_some_and(|process| !process.pd.awaits_confirmation(id)))
    }

    /// The answer to a question; None before there is one.
    pub fn answer(&self, id: RequestId) -> Option<&proto::PdReply> {
        self.process.as_ref()?.answers.get(&id)
    }

    fn input(&mut self, hub: &mut Hub, input: Input) -> Verdict {
        self.process.iter_mut().for_each(|process| process.inbox.push_back(input.clone()));
        self.take_turn(hub)
    }

    /// Lets the thread take a turn, unless it waits for a sync.
    fn take_turn(&mut self, hub: &mut Hub) -> Verdict {
        if self.process.as_ref().is_some_and(|process| !process.outputs.is_waiting()) {
            return self.go_on(hub);
        }
        Ok(())
    }

    fn go_on(&mut self, hub: &mut Hub) -> Verdict {
        self.turn(hub, false)?;
        self.stop_if_failed(hub)?;
        if let Some(process) = &self.process {
            let regions = hub.checks.model.region_count();
            hub.checks.memory.observe_pd(&process.pd, regions)?;
        }
        let Some(process) = &self.process else { return Ok(()) };
        match process.pd.leading_term() {
            Some(term) => hub.checks.epochs.seen_in_pd(term, process.pd.state().regions()),
            None => Ok(()),
        }
    }

    /// Takes turns until nothing waits for the thread or the thread waits for a sync; if it
    /// `hurries`, syncs take no time. Answers what was replied to [`ASKED`].
    fn turn(&mut self, hub: &mut Hub, hurries: bool) -> Result<Option<proto::PdReply>, Violation> {
        let mut asked = None;
        loop {
            let Some(process) = &mut self.process else { return Ok(asked) };
            if process.outputs.is_waiting() || process.failed.is_some() || process.is_removed {
                return Ok(asked);
            }
            let count = process.inbox.len().min(TURN_INPUTS_MAX);
            let mut inputs: Vec<Input> = process.inbox.drain(..count).collect();
            inputs.extend(std::mem::take(&mut process.is_tick_due).then_some(Input::Tick));
            let reply = self.run(hub, hurries, |outputs, io| {
                inputs.into_iter().for_each(|input| outputs.step(io, input));
                carry_out::end_turn(outputs, io);
            })?;
            asked = asked.or(reply);
            if self.process.as_ref().is_none_or(|process| process.inbox.is_empty()) {
                return Ok(asked);
            }
        }
    }

    /// Lets the loop that ships run over this member. Answers what was replied to [`ASKED`].
    fn run(
        &mut self,
        hub: &mut Hub,
        hurries: bool,
        act: impl FnOnce(&mut Outputs, &mut Thread<'_>),
    ) -> Result<Option<proto::PdReply>, Violation> {
        let name = self.name();
        let Some(process) = &mut self.process else { return Ok(None) };
        let mut outputs = std::mem::take(&mut process.outputs);
        let life = Life { node: self.id, life: self.life };
        let mut thread = Thread::new(life, process, &mut self.disk, hub);
        thread.hurries = hurries;
        thread.is_stranger = self.is_stranger;
        act(&mut outputs, &mut thread);
        let asked = thread.end();
        process.outputs = outputs;
        let asked = asked?;
        hub.checks.observe_member(name, &self.disk.log, &process.pd)?;
        Ok(asked)
    }
}

/// The request that a message on the wire holds.
fn readable(request: proto::PdRequest) -> Result<PdRequest, Violation> {
    PdRequest::try_from(request).map_err(|error| Violation {
        invariant: "what the simulator asks the placement driver can be read",
        what: error.to_string(),
    })
}
