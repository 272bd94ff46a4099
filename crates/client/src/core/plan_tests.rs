//! The plan: cutting at region bounds, order of results, and honest endings.

use flotilla_types::dice::Dice;
use flotilla_types::{Epoch, Member, Millis, PeerId, Region, RegionError};

use super::*;
use crate::core::budget::Budget;
use crate::core::limits::PARTS_OUT_MAX;
use crate::core::router::{Route, RoutesPage};

fn region(id: u64, start: &'static str, end: &'static str, version: u64) -> Region {
    let peers = vec![Member::voter(PeerId(id * 10), StoreId(id))];
    let epoch = Epoch { conf_ver: 1, version };
    Region { id: RegionId(id), range: KeyRange::new(start, end), epoch, members: peers }
}

fn router(regions: Vec<Region>) -> Router {
    let route = |region| Route {
        region,
        leader: None,
        approximate_bytes: 0,
        approximate_keys: 0,
        load: Default::default(),
    };
    let mut router = Router::default();
    let stores = (1..=9).map(|id| (StoreId(id), format!("host{id}:1"))).collect();
    router.absorb_routes(
        RoutesPage { routes: regions.into_iter().map(route).collect(), stores },
        None,
    );
    router
}

fn attempts(idempotency: Idempotency) -> Attempts {
    Attempts::new(idempotency, Millis(1_000))
}

fn gets(keys: &[&'static str]) -> Plan {
    let items = keys.iter().map(|key| Item::Get(Bytes::from(*key))).collect();
    Plan::new(items, attempts(Idempotency::ReadOnly), PARTS_OUT_MAX)
}

fn puts(keys: &[&'static str]) -> Plan {
    let put = |key: &&'static str| Mutation::Put { key: (*key).into(), value: "v".into() };
    let items = keys.iter().map(put).map(Item::Mutate).collect();
    Plan::new(items, attempts(Idempotency::NotIdempotent), PARTS_OUT_MAX)
}

fn sends(plan: &mut Plan, router: &Router) -> Vec<(PartId, u64, Op)> {
    let next = |next| match next {
        Next::Send { part, to, op } => (part, to.sent.region.0, op),
        other => panic!("expected a send: {other:?}"),
    };
    std::iter::from_fn(|| plan.next(router, &|_| false)).map(next).collect()
}

fn values(values: &[&'static str]) -> Answer {
    Answer::Get(values.iter().map(|value| Some(Bytes::from(*value))).collect())
}

fn fail(plan: &mut Plan, router: &mut Router, id: PartId, failure: Failure) -> Action {
    let (budget, dice) = (&mut Budget::new(Millis(0), 1_000), &mut Dice::new(1));
    plan.failed(id, &failure, &mut RetryContext { now: Millis(0), router, budget, dice })
}

fn done() -> Answer {
    Answer::Written
}

#[test]
fn results_come_in_the_order_asked_whatever_the_order_of_answers() {
    let router = router(vec![region(1, "", "m", 1), region(2, "m", "", 1)]);
    let mut plan = gets(&["z", "a", "n", "b"]);
    let sends = sends(&mut plan, &router);
    assert_eq!(sends.iter().map(|(_, region, _)| *region).collect::<Vec<_>>(), [2, 1]);
    plan.answered(sends[1].0, values(&["A", "B"])).expect("fits");
    assert!(!plan.is_done());
    plan.answered(sends[0].0, values(&["Z", "N"])).expect("fits");
    assert!(plan.is_done());
    let expected = ["Z", "A", "N", "B"].map(|value| Some(Bytes::from(value)));
    assert_eq!(plan.into_values(), expected);
}

#[test]
fn an_empty_call_is_done_at_once() {
    assert!(gets(&[]).is_done());
}

#[test]
fn a_part_is_cut_again_when_its_region_was_split() {
    let mut router = router(vec![region(1, "", "", 1)]);
    let mut plan = gets(&["a", "z"]);
    let first = sends(&mut plan, &router);
    assert_eq!(first.len(), 1);
    let current = vec![region(1, "", "m", 2), region(2, "m", "", 2)];
    let refusal = RegionError::EpochNotMatch { current };
    let action = fail(&mut plan, &mut router, first[0].0, refusal.into());
    assert_eq!(action, Action::Retry { after_ms: 0, ask_pd: false });
    plan.ready(first[0].0);
    let again = sends(&mut plan, &router);
    assert_eq!(again.iter().map(|(_, region, _)| *region).collect::<Vec<_>>(), [1, 2]);
    plan.answered(again[1].0, values(&["Z"])).expect("fits");
    plan.answered(again[0].0, values(&["A"])).expect("fits");
    assert_eq!(plan.into_values(), [Some(Bytes::from("A")), Some(Bytes::from("Z"))]);
}

#[test]
fn a_range_is_cut_at_region_bounds_up_to_a_hole() {
    let router = router(vec![region(1, "", "f", 1), region(2, "f", "m", 1)]);
    let range = KeyRange::new("c", "x");
    let mut plan = Plan::new(
        vec![Item::Mutate(Mutation::DeleteRange(range))],
        attempts(Idempotency::NotIdempotent),
        PARTS_OUT_MAX,
    );
    let mut spans = Vec::new();
    let mut missed = None;
    while let Some(next) = plan.next(&router, &|_| false) {
        match next {
            Next::Send { op: Op::Write(WriteOp::Mutate(mutations)), .. } => {
                let Mutation::DeleteRange(span) = &mutations[0] else {
                    panic!("expected a delete_range")
                };
                spans.push(span.clone());
            }
            Next::LookUp { miss, .. } => missed = Some(miss),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(spans, [KeyRange::new("c", "f"), KeyRange::new("f", "m")]);
    assert_eq!(missed, Some(Miss::Region("m".into())));
}

#[test]
fn a_lookup_in_vain_is_not_repeated_without_a_wait() {
    let mut router = Router::default();
    let mut plan = gets(&["a"]);
    let Some(Next::LookUp { part, miss }) = plan.next(&router, &|_| false) else {
        panic!("expected a lookup")
    };
    assert_eq!(miss, Miss::Region("a".into()));
    plan.ready(part);
    let Some(Next::Stuck { part, failure }) = plan.next(&router, &|_| false) else {
        panic!("expected to be stuck")
    };
    let action = fail(&mut plan, &mut router, part, failure);
    assert!(matches!(action, Action::Retry { ask_pd: true, .. }));
    plan.ready(part);
    assert!(matches!(plan.next(&router, &|_| false), Some(Next::LookUp { .. })));
}

#[test]
fn no_more_parts_are_out_than_the_bound() {
    let keys: Vec<&'static str> =
        (0..200).map(|n| &*Box::leak(format!("{n:03}").into_boxed_str())).collect();
    let mut bounds: Vec<&'static str> = vec![""];
    bounds.extend(&keys[1..]);
    bounds.push("");
    let regions: Vec<Region> = (1..)
        .zip(bounds.windows(2))
        .map(|(id, b)| {
            let mut region = region(id, b[0], b[1], 1);
            region.members[0].store_id = StoreId(1);
            region
        })
        .collect();
    let router = router(regions);
    let mut plan = puts(&keys);
    let first = sends(&mut plan, &router);
    assert_eq!(first.len(), PARTS_OUT_MAX);
    plan.answered(first[0].0, done()).expect("fits");
    assert_eq!(sends(&mut plan, &router).len(), 1);
}

#[test]
fn a_definite_failure_stays_definite_only_while_nothing_took_effect() {
    let router = router(vec![region(1, "", "m", 1), region(2, "m", "", 1)]);
    let mut alone = puts(&["a"]);
    sends(&mut alone, &router);
    // The driver asks after the failed part was judged; here it still counts as under way.
    assert_eq!(alone.ending(Action::Fail), Ending::Undetermined);

    let mut plan = puts(&["a", "z"]);
    let sent = sends(&mut plan, &router);
    let mut router = router;
    let busy = RegionError::ServerBusy { reason: "inbox".into(), retry_after_ms: 0 };
    fail(&mut plan, &mut router, sent[0].0, busy.clone().into());
    assert_eq!(plan.ending(Action::DeadlineExceeded), Ending::Undetermined, "the other is out");
    fail(&mut plan, &mut router, sent[1].0, busy.into());
    assert_eq!(plan.ending(Action::DeadlineExceeded), Ending::DeadlineExceeded);

    let mut plan = puts(&["a", "z"]);
    let sent = sends(&mut plan, &router);
    plan.answered(sent[0].0, done()).expect("fits");
    fail(&mut plan, &mut router, sent[1].0, Failure::ConnectFailed { reason: "refused".into() });
    assert_eq!(plan.ending(Action::DeadlineExceeded), Ending::Undetermined, "one part is done");
}

#[test]
fn a_failed_read_is_never_undetermined() {
    let router = router(vec![region(1, "", "m", 1), region(2, "m", "", 1)]);
    let mut plan = gets(&["a", "z"]);
    let sent = sends(&mut plan, &router);
    plan.answered(sent[0].0, values(&["A"])).expect("fits");
    assert_eq!(plan.ending(Action::DeadlineExceeded), Ending::DeadlineExceeded);
}

#[test]
fn an_answer_of_the_wrong_kind_is_a_failure() {
    let router = router(vec![region(1, "", "", 1)]);
    for wrong in [values(&["A", "B"]), done()] {
        let mut plan = gets(&["a"]);
        let sent = sends(&mut plan, &router);
        let failure = plan.answered(sent[0].0, wrong).expect_err("does not fit");
        assert!(matches!(failure, Failure::InvalidResponse { .. }));
    }
    let mut plan = puts(&["a"]);
    let sent = sends(&mut plan, &router);
    let cas = Answer::Swapped { swapped: true, previous: None };
    assert!(plan.answered(sent[0].0, cas).is_err());
}
