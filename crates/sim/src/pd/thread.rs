//! The thread of one member while the loop that ships runs over it: its log and checkpoints go to
//! the simulated disk, its replies to the network, and its events to the trace and the checkers.

use std::collections::BTreeMap;

use flotilla_engine::LogBatch;
use flotilla_host::core::carry_out::{Io, Written};
use flotilla_host::core::message::{Address, Envelope, StagedId};
use flotilla_pd::core::carry_out::PdIo;
use flotilla_pd::core::state::State;
use flotilla_pd::core::{Event as PdEvent, Input, Output, Pd, RequestId};
use flotilla_types::heartbeat::StoreHeartbeat;
use flotilla_types::placement::{PdError, PdOp, PdReply, PdRequest};
use flotilla_types::{Millis, proto};

use super::process::{Checkpoint, Process};
use crate::check::admin::Step;
use crate::check::group::Node;
use crate::check::operators::PdSight;
use crate::check::{Verdict, Violation, broken, keep};
use crate::event::{Body, End, Event};
use crate::hub::Hub;
use crate::store::disk::{Disk, Done};
use crate::time::MS;

/// What is asked past the network and in no time has this id; requests from the network count from
/// 1.
pub const ASKED: RequestId = RequestId(0);

/// What is asked past the network, to be answered in its time, has a number from here on.
pub const QUESTIONS: u64 = 1 << 60;

/// A process of one member.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// The member.
    pub node: u32,
    /// The number of its process.
    pub life: u32,
}

/// A member while its thread runs, and what it shares with the world.
pub struct Thread<'a> {
    life: Life,
    process: &'a mut Process,
    disk: &'a mut Disk,
    hub: &'a mut Hub,
    /// True if syncs take no time.
    pub hurries: bool,
    /// True if its directory was lost, and it has a new one.
    pub is_stranger: bool,
    /// What was replied to [`ASKED`].
    asked: Option<proto::PdReply>,
    /// The first thing that must never be.
    verdict: Verdict,
}

impl<'a> Thread<'a> {
    /// The thread of this process.
    pub(super) fn new(
        life: Life,
        process: &'a mut Process,
        disk: &'a mut Disk,
        hub: &'a mut Hub,
    ) -> Thread<'a> {
        Thread {
            life,
            process,
            disk,
            hub,
            hurries: false,
            is_stranger: false,
            asked: None,
            verdict: Ok(()),
        }
    }

    /// What was replied to [`ASKED`], or the first violation.
    pub fn end(self) -> Result<Option<proto::PdReply>, Violation> {
        self.verdict.map(|()| self.asked)
    }

    fn end_point(&self) -> End {
        End::Pd(self.life.node)
    }

    fn name(&self) -> Node {
        Node::Pd(u64::from(self.life.node))
    }

    /// Keeps the first violation, which ends the loop.
    fn note(&mut self, verdict: Verdict) {
        keep(&mut self.verdict, verdict).ok();
    }

    /// Tells the checker of administration of a heartbeat that the member took at once in this
    /// step. Answers those that waited and were decided on, which it is told of in their turn.
    fn note_beats(
        &mut self,
        given: Option<&(RequestId, StoreHeartbeat)>,
        outputs: &[Output],
    ) -> BTreeMap<RequestId, StoreHeartbeat> {
        let Thread { life, process, hub, .. } = self;
        let (now, member) = (hub.now(), u64::from(life.node));
        let began =
            |output: &Output| matches!(output, Output::Event(PdEvent::LeadershipBegan { .. }));
        if outputs.iter().any(began) {
            hub.checks.admin.led();
        }
        let is_refused = |id: RequestId| {
            let mut outputs = outputs.iter();
            outputs.any(
                |output| matches!(output, Output::Reply { id: of, reply: Err(_) } if *of == id),
            )
        };
        let is_ignored = |id: RequestId| {
            outputs.windows(2).any(|two| {
                matches!(two, [
                    Output::Event(PdEvent::HeartbeatOvertaken { .. }),
                    Output::Reply { id: of, .. },
                ] if *of == id)
            })
        };
        let is_taken = |id: RequestId| {
            !is_refused(id) && !process.pd.awaits_confirmation(id) && !is_ignored(id)
        };
        match given {
            Some((id, beat)) if is_taken(*id) => hub.checks.admin.beat(beat, now),
            Some((id, beat)) if is_refused(*id) && process.pd.is_leading() => {
                hub.checks.admin.unsure(beat, now);
            }
            Some(_) | None => {}
        }
        let waited = |id| hub.checks.orders.operators.get(&member)?.waits(id).cloned();
        let refused: Vec<StoreHeartbeat> = outputs
            .iter()
            .filter_map(|output| match output {
                Output::Event(PdEvent::Decides { id }) if is_refused(*id) => waited(*id),
                _ => None,
            })
            .collect();
        refused.iter().for_each(|beat| hub.checks.admin.unsure(beat, now));
        let known = hub.checks.orders.operators.get(&member);
        let decided = outputs.iter().filter_map(|output| match output {
            Output::Event(PdEvent::Decides { id }) if !is_refused(*id) => {
                Some((*id, known?.waits(*id).filter(|_| !is_ignored(*id))?.clone()))
            }
            _ => None,
        });
        decided.collect()
    }

    fn check_answers(
        &mut self,
        before: &State,
        decided: &BTreeMap<RequestId, StoreHeartbeat>,
        outputs: &[Output],
    ) -> Verdict {
        let scenario = &self.hub.scenario.cluster;
        let step = Step {
            before,
            pd: &self.process.pd,
            now: self.hub.agenda.now(),
            disconnected_after_ms: scenario.disconnected_after_ms,
            down_after_ms: scenario.down_after_ms,
        };
        self.hub.checks.admin.answered(&step, decided, outputs)
    }

    fn try_write(&mut self, batch: LogBatch, sync: bool) -> Result<Written, Violation> {
        if let Done::Failed(reason) = self.disk.write(batch.clone())? {
            return Ok(Written::Failed(reason.into()));
        }
        self.hub.checks.ballots.write(self.name(), batch);
        if !sync {
            return Ok(Written::Done);
        }
        if self.hurries {
            return Ok(match self.disk.sync()? {
                Done::Well => {
                    self.hub.checks.ballots.sync(self.name())?;
                    Written::Done
                }
                Done::Failed(reason) => Written::Failed(reason.into()),
            });
        }
        let (Life { node, life }, delay) = (self.life, self.hub.sync_time());
        self.hub.agenda.after(delay, Event::PdSynced { node, life });
        Ok(Written::Later)
    }
}

impl Io<Pd> for Thread<'_> {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        let now: Millis = self.process.clock.millis(self.hub.now());
        let first = out.len();
        let heartbeat = heartbeat(&input);
        let before = self.hub.checks.admin.is_waiting().then(|| self.process.pd.state().clone());
        let member = u64::from(self.life.node);
        self.hub.checks.orders.fresh.takes(member, &input);
        self.process.pd.step(now, input, out);
        let outputs = out.get(first..).unwrap_or_default();
        let (applied, _) = self.process.pd.applied_and_durable();
        let verdict = self.hub.checks.orders.fresh.put_out(member, applied, outputs);
        self.note(verdict);
        let decided = self.note_beats(heartbeat.as_ref(), outputs);
        if let Some(before) = before {
            let verdict = self.check_answers(&before, &decided, outputs);
            self.note(verdict);
        } else {
            let now = self.hub.now();
            decided.values().for_each(|beat| self.hub.checks.admin.beat(beat, now));
        }
        let count = outputs.len() as u64;
        let number = self.end_point().number();
        self.hub.trace.add(&[self.hub.agenda.now(), number, count]);
        for output in outputs {
            if let Output::Failed { reason } = output {
                self.note(broken("the placement driver does not give up", reason.clone()));
            }
        }
        let cluster = &self.hub.scenario.cluster;
        let (down_after_ms, replica_count) = (cluster.down_after_ms, cluster.replica_count);
        let sight = PdSight { pd: &self.process.pd, now, down_after_ms, replica_count };
        let verdict = self.hub.checks.orders.put_out(&sight, heartbeat.as_ref(), outputs);
        self.note(verdict);
    }

    fn send(&mut self, message: Envelope) {
        if self.is_stranger
            && matches!(message.body, flotilla_host::core::message::Body::Message(_))
        {
            let verdict = broken(
                "a placement driver whose directory was lost takes part in nothing",
                format!("{message:?}"),
            );
            self.note(verdict);
        }
        if let Some(to) = end_of(&message) {
            self.hub.send(self.end_point(), to, Body::Envelope(Box::new(message)));
        }
    }

    fn flush_messages(&mut self) {}

    fn write_log(&mut self, _turn: u64, batch: LogBatch, sync: bool) -> Written {
        let tried = self.try_write(batch, sync);
        keep(&mut self.verdict, tried).unwrap_or_else(Written::Failed)
    }

    fn fail(&mut self, reason: String) {
        self.process.failed.get_or_insert(reason);
    }

    fn has_failed(&self) -> bool {
        self.verdict.is_err() || self.process.failed.is_some() || self.process.is_removed
    }
}

impl PdIo for Thread<'_> {
    fn reply(&mut self, id: RequestId, reply: Result<PdReply, PdError>) {
        if id == ASKED && self.asked.is_none() {
            self.asked = Some(reply.into());
            return;
        }
        if id.0 >= QUESTIONS {
            self.process.answers.insert(id, reply.into());
            return;
        }
        let Some((to, asker)) = self.process.callers.remove(&id) else {
            let what = format!("placement driver: {id:?} once more: {reply:?}");
            return self.note(broken("a request is answered once", what));
        };
        let mut reply = proto::PdReply::from(reply);
        reply.pd_addrs.clone_from(&self.process.member_addrs);
        let reply = Some(Box::new(reply));
        self.hub.send(self.end_point(), to, Body::PdReply { asker, reply });
    }

    fn checkpoint(&mut self, applied: u64, exports: bool, install: Option<StagedId>) {
        self.process.checkpoint = Some(Checkpoint { exports, install });
        let (Life { node, life }, delay) = (self.life, self.hub.disk_time());
        self.hub.agenda.after(delay, Event::PdDisk { node, life, applied });
    }

    fn send_snapshot(&mut self, envelope: Envelope, number: u64) {
        let member = envelope.to.member;
        let rows = self.process.rows(number);
        let is_sent = match (rows, end_of(&envelope)) {
            (Some(rows), Some(to)) => {
                let (envelope, life) = (Box::new(envelope), self.life.life);
                self.hub.coverage.hit("snapshots of the placement driver");
                self.hub.send(self.end_point(), to, Body::Snapshot { envelope, rows, life })
            }
            (None, _) | (_, None) => false,
        };
        if !is_sent {
            let (Life { node, life }, is_ok) = (self.life, false);
            let delay = self.hub.dice.processes.between(MS, 3_000 * MS);
            self.hub.agenda.after(delay, Event::PdSnapshotSent { node, life, member, is_ok });
        }
    }

    fn drop_export(&mut self) {
        self.process.view = None;
    }

    fn discard_staged(&mut self, staged: StagedId) {
        self.process.staged.remove(&staged);
    }

    fn member_addrs(&mut self, addrs: BTreeMap<u64, String>) {
        self.process.member_addrs = addrs.into_values().collect();
    }

    fn removed(&mut self) {
        self.process.is_removed = true;
    }

    fn stranger(&mut self, _known_by: u64) {
        self.process.is_removed = true;
    }

    fn event(&mut self, event: &PdEvent) {
        tell(self.hub, event);
    }
}

/// Where the network delivers a message of a member to another.
fn end_of(message: &Envelope) -> Option<End> {
    match message.to.address {
        Address::Pd(id) => u32::try_from(id).ok().map(End::Pd),
        Address::Store(_) => None,
    }
}

/// The heartbeat that the input is.
fn heartbeat(input: &Input) -> Option<(RequestId, StoreHeartbeat)> {
    match input {
        Input::Request { id, request: PdRequest { op: PdOp::Heartbeat(heartbeat), .. } } => {
            Some((*id, (**heartbeat).clone()))
        }
        _ => None,
    }
}

fn tell(hub: &mut Hub, event: &PdEvent) {
    if matches!(event, PdEvent::Decides { .. }) {
        return hub.coverage.hit("requests that waited for leadership to be confirmed");
    }
    if matches!(event, PdEvent::LeadershipBegan { .. }) {
        hub.coverage.hit("elections of the placement driver");
    }
    hub.checks.quiet.happens(hub.agenda.now(), || format!("placement driver: {event:?}"));
    if let PdEvent::OperatorStarted { name, .. } = event
        && (name.contains("move") || name.contains("remove"))
    {
        hub.coverage.hit("leaders removed or moved by operators");
    }
    if let PdEvent::OperatorStarted { name, .. } = event
        && name == "balance move-peer"
    {
        hub.coverage.hit("regions moved to even stores out");
    }
    hub.say(|| format!("placement driver: {event:?}"));
}
