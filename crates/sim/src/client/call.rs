//! Point and batch calls: a [`Plan`] carried out with messages and events, as `driver/call.rs` does
//! it with sockets and timers.

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_client::core::failure::Failure;
use flotilla_client::core::item::Item;
use flotilla_client::core::plan::{Ending, Next, PartId, Plan};
use flotilla_client::core::retry::{Action, Attempts, Idempotency};
use flotilla_client::core::router::Sent;
use flotilla_store::core::{Answer, Op};
use flotilla_types::wire::{decode_op, encode_reply};
use flotilla_types::{KeyRange, Millis, RegionError, proto};

use crate::check::model::value_number;
use crate::check::{Verdict, broken, effects};
use crate::event::{ClientWake, Event};
use crate::history::{Kind, Outcome};
use crate::time::MS;

use super::work::{CallWork, key_of, stored};
use super::{Doing, SimClient, World};

/// A call under way.
pub struct Call {
    /// Its number at the client.
    pub number: u64,
    /// The real thing.
    pub plan: Plan,
    /// Attempts under way.
    pub attempts: BTreeMap<u64, PartId>,
    items: Vec<Item>,
    records: Vec<usize>,
    /// The records that each write asks for which may have an effect.
    sent: BTreeMap<u64, Vec<usize>>,
    idempotency: Idempotency,
    deadline: Millis,
    must_succeed: bool,
}

impl Call {
    /// Begins a call: its records and its plan.
    pub fn begin(number: u64, client: u32, sent: CallWork, world: &mut World<'_>) -> Call {
        let CallWork { items, timeout_ms, may_repeat, must_succeed } = sent;
        let is_read = items.iter().all(|item| matches!(item, Item::Get(_)));
        let idempotency = match (is_read, may_repeat) {
            (true, _) => Idempotency::ReadOnly,
            (false, true) => Idempotency::Idempotent,
            (false, false) => Idempotency::NotIdempotent,
        };
        let deadline = world.now().plus(timeout_ms);
        let stamp = world.hub.agenda.stamp();
        let mut records = vec![];
        for item in &items {
            for (key, kind) in kinds(item) {
                records.push(world.history.begin(client, key, kind, stamp));
            }
        }
        let plan = Plan::new(items.clone(), Attempts::new(idempotency, deadline));
        let (attempts, sent) = (BTreeMap::new(), BTreeMap::new());
        Call { number, plan, attempts, items, records, sent, idempotency, deadline, must_succeed }
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

    /// An attempt has failed.
    pub(super) fn attempt_failed(
        &mut self,
        attempt: u64,
        failure: &Failure,
        world: &mut World<'_>,
    ) {
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
fn kinds(item: &Item) -> Vec<(u16, Kind)> {
    let number = |slot: &Option<proto::Slot>| {
        slot.as_ref().filter(|slot| slot.found).map(|slot| value_number(&slot.value))
    };
    match item {
        Item::Get(key) => vec![(key_of(key), Kind::Read)],
        Item::Put(key, value) => vec![(key_of(key), Kind::Write(Some(value_number(value))))],
        Item::Delete(key) => vec![(key_of(key), Kind::Write(None))],
        Item::DeleteRange(range) => {
            let keys = key_of(&range.start)..key_of(&range.end);
            keys.map(|key| (key, Kind::Write(None))).collect()
        }
        Item::CompareAndSwap(cas) => {
            let kind = Kind::Swap { expected: number(&cas.expected), new: number(&cas.new) };
            vec![(key_of(&cas.key), kind)]
        }
    }
}

impl SimClient {
    /// Does what the plan says until it waits for something or has ended.
    pub(super) fn drive_call(&mut self, world: &mut World<'_>) -> Verdict {
        let avoid = self.suspects(world.hub);
        loop {
            let Doing::Call(call) = &mut self.doing else { return Ok(()) };
            let (number, terms) = (call.number, (call.idempotency, call.deadline));
            match call.plan.next(&self.router, &avoid) {
                None if call.plan.is_done() => return self.call_done(world),
                None => return Ok(()),
                Some(Next::Send { part, to, op }) => {
                    let op = match decode_op(Some(op)) {
                        Ok(op) => op,
                        Err(error) => {
                            return broken("clients ask what stores know", error.to_string());
                        }
                    };
                    let writes = writes(&op);
                    let attempt = self.send(world, &to, op, terms);
                    if let Doing::Call(call) = &mut self.doing {
                        call.attempted(attempt, part, &writes, world);
                    }
                }
                Some(Next::LookUp { part, miss }) => {
                    let left_ms = terms.1.since(world.now());
                    self.look_up(world, &miss, (number, Some(part)), left_ms);
                }
                Some(Next::Stuck { part, failure }) => {
                    return self.call_failed(world, part, None, failure);
                }
            }
        }
    }

    /// An attempt was answered.
    pub(super) fn call_answered(
        &mut self,
        world: &mut World<'_>,
        attempt: u64,
        result: Result<Answer, RegionError>,
    ) -> Verdict {
        let Doing::Call(call) = &mut self.doing else { return Ok(()) };
        let Some(part) = call.attempts.remove(&attempt) else { return Ok(()) };
        let sent = call.plan.sent(part);
        match call.plan.answered(part, encode_reply(result)) {
            Ok(()) => {
                if let Some(sent) = sent {
                    self.succeeded(&sent);
                }
                self.drive_call(world)
            }
            Err(failure) => {
                call.attempt_failed(attempt, &failure, world);
                self.call_failed(world, part, sent, failure)
            }
        }
    }

    /// A part of the call failed: wait, try again or end.
    pub(super) fn call_failed(
        &mut self,
        world: &mut World<'_>,
        part: PartId,
        sent: Option<Sent>,
        failure: Failure,
    ) -> Verdict {
        let action = self.judge(world, sent, |doing, shared| match doing {
            Doing::Call(call) => call.plan.failed(part, &failure, shared),
            Doing::Scan(_) | Doing::Nothing => Action::Fail,
        });
        let Doing::Call(call) = &mut self.doing else { return Ok(()) };
        match action {
            Action::Retry { after_ms: 0, .. } => {
                call.plan.ready(part);
                self.drive_call(world)
            }
            Action::Retry { after_ms, .. } => {
                let wake = ClientWake::Ready { call: call.number, part: Some(part) };
                let client = self.number;
                world.hub.agenda.after(after_ms * MS, Event::Client { client, wake });
                Ok(())
            }
            Action::Fail | Action::DeadlineExceeded | Action::Undetermined => {
                let ending = call.plan.ending(action);
                self.call_ended(world, ending, &failure)
            }
        }
    }

    fn call_ended(&mut self, world: &mut World<'_>, ending: Ending, why: &Failure) -> Verdict {
        let Doing::Call(call) = &self.doing else { return Ok(()) };
        let deadline = call.deadline;
        let outcome = match ending {
            Ending::Failed | Ending::DeadlineExceeded => Outcome::Failed,
            Ending::Undetermined => Outcome::Undetermined,
        };
        let is_unsure = ending == Ending::Undetermined;
        let mark = if is_unsure { "calls undetermined" } else { "calls failed" };
        world.hub.coverage.hit(mark);
        let stamp = world.hub.agenda.stamp();
        for record in &call.records {
            world.history.end(*record, outcome, stamp);
        }
        let told = format!("client {} call {}: {ending:?}: {why}", self.number, call.number);
        if call.must_succeed {
            self.unhappy.push(format!("{:?}: {told}", call.items));
        }
        world.hub.say(|| told);
        self.rest(world, deadline)
    }

    fn call_done(&mut self, world: &mut World<'_>) -> Verdict {
        let Doing::Call(call) = std::mem::replace(&mut self.doing, Doing::Nothing) else {
            return Ok(());
        };
        let Call { plan, records, idempotency, deadline, number, items, .. } = *call;
        world.hub.coverage.hit("calls ok");
        let stamp = world.hub.agenda.stamp();
        let outcomes: Vec<Outcome> = match items.first() {
            Some(Item::CompareAndSwap(_)) => plan.into_swap().map(swapped).into_iter().collect(),
            Some(_) | None if idempotency == Idempotency::ReadOnly => {
                let seen = |value: Option<Bytes>| Outcome::Read(value.as_deref().map(value_number));
                plan.into_values().into_iter().map(seen).collect()
            }
            Some(_) | None => vec![Outcome::Written; records.len()],
        };
        world.hub.say(|| format!("client {} call {number}: {outcomes:?}", self.number));
        for (record, outcome) in records.iter().zip(outcomes) {
            world.history.end(*record, outcome, stamp);
            if let Some(record) = world.history.records.get(*record) {
                self.worked.saw(record);
                effects::acknowledged(&world.hub.checks.model, record)?;
            }
        }
        self.rest(world, deadline)
    }
}

fn swapped(reply: proto::CompareAndSwapReply) -> Outcome {
    let previous = reply.previous.filter(|slot| slot.found).map(|slot| value_number(&slot.value));
    Outcome::Swapped { swapped: reply.swapped, previous }
}
