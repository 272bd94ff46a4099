//! A store that is stopped with SIGTERM: under load, with many regions, with nobody to hand them
//! to, without a placement driver, amid a snapshot, and by somebody who does not wait.
//!
//! Prints how long the store took to end.

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

/// A store is asked to lead at least so many regions before it is stopped.
const REGIONS: usize = 50;

/// Which store leads each region, as PD knows it.
fn leaders(cluster: &Cluster) -> Vec<u64> {
    let regions = cluster.regions();
    regions.iter().filter_map(|region| region["leader_store_id"].as_u64()).collect()
}

#[test]
fn a_store_hands_many_regions_on_before_it_ends() {
    let mut cluster = Cluster::start(3, "64KiB");
    let rows = cluster.scratch().join("rows.tsv");
    let row = |number: usize| format!("row{number:06}\t{}\n", "v".repeat(1_000));
    let text: String = (0..9_000).map(row).collect();
    std::fs::write(&rows, text).expect("a file can be written");
    let load = cluster.start_load(&rows.display().to_string()).wait(LOAD_DEADLINE);
    assert!(load.expect("the load ends").success());
    wait_for("regions", LOAD_DEADLINE, || {
        let regions = leaders(&cluster).len();
        if regions > REGIONS { Ok(()) } else { Err(format!("{regions} regions")) }
    });
    let leader = cluster.leader_of("row000000");
    let begun = Instant::now();
    cluster.store(leader).signal("TERM");
    let status = cluster.store(leader).wait(STOP_BOUND).expect("the store ends in time");
    println!("{} regions: stopped within {:?}", leaders(&cluster).len(), begun.elapsed());
    assert!(status.success(), "{status}: {}", cluster.store(leader).stderr());
    assert!(cluster.store(leader).stderr().contains("leaderships are handed on"));
}

/// A cluster of three of which only the store at the answered index, which leads, still moves.
fn last_of_three() -> (Cluster, usize) {
    let cluster = Cluster::start(3, "96MiB");
    cluster.run(&["kv", "put", "first", "1"]).ok();
    let leader = cluster.leader_of("first");
    let mut cluster = cluster;
    for other in (0..3).filter(|store| *store != leader) {
        cluster.store(other).signal("STOP");
    }
    (cluster, leader)
}

#[test]
fn a_store_whose_peers_stand_still_ends_in_time() {
    let (mut cluster, leader) = last_of_three();
    let begun = Instant::now();
    cluster.store(leader).signal("TERM");
    let status = cluster.store(leader).wait(STOP_BOUND);
    println!("with nobody to hand anything to, stopped within {:?}", begun.elapsed());
    assert!(status.is_some(), "{}", cluster.store(leader).stderr());
}

#[test]
fn a_second_signal_ends_a_store_at_once() {
    let (mut cluster, leader) = last_of_three();
    let begun = Instant::now();
    // Two of one kind that come together are one.
    cluster.store(leader).signal("TERM");
    cluster.store(leader).signal("INT");
    let status = cluster.store(leader).wait(STOP_BOUND).expect("the store ends");
    println!("by a second signal, stopped within {:?}", begun.elapsed());
    assert_eq!(status.code(), Some(3), "{}", cluster.store(leader).stderr());
    assert!(cluster.store(leader).stderr().contains("a second signal came"));
}

#[test]
fn a_store_whose_placement_driver_stands_still_ends_in_time() {
    let mut cluster = Cluster::start(3, "96MiB");
    cluster.run(&["kv", "put", "first", "1"]).ok();
    let leader = cluster.leader_of("first");
    cluster.member(0).signal("STOP");
    let begun = Instant::now();
    cluster.store(leader).signal("TERM");
    let status = cluster.store(leader).wait(STOP_BOUND).expect("the store ends in time");
    println!("without a placement driver, stopped within {:?}", begun.elapsed());
    assert!(status.success(), "{status}: {}", cluster.store(leader).stderr());
    // With nobody to tell where the leaders went, those who are left still serve.
    cluster.member(0).kill();
    let left = cluster.store_addr((leader + 1) % 3).to_string();
    wait_for("a get", LOAD_DEADLINE, || {
        let got = cluster.run(&["kv", "get", "first", "--pd", &left]);
        if got.code == 0 { Ok(()) } else { Err(got.stderr) }
    });
}

/// The region that is sent while its store is stopped: more than buffers of sockets hold.
const SENT_ROWS: usize = 200;
const SENT_ROW_BYTES: usize = 100_000;

#[test]
fn a_store_ends_in_time_while_it_sends_a_snapshot_that_nobody_takes() {
    let mut cluster = Cluster::start(4, "96MiB");
    let rows = cluster.scratch().join("rows.tsv");
    let row = |number: usize| format!("row{number:06}\t{}\n", "v".repeat(SENT_ROW_BYTES));
    std::fs::write(&rows, (0..SENT_ROWS).map(row).collect::<String>()).expect("a file is written");
    let load = cluster.start_load(&rows.display().to_string()).wait(LOAD_DEADLINE);
    assert!(load.expect("the load ends").success());
    let leader = cluster.leader_of("row000000");
    let (region, to, free) = region_and_free_store(&cluster);
    let (id, led_by) = (region["id"].to_string(), region["leader_store_id"].as_u64());
    let peers = region["peers"].as_array().into_iter().flatten();
    let from = peers.filter_map(|peer| peer["store_id"].as_u64()).find(|id| Some(*id) != led_by);
    let from = from.expect("three peers").to_string();
    cluster.run(&["ctl", "region", "move-peer", &id, &from, &to.to_string()]).ok();
    let staged = cluster.store_dir(free).join("snapshots");
    let asked = Instant::now();
    while std::fs::read_dir(&staged).map_or(0, Iterator::count) == 0 {
        assert!(asked.elapsed() < LOAD_DEADLINE, "no snapshot of the region came");
        std::thread::sleep(Duration::from_millis(1));
    }
    // From now on nobody takes the rest.
    cluster.store(free).signal("STOP");
    let begun = Instant::now();
    cluster.store(leader).signal("TERM");
    let status = cluster.store(leader).wait(STOP_BOUND).expect("the store ends in time");
    println!("while it sends a snapshot, stopped within {:?}", begun.elapsed());
    assert!(status.success(), "{status}: {}", cluster.store(leader).stderr());
}

/// The only region, and the id and the index of a store that has no peer of it.
fn region_and_free_store(cluster: &Cluster) -> (Value, u64, usize) {
    let region = cluster.regions().remove(0);
    let peers = region["peers"].as_array().expect("an array");
    let stores = cluster.ctl(&["store", "list"]);
    let mut stores = stores.as_array().expect("an array").iter();
    let is_free = |store: &&Value| peers.iter().all(|peer| peer["store_id"] != store["id"]);
    let free = stores.find(is_free).expect("a store without the region");
    let index = (0..4).find(|index| free["addr"] == cluster.store_addr(*index));
    (region.clone(), free["id"].as_u64().expect("an id"), index.expect("one of the four"))
}
