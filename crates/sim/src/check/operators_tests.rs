//! Orders that must never be, and their neighbours that may.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_engine::{MemLog, StateStore};
use flotilla_pd::core::limits::PdLimits;
use flotilla_pd::core::{CoreConfig, PdTiming};
use flotilla_types::heartbeat::HeartbeatReply;
use flotilla_types::{Epoch, KeyRange};

use super::*;

const REGION: RegionId = RegionId(7);

/// A placement driver that knows no store: to it, every store is removed.
fn pd() -> Pd {
    let config = CoreConfig {
        id: 1,
        addr: "pd:1".into(),
        members: BTreeMap::new(),
        joins: None,
        seed: 1,
        replica_count: Some(3),
        down_after_ms: 60_000,
        timing: PdTiming::default(),
        limits: PdLimits::default(),
    };
    let store = Arc::new(StateStore::in_memory());
    Pd::open(config, Arc::new(MemLog::default()), store, Millis(0)).expect("opens")
}

fn region(voters: u64) -> Region {
    let voter = |n: u64| Member::voter(PeerId(10 + n), StoreId(n));
    Region {
        id: REGION,
        range: KeyRange::all(),
        epoch: Epoch { conf_ver: 3, version: 1 },
        members: (1..=voters).map(voter).collect(),
    }
}

fn heartbeat(from: u64, term: u64, region: &Region) -> StoreHeartbeat {
    let leader = region.member_on(StoreId(from)).copied();
    let report = RegionReport { region: region.clone(), leader, term, ..Default::default() };
    StoreHeartbeat { store_id: StoreId(from), reports: vec![report], ..Default::default() }
}

struct Case {
    pd: Pd,
    operators: Operators,
}

impl Case {
    fn new() -> Case {
        Case { pd: pd(), operators: Operators::default() }
    }

    fn put_out(&mut self, now: u64, outputs: &[Output]) -> Verdict {
        let sight =
            PdSight { pd: &self.pd, now: Millis(now), down_after_ms: 60_000, replica_count: 3 };
        self.operators.put_out(&sight, None, outputs)
    }

    /// The heartbeat is answered with these steps.
    fn told(&mut self, heartbeat: StoreHeartbeat, steps: &[Step]) -> Verdict {
        let epoch = Epoch { conf_ver: 3, version: 1 };
        let command = |step: &Step| RegionCommand { region_id: REGION, epoch, step: step.clone() };
        let reply =
            HeartbeatReply { commands: steps.iter().map(command).collect(), ..Default::default() };
        let id = RequestId(3);
        let outputs = [Output::Reply { id, reply: Ok(PdReply::Heartbeat(reply)) }];
        let sight =
            PdSight { pd: &self.pd, now: Millis(1_000), down_after_ms: 60_000, replica_count: 3 };
        self.operators.put_out(&sight, Some(&(id, heartbeat)), &outputs)
    }
}

fn started(id: u64, name: &str) -> Output {
    Output::Event(Event::OperatorStarted { id, region: REGION, name: name.into() })
}

fn ended(id: u64, outcome: &'static str) -> Output {
    Output::Event(Event::OperatorEnded { id, region: REGION, outcome })
}

fn invariant(verdict: Verdict) -> &'static str {
    verdict.err().map_or("", |violation| violation.invariant)
}

#[test]
fn a_second_operator_on_a_region_and_one_that_ends_too_early_are_found() {
    let mut case = Case::new();
    assert_eq!(case.put_out(0, &[started(1, "repair add-peer")]), Ok(()));
    assert_eq!(invariant(case.put_out(1, &[started(2, "admin split")])), ONE);
    assert_eq!(invariant(case.put_out(600_000, &[ended(1, "took too long")])), EARLY);
    let next = [started(3, "admin split"), ended(3, "took too long")];
    assert_eq!(invariant(case.put_out(0, &next)), EARLY);
    assert_eq!(case.put_out(0, &[started(4, "admin split")]), Ok(()));
    assert_eq!(case.put_out(10_001, &[ended(4, "took too long")]), Ok(()));
    assert_eq!(invariant(case.put_out(0, &[ended(4, "done")])), ONE);
}

#[test]
fn an_older_report_that_is_taken_is_found() {
    let mut case = Case::new();
    let three = region(3);
    assert_eq!(case.told(heartbeat(1, 5, &three), &[]), Ok(()));
    assert_eq!(case.told(heartbeat(1, 5, &three), &[]), Ok(()));
    assert_eq!(invariant(case.told(heartbeat(2, 5, &three), &[])), OLDER, "another leader");
    assert_eq!(case.told(heartbeat(2, 6, &three), &[]), Ok(()));
    assert_eq!(invariant(case.told(heartbeat(1, 5, &three), &[])), OLDER);
    let mut behind = three;
    behind.epoch.conf_ver -= 1;
    assert_eq!(invariant(case.told(heartbeat(1, 7, &behind), &[])), OLDER);
}

#[test]
fn a_command_for_another_store_than_the_leaders_is_found() {
    let mut case = Case::new();
    let (three, step) = (region(3), [Step::Promote(PeerId(12))]);
    assert_eq!(case.put_out(0, &[started(1, "repair promote")]), Ok(()));
    assert_eq!(case.told(heartbeat(1, 5, &three), &step), Ok(()));
    assert_eq!(case.told(heartbeat(2, 6, &three), &[]), Ok(()));
    let quiet = StoreHeartbeat { store_id: StoreId(1), ..Default::default() };
    assert_eq!(invariant(case.told(quiet, &step)), LEADER);
    assert_eq!(case.put_out(0, &[ended(1, "done")]), Ok(()));
    assert_eq!(invariant(case.told(heartbeat(2, 6, &three), &step)), ONE, "no operator");
}

#[test]
fn a_removal_without_need_is_found() {
    let remove = [Step::RemovePeer(PeerId(12))];
    let begin = |name: &str| {
        let mut case = Case::new();
        assert_eq!(case.put_out(0, &[started(1, name)]), Ok(()));
        case
    };
    let repair = "repair remove-peer";
    let removed = |count: u64| begin(repair).told(heartbeat(1, 5, &region(count)), &remove);
    assert_eq!(invariant(removed(3)), SILENCE);
    assert_eq!(removed(4), Ok(()), "more than enough");
    assert_eq!(removed(2), Ok(()), "its store was removed");
    let by_admin = begin("admin remove-peer").told(heartbeat(1, 5, &region(3)), &remove);
    assert_eq!(by_admin, Ok(()));
    let mut case = begin(repair);
    let lost = TombstonedPeer { region_id: REGION, peer_id: PeerId(12) };
    let told = StoreHeartbeat {
        store_id: StoreId(2),
        tombstoned: vec![lost],
        ..StoreHeartbeat::default()
    };
    assert_eq!(case.told(told, &[]), Ok(()));
    assert_eq!(case.told(heartbeat(1, 5, &region(3)), &remove), Ok(()), "it is lost");
}
