//! Three placement drivers, each cut off from everybody in turn while clients write: another one
//! leads soon, and no client sees an error.
//!
//! Prints how long the placement driver gave no answer, and the times of the puts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flotilla_client::{Client, PdClient};
use flotilla_net::connect::dial_by;
use flotilla_tests::links::CLIENT;
use flotilla_tests::{Cluster, wait_for};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What the placement driver may be away on a machine that is busy with other tests: an election
/// (1 s at most) and an attempt at the one that is silent, times a generous factor.
const AWAY_BOUND: Duration = Duration::from_secs(10);

/// Clients that write, each with a pause between two puts.
const WRITERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(4);

/// How long one is cut off, and the writes go on after it is back.
const CUT: Duration = Duration::from_millis(1_500);

#[test]
fn each_placement_driver_that_is_cut_off_is_replaced_and_no_client_notices() {
    let mut cluster = Cluster::stopped(3, "96MiB").with_pds(3).with_links();
    cluster.start_all();
    cluster.wait_healthy();
    dial_by(&cluster.links().dials(CLIENT)).expect("addresses");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let calm = runtime.block_on(puts_while(&cluster, async {
        sleep(CUT).await;
    }));
    println!("puts without a fault: {}", told(calm));
    // The one that leads first, so that each of the three is cut off once while it may lead.
    let first = cluster.leading_member();
    for step in 0..3 {
        let index = (first + step) % 3;
        let was_leading = cluster.leading_member() == index;
        let (mut away, name) = (Duration::ZERO, cluster.member_name(index).to_string());
        let puts = runtime.block_on(puts_while(&cluster, async {
            let pd = PdClient::new(cluster.pd_addrs().split(',')).expect("addresses");
            let began = Instant::now();
            cluster.links().cut_off(&name);
            pd.stores().await.expect("another one leads");
            away = began.elapsed();
            sleep(CUT.saturating_sub(away)).await;
            cluster.links().heal();
            sleep(CUT).await;
        }));
        println!("{name} cut off, which led: {was_leading}; an answer after {away:?}");
        println!("puts meanwhile: {}", told(puts));
        assert!(away < AWAY_BOUND, "{away:?}");
        wait_for("the one that was cut off to be heard", AWAY_BOUND, || {
            let members = cluster.try_ctl(&["pd", "list"])?;
            let all = members.as_array().ok_or("no array")?;
            let is_whole = all.iter().all(|member| member["silent"] != true);
            if is_whole { Ok(()) } else { Err(members.to_string()) }
        });
    }
    cluster.check_output();
}

/// How long each put took that was made while something happens.
async fn puts_while(cluster: &Cluster, happens: impl Future<Output = ()>) -> Vec<Duration> {
    let client = Client::connect(cluster.pd_addrs().split(',')).await.expect("connected");
    // It knows the region from now on.
    client.put("first", "1").await.expect("nothing is cut off yet");
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (client, is_over) = (client.clone(), is_over.clone());
        writers.spawn(async move {
            let mut times = vec![];
            for row in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let began = Instant::now();
                let put = client.put(format!("{writer}-{row}"), "1").await;
                put.expect("the placement driver is off the path of data");
                times.push(began.elapsed());
                sleep(PAUSE).await;
            }
            times
        });
    }
    happens.await;
    is_over.store(true, Ordering::Relaxed);
    writers.join_all().await.concat()
}

fn told(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    format!("{} puts, p50 {:?}, p99 {:?}, longest {longest:?}", times.len(), at(50), at(99))
}
