//! A split that a follower applies late, when the right part's peer on its store is already gone.
//!
//! 1. Everything that other stores send to a follower's store is held up, and the region is ordered
//!    to be split.
//! 2. Once the split is applied elsewhere, the right part's peer is ordered from that store to
//!    another, and soon back.
//! 3. What was held up arrives: the follower applies a split whose right part must not live there,
//!    or lives there under a later peer id already.

use flotilla_types::{Region, StoreId, proto};
use proto::add_operator_request::Kind as Operator;

use crate::event::{Event, Relief};
use crate::scenario::Act;
use crate::time::{MS, Micros};
use crate::world::World;

/// How long what is sent to the follower's store is held up.
const HELD: (Micros, Micros) = (2_500 * MS, 6_000 * MS);

/// The time from one order to the next.
const STEP: Micros = 700 * MS;

/// The orders that follow the split: away, away once more if the first was too early, and back.
const ORDERS: u32 = 3;

impl World {
    /// Step 1.
    pub(super) fn split_late(&mut self) -> bool {
        let Some((region, leader)) = self.some_leader() else { return false };
        let followers = self.other_voters(region, leader);
        let Some(follower) = self.hub.dice.acts.pick(&followers).copied() else { return false };
        let Some(known) = self.pd.regions().and_then(|map| map.region(region)).cloned() else {
            return false;
        };
        let Some(split) = self.operator(Act::Split, &known) else { return false };
        let time = self.hub.dice.acts.between(HELD.0, HELD.1);
        let links = self.links_of(follower, false);
        self.hub.net.clog(&links, self.hub.now() + time);
        self.order(region, split);
        self.plan_late_split((known.range.end, follower), ORDERS);
        true
    }

    /// Step 2: orders the peer of the region that now ends at `end` away from the store, or back.
    pub(super) fn go_on_with_late_split(
        &mut self,
        (end, store): (bytes::Bytes, StoreId),
        orders_left: u32,
    ) {
        let ends_there = |region: &&Region| region.range.end == end;
        let right = self.pd.regions().and_then(|map| map.iter().find(ends_there)).cloned();
        if let Some(right) = right.filter(|_| !self.nemesis.is_over) {
            self.order_away_or_back(&right, store);
        }
        if orders_left > 1 {
            self.plan_late_split((end, store), orders_left - 1);
        }
    }

    fn plan_late_split(&mut self, (end, store): (bytes::Bytes, StoreId), orders_left: u32) {
        self.hub.agenda.after(STEP, Event::Relief(Relief::LateSplit { end, store, orders_left }));
    }

    fn order_away_or_back(&mut self, region: &Region, store: StoreId) {
        let held: Vec<StoreId> = region.members.iter().map(|member| member.store_id).collect();
        let (from, to) = if held.contains(&store) {
            let free: Vec<StoreId> =
                self.stores.keys().copied().filter(|other| !held.contains(other)).collect();
            (Some(store), self.hub.dice.acts.pick(&free).copied())
        } else {
            self.hub.coverage.hit("right parts gone before their split was applied");
            (self.hub.dice.acts.pick(&held).copied(), Some(store))
        };
        if let (Some(from), Some(to)) = (from, to) {
            let (from_store, to_store) = (from.0, to.0);
            self.order(region.id, Operator::MovePeer(proto::MovePeer { from_store, to_store }));
        }
    }
}
