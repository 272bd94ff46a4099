//! Faults of disks: slow disks, failing disks, full disks, and disks that end for good (lost or
//! damaged). A store whose disk has ended is replaced by an empty store.

use flotilla_types::{RangeMap, StoreId, proto};
use proto::pd_reply::Result as Answer;

use crate::check::{Verdict, Violation};
use crate::event::{Event, Relief};
use crate::scenario::Act;
use crate::seed::are_expendable;
use crate::store::DiskEnd;
use crate::store::base::BaseFault;
use crate::store::disk::{LogFault, Loss};
use crate::time::MS;
use crate::world::World;

/// The placement driver's name for the removal of a peer that an administrator ordered.
const ADMIN_REMOVAL: &str = "admin remove-peer";

impl World {
    pub(super) fn stall(&mut self) -> bool {
        self.hub.stall_max = self.hub.dice.acts.between(10 * MS, 700 * MS);
        let time = self.fault_time();
        self.hub.agenda.after(time, Event::Relief(Relief::Disks));
        true
    }

    /// Makes the next write or sync of a store fail.
    pub(super) fn fail_disk(&mut self, act: Act) -> bool {
        let (is_sync, victim) = (self.hub.dice.acts.chance(500), self.any_store());
        if let Some(node) = self.hit_pd() {
            node.fail_next(act == Act::LogError, is_sync);
            return true;
        }
        let store = victim.and_then(|id| self.stores.get_mut(&id));
        let Some(store) = store else { return false };
        if act == Act::LogError {
            store.disk.fail_next(if is_sync { LogFault::Sync } else { LogFault::Write });
        } else {
            let fault = if is_sync { BaseFault::Unsure } else { BaseFault::Refused };
            store.disk.base.fail_next(fault);
        }
        true
    }

    /// Leaves a store's disk without room for a while.
    pub(super) fn fill_disk(&mut self) -> bool {
        let Some(victim) = self.any_store() else { return false };
        let time = self.fault_time();
        if let Some(node) = self.hit_pd() {
            node.set_full(true);
            self.hub.agenda.after(time, Event::Relief(Relief::PdRoom));
            return true;
        }
        let Some(store) = self.stores.get_mut(&victim) else { return false };
        store.disk.set_full(true);
        self.hub.agenda.after(time, Event::Relief(Relief::Room(victim)));
        true
    }

    pub(super) fn free_disk(&mut self, store: StoreId) {
        if let Some(store) = self.stores.get_mut(&store) {
            store.disk.set_full(false);
        }
    }

    /// Ends a disk for good, if no region needs the disk and no region is still being repaired
    /// after the end of another. An empty store takes the place of the disk's store.
    pub(super) fn end_disk(&mut self, end: DiskEnd) -> Result<bool, Violation> {
        if self.pd.regions().is_none_or(RangeMap::is_empty) {
            // The cluster is never begun anew: a majority of the first region's stores must come,
            // and one that crashed before its peer was durable shows no sign of having been chosen.
            return Ok(false);
        }
        let mut ids: Vec<StoreId> = self.stores.keys().copied().collect();
        self.hub.dice.acts.shuffle(&mut ids);
        let id = ids.into_iter().find(|id| are_expendable(self, &[*id]));
        let Some(id) = id else { return Ok(false) };
        if self.has_removal()? {
            return Ok(false);
        }
        self.nemesis.last_end = Some(self.hub.now());
        let down = self.fault_time();
        if let Some(store) = self.stores.get_mut(&id) {
            store.end(&mut self.hub, end, down)?;
        }
        let delay = self.fault_time();
        self.hub.agenda.after(delay, Event::Relief(Relief::Replacement));
        Ok(true)
    }

    /// Cuts the power of all stores. One disk is lost as well, if no region needs it.
    pub(super) fn cut_power(&mut self) -> Result<bool, Violation> {
        self.end_disk(DiskEnd::Lost)?;
        for id in self.stores.keys().copied().collect::<Vec<_>>() {
            let down = self.fault_time();
            self.crash_store(id, Loss::All, down)?;
        }
        Ok(true)
    }

    /// True if the placement driver carries out an administrator's removal, or does not answer. The
    /// placement driver keeps a live majority only as far as it knows which stores live, so the
    /// removal and the end of a store together may cost the quorum.
    pub(crate) fn has_removal(&mut self) -> Result<bool, Violation> {
        let op = proto::pd_request::Op::Operators(proto::OperatorsRequest {});
        let reply = self.ask_leader(op)?.and_then(|reply| reply.result);
        let Some(Answer::Operators(reply)) = reply else { return Ok(true) };
        Ok(reply.operators.iter().any(|operator| operator.kind == ADMIN_REMOVAL))
    }

    /// Registers an empty store, now or, by `again`, as soon as the placement driver answers.
    /// `counter` counts such stores.
    pub(super) fn add_another(&mut self, counter: &'static str, again: Relief) -> Verdict {
        let number = self.next_store;
        self.next_store += 1;
        if self.add_store(number)? {
            self.hub.coverage.hit(counter);
        } else {
            if self.next_store == number + 1 {
                self.next_store = number;
            }
            self.hub.agenda.after(500 * MS, Event::Relief(again));
        }
        Ok(())
    }
}
