//! How long a region takes no write after kill -9 of the store that leads it.
//!
//! Prints each time. `FLOTILLA_KILLS` sets how many stores are killed, one after the other.

use std::time::{Duration, Instant};

use flotilla_tests::{Cluster, wait_for};

/// Kills in CI.
const KILLS_DEFAULT: usize = 3;

/// What a failover may take on a machine that is busy with other tests: an election (1 s at most)
/// and a few retries, times a generous factor.
const FAILOVER_BOUND: Duration = Duration::from_secs(10);

#[test]
fn a_region_takes_writes_again_soon_after_its_leader_is_killed() {
    let kills = match std::env::var("FLOTILLA_KILLS") {
        Ok(kills) => kills.parse().expect("FLOTILLA_KILLS is a number"),
        Err(_) => KILLS_DEFAULT,
    };
    let mut cluster = Cluster::start(3, "96MiB");
    let mut times = Vec::new();
    for kill in 0..kills {
        let key = format!("key{kill}");
        cluster.run(&["kv", "put", &key, "before"]).ok();
        let leader = cluster.leader_of(&key);
        cluster.kill_store(leader);
        times.push(time_to_write(&cluster, &key));
        assert_eq!(cluster.run(&["kv", "get", &key]).ok().text(), "after");
        cluster.start_store(leader);
        cluster.wait_healthy();
    }
    times.sort();
    println!("first acknowledged write after kill -9 of the leader's store: {times:?}");
    let worst = times.last().copied().unwrap_or_default();
    assert!(worst < FAILOVER_BOUND, "the slowest of {kills} failovers took {worst:?}");
}

/// Time until a put is acknowledged, the start of a client process included.
fn time_to_write(cluster: &Cluster, key: &str) -> Duration {
    let start = Instant::now();
    wait_for("an acknowledged write", 3 * FAILOVER_BOUND, || {
        let put = cluster.run(&["kv", "put", key, "after"]);
        if put.code == 0 { Ok(()) } else { Err(format!("{put:?}")) }
    });
    start.elapsed()
}
