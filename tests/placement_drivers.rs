//! Three placement drivers: any one of them may be killed, the leader too, and the cluster goes on
//! being administered; with two gone it says so, and serves.

use std::time::{Duration, Instant};

use flotilla_tests::{Cluster, command, wait_for};
use serde_json::Value;

/// What a new leader may take on a machine that is busy with other tests: an election (1 s at
/// most) and a few retries, times a generous factor.
const FAILOVER_BOUND: Duration = Duration::from_secs(15);

/// The most that a change that was ordered may take.
const CHANGE_BOUND: Duration = Duration::from_secs(120);

#[test]
fn each_placement_driver_that_is_killed_is_replaced_by_another_and_comes_back() {
    let mut cluster = three_of_three();
    for round in 1..=3 {
        let leader = cluster.leading_member();
        cluster.kill_member(leader);
        let start = Instant::now();
        let next = wait_for("another leader", FAILOVER_BOUND, || match cluster.leading_member() {
            next if next != leader => Ok(next),
            _ => Err("the one that was killed".to_string()),
        });
        println!("member {} leads after {:?}", next + 1, start.elapsed());
        split(&cluster, &format!("key{round}"), round + 1);
        let key = format!("key{round}");
        cluster.run(&["kv", "put", &key, "1"]).ok();
        cluster.start_member(leader);
    }
    cluster.wait_healthy();
    assert_eq!(cluster.dump(), b"key1\t1\nkey2\t1\nkey3\t1\n");
    cluster.check_output();
}

#[test]
fn with_two_of_three_gone_the_cluster_serves_and_all_started_anew_know_the_same() {
    let mut cluster = three_of_three();
    cluster.run(&["kv", "put", "a", "1"]).ok();
    let last = (cluster.leading_member() + 1) % 3;
    for member in (0..3).filter(|member| *member != last) {
        cluster.kill_member(member);
    }
    // A client that starts now finds its way by any store.
    let by_store = ["--pd", cluster.store_addr(0)];
    command::run(&[&["kv", "put", "b", "2"], by_store.as_slice()].concat()).ok();
    let dump = command::run(&[&["kv", "dump"], by_store.as_slice()].concat());
    assert_eq!(dump.ok().stdout, b"a\t1\nb\t2\n");
    let refused = cluster.run(&["ctl", "cluster", "status"]);
    assert_ne!(refused.code, 0, "one of three decides nothing: {refused:?}");

    cluster.kill_member(last);
    cluster.start_pd();
    cluster.wait_healthy();
    split(&cluster, "b", 2);
    cluster.kill_all();
    cluster.start_all();
    cluster.wait_healthy();
    assert_eq!(cluster.regions().len(), 2);
    assert_eq!(cluster.dump(), b"a\t1\nb\t2\n");
    cluster.check_output();
}

#[test]
fn a_placement_driver_joins_in_place_of_a_dead_one_which_never_comes_back() {
    let mut cluster = three_of_three();
    cluster.run(&["kv", "put", "a", "1"]).ok();
    let dead = (cluster.leading_member() + 1) % 3;
    let dead_id = (dead + 1).to_string();
    cluster.kill_member(dead);
    wait_for("the dead one to be silent", FAILOVER_BOUND, || {
        let Value::Array(members) = cluster.try_ctl(&["pd", "list"])? else {
            return Err("no array".to_string());
        };
        let is_silent = members.iter().any(|member| member["silent"] == true);
        if is_silent { Ok(()) } else { Err(format!("{members:?}")) }
    });
    let status = cluster.run(&["ctl", "cluster", "status", "-o", "json"]).expect_code(1);
    assert!(status.json()["reasons"][0]["kind"] == "pd-member-down", "{status:?}");
    cluster.run(&["ctl", "pd", "remove", &dead_id]).ok();

    let fourth = cluster.join_member();
    wait_for("the fourth to vote", CHANGE_BOUND, || {
        let members = cluster.try_ctl(&["pd", "list"])?;
        let votes = members.as_array().is_some_and(|members| {
            let is_it = |member: &&Value| member["id"].as_u64() == Some(fourth as u64 + 1);
            members.iter().find(is_it).is_some_and(|member| member["learner"] == false)
        });
        if votes { Ok(()) } else { Err(members.to_string()) }
    });
    cluster.wait_healthy();

    // It counts: one of the two others goes, and the placement drivers still decide.
    let id = (fourth + 1).to_string();
    cluster.run(&["ctl", "pd", "transfer-leader", &id]).ok();
    assert_eq!(cluster.leading_member(), fourth);
    let other = (0..3).find(|member| *member != dead).expect("two are left");
    cluster.kill_member(other);
    split(&cluster, "b", 2);
    cluster.start_known_member(other);

    cluster.start_known_member(dead);
    let (status, stderr) = cluster.member_ended(dead, FAILOVER_BOUND);
    assert_eq!(status, Some(3), "{stderr}");
    assert!(stderr.contains("was removed"), "{stderr}");
    cluster.run(&["ctl", "pd", "add", &dead_id, "127.0.0.1:9"]).expect_code(3);
    assert_eq!(cluster.dump(), b"a\t1\n");
    cluster.check_output();
}

#[test]
fn a_placement_driver_whose_directory_is_lost_takes_part_in_nothing() {
    let mut cluster = three_of_three();
    cluster.run(&["kv", "put", "a", "1"]).ok();
    let lost = (cluster.leading_member() + 1) % 3;
    cluster.kill_member(lost);
    cluster.lose_member_directory(lost);
    cluster.start_member(lost);
    let (status, stderr) = cluster.member_ended(lost, FAILOVER_BOUND);
    assert_eq!(status, Some(3), "{stderr}");
    assert!(stderr.contains("this directory is not the one that member"), "{stderr}");

    let id = (lost + 1).to_string();
    cluster.run(&["ctl", "pd", "remove", &id]).ok();
    cluster.join_member();
    cluster.wait_healthy();
    split(&cluster, "b", 2);
    // A store whose only configured placement driver is that one has learned of the others.
    cluster.kill_store(0);
    wait_for("the store to be missed", FAILOVER_BOUND, || {
        let status = cluster.run(&["ctl", "cluster", "status"]);
        if status.code == 1 { Ok(()) } else { Err(format!("{status:?}")) }
    });
    cluster.start_store_of_member(0, lost);
    cluster.wait_healthy();
    assert_eq!(cluster.dump(), b"a\t1\n");
    cluster.check_output();
}

#[test]
fn a_new_group_begins_once_all_its_members_run() {
    let mut cluster = Cluster::stopped(3, "96MiB").with_pds(3);
    cluster.start_member(0);
    cluster.start_member(1);
    cluster.wait_for_member_to_say(0, "waiting for [3]");
    let refused = cluster.run(&["ctl", "cluster", "status"]);
    assert_ne!(refused.code, 0, "two of three would be a majority: {refused:?}");
    cluster.start_member(2);
    (0..3).for_each(|store| cluster.start_store(store));
    cluster.wait_healthy();
    cluster.check_output();
}

fn three_of_three() -> Cluster {
    let mut cluster = Cluster::stopped(3, "96MiB").with_pds(3);
    cluster.start_all();
    cluster.wait_healthy();
    cluster
}

/// Splits the region that holds a key there, and waits until there are `count` regions.
fn split(cluster: &Cluster, key: &str, count: usize) {
    wait_for("the split", CHANGE_BOUND, || {
        let Value::Array(regions) = cluster.try_ctl(&["region", "list"])? else {
            return Err("no array".to_string());
        };
        if regions.len() == count {
            return Ok(());
        }
        // The last region holds it: keys come in order.
        let last = regions.last().map(|region| region["id"].to_string()).unwrap_or_default();
        let ordered = cluster.run(&["ctl", "region", "split", &last, "--at", key]);
        Err(format!("{} regions, {ordered:?}", regions.len()))
    });
}
