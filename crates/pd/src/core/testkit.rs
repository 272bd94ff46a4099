//! Shorthand for the unit tests of checker, schedulers and operators.

use flotilla_types::heartbeat::{HeartbeatId, StoreUsage, TombstonedPeer};
use flotilla_types::{Epoch, KeyRange, Member, Millis, PeerId, Region, RegionId, StoreId};

use crate::core::command::PdCommand;
use crate::core::records::{Changes, StoreMode, StoreRecord};
use crate::core::reports::{LivenessTimeouts, ReportedRegion, Reports};
use crate::core::state::{Applied, State};

pub(crate) const NOW: Millis = Millis(100_000);
pub(crate) const TIMEOUTS: LivenessTimeouts =
    LivenessTimeouts { disconnected_after_ms: 10_000, down_after_ms: 60_000 };

/// A state and a reports, changed as commands and heartbeats would.
pub(crate) struct Kit {
    pub state: State,
    pub reports: Reports,
}

impl Kit {
    /// Stores 1 to `stores`, in service, each with a heartbeat just now; ids up to 100,000 are
    /// handed out.
    pub(crate) fn new(stores: u64) -> Kit {
        Kit::with_replicas(stores, 3)
    }

    /// As [`Kit::new`], in a cluster whose regions have `replica_count` voters. The cluster's first
    /// region is the range map until another is put.
    pub(crate) fn with_replicas(stores: u64, replica_count: u64) -> Kit {
        let mut kit = Kit::unborn(stores, replica_count);
        let ids = (1..=stores.min(replica_count)).map(StoreId).collect();
        kit.apply(PdCommand::CreateFirst(ids));
        let first = kit.state.first_region().cloned().expect("created");
        kit.apply(PdCommand::PutRegions(vec![first]));
        kit
    }

    /// As [`Kit::with_replicas`], in a cluster that has no region yet.
    pub(crate) fn unborn(stores: u64, replica_count: u64) -> Kit {
        let mut kit = Kit { state: State::default(), reports: Reports::new(Millis(0), TIMEOUTS) };
        kit.apply(PdCommand::Bootstrap { cluster_id: 9, replica_count });
        for n in 1..=stores {
            let addr = format!("s{n}:1");
            let record = StoreRecord { addr, ..StoreRecord::default() };
            kit.apply(PdCommand::PutStore(record));
        }
        kit.apply(PdCommand::TakeIds { count: 100_000 });
        let ids: Vec<StoreId> = kit.state.stores().map(|store| store.id).collect();
        for id in ids {
            kit.beat(id, NOW);
        }
        kit
    }

    pub(crate) fn apply(&mut self, command: PdCommand) -> Applied {
        self.state.apply(command, &mut Changes::default())
    }

    /// The id of the n-th store, from 1.
    pub(crate) fn store(&self, n: usize) -> StoreId {
        self.state.stores().nth(n - 1).expect("registered").id
    }

    pub(crate) fn beat(&mut self, store: StoreId, at: Millis) {
        let id = HeartbeatId::default();
        self.reports.heartbeat(at, store, id, StoreUsage::default(), true);
    }

    /// The last heartbeat of the n-th store is `ms` old.
    pub(crate) fn age_heartbeat(&mut self, n: usize, ms: u64) {
        let store = self.store(n);
        self.beat(store, Millis(NOW.0 - ms));
    }

    /// The n-th store says that it has lost the peer for good.
    pub(crate) fn lose(&mut self, n: usize, region_id: RegionId, peer: u64) {
        let lost = TombstonedPeer { region_id, peer_id: PeerId(peer) };
        self.reports.note_tombstoned(NOW, self.store(n), vec![lost]);
    }

    pub(crate) fn set_mode(&mut self, n: usize, mode: StoreMode) {
        let record = self.state.store(self.store(n)).expect("registered").clone();
        self.apply(PdCommand::PutStore(StoreRecord { mode, ..record }));
    }

    pub(crate) fn set_labels(&mut self, n: usize, labels: &[(&str, &str)]) {
        let mut record = self.state.store(self.store(n)).expect("registered").clone();
        record.labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        self.apply(PdCommand::PutStore(record));
    }

    /// A region of voters on the stores `on`, the first of which leads; `id` orders its keys. Its
    /// peers are `100 * id + n` on the n-th store.
    pub(crate) fn region(&self, id: u64, on: &[usize]) -> ReportedRegion {
        let voter = |n: &usize| Member::voter(PeerId(100 * id + *n as u64), self.store(*n));
        let peers: Vec<Member> = on.iter().map(voter).collect();
        ReportedRegion {
            region: Region {
                id: RegionId(id),
                range: KeyRange::new(format!("{id:06}"), format!("{:06}", id + 1)),
                epoch: Epoch { conf_ver: 5, version: 2 },
                members: peers.clone(),
            },
            leader: peers.first().copied(),
            term: 6,
            ..ReportedRegion::default()
        }
    }

    /// The region is reported and committed.
    pub(crate) fn put(&mut self, report: ReportedRegion) {
        self.apply(PdCommand::PutRegions(vec![report.region.clone()]));
        assert!(self.state.regions().region(report.region.id).is_some(), "{report:?}");
        let store = report.leader.expect("a leader").store_id;
        self.reports.report(store, report).expect("not stale");
    }
}
