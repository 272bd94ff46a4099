//! A call for one item asks and understands what a plan of that item does, and fails as it would.

use flotilla_types::dice::Dice;
use flotilla_types::{
    Epoch, KeyRange, Member, Millis, PeerId, Region, RegionError, RegionId, proto,
};

use super::*;
use crate::core::attempt::RetryContext;
use crate::core::budget::Budget;
use crate::core::failure::Failure;
use crate::core::item::{Item, op, outcome};
use crate::core::plan::{Ending, Next, Plan};
use crate::core::retry::{Action, Attempts, Idempotency};
use crate::core::router::{Route, RoutesPage};

fn router() -> Router {
    let region = |id: u64, start: &'static str, end: &'static str| Region {
        id: RegionId(id),
        range: KeyRange::new(start, end),
        epoch: Epoch { conf_ver: 1, version: id },
        members: (1..=3)
            .map(|store| Member::voter(PeerId(10 * id + store), StoreId(store)))
            .collect(),
    };
    let route = |region: Region, leader: usize| Route {
        leader: Some(region.members[leader]),
        region,
        approximate_bytes: 0,
        approximate_keys: 0,
    };
    let routes = vec![route(region(1, "", "m"), 1), route(region(2, "m", ""), 2)];
    let stores = (1..=3).map(|id| (StoreId(id), format!("host{id}:1"))).collect();
    let mut router = Router::default();
    router.absorb_routes(RoutesPage { routes, stores }, None);
    router
}

fn items() -> Vec<(Item, Idempotency)> {
    let slot = |value: &'static str| Some(proto::Slot { found: true, value: value.into() });
    let cas = proto::CompareAndSwap { key: "k".into(), expected: slot("a"), new: slot("b") };
    vec![
        (Item::Get("x".into()), Idempotency::ReadOnly),
        (Item::Put("a".into(), "v".into()), Idempotency::NotIdempotent),
        (Item::Put("z".into(), "v".into()), Idempotency::Idempotent),
        (Item::Delete("m".into()), Idempotency::NotIdempotent),
        (Item::CompareAndSwap(cas), Idempotency::NotIdempotent),
    ]
}

fn attempts(idempotency: Idempotency) -> Attempts {
    Attempts::new(idempotency, Millis(1_000))
}

fn answers() -> Vec<proto::reply::Result> {
    use proto::reply::Result as Answer;
    let slot = |found, value: &'static str| proto::Slot { found, value: value.into() };
    let get = |slots| Answer::Get(proto::GetReply { slots });
    let error = RegionError::NotLeader { region_id: RegionId(1), leader: None };
    vec![
        get(vec![slot(true, "v")]),
        get(vec![slot(false, "")]),
        get(vec![]),
        get(vec![slot(true, "v"), slot(true, "w")]),
        Answer::Write(proto::WriteReply {}),
        Answer::CompareAndSwap(proto::CompareAndSwapReply {
            swapped: true,
            previous: Some(slot(true, "a")),
        }),
        Answer::Error(error.into()),
        Answer::Error(proto::RegionError::default()),
    ]
}

#[test]
fn the_first_attempt_is_that_of_a_plan() {
    let router = router();
    for avoided in 0..=3 {
        let avoid = |store: StoreId| store == StoreId(avoided);
        for (item, idempotency) in items() {
            let mut plan = Plan::new(vec![item.clone()], attempts(idempotency));
            let Some(Next::Send { to, op: sent, .. }) = plan.next(&router, &avoid) else {
                panic!("{item:?}: the way is known");
            };
            assert_eq!(destination(&router, &avoid, item.key()), Some(to), "{item:?}");
            assert_eq!(op(&item), Some(sent), "{item:?}");
        }
    }
}

#[test]
fn a_range_and_a_hole_are_left_to_a_plan() {
    assert_eq!(op(&Item::DeleteRange(KeyRange::new("a", "b"))), None);
    assert_eq!(destination(&Router::default(), &|_| false, b"a"), None);
}

#[test]
fn every_answer_means_what_it_means_to_a_plan() {
    let router = router();
    for (item, idempotency) in items() {
        for answer in answers() {
            let mut plan = Plan::new(vec![item.clone()], attempts(idempotency));
            let Some(Next::Send { part, .. }) = plan.next(&router, &|_| false) else {
                panic!("{item:?}: the way is known");
            };
            let by_plan = plan.answered(part, answer.clone()).map(|()| plan.into_outcome());
            assert_eq!(outcome(&item, answer.clone()), by_plan, "{item:?} {answer:?}");
        }
    }
}

#[test]
fn a_failed_first_attempt_goes_on_as_if_a_plan_had_made_it() {
    let failures = [
        Failure::ConnectFailed { reason: "refused".into() },
        Failure::ConnectionLost { reason: "reset".into() },
        Failure::Timeout,
        Failure::InvalidResponse { what: "empty".into() },
        RegionError::ServerBusy { reason: "full".into(), retry_after_ms: 7 }.into(),
        RegionError::NotLeader {
            region_id: RegionId(1),
            leader: Some(Member::voter(PeerId(13), StoreId(3))),
        }
        .into(),
    ];
    for (item, idempotency) in items() {
        for failure in &failures {
            let (mut router, mut twin) = (router(), router());
            let to = destination(&router, &|_| false, item.key()).expect("the way is known");
            let (mut begun, part) = Plan::begun(item.clone(), attempts(idempotency), to.sent);
            assert_eq!(begun.sent(part), Some(to.sent));
            let mut whole = Plan::new(vec![item.clone()], attempts(idempotency));
            let Some(Next::Send { part: same, .. }) = whole.next(&twin, &|_| false) else {
                panic!("{item:?}: the way is known");
            };
            assert_eq!(part, same);
            let action = fail(&mut begun, &mut router, part, failure);
            assert_eq!(action, fail(&mut whole, &mut twin, same, failure), "{item:?} {failure:?}");
            assert_eq!(begun.ending(action), whole.ending(action), "{item:?} {failure:?}");
            begun.ready(part);
            whole.ready(same);
            let next = begun.next(&router, &|_| false);
            assert_eq!(next, whole.next(&twin, &|_| false), "{item:?} {failure:?}");
            assert!(next.is_some());
        }
    }
}

#[test]
fn a_lost_write_that_may_not_be_repeated_stays_undetermined() {
    let mut router = router();
    let item = Item::Put("a".into(), "v".into());
    let to = destination(&router, &|_| false, item.key()).expect("the way is known");
    let (mut plan, part) = Plan::begun(item, attempts(Idempotency::NotIdempotent), to.sent);
    let action = fail(&mut plan, &mut router, part, &Failure::Timeout);
    assert_eq!(action, Action::Undetermined);
    assert_eq!(plan.ending(action), Ending::Undetermined);
}

fn fail(
    plan: &mut Plan,
    router: &mut Router,
    part: crate::core::plan::PartId,
    failure: &Failure,
) -> Action {
    let (budget, dice) = (&mut Budget::new(Millis(0)), &mut Dice::new(1));
    plan.failed(part, failure, &mut RetryContext { now: Millis(0), router, budget, dice })
}
