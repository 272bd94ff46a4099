//! What the administrator asks: reads, orders on regions, states of stores, registrations, ids.
//! A part of the questions names what does not exist, or asks for what must be refused.

use bytes::Bytes;
use flotilla_types::dice::Dice;
use flotilla_types::{Region, StoreId, proto};
use proto::StoreState;
use proto::add_operator_request::Kind as Order;
use proto::pd_request::Op;

use super::{DRAINED_WITHIN, Removal, SimAdmin};
use crate::client::work::stored;
use crate::world::World;

/// An id that no region, store or operator has.
const UNKNOWN: u64 = 1 << 50;

/// A placement driver with this patience never takes a store for down within a seed.
const NEVER_DOWN_MS: u64 = 100_000;

impl World {
    /// The administrator's next question.
    pub(super) fn question(&mut self) -> Op {
        if let Some(op) = self.removal_step() {
            return op;
        }
        let keys = self.hub.scenario.clients.keys;
        let keeps_disks = !self.hub.scenario.faults.ends_disks();
        let admin = &mut self.admin;
        match admin.dice.between(0, 100) {
            0..25 => Op::Regions(page(&mut admin.dice, keys)),
            25..40 => Op::Stores(proto::StoresRequest {}),
            40..55 => Op::ClusterStatus(proto::ClusterStatusRequest {}),
            55..65 => Op::Operators(proto::OperatorsRequest {}),
            65..73 => {
                let known = admin.dice.pick(&admin.operators).copied();
                let operator_id = known.filter(|_| admin.dice.chance(700)).unwrap_or(UNKNOWN);
                Op::CancelOperator(proto::CancelOperatorRequest { operator_id })
            }
            73..78 => {
                let count = admin.dice.pick(&[0, UNKNOWN, 1, 50]).copied().unwrap_or(1);
                Op::AllocateIds(proto::AllocateIdsRequest { count })
            }
            78..90 => admin.order(keys, keeps_disks),
            90..94 => {
                let states = [StoreState::Up, StoreState::Down, StoreState::Disconnected];
                let state = admin.dice.pick(&states).copied().unwrap_or_default();
                let store = if state == StoreState::Up { UNKNOWN } else { admin.any_store() };
                set_state(StoreId(store), state)
            }
            94..97 => self.lost_removal(),
            _ => self.registration(),
        }
    }

    /// The removal of a store whose disk has ended, as lost; of none if there is none.
    fn lost_removal(&mut self) -> Op {
        let store_id = self.ended().map_or(UNKNOWN, |store| store.0);
        let state = StoreState::Removed.into();
        Op::SetStoreState(proto::SetStoreStateRequest { store_id, state, is_lost: true })
    }

    fn ended(&self) -> Option<StoreId> {
        self.stores.values().find(|store| store.end.is_some()).map(|store| store.id)
    }

    /// The next step of the removal of a store, if one is due.
    fn removal_step(&mut self) -> Option<Op> {
        let drains_at = self.hub.scenario.admin.drains_at;
        let (now, cluster) = (self.hub.now(), &self.hub.scenario.cluster);
        let is_never_down = cluster.down_after_ms > NEVER_DOWN_MS;
        let admin = &mut self.admin;
        match admin.removal {
            Removal::Planned if drains_at > 0 && now >= drains_at => {
                let up = admin.stores.iter().filter(|(_, state)| **state == StoreState::Up);
                let up: Vec<StoreId> = up.map(|(store, _)| *store).collect();
                let is_one_spare = up.len() as u64 > cluster.replica_count;
                let chosen = admin.dice.pick(&up).copied().filter(|_| is_one_spare)?;
                Some(set_state(chosen, StoreState::Draining))
            }
            Removal::Draining(store) if now > drains_at + DRAINED_WITHIN => {
                Some(set_state(store, StoreState::Up))
            }
            // A store that holds peers is not removed, unless it is down.
            Removal::Draining(store) if is_never_down && admin.dice.chance(200) => {
                Some(set_state(store, StoreState::Removed))
            }
            Removal::Draining(_) if admin.dice.chance(500) => {
                Some(Op::Stores(proto::StoresRequest {}))
            }
            Removal::Emptied(store) => {
                admin.removal = Removal::Draining(store);
                Some(set_state(store, StoreState::Removed))
            }
            Removal::Planned | Removal::Draining(_) | Removal::Over => None,
        }
    }

    /// The registration of a store whose disk has ended, of one that never was, or of none.
    fn registration(&mut self) -> Op {
        let ended = self.ended();
        let (store_id, addr) = match self.admin.dice.between(0, 3) {
            0 => (UNKNOWN, "unknown:1"),
            1 => (ended.map_or(UNKNOWN, |store| store.0), "moved:1"),
            _ => (0, "no address"),
        };
        let (addr, labels) = (addr.to_string(), Default::default());
        Op::RegisterStore(proto::RegisterStoreRequest { store_id, addr, labels })
    }
}

impl SimAdmin {
    fn any_store(&mut self) -> u64 {
        let known: Vec<StoreId> = self.stores.keys().copied().collect();
        let known = self.dice.pick(&known).map(|store| store.0);
        known.filter(|_| self.dice.chance(850)).unwrap_or(UNKNOWN)
    }

    /// An order on a region. A peer is removed only if the seed keeps all disks: neither leader nor
    /// placement driver may know yet that another of the region's disks has ended.
    fn order(&mut self, keys: u16, keeps_disks: bool) -> Op {
        let (store, other) = (self.any_store(), self.any_store());
        let region = self.dice.pick(&self.regions).cloned();
        let region: Option<Region> = region.filter(|_| self.dice.chance(900));
        let held = region.iter().flat_map(|region| &region.members).map(|peer| peer.store_id.0);
        let held: Vec<u64> = held.collect();
        let from = self.dice.pick(&held).copied().filter(|_| self.dice.chance(800));
        let from = from.unwrap_or(store);
        let kind = match self.dice.between(0, 5) {
            0 => {
                let at = stored(self.dice.between(0, u64::from(keys)) as u16);
                let split_key = if self.dice.chance(700) { at } else { Bytes::new() };
                Order::Split(proto::SplitStep { split_key })
            }
            1 => Order::AddPeerStore(other),
            2 => Order::MovePeer(proto::MovePeer { from_store: from, to_store: other }),
            3 if keeps_disks => Order::RemovePeerStore(from),
            _ => Order::TransferLeaderStore(from),
        };
        let region_id = region.map_or(UNKNOWN, |region| region.id.0);
        Op::AddOperator(proto::AddOperatorRequest { region_id, kind: Some(kind) })
    }
}

fn page(dice: &mut Dice, keys: u16) -> proto::RegionsRequest {
    let is_whole = dice.chance(400);
    let key = stored(dice.between(0, u64::from(keys)) as u16);
    let start_key = if is_whole { Bytes::new() } else { key };
    let limit = if dice.chance(500) { 0 } else { dice.between(1, 6) };
    proto::RegionsRequest { start_key, limit }
}

fn set_state(store: StoreId, state: StoreState) -> Op {
    let (store_id, state) = (store.0, state.into());
    Op::SetStoreState(proto::SetStoreStateRequest { store_id, state, is_lost: false })
}
