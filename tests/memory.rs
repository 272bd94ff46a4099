//! What stores hold in memory stays within what they were told, whatever clients do.
//!
//! Each store has little memory, so that a small load is too much for it: [`MEMORY`], a quarter of
//! the default.

use std::time::Duration;

use flotilla_client::{Client, ScanOptions, ScanStream};
use flotilla_tests::{Cluster, wait_for};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const MEMORY: &str = "128MiB";

/// The most that a store's process may hold: twice what it was told, for a debug build, its
/// threads, entries of its log that are not bounded yet, and what the allocator keeps.
const RESIDENT_MAX: u64 = 256 << 20;

/// Bytes of a large value.
const VALUE_BYTES: usize = 500_000;

/// Rows of a large value each.
const ROWS: usize = 16;

/// Scans whose readers wait: together they are sent twice what a store may hold.
const WAITING_SCANS: usize = 40;

/// How long they wait: longer than a reader may stand still while others wait for its room.
const WAIT: Duration = Duration::from_secs(3);

/// Gets of the largest value that are under way at once.
const LARGE_GETS: usize = 80;

const PUTS: usize = 10_000;

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime can be started")
}

/// A client that waits for as long as a busy machine takes.
async fn connect(cluster: &Cluster) -> Client {
    let client =
        Client::builder().endpoints([cluster.pd_addr()]).request_timeout(Duration::from_secs(60));
    client.connect().await.expect("the cluster can be reached")
}

fn start(stores: usize) -> Cluster {
    let mut cluster = Cluster::stopped(stores, "96MiB").with_memory(MEMORY);
    cluster.start_all();
    cluster.wait_healthy();
    cluster
}

fn check_peaks(cluster: &mut Cluster, stores: &[usize]) {
    for index in stores {
        let peak = cluster.store(*index).peak_memory();
        println!("store {index}: a peak of {} MiB", peak >> 20);
        assert!(peak < RESIDENT_MAX, "store {index} held {peak} bytes");
    }
}

/// The account of the store with this id.
fn account(cluster: &Cluster, id: u64) -> serde_json::Value {
    cluster.ctl(&["store", "show", &id.to_string()])["memory"].clone()
}

#[test]
fn scans_whose_readers_wait_leave_room_for_others_and_are_read_to_their_end() {
    let mut cluster = start(1);
    runtime().block_on(async {
        let client = connect(&cluster).await;
        for row in 0..ROWS {
            let put = client.put(format!("row{row:02}"), vec![b'v'; VALUE_BYTES]).await;
            put.expect("a put");
        }
        let mut scans: Vec<ScanStream> = vec![];
        for _ in 0..WAITING_SCANS {
            scans.push(client.scan_stream(ScanOptions::default()).expect("a valid scan"));
        }
        let mut opening = JoinSet::new();
        for mut scan in scans {
            // Each is open and has a row, although those before it stand still.
            opening.spawn(async move {
                scan.next().await.expect("rows").expect("the first row");
                scan
            });
        }
        let scans = opening.join_all().await;
        tokio::time::sleep(WAIT).await;
        let held = account(&cluster, 1)["held"].clone();
        let mut kinds = held.as_array().into_iter().flatten();
        let chunks = kinds.find(|held| held["kind"] == "scan_chunks").expect("an account of them");
        let bytes = |name: &str| chunks[name].as_u64().expect("a number of bytes");
        assert!(bytes("bytes") <= bytes("bytes_max"), "{chunks}");
        for mut scan in scans {
            let mut rows = 1;
            while let Some(row) = scan.next().await {
                row.expect("the scan goes on where it was");
                rows += 1;
            }
            assert_eq!(rows, ROWS);
        }
    });
    check_peaks(&mut cluster, &[0]);
    cluster.check_output();
}

#[test]
fn gets_of_large_values_that_waited_for_a_leader_are_answered_within_the_budget() {
    let mut cluster = start(3);
    let runtime = runtime();
    let client = runtime.block_on(connect(&cluster));
    runtime.block_on(async {
        let value = vec![b'v'; flotilla_types::limits::VALUE_BYTES_MAX];
        client.put("large", value).await.expect("a put");
    });
    let leader = cluster.leader_of("large");
    cluster.kill_store(leader);
    runtime.block_on(async {
        let mut gets = JoinSet::new();
        for _ in 0..LARGE_GETS {
            let client = client.clone();
            gets.spawn(async move {
                client.get("large").await.expect("a get").map_or(0, |value| value.len())
            });
        }
        for read in gets.join_all().await {
            assert_eq!(read, flotilla_types::limits::VALUE_BYTES_MAX);
        }
    });
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    check_peaks(&mut cluster, &others);
    cluster.check_output();
}

#[test]
fn puts_in_flight_leave_stores_within_their_memory() {
    let mut cluster = start(3);
    runtime().block_on(async {
        let client = connect(&cluster).await;
        let mut puts = JoinSet::new();
        for put in 0..PUTS {
            let client = client.clone();
            puts.spawn(async move {
                client.put(format!("key{put:06}"), vec![b'v'; 4096]).await.expect("a put");
            });
        }
        puts.join_all().await;
    });
    check_peaks(&mut cluster, &[0, 1, 2]);
    cluster.check_output();
}

#[test]
fn the_account_of_a_store_names_what_it_holds_and_its_bounds() {
    let cluster = start(1);
    runtime().block_on(async {
        let client = connect(&cluster).await;
        client.put("key", vec![b'v'; VALUE_BYTES]).await.expect("a put");
    });
    let memory = account(&cluster, 1);
    assert_eq!(memory["bytes_max"], 128 << 20);
    assert!(memory["resident_bytes"].as_u64() > Some(1 << 20), "{memory}");
    let kinds = memory["held"].as_array().cloned().unwrap_or_default();
    let bounds = kinds.iter().filter_map(|held| held["bytes_max"].as_u64());
    assert!(bounds.sum::<u64>() <= 128 << 20, "{memory}");
    let buffers = kinds.iter().find(|held| held["kind"] == "write_buffers");
    assert!(buffers.is_some_and(|held| held["bytes_max"] == 32 << 20), "{memory}");
    let shown = cluster.run(&["ctl", "store", "show", "1"]).ok().text();
    for kind in ["page_cache", "answers", "messages_out", "log_entries", "resident"] {
        assert!(shown.contains(kind), "{shown}");
    }
    wait_for("answers that have left hold nothing", Duration::from_secs(10), || {
        let memory = account(&cluster, 1);
        let held = memory["held"].as_array().cloned().unwrap_or_default();
        let answers = held.iter().find(|held| held["kind"] == "answers");
        let is_empty = answers.is_some_and(|held| held["bytes"] == 0);
        if is_empty { Ok(()) } else { Err(memory.to_string()) }
    });
    cluster.check_output();
}
