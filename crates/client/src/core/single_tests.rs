//! A call for one item asks and understands what a plan of that item does, and fails as it would.

use bytes::Bytes;
use flotilla_types::dice::Dice;
use flotilla_types::{
    CompareAndSwap, Epoch, KeyRange, Member, Millis, Mutation, Op, PeerId, Region, RegionError,
    RegionId, WriteOp,
};

use super::*;
use crate::core::budget::Budget;
use crate::core::plan::Plan;
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
        load: Default::default(),
    };
    let routes = vec![route(region(1, "", "m"), 1), route(region(2, "m", ""), 2)];
    let stores = (1..=3).map(|id| (StoreId(id), format!("host{id}:1"))).collect();
    let mut router = Router::default();
    router.absorb_routes(RoutesPage { routes, stores }, None);
    router
}

fn put(key: &'static str) -> Item {
    Item::Mutate(Mutation::Put { key: key.into(), value: "v".into() })
}

fn items() -> Vec<(Item, Idempotency)> {
    vec![
        (Item::Get("x".into()), Idempotency::ReadOnly),
        (put("a"), Idempotency::NotIdempotent),
        (put("z"), Idempotency::Idempotent),
        (Item::Mutate(Mutation::Delete { key: "m".into() }), Idempotency::NotIdempotent),
    ]
}

fn swap() -> Item {
    let swap = CompareAndSwap { key: "k".into(), expected: Some("a".into()), new: None };
    Item::Whole(Op::Write(WriteOp::CompareAndSwap(swap)))
}

fn attempts(idempotency: Idempotency) -> Attempts {
    Attempts::new(idempotency, Millis(1_000))
}

fn answers() -> Vec<Answer> {
    let value = |value: &'static str| Some(Bytes::from(value));
    vec![
        Answer::Get(vec![value("v")]),
        Answer::Get(vec![None]),
        Answer::Get(vec![]),
        Answer::Get(vec![value("v"), value("w")]),
        Answer::Scan { pairs: vec![], is_done: true, walked_to: None },
        Answer::Written,
        Answer::Swapped { swapped: true, previous: value("a") },
    ]
}

/// The two ways in which a call for one item could be made.
fn both(item: &Item, idempotency: Idempotency) -> (Single, Plan) {
    let plan = Plan::new(vec![item.clone()], attempts(idempotency), 64);
    (Single::new(item.clone(), attempts(idempotency)), plan)
}

#[test]
fn it_asks_what_a_plan_of_the_item_asks() {
    for router in [router(), Router::default()] {
        for avoided in 0..=3 {
            let avoid = |store: StoreId| store == StoreId(avoided);
            for (item, idempotency) in items() {
                let (mut single, mut plan) = both(&item, idempotency);
                let next = single.next(&router, &avoid);
                assert_eq!(next, plan.next(&router, &avoid), "{item:?}");
                assert!(next.is_some() && single.next(&router, &avoid).is_none(), "{item:?}");
            }
        }
    }
}

#[test]
fn an_answer_means_what_it_means_to_a_plan() {
    let router = router();
    for (item, idempotency) in items() {
        for answer in answers() {
            let (mut single, mut plan) = both(&item, idempotency);
            single.next(&router, &|_| false);
            plan.next(&router, &|_| false);
            let by_plan = plan.answered(PART, answer.clone());
            assert_eq!(single.answered(answer.clone()), by_plan, "{item:?} {answer:?}");
            assert_eq!(single.is_done(), plan.is_done(), "{item:?} {answer:?}");
            if single.is_done() && idempotency == Idempotency::ReadOnly {
                let read = Some(Answer::Get(plan.into_values()));
                assert_eq!(single.into_answer(), read, "{item:?} {answer:?}");
            }
        }
    }
}

#[test]
fn it_fails_and_goes_on_as_a_plan_does() {
    let failures = [
        Failure::ConnectFailed { reason: "refused".into() },
        Failure::ConnectionLost { reason: "reset".into() },
        Failure::Timeout,
        Failure::wrong_answer(),
        RegionError::ServerBusy { reason: "full".into(), retry_after_ms: 7 }.into(),
        RegionError::NotLeader {
            region_id: RegionId(1),
            leader: Some(Member::voter(PeerId(13), StoreId(3))),
        }
        .into(),
    ];
    for (item, idempotency) in items() {
        for failure in &failures {
            let (mut one, mut other) = (router(), router());
            let (mut single, mut plan) = both(&item, idempotency);
            single.next(&one, &|_| false);
            plan.next(&other, &|_| false);
            let action = judged(&mut one, |retry| single.failed(failure, retry));
            let by_plan = judged(&mut other, |retry| plan.failed(PART, failure, retry));
            assert_eq!(action, by_plan, "{item:?} {failure:?}");
            assert_eq!(single.ending(action), plan.ending(action), "{item:?} {failure:?}");
            single.ready();
            plan.ready(PART);
            let (next, by_plan) = (single.next(&one, &|_| false), plan.next(&other, &|_| false));
            let (Some(Next::Send { to, op, .. }), Some(Next::Send { to: its, op: ops, .. })) =
                (next, by_plan)
            else {
                panic!("{item:?} {failure:?}: the way is known")
            };
            assert_eq!((to, op), (its, ops), "{item:?} {failure:?}");
        }
    }
}

#[test]
fn a_whole_request_is_sent_as_it_is_and_takes_its_own_kind_of_answer() {
    let router = router();
    for answer in answers() {
        let mut single = Single::new(swap(), attempts(Idempotency::NotIdempotent));
        let Some(Next::Send { op, to, .. }) = single.next(&router, &|_| false) else {
            panic!("the way is known")
        };
        assert_eq!((to.sent.region, Item::Whole(op)), (RegionId(1), swap()));
        let fits = matches!(answer, Answer::Swapped { .. });
        assert_eq!(single.answered(answer.clone()).is_ok(), fits, "{answer:?}");
        assert_eq!(single.into_answer(), fits.then_some(answer));
    }
}

#[test]
fn a_lost_write_that_may_not_be_repeated_stays_undetermined() {
    for item in [put("a"), swap()] {
        let mut router = router();
        let mut single = Single::new(item, attempts(Idempotency::NotIdempotent));
        single.next(&router, &|_| false);
        let action = judged(&mut router, |retry| single.failed(&Failure::Timeout, retry));
        assert_eq!(action, Action::Undetermined);
        assert_eq!(single.ending(action), Ending::Undetermined);
    }
}

#[test]
#[should_panic(expected = "an answer without an attempt")]
fn an_attempt_is_answered_once() {
    let mut single = Single::new(put("a"), attempts(Idempotency::NotIdempotent));
    single.next(&router(), &|_| false);
    single.answered(Answer::Written).expect("fits");
    let _ = single.answered(Answer::Written);
}

fn judged(router: &mut Router, judge: impl FnOnce(&mut RetryContext<'_>) -> Action) -> Action {
    let (budget, dice) = (&mut Budget::new(Millis(0), 1_000), &mut Dice::new(1));
    judge(&mut RetryContext { now: Millis(0), router, budget, dice })
}
