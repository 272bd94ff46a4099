//! The calls of stores, clients and administrators to the placement driver. Whom a call asks, and
//! when, is decided by the code that ships (`flotilla_net::core::round` and `known`); this module
//! imitates the caller around it (`flotilla_net::pd`): what is remembered of the leader, and when a
//! call ends.
//!
//! A store is given one member, and knows others only because members named them. Whoever runs it
//! gives it another one when it starts, and all that it knows are gone. Clients and administrators
//! are given all members.
//!
//! In: requests, the members' replies, and the time. Out: what to send, and one reply for each
//! call, which is given up after [`CALL_MAX`].
//!
//! Invariant: a reply reaches its caller only while the call is open, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_net::core::known::{Known, Teller};
use flotilla_net::core::round::{Effect, HEDGE_MS, Heard, Question, Round, Step, effect};
use flotilla_types::proto::pd_error::Kind;
use flotilla_types::proto::pd_reply::Result as PdResult;
use flotilla_types::{Millis, StoreId, proto};

use crate::event::{Asker, Body, End, Packet};
use crate::time::{MS, Micros};

/// A call is given up after this time, as a question is by the caller that ships.
pub const CALL_MAX: Micros = 3_000 * MS;

/// See the module's documentation.
#[derive(Debug)]
pub struct PdCalls {
    members: Arc<[u32]>,
    /// Members whose machines are gone.
    gone: BTreeSet<u32>,
    /// What each store knows of the members.
    known: BTreeMap<StoreId, Known<u32>>,
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

/// How a store that starts finds a member that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finds {
    /// It was given one.
    Given,
    /// It was given none, but has learned of one before.
    Learned,
    /// It knew none, and was given one now.
    None,
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
        PdCalls {
            members,
            gone: BTreeSet::new(),
            known: BTreeMap::new(),
            leaders: BTreeMap::new(),
            open: BTreeMap::new(),
            last: 0,
        }
    }

    /// The machine of a member is gone.
    pub fn gone(&mut self, member: u32) {
        self.gone.insert(member);
    }

    /// A store starts, in whose directory `saved` stands. Answers how it finds members that are
    /// there.
    pub fn store_began(&mut self, store: StoreId, saved: Vec<u32>) -> Finds {
        let first = self.members.iter().copied().cycle().nth(store.0 as usize);
        let earlier = self.known.remove(&store).map(|known| known.given().to_vec());
        let mut known = Known::new(earlier.unwrap_or_else(|| first.into_iter().collect()));
        known.learn(saved, Teller::Leader);
        let is_there = |member: &u32| !self.gone.contains(member);
        let finds = if known.given().iter().any(is_there) {
            Finds::Given
        } else if known.learned().iter().any(is_there) {
            Finds::Learned
        } else {
            Finds::None
        };
        self.known.insert(store, known);
        if finds == Finds::None {
            self.configure(store);
        }
        finds
    }

    /// Whoever runs the stores gives a present member to those that know none.
    pub fn give_members(&mut self) {
        let is_lost = |known: &Known<u32>| known.all().iter().all(|m| self.gone.contains(m));
        let lost = self.known.iter().filter(|(_, known)| is_lost(known));
        let lost: Vec<StoreId> = lost.map(|(store, _)| *store).collect();
        lost.into_iter().for_each(|store| self.configure(store));
    }

    fn configure(&mut self, store: StoreId) {
        let present = self.members.iter().copied().rfind(|member| !self.gone.contains(member));
        self.known.insert(store, Known::new(present.into_iter().collect()));
    }

    /// What a store has learned of the members.
    pub fn learned(&self, store: StoreId) -> &[u32] {
        self.known.get(&store).map_or(&[], Known::learned)
    }

    fn members_of(&self, caller: End) -> Arc<[u32]> {
        let known = match caller {
            End::Store(store) => self.known.get(&store),
            End::Pd(_) | End::Client(_) => None,
        };
        known.map_or_else(|| self.members.clone(), Known::all)
    }

    /// A member has answered a question of `caller`, and named all members.
    fn learn(&mut self, caller: End, reply: &proto::PdReply) {
        let End::Store(store) = caller else { return };
        let Some(known) = self.known.get_mut(&store) else { return };
        let told = reply.pd_addrs.iter().filter_map(|addr| member_at(addr)).collect();
        match &reply.result {
            Some(PdResult::Error(error)) => {
                if let Some(Kind::NotLeader(_) | Kind::Busy(_)) = &error.kind {
                    known.learn(told, Teller::Other);
                }
            }
            Some(_) => known.learn(told, Teller::Leader),
            None => {}
        }
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
        let members = self.members_of(caller);
        let leader = self.leaders.get(&caller).copied();
        let first = leader.or(members.first().copied()).unwrap_or(1);
        let effect = request.op.as_ref().map_or(Effect::None, effect);
        let (round, steps) = Round::begin(members, first, effect, millis(now));
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
        if let Some(reply) = &reply {
            self.learn(packet.to, reply);
        }
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

/// Where a member listens.
pub fn pd_address(id: u32) -> String {
    format!("pd:{id}")
}

/// The number of the member that listens there.
pub fn member_at(addr: &str) -> Option<u32> {
    addr.strip_prefix("pd:").and_then(|id| id.parse().ok())
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
        (Some(Kind::NotLeader(told)), _) => Some(Heard::NotLeader(member_at(&told.leader_addr))),
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
