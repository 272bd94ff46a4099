//! The router: lookups, hints, late news, and the turn in which stores are asked.

use flotilla_types::{PeerId, RegionError};

use super::*;
use crate::core::lookup::led_by;

fn region(id: u64, start: &'static str, end: &'static str, version: u64) -> Region {
    let peers = (1..=3).map(|store| Member::voter(PeerId(id * 10 + store), StoreId(store)));
    Region {
        id: RegionId(id),
        range: KeyRange::new(start, end),
        epoch: Epoch { conf_ver: 1, version },
        members: peers.collect(),
    }
}

fn route(region: Region, leader: Option<u64>) -> Route {
    let leader =
        leader.map(|store| Member::voter(PeerId(region.id.0 * 10 + store), StoreId(store)));
    Route { region, leader, approximate_bytes: 0, approximate_keys: 0, load: Default::default() }
}

fn router(routes: Vec<Route>) -> Router {
    let stores = (1..=3).map(|store| (StoreId(store), format!("host{store}:1"))).collect();
    let mut router = Router::default();
    router.absorb_routes(RoutesPage { routes, stores }, None);
    router
}

fn ask(router: &Router, key: &[u8], last: Option<u64>, avoid: &[u64]) -> u64 {
    let avoid = |store: StoreId| avoid.contains(&store.0);
    let hints = RoutingHints { last: last.map(StoreId), hint: None, avoid: &avoid };
    let region = router.region_at(key).expect("cached");
    router.destination(region, &hints).expect("addresses are known").sent.store.0
}

fn sent(region: u64, version: u64, store: u64) -> Sent {
    let epoch = Epoch { conf_ver: 1, version };
    Sent { region: RegionId(region), epoch, store: StoreId(store) }
}

fn not_leader(leader: Option<u64>) -> Failure {
    let leader = leader.map(|store| Member::voter(PeerId(store), StoreId(store)));
    Failure::from(RegionError::NotLeader { region_id: RegionId(1), leader })
}

#[test]
fn the_known_leader_is_asked_first_and_else_the_voters_in_turn() {
    let mut router = router(vec![route(region(1, "", "", 1), Some(2))]);
    assert_eq!(ask(&router, b"k", None, &[]), 2);
    assert_eq!(ask(&router, b"k", None, &[2]), 1, "a suspect leader is passed over");
    router.absorb_failure(&sent(1, 1, 2), &Failure::Timeout);
    assert_eq!(ask(&router, b"k", None, &[]), 1);
    assert_eq!(ask(&router, b"k", Some(1), &[]), 2);
    assert_eq!(ask(&router, b"k", Some(3), &[]), 1);
    assert_eq!(ask(&router, b"k", Some(1), &[2]), 3);
    assert_eq!(ask(&router, b"k", Some(1), &[1, 2, 3]), 2, "all suspect: in turn all the same");
}

#[test]
fn learners_are_never_asked() {
    let mut learning = region(1, "", "", 1);
    learning.members[0].role = MemberRole::Learner;
    let router = router(vec![route(learning, None)]);
    assert_eq!(ask(&router, b"k", None, &[]), 2);
    assert_eq!(ask(&router, b"k", Some(3), &[]), 2);
}

#[test]
fn a_hint_names_the_next_store_and_is_remembered() {
    let mut router = router(vec![route(region(1, "", "", 1), Some(1))]);
    let learned = router.absorb_failure(&sent(1, 1, 1), &not_leader(Some(3)));
    assert_eq!(learned, Learned { is_news: true, hint: Some(StoreId(3)) });
    assert_eq!(ask(&router, b"k", Some(1), &[]), 3);
    let hints = RoutingHints { last: None, hint: learned.hint, avoid: &|_| true };
    let region = router.region_at(b"k").expect("cached");
    let hinted = router.destination(region, &hints).expect("address is known");
    assert_eq!(hinted.sent.store, StoreId(3), "a hint outweighs suspicion");
}

#[test]
fn a_store_that_names_itself_or_no_leader_teaches_nothing() {
    for hint in [Some(1), None] {
        let mut router = router(vec![route(region(1, "", "", 1), Some(1))]);
        assert_eq!(router.absorb_failure(&sent(1, 1, 1), &not_leader(hint)), Learned::default());
        assert!(!router.is_leader(&sent(1, 1, 1)));
    }
}

#[test]
fn late_failures_do_not_unlearn_the_new_leader() {
    let mut router = router(vec![route(region(1, "", "", 1), Some(1))]);
    router.absorb_failure(&sent(1, 1, 1), &not_leader(Some(3)));
    router.absorb_failure(&sent(1, 1, 1), &not_leader(None));
    router.absorb_failure(&sent(1, 1, 1), &Failure::Timeout);
    assert_eq!(ask(&router, b"k", None, &[]), 3);
}

#[test]
fn a_split_is_learned_from_the_store_and_keeps_the_leader() {
    let mut router = router(vec![route(region(1, "", "", 1), Some(2))]);
    let current = vec![region(1, "", "m", 2), region(7, "m", "", 2)];
    let split = Failure::from(RegionError::EpochNotMatch { current });
    assert!(router.absorb_failure(&sent(1, 1, 2), &split).is_news);
    assert_eq!(router.region_at(b"z").map(|region| region.id), Some(RegionId(7)));
    assert_eq!(ask(&router, b"a", None, &[]), 2);
    let again = router.absorb_failure(&sent(1, 1, 2), &split);
    assert!(again.is_news, "a second request routed by the old map may follow the new one");
}

#[test]
fn a_store_that_is_behind_teaches_nothing() {
    let mut router = router(vec![route(region(1, "", "m", 2), Some(2))]);
    let behind = Failure::from(RegionError::EpochNotMatch { current: vec![region(1, "", "", 1)] });
    assert!(!router.absorb_failure(&sent(1, 2, 2), &behind).is_news);
    assert!(!router.is_leader(&sent(1, 2, 2)), "another store is asked next");
    let same = Failure::from(RegionError::EpochNotMatch { current: vec![region(1, "", "m", 2)] });
    assert!(!router.absorb_failure(&sent(1, 2, 2), &same).is_news);
}

#[test]
fn a_store_at_anothers_address_loses_its_address() {
    let mut router = router(vec![route(region(1, "", "", 1), Some(2))]);
    let wrong = RegionError::WrongDestination { cluster_id: 1, store_id: StoreId(9) };
    router.absorb_failure(&sent(1, 1, 2), &Failure::from(wrong));
    let hints = RoutingHints { last: Some(StoreId(1)), hint: None, avoid: &|_| false };
    let region = router.region_at(b"k").expect("cached");
    let miss = router.destination(region, &hints).expect_err("the address was dropped");
    assert_eq!(miss, Miss::Address(StoreId(2), Bytes::new()));
    assert!(!router.knows(&miss));
}

#[test]
fn pd_fills_leaders_in_but_does_not_overrule_stores() {
    let mut router = router(vec![route(region(1, "", "", 1), None)]);
    let page = |leader, version| RoutesPage {
        routes: vec![route(region(1, "", "", version), Some(leader))],
        stores: vec![],
    };
    router.absorb_routes(page(1, 1), None);
    assert_eq!(ask(&router, b"k", None, &[]), 1);
    router.absorb_routes(page(2, 1), None);
    assert_eq!(ask(&router, b"k", None, &[]), 1);
    router.absorb_routes(page(2, 2), None);
    assert_eq!(ask(&router, b"k", None, &[]), 2, "of a newer region PD knows more");
}

#[test]
fn a_distrusted_region_is_replaced_even_by_an_older_one() {
    let mut router = router(vec![route(region(1, "", "", 5), Some(1))]);
    let page = RoutesPage { routes: vec![route(region(1, "", "", 4), Some(3))], stores: vec![] };
    router.absorb_routes(page.clone(), None);
    assert_eq!(ask(&router, b"k", None, &[]), 1);
    router.absorb_routes(page, Some(RegionId(1)));
    assert_eq!(ask(&router, b"k", None, &[]), 3);
}

#[test]
fn a_distrusted_region_stays_until_another_is_there_for_its_keys() {
    let cached = vec![route(region(1, "", "m", 5), Some(1)), route(region(2, "m", "", 5), None)];
    let mut router = router(cached);
    router.absorb_routes(RoutesPage::default(), Some(RegionId(1)));
    assert_eq!(router.region_at(b"a").map(|region| region.id), Some(RegionId(1)));
    // The second region is newer than this one, which is not taken over therefore.
    let older = RoutesPage { routes: vec![route(region(3, "", "", 4), None)], stores: vec![] };
    router.absorb_routes(older, Some(RegionId(1)));
    assert_eq!(router.region_at(b"a").map(|region| region.id), Some(RegionId(1)));
    assert_eq!(router.region_at(b"n").map(|region| region.id), Some(RegionId(2)));
    // The right part alone would leave the keys before it without a route.
    let right = RoutesPage { routes: vec![route(region(4, "c", "m", 6), None)], stores: vec![] };
    router.absorb_routes(right, Some(RegionId(1)));
    assert_eq!(router.region_at(b"a").map(|region| region.id), Some(RegionId(1)));
}

#[test]
fn a_page_that_begins_behind_a_region_does_not_take_its_place() {
    let mut router = router(vec![route(region(1, "a", "", 3), Some(1))]);
    let part = || route(region(2, "m", "p", 5), None);
    router.absorb_routes(RoutesPage { routes: vec![part()], stores: vec![] }, None);
    assert_eq!(router.region_at(b"a").map(|region| region.id), Some(RegionId(1)));
    let left = route(region(1, "a", "m", 5), None);
    router.absorb_routes(RoutesPage { routes: vec![left, part()], stores: vec![] }, None);
    assert_eq!(router.region_at(b"n").map(|region| region.id), Some(RegionId(2)));
}

#[test]
fn a_page_does_not_drive_out_the_region_that_was_asked_for() {
    let mut router = Router::new(3);
    let page = |ids: &[u64]| {
        let keys = ["", "a", "b", "c", "d", "e"];
        let one = |id: &u64| region(*id, keys[*id as usize], keys[*id as usize + 1], 1);
        let routes = ids.iter().map(|id| route(one(id), None)).collect();
        RoutesPage { routes, stores: vec![] }
    };
    router.absorb_routes(page(&[0, 1]), None);
    router.absorb_routes(page(&[2, 3]), None);
    assert_eq!(router.region_at(b"b").map(|region| region.id), Some(RegionId(2)));
    router.absorb_routes(page(&[1, 2, 3, 4]), None);
    assert_eq!(router.region_at(b"a").map(|region| region.id), Some(RegionId(1)));
}

#[test]
fn a_store_that_is_behind_is_not_believed_because_the_cache_is_full() {
    let mut router = Router::new(2);
    let held = |routes: Vec<Region>| {
        let routes = routes.into_iter().map(|region| route(region, None)).collect();
        RoutesPage { routes, stores: vec![] }
    };
    let (left, right) = (region(1, "a", "b", 6), region(7, "b", "c", 6));
    router.absorb_held(StoreId(1), held(vec![left.clone(), region(5, "x", "y", 1)]));
    let behind = || held(vec![region(1, "a", "d", 3), region(3, "d", "e", 3)]);
    router.absorb_held(StoreId(2), behind());
    assert_eq!(router.region_at(b"b"), None);
    assert_eq!(router.region_at(b"a"), Some(&left));
    router.absorb_held(StoreId(1), held(vec![right.clone(), region(8, "c", "d", 6)]));
    assert_eq!(router.region_at(b"b"), Some(&right));
    router.absorb_held(StoreId(2), behind());
    assert_eq!(router.region_at(b"b"), Some(&right), "newer than what the store holds");
}

#[test]
fn a_store_fills_a_hole_and_replaces_nothing_newer() {
    let mut router = router(vec![route(region(1, "", "m", 5), Some(1))]);
    let routes = vec![route(region(1, "", "", 4), Some(3)), route(region(2, "m", "", 5), Some(2))];
    let stores = vec![(StoreId(9), "moved:1".to_string())];
    router.absorb_held(StoreId(2), RoutesPage { routes, stores });
    assert_eq!(router.region(RegionId(1)).map(|region| region.epoch.version), Some(5));
    assert_eq!(ask(&router, b"a", None, &[]), 1);
    assert_eq!(ask(&router, b"n", None, &[]), 2);
    assert!(router.knows(&Miss::Address(StoreId(9), Bytes::new())));
}

#[test]
fn stores_near_a_hole_are_asked_first_and_then_those_heard_last() {
    let stores = (1..=5).map(|store| (StoreId(store), format!("host{store}:1"))).collect();
    let mut router = Router::default();
    let mut near = region(1, "", "m", 1);
    near.members.truncate(1);
    router.absorb_routes(RoutesPage { routes: vec![route(near, None)], stores }, None);
    router.absorb_held(StoreId(3), RoutesPage::default());
    router.absorb_held(StoreId(5), RoutesPage::default());
    let order = router.stores_to_ask(b"m").into_iter().map(|(store, _)| store.0);
    assert_eq!(order.collect::<Vec<u64>>(), [1, 5, 3, 2, 4]);
}

#[test]
fn an_empty_region_from_outside_is_ignored() {
    let mut router = router(vec![route(region(1, "", "", 1), Some(1))]);
    router.absorb_routes(
        RoutesPage { routes: vec![route(region(2, "m", "a", 9), None)], stores: vec![] },
        None,
    );
    assert_eq!(router.region_at(b"m").map(|region| region.id), Some(RegionId(1)));
}

#[test]
fn the_key_below_an_end_is_the_greatest_storable_one() {
    assert_eq!(key_below(b"ab\0"), Bytes::from("ab"));
    let below = key_below(b"ab");
    assert!(below.len() == STORED_KEY_BYTES_MAX && below.starts_with(b"aa\xff\xff"));
    assert!(below[..] < b"ab"[..]);
    assert_eq!(key_below(b""), Bytes::from(vec![0xff; STORED_KEY_BYTES_MAX]));
}

#[test]
fn a_region_without_voters_is_looked_up_anew() {
    let mut learning = region(1, "b", "", 1);
    learning.members.iter_mut().for_each(|member| member.role = MemberRole::Learner);
    let router = router(vec![route(learning, None)]);
    let hints = RoutingHints { last: None, hint: None, avoid: &|_| false };
    let region = router.region_at(b"k").expect("cached");
    assert_eq!(router.destination(region, &hints), Err(Miss::Region("b".into())));
}

#[test]
fn another_store_at_an_address_is_asked_no_more_until_the_address_is_known() {
    let mut router = router(vec![route(region(1, "b", "", 1), Some(2))]);
    let other = RegionError::WrongDestination { cluster_id: 1, store_id: StoreId(9) };
    assert_eq!(router.absorb_failure(&sent(1, 1, 2), &other.into()), Learned::default());
    assert!(!router.is_leader(&sent(1, 1, 2)));
    let hints = RoutingHints { last: None, hint: Some(StoreId(2)), avoid: &|_| false };
    let miss = Miss::Address(StoreId(2), "b".into());
    let region = router.region_at(b"k").expect("cached").clone();
    assert_eq!(router.destination(&region, &hints), Err(miss.clone()));
    assert!(!router.knows(&miss));
    let stores = vec![(StoreId(2), "moved:1".to_string())];
    router.absorb_routes(RoutesPage { routes: vec![], stores }, None);
    let to = router.destination(&region, &hints).expect("the address is known");
    assert_eq!((&*to.addr, router.knows(&miss)), ("moved:1", true));
}

#[test]
fn a_leader_that_refuses_a_request_is_still_the_leader() {
    let (limit, what) = ("key bytes".to_string(), "this".to_string());
    for refusal in [
        RegionError::ServerBusy { reason: "full".into(), retry_after_ms: 7 },
        RegionError::LimitExceeded { limit, max: 1, actual: 2 },
        RegionError::Unsupported { what },
        RegionError::DeadlineExceeded { region_id: RegionId(1) },
    ] {
        let mut router = router(vec![route(region(1, "", "", 1), Some(2))]);
        router.absorb_failure(&sent(1, 1, 2), &refusal.clone().into());
        assert!(router.is_leader(&sent(1, 1, 2)), "{refusal:?}");
    }
}

#[test]
fn a_store_that_says_it_leads_takes_the_place_of_one_that_answers_nothing() {
    let mut router = router(vec![route(region(1, "a", "m", 1), Some(2))]);
    let (key, others) = router.stores_beside(RegionId(1), StoreId(2));
    assert_eq!((&key[..], &*others[0], &*others[1]), (&b"a"[..], "host1:1", "host3:1"));
    let (leads, hearsay) =
        (route(region(1, "a", "m", 1), Some(3)), route(region(2, "m", "", 1), Some(1)));
    let page = RoutesPage { routes: vec![leads, hearsay], stores: vec![] };
    assert_eq!(led_by(StoreId(3), &page), [RegionId(1)], "what it says of others is hearsay");
    router.leads(RegionId(1), StoreId(3));
    assert_eq!(ask(&router, b"k", None, &[]), 3);
    router.absorb_failure(&sent(1, 1, 2), &Failure::Timeout);
    assert_eq!(ask(&router, b"k", None, &[]), 3, "the failure of the other says nothing of it");
    router.leads(RegionId(1), StoreId(9));
    assert_eq!(ask(&router, b"k", None, &[]), 3, "who holds no voter cannot lead");
}
