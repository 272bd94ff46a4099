//! What an operator is told of a cluster of real processes, and waits for.

use std::time::Duration;

use flotilla_tests::cluster::HEALTHY_DEADLINE;
use flotilla_tests::{Cluster, wait_for};
use serde_json::Value;

/// What a store's silence takes to be told: it must be older than three seconds.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn a_killed_store_is_named_until_it_is_back_and_has_caught_up() {
    let mut cluster = Cluster::start(3, "96MiB");
    cluster.run(&["kv", "put", "key", "one"]).ok();
    cluster.run(&["ctl", "cluster", "status"]).ok();
    let victim = cluster.leader_of("key");
    let id = store_id(&cluster, victim);

    cluster.kill_store(victim);
    let reason = wait_for("the store's name", TOLD_WITHIN, || {
        let status = cluster.status()?;
        let reason = status["reasons"][0].clone();
        let is_named = reason["stores"] == Value::Array(vec![id.into()]);
        // Until another store leads, the region is unavailable for the same reason.
        if is_named && reason["kind"] == "under-replicated" {
            Ok(reason)
        } else {
            Err(format!("{status}"))
        }
    });
    let region = cluster.regions().remove(0);
    assert_eq!((&reason["regions"][0], &reason["region_count"]), (&region["id"], &1.into()));
    let named = format!("store {id} was last heard");
    let told = cluster.run(&["ctl", "cluster", "status"]).expect_code(1);
    assert!(told.text().contains(&named) && told.stderr.is_empty(), "{told:?}");

    let wait = ["ctl", "cluster", "wait", "healthy", "--timeout"];
    let waited = cluster.run(&[&wait[..], &["5s"]].concat()).expect_code(1);
    let waited = waited.expect_stderr(&["waiting: under-replicated", &format!("store {id}")]);
    assert!(waited.text().contains(&named), "{waited:?}");

    cluster.run(&["kv", "put", "key", "two"]).ok();
    cluster.start_store(victim);
    let limit = format!("{}s", HEALTHY_DEADLINE.as_secs());
    cluster.run(&[&wait[..], &[&limit]].concat()).ok();
    cluster.run(&["ctl", "cluster", "status"]).ok();
    cluster.check_output();
}

#[test]
fn a_store_that_was_never_heard_is_unknown_and_a_placement_driver_is_waited_for() {
    let mut cluster = Cluster::start(3, "96MiB");
    let id = store_id(&cluster, 2);
    for check in [&[][..], &["--check"]] {
        let drain = cluster.run(&[&["ctl", "store", "drain", &id.to_string()][..], check].concat());
        drain.expect_code(5).expect_stderr(&["could not leave the store", "--force"]);
    }
    assert_eq!(cluster.ctl(&["store", "show", &id.to_string()])["draining"], false);
    let region = cluster.regions().remove(0)["id"].to_string();
    let explained = cluster.ctl(&["region", "explain", &region]);
    assert_eq!(explained["stores"].as_array().map(Vec::len), Some(3), "{explained}");
    let schedulers = wait_for("the first plan", TOLD_WITHIN, || {
        let told = cluster.try_ctl(&["scheduler", "list"])?;
        if told[0].is_null() { Err(told.to_string()) } else { Ok(told) }
    });
    assert_eq!(schedulers[0]["name"], "repair", "{schedulers}");
    cluster.run(&["ctl", "scheduler", "explain", "repair"]).ok();
    cluster.run(&["ctl", "operator", "list", "--history"]).ok();
    cluster.run(&["ctl", "store", "drain", &id.to_string(), "--force"]).ok();
    cluster.run(&["ctl", "store", "drain", &id.to_string(), "--cancel"]).ok();
    assert_eq!(cluster.ctl(&["store", "show", &id.to_string()])["draining"], false);
    cluster.run(&["ctl", "store", "drain", &id.to_string(), "--force"]).ok();
    let blocked = &cluster.ctl(&["store", "show", &id.to_string()])["blocked"];
    assert_eq!(blocked.as_array().map(Vec::len), Some(1), "{blocked}");
    cluster.kill_store(2);
    cluster.kill_pd();
    let wait = ["ctl", "cluster", "wait", "healthy", "--timeout"];
    let waited = cluster.run(&[&wait[..], &["3s"]].concat()).expect_code(3);
    waited.expect_stderr(&["waiting: an answer of the placement driver"]);

    cluster.start_pd();
    let store = wait_for("the list of stores", TOLD_WITHIN, || {
        cluster.try_ctl(&["store", "show", &id.to_string()])
    });
    assert_eq!((&store["state"], &store["draining"]), (&"unknown".into(), &true.into()));
    cluster.start_store(2);
    cluster.run(&[&wait[..], &["90s"]].concat()).ok();
    let store = cluster.ctl(&["store", "show", &id.to_string()]);
    assert_eq!((&store["state"], &store["draining"]), (&"draining".into(), &true.into()));
    cluster.check_output();
}

#[test]
fn a_store_that_stops_in_good_order_says_so() {
    let mut cluster = Cluster::start(3, "96MiB");
    let id = store_id(&cluster, 0).to_string();
    let store = cluster.store(0);
    store.signal("TERM");
    let status = store.wait(TOLD_WITHIN).expect("the store stops");
    assert!(status.success(), "{status}: {}", cluster.store(0).stderr());
    // The store's last word was taken before its process ended.
    let store = cluster.ctl(&["store", "show", &id]);
    assert_eq!(store["state"], "stopped", "{store}");
    let told = cluster.run(&["ctl", "cluster", "status"]).expect_code(1);
    assert!(told.text().contains(&format!("store {id} has stopped")), "{told:?}");
    cluster.start_store(0);
    cluster.run(&["ctl", "cluster", "wait", "healthy", "--timeout", "90s"]).ok();
    assert_eq!(cluster.ctl(&["store", "show", &id])["state"], "up");
    cluster.check_output();
}

/// The id of the store at this index.
fn store_id(cluster: &Cluster, index: usize) -> u64 {
    let stores = cluster.ctl(&["store", "list"]);
    let stores = stores.as_array().expect("an array");
    let store = stores.iter().find(|store| store["addr"] == cluster.store_addr(index));
    store.and_then(|store| store["id"].as_u64()).expect("the store is listed")
}
