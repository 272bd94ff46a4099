//! Orders that an administrator or an unlucky placement driver may give: leaderships transferred,
//! regions split, peers moved and removed, stores drained.

use flotilla_types::{Region, RegionId, StoreId, proto};
use proto::add_operator_request::Kind as Operator;

use super::NEMESIS;
use crate::check::Verdict;
use crate::event::{Asker, Event, Relief};
use crate::scenario::Act;
use crate::store::orders::Orders;
use crate::time::{MS, Micros};
use crate::world::World;

/// How long the end of a store may go unnoticed: a message from before may be delayed for as long
/// as a fault lasts, and a leader takes a member for alive for a second after its last message. To
/// remove another voter in this time may cost the quorum, and neither leader nor placement driver
/// could know.
const UNNOTICED_MAX: Micros = 10_000 * MS;

impl World {
    pub(super) fn ask_pd(&mut self, op: proto::pd_request::Op) {
        let request = proto::PdRequest { cluster_id: 0, op: Some(op) };
        self.nemesis.requests += 1;
        let asker = Asker::Nemesis { number: self.nemesis.requests };
        self.hub.ask_pd(NEMESIS, asker, request);
    }

    pub(super) fn ask_operator(&mut self, act: Act) -> bool {
        let removes = matches!(act, Act::RemovePeer | Act::RemoveHeir);
        let is_unnoticed =
            self.nemesis.last_end.is_some_and(|end| self.hub.now() < end + UNNOTICED_MAX);
        if removes && is_unnoticed {
            return false;
        }
        let regions: Vec<Region> =
            self.pd.regions().map(|map| map.iter().cloned().collect()).unwrap_or_default();
        let Some(region) = self.hub.dice.acts.pick(&regions).cloned() else { return false };
        let Some(kind) = self.operator(act, &region) else { return false };
        if act == Act::RemoveHeir {
            self.transfer_to_removed(&region);
        }
        self.order(region.id, kind);
        true
    }

    /// Orders an operator on the region.
    pub(super) fn order(&mut self, region: RegionId, kind: Operator) {
        let request = proto::AddOperatorRequest { region_id: region.0, kind: Some(kind) };
        self.ask_pd(proto::pd_request::Op::AddOperator(request));
    }

    fn has_two_keys(&self, region: &Region) -> bool {
        let mut keys = (0..self.hub.scenario.clients.keys).map(crate::client::work::stored);
        keys.by_ref().any(|key| region.range.contains(&key))
            && keys.any(|key| region.range.contains(&key))
    }

    /// Makes the region's leader transfer its leadership to the peer that it is ordered to remove.
    fn transfer_to_removed(&mut self, region: &Region) {
        for process in self.stores.values_mut().filter_map(|store| store.process.as_mut()) {
            if process.leads(region.id) {
                process.waiting_orders.hands_on_to_removed = true;
            }
        }
    }

    pub(super) fn operator(&mut self, act: Act, region: &Region) -> Option<Operator> {
        let held: Vec<StoreId> = region.members.iter().map(|peer| peer.store_id).collect();
        let free: Vec<StoreId> =
            self.stores.keys().copied().filter(|store| !held.contains(store)).collect();
        let from = self.hub.dice.acts.pick(&held)?.0;
        match act {
            Act::Transfer => Some(Operator::TransferLeaderStore(from)),
            Act::RemovePeer | Act::RemoveHeir => Some(Operator::RemovePeerStore(from)),
            Act::MovePeer => {
                let to_store = self.hub.dice.acts.pick(&free)?.0;
                Some(Operator::MovePeer(proto::MovePeer { from_store: from, to_store }))
            }
            _ => {
                let key =
                    self.hub.dice.acts.between(0, u64::from(self.hub.scenario.clients.keys)) as u16;
                let at = crate::client::work::stored(key);
                let is_exact = region.range.contains(&at) && self.hub.dice.acts.chance(500);
                let split_key = if is_exact { at } else { bytes::Bytes::new() };
                // An order that can never be carried out would hold up repair for ten minutes.
                if !self.has_two_keys(region) {
                    return None;
                }
                Some(Operator::Split(proto::SplitStep { split_key }))
            }
        }
    }

    /// Transfers a store's leaderships and, in the same moment or a little later, cuts off what
    /// other stores send to the store. The old leader cannot know whether its leadership was taken
    /// over; its clients go on reading at the old leader, and if `is_watched` is true some clients
    /// stick to it.
    pub(super) fn transfer_away(&mut self, is_watched: bool) -> bool {
        let Some(victim) = self.victim() else { return false };
        let deaf = self.links_of(victim, false);
        let time = self.fault_time();
        let process = self.stores.get_mut(&victim).and_then(|store| store.process.as_mut());
        let Some(process) = process else { return false };
        process.waiting_orders.orders = Some(Orders { deaf, time, is_watched });
        true
    }

    pub(super) fn drain(&mut self) -> bool {
        let Some(victim) = self.any_store() else { return false };
        self.set_state(victim, proto::StoreState::Draining);
        let time = 4 * self.fault_time();
        self.hub.agenda.after(time, Event::Relief(Relief::Undrain(victim)));
        true
    }

    /// Sets every store whose disk has not ended to up. The placement driver is asked directly,
    /// because the network may still carry an order to drain a store, or lose a request with a
    /// connection that is not up again yet.
    pub(crate) fn set_all_up(&mut self) -> Verdict {
        let ids = self.stores.values().filter(|store| store.end.is_none()).map(|store| store.id);
        for id in ids.collect::<Vec<StoreId>>() {
            let state = proto::StoreState::Up.into();
            let request = proto::SetStoreStateRequest { store_id: id.0, state, is_lost: false };
            self.ask_leader(proto::pd_request::Op::SetStoreState(request))?;
        }
        Ok(())
    }

    pub(super) fn set_state(&mut self, store: StoreId, state: proto::StoreState) {
        let (store_id, state) = (store.0, state.into());
        let request = proto::SetStoreStateRequest { store_id, state, is_lost: false };
        self.ask_pd(proto::pd_request::Op::SetStoreState(request));
    }
}
