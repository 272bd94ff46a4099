//! A placement driver that was put back from an older copy may lease an id twice. A store that
//! applies a split whose right part has the id of a region that lives there with other keys leaves
//! that region as it is, and drops the rows of the right part.

use std::sync::Arc;

use flotilla_engine::{MemLog, StateStore};
use flotilla_group::{MessageKind, RaftMessage, Timing};
use flotilla_host::core::message::{Address, Body, End, Envelope};
use flotilla_store::core::limits::StoreLimits;
use flotilla_store::core::worker::{LogKept, Worker, WorkerConfig, bootstrap};
use flotilla_store::core::{Input, Output};
use flotilla_types::{
    Epoch, KeyRange, Member, MemberRole, Millis, PeerId, Region, RegionId, StoreId, proto,
};
use prost::Message;

const TERM: u64 = 9;

/// Region 1, of all keys, with voters 11, 12 and 13.
fn region() -> Region {
    let voter =
        |n: u64| Member { id: PeerId(10 + n), store_id: StoreId(n), role: MemberRole::Voter };
    Region {
        id: RegionId(1),
        range: KeyRange::default(),
        epoch: Epoch { conf_ver: 1, version: 1 },
        members: [1, 2, 3].map(voter).into(),
    }
}

/// Store 2, which follows store 1.
fn follower() -> Worker {
    let state = StateStore::in_memory();
    bootstrap(&state, StoreId(2), &region()).expect("in memory");
    let config = WorkerConfig {
        cluster: 1,
        store: StoreId(2),
        timing: Timing::default(),
        seed: 1,
        region_bytes_max: u64::MAX,
        checkpoint_bytes: usize::MAX,
        idle_ms: u64::MAX,
        log_kept: LogKept::default(),
        limits: StoreLimits::default(),
    };
    let log = Arc::new(MemLog::default());
    Worker::open(config, Arc::new(state), log, Millis(1_000)).expect("opens")
}

fn turn(worker: &mut Worker, input: Input) {
    let mut out = vec![];
    for input in [input, Input::Flush] {
        worker.step(Millis(1_000), input, &mut out);
    }
    let appended = |output: &Output| match output {
        Output::Append(append) => Some(append.turn),
        _ => None,
    };
    for turn in out.iter().filter_map(appended).collect::<Vec<u64>>() {
        worker.step(Millis(1_000), Input::Persisted { turn }, &mut out);
    }
    worker.step(Millis(1_000), Input::Flush, &mut out);
}

/// The leader of region 1 has committed a split at `key`, whose right part has `id`.
fn split(worker: &mut Worker, key: &'static str, id: u64) {
    let peer = worker.peer(RegionId(1)).expect("has it");
    let (region, at) = (peer.region.clone(), peer.applied);
    let split = proto::SplitCommand {
        epoch: Some(region.epoch.into()),
        split_key: key.into(),
        new_region_id: id,
        new_peer_ids: (1..=3).map(|peer| id + peer).collect(),
    };
    let command = proto::Command { format: 1, kind: Some(proto::command::Kind::Split(split)) };
    let index = at.index + 1;
    let data = command.encode_to_vec().into();
    let append = RaftMessage {
        kind: MessageKind::MsgAppend.into(),
        from: 11,
        to: 12,
        term: TERM,
        index: at.index,
        log_term: at.term,
        entries: vec![proto::Entry { term: TERM, index, data, ..proto::Entry::default() }],
        commit: index,
        ..RaftMessage::default()
    };
    let end = |store: u64| End { address: Address::Store(StoreId(store)), member: 10 + store };
    let envelope = Envelope {
        region_id: RegionId(1),
        conf_ver: region.epoch.conf_ver,
        region: Some(Box::new(region)),
        from: end(1),
        to: end(2),
        body: Body::Message(Box::new(append)),
    };
    turn(worker, Input::Envelope(envelope));
}

fn range(worker: &Worker, id: u64) -> KeyRange {
    worker.peer(RegionId(id)).expect("it lives").region.range.clone()
}

#[test]
fn a_region_goes_on_though_a_split_gives_its_id_to_other_keys() {
    let mut worker = follower();
    split(&mut worker, "d", 100);
    let before = range(&worker, 100);
    assert_eq!(before.start, "d");
    split(&mut worker, "b", 100);
    assert_eq!(range(&worker, 1).end, "b", "the left part has let go of the rest");
    assert_eq!(range(&worker, 100), before);
}
