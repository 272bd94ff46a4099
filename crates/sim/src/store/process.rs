//! One life of a store's process: what the worker's thread owns, and what it does with one input,
//! message, answer or heartbeat.
//!
//! Not here: the turn, and the loop that carries outputs out (`thread`).

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_engine::{LogStore, StateStore};
use flotilla_host::core::mailbox::{Lane, Mailbox};
use flotilla_host::core::message::Envelope;
use flotilla_host::core::pace::Pace;
use flotilla_store::core::carry_out::Outputs;
use flotilla_store::core::worker::Worker;
use flotilla_store::core::{Answer, Event as StoreEvent, Input, Op, Output, Request, RequestId};
use flotilla_types::{MemberRole, Millis, PeerId, Region, RegionError, RegionId, StoreId, proto};

use crate::check::group::Node;
use crate::check::model::MEMBERSHIP;
use crate::check::{Sight, Verdict, broken};
use crate::clock::Clock;
use crate::event::{Asker, AttemptId, Body, ClientRequest, End, Event, Packet, Relief};
use crate::hub::Hub;
use crate::limits;
use crate::time::{MS, Micros};

use super::addresses::{AddressBook, Found};
use super::cost::{self, Debt};
use super::disk::Disk;
use super::jobs::DiskThread;
use super::orders::Waiting;
use super::reading::Readings;

/// A heartbeat's call is made twice, three seconds each, before it is given up (`PdCaller`).
const HEARTBEAT_LATE: Micros = 3_000 * MS;

/// A voter that wrote within this time could lead; [`Process::handed_over`] looks at it.
const RECENT_MS: u64 = 1_000;

/// What waits for the thread.
pub enum Mail {
    /// An input.
    Input(Box<Input>),
    /// A client's request, with its deadline.
    Request(Box<ClientRequest>, Millis),
    /// The disk thread met a failure.
    Failed(String),
}

/// What an input asks for that is counted.
enum Asked {
    Nothing,
    /// A read.
    Read(RequestId),
    /// That a peer of the region live which was removed.
    ToLive(RegionId, PeerId),
}

impl Asked {
    fn by(input: &Input, is_dead: impl Fn(RegionId, PeerId) -> bool) -> Asked {
        match input {
            Input::Request(request) if !matches!(request.op, Op::Write(_)) => {
                Asked::Read(request.id)
            }
            Input::Envelope(envelope) | Input::SnapshotStaged { envelope, .. } => {
                let region = envelope.region_id;
                let peer = PeerId(envelope.to.member);
                let brings_to_life = super::envelope::creates(envelope) && is_dead(region, peer);
                if brings_to_life { Asked::ToLive(region, peer) } else { Asked::Nothing }
            }
            _ => Asked::Nothing,
        }
    }
}

/// A heartbeat that was not answered yet.
struct Beat {
    number: u64,
    is_repeated: bool,
    heartbeat: proto::StoreHeartbeat,
}

/// The process.
pub struct Process {
    /// Whose.
    pub id: StoreId,
    /// Which life.
    pub life: u32,
    /// Its clock.
    pub clock: Clock,
    /// Its core.
    pub worker: Worker,
    /// Its state.
    pub state: Arc<StateStore>,
    /// Its disk thread.
    pub jobs: DiskThread,
    /// Its thread stands still until then.
    pub paused_until: Micros,
    /// What the nemesis adds to the placement driver's next answer.
    pub waiting_orders: Waiting,
    /// True if it was told that it is about to stop.
    pub is_leaving: bool,
    /// What [`Process::could_lead`] was before the last tick, of a process that leaves.
    had_followers: Vec<RegionId>,
    /// Why it cannot go on; its process ends as soon as the world looks.
    pub failed: Option<String>,
    /// When its clock began.
    pub born: Micros,
    /// The stores whose addresses it knows.
    pub addresses: AddressBook,
    pub(super) inbox: Mailbox<Mail>,
    replies: BTreeMap<RequestId, AttemptId>,
    pub(super) next_request: RequestId,
    pub(super) readings: Readings,
    pub(super) pace: Pace,
    pub(super) debt: Debt,
    pub(super) wake_at: Option<Micros>,
    pub(super) outputs: Outputs,
    /// Regions whose members were changed in this turn, and the first entry that it applied.
    pub(super) changed: Vec<(RegionId, u64)>,
    beat: Option<Beat>,
    /// Where the placement driver's members listen, as the worker was told last.
    told_pd: Vec<String>,
    beats: u64,
}

impl Process {
    /// A process that has not run yet, whose thread ticks every `tick` by its clock.
    pub fn new(
        (id, life): (StoreId, u32),
        (clock, tick): (Clock, Micros),
        worker: Worker,
        state: Arc<StateStore>,
    ) -> Process {
        Process {
            id,
            life,
            clock,
            worker,
            state: state.clone(),
            jobs: DiskThread::new(id, life, state),
            paused_until: 0,
            waiting_orders: Waiting::default(),
            is_leaving: false,
            had_followers: vec![],
            failed: None,
            born: 0,
            addresses: AddressBook::default(),
            inbox: Mailbox::default(),
            replies: BTreeMap::new(),
            next_request: RequestId(1),
            readings: Readings::default(),
            pace: Pace::begin(tick, 0),
            debt: Debt::default(),
            wake_at: None,
            outputs: Outputs::default(),
            changed: vec![],
            beat: None,
            told_pd: vec![],
            beats: 0,
        }
    }

    /// Requests that were not answered.
    pub fn into_open_requests(self) -> Vec<AttemptId> {
        let waiting = self.inbox.into_mails().filter_map(|mail| match mail {
            Mail::Request(request, _) => Some(request.attempt),
            Mail::Input(_) | Mail::Failed(_) => None,
        });
        let reading = self.readings.into_attempts();
        self.replies.into_values().chain(reading).chain(waiting).collect()
    }

    /// What the process owes somebody an answer to, in words.
    pub fn owed_replies(&self) -> Option<String> {
        let owed = self.replies.len();
        (owed > 0).then(|| format!("{owed} requests wait for an answer"))
    }

    /// True if the region's log holds a change of members that is not applied here.
    pub fn has_pending_change(&self, disk: &Disk, region: RegionId) -> bool {
        let Some(peer) = self.worker.peer(region) else { return false };
        let Some(bounds) = disk.log.bounds(region.0) else { return false };
        let low = bounds.first.max(peer.applied.index + 1);
        let entries = disk.log.entries(region.0, low, bounds.last + 1, usize::MAX);
        entries.is_ok_and(|entries| entries.iter().any(|entry| entry.kind == MEMBERSHIP))
    }

    /// True if its peer leads the region.
    pub fn leads(&self, region: RegionId) -> bool {
        self.worker.peer(region).is_some_and(|peer| peer.is_leader())
    }

    /// The regions that its peers lead.
    pub fn led(&self) -> impl Iterator<Item = &Region> {
        self.worker.regions().filter(|region| self.leads(region.id))
    }

    /// True while the thread waits for a sync: what it has applied may be forgotten.
    pub fn is_syncing(&self) -> bool {
        self.outputs.is_waiting()
    }

    /// Counts what a crash interrupts.
    pub fn note_crash(&self, hub: &mut Hub) {
        // A sync that failed has ended, and the process with it.
        if self.is_syncing() && self.failed.is_none() {
            hub.coverage.hit("crashes in a sync");
        }
        self.jobs.note_crash(hub);
    }

    /// True if the process can end in good order now: between two turns, with nothing under way.
    pub fn can_stop(&self) -> bool {
        let is_between_turns = self.outputs.is_empty() && !self.pace.is_in_turn();
        is_between_turns && self.failed.is_none() && self.jobs.is_idle()
    }

    /// Puts mail into the inbox.
    pub fn put(&mut self, hub: &mut Hub, mail: Mail) {
        let lane = match &mail {
            Mail::Input(_) | Mail::Failed(_) => Lane::Consensus,
            Mail::Request(..) => Lane::Requests,
        };
        self.inbox.put(lane, mail);
        // The thread takes a moment to wake; what comes in meanwhile shares its turn.
        let at = hub.now() + hub.dice.processes.between(5, 100);
        self.wake(hub, at);
    }

    /// Sees to it that the thread wakes at `at`, or sooner.
    pub(super) fn wake(&mut self, hub: &mut Hub, at: Micros) {
        if self.wake_at.is_none_or(|earlier| at < earlier) {
            self.wake_at = Some(at);
            let (store, life) = (self.id, self.life);
            hub.agenda.at(at, Event::Wake { store, life, at });
        }
    }

    /// The thread does not stand still any more.
    pub fn resume(&mut self, hub: &mut Hub) {
        self.paused_until = 0;
        self.wake_at = None;
        let now = hub.now();
        self.wake(hub, now);
        if self.outputs.is_waiting() {
            let (store, life) = (self.id, self.life);
            hub.agenda.after(MS, Event::Synced { store, life });
        }
    }

    /// Its clock jumps forward: what was to happen in between is due.
    pub fn jump(&mut self, hub: &mut Hub, by: Micros) {
        let now = hub.now();
        self.clock.jump(now, by);
        self.wake_at = None;
        self.wake(hub, now);
    }

    /// The attempt waits for the answer to the request `id`.
    pub(super) fn answer_to(&mut self, id: RequestId, attempt: AttemptId) {
        self.replies.insert(id, attempt);
    }

    /// The mail as an input; None if it ends the process.
    pub(super) fn open_mail(&mut self, hub: &mut Hub, mail: Mail) -> Option<Input> {
        match mail {
            Mail::Input(input) => Some(*input),
            Mail::Failed(reason) => {
                self.fail(hub, reason);
                None
            }
            Mail::Request(request, deadline) => {
                let id = self.next_request;
                self.next_request = RequestId(id.0 + 1);
                self.replies.insert(id, request.attempt);
                let ClientRequest { region, epoch, op, .. } = *request;
                let request = Request { id, region, epoch, deadline, op };
                hub.checks.note_request(self.id, &request);
                hub.checks.replies.taken_up(self.id, id, deadline);
                Some(Input::Request(request))
            }
        }
    }

    /// The process is about to stop: it hands its leaderships on first.
    pub fn leave(&mut self, hub: &mut Hub) {
        self.is_leaving = true;
        hub.coverage.hit("stores that hand leaderships on");
        self.put(hub, Mail::Input(Box::new(Input::HandOver)));
    }

    /// The regions that are led from here and that others could lead.
    fn could_lead(&self, now: Millis) -> Vec<RegionId> {
        let ours = self.id;
        let others_live = |region: &&Region| {
            let peer = self.worker.peer(region.id).expect("it is led");
            let progress = peer.group.progress();
            let voters = region.members.iter().filter(|member| member.role == MemberRole::Voter);
            let mut others = voters.filter(|voter| voter.store_id != ours);
            others.any(|voter| {
                let follows = progress.iter().any(|m| m.peer == voter.id.0 && !m.needs_snapshot);
                follows && peer.is_recently_active(voter.id, now, RECENT_MS)
            })
        };
        self.led().filter(others_live).map(|region| region.id).collect()
    }

    /// The store says that nobody waits for it: it stops soon.
    pub(super) fn handed_over(&mut self, hub: &mut Hub) -> Verdict {
        const INVARIANT: &str = "nobody waits for a store that has handed over";
        hub.coverage.hit("stores that have handed leaderships on");
        let owed = hub.checks.replies.owed(self.id);
        if owed > 0 {
            return broken(INVARIANT, format!("store {}: {owed} callers wait", self.id));
        }
        // By which tick the store decided: what it hears later in the same turn it cannot know
        // then, and what it led before the tick it may have given up in it.
        let now = self.clock.millis(hub.now());
        let still = self.could_lead(now);
        if let Some(region) = self.had_followers.iter().find(|region| still.contains(region)) {
            let what = format!("store {} leads {region}, which others could lead", self.id);
            return broken(INVARIANT, what);
        }
        let delay = hub.dice.processes.between(0, 100 * MS);
        hub.agenda.after(delay, Event::Relief(Relief::Crash(self.id)));
        Ok(())
    }

    /// The process cannot go on.
    pub(super) fn fail(&mut self, hub: &Hub, reason: String) {
        hub.say(|| format!("store {} stops: {reason}", self.id));
        self.failed.get_or_insert(reason);
    }

    /// Counts what an input came to that the cores tell nobody of.
    fn note_step(&self, hub: &mut Hub, asked: &Asked, outputs: &[Output]) {
        for output in outputs {
            if let Output::Reply { result: Err(RegionError::ServerBusy { .. }), .. } = output {
                hub.coverage.hit("requests refused by a busy store");
            }
        }
        match asked {
            Asked::Nothing => {}
            Asked::Read(read) => {
                let answer = outputs.iter().find_map(|output| match output {
                    Output::Reply { id, result } if id == read => Some(result.is_ok()),
                    _ => None,
                });
                match answer {
                    Some(true) => hub.coverage.hit("reads under the lease"),
                    Some(false) => {}
                    // Only a leader lets a read wait, and only if its lease does not hold.
                    None => hub.coverage.hit("reads that the lease refused"),
                }
            }
            Asked::ToLive(region, dead) => {
                if self.worker.peer(*region).is_none_or(|peer| peer.id != *dead) {
                    hub.coverage.hit("resurrections refused");
                }
            }
        }
    }

    /// A refusal that tells of a split names both parts, as far as the store has them: its caller
    /// must find the keys that have moved, whoever is away.
    fn check_refusals(&self, outputs: &[Output]) -> Verdict {
        for output in outputs {
            let Output::Reply { result: Err(RegionError::EpochNotMatch { current }), .. } = output
            else {
                continue;
            };
            if let [only] = current.as_slice()
                && !only.range.end.is_empty()
                && let Some((next, _)) = self.worker.routes(&only.range.end, 1).routes.first()
            {
                let what = format!("store {}: {} and not {}", self.id, only.id, next.id);
                return broken("who is told of a split is told of both parts", what);
            }
        }
        Ok(())
    }

    /// Steps the core, and checks what it puts out.
    pub(super) fn step(
        &mut self,
        hub: &mut Hub,
        disk: &Disk,
        input: Input,
        out: &mut Vec<Output>,
    ) -> Verdict {
        let now = self.clock.millis(hub.now());
        hub.trace.add(&[hub.agenda.now(), self.id.0, now.0, input_number(&input)]);
        let first = out.len();
        let request = if let Input::Request(request) = &input {
            Some((request.id, request.region))
        } else {
            None
        };
        let ends_turn = matches!(input, Input::Flush | Input::Persisted { .. });
        let asked =
            Asked::by(&input, |region, peer| hub.checks.tombstones.is_dead(self.id, region, peer));
        hub.checks.views.takes(self.id, now, &input);
        hub.checks.pd_addrs.takes(self.id, &input);
        let is_tick = matches!(input, Input::Tick);
        if is_tick {
            hub.checks.replies.ticks(self.id, now)?;
            if self.is_leaving {
                self.had_followers = self.could_lead(now);
            }
        }
        self.debt.add(cost::of_input(&hub.scenario.cost, &input));
        self.worker.step(now, input, out);
        let outputs = out.get(first..).unwrap_or_default();
        self.debt.add(cost::of_outputs(&hub.scenario.cost, &mut hub.dice.disks, outputs));
        hub.checks.views.gives(self.id, now, outputs, |region| self.leads(region))?;
        hub.checks.pd_addrs.gives(self.id, outputs);
        self.changed.extend(outputs.iter().filter_map(|output| match output {
            Output::Event(event) => match &**event {
                StoreEvent::MembersChanged { region } => {
                    Some((region.id, hub.checks.applied(self.id, region.id) + 1))
                }
                _ => None,
            },
            _ => None,
        }));
        self.note_step(hub, &asked, outputs);
        self.check_refusals(outputs)?;
        if is_tick {
            let given_up = hub.checks.replies.given_up(self.id, now, outputs);
            hub.coverage.add("writes of a lost leadership given up", given_up);
        }
        hub.trace.add(&[outputs.len() as u64]);
        hub.checks.note_outputs(self.id, outputs)?;
        let (request, region) = request.unzip();
        hub.checks.note_answers(self.id, &self.worker, outputs, request)?;
        if let Some(peer) = region.and_then(|region| self.worker.peer(region)) {
            hub.checks.memory.queued(peer)?;
        }
        if ends_turn { self.observe(hub, disk) } else { Ok(()) }
    }

    /// Lets the checkers look at the store.
    pub(super) fn observe(&self, hub: &mut Hub, disk: &Disk) -> Verdict {
        let stamp = hub.agenda.stamp();
        hub.checks.observe(&Sight {
            stamp,
            now: self.clock.millis(hub.now()),
            store: self.id,
            worker: &self.worker,
            log: &disk.log,
            state: &self.state,
        })
    }

    /// Sends a message to another store.
    pub(super) fn send(&mut self, hub: &mut Hub, to: StoreId, envelope: Envelope) -> Verdict {
        hub.checks.ballots.leaves(Node::Store(self.id), &envelope)?;
        hub.trace.add(&super::envelope::numbers(&envelope));
        hub.spring_ambush(self.id, &envelope);
        let body = Body::Envelope(Box::new(envelope));
        let link = (End::Store(self.id), End::Store(to));
        match self.addresses.look_up(to, hub.now()) {
            Found::Known => {}
            Found::Unknown { is_to_report } => {
                hub.coverage.hit("messages to stores whose address is not known");
                if is_to_report {
                    self.put(hub, Mail::Input(Box::new(Input::Unreachable { store: to })));
                }
                return Ok(());
            }
        }
        // Connections tell their senders themselves.
        let is_cut = hub.net.is_cut(link) && !hub.net.has_connections();
        self.depart(hub, link.1, body);
        if is_cut && hub.dice.processes.chance(100) {
            self.put(hub, Mail::Input(Box::new(Input::Unreachable { store: to })));
        }
        Ok(())
    }

    /// Sends a message once the work so far is done.
    fn depart(&self, hub: &mut Hub, to: End, body: Body) {
        let from = End::Store(self.id);
        if !self.debt.is_large() {
            hub.send(from, to, body);
            return;
        }
        let (store, life) = (self.id, self.life);
        let packet = Box::new(Packet { from, to, body });
        hub.agenda.after(self.debt.owed(), Event::Depart { store, life, packet });
    }

    /// Answers a client.
    pub(super) fn reply(
        &mut self,
        hub: &mut Hub,
        id: RequestId,
        result: Result<Answer, RegionError>,
    ) -> Verdict {
        hub.checks.replies.replied(self.id, id)?;
        let Some(attempt) = self.replies.remove(&id) else { return Ok(()) };
        if let Some(mark) = limits::met(&result) {
            hub.coverage.hit(mark);
        }
        let to = End::Client(attempt.client);
        hub.trace.add(&[id.0, u64::from(result.is_ok())]);
        hub.checks.note_reply(self.id, id, &result, hub.agenda.now());
        let body = Body::Reply { attempt, result: Box::new(result) };
        self.depart(hub, to, body);
        Ok(())
    }

    pub(super) fn heartbeat(
        &mut self,
        hub: &mut Hub,
        mut heartbeat: proto::StoreHeartbeat,
    ) -> Verdict {
        hub.checks.memory.sends_reports(self.id, &heartbeat.reports)?;
        self.beats += 1;
        if heartbeat.reports.len() >= hub.bounds.store.reports.reports_max {
            hub.coverage.hit("heartbeats full of reports");
        }
        heartbeat.capacity_bytes = 1 << 30;
        self.beat = Some(Beat { number: self.beats, is_repeated: false, heartbeat });
        self.send_beat(hub);
        Ok(())
    }

    fn send_beat(&mut self, hub: &mut Hub) {
        let Some(beat) = &self.beat else { return };
        let (store, life, number) = (self.id, self.life, beat.number);
        let asker = Asker::Heartbeat { store, life, number };
        let op = proto::pd_request::Op::Heartbeat(beat.heartbeat.clone());
        let request = proto::PdRequest { cluster_id: 0, op: Some(op) };
        hub.ask_pd(End::Store(store), asker, request);
        hub.agenda.after(HEARTBEAT_LATE, Event::HeartbeatLate { store, life, number });
    }

    /// A heartbeat was not answered: it is sent once more, then given up.
    pub fn on_heartbeat_late(&mut self, hub: &mut Hub, number: u64) {
        let Some(beat) = self.beat.as_mut().filter(|beat| beat.number == number) else { return };
        hub.coverage.hit("heartbeats late");
        if !std::mem::replace(&mut beat.is_repeated, true) {
            self.send_beat(hub);
            return;
        }
        self.on_heartbeat_reply(hub, number, None);
    }

    /// A heartbeat's call is over: the worker is told where members listen, if that is news.
    fn tell_pd_addrs(&mut self, hub: &mut Hub) {
        let learned = hub.learned_pd(self.id);
        if learned != self.told_pd {
            self.told_pd.clone_from(&learned);
            self.put(hub, Mail::Input(Box::new(Input::PdAddrs(learned))));
        }
    }

    /// The placement driver has answered, or not.
    pub fn on_heartbeat_reply(
        &mut self,
        hub: &mut Hub,
        number: u64,
        mut reply: Option<proto::HeartbeatReply>,
    ) {
        if self.beat.as_ref().is_some_and(|beat| beat.number == number) {
            self.beat = None;
            self.tell_pd_addrs(hub);
            if let Some(reply) = &mut reply {
                self.waiting_orders.add_to(hub, (self.id, &self.worker), reply);
            }
            // A reply that cannot be read counts as none, as in the driver.
            let reply = reply.map(Into::into);
            self.put(hub, Mail::Input(Box::new(Input::HeartbeatReply(reply))));
        }
    }

    /// Tells people what happened, and counts it.
    pub(super) fn note(&self, hub: &mut Hub, disk: &Disk, event: &StoreEvent) {
        hub.say(|| super::told::tell_event(self.id, event));
        hub.checks.quiet.happens(hub.agenda.now(), || super::told::tell_event(self.id, event));
        if let StoreEvent::BecameLeader { region, .. } = event {
            hub.elected.push(*region);
            if self.has_pending_change(disk, *region) {
                hub.coverage.hit("elections with a change of members pending");
            }
            if self.worker.peer(*region).is_some_and(|peer| peer.region.is_joint()) {
                hub.coverage.hit("elections during a joint change");
            }
        }
        if let StoreEvent::FirstRegion { .. } = event {
            hub.lure_impostor(self.id);
        }
        if let StoreEvent::MembersChanged { region } = event
            && region.is_joint()
        {
            hub.coverage.hit("joint changes entered");
            hub.strike_joint(self.id);
        }
        match event {
            StoreEvent::BecameLeader { .. }
            | StoreEvent::EntriesHeldBack { .. }
            | StoreEvent::EntriesRefused { .. } => {}
            // Most of them, and the least to lose.
            StoreEvent::MembersChanged { .. } if !hub.dice.processes.chance(200) => {}
            _ => hub.strike(self.id),
        }
        if let StoreEvent::SnapshotInstalled { .. } = event {
            hub.checks.recovery.installs(self.id);
        }
        let mark = match event {
            StoreEvent::BecameLeader { .. } => "elections",
            StoreEvent::FirstRegion { .. } => "peers of the first region created",
            StoreEvent::Split { .. } => "splits",
            StoreEvent::MembersChanged { .. } => "members changed",
            StoreEvent::PeerCreated { .. } => "peers created by messages",
            StoreEvent::PeerDestroyed { .. } => "peers destroyed",
            StoreEvent::SnapshotInstalled { .. } => "snapshots installed",
            StoreEvent::EntriesHeldBack { .. } => "followers that held entries back",
            StoreEvent::EntriesRefused { .. } => "appends refused under pressure",
        };
        hub.coverage.hit(mark);
        if mark == "splits" && hub.snapshots_flying > 0 {
            hub.coverage.hit("splits during a snapshot");
        }
    }
}

fn input_number(input: &Input) -> u64 {
    match input {
        Input::Tick => 1,
        Input::Request(request) => 2 + (request.region.0 << 8),
        Input::Envelope(_) => 3,
        Input::SnapshotStaged { staged, .. } => 4 + (staged.0 << 8),
        Input::SnapshotSent { region, is_ok, .. } => 5 + (region.0 << 9) + (u64::from(*is_ok) << 8),
        Input::Unreachable { store } => 6 + (store.0 << 8),
        Input::StoreAddrs(told) => 12 + ((told.len() as u64) << 8),
        Input::PdAddrs(told) => 14 + ((told.len() as u64) << 8),
        Input::HeartbeatReply(reply) => 7 + (u64::from(reply.is_some()) << 8),
        Input::Persisted { turn } => 8 + (turn << 8),
        Input::Checkpointed { number } => 9 + (number << 8),
        Input::Flush => 10,
        Input::Stop => 11,
        Input::HandOver => 13,
    }
}
