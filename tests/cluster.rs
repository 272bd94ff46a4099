//! A cluster of real processes under kill -9 loses nothing that it has acknowledged.
//!
//! Each test loads the rows of `tests/data/unicode.tsv` through `kv load -`, a pipe that the test
//! holds: it stops writing while it kills, so that the kill falls into the load on any machine.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::Write;
use std::process::ChildStdin;
use std::thread;
use std::time::Duration;

use flotilla_tests::cluster::{HEALTHY_DEADLINE, copy_dir};
use flotilla_tests::{Cluster, Process, command, data, wait_for};
use serde_json::Value;

/// Small enough that the data's 1.9 MB become far more than [`REGIONS_MIN`] regions.
const REGION_BYTES: &str = "64KiB";

/// Regions there must be after the load.
const REGIONS_MIN: usize = 10;

/// The most that a whole load may take, elections and restarts included.
const LOAD_DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn killing_the_store_that_leads_a_region_during_a_load_loses_nothing() {
    let mut cluster = Cluster::start(3, REGION_BYTES);
    let mut load = Load::start(&cluster);
    load.write_and_await_first(&cluster);
    let next_key = load.next_key();
    let leader = cluster.leader_of(&next_key);
    cluster.kill_store(leader);
    load.finish();
    assert_holds_the_data(&cluster);

    // The store comes back and catches up: with one of the others dead, it is needed for a quorum.
    cluster.start_store(leader);
    cluster.wait_healthy();
    cluster.kill_store((leader + 1) % 3);
    assert_holds_the_data(&cluster);
    cluster.check_output();
}

#[test]
fn killing_all_stores_at_once_during_a_load_loses_nothing() {
    let mut cluster = Cluster::start(3, REGION_BYTES);
    let mut load = Load::start(&cluster);
    load.write_and_await_first(&cluster);
    cluster.kill_all_stores();
    for store in 0..3 {
        cluster.start_store(store);
    }
    load.finish();
    cluster.wait_healthy();
    assert_holds_the_data(&cluster);

    // Once more, with nothing in flight: all of it must come from the disks.
    cluster.kill_all_stores();
    for store in 0..3 {
        cluster.start_store(store);
    }
    cluster.wait_healthy();
    assert_holds_the_data(&cluster);
    cluster.check_output();
}

#[test]
fn a_cluster_begins_with_as_many_stores_as_replicas_and_says_so_until_then() {
    let mut cluster = Cluster::stopped(3, REGION_BYTES);
    cluster.start_pd();
    cluster.start_store(0);
    cluster.start_store(1);
    wait_for("what is missing", HEALTHY_DEADLINE, || {
        let status = cluster.status()?;
        let awaited = status["awaited"].as_str().unwrap_or_default();
        let is_said = awaited.contains("3 stores") && awaited.contains("1 of them is missing");
        if is_said && status["healthy"] == false { Ok(()) } else { Err(status.to_string()) }
    });
    let put = cluster.run(&["kv", "put", "early", "1"]);
    assert_ne!(put.code, 0, "two stores of three acknowledged it: {put:?}");
    put.expect_stderr(&["once 3 stores run", "1 of them is missing"]);
    for index in [0, 1] {
        wait_for("a store's log to say it", HEALTHY_DEADLINE, || {
            let said = cluster.store(index).stderr();
            if said.contains("1 of them is missing") { Ok(()) } else { Err(said) }
        });
    }

    cluster.start_store(2);
    cluster.wait_healthy();
    cluster.run(&["kv", "put", "early", "2"]).ok();
    let regions = cluster.regions();
    assert_eq!(regions.len(), 1);
    assert_eq!(regions[0]["epoch"]["conf_ver"], 1, "whole from the beginning: {}", regions[0]);

    let dir = cluster.pd_dir().display().to_string();
    cluster.kill_pd();
    let addr = cluster.pd_addr().to_string();
    let args = ["pd", "--id", "1", "--dir", &dir, "--addr", &addr, "--replicas", "5"];
    command::run(&args).expect_code(3).expect_stderr(&["created with --replicas 3"]);
    cluster.start_pd();
    cluster.wait_healthy();
    assert_eq!(cluster.run(&["kv", "get", "early"]).ok().text(), "2");
}

#[test]
fn a_cluster_serves_while_its_placement_driver_restarts() {
    let mut cluster = Cluster::start(3, REGION_BYTES);
    cluster.run(&["kv", "load", &data::path().display().to_string()]).ok();
    // After a load the cluster may not be healthy for a moment, which is told with status 1.
    cluster.wait_healthy();
    let before = cluster.status().expect("a status");
    cluster.kill_pd();
    cluster.start_pd();
    cluster.wait_healthy();
    let after = cluster.status().expect("a status");
    assert_eq!(before["cluster_id"], after["cluster_id"]);
    assert_holds_the_data(&cluster);
    cluster.run(&["kv", "put", "after", "restart"]).ok();
    assert_eq!(cluster.run(&["kv", "get", "after"]).ok().text(), "restart");
}

#[test]
fn stores_that_all_start_while_the_placement_driver_is_gone_serve_a_client_that_runs() {
    let mut cluster = Cluster::start(3, "96MiB");
    let mut load = Load::start(&cluster);
    load.write_and_await_first(&cluster);
    cluster.kill_all();
    for index in 0..3 {
        cluster.start_store(index);
    }
    load.finish();
    cluster.start_pd();
    cluster.wait_healthy();
    data::assert_same(&cluster.dump(), &data::sorted(&data::bytes()));
}

#[test]
fn a_load_that_splits_regions_goes_on_without_the_placement_driver_and_new_clients_ask_a_store() {
    let mut cluster = Cluster::start(3, REGION_BYTES);
    let mut load = Load::start(&cluster);
    load.write_and_await_first(&cluster);
    let regions = cluster.regions().len();
    cluster.kill_pd();
    load.finish();
    let by_store = |args: &[&str]| command::run(&[args, &["--pd", cluster.store_addr(1)]].concat());
    data::assert_same(&by_store(&["kv", "dump"]).ok().stdout, &data::sorted(&data::bytes()));
    by_store(&["kv", "put", "by", "a store"]).ok();
    let both = format!("{},{}", cluster.pd_addr(), cluster.store_addr(2));
    let read = command::run(&["kv", "get", "by", "--pd", &both]).ok();
    assert_eq!(read.text(), "a store");
    by_store(&["kv", "delete", "by"]).ok();
    cluster.start_pd();
    cluster.wait_healthy();
    assert_holds_the_data(&cluster);
    assert!(cluster.regions().len() > regions, "{regions} regions when it was killed");
    cluster.check_output();
}

#[test]
fn of_rows_with_one_key_the_last_in_the_file_wins() {
    let cluster = Cluster::start(1, REGION_BYTES);
    let mut file = Vec::new();
    // Far apart, so that the rows of a key travel in different batches.
    for round in 0..5 {
        for key in 0..3000 {
            writeln!(file, "key{key:05}\tround {round} of {key}").expect("a vector takes all");
        }
    }
    let path = cluster.scratch().join("rounds.tsv");
    std::fs::write(&path, &file).expect("the scratch directory can be written");
    let summary = cluster.run(&["kv", "load", &path.display().to_string(), "-o", "json"]).ok();
    assert_eq!(summary.json()["rows"], 15_000);
    data::assert_same(&cluster.dump(), &data::sorted(&file));
}

#[test]
fn a_leader_moves_a_region_splits_and_a_peer_moves_when_told_to() {
    let mut cluster = Cluster::start(4, "96MiB");
    cluster.run(&["kv", "put", "apple", "red"]).ok();
    cluster.run(&["kv", "put", "pear", "green"]).ok();
    let region = cluster.regions().remove(0);
    let id = region["id"].to_string();
    let stores: Vec<u64> = peer_stores(&region);
    let follower = *stores
        .iter()
        .find(|store| Some(**store) != region["leader_store_id"].as_u64())
        .expect("three peers");

    cluster.run(&["ctl", "region", "transfer-leader", &id, &follower.to_string()]).ok();
    wait_for("the leader to move", LOAD_DEADLINE, || {
        let leader = cluster.regions().remove(0)["leader_store_id"].as_u64();
        if leader == Some(follower) { Ok(()) } else { Err(format!("leader is {leader:?}")) }
    });

    let all: Vec<u64> = cluster
        .ctl(&["store", "list"])
        .as_array()
        .expect("an array")
        .iter()
        .filter_map(|store| store["id"].as_u64())
        .collect();
    let free = *all.iter().find(|store| !stores.contains(store)).expect("a fourth store");
    let from = stores[0];
    cluster.run(&["ctl", "region", "move-peer", &id, &from.to_string(), &free.to_string()]).ok();
    wait_for("the peer to move", LOAD_DEADLINE, || {
        let stores = peer_stores(&cluster.regions().remove(0));
        let moved = stores.contains(&free) && !stores.contains(&from) && stores.len() == 3;
        if moved { Ok(()) } else { Err(format!("peers on {stores:?}")) }
    });
    cluster.wait_healthy();

    cluster.run(&["ctl", "region", "split", &id, "--at", "banana"]).ok();
    wait_for("the split", LOAD_DEADLINE, || match cluster.regions().len() {
        2 => Ok(()),
        count => Err(format!("{count} regions")),
    });
    assert_eq!(cluster.dump(), b"apple\tred\npear\tgreen\n");
}

#[test]
fn a_placement_driver_put_back_from_an_older_copy_gives_no_id_twice() {
    let mut cluster = Cluster::stopped(4, "96MiB");
    cluster.start_pd();
    (0..3).for_each(|index| cluster.start_store(index));
    await_regions(&cluster, 1);
    for key in ["a", "c", "e"] {
        cluster.run(&["kv", "put", key, "1"]).ok();
    }
    let first = cluster.regions().remove(0)["id"].to_string();
    cluster.kill_all();
    let (dir, older) = (cluster.pd_dir(), cluster.scratch().join("older"));
    copy_dir(&dir, &older);

    // Each start of a store leases ids that the copy knows nothing of; and one store is new.
    cluster.start_all();
    cluster.wait_healthy();
    split_and_await(&mut cluster, &first, "d", 2);
    cluster.kill_all();
    fs::remove_dir_all(&dir).expect("the directory can be removed");
    copy_dir(&older, &dir);

    cluster.start_all();
    await_regions(&cluster, 2);
    cluster.wait_healthy();
    split_and_await(&mut cluster, &first, "b", 3);
    let mut ids = BTreeSet::new();
    for region in cluster.regions() {
        assert!(ids.insert(region["id"].as_u64()), "a region's id twice: {region}");
        for peer in region["peers"].as_array().expect("an array") {
            assert!(ids.insert(peer["id"].as_u64()), "a peer's id twice: {region}");
        }
    }
    assert_eq!(cluster.dump(), b"a\t1\nc\t1\ne\t1\n");
    cluster.check_output();
}

fn await_regions(cluster: &Cluster, count: usize) {
    wait_for("all regions", LOAD_DEADLINE, || match cluster.try_ctl(&["region", "list"])? {
        Value::Array(regions) if regions.len() == count => Ok(()),
        other => Err(other.to_string()),
    });
}

fn split_and_await(cluster: &mut Cluster, region: &str, key: &str, count: usize) {
    wait_for("the split", LOAD_DEADLINE, || {
        if cluster.regions().len() == count {
            return Ok(());
        }
        let ordered = cluster.run(&["ctl", "region", "split", region, "--at", key]);
        Err(format!("{ordered:?}"))
    });
    cluster.wait_healthy();
}

fn peer_stores(region: &serde_json::Value) -> Vec<u64> {
    let peers = region["peers"].as_array().expect("peers is an array");
    peers.iter().filter_map(|peer| peer["store_id"].as_u64()).collect()
}

fn assert_holds_the_data(cluster: &Cluster) {
    data::assert_same(&cluster.dump(), &data::sorted(&data::bytes()));
    let regions = cluster.regions().len();
    assert!(regions >= REGIONS_MIN, "{regions} regions");
}

/// A `kv load -` that is fed row by row.
struct Load {
    process: Process,
    stdin: ChildStdin,
    rows: VecDeque<Vec<u8>>,
    total: usize,
}

impl Load {
    fn start(cluster: &Cluster) -> Load {
        let mut process = cluster.start_load("-");
        let stdin = process.take_stdin().expect("a pipe");
        let rows: VecDeque<Vec<u8>> =
            data::bytes().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let total = rows.len();
        assert!(total >= 20_000, "{total} rows");
        Load { process, stdin, rows, total }
    }

    /// Writes half of the rows and waits until the first of them can be read, while the loader
    /// waits for more.
    fn write_and_await_first(&mut self, cluster: &Cluster) {
        let first = self.next_key();
        for row in self.rows.drain(..self.total / 2) {
            self.stdin.write_all(&row).expect("the loader reads");
        }
        wait_for("the first row to be stored", LOAD_DEADLINE, || {
            let read = cluster.run(&["kv", "get", &first]);
            if read.code == 0 { Ok(()) } else { Err(format!("{read:?}")) }
        });
        assert!(self.process.ended().is_none(), "the load is under way");
    }

    /// The key of the next row to be written.
    fn next_key(&self) -> String {
        let row = String::from_utf8_lossy(&self.rows[0]).into_owned();
        row.split('\t').next().expect("a first column").to_string()
    }

    /// Writes the other rows, waits for the loader and checks its summary.
    fn finish(mut self) {
        let (mut stdin, rows) = (self.stdin, self.rows);
        let writer = thread::spawn(move || rows.iter().try_for_each(|row| stdin.write_all(row)));
        let status = self.process.wait(LOAD_DEADLINE).expect("the load ends in time");
        let stderr = self.process.stderr();
        assert!(status.success(), "kv load: {status}: {stderr}");
        writer.join().expect("the writer ends").expect("the loader reads all");
        let summary: serde_json::Value =
            serde_json::from_slice(&self.process.stdout()).expect("a JSON summary");
        assert_eq!(summary["rows"].as_u64(), Some(self.total as u64), "{summary}");
        let is_wait = |line: &str| line.starts_with("kv load: waiting for ");
        assert!(stderr.lines().all(is_wait), "only waits are told beside the summary: {stderr}");
        println!("loaded through the kill: {summary}");
    }
}
