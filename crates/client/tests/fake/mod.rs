//! A cluster in one process that does what a test tells it: real sockets and the real protocol, one
//! shared map instead of replication, and a list of faults for the requests to come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use flotilla_net::listen::{Listener, Services};
use flotilla_net::services::{kv_server, pd_server};
use flotilla_types::keys::stored_key;
use flotilla_types::proto::kv_server::Kv;
use flotilla_types::proto::pd_server::Pd;
use flotilla_types::proto::{self, pd_error, pd_reply, pd_request, reply, request};
use flotilla_types::{
    Epoch, KeyRange, Member, PeerId, Region, RegionError, RegionId, StoreId, keys::DEFAULT_KEYSPACE,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

pub const CLUSTER: u64 = 77;

/// What happens to one request instead of success.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Refused.
    Refuse(RegionError),
    /// Carried out, and the connection breaks before the answer.
    BreakAfterwards,
    /// Not answered.
    Silence,
    /// Answered with an empty reply.
    Empty,
}

#[derive(Default)]
pub struct State {
    pub data: BTreeMap<Bytes, Bytes>,
    /// With the leader's store.
    pub regions: Vec<(Region, u64)>,
    pub addrs: BTreeMap<u64, String>,
    /// For point requests, in the order they come.
    pub faults: VecDeque<Fault>,
    /// For scans: end the stream after so many chunks.
    pub scan_breaks: VecDeque<usize>,
    /// Scans send chunks without rows for ever.
    pub endless_scans: bool,
    /// Done once, before the next request.
    pub split_at: Option<&'static str>,
    pub requests: Vec<(u64, RegionId)>,
    pub lookups: usize,
    /// Lookups that PD answers as if it knew no region.
    pub blind_lookups: usize,
    pub pd_silent: bool,
    /// PD says that it leads, and answers nothing else.
    pub pd_loses: bool,
    /// Stores that take requests and answer none.
    pub silent_stores: BTreeSet<u64>,
    pub operators: u64,
}

#[derive(Clone, Default)]
pub struct World(Arc<Mutex<State>>);

impl World {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with the lock held")
    }

    /// Stores 1 to 3, with regions cut at `cuts` (user keys); region n is led by store (n % 3) + 1.
    pub async fn start(cuts: &[&'static str]) -> (World, String) {
        let world = World::default();
        for store in 1..=3 {
            world.start_store(store).await;
        }
        let mut bounds = vec![Bytes::new()];
        bounds.extend(cuts.iter().map(|cut| stored_key(DEFAULT_KEYSPACE, cut.as_bytes())));
        bounds.push(Bytes::new());
        let regions = bounds.windows(2).zip(1..).map(|(bounds, id)| {
            let range = KeyRange::new(bounds[0].clone(), bounds[1].clone());
            (region(id, range, Epoch::FIRST), id % 3 + 1)
        });
        world.state().regions = regions.collect();
        let addr = world.start_pd(None).await;
        (world, addr)
    }

    pub async fn start_store(&self, id: u64) {
        let service = kv_server(FakeStore { id, world: self.clone() });
        let addr = serve(Routes::new(service)).await;
        self.state().addrs.insert(id, addr);
    }

    /// A placement driver member; with `leader`, one that only points there.
    pub async fn start_pd(&self, leader: Option<String>) -> String {
        serve(Routes::new(pd_server(FakePd { leader, world: self.clone() }))).await
    }

    pub fn fault(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    pub fn value(&self, key: &str) -> Option<Bytes> {
        self.state().data.get(&stored_key(DEFAULT_KEYSPACE, key.as_bytes())).cloned()
    }
}

/// Serves as a store or a placement driver does, and says where.
async fn serve(services: Routes) -> String {
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.addr().to_string();
    tokio::spawn(listener.serve(Services::alike(services), std::future::pending()));
    addr
}

/// A port where nobody listens.
pub async fn dead_addr() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

fn region(id: u64, range: KeyRange, epoch: Epoch) -> Region {
    let peers = (1..=3).map(|store| Member::voter(PeerId(id * 10 + store), StoreId(store)));
    Region { id: RegionId(id), range, epoch, members: peers.collect() }
}

impl State {
    /// Cuts the region around the user key in two.
    pub fn split(&mut self, at: &str) {
        let cut = stored_key(DEFAULT_KEYSPACE, at.as_bytes());
        let id = 1 + self.regions.iter().map(|(region, _)| region.id.0).max().expect("a region");
        let around = |(region, _): &&mut (Region, u64)| region.range.contains(&cut);
        let (left, leader) = self.regions.iter_mut().find(around).expect("the map is total");
        left.epoch.version += 1;
        let right = KeyRange::new(cut.clone(), std::mem::replace(&mut left.range.end, cut));
        let right = (region(id, right, left.epoch), *leader);
        self.regions.push(right);
        self.regions.sort_by_key(|(region, _)| region.range.start.clone());
    }

    fn check(
        &mut self,
        store: u64,
        asked: &proto::RegionRef,
    ) -> Result<KeyRange, Box<RegionError>> {
        if let Some(at) = self.split_at.take() {
            self.split(at);
        }
        let id = RegionId(asked.region_id);
        self.requests.push((store, id));
        let known = self.regions.iter().find(|(region, _)| region.id == id);
        let (region, leader) = known.ok_or(RegionError::RegionNotFound { region_id: id })?;
        if *leader != store {
            let leader = region.member_on(StoreId(*leader)).copied();
            return Err(RegionError::NotLeader { region_id: id, leader }.into());
        }
        if Epoch::from(asked.epoch.expect("the client names an epoch")) != region.epoch {
            let current = self.regions.iter().map(|(region, _)| region.clone()).collect();
            return Err(RegionError::EpochNotMatch { current }.into());
        }
        Ok(region.range.clone())
    }

    fn apply(&mut self, range: &KeyRange, op: request::Op) -> reply::Result {
        use proto::mutation::Kind;
        let slot = |value: Option<&Bytes>| proto::Slot {
            found: value.is_some(),
            value: value.cloned().unwrap_or_default(),
        };
        match op {
            request::Op::Get(get) => {
                assert!(get.keys.iter().all(|key| range.contains(key)), "key outside the region");
                let slots = get.keys.iter().map(|key| slot(self.data.get(key))).collect();
                reply::Result::Get(proto::GetReply { slots })
            }
            request::Op::Write(write) => {
                for mutation in write.mutations {
                    match mutation.kind.expect("a kind") {
                        Kind::Put(pair) => {
                            assert!(range.contains(&pair.key), "key outside the region");
                            self.data.insert(pair.key, pair.value);
                        }
                        Kind::Delete(key) => {
                            assert!(range.contains(&key), "key outside the region");
                            self.data.remove(&key);
                        }
                        Kind::DeleteRange(span) => {
                            let span = KeyRange::from(span);
                            assert!(range.covers(&span), "span outside the region");
                            self.data.retain(|key, _| !span.contains(key));
                        }
                    }
                }
                reply::Result::Write(proto::WriteReply {})
            }
            request::Op::CompareAndSwap(cas) => {
                let previous = slot(self.data.get(&cas.key));
                let swapped = cas.expected.unwrap_or_default() == previous;
                let new = cas.new.unwrap_or_default();
                match (swapped, new.found) {
                    (true, true) => drop(self.data.insert(cas.key, new.value)),
                    (true, false) => drop(self.data.remove(&cas.key)),
                    (false, _) => {}
                }
                let previous = Some(previous);
                reply::Result::CompareAndSwap(proto::CompareAndSwapReply { swapped, previous })
            }
        }
    }
}

struct FakeStore {
    id: u64,
    world: World,
}

type Replies = mpsc::Sender<Result<proto::ReplyBatch, Status>>;

/// Answers one batch; false to break the stream.
async fn answer(world: &World, store: u64, batch: proto::RequestBatch, out: &Replies) -> bool {
    assert_eq!((batch.cluster_id, batch.store_id), (CLUSTER, store));
    for request in batch.requests {
        let result = {
            let mut state = world.state();
            if state.silent_stores.contains(&store) {
                continue;
            }
            let fault = state.faults.pop_front();
            let breaks = matches!(fault, Some(Fault::BreakAfterwards));
            let checked = match fault {
                Some(Fault::Refuse(error)) => Err(Box::new(error)),
                Some(Fault::Silence) => continue,
                Some(Fault::Empty) => Ok(None),
                Some(Fault::BreakAfterwards) | None => {
                    let checked = state.check(store, &request.region.expect("a region"));
                    let op = request.op.expect("an op");
                    checked.map(|range| Some(state.apply(&range, op)))
                }
            };
            if breaks {
                return false;
            }
            checked.unwrap_or_else(|error| Some(reply::Result::Error((*error).into())))
        };
        let replies = vec![proto::Reply { id: request.id, result }];
        if out.send(Ok(proto::ReplyBatch { replies, is_last: false })).await.is_err() {
            return false;
        }
    }
    true
}

#[tonic::async_trait]
impl Kv for FakeStore {
    type RequestsStream = ReceiverStream<Result<proto::ReplyBatch, Status>>;
    type ScanStream = ReceiverStream<Result<proto::ScanChunk, Status>>;

    async fn requests(
        &self,
        request: Request<Streaming<proto::RequestBatch>>,
    ) -> Result<Response<Self::RequestsStream>, Status> {
        let (out, replies) = mpsc::channel(16);
        let (world, store) = (self.world.clone(), self.id);
        let mut batches = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(batch)) = batches.message().await {
                if !answer(&world, store, batch, &out).await {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn scan(
        &self,
        request: Request<proto::ScanRequest>,
    ) -> Result<Response<Self::ScanStream>, Status> {
        let scan = request.into_inner();
        let endless = self.world.state().endless_scans;
        let chunks = scan_chunks(&mut self.world.state(), self.id, scan);
        let (out, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            for chunk in chunks {
                if out.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
            while endless && out.send(Ok(proto::ScanChunk::default())).await.is_ok() {}
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn replica(
        &self,
        _request: Request<proto::ReplicaRequest>,
    ) -> Result<Response<proto::ReplicaReply>, Status> {
        Err(Status::unimplemented("a fake store has no replicas"))
    }

    async fn memory(
        &self,
        _request: Request<proto::MemoryRequest>,
    ) -> Result<Response<proto::MemoryReply>, Status> {
        Err(Status::unimplemented("a fake store has no account"))
    }

    async fn routes(
        &self,
        _request: Request<proto::RoutesRequest>,
    ) -> Result<Response<proto::RoutesReply>, Status> {
        Err(Status::unimplemented("a fake store names no routes"))
    }
}

/// Two rows in a chunk.
fn scan_chunks(state: &mut State, store: u64, scan: proto::ScanRequest) -> Vec<proto::ScanChunk> {
    assert_eq!((scan.cluster_id, scan.store_id), (CLUSTER, store));
    let range = match state.check(store, &scan.region.expect("a region")) {
        Ok(range) => range,
        Err(error) => {
            return vec![proto::ScanChunk { error: Some((*error).into()), ..Default::default() }];
        }
    };
    let span = KeyRange::from(scan.span.expect("a span"));
    assert!(range.covers(&span), "span outside the region");
    let row = |(key, value): (&Bytes, &Bytes)| proto::Pair {
        key: key.clone(),
        value: if scan.keys_only { Bytes::new() } else { value.clone() },
    };
    let rows = state.data.iter().filter(|(key, _)| span.contains(key)).map(row);
    let mut rows: Vec<proto::Pair> = rows.collect();
    if scan.reverse {
        rows.reverse();
    }
    if scan.limit > 0 {
        rows.truncate(scan.limit as usize);
    }
    let chunk = |pairs: &[proto::Pair]| proto::ScanChunk {
        error: None,
        pairs: pairs.to_vec(),
        done: false,
    };
    let mut chunks: Vec<proto::ScanChunk> = rows.chunks(2).map(chunk).collect();
    match state.scan_breaks.pop_front() {
        Some(after) => chunks.truncate(after),
        None if state.endless_scans => {}
        None => chunks.push(proto::ScanChunk { done: true, ..Default::default() }),
    }
    chunks
}

struct FakePd {
    leader: Option<String>,
    world: World,
}

#[tonic::async_trait]
impl Pd for FakePd {
    async fn call(
        &self,
        request: Request<proto::PdRequest>,
    ) -> Result<Response<proto::PdReply>, Status> {
        let request = request.into_inner();
        let is_probe = matches!(request.op, Some(pd_request::Op::Members(_)));
        let is_silent = |state: &State| state.pd_silent || (state.pd_loses && !is_probe);
        while is_silent(&self.world.state()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let error = |kind| pd_reply::Result::Error(proto::PdError { kind: Some(kind) });
        let result = if let Some(leader) = &self.leader {
            let leader_addr = leader.clone();
            error(pd_error::Kind::NotLeader(proto::NotPdLeader { leader_addr }))
        } else if request.cluster_id != 0 && request.cluster_id != CLUSTER {
            let mismatch = proto::ClusterMismatch { cluster_id: CLUSTER };
            error(pd_error::Kind::ClusterMismatch(mismatch))
        } else {
            pd_answer(&mut self.world.state(), request.op.expect("an op"))
        };
        Ok(Response::new(proto::PdReply { result: Some(result), ..Default::default() }))
    }
}

fn pd_answer(state: &mut State, op: pd_request::Op) -> pd_reply::Result {
    match op {
        pd_request::Op::ClusterStatus(_) => {
            let status = proto::ClusterStatus { cluster_id: CLUSTER, ..Default::default() };
            pd_reply::Result::ClusterStatus(status)
        }
        pd_request::Op::Regions(asked) => {
            state.lookups += 1;
            if state.blind_lookups > 0 {
                state.blind_lookups -= 1;
                return pd_reply::Result::Regions(proto::RegionsReply::default());
            }
            let from = state
                .regions
                .iter()
                .position(|(region, _)| region.range.contains(&asked.start_key))
                .unwrap_or_default();
            // Two in a page, so that paging is exercised.
            let routes = state.regions.iter().skip(from).take(2).map(|(region, leader)| {
                let leader = region.member_on(StoreId(*leader)).copied().map(proto::Member::from);
                proto::Route { region: Some(region.clone().into()), leader, ..Default::default() }
            });
            let addr = |(id, addr): (&u64, &String)| proto::StoreAddr {
                store_id: *id,
                addr: addr.clone(),
            };
            pd_reply::Result::Regions(proto::RegionsReply {
                routes: routes.collect(),
                stores: state.addrs.iter().map(addr).collect(),
            })
        }
        pd_request::Op::AddOperator(_) => {
            state.operators += 1;
            let operator_id = state.operators;
            pd_reply::Result::AddOperator(proto::AddOperatorReply { operator_id })
        }
        other => {
            let kind = pd_error::Kind::NotFound(proto::NotFound { what: format!("{other:?}") });
            pd_reply::Result::Error(proto::PdError { kind: Some(kind) })
        }
    }
}
