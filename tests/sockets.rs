//! What one caller does to its calls and its connections ends nobody else's.

use std::io;
use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flotilla_client::{Client, ScanOptions};
use flotilla_tests::cluster::HEALTHY_DEADLINE;
use flotilla_tests::{Cluster, wait_for};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Scans that are dropped together, and how often.
const SCANS_DROPPED: u64 = 500;
const ROUNDS: usize = 8;

/// When a scan is dropped, at the latest: most are under way, and few are being read.
const SCAN_PATIENCE_US: u64 = 2_000;

/// Puts beside each round of scans.
const PUTS: usize = 200;

#[test]
fn scans_that_are_dropped_end_no_call_beside_them() {
    let cluster = Cluster::start(1, "96MiB");
    runtime().block_on(async {
        let client = connect(&cluster).await;
        for row in 0..500 {
            client.put(format!("row{row:03}"), vec![b'v'; 4096]).await.expect("a put");
        }
        for round in 0..ROUNDS {
            let mut calls = JoinSet::new();
            for scan in 0..SCANS_DROPPED {
                calls.spawn(dropped_scan(client.clone(), scan * SCAN_PATIENCE_US / SCANS_DROPPED));
            }
            for put in 0..PUTS {
                let client = client.clone();
                calls.spawn(async move {
                    let put = client.put(format!("put{put}"), round.to_string()).await;
                    put.expect("a put beside scans that are dropped");
                });
            }
            while let Some(ended) = calls.join_next().await {
                ended.expect("a call beside scans that are dropped");
            }
        }
        let rows = client.scan("put".."puu", 1000).await.expect("a scan after those");
        assert_eq!(rows.len(), PUTS);
    });
    cluster.check_output();
}

/// A scan that is dropped after so many microseconds.
async fn dropped_scan(client: Client, patience_us: u64) {
    let mut rows = client.scan_stream(ScanOptions::default()).expect("a valid scan");
    if let Ok(Some(Err(error))) = timeout(Duration::from_micros(patience_us), rows.next()).await {
        panic!("a scan of {patience_us} us: {error}");
    }
}

/// Scans under way at once, each of all rows: more than a small machine reads, encodes and sends in
/// the time that a connection has to answer a probe.
const SCANS: usize = 24;
const ROWS: usize = 1_000;
const ROWS_IN_A_PUT: usize = 250;

/// Callers that put beside them, and for how long at least.
const PUTTERS: usize = 8;
const BESIDE_SCANS: Duration = Duration::from_secs(2);

#[test]
fn scans_of_many_rows_end_no_connection_of_puts_beside_them() {
    // One store: no machine is so slow that there is an election, which may end a put for good.
    let cluster = Cluster::start(1, "96MiB");
    // As two processes: what one reads keeps the other's threads from nothing.
    let (scanning, putting) = (runtime(), runtime());
    let is_over = Arc::new(AtomicBool::new(false));
    let client = scanning.block_on(async {
        let client = connect(&cluster).await.with_timeout(HEALTHY_DEADLINE);
        for first in (0..ROWS).step_by(ROWS_IN_A_PUT) {
            let row = |row: usize| (format!("row{row:05}"), vec![b'v'; 1_000]);
            let rows = (first..first + ROWS_IN_A_PUT).map(row);
            client.batch_put(rows).await.expect("rows are put");
        }
        client
    });
    let mut scans = JoinSet::new();
    for _ in 0..SCANS {
        let scan = scan_all(client.clone(), is_over.clone());
        scans.spawn_on(scan, scanning.handle());
    }
    let puts: usize = putting.block_on(async {
        let client = connect(&cluster).await.with_timeout(HEALTHY_DEADLINE);
        let mut puts = JoinSet::new();
        for putter in 0..PUTTERS {
            puts.spawn(put_for(client.clone(), putter, BESIDE_SCANS));
        }
        puts.join_all().await.into_iter().sum()
    });
    is_over.store(true, Ordering::Relaxed);
    let scanned: usize = scanning.block_on(scans.join_all()).into_iter().sum();
    println!("{scanned} scans of {ROWS} rows beside {puts} puts");
    assert!(scanned >= SCANS, "{scanned} scans");
    assert!(puts >= PUTTERS, "{puts} puts");
    cluster.check_output();
}

/// Scans all rows until it is over, and once at least. Answers how often.
async fn scan_all(client: Client, is_over: Arc<AtomicBool>) -> usize {
    for scan in 1.. {
        let rows = client.scan("row".."rox", 2 * ROWS as u64).await.expect("a scan");
        assert_eq!(rows.len(), ROWS);
        if is_over.load(Ordering::Relaxed) {
            return scan;
        }
    }
    0
}

/// Puts for so long, and once at least. Answers how often.
async fn put_for(client: Client, putter: usize, time: Duration) -> usize {
    let begun = Instant::now();
    for put in 1.. {
        client.put(format!("put{putter}"), "value").await.expect("a put beside scans");
        if begun.elapsed() >= time {
            return put;
        }
        sleep(Duration::from_millis(10)).await;
    }
    0
}

/// Regions of the cluster of which one store stands still.
const REGIONS: usize = 12;

const WRITERS: usize = 16;

/// No put of any writer is acknowledged for this long, at most, when one of three stores stands
/// still: half a second until the client notices, and much for a machine that is busy with other
/// tests. Below the time limit of a call, after which a client goes on by itself.
const STANDSTILL_MAX: Duration = Duration::from_secs(8);

/// What a put takes beside it whose region is led by another store.
const BESIDE_MAX: Duration = Duration::from_secs(8);

/// How long it is looked at: some time beyond a call's time limit.
const WATCHED: Duration = Duration::from_secs(12);

#[test]
fn a_store_that_stands_still_holds_up_its_own_regions_only_and_those_for_moments() {
    let mut cluster = Cluster::start(3, "96MiB");
    let leaders = split(&mut cluster);
    let frozen = leaders[0];
    let elsewhere = leaders.iter().position(|leader| *leader != frozen).expect("leaders spread");
    let is_over = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let runtime = runtime();
    let client = runtime.block_on(connect(&cluster));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let writing = write(client.clone(), writer, is_over.clone(), acknowledged.clone());
        writers.spawn_on(writing, runtime.handle());
    }
    let count = || acknowledged.lock().expect("no panic").len();
    wait_for("writes", HEALTHY_DEADLINE, || (count() > 1000).then_some(()).ok_or("few".into()));

    cluster.store(frozen).signal("STOP");
    let stopped = Instant::now();
    let beside = runtime.block_on(async {
        let mut slowest = Duration::ZERO;
        while stopped.elapsed() < WATCHED {
            let start = Instant::now();
            client.put(region_key(elsewhere, "beside"), "value").await.expect("a put beside it");
            slowest = slowest.max(start.elapsed());
            sleep(Duration::from_millis(20)).await;
        }
        slowest
    });
    let looked = Instant::now();
    is_over.store(true, Ordering::Relaxed);
    runtime.block_on(writers.join_all());
    cluster.store(frozen).signal("CONT");
    let gap = longest_gap(stopped..looked, &acknowledged.lock().expect("no panic"));
    println!("a store stands still: no put for {gap:?}; beside it one takes {beside:?} at most");
    assert!(gap < STANDSTILL_MAX, "no put was acknowledged for {gap:?}");
    assert!(beside < BESIDE_MAX, "a put to a region led by another store took {beside:?}");
    cluster.wait_healthy();
}

/// Splits the cluster into regions; answers the index of each one's leading store, once they are
/// spread over the stores.
fn split(cluster: &mut Cluster) -> Vec<usize> {
    for region in 1..REGIONS {
        let last = cluster.regions().last().expect("a region")["id"].to_string();
        let at = region_key(region, "");
        cluster.run(&["ctl", "region", "split", &last, "--at", &at]).ok();
        wait_for("a split", HEALTHY_DEADLINE, || {
            let regions = cluster.regions().len();
            (regions > region).then_some(()).ok_or(format!("{regions} regions"))
        });
    }
    cluster.wait_healthy();
    wait_for("leaders on all stores", HEALTHY_DEADLINE, || {
        let leaders: Vec<usize> =
            (0..REGIONS).map(|region| cluster.leader_of(&region_key(region, "x"))).collect();
        let is_spread = (0..3).all(|store| leaders.contains(&store));
        if is_spread { Ok(leaders) } else { Err(format!("{leaders:?}")) }
    })
}

fn region_key(region: usize, key: &str) -> String {
    format!("region{region:02}/{key}")
}

/// Puts into all regions in turn until it is over, and notes when each put was acknowledged.
async fn write(
    client: Client,
    writer: usize,
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Instant>>>,
) {
    for round in writer.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let key = region_key(round % REGIONS, &format!("{writer}/{}", round % 1000));
        // Those that the frozen store has end undetermined.
        if client.put(key, "value").await.is_ok() {
            acknowledged.lock().expect("no panic").push(Instant::now());
        }
    }
}

/// The longest time within `span` without one of these.
fn longest_gap(span: Range<Instant>, at: &[Instant]) -> Duration {
    let mut at: Vec<Instant> = at.iter().copied().filter(|at| span.contains(at)).collect();
    at.extend([span.start, span.end]);
    at.sort();
    at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// What the servers of a cluster of few descriptors have: 80 connections of callers are accepted.
const DESCRIPTORS: usize = 160;

/// More than are accepted, from clients and from whoever connects and says nothing.
const CLIENTS: usize = 120;
const SILENT: usize = 300;

/// Until the first call is due, and some for a machine that is busy with other tests.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[test]
fn a_server_without_a_descriptor_left_serves_those_who_are_in() {
    let mut cluster = Cluster::stopped(3, "96MiB").with_descriptors(DESCRIPTORS);
    cluster.start_all();
    cluster.wait_healthy();
    let runtime = runtime();
    let client = runtime.block_on(connect(&cluster));
    let put = |key: &str| runtime.block_on(client.put(key, "value")).expect("a put of who is in");
    put("before");
    let leader = cluster.leader_of("before");

    let connect_to = |addr: &str| TcpStream::connect(addr).expect("the system accepts");
    let silent: Vec<TcpStream> = (0..SILENT)
        .map(|n| {
            connect_to(if n % 2 == 0 { cluster.store_addr(leader) } else { cluster.pd_addr() })
        })
        .collect();
    put("beside silent connections");
    let closed = Instant::now();
    for mut stream in silent {
        stream.set_read_timeout(Some(SILENCE_MAX)).expect("a time limit");
        // Some bytes of HTTP/2 may come first.
        let ended = io::copy(&mut stream, &mut io::sink());
        let is_timeout = ended.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        assert!(!is_timeout, "not closed {:?} after the first", closed.elapsed());
    }

    // Those that speak stay, so some find no place; they are told, or find no answer in time.
    let clients = runtime.block_on(async {
        let mut asked = JoinSet::new();
        for _ in 0..CLIENTS {
            let addr = cluster.pd_addr().to_string();
            asked.spawn(async move {
                let client = Client::builder().endpoints([addr]).request_timeout(CROWDED);
                let client = client.connect().await.ok()?;
                client.get("before").await.ok().map(|_| client)
            });
        }
        asked.join_all().await.into_iter().flatten().collect::<Vec<Client>>()
    });
    println!("{} of {CLIENTS} clients got in", clients.len());
    assert!(clients.len() > 8, "{} clients got in", clients.len());
    assert!(clients.len() < CLIENTS, "all clients got in");
    put("beside a crowd");

    // A store that starts is a member: it finds a place at the others and at the placement driver.
    let other = (0..3).find(|store| *store != leader).expect("three stores");
    cluster.kill_store(other);
    cluster.start_store(other);
    put("beside a store that starts");
    for mut client in clients {
        client = client.with_timeout(HEALTHY_DEADLINE);
        runtime.block_on(client.get("before")).expect("a get of who is in");
    }
    drop(client);
    drop(runtime);
    cluster.wait_healthy();
}

/// When a client that finds no place gives up.
const CROWDED: Duration = Duration::from_secs(4);

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime can be started")
}

async fn connect(cluster: &Cluster) -> Client {
    Client::connect([cluster.pd_addr()]).await.expect("the cluster can be reached")
}
