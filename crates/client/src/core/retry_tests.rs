//! The retry table, row by row.

use flotilla_types::{Member, PeerId, RegionId, StoreId};

use super::*;

const DEADLINE: Millis = Millis(10_000);

fn not_leader(leader: Option<u64>) -> Failure {
    let leader = leader.map(|store| Member::voter(PeerId(store * 10), StoreId(store)));
    Failure::from(RegionError::NotLeader { region_id: RegionId(1), leader })
}

fn lost() -> Failure {
    Failure::ConnectionLost { reason: "reset".into() }
}

fn busy(retry_after_ms: u64) -> Failure {
    Failure::from(RegionError::ServerBusy { reason: "inbox".into(), retry_after_ms })
}

fn limit() -> Failure {
    Failure::from(RegionError::LimitExceeded { limit: "key bytes".into(), max: 1, actual: 2 })
}

fn unsupported() -> Failure {
    Failure::from(RegionError::Unsupported { what: "this kind of request".into() })
}

fn store_deadline() -> Failure {
    Failure::from(RegionError::DeadlineExceeded { region_id: RegionId(1) })
}

fn undetermined() -> Failure {
    Failure::from(RegionError::Undetermined { region_id: RegionId(1) })
}

fn no_effect_failures() -> Vec<Failure> {
    vec![
        not_leader(Some(2)),
        not_leader(None),
        Failure::from(RegionError::EpochNotMatch { current: vec![] }),
        Failure::from(RegionError::KeyNotInRegion { key: "k".into(), region: Box::default() }),
        Failure::from(RegionError::RegionNotFound { region_id: RegionId(1) }),
        Failure::from(RegionError::WrongDestination { cluster_id: 1, store_id: StoreId(1) }),
        busy(0),
        store_deadline(),
        Failure::ConnectFailed { reason: "refused".into() },
        Failure::NoRoute { reason: "hole".into() },
    ]
}

struct World {
    budget: Budget,
    dice: Dice,
    attempts: Attempts,
    has_no_other: bool,
}

fn world(idempotency: Idempotency) -> World {
    World {
        budget: Budget::new(Millis(0), 1_000),
        dice: Dice::new(1),
        attempts: Attempts::new(idempotency, DEADLINE),
        has_no_other: false,
    }
}

impl World {
    fn fail(&mut self, now: u64, failure: &Failure, learned: bool) -> Action {
        let has_no_other = self.has_no_other;
        let failed = Failed { now: Millis(now), failure, learned, has_no_other };
        self.attempts.failed(failed, &mut self.budget, &mut self.dice)
    }
}

#[test]
fn a_refusal_without_effect_is_retried_for_every_kind_of_call() {
    for idempotency in [Idempotency::ReadOnly, Idempotency::Idempotent, Idempotency::NotIdempotent]
    {
        for failure in no_effect_failures() {
            let action = world(idempotency).fail(0, &failure, false);
            assert!(
                matches!(action, Action::Retry { after_ms: 0..=BACKOFF_BASE_MS, .. }),
                "{idempotency:?} {failure:?} -> {action:?}"
            );
        }
    }
}

#[test]
fn an_unknown_outcome_is_repeated_only_where_that_is_harmless_or_allowed() {
    for failure in [lost(), Failure::Timeout, undetermined()] {
        for idempotency in [Idempotency::ReadOnly, Idempotency::Idempotent] {
            let action = world(idempotency).fail(0, &failure, false);
            assert!(
                matches!(action, Action::Retry { .. }),
                "{idempotency:?} {failure:?} -> {action:?}"
            );
        }
        let action = world(Idempotency::NotIdempotent).fail(0, &failure, false);
        assert_eq!(action, Action::Undetermined, "{failure:?}");
    }
}

#[test]
fn a_hint_is_followed_at_once_until_hints_lead_in_circles() {
    let mut world = world(Idempotency::NotIdempotent);
    for _ in 0..FREE_RETRIES_MAX {
        let action = world.fail(0, &not_leader(Some(2)), true);
        assert_eq!(action, Action::Retry { after_ms: 0, ask_pd: false });
    }
    let waits: Vec<Action> = (0..12).map(|_| world.fail(0, &not_leader(Some(2)), true)).collect();
    assert!(waits.iter().any(|a| matches!(a, Action::Retry { after_ms: 1.., .. })), "{waits:?}");
}

#[test]
fn free_retries_take_no_token() {
    let mut world = world(Idempotency::ReadOnly);
    let full = world.budget.clone();
    world.fail(0, &not_leader(Some(2)), true);
    assert_eq!(world.budget, full);
    world.fail(0, &not_leader(None), false);
    assert_ne!(world.budget, full);
}

#[test]
fn pd_is_asked_at_once_where_there_is_no_other_store_to_ask() {
    let mut world = World { has_no_other: true, ..world(Idempotency::ReadOnly) };
    let action = world.fail(0, &Failure::Timeout, false);
    assert!(matches!(action, Action::Retry { ask_pd: true, .. }), "{action:?}");
}

#[test]
fn pd_is_asked_when_no_store_knows() {
    let asks = |failure: Failure| -> Vec<bool> {
        let mut world = world(Idempotency::ReadOnly);
        (0..6)
            .map(|_| matches!(world.fail(0, &failure, false), Action::Retry { ask_pd: true, .. }))
            .collect()
    };
    let sometimes = [false, false, true, false, false, true];
    assert_eq!(asks(not_leader(None)), sometimes);
    assert_eq!(asks(Failure::ConnectFailed { reason: "refused".into() }), sometimes);
    assert_eq!(asks(lost()), sometimes);
    assert_eq!(asks(Failure::from(RegionError::EpochNotMatch { current: vec![] })), sometimes);
    assert_eq!(asks(busy(1)), [false; 6]);
    assert_eq!(asks(store_deadline()), [false; 6]);
    let gone = Failure::from(RegionError::RegionNotFound { region_id: RegionId(1) });
    assert_eq!(asks(gone), [true; 6]);
    assert_eq!(asks(Failure::NoRoute { reason: "hole".into() }), [true; 6]);
}

#[test]
fn a_busy_store_is_left_alone_for_as_long_as_it_said() {
    let action = world(Idempotency::NotIdempotent).fail(0, &busy(700), false);
    assert!(matches!(action, Action::Retry { after_ms: 700..=702, ask_pd: false }), "{action:?}");
    let action = world(Idempotency::NotIdempotent).fail(0, &busy(u64::MAX), false);
    assert_eq!(action, Action::DeadlineExceeded);
}

#[test]
fn back_off_doubles_up_to_its_cap() {
    let mut world = world(Idempotency::ReadOnly);
    let mut bound = BACKOFF_BASE_MS;
    let mut longest = 0;
    for _ in 0..100 {
        let Action::Retry { after_ms, .. } = world.fail(0, &not_leader(None), false) else {
            panic!("ended early")
        };
        assert!(after_ms <= bound, "{after_ms} > {bound}");
        bound = (bound * 2).min(BACKOFF_MS_MAX);
        longest = longest.max(after_ms);
    }
    assert!(longest > BACKOFF_MS_MAX / 2, "{longest}");
}

#[test]
fn an_empty_budget_means_the_slow_pace_and_not_failure() {
    let mut world = world(Idempotency::ReadOnly);
    while world.budget.take(Millis(0)) {}
    for _ in 0..10 {
        let action = world.fail(0, &not_leader(None), false);
        let Action::Retry { after_ms, .. } = action else { panic!("ended early: {action:?}") };
        assert!((BACKOFF_EMPTY_BUDGET_MS..=BACKOFF_MS_MAX).contains(&after_ms), "{after_ms}");
    }
}

#[test]
fn what_can_never_succeed_fails_at_once() {
    for idempotency in [Idempotency::ReadOnly, Idempotency::Idempotent, Idempotency::NotIdempotent]
    {
        assert_eq!(world(idempotency).fail(0, &limit(), false), Action::Fail);
        assert_eq!(world(idempotency).fail(0, &unsupported(), false), Action::Fail);
    }
    let invalid = Failure::InvalidResponse { what: "no result".into() };
    assert_eq!(world(Idempotency::ReadOnly).fail(0, &invalid, false), Action::Fail);
    assert_eq!(world(Idempotency::Idempotent).fail(0, &invalid, false), Action::Undetermined);
    assert_eq!(world(Idempotency::NotIdempotent).fail(0, &invalid, false), Action::Undetermined);
}

#[test]
fn at_the_deadline_the_call_ends_definite_if_nothing_had_an_effect() {
    for failure in no_effect_failures() {
        let action = world(Idempotency::NotIdempotent).fail(DEADLINE.0, &failure, true);
        assert_eq!(action, Action::DeadlineExceeded, "{failure:?}");
    }
    assert_eq!(
        world(Idempotency::ReadOnly).fail(DEADLINE.0, &lost(), false),
        Action::DeadlineExceeded
    );
}

#[test]
fn after_an_unknown_outcome_no_ending_is_definite() {
    let mut at_deadline = world(Idempotency::Idempotent);
    at_deadline.fail(0, &lost(), false);
    let action = at_deadline.fail(DEADLINE.0, &not_leader(None), false);
    assert_eq!(action, Action::Undetermined);

    let mut refused = world(Idempotency::Idempotent);
    refused.fail(0, &lost(), false);
    assert_eq!(refused.fail(1, &limit(), false), Action::Undetermined);
}

#[test]
fn progress_forgets_the_failures_before_it() {
    let mut world = world(Idempotency::ReadOnly);
    for _ in 0..20 {
        world.fail(0, &lost(), false);
    }
    world.attempts.progressed(Millis(20_000));
    let action = world.fail(DEADLINE.0, &lost(), false);
    assert!(matches!(action, Action::Retry { after_ms: 0..=BACKOFF_BASE_MS, .. }), "{action:?}");
}
