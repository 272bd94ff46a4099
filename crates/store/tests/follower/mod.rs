//! Store 2, which follows store 1 in a region of all keys: its worker, turn by turn.

use std::sync::Arc;

use flotilla_engine::{MemLog, StateStore};
use flotilla_group::{MessageKind, RaftMessage, Timing};
use flotilla_host::core::message::{Address, Body, End, Envelope};
use flotilla_store::core::limits::StoreLimits;
use flotilla_store::core::worker::{LogKept, Worker, WorkerConfig, bootstrap};
use flotilla_store::core::{Input, Output};
use flotilla_types::{
    Epoch, KeyRange, Member, MemberRole, Millis, PeerId, Region, RegionId, StoreId,
};

/// The term in which store 1 leads.
pub const TERM: u64 = 9;

/// Region 1, of all keys, with voters 11, 12 and 13.
pub fn region() -> Region {
    let voter =
        |n: u64| Member { id: PeerId(10 + n), store_id: StoreId(n), role: MemberRole::Voter };
    let epoch = Epoch { conf_ver: 1, version: 1 };
    Region {
        id: RegionId(1),
        range: KeyRange::default(),
        epoch,
        members: [1, 2, 3].map(voter).into(),
    }
}

/// What store `from` sends to the follower about the region.
pub fn envelope(from: u64, body: Body) -> Input {
    let region = region();
    Input::Envelope(Envelope {
        region_id: region.id,
        conf_ver: region.epoch.conf_ver,
        region: Some(Box::new(region)),
        from: end(from),
        to: end(2),
        body,
    })
}

fn end(store: u64) -> End {
    End { address: Address::Store(StoreId(store)), member: 10 + store }
}

/// A Raft message of the peer on store `from`.
pub fn message(from: u64, kind: MessageKind, message: RaftMessage) -> Input {
    let message = RaftMessage { kind: kind.into(), from: 10 + from, to: 12, ..message };
    envelope(from, Body::Message(Box::new(message)))
}

/// Store 2, and what it did in its last turn.
pub struct Follower {
    pub worker: Worker,
    pub out: Vec<Output>,
}

impl Follower {
    pub fn begin() -> Follower {
        let state = StateStore::in_memory();
        bootstrap(&state, StoreId(2), &region()).expect("in memory");
        let config = WorkerConfig {
            cluster: 1,
            store: StoreId(2),
            timing: Timing::default(),
            seed: 1,
            region_bytes_max: u64::MAX,
            checkpoint_bytes: usize::MAX,
            idle_ms: 1_000,
            log_kept: LogKept::default(),
            limits: StoreLimits::default(),
        };
        let log = Arc::new(MemLog::default());
        let worker = Worker::open(config, Arc::new(state), log, Millis(1_000)).expect("opens");
        Follower { worker, out: vec![] }
    }

    /// A turn with these inputs and a tick, and what it appends synced.
    pub fn turn(&mut self, now: u64, inputs: Vec<Input>) {
        self.out.clear();
        for input in inputs.into_iter().chain([Input::Tick, Input::Flush]) {
            self.worker.step(Millis(now), input, &mut self.out);
        }
        let turns: Vec<u64> = self.out.iter().filter_map(appended).collect();
        for turn in turns {
            self.worker.step(Millis(now), Input::Persisted { turn }, &mut self.out);
        }
        self.worker.step(Millis(now), Input::Flush, &mut self.out);
    }
}

fn appended(output: &Output) -> Option<u64> {
    if let Output::Append(append) = output { Some(append.turn) } else { None }
}
