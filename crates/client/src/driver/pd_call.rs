//! Finding the placement driver's leader and getting one request answered by it.
//!
//! In: a request and a deadline. Out: the leader's answer, or the error to show. Members that do
//! not lead say who does; those that do not answer are passed over; a placement driver that is
//! electing is waited for, but a set of addresses where nobody answers only for
//! [`PATIENCE_MS_MAX`].
//!
//! A request that may have been carried out and may not be repeated ends as
//! [`Error::Undetermined`]: adding an operator, and registering a store that has no id yet.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flotilla_types::dice::Dice;
use flotilla_types::limits::MESSAGE_BYTES_MAX;
use flotilla_types::proto;
use flotilla_types::proto::pd_client::PdClient as Stub;
use flotilla_types::proto::pd_error::Kind;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Code;
use tonic::transport::Channel;

use crate::core::retry::Idempotency;
use crate::error::{Error, Result};

use super::channel::{self, status_reason};
use super::{clock, lock};

/// Addresses a caller may give: a placement driver has at most five members, each perhaps under two
/// names.
pub(crate) const ENDPOINTS_MAX: usize = 16;

/// A member that has not answered by then is passed over. It commits in milliseconds.
const ATTEMPT_MS_MAX: u64 = 2_000;

/// How long addresses are tried where nobody answers at all: longer than an election, short enough
/// for a person at a terminal.
const PATIENCE_MS_MAX: u64 = 3_000;

/// Between rounds, doubling from the first to the second.
const ROUND_WAIT_MS: (u64, u64) = (20, 500);

/// The members as one caller knows them.
#[derive(Debug)]
pub(crate) struct Members {
    endpoints: Vec<String>,
    cluster_id: AtomicU64,
    leader: Mutex<Option<String>>,
    channels: Mutex<BTreeMap<String, Channel>>,
}

/// What became of asking one member.
enum Asked {
    Answer(Box<proto::pd_reply::Result>),
    NotLeader(String),
    Busy(String),
    /// The request never left.
    Unreachable(String),
    /// It may have been carried out.
    Lost(String),
    Error(Error),
}

/// The rounds of one call.
struct Rounds {
    deadline: Instant,
    patience: Instant,
    answered: bool,
    may_have_effect: bool,
    last: String,
    wait_ms: u64,
    dice: Dice,
}

impl Members {
    /// Checks the addresses; connects to none yet.
    pub(crate) fn new(endpoints: Vec<String>) -> Result<Members> {
        if endpoints.is_empty() {
            return Err(Error::InvalidArgument { what: "no placement driver address".into() });
        }
        if endpoints.len() > ENDPOINTS_MAX {
            return Err(Error::LimitExceeded {
                limit: "placement driver addresses".into(),
                max: ENDPOINTS_MAX as u64,
                actual: endpoints.len() as u64,
            });
        }
        for addr in &endpoints {
            channel::endpoint(addr)?;
        }
        Ok(Members {
            endpoints: endpoints.iter().map(|addr| channel::bare(addr).to_string()).collect(),
            cluster_id: AtomicU64::new(0),
            leader: Mutex::new(None),
            channels: Mutex::new(BTreeMap::new()),
        })
    }

    /// 0 while unknown.
    pub(crate) fn cluster_id(&self) -> u64 {
        self.cluster_id.load(Ordering::Relaxed)
    }

    pub(crate) fn set_cluster_id(&self, cluster_id: u64) {
        self.cluster_id.store(cluster_id, Ordering::Relaxed);
    }

    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Gets `op` answered by `deadline`.
    pub(crate) async fn call(
        &self,
        op: proto::pd_request::Op,
        deadline: Instant,
    ) -> Result<proto::pd_reply::Result> {
        let mut rounds = Rounds::new(deadline);
        loop {
            // One hop more than members: the first answer may name a leader that is not listed.
            let mut tried = 0;
            let mut next = self.first_to_ask();
            while tried <= self.endpoints.len() && Instant::now() < deadline {
                tried += 1;
                let addr = next.clone();
                match self.ask(&addr, &op, deadline).await {
                    Asked::Answer(answer) => {
                        *lock(&self.leader) = Some(addr);
                        return Ok(*answer);
                    }
                    Asked::Error(error) => return Err(error),
                    Asked::Lost(reason) if repeat(&op) == Idempotency::NotIdempotent => {
                        return Err(Error::Undetermined { what: op_name(&op).into(), reason });
                    }
                    Asked::NotLeader(leader) => {
                        rounds.answered(format!("{addr} does not lead"));
                        self.forget_leader(&addr);
                        let known = !leader.is_empty() && leader != addr;
                        next = if known { leader } else { self.after(&addr) };
                    }
                    Asked::Busy(reason) => {
                        rounds.answered(reason);
                        break;
                    }
                    Asked::Lost(reason) => {
                        rounds.may_have_effect |= repeat(&op) == Idempotency::Idempotent;
                        next = self.pass_over(&addr, reason, &mut rounds);
                    }
                    Asked::Unreachable(reason) => {
                        next = self.pass_over(&addr, reason, &mut rounds);
                    }
                }
            }
            if !rounds.wait().await {
                return Err(self.out_of_time(&op, rounds));
            }
        }
    }

    async fn ask(&self, addr: &str, op: &proto::pd_request::Op, deadline: Instant) -> Asked {
        let until = deadline.min(Instant::now() + Duration::from_millis(ATTEMPT_MS_MAX));
        let channel = match timeout_at(until, self.channel(addr)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(reason)) => return Asked::Unreachable(reason),
            Err(_) => return Asked::Unreachable(format!("{addr}: no connection in time")),
        };
        let request = proto::PdRequest { cluster_id: self.cluster_id(), op: Some(op.clone()) };
        let mut stub = Stub::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        match timeout_at(until, stub.call(request)).await {
            Ok(Ok(reply)) => judge(reply.into_inner()),
            Ok(Err(status)) => {
                lock(&self.channels).remove(addr);
                judge_status(addr, &status)
            }
            Err(_) => {
                lock(&self.channels).remove(addr);
                Asked::Lost(format!("{addr}: no answer in time"))
            }
        }
    }

    async fn channel(&self, addr: &str) -> Result<Channel, String> {
        if let Some(channel) = lock(&self.channels).get(addr) {
            return Ok(channel.clone());
        }
        let channel = channel::open(addr).await?;
        let mut channels = lock(&self.channels);
        if channels.len() >= ENDPOINTS_MAX {
            // Leaders under ever new addresses: keep none of the old ones.
            channels.clear();
        }
        channels.insert(addr.to_string(), channel.clone());
        Ok(channel)
    }

    fn first_to_ask(&self) -> String {
        let leader = lock(&self.leader).clone();
        leader.or_else(|| self.endpoints.first().cloned()).unwrap_or_default()
    }

    fn forget_leader(&self, addr: &str) {
        let mut leader = lock(&self.leader);
        if leader.as_deref() == Some(addr) {
            *leader = None;
        }
    }

    fn pass_over(&self, addr: &str, reason: String, rounds: &mut Rounds) -> String {
        rounds.last = reason;
        self.forget_leader(addr);
        self.after(addr)
    }

    /// The listed address after `addr`; the first if it is not listed.
    fn after(&self, addr: &str) -> String {
        let at = self.endpoints.iter().position(|known| known == addr).map_or(0, |at| at + 1);
        self.endpoints.get(at % self.endpoints.len()).cloned().unwrap_or_default()
    }

    fn out_of_time(&self, op: &proto::pd_request::Op, rounds: Rounds) -> Error {
        if rounds.may_have_effect {
            return Error::Undetermined { what: op_name(op).into(), reason: rounds.last };
        }
        if rounds.answered {
            return Error::DeadlineExceeded { what: op_name(op).into(), last: rounds.last };
        }
        Error::PdUnreachable { tried: self.endpoints.clone(), reason: rounds.last }
    }
}

impl Rounds {
    fn new(deadline: Instant) -> Rounds {
        let patience = Instant::now() + Duration::from_millis(PATIENCE_MS_MAX);
        Rounds {
            deadline,
            patience,
            answered: false,
            may_have_effect: false,
            last: "no time left to try".into(),
            wait_ms: ROUND_WAIT_MS.0,
            dice: Dice::new(clock::seed()),
        }
    }

    /// Somebody is there: worth waiting for until the deadline.
    fn answered(&mut self, last: String) {
        self.answered = true;
        self.last = last;
    }

    /// Waits for the next round. False if there is to be none.
    async fn wait(&mut self) -> bool {
        let until = if self.answered { self.deadline } else { self.deadline.min(self.patience) };
        let wait_ms = self.dice.between_inclusive(self.wait_ms / 2, self.wait_ms);
        self.wait_ms = (self.wait_ms * 2).min(ROUND_WAIT_MS.1);
        let wake = Instant::now() + Duration::from_millis(wait_ms);
        if wake >= until {
            return false;
        }
        sleep_until(wake).await;
        true
    }
}

fn judge(reply: proto::PdReply) -> Asked {
    let error = match reply.result {
        Some(proto::pd_reply::Result::Error(error)) => error,
        Some(answer) => return Asked::Answer(Box::new(answer)),
        None => return Asked::Error(Error::Protocol { what: "an empty PdReply".into() }),
    };
    match error.kind {
        Some(Kind::NotLeader(error)) => {
            Asked::NotLeader(channel::bare(&error.leader_addr).to_string())
        }
        Some(Kind::Busy(busy)) => Asked::Busy(busy.reason),
        Some(Kind::Refused(refused)) => Asked::Error(Error::Refused { reason: refused.reason }),
        Some(Kind::NotFound(error)) => Asked::Error(Error::NotFound { what: error.what }),
        Some(Kind::Unsupported(error)) => Asked::Error(Error::Refused {
            reason: format!("this version of the placement driver does not know {}", error.what),
        }),
        Some(Kind::ClusterMismatch(error)) => Asked::Error(Error::Refused {
            reason: format!(
                "the placement driver belongs to another cluster ({}); check its address",
                error.cluster_id
            ),
        }),
        None => Asked::Error(Error::Protocol { what: "a PdError without a kind".into() }),
    }
}

/// A placement driver says in its reply what it thinks; a status is the transport's, or that of a
/// server that is none.
fn judge_status(addr: &str, status: &tonic::Status) -> Asked {
    let reason = format!("{addr}: {}", status_reason(status));
    match status.code() {
        Code::Unimplemented | Code::InvalidArgument | Code::OutOfRange => {
            Asked::Error(Error::Protocol { what: reason })
        }
        _ => Asked::Lost(reason),
    }
}

/// What may be done when the answer is lost. Reads, and what is said again anyway or merely wasted,
/// are harmless; what names its whole outcome may be repeated; what makes something new may not.
fn repeat(op: &proto::pd_request::Op) -> Idempotency {
    use proto::pd_request::Op;
    match op {
        Op::ClusterStatus(_)
        | Op::Regions(_)
        | Op::Stores(_)
        | Op::Operators(_)
        | Op::Heartbeat(_)
        | Op::AllocateIds(_) => Idempotency::ReadOnly,
        Op::RegisterStore(register) if register.store_id == 0 => Idempotency::NotIdempotent,
        Op::RegisterStore(_) | Op::SetStoreState(_) | Op::CancelOperator(_) => {
            Idempotency::Idempotent
        }
        Op::AddOperator(_) => Idempotency::NotIdempotent,
    }
}

fn op_name(op: &proto::pd_request::Op) -> &'static str {
    use proto::pd_request::Op;
    match op {
        Op::ClusterStatus(_) => "cluster status",
        Op::RegisterStore(_) => "register store",
        Op::Heartbeat(_) => "store heartbeat",
        Op::AllocateIds(_) => "allocate ids",
        Op::Regions(_) => "regions",
        Op::Stores(_) => "stores",
        Op::SetStoreState(_) => "set store state",
        Op::AddOperator(_) => "add operator",
        Op::Operators(_) => "operators",
        Op::CancelOperator(_) => "cancel operator",
    }
}
