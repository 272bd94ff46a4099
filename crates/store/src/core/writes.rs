//! The writes of one region that are under way, and the callers that wait for them.
//!
//! # A write, and what becomes of it when its leader is lost
//!
//! 1. The peer leads and the request fits the region: the write is queued until the end of the turn
//!    ([`Writes::queue`]).
//! 2. The end of the turn proposes all queued writes of the region's version in few entries
//!    ([`Writes::propose`]). The callers of an entry's writes wait at its position.
//! 3. The entry at that index is applied ([`Writes::answer`], called by
//!    [`super::peer::Peer::apply`]). If it has the same term, each caller gets the result of its
//!    write. If it has another term, the proposed entry was dropped from the log and will never
//!    take effect: NotLeader. Terms never fall along a log, so callers at earlier positions of
//!    other terms learn the same, and callers who wait for an earlier term at any position.
//! 4. The peer loses leadership ([`Writes::lose_leadership`]). Queued writes never reached the log:
//!    NotLeader. Proposed ones may still be committed by the next leader, so their callers wait on,
//!    and the first entry of the next leader's own term decides all of them (step 3).
//! 5. What is not decided within `orphaned_ms_max`, or by a caller's own deadline, is answered as
//!    Undetermined ([`Writes::expire`]): the entry may or may not take effect.
//! 6. The peer is removed, or a snapshot jumps over the entries ([`Writes::abandon`]): queued
//!    writes are refused, proposed ones are Undetermined.
//!
//! Every caller is answered exactly once, whichever step comes first.
//!
//! Which callers wait at which position is kept by [`Waiters`]. Not here: whether a peer leads, and
//! what an entry does to the state ([`super::apply`]).

use bytes::Bytes;
use flotilla_group::{Position, ProposeError};
use flotilla_host::core::waiting::{Decided, Waiters};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::wire::entry_bytes;
use flotilla_types::{
    Command, Epoch, Load, Millis, PeerId, Region, RegionError, RegionId, WriteOp,
};

use super::apply::WriteResult;
use super::limits::StoreLimits;
use super::{Answer, Output, RequestId};

/// When to come back after a refusal that passes by itself, such as a leadership transfer.
const RETRY_AFTER_MS: u64 = 10;

/// See the module's documentation.
pub struct Writes {
    bounds: Bounds,
    queued: Vec<QueuedWrite>,
    queued_bytes: usize,
    waiting: Waiters<Vec<Waiter>>,
    /// When leadership was lost while callers waited.
    orphaned_at: Option<Millis>,
}

/// Those of a store's limits that concern writes; see [`StoreLimits`].
#[derive(Clone, Copy)]
struct Bounds {
    entry_ops_max: usize,
    entry_bytes_target: usize,
    queued_bytes_max: usize,
    orphaned_ms_max: u64,
}

/// A write that waits for the end of the turn.
pub struct QueuedWrite {
    waiter: Waiter,
    epoch: Epoch,
    op: WriteOp,
}

impl QueuedWrite {
    /// A write, routed by `epoch`, that `id` waits for until `deadline`.
    pub fn new(id: RequestId, deadline: Millis, epoch: Epoch, op: WriteOp) -> QueuedWrite {
        let bytes = entry_bytes(&op);
        QueuedWrite { waiter: Waiter { id: Some(id), deadline, bytes }, epoch, op }
    }
}

/// The caller of a write. A caller that was answered early keeps its place among its entry's
/// writes.
struct Waiter {
    id: Option<RequestId>,
    deadline: Millis,
    /// Of the write, in the log.
    bytes: usize,
}

impl Waiter {
    fn reply(&mut self, result: WriteResult, out: &mut Vec<Output>) {
        if let Some(id) = self.id.take() {
            out.push(Output::Reply { id, result });
        }
    }

    fn fail(&mut self, error: &RegionError, out: &mut Vec<Output>) {
        self.reply(Err(error.clone()), out);
    }
}

fn fail(waiters: impl IntoIterator<Item = Waiter>, error: &RegionError, out: &mut Vec<Output>) {
    for mut waiter in waiters {
        waiter.fail(error, out);
    }
}

impl Writes {
    /// No writes yet.
    pub fn new(limits: &StoreLimits) -> Writes {
        let bounds = Bounds {
            entry_ops_max: limits.entry_ops_max,
            entry_bytes_target: limits.entry_bytes_target,
            queued_bytes_max: limits.queued_bytes_max,
            orphaned_ms_max: limits.orphaned_ms_max,
        };
        let (queued, waiting) = (vec![], Waiters::default());
        Writes { bounds, queued, queued_bytes: 0, waiting, orphaned_at: None }
    }

    /// True if no caller waits for an answer.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.waiting.is_empty()
    }

    /// True if the end of the turn has writes to propose.
    pub fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// How many writes are queued, and their bytes. Walks the queue.
    pub fn queued(&self) -> (usize, usize) {
        (self.queued.len(), self.queued.iter().map(|write| write.waiter.bytes).sum())
    }

    /// Step 1: queues a write until the end of the turn, or refuses it as ServerBusy.
    pub fn queue(&mut self, region: RegionId, mut write: QueuedWrite, out: &mut Vec<Output>) {
        let mut bytes = self.queued_bytes + write.waiter.bytes;
        if planted(Mutant::QueueUncounted) {
            bytes = 0;
        }
        if bytes > self.bounds.queued_bytes_max && !self.queued.is_empty() {
            let reason = format!("region {region} has too many writes under way");
            let error = RegionError::ServerBusy { reason, retry_after_ms: RETRY_AFTER_MS };
            write.waiter.fail(&error, out);
            return;
        }
        self.queued_bytes = bytes;
        self.queued.push(write);
    }

    /// Step 2: proposes what was queued in this turn, in as few entries as their bounds allow.
    pub fn propose(
        &mut self,
        region: &Region,
        propose: &mut dyn FnMut(Bytes) -> Result<Position, ProposeError>,
        out: &mut Vec<Output>,
    ) {
        self.queued_bytes = 0;
        let mut entry: Vec<QueuedWrite> = vec![];
        let mut entry_bytes = 0;
        for mut write in std::mem::take(&mut self.queued) {
            if write.epoch.version != region.epoch.version {
                let error = RegionError::EpochNotMatch { current: vec![region.clone()] };
                write.waiter.fail(&error, out);
                continue;
            }
            let Bounds { entry_bytes_target, entry_ops_max, .. } = self.bounds;
            let is_full = entry_bytes + write.waiter.bytes > entry_bytes_target
                || entry.len() >= entry_ops_max;
            if is_full && !entry.is_empty() {
                let full = std::mem::take(&mut entry);
                self.propose_entry(region, full, propose, out);
                entry_bytes = 0;
                if planted(Mutant::FullEntryDropsWrite) {
                    continue;
                }
            }
            entry_bytes += write.waiter.bytes;
            entry.push(write);
        }
        if !entry.is_empty() {
            self.propose_entry(region, entry, propose, out);
        }
    }

    fn propose_entry(
        &mut self,
        region: &Region,
        writes: Vec<QueuedWrite>,
        propose: &mut dyn FnMut(Bytes) -> Result<Position, ProposeError>,
        out: &mut Vec<Output>,
    ) {
        let (waiters, ops) = writes.into_iter().map(|write| (write.waiter, write.op)).unzip();
        let version = region.epoch.version;
        let mut waiters: Vec<Waiter> = waiters;
        if planted(Mutant::AckAtPropose) {
            waiters.iter_mut().for_each(|waiter| waiter.reply(Ok(Answer::Written), out));
        }
        match propose(Command::Write { version, ops }.encode()) {
            Ok(position) => {
                self.waiting.insert(position, waiters);
            }
            Err(refused) => fail(waiters, &refusal(region, refused), out),
        }
    }

    /// Step 3: the entry at `position` is applied, and `results` has one result for each of its
    /// writes. `not_leader` answers callers whose entry was dropped. Returns what callers were told
    /// is done.
    pub fn answer(
        &mut self,
        position: Position,
        mut results: Vec<WriteResult>,
        not_leader: &RegionError,
        out: &mut Vec<Output>,
    ) -> Load {
        if planted(Mutant::ResultsRotated) && !results.is_empty() {
            results.rotate_left(1);
        }
        let Decided { applied, dropped } = self.waiting.applied(position);
        fail(dropped.into_iter().flatten(), not_leader, out);
        let mut done = Load::default();
        if let Some(waiters) = applied {
            assert_eq!(waiters.len(), results.len(), "one result for each write at {position:?}");
            for (mut waiter, result) in waiters.into_iter().zip(results) {
                if waiter.id.is_some() && result.is_ok() {
                    done.writes += 1;
                    done.written_bytes += waiter.bytes as u64;
                }
                waiter.reply(result, out);
            }
        }
        done
    }

    /// Step 4: the peer leads no more.
    pub fn lose_leadership(
        &mut self,
        now: Millis,
        not_leader: &RegionError,
        out: &mut Vec<Output>,
    ) {
        self.refuse_queued(not_leader, out);
        if planted(Mutant::OrphansForgotten) {
            self.waiting = Waiters::default();
        }
        self.orphaned_at = Some(now);
    }

    /// The peer leads: what waits is decided by its own log.
    pub fn gain_leadership(&mut self) {
        self.orphaned_at = None;
    }

    /// Step 5: answers callers whose time is over with `undetermined`.
    pub fn expire(&mut self, now: Millis, undetermined: &RegionError, out: &mut Vec<Output>) {
        let orphaned_ms_max = self.bounds.orphaned_ms_max;
        let is_orphaned = self.orphaned_at.is_some_and(|at| now.since(at) >= orphaned_ms_max);
        for waiter in self.waiting.iter_mut().flatten() {
            if is_orphaned || is_over(waiter.deadline, now) {
                waiter.fail(undetermined, out);
            }
        }
        if is_orphaned {
            self.waiting = Waiters::default();
            self.orphaned_at = None;
        }
    }

    /// Step 6: the peer is removed, or its state jumps over the entries that callers wait for.
    pub fn abandon(&mut self, region_id: RegionId, out: &mut Vec<Output>) {
        self.refuse_queued(&RegionError::RegionNotFound { region_id }, out);
        let undecided = self.waiting.take_all().into_iter().flatten();
        fail(undecided, &RegionError::Undetermined { region_id }, out);
    }

    fn refuse_queued(&mut self, error: &RegionError, out: &mut Vec<Output>) {
        let queued = std::mem::take(&mut self.queued);
        self.queued_bytes = 0;
        fail(queued.into_iter().map(|write| write.waiter), error, out);
    }

    /// Asserts that no caller waits for an applied entry: applying an entry decides its writes.
    pub fn check(&self, region: RegionId, applied: u64) {
        if let Some(first) = self.waiting.first() {
            assert!(first.index > applied, "region {region}: {first:?} waits, applied {applied}");
        }
    }
}

fn is_over(deadline: Millis, now: Millis) -> bool {
    if planted(Mutant::DeadlineIgnored) {
        return false;
    }
    now >= deadline
}

fn refusal(region: &Region, refused: ProposeError) -> RegionError {
    match refused {
        ProposeError::NotLeader { leader } => {
            let leader = region.member(PeerId(leader)).copied();
            RegionError::NotLeader { region_id: region.id, leader }
        }
        ProposeError::Busy => RegionError::ServerBusy {
            reason: format!("region {} takes no writes at the moment", region.id),
            retry_after_ms: RETRY_AFTER_MS,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: RegionId = RegionId(7);
    const NOT_LEADER: RegionError = RegionError::NotLeader { region_id: REGION, leader: None };
    const UNKNOWN: RegionError = RegionError::Undetermined { region_id: REGION };

    fn region() -> Region {
        Region { id: REGION, epoch: Epoch { conf_ver: 1, version: 4 }, ..Region::default() }
    }

    fn write(id: u64, version: u64) -> QueuedWrite {
        let op = WriteOp::Mutate(vec![]);
        let epoch = Epoch { conf_ver: 1, version };
        QueuedWrite::new(RequestId(id), Millis(1_000 * id), epoch, op)
    }

    fn no_writes() -> Writes {
        Writes::new(&StoreLimits::default())
    }

    /// Writes 1 and 2 wait at (11, 3), in one entry.
    fn proposed() -> Writes {
        let (mut writes, mut out) = (no_writes(), vec![]);
        writes.queue(REGION, write(1, 4), &mut out);
        writes.queue(REGION, write(2, 4), &mut out);
        writes.propose(&region(), &mut |_| Ok(Position { index: 11, term: 3 }), &mut out);
        assert_eq!(out, vec![]);
        writes
    }

    fn reply(id: u64, result: WriteResult) -> Output {
        Output::Reply { id: RequestId(id), result }
    }

    #[test]
    fn the_entry_of_the_same_term_answers_each_caller_with_its_result() {
        let (mut writes, mut out) = (proposed(), vec![]);
        let results = vec![Ok(Answer::Written), Err(NOT_LEADER)];
        writes.answer(Position { index: 11, term: 3 }, results, &NOT_LEADER, &mut out);
        assert_eq!(out, vec![reply(1, Ok(Answer::Written)), reply(2, Err(NOT_LEADER))]);
        assert!(writes.is_empty());
    }

    #[test]
    fn an_entry_of_another_term_or_a_later_index_means_that_the_write_was_dropped() {
        for position in [Position { index: 11, term: 4 }, Position { index: 12, term: 4 }] {
            let (mut writes, mut out) = (proposed(), vec![]);
            writes.answer(position, vec![], &NOT_LEADER, &mut out);
            assert_eq!(out, [1, 2].map(|id| reply(id, Err(NOT_LEADER))).to_vec());
        }
    }

    #[test]
    fn a_lost_leadership_refuses_what_is_queued_and_leaves_undetermined_what_is_not_decided() {
        let (mut writes, mut out) = (proposed(), vec![]);
        writes.queue(REGION, write(9, 4), &mut out);
        writes.lose_leadership(Millis(100), &NOT_LEADER, &mut out);
        assert_eq!(std::mem::take(&mut out), vec![reply(9, Err(NOT_LEADER))]);
        writes.expire(Millis(1_000), &UNKNOWN, &mut out);
        assert_eq!(std::mem::take(&mut out), vec![reply(1, Err(UNKNOWN))], "its own deadline");
        writes.expire(Millis(2_600), &UNKNOWN, &mut out);
        assert_eq!(std::mem::take(&mut out), vec![reply(2, Err(UNKNOWN))], "no entry decided it");
        writes.answer(Position { index: 11, term: 3 }, vec![], &NOT_LEADER, &mut out);
        assert_eq!(out, vec![], "each caller is answered once");
    }

    #[test]
    fn a_write_of_another_version_is_refused_before_it_is_proposed() {
        let (mut writes, mut out) = (no_writes(), vec![]);
        writes.queue(REGION, write(1, 3), &mut out);
        writes.propose(&region(), &mut |_| panic!("nothing to propose"), &mut out);
        assert_eq!(
            out,
            vec![reply(1, Err(RegionError::EpochNotMatch { current: vec![region()] }))]
        );
    }

    #[test]
    fn a_removed_peer_answers_every_caller() {
        let (mut writes, mut out) = (proposed(), vec![]);
        writes.queue(REGION, write(9, 4), &mut out);
        writes.abandon(REGION, &mut out);
        let not_found = RegionError::RegionNotFound { region_id: REGION };
        let undetermined = [1, 2].map(|id| reply(id, Err(UNKNOWN)));
        assert_eq!(out[0], reply(9, Err(not_found)));
        assert_eq!(out[1..], undetermined);
    }
}
