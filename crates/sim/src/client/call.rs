//! Point and batch calls: the client's own [`Call`](core::Call), carried out with messages and
//! events as `driver/call.rs` does it with sockets and timers.

use std::collections::BTreeMap;

use flotilla_client::Error;
use flotilla_client::core::call::{self as core, Event as CallEvent, Step, Terms};
use flotilla_client::core::failure::Failure;
use flotilla_client::core::item::Item;
use flotilla_client::core::part::PartId;
use flotilla_types::{Answer, CompareAndSwap, KeyRange, Millis, Mutation, Op, WriteOp};

use crate::check::attempts::Retry;
use crate::check::model::value_number;
use crate::check::{Verdict, effects};
use crate::event::ClientWake;
use crate::history::{Kind, Outcome};

use super::work::{CallWork, key_of, stored};
use super::{Doing, SimClient, World};

/// A call under way.
pub struct Call {
    /// The real thing.
    pub core: core::Call,
    /// Attempts under way.
    pub attempts: BTreeMap<u64, PartId>,
    items: Vec<Item>,
    records: Vec<usize>,
    /// The records that each write asks for which may have an effect.
    sent: BTreeMap<u64, Vec<usize>>,
    deadline: Millis,
    must_succeed: bool,
}

impl Call {
    /// Begins a call and its records.
    pub fn begin(client: u32, asked: CallWork, now: Millis, world: &mut World<'_>) -> Call {
        let CallWork { items, timeout_ms, may_repeat, must_succeed } = asked;
        let deadline = now.plus(timeout_ms);
        let stamp = world.hub.agenda.stamp();
        let mut records = vec![];
        for item in &items {
            for (key, kind) in kinds(item, world.hub.scenario.clients.keys) {
                records.push(world.history.begin(client, key, kind, stamp));
            }
        }
        let parts_out_max = world.hub.bounds.client.parts_out_max;
        let terms = Terms { deadline, no_one_else_writes: may_repeat, parts_out_max };
        let core = core::Call::many("call", items.clone(), terms);
        let (attempts, sent) = (BTreeMap::new(), BTreeMap::new());
        Call { core, attempts, items, records, sent, deadline, must_succeed }
    }

    /// An attempt is sent that asks for this.
    fn attempted(
        &mut self,
        attempt: u64,
        part: PartId,
        writes: &[KeyRange],
        world: &mut World<'_>,
    ) {
        self.attempts.insert(attempt, part);
        if self.attempts_before(writes, world) {
            world.hub.coverage.hit("writes repeated");
        }
        let is_asked = |at: &usize| {
            let key = world.history.records.get(*at).map(|record| stored(record.key));
            key.is_some_and(|key| writes.iter().any(|range| range.contains(&key)))
        };
        let sent: Vec<usize> = self.records.iter().copied().filter(is_asked).collect();
        sent.iter().for_each(|at| world.history.attempted(*at));
        self.sent.insert(attempt, sent);
    }

    fn attempts_before(&self, writes: &[KeyRange], world: &World<'_>) -> bool {
        let mut records = self.records.iter().filter_map(|at| world.history.records.get(*at));
        records.any(|record| {
            let is_asked = writes.iter().any(|range| range.contains(&stored(record.key)));
            is_asked && record.attempts > 0
        })
    }

    /// The caller drops the call. A write of which an attempt may have an effect has an unknown
    /// outcome; any other has none.
    pub fn abandon(&self, world: &mut World<'_>) {
        let stamp = world.hub.agenda.stamp();
        for at in &self.records {
            let record = world.history.records.get(*at);
            let is_sent = record.is_some_and(|record| record.attempts > 0);
            if is_sent {
                world.hub.coverage.hit("writes dropped after they were sent");
            }
            let outcome = if is_sent { Outcome::Undetermined } else { Outcome::Failed };
            world.history.end(*at, outcome, stamp);
        }
    }

    /// An attempt has failed.
    fn attempt_failed(&mut self, attempt: u64, failure: &Failure, world: &mut World<'_>) {
        if !failure.may_have_effect() {
            let sent = self.sent.remove(&attempt).unwrap_or_default();
            sent.into_iter().for_each(|at| world.history.refused(at));
        }
    }
}

/// What a request writes: single keys as ranges that hold nothing else.
fn writes(op: &Op) -> Vec<KeyRange> {
    match op {
        Op::Get(_) | Op::Scan(_) => vec![],
        Op::Write(op) => op.ranges(),
    }
}

/// What an item asks of each key that it touches.
fn kinds(item: &Item, keys: u16) -> Vec<(u16, Kind)> {
    match item {
        Item::Get(key) => vec![(key_of(key), Kind::Read)],
        Item::Mutate(Mutation::Put { key, value }) => {
            vec![(key_of(key), Kind::Write(Some(value_number(value))))]
        }
        Item::Mutate(Mutation::Delete { key }) => vec![(key_of(key), Kind::Write(None))],
        Item::Mutate(Mutation::DeleteRange(range)) => {
            let keys = (0..keys).filter(|key| range.contains(&stored(*key)));
            keys.map(|key| (key, Kind::Write(None))).collect()
        }
        Item::Whole(Op::Write(WriteOp::CompareAndSwap(CompareAndSwap { key, expected, new }))) => {
            let (expected, new) = (expected.as_deref(), new.as_deref());
            let (expected, new) = (expected.map(value_number), new.map(value_number));
            vec![(key_of(key), Kind::Swap { expected, new })]
        }
        Item::Whole(op) => panic!("no client of this world asks for {op:?}"),
    }
}

impl SimClient {
    /// Takes the steps that the call is ready for, until it waits for one or has ended.
    pub(super) fn drive_call(&mut self, world: &mut World<'_>, number: u64) -> Verdict {
        let avoid = self.suspects(world.hub);
        loop {
            let now = self.now(world);
            let Some(Doing::Call(call)) = self.doing.get_mut(&number) else { return Ok(()) };
            let mut context = self.state.context(now, &avoid);
            let step = call.core.next(&mut context);
            let is_done = call.core.is_done();
            self.ask_refreshes(world)?;
            match step {
                Err(error) => return self.call_ended(world, number, &error),
                Ok(Some(step)) => self.take_step(world, number, step)?,
                Ok(None) if is_done => return self.call_done(world, number),
                Ok(None) => return Ok(()),
            }
        }
    }

    fn take_step(&mut self, world: &mut World<'_>, number: u64, step: Step) -> Verdict {
        let Some(Doing::Call(call)) = self.doing.get(&number) else { return Ok(()) };
        let until = call.deadline;
        match step {
            Step::Send { part, to, op, timeout } => {
                let writes = writes(&op);
                self.check_route(world, &to)?;
                let attempt = self.send(world, (number, until), (&to, op), timeout)?;
                if let Some(Doing::Call(call)) = self.doing.get_mut(&number) {
                    call.attempted(attempt, part, &writes, world);
                }
            }
            Step::LookUp { part, miss, deadline } => {
                self.look_up(world, (number, Some(part)), miss, deadline);
            }
            Step::Wait { part, until } => {
                let wake = ClientWake::Ready { call: number, part: Some(part) };
                self.clock.set(world.hub, self.number, until, wake);
            }
        }
        Ok(())
    }

    /// A step of the call has ended.
    pub(super) fn on_call_event(
        &mut self,
        world: &mut World<'_>,
        number: u64,
        event: CallEvent,
    ) -> Verdict {
        let now = self.now(world);
        let Some(Doing::Call(call)) = self.doing.get_mut(&number) else { return Ok(()) };
        let failure = match &event {
            CallEvent::Answered(_, Err(failure)) => Some(failure.clone()),
            CallEvent::Answered(_, Ok(_)) | CallEvent::LookedUp(..) | CallEvent::Waited(_) => None,
        };
        let step = call.core.on(&mut self.state.context(now, &[]), event);
        self.ask_refreshes(world)?;
        if let (Some(failure), Ok(step)) = (failure, &step) {
            let until = match step {
                Some(Step::Wait { until, .. }) => *until,
                Some(Step::Send { .. } | Step::LookUp { .. }) | None => now,
            };
            let retry = Retry { now, until, tokens_max: world.hub.bounds.client.budget_tokens_max };
            world.hub.checks.attempts.retried(self.number, &failure, retry)?;
        }
        match step {
            Err(error) => return self.call_ended(world, number, &error),
            Ok(Some(step)) => self.take_step(world, number, step)?,
            Ok(None) => {}
        }
        self.drive_call(world, number)
    }

    /// An attempt of the call has ended.
    pub(super) fn attempt_ended(
        &mut self,
        world: &mut World<'_>,
        (number, attempt): (u64, u64),
        result: Result<Answer, Failure>,
    ) -> Verdict {
        let Some(Doing::Call(call)) = self.doing.get_mut(&number) else { return Ok(()) };
        let Some(part) = call.attempts.remove(&attempt) else { return Ok(()) };
        if let Err(failure) = &result {
            call.attempt_failed(attempt, failure, world);
        }
        self.on_call_event(world, number, CallEvent::Answered(part, result))
    }

    fn call_ended(&mut self, world: &mut World<'_>, number: u64, error: &Error) -> Verdict {
        let Some(Doing::Call(call)) = self.doing.get(&number) else { return Ok(()) };
        let deadline = call.deadline;
        let is_unsure = error.is_undetermined();
        let outcome = if is_unsure { Outcome::Undetermined } else { Outcome::Failed };
        world.hub.coverage.hit(if is_unsure { "calls undetermined" } else { "calls failed" });
        let stamp = world.hub.agenda.stamp();
        for record in &call.records {
            world.history.end(*record, outcome, stamp);
        }
        let told = format!("client {} call {number}: {error}", self.number);
        if call.must_succeed {
            self.unhappy.push(format!("{:?}: {told}", call.items));
        }
        world.hub.say(|| told);
        self.rest(world, number, deadline)
    }

    fn call_done(&mut self, world: &mut World<'_>, number: u64) -> Verdict {
        let Some(Doing::Call(call)) = self.doing.remove(&number) else { return Ok(()) };
        let Call { core, records, deadline, .. } = *call;
        world.hub.coverage.hit("calls ok");
        let stamp = world.hub.agenda.stamp();
        let seen = |value: Option<bytes::Bytes>| value.as_deref().map(value_number);
        let outcomes: Vec<Outcome> = match core.into_answer() {
            Answer::Get(values) => values.into_iter().map(seen).map(Outcome::Read).collect(),
            Answer::Swapped { swapped, previous } => {
                vec![Outcome::Swapped { swapped, previous: seen(previous) }]
            }
            Answer::Written | Answer::Scan { .. } => vec![Outcome::Written; records.len()],
        };
        world.hub.say(|| format!("client {} call {number}: {outcomes:?}", self.number));
        for (record, outcome) in records.iter().zip(outcomes) {
            world.history.end(*record, outcome, stamp);
            if let Some(record) = world.history.records.get(*record) {
                self.worked.saw(record);
                effects::acknowledged(&world.hub.checks.model, record)?;
            }
        }
        self.rest(world, number, deadline)
    }
}
