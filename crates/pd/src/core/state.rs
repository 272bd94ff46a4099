//! The replicated state: what every PD member agrees on.
//!
//! Owns the cluster id, the id watermark, the stores and the range map. In: committed
//! [`PdCommand`]s. Out: an [`Applied`] for whoever proposed, and the records that changed.
//!
//! Invariants: an id below the watermark is never handed out again, nor is a store's; no two stores
//! in service share an address; a removed store stays removed; a region in the range map is
//! replaced only by one whose epoch is not behind; one first region is ever chosen, and the range
//! map begins with it. Applying a command never fails for local reasons and depends on no clock:
//! what a heartbeat says beyond the regions' shapes is kept in [`crate::core::reports`].

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::heartbeat::IdBlock;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Epoch, KeyRange, Member, PeerId, RangeMap, Region, RegionId, StoreId, proto};
use prost::Message;

use crate::core::command::PdCommand;
use crate::core::records::{
    Changes, FIRST_REGION_KEY, Loaded, META_KEY, StoreMode, StoreRecord, encode_region,
    new_store_key, region_key, store_key,
};

/// The first id of a cluster; 0 means "none" everywhere.
const FIRST_ID: u64 = 1;

/// What every member agrees on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    cluster_id: u64,
    next_id: u64,
    replica_count: u64,
    stores: BTreeMap<StoreId, StoreRecord>,
    new_stores: BTreeSet<StoreId>,
    regions: RangeMap,
    first_region: Option<Region>,
}

/// What became of a command; equal on every member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Carried out, or too old to change anything.
    Done,
    /// The store was created or replaced.
    Store(StoreId),
    /// The ids belong to the proposer.
    Ids(IdBlock),
    /// Nothing changed.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another store in service listens there.
    #[error(
        "{addr} is the address of store {store}; if its data is lost, \
         run `ctl store remove {store}` first"
    )]
    AddrTaken {
        /// The address.
        addr: String,
        /// Whose it is.
        store: StoreId,
    },
    /// No such store was ever registered.
    #[error("store {0} was never registered with this cluster")]
    UnknownStore(StoreId),
    /// The store is refused for ever.
    #[error("store {0} was removed from the cluster; start it anew in an empty directory")]
    RemovedStore(StoreId),
    /// The store is chosen for the first region, which nobody has reported yet.
    #[error(
        "store {0} is to hold a replica of the cluster's first region, which is not created yet; \
         it can be removed when it is"
    )]
    HoldsFirst(StoreId),
    /// The first region is chosen, or there are regions.
    #[error("the cluster has a first region already")]
    HasBegun,
    /// A store that is to hold the first region is not in service.
    #[error("store {0} is not in service, or named twice")]
    NotInService(StoreId),
    /// The cluster's first command has not been applied.
    #[error("the cluster does not exist yet")]
    NoCluster,
}

impl State {
    /// The state as it was read back.
    pub fn from_records(loaded: Loaded) -> State {
        let meta = loaded.meta.unwrap_or_default();
        State {
            cluster_id: meta.cluster_id,
            next_id: meta.next_id,
            replica_count: meta.replica_count,
            stores: loaded.stores.into_iter().map(|store| (store.id, store)).collect(),
            new_stores: loaded.new_stores.into_iter().collect(),
            regions: loaded.regions,
            first_region: loaded.first_region,
        }
    }

    /// The cluster's id; 0 before the first command.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// The least id that was never handed out.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Voters that every region should have.
    pub fn replica_count(&self) -> u64 {
        self.replica_count
    }

    /// All stores ever registered, by id.
    pub fn stores(&self) -> impl Iterator<Item = &StoreRecord> {
        self.stores.values()
    }

    /// The store with this id, removed or not.
    pub fn store(&self, id: StoreId) -> Option<&StoreRecord> {
        self.stores.get(&id)
    }

    /// The store in service that listens at `addr`.
    pub fn store_at(&self, addr: &str) -> Option<&StoreRecord> {
        self.stores.values().find(|store| store.mode != StoreMode::Removed && store.addr == addr)
    }

    /// The range map, as far as heartbeats have reported it.
    pub fn regions(&self) -> &RangeMap {
        &self.regions
    }

    /// The cluster's first region, from when its stores are chosen until it is reported.
    pub fn first_region(&self) -> Option<&Region> {
        self.first_region.as_ref()
    }

    /// The first region, if `store` is to create a peer of it.
    pub fn first_region_for(&self, store: StoreId) -> Option<&Region> {
        self.first_region().filter(|region| region.member_on(store).is_some())
    }

    /// True if some region has a peer on `store`.
    pub fn has_peers_on(&self, store: StoreId) -> bool {
        self.regions.iter().any(|region| region.member_on(store).is_some())
    }

    /// True if the range map admits `region`: no region that it would replace is newer, every id in
    /// it was handed out, and every store in it was registered.
    pub fn admits(&self, region: &Region) -> bool {
        !region.range.is_empty()
            && (self.regions.takes(region) || planted(Mutant::PdGoesBack))
            && self.has_handed_out(region)
            && self.has_begun_by(region)
            && self.has_registered(region)
    }

    /// True if every store in the region is known.
    pub(crate) fn has_registered(&self, region: &Region) -> bool {
        region.members.iter().all(|peer| self.stores.contains_key(&peer.store_id))
    }

    /// The range map begins with the first region: a part that is split off it is taken later. A
    /// member that knows of no first region was put back from an older copy, and takes all parts.
    fn has_begun_by(&self, region: &Region) -> bool {
        let is_first = |first: &Region| first.id == region.id;
        !self.regions.is_empty() || self.first_region().is_none_or(is_first)
    }

    /// True if every id in the region is below the watermark.
    pub(crate) fn has_handed_out(&self, region: &Region) -> bool {
        let peers = region.members.iter().map(|peer| peer.id.0);
        peers.chain([region.id.0]).all(|id| id >= FIRST_ID && id < self.next_id)
    }

    /// Puts a committed command into effect and adds the changed records to `changes`.
    pub fn apply(&mut self, command: PdCommand, changes: &mut Changes) -> Applied {
        match command {
            PdCommand::Bootstrap { cluster_id, replica_count } => {
                if self.cluster_id == 0 {
                    self.cluster_id = cluster_id;
                    self.replica_count = replica_count;
                    self.next_id = FIRST_ID;
                    self.put_meta(changes);
                }
                Applied::Done
            }
            PdCommand::PutStore(_)
            | PdCommand::TakeIds { .. }
            | PdCommand::RaiseIds { .. }
            | PdCommand::PutRegions(_)
            | PdCommand::CreateFirst(_)
                if self.cluster_id == 0 =>
            {
                Applied::Refused(Refusal::NoCluster)
            }
            PdCommand::PutStore(store) if store.id.0 == 0 => self.create_store(store, changes),
            PdCommand::PutStore(store) => self.replace_store(store, changes),
            PdCommand::TakeIds { count } => {
                let start = self.take_ids(count);
                self.put_watermark(changes);
                Applied::Ids(IdBlock { start, count })
            }
            PdCommand::RaiseIds { highest } => {
                let next = highest.checked_add(1);
                self.next_id = self.next_id.max(next.expect("ids end long before u64 does"));
                self.put_meta(changes);
                Applied::Done
            }
            PdCommand::PutRegions(regions) => {
                for region in regions {
                    self.put_region(region, changes);
                }
                Applied::Done
            }
            PdCommand::CreateFirst(stores) => self.create_first(stores, changes),
        }
    }

    fn take_ids(&mut self, count: u64) -> u64 {
        let start = self.next_id;
        let next = start.checked_add(count);
        self.next_id = next.unwrap_or_else(|| panic!("{count} ids asked for at {start}"));
        start
    }

    /// Creates a store. A store that registers again because the first reply was lost gets the id
    /// of the first registration, as long as no region has ever had a peer on that store. An id
    /// that was in use is never given to a process that does not know it: the process has lost its
    /// data, and with it the votes that it cast.
    fn create_store(&mut self, mut store: StoreRecord, changes: &mut Changes) -> Applied {
        if let Some(known) = self.store_at(&store.addr) {
            if !self.new_stores.contains(&known.id) {
                let refusal = Refusal::AddrTaken { addr: store.addr, store: known.id };
                return Applied::Refused(refusal);
            }
            store.id = known.id;
            store.mode = known.mode;
        } else {
            // Store ids have a numbering of their own, 1, 2, 3 and so on, because people type them.
            let last = self.stores.last_key_value().map_or(0, |(id, _)| id.0);
            store.id = StoreId(last + 1);
            store.mode = StoreMode::Up;
            self.new_stores.insert(store.id);
            changes.put(new_store_key(store.id), vec![]);
        }
        let id = store.id;
        self.put_store(store, changes);
        Applied::Store(id)
    }

    /// Replaces the record of a store. One that is not known registered after the copy from which
    /// this member was put back, and keeps its id.
    fn replace_store(&mut self, store: StoreRecord, changes: &mut Changes) -> Applied {
        let id = store.id;
        match self.stores.get(&id) {
            None => {}
            Some(_) if planted(Mutant::RemovedReturns) => {}
            Some(known) if known.mode == StoreMode::Removed => {
                return Applied::Refused(Refusal::RemovedStore(id));
            }
            Some(_) => {}
        }
        if let Some(other) = self.store_at(&store.addr).filter(|other| other.id != id) {
            let refusal = Refusal::AddrTaken { addr: store.addr, store: other.id };
            return Applied::Refused(refusal);
        }
        if store.mode == StoreMode::Removed && self.first_region_for(id).is_some() {
            return Applied::Refused(Refusal::HoldsFirst(id));
        }
        self.put_store(store, changes);
        Applied::Store(id)
    }

    /// The region of all keys, with a voter on each of these stores. They are no new stores any
    /// more: a process that asks for the id of one again has lost that one's votes.
    fn create_first(&mut self, stores: Vec<StoreId>, changes: &mut Changes) -> Applied {
        if self.first_region.is_some() || !self.regions.is_empty() {
            return Applied::Refused(Refusal::HasBegun);
        }
        let distinct: BTreeSet<StoreId> = stores.iter().copied().collect();
        let is_up = |id: &StoreId| self.store(*id).is_some_and(|s| s.mode == StoreMode::Up);
        let is_wrong = stores.len() != distinct.len();
        if let Some(store) = stores.iter().find(|store| is_wrong || !is_up(store)) {
            return Applied::Refused(Refusal::NotInService(*store));
        }
        let id = self.take_ids(1 + stores.len() as u64);
        let members = (id + 1..).zip(&stores);
        let region = Region {
            id: RegionId(id),
            range: KeyRange::all(),
            epoch: Epoch::FIRST,
            members: members.map(|(peer, store)| Member::voter(PeerId(peer), *store)).collect(),
        };
        changes.put(FIRST_REGION_KEY, encode_region(&region));
        self.first_region = Some(region);
        for store in stores {
            if planted(Mutant::NewStoreAgain) {
                continue;
            }
            self.note_in_use(store, changes);
        }
        self.put_meta(changes);
        Applied::Done
    }

    fn note_in_use(&mut self, store: StoreId, changes: &mut Changes) {
        if self.new_stores.remove(&store) {
            changes.delete(new_store_key(store));
        }
    }

    fn put_region(&mut self, region: Region, changes: &mut Changes) {
        if !self.admits(&region) {
            return;
        }
        let replaced: Vec<RegionId> =
            self.regions.overlapping(&region.range).map(|other| other.id).collect();
        for store in region.members.iter().map(|peer| peer.store_id) {
            self.note_in_use(store, changes);
        }
        let (id, record) = (region.id, encode_region(&region));
        let is_taken = self.regions.upsert(region);
        assert!(is_taken, "the range map does not take region {id}, which was admitted");
        for gone in replaced.into_iter().filter(|other| *other != id) {
            changes.delete(region_key(gone));
        }
        changes.put(region_key(id), record);
        if self.first_region.take().is_some() {
            changes.delete(FIRST_REGION_KEY);
        }
    }

    /// Checks the invariants between the fields, in time that does not depend on the number of
    /// regions.
    ///
    /// # Panics
    /// If one does not hold; the message has the values.
    pub fn check(&self) {
        let (cluster, next_id, stores) = (self.cluster_id, self.next_id, self.stores.len());
        if cluster == 0 {
            assert!(next_id == 0 && stores == 0, "{stores} stores, next id {next_id}, no cluster");
        } else {
            assert!(next_id >= FIRST_ID, "the next id {next_id} of a cluster is below the first");
        }
        let is_offered = self.first_region.is_some();
        let is_empty = self.regions.is_empty();
        assert!(!is_offered || is_empty, "a first region is offered beside those of the range map");
        let unknown = self.new_stores.iter().find(|store| !self.stores.contains_key(store));
        assert!(unknown.is_none(), "the new store {unknown:?} was never registered");
    }

    fn put_store(&mut self, store: StoreRecord, changes: &mut Changes) {
        changes.put(store_key(store.id), store.to_wire().encode_to_vec());
        self.stores.insert(store.id, store);
    }

    /// Writes the watermark before the ids below it are answered.
    fn put_watermark(&self, changes: &mut Changes) {
        if planted(Mutant::IdsUnsaved) {
            return;
        }
        self.put_meta(changes);
    }

    fn put_meta(&self, changes: &mut Changes) {
        let meta = proto::PdMeta {
            cluster_id: self.cluster_id,
            next_id: self.next_id,
            replica_count: self.replica_count,
        };
        changes.put(META_KEY, meta.encode_to_vec());
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
