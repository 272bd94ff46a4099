//! A placement driver that asks for everything gets reports of quiescent regions, too.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_engine::{MemLog, StateStore};
use flotilla_group::Timing;
use flotilla_store::core::limits::StoreLimits;
use flotilla_store::core::worker::{LogKept, Worker, WorkerConfig, bootstrap};
use flotilla_store::core::{Input, Output};
use flotilla_types::heartbeat::{HeartbeatReply, StoreHeartbeat};
use flotilla_types::{Epoch, KeyRange, Member, Millis, PeerId, Region, RegionId, StoreId};

/// More than one heartbeat takes.
const REGIONS: u64 = 4_500;

fn region(number: u64) -> Region {
    let bound = |number: u64| number.to_be_bytes().to_vec();
    Region {
        id: RegionId(number),
        range: KeyRange::new(bound(number), bound(number + 1)),
        epoch: Epoch { conf_ver: 1, version: 1 },
        members: vec![Member::voter(PeerId(REGIONS + number), StoreId(1))],
    }
}

/// A store that leads all regions.
struct Leaders {
    worker: Worker,
    now: u64,
}

impl Leaders {
    fn begin() -> Leaders {
        let state = StateStore::in_memory();
        for number in 1..=REGIONS {
            bootstrap(&state, StoreId(1), &region(number)).expect("in memory");
        }
        let config = WorkerConfig {
            cluster: 1,
            store: StoreId(1),
            timing: Timing::default(),
            seed: 1,
            region_bytes_max: u64::MAX,
            checkpoint_bytes: usize::MAX,
            idle_ms: 500,
            log_kept: LogKept::default(),
            limits: StoreLimits::default(),
        };
        let log = Arc::new(MemLog::default());
        let worker = Worker::open(config, Arc::new(state), log, Millis(0)).expect("opens");
        Leaders { worker, now: 0 }
    }

    /// Lets time pass and answers the heartbeats sent; each is answered at once, the first one by
    /// `reply`.
    fn pass(&mut self, ms: u64, reply: HeartbeatReply) -> Vec<StoreHeartbeat> {
        let mut heartbeats = vec![];
        let mut reply = Some(reply);
        let until = self.now + ms;
        while self.now < until {
            self.now += 100;
            let mut inputs = vec![Input::Tick, Input::Flush];
            while !inputs.is_empty() {
                let mut out = vec![];
                for input in inputs.drain(..) {
                    self.worker.step(Millis(self.now), input, &mut out);
                }
                for output in out {
                    match output {
                        Output::Append(append) => {
                            inputs.push(Input::Persisted { turn: append.turn });
                        }
                        Output::Heartbeat(heartbeat) => {
                            inputs.push(Input::HeartbeatReply(Some(
                                reply.take().unwrap_or_default(),
                            )));
                            heartbeats.push(heartbeat);
                        }
                        Output::Fatal { reason } => panic!("{reason}"),
                        _ => {}
                    }
                }
                if !inputs.is_empty() {
                    inputs.push(Input::Flush);
                }
            }
        }
        heartbeats
    }
}

fn reported(heartbeats: &[StoreHeartbeat]) -> u64 {
    let regions = heartbeats.iter().flat_map(|heartbeat| &heartbeat.reports);
    let ids: BTreeSet<RegionId> = regions.map(|report| report.region.id).collect();
    ids.len() as u64
}

#[test]
fn a_placement_driver_that_asks_for_everything_gets_quiescent_regions() {
    let mut leaders = Leaders::begin();
    let heartbeats = leaders.pass(5_000, HeartbeatReply::default());
    assert_eq!(leaders.worker.quiescent() as u64, REGIONS);
    assert_eq!(reported(&heartbeats), REGIONS);

    let heartbeats = leaders.pass(3_000, HeartbeatReply::default());
    assert_eq!(reported(&heartbeats), 0, "nothing is new");

    let asks = HeartbeatReply { needs_full: true, term: 2, ..HeartbeatReply::default() };
    let heartbeats = leaders.pass(5_000, asks);
    assert_eq!(leaders.worker.quiescent() as u64, REGIONS);
    assert_eq!(reported(&heartbeats), REGIONS);
    assert_eq!(heartbeats.iter().filter(|heartbeat| heartbeat.is_full).count(), 1);
}
