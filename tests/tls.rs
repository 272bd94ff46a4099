//! TLS between processes: who is let in to what, certificates that are replaced, and those that are
//! wrong.
//!
//! The certificates are made by `flotilla cert`, as a user would.

use std::fs;
use std::path::Path;
use std::time::Duration;

use flotilla_net::access::{Access, Rpc, TABLE};
use flotilla_net::connect::{Callee, connect_by};
use flotilla_net::principal::CertRole;
use flotilla_net::services::{kv_client, pd_client, raft_client};
use flotilla_net::tls::Tls;
use flotilla_tests::{Certs, Cluster, Process, command, free_port, wait_for};
use flotilla_types::proto::change_members_request::Kind as Change;
use flotilla_types::proto::pd_request::Op;
use flotilla_types::proto::snapshot_part::Part;
use flotilla_types::proto::{self, PdRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A server that is refused ends by then, and one that changes has done so.
const SOON: Duration = Duration::from_secs(20);

/// The load of a rotation, and when it must have ended.
const LOAD_SECONDS: &str = "5";
const LOAD_DEADLINE: Duration = Duration::from_secs(60);

/// The id that the certificates of the table's servers name, and another.
const OWN: u64 = 9;
const OTHERS: u64 = 1;

#[test]
fn a_cluster_with_tls_serves_and_every_role_may_call_what_its_row_says() {
    let mut cluster = Cluster::stopped(3, "96MiB").with_tls();
    cluster.start_all();
    cluster.wait_healthy();
    cluster.run(&["kv", "put", "apple", "red"]).ok();
    assert_eq!(cluster.run(&["kv", "get", "apple"]).ok().text(), "red");
    let own = OWN.to_string();
    let certs = cluster.certs();
    certs.create("table-store", &["--role", "store", "--id", &own]);
    certs.create("table-pd", &["--role", "pd", "--id", &own]);
    certs.create("table-client", &["--role", "client"]);
    certs.create("table-admin", &["--role", "admin"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for role in CertRole::ALL {
        let tls = Tls::from_dir(certs.path(&format!("table-{}", role.name()))).expect("loaded");
        runtime.block_on(async {
            let callee = Callee::any(Some(tls));
            let store = connect_by(cluster.store_addr(0), &callee).await.expect("a store");
            let pd = connect_by(cluster.pd_addr(), &callee).await.expect("PD");
            for (rpc, name, _) in TABLE {
                let for_whom = |id| call(*rpc, role, id, store.clone(), pd.clone());
                let seen = match (for_whom(OWN).await, for_whom(OTHERS).await) {
                    (Gate::Passed, Gate::Passed) => Access::Granted,
                    (Gate::Passed, Gate::Refused) => Access::ForItself,
                    (Gate::Refused, _) => Access::Refused,
                };
                assert_eq!(seen, rpc.access(role), "{} calls {name}", role.name());
            }
        });
    }
    let client = certs.path("table-client");
    let pd = cluster.pd_addrs();
    let as_client = ["--pd", &pd, "--tls-dir", &client];
    command::run(&[&["kv", "put", "pear", "green"][..], &as_client].concat()).ok();
    command::run(&[&["ctl", "store", "list"][..], &as_client].concat()).ok();
    let refused =
        command::run(&[&["ctl", "store", "drain", "1", "--force"][..], &as_client].concat());
    refused.expect_code(3).expect_stderr(&["a certificate of a client does not permit"]);
}

/// What became of a call at the gate.
enum Gate {
    Passed,
    Refused,
}

/// Makes a call that speaks for the holder `id` of this role, where the call speaks for anybody,
/// and that otherwise asks for nothing.
async fn call(rpc: Rpc, role: CertRole, id: u64, store: Channel, pd: Channel) -> Gate {
    let pd_role = i32::from(role == CertRole::Pd);
    let answered = match rpc {
        Rpc::KvRequests => {
            let first = tokio_stream::iter([proto::RequestBatch::default()]);
            kv_client(store).requests(first).await.map(drop)
        }
        Rpc::KvScan => kv_client(store).scan(proto::ScanRequest::default()).await.map(drop),
        Rpc::KvRoutes => kv_client(store).routes(proto::RoutesRequest::default()).await.map(drop),
        Rpc::KvReplica => {
            kv_client(store).replica(proto::ReplicaRequest::default()).await.map(drop)
        }
        Rpc::KvMemory => kv_client(store).memory(proto::MemoryRequest::default()).await.map(drop),
        Rpc::RaftMessages => {
            let batch = proto::EnvelopeBatch { role: pd_role, from: id, ..Default::default() };
            raft_client(store).messages(tokio_stream::iter([batch])).await.map(drop)
        }
        Rpc::RaftSnapshot => {
            let header = proto::SnapshotHeader { role: pd_role, from: id, ..Default::default() };
            let part = proto::SnapshotPart { part: Some(Part::Header(header)) };
            let done = raft_client(store).snapshot(tokio_stream::iter([part])).await;
            done.and_then(|done| match done.into_inner().reason {
                reason if reason.contains("does not permit") => {
                    Err(Status::permission_denied(reason))
                }
                _ => Ok(()),
            })
        }
        rpc => {
            let op = op(rpc, id);
            assert!(op.is_some() || rpc == Rpc::PdCall, "no request is made for {rpc:?}");
            let request = PdRequest { cluster_id: 0, op };
            pd_client(pd).call(request).await.map(drop)
        }
    };
    match answered {
        Err(status) if status.code() == Code::PermissionDenied => Gate::Refused,
        Ok(()) | Err(_) => Gate::Passed,
    }
}

/// A request to the placement driver that changes nothing.
fn op(rpc: Rpc, id: u64) -> Option<Op> {
    let member = proto::PdMember { id, ..Default::default() };
    let add = proto::ChangeMembersRequest { kind: Some(Change::Add(member)) };
    let store = proto::RegisterStoreRequest { store_id: id, ..Default::default() };
    let beat = proto::StoreHeartbeat { store_id: id, ..Default::default() };
    let ops = [
        Op::ClusterStatus(Default::default()),
        Op::RegisterStore(store),
        Op::Heartbeat(beat),
        Op::AllocateIds(Default::default()),
        Op::Regions(Default::default()),
        Op::Stores(Default::default()),
        Op::SetStoreState(Default::default()),
        Op::AddOperator(Default::default()),
        Op::Operators(Default::default()),
        Op::CancelOperator(Default::default()),
        Op::Explain(Default::default()),
        Op::Members(Default::default()),
        Op::ChangeMembers(add),
    ];
    ops.into_iter().find(|op| Rpc::of_op(op) == rpc)
}

#[test]
fn certificates_are_replaced_under_load_and_no_call_fails() {
    let mut cluster = Cluster::stopped(3, "96MiB").with_tls();
    cluster.start_all();
    cluster.wait_healthy();
    let pd = cluster.pd_addrs();
    let args = ["bench", "run", "--op", "put", "--clients", "8", "--keys", "1000", "--no-load"];
    let times = ["--warmup", "0", "--seconds", LOAD_SECONDS, "-o", "json", "--pd", &pd];
    let args: Vec<String> = args.iter().chain(&times).map(ToString::to_string).collect();
    let args = [args, cluster.tls_args("admin")].concat();
    let mut load = Process::start("bench", cluster.scratch(), &args);

    let certs = cluster.certs();
    fs::write(Path::new(&certs.path("store1")).join("tls.crt"), "broken").expect("written");
    certs.create("new-pd", &["--role", "pd", "--id", "1"]);
    certs.replace("pd", "new-pd");
    certs.create("new-store", &["--role", "store"]);
    for store in ["store0", "store2"] {
        certs.replace(store, "new-store");
    }
    said(&mut cluster, 1, "the new certificates are refused; those of before stay in use");
    said(&mut cluster, 0, "the certificates changed, and are used from now");
    said(&mut cluster, 2, "the certificates changed, and are used from now");
    cluster.wait_for_member_to_say(0, "the certificates changed, and are used from now");
    cluster.certs().replace("store1", "new-store");
    said(&mut cluster, 1, "the certificates changed, and are used from now");

    assert!(load.wait(LOAD_DEADLINE).expect("the load ends").success(), "{}", load.stderr());
    let report: serde_json::Value = serde_json::from_slice(&load.stdout()).expect("a report");
    assert_eq!(report["errors"], 0, "{report}");
    cluster.kill_store(0);
    cluster.start_store(0);
    cluster.wait_healthy();
}

fn said(cluster: &mut Cluster, store: usize, words: &str) {
    wait_for(words, SOON, || {
        let stderr = cluster.store(store).stderr();
        if stderr.contains(words) { Ok(()) } else { Err(stderr) }
    });
}

#[test]
fn wrong_certificates_are_refused_in_one_line_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let certs = Certs::new(dir.path().join("tls"));
    let other = Certs::new(dir.path().join("other"));
    certs.create("late", &["--role", "store", "--valid-for", "0s"]);
    certs.create("client", &["--role", "client"]);
    certs.create("pd-2", &["--role", "pd", "--id", "2"]);
    certs.create("good", &["--role", "store"]);
    other.create("else", &["--role", "store"]);
    let other_ca = Path::new(&other.path("else")).join("ca.crt");
    fs::copy(Path::new(&certs.path("good")).join("ca.crt"), other_ca).expect("copied");
    certs.try_create("good", &["--role", "pd"]).expect_code(2).expect_stderr(&["not written over"]);
    wait_for("a certificate to expire", SOON, || match Tls::from_dir(certs.path("late")) {
        Ok(_) => Err("it is still valid".to_string()),
        Err(_) => Ok(()),
    });
    let data = dir.path().join("data");
    let refused = |args: &[&str], tls: &str, words: &[&str]| {
        let dir = data.display().to_string();
        let finished = command::run(&[args, &["--dir", &dir, "--tls-dir", tls]].concat());
        assert_ne!(finished.code, 0, "{finished:?}");
        let lines: Vec<&str> = finished.stderr.lines().filter(|l| l.starts_with("error")).collect();
        assert_eq!(lines.len(), 1, "{finished:?}");
        finished.expect_stderr(words);
        assert!(!data.exists(), "nothing is written");
    };
    let store = ["store", "--pd", "127.0.0.1:1", "--addr", "127.0.0.1:0"];
    refused(&store, &certs.path("late"), &["tls.crt", "has expired"]);
    refused(&store, &other.path("else"), &["was not made by the authority in"]);
    refused(&store, &certs.path("client"), &["names a client, and this is a store"]);
    refused(&store, &certs.path("none"), &["tls.crt", "No such file"]);
    let named = [&store[..], &["--advertise-addr", "db-1.example:20161"]].concat();
    refused(&named, &certs.path("good"), &["is not valid for \"db-1.example\""]);
    let pd = ["pd", "--id", "1", "--addr", "127.0.0.1:0"];
    refused(&pd, &certs.path("pd-2"), &["names pd 2, and this is pd 1"]);
    let everywhere = ["pd", "--id", "1", "--addr", "0.0.0.0:0", "--insecure"];
    refused(&everywhere, &certs.path("good"), &["--insecure is for servers without"]);
}

#[test]
fn a_caller_with_tls_and_a_server_without_it_say_so_and_the_reverse() {
    let mut cluster = Cluster::stopped(1, "96MiB").with_tls();
    cluster.start_all();
    cluster.wait_healthy();
    let pd = cluster.pd_addrs();
    command::run(&["ctl", "store", "list", "--pd", &pd])
        .expect_code(3)
        .expect_stderr(&["it speaks TLS, and this side does not"]);
    let other = Certs::new(cluster.scratch().join("other"));
    let stranger = other.create("admin", &["--role", "admin"]);
    command::run(&["ctl", "store", "list", "--pd", &pd, "--tls-dir", &stranger])
        .expect_code(3)
        .expect_stderr(&["its certificate was made by another authority than ours"]);
    // It trusts the cluster, and the cluster does not trust it.
    let ca = Path::new(&cluster.certs().path("admin")).join("ca.crt");
    let (cert, key) = (format!("{stranger}/tls.crt"), format!("{stranger}/tls.key"));
    let both = cluster.scratch().join("both.crt");
    let trusted = [fs::read(&ca), fs::read(format!("{stranger}/ca.crt"))];
    let trusted = trusted.map(|pem| pem.expect("an authority")).concat();
    fs::write(&both, trusted).expect("written");
    let both = both.display().to_string();
    let files = ["--tls-cert", &cert, "--tls-key", &key, "--tls-ca", &both];
    command::run(&[&["ctl", "store", "list", "--pd", &pd][..], &files].concat())
        .expect_code(3)
        .expect_stderr(&["it refuses our certificate: made by another authority"]);
    wait_for("PD to say who was refused", SOON, || {
        let stderr = cluster.member(0).stderr();
        let words = ["it does not speak TLS", "made by another authority than ours"];
        if words.iter().all(|word| stderr.contains(word)) { Ok(()) } else { Err(stderr) }
    });

    let plain = Cluster::start(1, "96MiB");
    let admin = cluster.certs().path("admin");
    let pd = plain.pd_addrs();
    command::run(&["ctl", "store", "list", "--pd", &pd, "--tls-dir", &admin])
        .expect_code(3)
        .expect_stderr(&["it does not speak TLS, and this side does"]);
    plain.run(&["ctl", "store", "list"]).ok();
}

#[test]
fn a_playground_with_tls_makes_its_own_certificates() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data").display().to_string();
    let port = free_port().to_string();
    let args = ["playground", "--tls", "--dir", &data, "--pd-port", &port, "--http-port", "0"];
    let args: Vec<String> = args.map(String::from).to_vec();
    let mut playground = Process::start("playground", dir.path(), &args);
    playground.wait_for_line("ready", Duration::from_secs(90));
    let pd = format!("127.0.0.1:{port}");
    let tls = format!("{data}/tls/admin");
    playground.wait_for_line(&format!("tls-dir  {tls}"), SOON);
    let at = ["--pd", &pd, "--tls-dir", &tls];
    command::run(&[&["kv", "put", "apple", "red"][..], &at].concat()).ok();
    assert_eq!(command::run(&[&["kv", "get", "apple"][..], &at].concat()).ok().text(), "red");
    command::run(&["kv", "get", "apple", "--pd", &pd]).expect_code(3);
}
