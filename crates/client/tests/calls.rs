//! The client against a cluster that misbehaves to order (see `fake`): every ending of a call, and
//! every way back from a wrong route.

mod fake;

use std::time::{Duration, Instant};

use bytes::Bytes;
use fake::{Fault, World, dead_addr};
use flotilla_client::{Client, Error, OperatorRequest, PdClient, ScanOptions};
use flotilla_types::{RegionError, RegionId, StoreId};

async fn connected(cuts: &[&'static str]) -> (World, Client) {
    let (world, pd) = World::start(cuts).await;
    let client = Client::connect([pd]).await.expect("the fake placement driver answers");
    (world, client)
}

fn key(n: u32) -> String {
    format!("k{n:03}")
}

async fn fill(client: &Client, count: u32) {
    let pairs = (0..count).map(|n| (key(n), format!("v{n}")));
    client.batch_put(pairs).await.expect("no fault was ordered");
}

fn keys(rows: &[(Bytes, Bytes)]) -> Vec<String> {
    rows.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
}

#[tokio::test]
async fn what_is_put_is_read_until_it_is_deleted() {
    let (world, client) = connected(&["m"]).await;
    assert_eq!(client.get("apple").await, Ok(None));
    client.put("apple", "red").await.expect("put");
    client.put("zebra", Bytes::new()).await.expect("put of an empty value");
    assert_eq!(client.get("apple").await, Ok(Some(Bytes::from("red"))));
    assert_eq!(client.get("zebra").await, Ok(Some(Bytes::new())));
    client.delete("apple").await.expect("delete");
    assert_eq!(client.get("apple").await, Ok(None));
    assert_eq!(world.state().lookups, 1, "one page held every region");
}

#[tokio::test]
async fn keyspaces_do_not_see_each_other() {
    let (_world, client) = connected(&[]).await;
    client.put("k", "zero").await.expect("put");
    let other = client.clone().with_keyspace(9);
    assert_eq!(other.get("k").await, Ok(None));
    other.delete_range("", "").await.expect("delete_range");
    assert_eq!(client.get("k").await, Ok(Some(Bytes::from("zero"))));
}

#[tokio::test]
async fn a_batch_over_many_regions_keeps_the_order_asked() {
    let (_world, client) = connected(&["k010", "k020", "k030"]).await;
    fill(&client, 40).await;
    let asked: Vec<u32> = vec![35, 2, 99, 21, 2, 12];
    let values = client.batch_get(asked.iter().map(|n| key(*n))).await.expect("batch_get");
    let expected: Vec<Option<Bytes>> =
        asked.iter().map(|n| (*n < 40).then(|| format!("v{n}").into())).collect();
    assert_eq!(values, expected);
    client.batch_delete([key(2), key(35)]).await.expect("batch_delete");
    assert_eq!(client.batch_get([key(2), key(35), key(12)]).await.expect("get")[2], expected[5]);
    assert_eq!(client.batch_get(Vec::<String>::new()).await, Ok(vec![]));
}

#[tokio::test]
async fn a_batch_survives_a_split_on_its_way() {
    let (world, client) = connected(&[]).await;
    fill(&client, 10).await;
    world.state().split_at = Some("k005");
    let values = client.batch_get((0..10).map(key)).await.expect("batch_get");
    assert!(values.iter().all(Option::is_some));
    assert_eq!(world.state().lookups, 1, "the store's refusal taught the split");
}

#[tokio::test]
async fn a_leader_hint_is_followed_and_remembered() {
    let (world, client) = connected(&[]).await;
    client.put("k", "1").await.expect("put");
    world.state().regions[0].1 = 3;
    client.put("k", "2").await.expect("put");
    client.put("k", "3").await.expect("put");
    let asked: Vec<u64> = world.state().requests.iter().map(|(store, _)| *store).collect();
    assert_eq!(asked, [2, 2, 3, 3]);
    assert_eq!(world.state().lookups, 1);
}

#[tokio::test]
async fn refusals_without_effect_are_retried_until_they_pass() {
    let (world, client) = connected(&[]).await;
    let id = RegionId(1);
    let refusals = [
        RegionError::NotLeader { region_id: id, leader: None },
        RegionError::RegionNotFound { region_id: id },
        RegionError::ServerBusy { reason: "inbox".into(), retry_after_ms: 1 },
        RegionError::EpochNotMatch { current: vec![] },
        RegionError::WrongDestination { cluster_id: 1, store_id: StoreId(9) },
        RegionError::DeadlineExceeded { region_id: id },
    ];
    world.fault(refusals.map(Fault::Refuse));
    assert_eq!(client.busy_refusals(), 0);
    client.put("k", "v").await.expect("put");
    assert_eq!(world.value("k"), Some(Bytes::from("v")));
    assert_eq!(client.busy_refusals(), 1, "the others were refused for other reasons");
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_undetermined_and_not_sent_again() {
    let (world, client) = connected(&[]).await;
    client.put("k", "0").await.expect("put");
    let before = world.state().requests.len();
    world.fault([Fault::BreakAfterwards]);
    let error = client.put("k", "1").await.expect_err("the answer was lost");
    assert!(error.is_undetermined(), "{error}");
    assert_eq!(world.state().requests.len(), before + 1);
    assert_eq!(world.value("k"), Some(Bytes::from("1")), "it did take effect");
    client.put("k", "2").await.expect("the connection comes back");
}

#[tokio::test]
async fn a_store_that_does_not_know_the_outcome_ends_the_write_undetermined() {
    let (world, client) = connected(&[]).await;
    world.fault([Fault::Refuse(RegionError::Undetermined { region_id: RegionId(1) })]);
    let error = client.delete("k").await.expect_err("undetermined");
    assert!(error.is_undetermined(), "{error}");
    world.fault([Fault::Empty]);
    let error = client.delete("k").await.expect_err("an answer without sense");
    assert!(error.is_undetermined(), "{error}");
}

#[tokio::test]
async fn reads_and_allowed_writes_are_repeated_after_a_lost_answer() {
    let (world, client) = connected(&[]).await;
    client.put("k", "0").await.expect("put");
    world.fault([Fault::BreakAfterwards]);
    assert_eq!(client.get("k").await, Ok(Some(Bytes::from("0"))));
    let bulk = client.clone().with_retry_undetermined_writes(true);
    world.fault([Fault::BreakAfterwards]);
    bulk.put("k", "1").await.expect("repeated");
    world.fault([Fault::BreakAfterwards]);
    let error = bulk.compare_and_swap("k", Some("1"), Some("2")).await.expect_err("never repeated");
    assert!(error.is_undetermined(), "{error}");
}

#[tokio::test]
async fn every_call_ends_by_its_deadline() {
    let (world, client) = connected(&[]).await;
    let hasty = client.clone().with_timeout(Duration::from_millis(200));
    let began = Instant::now();
    world.fault([Fault::Silence]);
    let error = hasty.put("k", "v").await.expect_err("no answer");
    assert!(error.is_undetermined(), "{error}");
    world.fault([Fault::Silence]);
    let error = hasty.get("k").await.expect_err("no answer");
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    world.fault(vec![
        Fault::Refuse(RegionError::NotLeader { region_id: RegionId(1), leader: None });
        200
    ]);
    let error = hasty.put("k", "v").await.expect_err("no leader");
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_store_that_is_busy_to_the_end_is_told_as_busy() {
    let (world, client) = connected(&[]).await;
    let hasty = client.clone().with_timeout(Duration::from_millis(200));
    let busy = RegionError::ServerBusy { reason: "inbox".into(), retry_after_ms: 70 };
    world.fault(vec![Fault::Refuse(busy); 200]);
    let error = hasty.put("k", "v").await.expect_err("a busy store");
    assert!(matches!(error, Error::ServerBusy { retry_after_ms: 70, .. }), "{error}");
}

#[tokio::test]
async fn a_request_that_the_store_does_not_know_is_a_definite_failure() {
    let (world, client) = connected(&[]).await;
    let refusal = RegionError::Unsupported { what: "this kind of request".into() };
    world.fault([Fault::Refuse(refusal)]);
    let error = client.put("k", "v").await.expect_err("refused");
    let said = "the cluster refused: the store does not support this kind of request";
    assert_eq!(error.to_string(), said);
    assert!(!error.is_retryable() && !error.is_undetermined());
    assert_eq!(world.value("k"), None);
}

#[tokio::test]
async fn a_batch_that_fails_after_a_part_of_it_is_undetermined() {
    let (world, client) = connected(&["m"]).await;
    fill(&client, 1).await;
    let refusal = RegionError::LimitExceeded { limit: "batch".into(), max: 1, actual: 2 };
    world.fault([Fault::Refuse(refusal.clone())]);
    let error = client.put("a", "v").await.expect_err("refused");
    assert!(matches!(error, Error::LimitExceeded { max: 1, .. }), "{error}");
    // Whichever part meets the fault, the other is done or on its way.
    world.fault([Fault::Refuse(refusal)]);
    let error = client.batch_put([("a", "v"), ("z", "v")]).await.expect_err("refused in part");
    assert!(error.is_undetermined(), "{error}");
}

#[tokio::test]
async fn an_unreachable_leader_fails_writes_definitely_and_is_passed_over_later() {
    let (world, client) = connected(&[]).await;
    // Region 1 is led by store 2.
    let dead = dead_addr().await;
    world.state().addrs.insert(2, dead);
    let hasty = client.clone().with_timeout(Duration::from_millis(200));
    let error = hasty.put("k", "v").await.expect_err("its leader is gone");
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "nothing was sent: {error}");
    world.state().regions[0].1 = 1;
    client.put("k", "v").await.expect("the new leader is found");
}

#[tokio::test]
async fn a_request_that_never_left_is_a_definite_failure() {
    let (world, client) = connected(&[]).await;
    // Accepts connections and says nothing, ever.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = mute.local_addr().expect("bound").to_string();
    world.state().addrs.insert(2, addr);
    let hasty = client.clone().with_timeout(Duration::from_millis(200));
    let error = hasty.put("k", "v").await.expect_err("nobody answers");
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
}

#[tokio::test]
async fn a_silent_leader_does_not_hold_up_the_calls_after() {
    let (world, client) = connected(&[]).await;
    client.put("k", "0").await.expect("put");
    {
        let mut state = world.state();
        state.silent_stores.insert(2);
        state.regions[0].1 = 1;
    }
    // A write waits for its own deadline; those that begin once the silence is noticed go to
    // another store, and one of them overtakes it.
    let mut puts = tokio::task::JoinSet::new();
    let began = Instant::now();
    let first = loop {
        let client = client.clone();
        puts.spawn(async move { client.put("k", "1").await });
        let next = tokio::time::timeout(Duration::from_millis(100), puts.join_next()).await;
        if let Ok(Some(done)) = next {
            break done.expect("no panic");
        }
    };
    assert_eq!(first, Ok(()));
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}

#[tokio::test]
async fn compare_and_swap_tells_what_it_found() {
    let (_world, client) = connected(&[]).await;
    let made = client.compare_and_swap("k", None, Some("1")).await.expect("cas");
    assert!(made.swapped && made.previous.is_none());
    let missed = client.compare_and_swap("k", Some("7"), Some("2")).await.expect("cas");
    assert!(!missed.swapped && missed.previous == Some(Bytes::from("1")));
    let removed = client.compare_and_swap("k", Some("1"), None).await.expect("cas");
    assert!(removed.swapped);
    assert_eq!(client.get("k").await, Ok(None));
}

#[tokio::test]
async fn delete_range_reaches_over_regions_and_stops_at_its_end() {
    let (_world, client) = connected(&["k010", "k020", "k030"]).await;
    fill(&client, 40).await;
    client.delete_range("k005", "k035").await.expect("delete_range");
    let left = client.scan("".."", 100).await.expect("scan");
    let expected: Vec<String> = (0..5).chain(35..40).map(key).collect();
    assert_eq!(keys(&left), expected);
}

#[tokio::test]
async fn scans_cross_regions_in_both_directions() {
    let (_world, client) = connected(&["k010", "k020", "k030"]).await;
    fill(&client, 40).await;
    let all = client.scan("".."", 100).await.expect("scan");
    assert_eq!(keys(&all), (0..40).map(key).collect::<Vec<_>>());
    let some = client.scan("k005".."k025", 17).await.expect("scan");
    assert_eq!(keys(&some), (5..22).map(key).collect::<Vec<_>>());
    let back = client.reverse_scan("k005".."k025", 17).await.expect("scan");
    assert_eq!(keys(&back), (8..25).rev().map(key).collect::<Vec<_>>());
    let all_back = client.reverse_scan("".."", 100).await.expect("scan");
    assert_eq!(keys(&all_back), (0..40).rev().map(key).collect::<Vec<_>>());
    assert_eq!(client.scan("k010".."k010", 5).await, Ok(vec![]));
    assert_eq!(client.scan("".."", 0).await, Ok(vec![]));
}

#[tokio::test]
async fn a_reverse_scan_finds_its_regions_on_a_cold_cache() {
    let (world, client) = connected(&["k010", "k020", "k030"]).await;
    fill(&client, 40).await;
    let pd = client.pd().endpoints().to_vec();
    let fresh = Client::connect(pd).await.expect("connect");
    let back = fresh.reverse_scan("".."k020", 12).await.expect("scan");
    assert_eq!(keys(&back), (8..20).rev().map(key).collect::<Vec<_>>());
    assert!(world.state().lookups > 1);
}

#[tokio::test]
async fn a_scan_resumes_behind_its_last_row() {
    for reverse in [false, true] {
        let (world, client) = connected(&["k020"]).await;
        fill(&client, 40).await;
        world.state().scan_breaks.extend([1, 2, 0, 3]);
        let options = ScanOptions { reverse, keys_only: true, ..Default::default() };
        let mut stream = client.scan_stream(options).expect("valid");
        let mut seen = Vec::new();
        while let Some(row) = stream.next().await {
            let (key, value) = row.expect("breaks are bridged");
            assert!(value.is_empty());
            seen.push(String::from_utf8_lossy(&key).into_owned());
            if seen.len() == 9 {
                let mut state = world.state();
                state.split("k015");
                state.regions[0].1 = 3;
            }
        }
        let mut expected: Vec<String> = (0..40).map(key).collect();
        if reverse {
            expected.reverse();
        }
        assert_eq!(seen, expected);
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn a_scan_that_never_ends_ends_by_its_deadline() {
    let (world, client) = connected(&[]).await;
    world.state().endless_scans = true;
    let began = Instant::now();
    let hasty = client.with_timeout(Duration::from_millis(300));
    let error = hasty.scan("".."", 10).await.expect_err("no end in sight");
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_client_may_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Client>();
    shared::<PdClient>();
    sent::<flotilla_client::ScanStream>();
}

#[tokio::test]
async fn limits_are_checked_before_anything_is_sent() {
    let (world, client) = connected(&[]).await;
    let long = vec![b'k'; 8 * 1024 + 1];
    let big = vec![0; 6 * 1024 * 1024 + 1];
    let errors = [
        client.get("").await.map(drop),
        client.get(&long).await.map(drop),
        client.put("k", big).await,
        client.batch_delete((0..1025).map(key)).await,
        client.batch_put((0..3).map(|n| (key(n), vec![0; 3 * 1024 * 1024]))).await,
        client.delete_range(&long, "").await,
        client.compare_and_swap("", None::<Bytes>, None).await.map(drop),
    ];
    for error in errors {
        assert!(matches!(error, Err(Error::LimitExceeded { .. })), "{error:?}");
    }
    let backwards = client.delete_range("b", "a").await;
    assert!(matches!(backwards, Err(Error::InvalidArgument { .. })), "{backwards:?}");
    assert!(matches!(client.scan("b".."a", 1).await, Err(Error::InvalidArgument { .. })));
    assert!(world.state().requests.is_empty());
}

#[tokio::test]
async fn the_largest_values_pass() {
    let (_world, client) = connected(&[]).await;
    let (one, other) = (vec![1; 6 << 20], vec![2; (2 << 20) - 64]);
    client.put("k", one.clone()).await.expect("put");
    // Stores count both values of a swap as one batch, and so does the client.
    let both = client.compare_and_swap("k", Some(one.clone()), Some(one.clone())).await;
    assert!(matches!(both, Err(Error::LimitExceeded { .. })), "{both:?}");
    let outcome = client.compare_and_swap("k", Some(one), Some(other)).await.expect("cas");
    assert!(outcome.swapped);
    client.batch_put([("a", vec![1; 4 << 20]), ("b", vec![1; (4 << 20) - 64])]).await.expect("put");
}

/// A call that is stuck and may try again at once has nothing under way; it once passed for done.
/// The back-off is random, so it takes some calls to meet one of no length.
#[tokio::test]
async fn a_call_without_a_route_waits_for_one() {
    let (world, addr) = World::start(&[]).await;
    for call in 0..40 {
        let client = Client::connect([addr.clone()]).await.expect("a fresh cache");
        world.state().blind_lookups = 3;
        let key = format!("key{call}");
        client.put(&key, "value").await.expect("the route is found in the end");
        assert_eq!(world.value(&key), Some("value".into()), "call {call}");
    }
}

#[tokio::test]
async fn many_callers_share_one_lookup_and_one_stream() {
    let (world, client) = connected(&[]).await;
    let tasks: Vec<_> = (0..500)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.put(key(n), "v").await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("put");
    }
    assert_eq!(world.state().lookups, 1);
    assert_eq!(world.state().data.len(), 500);
}

#[tokio::test]
async fn the_pd_leader_is_found_through_a_follower_and_past_the_dead() {
    let (world, leader) = World::start(&["a", "b", "c", "d"]).await;
    let follower = world.start_pd(Some(leader.clone())).await;
    let pd = PdClient::new([dead_addr().await, follower]).expect("valid");
    assert_eq!(pd.cluster_id(), None);
    pd.cluster_status().await.expect("found");
    assert_eq!(pd.cluster_id(), Some(fake::CLUSTER));
    let ids: Vec<u64> =
        pd.all_regions().await.expect("pages").iter().map(|r| r.region.id.0).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn an_unreachable_pd_is_named() {
    let dead = dead_addr().await;
    let error = Client::builder()
        .endpoints([dead.clone()])
        .request_timeout(Duration::from_millis(300))
        .connect()
        .await
        .expect_err("nobody there");
    assert!(matches!(&error, Error::PdUnreachable { tried, .. } if *tried == [dead]), "{error}");
    assert!(matches!(PdClient::new(["nonsense"]), Err(Error::InvalidArgument { .. })));
    assert!(matches!(PdClient::new(Vec::<String>::new()), Err(Error::InvalidArgument { .. })));
}

#[tokio::test]
async fn a_cluster_that_is_warm_needs_no_pd() {
    let (world, client) = connected(&[]).await;
    client.put("k", "1").await.expect("put");
    world.state().pd_silent = true;
    world.state().regions[0].1 = 1;
    world.fault([Fault::Refuse(RegionError::RegionNotFound { region_id: RegionId(1) })]);
    client.put("k", "2").await.expect("the stores know");
    let cold = client.clone().with_timeout(Duration::from_millis(300));
    assert_eq!(cold.get("k").await, Ok(Some(Bytes::from("2"))));
    world.state().pd_silent = false;
}

#[tokio::test]
async fn an_operator_is_not_asked_for_twice() {
    let (world, pd) = World::start(&[]).await;
    let pd = PdClient::new([pd]).expect("valid").with_timeout(Duration::from_millis(200));
    let kind = OperatorRequest::TransferLeader(StoreId(1));
    assert_eq!(pd.add_operator(RegionId(1), kind.clone()).await, Ok(1));
    world.state().pd_loses = true;
    let error = pd.add_operator(RegionId(1), kind.clone()).await.expect_err("no answer");
    assert!(error.is_undetermined(), "{error}");
    world.state().pd_loses = false;
    world.state().pd_silent = true;
    let error = pd.add_operator(RegionId(1), kind).await.expect_err("nobody says that he leads");
    assert!(matches!(error, Error::PdUnreachable { .. }), "{error}");
    world.state().pd_silent = false;
    assert_eq!(world.state().operators, 1);
    let missing = pd.cancel_operator(9).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
}
