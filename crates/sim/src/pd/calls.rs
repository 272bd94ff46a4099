//! The calls of stores, clients and administrators to the placement driver. Whom a call asks, and
//! when, is decided by the code that ships (`flotilla_net::core::round`); this module imitates the
//! caller around it (`flotilla_net::pd`): what is remembered of the leader, and when a call ends.
//!
//! In: requests, the members' replies, and the time. Out: what to send, and one reply for each
//! call, which is given up after [`CALL_MAX`].
//!
//! Invariant: a reply reaches its caller only while the call is open, once.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_net::core::round::{Effect, HEDGE_MS, Heard, Question, Round, Step, effect};
use flotilla_types::proto::pd_error::Kind;
use flotilla_types::proto::pd_reply::Result as PdResult;
use flotilla_types::{Millis, proto};

use crate::event::{Asker, Body, End, Packet};
use crate::time::{MS, Micros};

/// A call is given up after this time, as a question is by the caller that ships.
pub const CALL_MAX: Micros = 3_000 * MS;

/// See the module's documentation.
#[derive(Debug)]
pub struct PdCalls {
    members: Arc<[u32]>,
    /// The member that led last, as each endpoint knows.
    leaders: BTreeMap<End, u32>,
    open: BTreeMap<u64, Call>,
    last: u64,
}

#[derive(Debug)]
struct Call {
    caller: End,
    asker: Asker,
    request: Box<proto::PdRequest>,
    round: Round<u32>,
    until: Micros,
}

/// What is to be done for a call.
#[derive(Debug, Default)]
pub struct Todo {
    /// Messages to members.
    pub sends: Vec<Packet>,
    /// The reply that ends the call.
    pub reply: Option<Packet>,
    /// The event that the call waits for.
    pub wake: Option<Wake>,
    /// True if the call is answered while another member has yet to answer.
    pub is_hedged: bool,
}

/// A call of `caller` has something to do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// The process that calls.
    pub caller: End,
    /// The call's number.
    pub call: u64,
    /// When.
    pub at: Micros,
}

impl PdCalls {
    /// No calls yet, to a placement driver with members of the numbers 1 to `count`.
    pub fn new(count: u32) -> PdCalls {
        let members = (1..=count).collect();
        PdCalls { members, leaders: BTreeMap::new(), open: BTreeMap::new(), last: 0 }
    }

    /// The greatest number of a member is `count` from now on.
    pub fn set_count(&mut self, count: u32) {
        self.members = (1..=count).collect();
    }

    /// A call begins. An earlier one for the same question ends unanswered.
    pub fn begin(
        &mut self,
        now: Micros,
        caller: End,
        asker: Asker,
        request: Box<proto::PdRequest>,
    ) -> Todo {
        self.open.retain(|_, call| (call.caller, call.asker) != (caller, asker));
        self.last += 1;
        let first = self.leaders.get(&caller).copied().unwrap_or(1);
        let effect = request.op.as_ref().map_or(Effect::None, effect);
        let (round, steps) = Round::begin(self.members.clone(), first, effect, millis(now));
        let call = Call { caller, asker, request, round, until: now + CALL_MAX };
        let sends = steps.into_iter().map(|step| call.send(self.last, step)).collect();
        let wake = call.wake(now, self.last);
        self.open.insert(self.last, call);
        Todo { sends, wake, ..Todo::default() }
    }

    /// Whether the packet is a reply to a question of a call, and if so, what it leads to.
    pub fn take(&mut self, now: Micros, packet: Packet) -> Todo {
        let (End::Pd(node), Body::PdReply { asker, reply }) = (packet.from, packet.body) else {
            return Todo::default();
        };
        let of = |(number, call): (&u64, &Call)| match asker {
            Asker::Probe { call: number } => Some(number),
            asker => ((call.caller, call.asker) == (packet.to, asker)).then_some(*number),
        };
        let Some(number) = self.open.iter().find_map(of) else { return Todo::default() };
        let Some(call) = self.open.get_mut(&number) else { return Todo::default() };
        let question = match asker {
            Asker::Probe { .. } => Question::Probe,
            _ => Question::Request,
        };
        let Some(heard) = heard(question, reply.as_deref(), &call.round) else {
            if is_answer(reply.as_deref()) {
                self.leaders.insert(packet.to, node);
            }
            let is_hedged = call.round.open().any(|open| *open != node);
            return Todo { is_hedged, ..self.end(number, node, reply) };
        };
        if heard != Heard::Leads && self.leaders.get(&packet.to) == Some(&node) {
            self.leaders.remove(&packet.to);
        }
        let steps = call.round.heard(&node, question, heard, millis(now));
        let sends = steps.into_iter().map(|step| call.send(number, step)).collect();
        if call.round.is_over() {
            return self.end(number, node, reply.filter(|_| question == Question::Request));
        }
        Todo { sends, ..Todo::default() }
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: Micros, number: u64) -> Todo {
        let Some(call) = self.open.get_mut(&number) else { return Todo::default() };
        if now >= call.until {
            let node = call.round.open().next().copied().unwrap_or(1);
            if self.leaders.get(&call.caller) == Some(&node) {
                self.leaders.remove(&call.caller);
            }
            return self.end(number, node, None);
        }
        let steps = call.round.on_time(millis(now));
        let sends = steps.into_iter().map(|step| call.send(number, step)).collect();
        let wake = call.wake(now, number);
        Todo { sends, wake, ..Todo::default() }
    }

    /// The process has ended, and its calls and what it knew with it.
    pub fn process_ended(&mut self, end: End) {
        self.open.retain(|_, call| call.caller != end);
        self.leaders.remove(&end);
    }

    fn end(&mut self, number: u64, node: u32, reply: Option<Box<proto::PdReply>>) -> Todo {
        let reply = self.open.remove(&number).map(|call| {
            let body = Body::PdReply { asker: call.asker, reply };
            Packet { from: End::Pd(node), to: call.caller, body }
        });
        Todo { reply, ..Todo::default() }
    }
}

impl Call {
    fn send(&self, number: u64, step: Step<u32>) -> Packet {
        let (asker, request) = match step.question {
            Question::Request => (self.asker, self.request.clone()),
            Question::Probe => {
                let op = Some(proto::pd_request::Op::Members(proto::MembersRequest {}));
                let cluster_id = self.request.cluster_id;
                (Asker::Probe { call: number }, Box::new(proto::PdRequest { cluster_id, op }))
            }
        };
        let body = Body::PdRequest { asker, request };
        Packet { from: self.caller, to: End::Pd(step.to), body }
    }

    fn wake(&self, now: Micros, number: u64) -> Option<Wake> {
        let at = self.round.wake_at().map_or(now + HEDGE_MS * MS, |at| at.0 * MS);
        Some(Wake { caller: self.caller, call: number, at: at.min(self.until) })
    }
}

/// What a reply means for the round; None if it ends the call. A `reply` of None: the connection
/// failed.
fn heard(
    question: Question,
    reply: Option<&proto::PdReply>,
    round: &Round<u32>,
) -> Option<Heard<u32>> {
    let error = match reply.map(|reply| &reply.result) {
        None => return Some(Heard::Lost),
        Some(Some(PdResult::Error(error))) => error.kind.as_ref(),
        Some(_) => None,
    };
    match (error, question) {
        (Some(Kind::NotLeader(told)), _) => {
            let id = told.leader_addr.strip_prefix("pd:").and_then(|id| id.parse().ok());
            Some(Heard::NotLeader(id))
        }
        (Some(Kind::Busy(_)), Question::Probe) if round.has_open_request() => Some(Heard::NotSent),
        (Some(Kind::Busy(_)), _) | (_, Question::Request) => None,
        (_, Question::Probe) => Some(Heard::Leads),
    }
}

/// True for the answer of a member that leads and is not busy.
fn is_answer(reply: Option<&proto::PdReply>) -> bool {
    let Some(PdResult::Error(error)) = reply.and_then(|reply| reply.result.as_ref()) else {
        return reply.is_some();
    };
    !matches!(error.kind, Some(Kind::Busy(_) | Kind::NotLeader(_)))
}

/// The round's time, rounded up, for a wake must not come before its time.
fn millis(at: Micros) -> Millis {
    Millis(at.div_ceil(MS))
}
