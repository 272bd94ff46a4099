//! etcd through its v3 gRPC API: unary calls, as etcd has no others for single keys.
//!
//! Clients are spread over several connections and over all members, as with etcd's own benchmark
//! tool. The leader's connection comes first, so that a lone client pays for no forwarding. Reads
//! are linearizable (etcd's default). A put is acknowledged once it is on disk on a quorum.

use std::time::Duration;

use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{Answer, CALL_TIMEOUT, Call, CallError, SWAP_TRIES_MAX, Target};
use crate::error::{BenchError, Result};
use crate::workload::Request;

/// etcd's messages and services.
mod api {
    #![allow(missing_docs)]
    tonic::include_proto!("etcdserverpb");
}

use api::compare::{CompareResult, CompareTarget, TargetUnion};
use api::kv_client::KvClient;
use api::maintenance_client::MaintenanceClient;

/// Connections, each with an HTTP/2 stream per client: more do not help three members.
const CONNECTIONS_MAX: usize = 24;

/// Puts in one transaction while loading: etcd's default --max-txn-ops.
const TXN_PUTS_MAX: usize = 128;

/// How long a member may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A range's end that stands for no end.
const NO_END: Bytes = Bytes::from_static(&[0]);

/// An etcd cluster.
pub struct EtcdTarget {
    connections: Vec<KvClient<Channel>>,
}

impl EtcdTarget {
    /// Connects `clients` clients to the members at `endpoints` (`HOST:PORT`).
    ///
    /// # Errors
    /// [`BenchError::Target`] if a member cannot be reached.
    pub async fn connect(endpoints: &[String], clients: usize) -> Result<EtcdTarget> {
        let mut ordered = Vec::new();
        for endpoint in endpoints {
            let at = if leads(endpoint).await? { 0 } else { ordered.len() };
            ordered.insert(at, endpoint);
        }
        let mut connections = Vec::new();
        for endpoint in ordered.iter().cycle().take(clients.clamp(1, CONNECTIONS_MAX)) {
            connections.push(KvClient::new(channel(endpoint).await?));
        }
        if connections.is_empty() {
            return Err(BenchError::Usage("--endpoints: name at least one member of etcd".into()));
        }
        Ok(EtcdTarget { connections })
    }

    /// Ok if each of the first `connections` connections answers a linearizable read, which takes a
    /// member that knows a leader.
    ///
    /// # Errors
    /// [`BenchError::Target`] with the first that does not.
    pub async fn check_serves(&self, connections: usize) -> Result<()> {
        for lane in 0..connections {
            let answer = self.range(lane, one(Bytes::from_static(b"ready"))).await;
            answer.map_err(|error| BenchError::target("read from etcd", error))?;
        }
        Ok(())
    }

    fn connection(&self, lane: usize) -> KvClient<Channel> {
        self.connections[lane % self.connections.len()].clone()
    }

    async fn range(&self, lane: usize, range: api::RangeRequest) -> Tried<Vec<api::KeyValue>> {
        Ok(self.connection(lane).range(range).await?.into_inner().kvs)
    }

    async fn put(&self, lane: usize, key: Bytes, value: Bytes) -> Tried<Answer> {
        self.connection(lane).put(api::PutRequest { key, value }).await?;
        Ok(Answer::Done)
    }

    async fn swap(&self, lane: usize, key: Bytes, value: Bytes) -> Tried<Answer> {
        let mut found = self.range(lane, one(key.clone())).await?;
        for _ in 0..SWAP_TRIES_MAX {
            let revision = found.first().map_or(0, |row| row.mod_revision);
            let txn = swap_from(revision, &key, &value);
            let reply = self.connection(lane).txn(txn).await?.into_inner();
            if reply.succeeded {
                return Ok(Answer::Done);
            }
            found = match reply.responses.into_iter().next().and_then(|reply| reply.response) {
                Some(api::response_op::Response::ResponseRange(range)) => range.kvs,
                _ => return Err(CallError::definite("etcd answered a transaction without rows")),
            };
        }
        Err(CallError::definite("others wrote the key before each of many compare-and-swaps"))
    }

    async fn carry_out(&self, lane: usize, request: Request) -> Tried<Answer> {
        let rows = match request {
            Request::Put { key, value, .. } => return self.put(lane, key, value).await,
            Request::Swap { key, value } => return self.swap(lane, key, value).await,
            Request::Get(key) => self.range(lane, one(key)).await?,
            Request::Scan { start, rows } => {
                let limit = i64::try_from(rows).unwrap_or(i64::MAX);
                let range = api::RangeRequest { key: start, range_end: NO_END, limit };
                self.range(lane, range).await?
            }
        };
        Ok(if rows.is_empty() { Answer::Absent } else { Answer::Done })
    }
}

impl Target for EtcdTarget {
    fn call(&self, lane: usize, request: Request) -> Call<'_, Answer> {
        Box::pin(self.carry_out(lane, request))
    }

    fn load(&self, lane: usize, rows: Vec<(Bytes, Bytes)>) -> Call<'_, ()> {
        Box::pin(async move {
            for rows in rows.chunks(TXN_PUTS_MAX) {
                let success = rows.iter().cloned().map(|(key, value)| put_op(key, value)).collect();
                let txn = api::TxnRequest { success, ..Default::default() };
                self.connection(lane).txn(txn).await?;
            }
            Ok(())
        })
    }
}

type Tried<T> = Result<T, CallError>;

/// True if the member at `endpoint` leads its cluster.
async fn leads(endpoint: &str) -> Result<bool> {
    let mut member = MaintenanceClient::new(channel(endpoint).await?);
    let status = member.status(api::StatusRequest {}).await;
    let status = status
        .map_err(|status| BenchError::target(format!("ask etcd at {endpoint}"), status.message()))?
        .into_inner();
    Ok(status.header.is_some_and(|header| header.member_id == status.leader))
}

async fn channel(endpoint: &str) -> Result<Channel> {
    let what = || format!("connect to etcd at {endpoint}");
    Endpoint::from_shared(format!("http://{endpoint}"))
        .map_err(|error| BenchError::target(what(), error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .connect()
        .await
        .map_err(|error| BenchError::target(what(), error))
}

fn one(key: Bytes) -> api::RangeRequest {
    api::RangeRequest { key, range_end: Bytes::new(), limit: 0 }
}

fn put_op(key: Bytes, value: Bytes) -> api::RequestOp {
    let put = api::PutRequest { key, value };
    api::RequestOp { request: Some(api::request_op::Request::RequestPut(put)) }
}

/// Puts the value if the key was last written at `revision` (0: never), else reads the key.
fn swap_from(revision: i64, key: &Bytes, value: &Bytes) -> api::TxnRequest {
    let compare = api::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(revision)),
    };
    let read = api::request_op::Request::RequestRange(one(key.clone()));
    api::TxnRequest {
        compare: vec![compare],
        success: vec![put_op(key.clone(), value.clone())],
        failure: vec![api::RequestOp { request: Some(read) }],
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> CallError {
        let undetermined =
            !matches!(status.code(), Code::InvalidArgument | Code::ResourceExhausted);
        let reason = format!("{:?}: {}", status.code(), status.message());
        CallError { undetermined, reason }
    }
}
