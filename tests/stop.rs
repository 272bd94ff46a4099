//! A store that is stopped with SIGTERM under load: no client notices.
//!
//! Prints the longest time in which no put was acknowledged, and how long the store took to end.

use std::time::{Duration, Instant};

use flotilla_tests::{Cluster, Process, wait_for};
use serde_json::Value;

/// Within this time a store that was sent SIGTERM ends.
const STOP_BOUND: Duration = Duration::from_secs(10);

/// The load lasts longer than a stop.
const LOAD_SECONDS: &str = "14";

/// When a load that should have ended is given up.
const LOAD_DEADLINE: Duration = Duration::from_secs(90);

/// Starts puts of 16 callers without an end to their keys.
fn start_load(cluster: &Cluster) -> Process {
    let pd = cluster.pd_addrs();
    let args = ["bench", "run", "--op", "put", "--clients", "16", "--keys", "1000", "--no-load"];
    let times = ["--warmup", "0", "--seconds", LOAD_SECONDS, "-o", "json", "--pd", &pd];
    let args: Vec<String> = args.iter().chain(&times).map(ToString::to_string).collect();
    Process::start("bench", cluster.scratch(), &args)
}

fn key_count(cluster: &Cluster) -> u64 {
    let regions = cluster.regions();
    regions.iter().filter_map(|region| region["approximate_keys"].as_u64()).sum()
}

#[test]
fn a_store_that_is_sent_sigterm_under_load_costs_its_clients_no_call() {
    let mut cluster = Cluster::start(3, "96MiB");
    cluster.run(&["kv", "put", "first", "1"]).ok();
    let leader = cluster.leader_of("first");
    let before = key_count(&cluster);
    let mut load = start_load(&cluster);
    wait_for("puts under way", LOAD_DEADLINE, || {
        let keys = key_count(&cluster);
        if keys > before { Ok(()) } else { Err(format!("{keys} keys")) }
    });

    let begun = Instant::now();
    cluster.store(leader).signal("TERM");
    let status = cluster.store(leader).wait(STOP_BOUND).expect("the store ends in time");
    let took = begun.elapsed();
    assert!(status.success(), "{status}: {}", cluster.store(leader).stderr());
    assert!(cluster.store(leader).stderr().contains("leaderships are handed on"));

    let ended = load.wait(LOAD_DEADLINE).expect("the load ends");
    assert!(ended.success(), "{ended}: {}", load.stderr());
    let report: Value = serde_json::from_slice(&load.stdout()).expect("a report in JSON");
    println!("stopped within {took:?}; {report}");
    assert_eq!(report["errors"], 0, "{report}");
}
