//! The loop around a call: steps, events, endings, and the shared state that it touches.

use bytes::Bytes;
use flotilla_types::{
    CompareAndSwap, Epoch, KeyRange, Member, Mutation, PeerId, Region, RegionError, RegionId,
    WriteOp,
};

use super::*;
use crate::core::context::testing::TestContext;
use crate::core::router::{Route, RoutesPage};

const DEADLINE: Millis = Millis(1_000);

fn context(regions: &[(u64, &'static str, &'static str)]) -> TestContext {
    let route = |(id, start, end): &(u64, &'static str, &'static str)| Route {
        region: Region {
            id: RegionId(*id),
            range: KeyRange::new(*start, *end),
            epoch: Epoch::FIRST,
            members: (1..=3).map(|store| Member::voter(PeerId(store), StoreId(store))).collect(),
        },
        leader: None,
        approximate_bytes: 0,
        approximate_keys: 0,
        load: Default::default(),
    };
    let stores = (1..=3).map(|id| (StoreId(id), format!("host{id}:1"))).collect();
    let mut router = Router::default();
    let page = RoutesPage { routes: regions.iter().map(route).collect(), stores };
    router.absorb_routes(page, None);
    TestContext::new(router)
}

fn whole_space() -> TestContext {
    context(&[(1, "", "")])
}

fn terms(no_one_else_writes: bool) -> Terms {
    Terms { deadline: DEADLINE, no_one_else_writes, parts_out_max: 64 }
}

fn get(key: &'static str) -> Item {
    Item::Get(key.into())
}

fn put(key: &'static str) -> Item {
    Item::Mutate(Mutation::Put { key: key.into(), value: "v".into() })
}

fn swap() -> Item {
    let swap = CompareAndSwap { key: "k".into(), expected: None, new: Some("v".into()) };
    Item::Whole(Op::Write(WriteOp::CompareAndSwap(swap)))
}

/// The part and the store of the attempt that the call makes next.
fn sent(call: &mut Call, context: &mut TestContext) -> (PartId, StoreId) {
    match call.next(context) {
        Ok(Some(Step::Send { part, to, .. })) => (part, to.sent.store),
        other => panic!("expected an attempt: {other:?}"),
    }
}

fn fail(
    call: &mut Call,
    context: &mut TestContext,
    part: PartId,
    failure: Failure,
) -> Result<Option<Step>> {
    call.on(context, Event::Answered(part, Err(failure)))
}

#[test]
fn a_read_is_sent_answered_and_counted_as_a_success() {
    let mut context = whole_space();
    let mut call = Call::one("get", get("k"), terms(false));
    let (part, store) = sent(&mut call, &mut context);
    assert!(call.next(&mut context).expect("goes on").is_none(), "one attempt at a time");
    let answer = Answer::Get(vec![Some(Bytes::from("v"))]);
    let step = call.on(&mut context, Event::Answered(part, Ok(answer.clone())));
    assert!(step.expect("goes on").is_none() && call.is_done());
    assert_eq!(context.successes.len(), 1);
    assert_eq!(context.successes[0].store, store);
    assert_eq!(call.into_answer(), answer);
}

#[test]
fn many_items_are_sent_at_the_same_time_and_end_as_one_answer() {
    let mut context = context(&[(1, "", "m"), (2, "m", "")]);
    let mut call = Call::many("batch_get", vec![get("z"), get("a")], terms(false));
    let (first, _) = sent(&mut call, &mut context);
    let (second, _) = sent(&mut call, &mut context);
    for (part, value) in [(second, "A"), (first, "Z")] {
        let answer = Answer::Get(vec![Some(Bytes::from(value))]);
        call.on(&mut context, Event::Answered(part, Ok(answer))).expect("goes on");
    }
    let values = ["Z", "A"].map(|value| Some(Bytes::from(value))).to_vec();
    assert_eq!(call.into_answer(), Answer::Get(values));
}

#[test]
fn a_call_without_items_is_done_at_once() {
    let mut context = whole_space();
    let mut call = Call::many("batch_get", vec![], terms(false));
    assert!(call.is_done() && call.next(&mut context).expect("goes on").is_none());
    assert_eq!(call.into_answer(), Answer::Get(vec![]));
}

#[test]
fn a_hint_is_followed_at_once_and_a_refusal_without_one_after_a_wait() {
    let mut context = whole_space();
    let mut call = Call::one("put", put("k"), terms(false));
    let (part, _) = sent(&mut call, &mut context);
    let leader = Some(Member::voter(PeerId(3), StoreId(3)));
    let refusal = RegionError::NotLeader { region_id: RegionId(1), leader };
    let step = fail(&mut call, &mut context, part, refusal.into()).expect("goes on");
    assert_eq!(step, None);
    let (part, store) = sent(&mut call, &mut context);
    assert_eq!(store, StoreId(3));
    let busy = RegionError::ServerBusy { reason: "inbox".into(), retry_after_ms: 50 };
    let step = fail(&mut call, &mut context, part, busy.into()).expect("goes on");
    assert!(matches!(step, Some(Step::Wait { until: Millis(50..=52), .. })), "{step:?}");
    assert_eq!(context.busy, 1);
    assert!(call.next(&mut context).expect("goes on").is_none(), "it waits");
    call.on(&mut context, Event::Waited(part)).expect("goes on");
    sent(&mut call, &mut context);
}

#[test]
fn a_region_that_led_astray_is_refreshed() {
    let mut context = whole_space();
    let mut call = Call::one("get", get("k"), terms(false));
    let (part, _) = sent(&mut call, &mut context);
    let gone = RegionError::RegionNotFound { region_id: RegionId(1) };
    fail(&mut call, &mut context, part, gone.into()).expect("goes on");
    assert_eq!(context.refreshes, [RegionId(1)]);
}

#[test]
fn a_lost_write_ends_undetermined_unless_it_may_be_repeated() {
    let lost = || Failure::ConnectionLost { reason: "reset".into() };
    for (item, promise) in [(put("k"), false), (swap(), false), (swap(), true)] {
        let mut context = whole_space();
        let mut call = Call::one("write", item, terms(promise));
        let (part, _) = sent(&mut call, &mut context);
        let error = fail(&mut call, &mut context, part, lost()).expect_err("it ends");
        assert!(error.is_undetermined(), "{error}");
    }
    let mut context = whole_space();
    let mut call = Call::one("put", put("k"), terms(true));
    let (part, _) = sent(&mut call, &mut context);
    fail(&mut call, &mut context, part, lost()).expect("goes on");
}

#[test]
fn no_attempt_begins_at_the_deadline_and_the_last_failure_is_told() {
    let mut context = whole_space();
    let mut call = Call::one("put", put("k"), terms(false));
    let (part, _) = sent(&mut call, &mut context);
    let leader = Some(Member::voter(PeerId(3), StoreId(3)));
    let refusal = RegionError::NotLeader { region_id: RegionId(1), leader };
    fail(&mut call, &mut context, part, refusal.into()).expect("goes on");
    context.now = DEADLINE;
    let error = call.next(&mut context).expect_err("it ends");
    let Error::DeadlineExceeded { last, .. } = error else { panic!("{error:?}") };
    assert!(last.contains("not led"), "{last}");
    let mut late = Call::one("get", get("k"), terms(false));
    assert!(matches!(late.next(&mut context), Err(Error::DeadlineExceeded { .. })));
}

#[test]
fn a_write_out_of_time_beside_one_under_way_is_undetermined() {
    let mut context = context(&[(1, "", "m"), (2, "m", "")]);
    let mut call = Call::many("batch_put", vec![put("a"), put("z")], terms(false));
    let (first, _) = sent(&mut call, &mut context);
    sent(&mut call, &mut context);
    let busy = RegionError::ServerBusy { reason: "inbox".into(), retry_after_ms: 1 };
    fail(&mut call, &mut context, first, busy.into()).expect("goes on");
    call.on(&mut context, Event::Waited(first)).expect("goes on");
    context.now = DEADLINE;
    assert!(call.next(&mut context).expect_err("it ends").is_undetermined());
}

#[test]
fn a_hole_is_looked_up_once_and_then_waited_for() {
    let mut context = TestContext::new(Router::default());
    let mut call = Call::one("get", get("k"), terms(false));
    let Ok(Some(Step::LookUp { part, miss, deadline })) = call.next(&mut context) else {
        panic!("expected a lookup")
    };
    assert_eq!((miss, deadline), (Miss::Region("k".into()), DEADLINE));
    call.on(&mut context, Event::LookedUp(part, Ok(()))).expect("goes on");
    // PD has answered and the hole is still there; the wait is 0 to 2 ms.
    let step = call.next(&mut context).expect("goes on");
    assert!(matches!(step, Some(Step::Wait { .. } | Step::LookUp { .. })), "{step:?}");
}

#[test]
fn a_lookup_that_can_never_succeed_ends_the_call_with_its_error() {
    let mut context = TestContext::new(Router::default());
    let mut call = Call::one("get", get("k"), terms(false));
    let Ok(Some(Step::LookUp { part, .. })) = call.next(&mut context) else {
        panic!("expected a lookup")
    };
    let refused = Error::Refused { reason: "another cluster".into() };
    let event = Event::LookedUp(part, Err(refused.clone()));
    assert_eq!(call.on(&mut context, event), Err(refused));
}

#[test]
#[should_panic(expected = "no attempt under way")]
fn an_answer_that_comes_twice_is_refused() {
    let mut context = whole_space();
    let mut call = Call::one("put", put("k"), terms(false));
    let (part, _) = sent(&mut call, &mut context);
    call.on(&mut context, Event::Answered(part, Ok(Answer::Written))).expect("goes on");
    let _ = call.on(&mut context, Event::Answered(part, Ok(Answer::Written)));
}

#[test]
#[should_panic(expected = "parts wait")]
fn a_call_without_its_answer_is_no_success() {
    Call::one("put", put("k"), terms(false)).into_answer();
}
