//! The one caller of the placement driver: finds the member that leads, and gets a request
//! answered.
//!
//! In: a request and, for [`PdCaller::call`], a deadline. Out: the leader's answer, or why there is
//! none ([`PdCallError`]).
//!
//! A *round* ([`crate::core::round`]) begins with the member that led last, follows what members
//! say of the leader, and probes the others if one is silent or cannot be reached. A leader that is
//! busy ends the round. [`PdCaller::call_once`] is one round. [`PdCaller::call`] begins further
//! ones until its deadline, for members that answer will elect a leader; where nobody answers it
//! gives up after `UNREACHABLE_MS_MAX`.
//!
//! Invariant: a request that may have been carried out is sent again only if carrying it out twice
//! does no harm ([`Effect`]).

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla_types::Millis;
use flotilla_types::proto::pd_error::Kind;
use flotilla_types::proto::pd_reply::Result as Answer;
use flotilla_types::proto::pd_request::Op;
use flotilla_types::proto::{MembersRequest, PdReply, PdRequest};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Status};

use crate::connect::{Channels, InvalidAddr, bare, check_addr, status_reason};
use crate::core::known::{KNOWN_MAX, Known, Teller};
use crate::core::round::{Effect, HEDGE_MS, Heard, Question, Round, Step, effect};
use crate::services::pd_client;
use crate::tls::Tls;

/// Addresses a caller may give: a placement driver has at most five members, each perhaps under two
/// names.
pub const PD_ADDRS_MAX: usize = KNOWN_MAX;

/// A question that is not answered by then is given up. A member commits in milliseconds; a disk
/// that is slow to sync can take a second or two, and asking anew helps nobody then. Connecting has
/// a shorter limit of its own.
const ATTEMPT_MS_MAX: u64 = 3_000;

/// How long [`PdCaller::call`] tries addresses where nobody answers at all: longer than an
/// election, short enough for a person at a terminal.
const UNREACHABLE_MS_MAX: u64 = 3_000;

/// Between rounds; it doubles from the first to the second.
const ROUND_WAIT_MS: (u64, u64) = (20, 500);

/// A member that said so lately that it is busy is there: longer than between two rounds.
const LATELY_MS: u64 = 1_000;

/// Why the addresses of a placement driver are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PdAddrsError {
    /// There is no address.
    #[error("no placement driver address")]
    None,
    /// There are more than [`PD_ADDRS_MAX`].
    #[error("{actual} placement driver addresses, and at most {PD_ADDRS_MAX} are allowed")]
    TooMany {
        /// How many there are.
        actual: usize,
    },
    /// One of them is no address.
    #[error(transparent)]
    Invalid(#[from] InvalidAddr),
}

/// Why a request was not answered with what it asked for. Only after [`PdCallError::Undetermined`]
/// may it have had an effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PdCallError {
    /// No member answered. Trying later may help.
    #[error("no placement driver answered at {}: {reason}", .tried.join(", "))]
    Unreachable {
        /// The addresses tried.
        tried: Vec<String>,
        /// How the last attempt failed.
        reason: String,
    },
    /// Members answered, and none led. Trying later helps.
    #[error("no member of the placement driver leads: {reason}")]
    NoLeader {
        /// How the last attempt failed.
        reason: String,
    },
    /// The leader cannot answer yet. Trying later helps.
    #[error("the placement driver is busy: {reason}")]
    Busy {
        /// How the last attempt failed.
        reason: String,
    },
    /// The answer was lost, and the request may have been carried out.
    #[error("the outcome is not known: {reason}")]
    Undetermined {
        /// What happened to the answer.
        reason: String,
    },
    /// The leader refuses, and would again.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// There is no such store, region or operator.
    #[error("{what} does not exist")]
    NotFound {
        /// Such as `store 7`.
        what: String,
    },
    /// The placement driver is another cluster's.
    #[error(
        "this placement driver belongs to cluster {cluster_id}, and the request is for cluster \
         {wanted}; check its address, and that its directory is the right one"
    )]
    OtherCluster {
        /// That cluster.
        cluster_id: u64,
        /// The cluster that the caller belongs to.
        wanted: u64,
    },
    /// The leader's version does not know the request. Asking again does not help.
    #[error("this version of the placement driver does not know {what}")]
    Unsupported {
        /// What it does not know.
        what: String,
    },
    /// Whoever answers there is no placement driver, or one of another version.
    #[error("unexpected answer: {what}")]
    Protocol {
        /// What was answered.
        what: String,
    },
}

/// A way to the placement driver. Keeps connections and what it knows of the members.
#[derive(Debug)]
pub struct PdCaller {
    addrs: Vec<String>,
    members: Mutex<Members>,
    cluster_id: AtomicU64,
    channels: Channels,
    /// When a member last said that it cannot answer yet, and why; None once one has answered.
    busy: Mutex<Option<(Instant, String)>>,
}

/// A member's address, which every question carries.
type Addr = Arc<str>;

/// What is known of the members.
#[derive(Debug)]
struct Members {
    known: Known<Addr>,
    /// The member that led last.
    leader: Option<Addr>,
}

/// What became of asking one member.
enum Attempt {
    Answer(Box<Answer>),
    /// It does not lead; the address of the one that does, empty if not known.
    NotLeader(String),
    Busy(String),
    /// The request never left.
    NotSent(String),
    /// The request may have been carried out.
    Lost(String),
    Error(PdCallError),
}

/// The end of one question: whom it went to, and what was asked.
struct Ended {
    step: Step<Addr>,
    outcome: Outcome,
}

/// What the transport made of a question.
enum Outcome {
    Reply(Box<PdReply>),
    Status(Status),
    /// Not in time.
    Late,
    /// There was no connection.
    NotSent(String),
}

/// One round of a call.
struct Asking<'a> {
    op: &'a Op,
    /// The cluster that the requests are made for.
    cluster_id: u64,
    deadline: Option<Instant>,
    began: Instant,
    round: Round<Addr>,
    questions: FuturesUnordered<BoxFuture<'a, Ended>>,
}

/// How a round goes on after a question's end.
enum Next {
    Heard(Heard<Addr>),
    /// With the call's end, or with None if another round may succeed.
    End(Option<Result<Box<Answer>, PdCallError>>),
}

/// What a call has met so far.
struct Progress {
    has_met: Met,
    may_have_effect: bool,
    last: String,
}

/// The most that a call has met.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    Nobody,
    Follower,
    BusyLeader,
}

impl PdCaller {
    /// A caller of the placement driver at these addresses (`HOST:PORT`, any of its members).
    /// Connects at the first call.
    pub fn new(addrs: Vec<String>) -> Result<PdCaller, PdAddrsError> {
        if addrs.is_empty() {
            return Err(PdAddrsError::None);
        }
        if addrs.len() > PD_ADDRS_MAX {
            return Err(PdAddrsError::TooMany { actual: addrs.len() });
        }
        for addr in &addrs {
            check_addr(addr)?;
        }
        let addrs: Vec<String> = addrs.iter().map(|addr| bare(addr).to_string()).collect();
        let known = addrs.iter().map(|addr| Addr::from(addr.as_str())).collect();
        let members = Members { known: Known::new(known), leader: None };
        Ok(PdCaller {
            addrs,
            members: Mutex::new(members),
            cluster_id: AtomicU64::new(0),
            busy: Mutex::new(None),
            // Leaders may be under ever new addresses.
            channels: Channels::new(PD_ADDRS_MAX),
        })
    }

    /// The same, calling with these certificates if there are any.
    pub fn secured(mut self, tls: Option<Tls>) -> PdCaller {
        self.channels = self.channels.secured(tls);
        self
    }

    /// The addresses given, without scheme.
    pub fn addrs(&self) -> &[String] {
        &self.addrs
    }

    /// The cluster that requests are made for; 0 while it is not known.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id.load(Ordering::Relaxed)
    }

    /// Where the members said that they listen; empty while none has.
    pub fn learned(&self) -> Vec<String> {
        lock(&self.members).known.learned().iter().map(|addr| addr.to_string()).collect()
    }

    /// Takes over what an earlier caller has [`PdCaller::learned`]. These addresses are asked
    /// beside those given.
    pub fn remember(&self, learned: &[String]) {
        self.learn(learned, Teller::Leader);
    }

    /// From now on requests are refused by any other cluster's placement driver.
    pub fn set_cluster_id(&self, cluster_id: u64) {
        self.cluster_id.store(cluster_id, Ordering::Relaxed);
    }

    /// Gets `op` answered by `deadline`.
    pub async fn call(&self, op: &Op, deadline: Instant) -> Result<Answer, PdCallError> {
        let give_up = Instant::now() + Duration::from_millis(UNREACHABLE_MS_MAX);
        let mut progress = Progress::new();
        let mut wait_ms = ROUND_WAIT_MS.0;
        loop {
            if let Some(ended) = self.round(op, Some(deadline), &mut progress).await {
                return ended;
            }
            let is_reachable = progress.has_met != Met::Nobody;
            let until = if is_reachable { deadline } else { deadline.min(give_up) };
            let next_round = Instant::now() + Duration::from_millis(jittered(wait_ms));
            if next_round >= until {
                return Err(self.failure(progress));
            }
            sleep_until(next_round).await;
            wait_ms = (wait_ms * 2).min(ROUND_WAIT_MS.1);
        }
    }

    /// One round. For callers that say the same again soon, such as heartbeats.
    pub async fn call_once(&self, op: &Op) -> Result<Answer, PdCallError> {
        let mut progress = Progress::new();
        match self.round(op, None, &mut progress).await {
            Some(ended) => ended,
            None => Err(self.failure(progress)),
        }
    }

    /// One round. None if another round may succeed.
    async fn round(
        &self,
        op: &Op,
        deadline: Option<Instant>,
        progress: &mut Progress,
    ) -> Option<Result<Answer, PdCallError>> {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return None;
        }
        let mut asking = self.begin(op, deadline);
        while !asking.round.is_over() {
            let steps = match asking.next_end().await {
                Some(ended) => {
                    let Ended { step, outcome } = ended;
                    match self.take(&mut asking, &step, outcome, progress) {
                        Next::Heard(heard) => {
                            let now = asking.now();
                            asking.round.heard(&step.to, step.question, heard, now)
                        }
                        Next::End(ended) => {
                            self.leave(&asking, progress);
                            return ended.map(|ended| ended.map(|answer| *answer));
                        }
                    }
                }
                None => {
                    let now = asking.now();
                    asking.round.on_time(now)
                }
            };
            self.put(&mut asking, steps);
        }
        None
    }

    fn begin<'a>(&'a self, op: &'a Op, deadline: Option<Instant>) -> Asking<'a> {
        let (members, first) = {
            let members = lock(&self.members);
            let known = members.known.all();
            let first = members.leader.clone().or_else(|| known.first().cloned());
            (known, first.unwrap_or_else(|| Addr::from("")))
        };
        let (round, steps) = Round::begin(members, first, effect(op), Millis(0));
        let (cluster_id, began) = (self.cluster_id(), Instant::now());
        let questions = FuturesUnordered::new();
        let mut asking = Asking { op, cluster_id, deadline, began, round, questions };
        self.put(&mut asking, steps);
        asking
    }

    /// Sends what the round wants sent.
    fn put<'a>(&'a self, asking: &mut Asking<'a>, steps: Vec<Step<Addr>>) {
        let limit = Instant::now() + Duration::from_millis(ATTEMPT_MS_MAX);
        let until = asking.deadline.map_or(limit, |deadline| deadline.min(limit));
        for step in steps {
            let op = match step.question {
                Question::Request => asking.op.clone(),
                Question::Probe => Op::Members(MembersRequest {}),
            };
            let request = PdRequest { cluster_id: asking.cluster_id, op: Some(op) };
            asking.questions.push(Box::pin(async move {
                let outcome = self.ask(&step.to, request, until).await;
                Ended { step, outcome }
            }));
        }
    }

    async fn ask(&self, addr: &str, request: PdRequest, until: Instant) -> Outcome {
        let channel = match timeout_at(until, self.channels.get(addr)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(reason)) => return Outcome::NotSent(reason),
            Err(_) => return Outcome::NotSent(format!("{addr}: no connection in time")),
        };
        match timeout_at(until, pd_client(channel).call(request)).await {
            Ok(Ok(reply)) => Outcome::Reply(Box::new(reply.into_inner())),
            Ok(Err(status)) => Outcome::Status(status),
            Err(_) => Outcome::Late,
        }
    }

    /// What the end of a question means for the round.
    fn take(
        &self,
        asking: &mut Asking<'_>,
        step: &Step<Addr>,
        outcome: Outcome,
        progress: &mut Progress,
    ) -> Next {
        let is_probe = step.question == Question::Probe;
        match self.judge(&step.to, outcome, asking.cluster_id) {
            Attempt::Answer(_) if is_probe => Next::Heard(Heard::Leads),
            Attempt::Answer(answer) => {
                lock(&self.members).leader = Some(step.to.clone());
                *lock(&self.busy) = None;
                Next::End(Some(Ok(answer)))
            }
            // A store's address may stand beside those of members.
            Attempt::Error(PdCallError::Protocol { what }) if self.addrs.len() > 1 => {
                self.pass_over(&step.to, what, progress)
            }
            // What was learned long ago may be the address of another cluster's member by now.
            Attempt::Error(error @ PdCallError::OtherCluster { .. })
                if !self.addrs.iter().any(|addr| **addr == *step.to) =>
            {
                self.pass_over(&step.to, error.to_string(), progress)
            }
            // It refuses the request itself, too, and says why.
            Attempt::Error(_) if is_probe => Next::Heard(Heard::Leads),
            Attempt::Error(error) => Next::End(Some(Err(error))),
            Attempt::Lost(reason) if !is_probe && effect(asking.op) == Effect::Once => {
                Next::End(Some(Err(PdCallError::Undetermined { reason })))
            }
            Attempt::NotLeader(leader) => {
                progress.meet(Met::Follower, format!("{} does not lead", step.to));
                self.forget_leader(&step.to);
                let is_new = !leader.is_empty() && *leader != *step.to;
                Next::Heard(Heard::NotLeader(is_new.then(|| Addr::from(leader))))
            }
            Attempt::Busy(reason) if is_probe && asking.round.has_open_request() => {
                self.pass_over(&step.to, reason, progress)
            }
            Attempt::Busy(reason) => {
                *lock(&self.busy) = Some((Instant::now(), reason.clone()));
                progress.meet(Met::BusyLeader, reason);
                Next::End(None)
            }
            Attempt::Lost(reason) => {
                let is_repeatable = effect(asking.op) == Effect::Repeatable;
                progress.may_have_effect |= !is_probe && is_repeatable;
                self.pass_over(&step.to, reason, progress);
                Next::Heard(Heard::Lost)
            }
            Attempt::NotSent(reason) => self.pass_over(&step.to, reason, progress),
        }
    }

    fn judge(&self, addr: &str, outcome: Outcome, cluster_id: u64) -> Attempt {
        match outcome {
            Outcome::Reply(mut reply) => {
                let told = std::mem::take(&mut reply.pd_addrs);
                let attempt = judge(*reply, cluster_id);
                match &attempt {
                    Attempt::Answer(_) => self.learn(&told, Teller::Leader),
                    Attempt::NotLeader(_) | Attempt::Busy(_) => self.learn(&told, Teller::Other),
                    // Another cluster's member may listen there.
                    Attempt::Error(_) | Attempt::NotSent(_) | Attempt::Lost(_) => {}
                }
                attempt
            }
            Outcome::Status(status) => {
                self.channels.forget(addr);
                judge_status(addr, &status)
            }
            Outcome::Late => {
                self.channels.forget(addr);
                Attempt::Lost(format!("{addr}: no answer in time"))
            }
            Outcome::NotSent(reason) => Attempt::NotSent(reason),
        }
    }

    /// The round ends with questions open. A connection over which no answer came in time may be
    /// half-dead; and a request that is given up may be carried out.
    fn leave(&self, asking: &Asking<'_>, progress: &mut Progress) {
        if asking.began.elapsed() >= Duration::from_millis(HEDGE_MS) {
            asking.round.open().for_each(|addr| self.channels.forget(addr));
        }
        let is_repeatable = effect(asking.op) == Effect::Repeatable;
        progress.may_have_effect |= is_repeatable && asking.round.has_open_request();
    }

    fn learn(&self, told: &[String], by: Teller) {
        let mut members = lock(&self.members);
        let learned = members.known.learned().iter().map(|addr| &**addr);
        if learned.eq(told.iter().map(|addr| bare(addr))) {
            // As nearly all answers tell it.
            return;
        }
        let told = told.iter().filter(|addr| check_addr(addr).is_ok());
        let told = told.take(PD_ADDRS_MAX).map(|addr| Addr::from(bare(addr))).collect();
        members.known.learn(told, by);
    }

    fn forget_leader(&self, addr: &str) {
        let mut members = lock(&self.members);
        if members.leader.as_deref() == Some(addr) {
            members.leader = None;
        }
    }

    fn pass_over(&self, addr: &str, reason: String, progress: &mut Progress) -> Next {
        // What a member that was met has said tells more.
        if progress.has_met == Met::Nobody {
            progress.last = reason;
        }
        self.forget_leader(addr);
        Next::Heard(Heard::NotSent)
    }

    fn failure(&self, progress: Progress) -> PdCallError {
        let Progress { has_met, may_have_effect, last: reason } = progress;
        match has_met {
            _ if may_have_effect => PdCallError::Undetermined { reason },
            Met::BusyLeader => PdCallError::Busy { reason },
            Met::Follower => PdCallError::NoLeader { reason },
            Met::Nobody => match self.lately_busy() {
                Some(reason) => PdCallError::Busy { reason },
                None => PdCallError::Unreachable { tried: self.addrs.clone(), reason },
            },
        }
    }

    /// Why a member could not answer an earlier call of just now. A caller that asks again in the
    /// last moment before its deadline is told that, rather than that nobody answered so fast.
    fn lately_busy(&self) -> Option<String> {
        let (at, reason) = lock(&self.busy).clone()?;
        (at.elapsed() < Duration::from_millis(LATELY_MS)).then_some(reason)
    }
}

impl Asking<'_> {
    fn now(&self) -> Millis {
        Millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The end of a question; None if the time for further ones comes first.
    async fn next_end(&mut self) -> Option<Ended> {
        let wake_at = self.round.wake_at();
        let wake = wake_at.map(|at| self.began + Duration::from_millis(at.0));
        tokio::select! {
            ended = self.questions.next() => {
                Some(ended.expect("a round that is not over has a question open"))
            }
            () = sleep_until(wake.unwrap_or(self.began)), if wake.is_some() => None,
        }
    }
}

impl Progress {
    fn new() -> Progress {
        let last = "no time left to try".to_string();
        Progress { has_met: Met::Nobody, may_have_effect: false, last }
    }

    /// Somebody is there: worth waiting for until the deadline.
    fn meet(&mut self, whom: Met, last: String) {
        self.has_met = whom;
        self.last = last;
    }
}

/// What a reply means to a caller of the cluster `wanted`.
fn judge(reply: PdReply, wanted: u64) -> Attempt {
    let error = match reply.result {
        Some(Answer::Error(error)) => error,
        Some(answer) => return Attempt::Answer(Box::new(answer)),
        None => return Attempt::Error(PdCallError::Protocol { what: "an empty PdReply".into() }),
    };
    Attempt::Error(match error.kind {
        Some(Kind::NotLeader(error)) => {
            return Attempt::NotLeader(bare(&error.leader_addr).to_string());
        }
        Some(Kind::Busy(busy)) => return Attempt::Busy(busy.reason),
        Some(Kind::Refused(refused)) => PdCallError::Refused { reason: refused.reason },
        Some(Kind::NotFound(error)) => PdCallError::NotFound { what: error.what },
        Some(Kind::ClusterMismatch(error)) => {
            PdCallError::OtherCluster { cluster_id: error.cluster_id, wanted }
        }
        Some(Kind::Unsupported(error)) => PdCallError::Unsupported { what: error.what },
        None => PdCallError::Protocol { what: "a PdError without a kind".into() },
    })
}

/// A placement driver says in its reply what it thinks; a status is the transport's, or that of a
/// server that is no placement driver.
fn judge_status(addr: &str, status: &tonic::Status) -> Attempt {
    let reason = format!("{addr}: {}", status_reason(status));
    match status.code() {
        Code::Unimplemented | Code::InvalidArgument | Code::OutOfRange => {
            Attempt::Error(PdCallError::Protocol { what: reason })
        }
        Code::PermissionDenied => Attempt::Error(PdCallError::Refused { reason }),
        _ => Attempt::Lost(reason),
    }
}

/// Between half of `wait_ms` and all of it, so that callers that failed together do not come back
/// together.
fn jittered(wait_ms: u64) -> u64 {
    wait_ms / 2 + RandomState::new().hash_one(wait_ms) % (wait_ms / 2 + 1)
}

/// Locks through a poisoned state: no critical section here leaves its data half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
