//! The one caller of the placement driver: finds the member that leads, and gets a request
//! answered.
//!
//! In: a request and, for [`PdCaller::call`], a deadline. Out: the leader's answer, or why there is
//! none ([`PdCallError`]).
//!
//! A *round* asks the members in turn, each at most once: first the one that led last. A member
//! that does not lead says who does, and that one is next. A member that does not answer is passed
//! over. A leader that is busy ends the round. [`PdCaller::call_once`] is one round.
//! [`PdCaller::call`] begins further ones until its deadline, for members that answer will elect a
//! leader; where nobody answers it gives up after `UNREACHABLE_MS_MAX`.
//!
//! Invariant: a request that may have been carried out is sent again only if carrying it out twice
//! does no harm (`Effect`).

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla_types::proto::pd_error::Kind;
use flotilla_types::proto::pd_reply::Result as Answer;
use flotilla_types::proto::pd_request::Op;
use flotilla_types::proto::{PdReply, PdRequest};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Code;

use crate::connect::{Channels, InvalidAddr, bare, check_addr, status_reason};
use crate::services::pd_client;

/// Addresses a caller may give: a placement driver has at most five members, each perhaps under two
/// names.
pub const PD_ADDRS_MAX: usize = 16;

/// A member that has not answered by then is passed over. It commits in milliseconds, but a disk
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

/// A way to the placement driver. Keeps connections and what it knows of the leader.
#[derive(Debug)]
pub struct PdCaller {
    addrs: Vec<String>,
    /// Where the members said that they listen.
    learned: Mutex<Vec<String>>,
    cluster_id: AtomicU64,
    leader: Mutex<Option<String>>,
    channels: Channels,
    /// When a member last said that it cannot answer yet, and why; None once one has answered.
    busy: Mutex<Option<(Instant, String)>>,
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

/// What carrying a request out twice does, which decides what a lost answer means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing that matters: a read, or what is said again anyway, or merely wasted.
    None,
    /// The same as carrying it out once: the request names its whole outcome.
    Repeatable,
    /// More than carrying it out once: the request makes something new.
    Once,
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
        Ok(PdCaller {
            addrs: addrs.iter().map(|addr| bare(addr).to_string()).collect(),
            learned: Mutex::new(vec![]),
            cluster_id: AtomicU64::new(0),
            leader: Mutex::new(None),
            busy: Mutex::new(None),
            // Leaders may be under ever new addresses.
            channels: Channels::new(PD_ADDRS_MAX),
        })
    }

    /// The addresses given, without scheme.
    pub fn addrs(&self) -> &[String] {
        &self.addrs
    }

    /// The cluster that requests are made for; 0 while it is not known.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id.load(Ordering::Relaxed)
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

    /// Asks each member once at most. For callers that say the same again soon, such as heartbeats.
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
        let has_time = || deadline.is_none_or(|deadline| Instant::now() < deadline);
        let mut next = self.first_to_ask();
        // One more than there are addresses: the first answer may name a leader that is not listed.
        for _ in 0..=self.known().len() {
            if !has_time() {
                return None;
            }
            let addr = next.clone();
            next = match self.ask(&addr, op, deadline).await {
                Attempt::Answer(answer) => {
                    *lock(&self.leader) = Some(addr);
                    *lock(&self.busy) = None;
                    return Some(Ok(*answer));
                }
                // A store's address may stand beside those of members.
                Attempt::Error(PdCallError::Protocol { what }) if self.addrs.len() > 1 => {
                    self.pass_over(&addr, what, progress)
                }
                Attempt::Error(error) => return Some(Err(error)),
                Attempt::Lost(reason) if effect(op) == Effect::Once => {
                    return Some(Err(PdCallError::Undetermined { reason }));
                }
                Attempt::NotLeader(leader) => {
                    progress.meet(Met::Follower, format!("{addr} does not lead"));
                    self.forget_leader(&addr);
                    let is_new = !leader.is_empty() && leader != addr;
                    if is_new { leader } else { self.after(&addr) }
                }
                Attempt::Busy(reason) => {
                    *lock(&self.busy) = Some((Instant::now(), reason.clone()));
                    progress.meet(Met::BusyLeader, reason);
                    return None;
                }
                Attempt::Lost(reason) => {
                    progress.may_have_effect |= effect(op) == Effect::Repeatable;
                    self.pass_over(&addr, reason, progress)
                }
                Attempt::NotSent(reason) => self.pass_over(&addr, reason, progress),
            };
        }
        None
    }

    async fn ask(&self, addr: &str, op: &Op, deadline: Option<Instant>) -> Attempt {
        let limit = Instant::now() + Duration::from_millis(ATTEMPT_MS_MAX);
        let until = deadline.map_or(limit, |deadline| deadline.min(limit));
        let channel = match timeout_at(until, self.channels.get(addr)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(reason)) => return Attempt::NotSent(reason),
            Err(_) => return Attempt::NotSent(format!("{addr}: no connection in time")),
        };
        let request_cluster = self.cluster_id();
        let request = PdRequest { cluster_id: request_cluster, op: Some(op.clone()) };
        match timeout_at(until, pd_client(channel).call(request)).await {
            Ok(Ok(reply)) => {
                let reply = reply.into_inner();
                self.learn(&reply.pd_addrs);
                judge(reply, request_cluster)
            }
            Ok(Err(status)) => {
                self.channels.forget(addr);
                judge_status(addr, &status)
            }
            Err(_) => {
                self.channels.forget(addr);
                Attempt::Lost(format!("{addr}: no answer in time"))
            }
        }
    }

    /// The addresses given, and those that members said besides.
    fn known(&self) -> Vec<String> {
        let mut known = self.addrs.clone();
        let learned = lock(&self.learned);
        known.extend(learned.iter().filter(|addr| !self.addrs.contains(addr)).cloned());
        known.truncate(PD_ADDRS_MAX);
        known
    }

    fn learn(&self, addrs: &[String]) {
        let addrs = addrs.iter().map(|addr| bare(addr).to_string());
        let mut learned = lock(&self.learned);
        if !addrs.clone().eq(learned.iter().cloned()) {
            *learned = addrs.collect();
        }
    }

    fn first_to_ask(&self) -> String {
        let leader = lock(&self.leader).clone();
        leader.or_else(|| self.addrs.first().cloned()).unwrap_or_default()
    }

    fn forget_leader(&self, addr: &str) {
        let mut leader = lock(&self.leader);
        if leader.as_deref() == Some(addr) {
            *leader = None;
        }
    }

    fn pass_over(&self, addr: &str, reason: String, progress: &mut Progress) -> String {
        progress.last = reason;
        self.forget_leader(addr);
        self.after(addr)
    }

    /// The known address after `addr`; the first if it is not known.
    fn after(&self, addr: &str) -> String {
        let known = self.known();
        let at = known.iter().position(|known| known == addr).map_or(0, |at| at + 1);
        known.get(at % known.len()).cloned().unwrap_or_default()
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
        _ => Attempt::Lost(reason),
    }
}

fn effect(op: &Op) -> Effect {
    match op {
        Op::ClusterStatus(_)
        | Op::Regions(_)
        | Op::Stores(_)
        | Op::Operators(_)
        | Op::Members(_)
        | Op::Heartbeat(_)
        | Op::AllocateIds(_) => Effect::None,
        // A new store: each answer may name another id.
        Op::RegisterStore(register) if register.store_id == 0 => Effect::Once,
        Op::RegisterStore(_)
        | Op::SetStoreState(_)
        | Op::CancelOperator(_)
        | Op::ChangeMembers(_) => Effect::Repeatable,
        Op::AddOperator(_) => Effect::Once,
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
