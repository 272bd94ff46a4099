//! What each command does to the state, and that the records say the same.

use super::*;

fn store(id: u64, addr: &str) -> StoreRecord {
    StoreRecord { id: StoreId(id), addr: addr.into(), ..StoreRecord::default() }
}

fn region(id: u64, range: (&'static str, &'static str), version: u64) -> Region {
    Region {
        id: RegionId(id),
        range: KeyRange::new(range.0, range.1),
        epoch: Epoch { conf_ver: 1, version },
        members: vec![Member::voter(PeerId(2), StoreId(1))],
    }
}

/// A state with its records.
#[derive(Default)]
struct Recorded {
    state: State,
    records: Changes,
}

impl Recorded {
    fn new() -> Recorded {
        let mut recorded = Recorded::default();
        recorded.apply(PdCommand::Bootstrap { cluster_id: 5, replica_count: 3 });
        recorded
    }

    /// The first region, on store 1, is created and reported.
    fn begin(&mut self) {
        self.apply(PdCommand::CreateFirst(vec![StoreId(1)]));
        let first = self.state.first_region().cloned().expect("created");
        self.apply(PdCommand::PutRegions(vec![first]));
    }

    /// Applies, and checks that the records lead to the same state.
    fn apply(&mut self, command: PdCommand) -> Applied {
        let result = self.state.apply(command, &mut self.records);
        let store = flotilla_engine::StateStore::in_memory();
        let mut batch = flotilla_engine::StateBatch::default();
        for (key, value) in self.records.records.clone() {
            if let Some(value) = value {
                batch.put(key, value);
            }
        }
        store.write(batch).expect("memory does not fail");
        let loaded = crate::core::records::load(&store).expect("whole");
        assert_eq!(State::from_records(loaded), self.state);
        result
    }
}

#[test]
fn a_cluster_is_created_once() {
    let mut recorded = Recorded::default();
    let early = recorded.apply(PdCommand::TakeIds { count: 1 });
    assert_eq!(early, Applied::Refused(Refusal::NoCluster));
    let mut recorded = Recorded::new();
    recorded.apply(PdCommand::Bootstrap { cluster_id: 6, replica_count: 5 });
    assert_eq!((recorded.state.cluster_id(), recorded.state.replica_count()), (5, 3));
}

#[test]
fn id_blocks_never_overlap() {
    let mut recorded = Recorded::new();
    let first = recorded.apply(PdCommand::TakeIds { count: 10 });
    assert_eq!(first, Applied::Ids(IdBlock { start: 1, count: 10 }));
    let second = recorded.apply(PdCommand::TakeIds { count: 1 });
    assert_eq!(second, Applied::Ids(IdBlock { start: 11, count: 1 }));
}

#[test]
fn the_first_region_waits_until_it_is_reported() {
    let mut recorded = Recorded::new();
    assert_eq!(recorded.apply(PdCommand::PutStore(store(0, "a:1"))), Applied::Store(StoreId(1)));
    assert_eq!(recorded.apply(PdCommand::PutStore(store(0, "b:1"))), Applied::Store(StoreId(2)));
    let unknown = recorded.apply(PdCommand::CreateFirst(vec![StoreId(1), StoreId(3)]));
    assert_eq!(unknown, Applied::Refused(Refusal::NotInService(StoreId(3))));
    let stores = vec![StoreId(2), StoreId(1)];
    assert_eq!(recorded.apply(PdCommand::CreateFirst(stores)), Applied::Done);
    let first = recorded.state.first_region_for(StoreId(1)).cloned().expect("chosen");
    assert_eq!((first.id, first.members[0]), (RegionId(1), Member::voter(PeerId(2), StoreId(2))));
    assert_eq!(recorded.state.first_region_for(StoreId(3)), None);
    let again = recorded.apply(PdCommand::CreateFirst(vec![StoreId(1)]));
    assert_eq!(again, Applied::Refused(Refusal::HasBegun));
    let removed = StoreRecord { mode: StoreMode::Removed, ..store(1, "a:1") };
    let removed = recorded.apply(PdCommand::PutStore(removed));
    assert_eq!(removed, Applied::Refused(Refusal::HoldsFirst(StoreId(1))));

    let right = Region { id: RegionId(2), ..first.clone() };
    recorded.apply(PdCommand::PutRegions(vec![right]));
    assert!(recorded.state.regions().is_empty(), "the range map begins with the first region");
    recorded.apply(PdCommand::PutRegions(vec![first]));
    assert_eq!(recorded.state.first_region(), None);
    let again = recorded.apply(PdCommand::CreateFirst(vec![StoreId(1)]));
    assert_eq!(again, Applied::Refused(Refusal::HasBegun), "only while the range map is empty");
}

#[test]
fn nothing_but_its_creation_changes_a_cluster_that_does_not_exist() {
    let mut recorded = Recorded::default();
    for command in [
        PdCommand::PutStore(store(0, "a:1")),
        PdCommand::TakeIds { count: 1 },
        PdCommand::RaiseIds { highest: 7 },
        PdCommand::PutRegions(vec![region(2, ("", ""), 1)]),
        PdCommand::CreateFirst(vec![StoreId(1)]),
    ] {
        assert_eq!(recorded.apply(command), Applied::Refused(Refusal::NoCluster));
    }
    assert_eq!(recorded.state, State::default());
}

#[test]
fn ids_are_raised_above_those_in_use_and_never_lowered() {
    let mut recorded = Recorded::new();
    assert_eq!(recorded.apply(PdCommand::RaiseIds { highest: 70 }), Applied::Done);
    recorded.apply(PdCommand::RaiseIds { highest: 7 });
    let block = recorded.apply(PdCommand::TakeIds { count: 2 });
    assert_eq!(block, Applied::Ids(IdBlock { start: 71, count: 2 }));
}

#[test]
fn the_first_region_is_given_to_stores_in_service_only_and_to_each_once() {
    let mut recorded = Recorded::new();
    recorded.apply(PdCommand::PutStore(store(0, "a:1")));
    recorded.apply(PdCommand::PutStore(store(0, "b:1")));
    let draining = StoreRecord { mode: StoreMode::Draining, ..store(2, "b:1") };
    recorded.apply(PdCommand::PutStore(draining));
    for (stores, refused) in [([1, 1], 1), ([1, 2], 2)] {
        let chosen = recorded.apply(PdCommand::CreateFirst(stores.map(StoreId).to_vec()));
        assert_eq!(chosen, Applied::Refused(Refusal::NotInService(StoreId(refused))));
    }
    assert_eq!((recorded.state.first_region(), recorded.state.next_id()), (None, 1));
}

#[test]
fn a_store_of_the_first_region_that_asks_anew_is_refused() {
    let mut recorded = Recorded::new();
    recorded.apply(PdCommand::PutStore(store(0, "a:1")));
    assert_eq!(recorded.apply(PdCommand::PutStore(store(0, "a:1"))), Applied::Store(StoreId(1)));
    recorded.apply(PdCommand::CreateFirst(vec![StoreId(1)]));
    let taken = Refusal::AddrTaken { addr: "a:1".into(), store: StoreId(1) };
    let again = recorded.apply(PdCommand::PutStore(store(0, "a:1")));
    assert_eq!(again, Applied::Refused(taken), "its old self may have voted");
}

#[test]
fn an_address_is_one_stores() {
    let mut recorded = Recorded::new();
    for addr in ["a:1", "b:1"] {
        recorded.apply(PdCommand::PutStore(store(0, addr)));
    }
    let taken = Refusal::AddrTaken { addr: "b:1".into(), store: StoreId(2) };
    let moved = recorded.apply(PdCommand::PutStore(store(1, "b:1")));
    assert_eq!(moved, Applied::Refused(taken));
    assert_eq!(recorded.apply(PdCommand::PutStore(store(0, "a:1"))), Applied::Store(StoreId(1)));
    recorded.begin();
    let taken = Refusal::AddrTaken { addr: "a:1".into(), store: StoreId(1) };
    let again = recorded.apply(PdCommand::PutStore(store(0, "a:1")));
    assert_eq!(again, Applied::Refused(taken), "it has held a peer");
}

#[test]
fn a_store_that_registered_after_the_copy_keeps_its_id() {
    let mut recorded = Recorded::new();
    recorded.apply(PdCommand::PutStore(store(0, "a:1")));
    let unknown = recorded.apply(PdCommand::PutStore(store(9, "z:1")));
    assert_eq!(unknown, Applied::Store(StoreId(9)));
    let taken = Refusal::AddrTaken { addr: "z:1".into(), store: StoreId(9) };
    assert_eq!(recorded.apply(PdCommand::PutStore(store(8, "z:1"))), Applied::Refused(taken));
    let next = recorded.apply(PdCommand::PutStore(store(0, "b:1")));
    assert_eq!(next, Applied::Store(StoreId(10)));
}

#[test]
fn a_removed_store_stays_removed() {
    let mut recorded = Recorded::new();
    recorded.apply(PdCommand::PutStore(store(0, "a:1")));
    let removed = StoreRecord { mode: StoreMode::Removed, ..store(1, "a:1") };
    recorded.apply(PdCommand::PutStore(removed));
    let back = recorded.apply(PdCommand::PutStore(store(1, "a:1")));
    assert_eq!(back, Applied::Refused(Refusal::RemovedStore(StoreId(1))));
    let next = recorded.apply(PdCommand::PutStore(store(0, "a:1")));
    assert!(matches!(next, Applied::Store(id) if id != StoreId(1)), "{next:?}");
}

#[test]
fn older_regions_and_those_with_unknown_ids_are_ignored() {
    let mut recorded = Recorded::new();
    recorded.apply(PdCommand::PutStore(store(0, "a:1")));
    recorded.begin();
    recorded.apply(PdCommand::TakeIds { count: 10 });
    recorded.apply(PdCommand::PutRegions(vec![region(2, ("", "m"), 2), region(4, ("m", ""), 2)]));
    let before = recorded.state.clone();
    let mut unknown_store = region(2, ("", "m"), 3);
    unknown_store.members[0].store_id = StoreId(8);
    let late = [
        region(2, ("", ""), 1),
        region(5, ("a", "z"), 1),
        region(900, ("", "m"), 3),
        region(4, ("z", "m"), 3),
        unknown_store,
    ];
    for late in late {
        recorded.apply(PdCommand::PutRegions(vec![late.clone()]));
        assert_eq!(recorded.state, before, "{late:?}");
    }
}

#[test]
fn a_region_that_is_replaced_leaves_no_record() {
    let mut recorded = Recorded::new();
    recorded.apply(PdCommand::PutStore(store(0, "a:1")));
    recorded.begin();
    recorded.apply(PdCommand::TakeIds { count: 10 });
    recorded.apply(PdCommand::PutRegions(vec![region(2, ("", ""), 2)]));
    recorded.apply(PdCommand::PutRegions(vec![region(4, ("m", ""), 3)]));
    assert_eq!(recorded.state.regions().first_hole(), Some("".into()), "the left half is unknown");
    recorded.apply(PdCommand::PutRegions(vec![region(2, ("", "m"), 3)]));
    assert_eq!(recorded.state.regions().first_hole(), None);
}
