//! A placement driver over a real socket and a real directory.

use std::path::Path;
use std::time::Duration;

use flotilla_host::driver::dir::DirError;
use flotilla_net::connect::connect as connect_to;
use flotilla_net::services::pd_client;
use flotilla_pd::{PdConfig, PdServer, StartError};
use flotilla_types::proto::pd_client::PdClient;
use flotilla_types::proto::{self, pd_error, pd_reply, pd_request};
use tonic::transport::Channel;

async fn start(dir: &Path) -> PdServer {
    PdServer::start(PdConfig::new(1, dir, "127.0.0.1:0")).await.expect("starts")
}

async fn connect(server: &PdServer) -> PdClient<Channel> {
    pd_client(connect_to(&server.addr().to_string()).await.expect("listens"))
}

/// Calls until the answer is not "try again".
async fn call(client: &mut PdClient<Channel>, op: pd_request::Op) -> pd_reply::Result {
    for _ in 0..500 {
        let request = proto::PdRequest { cluster_id: 0, op: Some(op.clone()) };
        let reply = client.call(request).await.expect("answered").into_inner();
        match reply.result.expect("a result") {
            pd_reply::Result::Error(proto::PdError { kind: Some(pd_error::Kind::Busy(_)) }) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            result => return result,
        }
    }
    panic!("busy for five seconds");
}

fn register(addr: &str) -> pd_request::Op {
    let request = proto::RegisterStoreRequest { addr: addr.into(), ..Default::default() };
    pd_request::Op::RegisterStore(request)
}

/// A store that knows no id beyond its block tells so in the full heartbeat that it is asked for.
async fn name_ids(client: &mut PdClient<Channel>, store_id: u64) {
    let mut heartbeat = proto::StoreHeartbeat { store_id, ids_left: 1_000, ..Default::default() };
    loop {
        heartbeat.number += 1;
        let op = pd_request::Op::Heartbeat(heartbeat.clone());
        let pd_reply::Result::Heartbeat(reply) = call(client, op).await else {
            panic!("expected a heartbeat's reply");
        };
        if !reply.need_full {
            return;
        }
        (heartbeat.full, heartbeat.asked_in_term) = (true, reply.term);
    }
}

fn status() -> pd_request::Op {
    pd_request::Op::ClusterStatus(proto::ClusterStatusRequest {})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placement_driver_serves_stops_and_remembers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = start(dir.path()).await;
    let mut client = connect(&server).await;
    let pd_reply::Result::ClusterStatus(before) = call(&mut client, status()).await else {
        panic!("expected a status");
    };
    assert_eq!(before.members[0].addr, server.addr().to_string());
    let pd_reply::Result::RegisterStore(first) = call(&mut client, register("a:1")).await else {
        panic!("expected a registration");
    };
    assert!(first.ids.is_some());

    let mut again = PdConfig::new(1, dir.path(), "127.0.0.1:0");
    let refused = PdServer::start(again.clone()).await.expect_err("in use");
    assert_eq!(refused, StartError::Dir(DirError::InUse { dir: dir.path().into() }));
    again.addr = server.addr().to_string();
    let refused = PdServer::start(again).await.expect_err("the port is taken").to_string();
    assert!(refused.contains(&server.addr().to_string()), "{refused}");
    server.stop().await;

    let another = PdConfig::new(2, dir.path(), "127.0.0.1:0");
    let refused = PdServer::start(another).await.expect_err("another member").to_string();
    assert!(refused.contains("flotilla pd 1"), "{refused}");

    let mut another = PdConfig::new(1, dir.path(), "127.0.0.1:0");
    another.replica_count = Some(5);
    let refused = PdServer::start(another).await.expect_err("other replicas").to_string();
    assert!(refused.contains("--replicas 3"), "{refused}");

    let server = start(dir.path()).await;
    let mut client = connect(&server).await;
    let pd_reply::Result::ClusterStatus(after) = call(&mut client, status()).await else {
        panic!("expected a status");
    };
    assert_eq!((after.cluster_id, after.store_count), (before.cluster_id, 1));
    name_ids(&mut client, 1).await;
    let pd_reply::Result::RegisterStore(second) = call(&mut client, register("b:1")).await else {
        panic!("expected a registration");
    };
    let end = first.ids.map_or(0, |block| block.start + block.count);
    assert!(second.ids.is_some_and(|block| block.start >= end), "ids go on after the restart");
    assert_eq!((first.store_id, second.store_id), (1, 2));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_server_gives_its_directory_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = start(dir.path()).await;
    let mut client = connect(&server).await;
    assert!(matches!(call(&mut client, status()).await, pd_reply::Result::ClusterStatus(_)));
    drop(client);
    drop(server);
    for _ in 0..500 {
        match PdServer::start(PdConfig::new(1, dir.path(), "127.0.0.1:0")).await {
            Ok(server) => return server.stop().await,
            Err(StartError::Dir(DirError::InUse { .. })) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("still in use after five seconds");
}

#[tokio::test]
async fn a_senseless_configuration_is_refused() {
    let refused = PdServer::start(PdConfig::new(0, "/nonexistent", "127.0.0.1:0")).await;
    assert!(matches!(refused, Err(StartError::Config { .. })));
    let mut even = PdConfig::new(1, "/nonexistent", "127.0.0.1:0");
    even.replica_count = Some(2);
    assert!(matches!(PdServer::start(even).await, Err(StartError::Config { .. })));
}
