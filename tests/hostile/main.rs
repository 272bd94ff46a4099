//! What hostile callers send gets a typed error or a closed connection: it hangs nowhere, ends no
//! process, fills no memory, and those who behave are served beside it.
//!
//! One cluster of three stores and a placement driver, all processes, takes every case:
//!
//! * [`kv`], [`scan`], [`pd`], [`raft`]: messages of the protocol that ask for what there is not.
//! * [`broken`]: calls that are no calls, to each method.
//! * [`wire`], [`floods`]: connections that break HTTP/2, or do too much of what it allows.
//! * [`case`], [`grpc`], [`frames`], [`world`]: how they are sent, and judged.
//! * [`beside`]: the client that behaves.

mod beside;
mod broken;
mod case;
mod floods;
mod frames;
mod grpc;
mod kv;
mod pd;
mod raft;
mod scan;
mod wire;
mod world;

use std::time::{Duration, Instant};

use flotilla_client::Client;
use flotilla_tests::cluster::HEALTHY_DEADLINE;
use flotilla_tests::{Cluster, wait_for};

use beside::{Beside, permille};

/// The cases that there are at least.
const CASES_MIN: usize = 700;

/// What a process has held at most. A store's caches and what waits for its disk take a part; the
/// rest is what is decoded and answered at a time.
const MEMORY_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// How long the client beside it is watched before it begins.
const BEFORE: Duration = Duration::from_secs(2);

/// What the median of the client beside it may grow by, in addition to doubling: these processes,
/// unoptimised, share two cores with those who send.
const NOISE: Duration = Duration::from_millis(50);

#[test]
fn what_hostile_callers_send_is_refused_and_hurts_nobody() {
    let mut cluster = Cluster::start(3, "96MiB");
    let region = cluster.regions()[0]["id"].to_string();
    cluster.run(&["ctl", "region", "split", &region, "--at", world::SPLIT_KEY]).ok();
    wait_for("two regions", HEALTHY_DEADLINE, || {
        let regions = cluster.regions().len();
        (regions == 2).then_some(()).ok_or(format!("{regions} regions"))
    });
    cluster.wait_healthy();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    let begun = Instant::now();
    let (cases, failed) = runtime.block_on(suite(&cluster));
    println!("{cases} cases in {:?}", begun.elapsed());
    let mut faults = failed;
    for (name, bytes) in peak_memory(&mut cluster) {
        println!("{name} held {} MiB at most", bytes >> 20);
        if bytes > MEMORY_BYTES_MAX {
            faults.push(format!("{name} held {bytes} bytes"));
        }
    }
    assert!(faults.is_empty(), "{} of {cases} cases:\n{}", faults.len(), faults.join("\n"));
    assert!(cases >= CASES_MIN, "{cases} cases");
    cluster.wait_healthy();
    cluster.check_output();
}

/// Everything, beside a client that behaves. Answers the number of cases, and what is wrong.
async fn suite(cluster: &Cluster) -> (usize, Vec<String>) {
    // Nobody else writes its keys, so an election that falls into a put is not its concern.
    let client = Client::builder().endpoints([cluster.pd_addr()]).retry_undetermined_writes(true);
    let client = client.connect().await.expect("the cluster can be reached");
    let watched = Beside::start(client.clone());
    tokio::time::sleep(BEFORE).await;
    let before = watched.end().await.expect("it is served before");
    let watched = Beside::start(client);
    let addrs: Vec<String> = [cluster.store_addr(0), cluster.pd_addr()].map(String::from).to_vec();
    let calls = [kv::cases(), scan::cases(), broken::cases(), pd::cases(), raft::cases()];
    let calls: Vec<case::Case> = calls.into_iter().flatten().collect();
    let mut cases = calls.len() + 2 * addrs.len();
    let (failed, slow, idle, wires, floods) = tokio::join!(
        case::run(cluster, calls),
        async { [floods::slow(&addrs[0]).await, floods::slow(&addrs[1]).await] },
        floods::idle(&addrs),
        wire::run(&addrs),
        floods::run(&addrs),
    );
    println!("{} idle connections", idle.0);
    let mut failed = failed;
    failed.extend(slow.into_iter().flatten().chain(idle.1).chain(wires.1));
    cases += wires.0 + floods;
    let during = match watched.end().await {
        Ok(during) => during,
        Err(error) => {
            failed.push(format!("beside it: {error}"));
            return (cases, failed);
        }
    };
    for (name, part) in [("p50", 500), ("p99", 990), ("max", 1000)] {
        let (before, during) = (permille(&before, part), permille(&during, part));
        println!("beside it: {name} {before:?} before, {during:?} during");
    }
    let (before, during) = (permille(&before, 500), permille(&during, 500));
    if during > 2 * before + NOISE {
        failed.push(format!("beside it a call takes {during:?}, and {before:?} before"));
    }
    (cases, failed)
}

/// The most that each server has held of memory, in bytes.
fn peak_memory(cluster: &mut Cluster) -> Vec<(String, u64)> {
    let stores = (0..3).map(|store| (format!("store {store}"), cluster.store(store).peak_memory()));
    let stores: Vec<(String, u64)> = stores.collect();
    let pd = ("PD".to_string(), cluster.member(0).peak_memory());
    stores.into_iter().chain([pd]).collect()
}
