//! Read permits: lease reads that are answered away from the worker, on any thread.
//!
//! For each region that it leads, the worker publishes a `Permit`: until when the lease holds,
//! for which version of the region, and for which keys. It does so at the end of each peer's part
//! of a turn, and takes back there what [`flotilla_group::Group::lease_holds`] does not grant any
//! more. A read is answered under such a permit in three steps, or left to the worker:
//! [`ReadPermits::begin`] looks the permit up, [`ReadPermits::read`] reads the state, and
//! [`Reading::finish`] looks again. [`ReadPermits::serve`] takes the steps one after another.
//!
//! # Why such a read is linearizable
//!
//! A read looks the permit up, reads the state at some moment `R`, and then looks again: the permit
//! must not have been taken back and the lease must not have ended *after* the read. So at `R`
//!
//! * **no other peer leads.** The lease held at `R`, by the clock that it was anchored with. What
//!   ends it early (a transfer) or takes the keys away (a split, a removal) does so by a message or
//!   a state change that the worker lets out only after it has taken the permit back.
//! * **everything that was acknowledged is in the state.** What this leader acknowledged was
//!   written to the state before its reply left. What leaders before it acknowledged precedes their
//!   successor's first entry, which was applied when the permit was published. The second holds of
//!   a split, too: it was applied before any client or peer could learn from this leader that it
//!   is committed, for messages leave at the end of a turn, and the permit of the old version is
//!   taken back within it.
//! * **the state holds what the permit says.** A peer's rows are dropped only after its permit was
//!   taken back. A read that did not find them took the state's lock after the worker released it,
//!   so its second look finds the permit taken back, and the read goes to the worker.
//!
//! Several keys are read as of one moment, and a batch of writes becomes visible at one moment;
//! both are [`StateStore`]'s promise. A write that a read may see before the writer is answered is
//! committed, so it stays.
//!
//! A read marks the permit that it used. With the last tick before the lease could end, the worker
//! renews the lease of a region whose permit was used: the question takes the place of that tick's
//! heartbeats, and of the next one's. So a region that is read costs no more messages than one that
//! is not, and its reads never wait for a round.
//!
//! A chunk of a scan is such a read, too: it is of one moment as well.
//!
//! Not here: which thread reads. A read that waits for the disk keeps its thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use flotilla_engine::StateStore;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{KeyRange, Millis, Region, RegionError, RegionId};

use super::load::RegionCounts;
use super::read;
use super::{Answer, Op, Request};

/// What the worker allows readers to do without it.
#[derive(Debug)]
pub(crate) struct Permit {
    region: RegionId,
    version: u64,
    range: KeyRange,
    until: Millis,
    is_used: AtomicBool,
    is_revoked: AtomicBool,
    counts: Arc<RegionCounts>,
}

impl Permit {
    /// A permit for the region as it is now. `until` is when the lease ends.
    pub(crate) fn new(region: &Region, until: Millis, counts: Arc<RegionCounts>) -> Arc<Permit> {
        Arc::new(Permit {
            region: region.id,
            version: region.epoch.version,
            range: region.range.clone(),
            until,
            is_used: AtomicBool::new(false),
            is_revoked: AtomicBool::new(false),
            counts,
        })
    }

    /// True if it says what a new one would say. A region's range changes only with its version.
    pub(super) fn is_for(&self, version: u64, until: Millis) -> bool {
        self.version == version && self.until == until
    }

    /// True if it grants no more than `region` and a lease until then allow.
    pub(super) fn is_within(&self, region: &Region, until: Millis) -> bool {
        self.version == region.epoch.version && self.range == region.range && self.until <= until
    }

    fn is_good(&self, now: Millis) -> bool {
        now < self.until && !self.is_revoked.load(Ordering::SeqCst)
    }

    /// A read was served under the lease that the permit stands for.
    pub(super) fn note_use(&self) {
        // Looked at first: a store would take the line from all other readers.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// True if a read was served under the lease that the permit stands for.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }
}

/// The permits of one store. The worker writes them, any thread reads under them.
pub struct ReadPermits {
    state: Arc<StateStore>,
    reply_bytes_max: usize,
    permits: RwLock<BTreeMap<RegionId, Arc<Permit>>>,
}

impl ReadPermits {
    pub(crate) fn new(state: Arc<StateStore>, reply_bytes_max: usize) -> ReadPermits {
        ReadPermits { state, reply_bytes_max, permits: RwLock::default() }
    }

    /// Answers a read under the region's permit. None leaves it to the worker: it is no such read,
    /// there is no permit for it, the lease has ended, or the disk failed, which the worker is to
    /// find out. `clock` is the worker's.
    pub fn serve(
        &self,
        request: &Request,
        clock: &dyn Fn() -> Millis,
    ) -> Option<Result<Answer, RegionError>> {
        let mut reading = self.begin(request, clock())?;
        self.read(&mut reading, request);
        reading.finish(clock())
    }

    /// Looks the region's permit up. None leaves the read to the worker, as in
    /// [`ReadPermits::serve`]. `now` is the present by the worker's clock.
    pub fn begin(&self, request: &Request, now: Millis) -> Option<Reading> {
        let permit = self.permit(request.region)?;
        let range = &permit.range;
        let is_inside = match &request.op {
            Op::Get(keys) => keys.iter().all(|key| range.contains(key)),
            Op::Scan(scan) => range.covers(&scan.range),
            Op::Write(_) => false,
        };
        if !is_inside || permit.version != request.epoch.version || !permit.is_good(now) {
            return None;
        }
        permit.note_use();
        Some(Reading { permit, begun: now, answer: None })
    }

    /// Reads the state for the request with which the reading began. What the disk refuses is left
    /// to the worker.
    pub fn read(&self, reading: &mut Reading, request: &Request) {
        reading.answer = read::serve(&self.state, &request.op, self.reply_bytes_max).ok();
    }

    /// Reads as [`ReadPermits::read`] does if the disk is not needed for it, and nothing otherwise:
    /// for a thread that must not wait.
    pub fn read_buffered(&self, reading: &mut Reading, request: &Request) {
        let Op::Get(keys) = &request.op else { return };
        let found = read::get_buffered(&self.state, keys, self.reply_bytes_max);
        reading.answer = found.and_then(Result::ok);
    }

    fn permit(&self, region: RegionId) -> Option<Arc<Permit>> {
        let permits = self.permits.read().unwrap_or_else(PoisonError::into_inner);
        permits.get(&region).cloned()
    }

    /// Puts a permit in the place of the region's earlier one. That one is taken back even if this
    /// one says more, for later only this one can be taken back.
    pub(crate) fn publish(&self, permit: Arc<Permit>) {
        let mut permits = self.permits.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = permits.insert(permit.region, permit) {
            if planted(Mutant::PermitReplaced) {
                return;
            }
            earlier.is_revoked.store(true, Ordering::SeqCst);
        }
    }

    /// Takes a permit back: a read under it that has not ended yet goes to the worker.
    pub(super) fn revoke(&self, permit: &Permit) {
        if !planted(Mutant::PermitUnmarked) {
            permit.is_revoked.store(true, Ordering::SeqCst);
        }
        let mut permits = self.permits.write().unwrap_or_else(PoisonError::into_inner);
        permits.remove(&permit.region);
    }

    /// Takes all permits back.
    pub(super) fn revoke_all(&self) {
        let mut permits = self.permits.write().unwrap_or_else(PoisonError::into_inner);
        for permit in std::mem::take(&mut *permits).values() {
            permit.is_revoked.store(true, Ordering::SeqCst);
        }
    }
}

/// A read under a permit that has not ended.
#[derive(Debug)]
pub struct Reading {
    permit: Arc<Permit>,
    begun: Millis,
    answer: Option<Result<Answer, RegionError>>,
}

impl Reading {
    /// The answer; None leaves the read to the worker: the permit was taken back or has ended, or
    /// nothing was read. `now` is the present by the worker's clock.
    pub fn finish(self, now: Millis) -> Option<Result<Answer, RegionError>> {
        let Reading { permit, begun, answer } = self;
        let is_scan = matches!(answer, Some(Ok(Answer::Scan { .. })));
        let looks_once =
            planted(Mutant::PermitLooksOnce) || (is_scan && planted(Mutant::ScanLooksOnce));
        let is_good = if looks_once {
            true
        } else if planted(Mutant::PermitLooksBack) {
            permit.is_good(begun)
        } else {
            permit.is_good(now)
        };
        let result = answer.filter(|_| is_good)?;
        permit.counts.add_permitted(&result);
        Some(result)
    }

    /// What was read, before the second look.
    pub fn answer(&self) -> Option<&Result<Answer, RegionError>> {
        self.answer.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;
    use flotilla_engine::StateBatch;
    use flotilla_types::Epoch;

    use super::super::records::{data_key, encode_value};
    use super::super::{RequestId, ScanOp};
    use super::*;

    const UNTIL: Millis = Millis(1_000);

    fn region() -> Region {
        let epoch = Epoch { conf_ver: 1, version: 4 };
        Region { id: RegionId(7), range: KeyRange::new("b", "m"), epoch, members: vec![] }
    }

    fn permits() -> (ReadPermits, Arc<Permit>) {
        let state = StateStore::in_memory();
        let mut batch = StateBatch::default();
        batch.put(data_key(b"c"), encode_value(b"1"));
        state.write(batch).expect("in memory");
        let permits = ReadPermits::new(Arc::new(state), usize::MAX);
        let permit = Permit::new(&region(), UNTIL, Arc::default());
        permits.publish(permit.clone());
        (permits, permit)
    }

    fn get(version: u64, keys: &[&'static str]) -> Request {
        Request {
            id: RequestId(0),
            region: RegionId(7),
            epoch: Epoch { conf_ver: 1, version },
            deadline: Millis(u64::MAX),
            op: Op::Get(keys.iter().map(|key| Bytes::from(*key)).collect()),
        }
    }

    /// What a read at `first` answers that ends at `last`.
    fn read(permits: &ReadPermits, request: &Request, first: u64, last: u64) -> Option<Answer> {
        let times = Cell::new(first);
        let clock = || Millis(times.replace(last));
        permits.serve(request, &clock).map(|result| result.expect("no limit is exceeded"))
    }

    #[test]
    fn a_read_is_answered_under_a_permit_for_its_version_and_keys_only() {
        let (permits, _) = permits();
        let values = Answer::Get(vec![Some("1".into()), None]);
        assert_eq!(read(&permits, &get(4, &["c", "d"]), 500, 500), Some(values));
        assert_eq!(read(&permits, &get(3, &["c"]), 500, 500), None, "an older version");
        assert_eq!(read(&permits, &get(5, &["c"]), 500, 500), None, "a newer version");
        assert_eq!(read(&permits, &get(4, &["c", "m"]), 500, 500), None, "outside");
        let other = Request { region: RegionId(8), ..get(4, &["c"]) };
        assert_eq!(read(&permits, &other, 500, 500), None, "another region");
    }

    #[test]
    fn a_scan_is_read_under_a_permit_for_the_whole_of_its_range() {
        let (permits, _) = permits();
        let scan = |start: &'static str, end: &'static str| {
            let range = KeyRange::new(start, end);
            let (limit, bytes_max) = (0, 100);
            let scan = ScanOp { range, limit, bytes_max, is_reverse: false, keys_only: false };
            let request = Request { op: Op::Scan(scan), ..get(4, &[]) };
            read(&permits, &request, 500, 500)
        };
        let pairs = vec![(Bytes::from("c"), Bytes::from("1"))];
        let rows = Answer::Scan { pairs, is_done: true, walked_to: None };
        assert_eq!(scan("b", "m"), Some(rows));
        for (start, end) in [("b", "n"), ("b", ""), ("a", "m"), ("m", "n")] {
            assert_eq!(scan(start, end), None, "{start} to {end}");
        }
    }

    #[test]
    fn a_read_of_the_buffers_alone_asks_no_disk() {
        let (permits, _) = permits();
        let of = |keys: &[&'static str]| {
            let request = get(4, keys);
            let mut reading = permits.begin(&request, Millis(500)).expect("the permit holds");
            permits.read_buffered(&mut reading, &request);
            reading.finish(Millis(500))
        };
        assert_eq!(of(&["c"]), Some(Ok(Answer::Get(vec![Some("1".into())]))));
        assert_eq!(of(&["c", "d"]), None, "only the disk knows that there is no d");
    }

    #[test]
    fn the_lease_must_hold_when_the_read_is_done() {
        let (permits, _) = permits();
        assert!(read(&permits, &get(4, &["c"]), 500, 999).is_some());
        assert_eq!(read(&permits, &get(4, &["c"]), 500, 1_000), None);
    }

    #[test]
    fn a_read_during_which_the_permit_is_taken_back_goes_to_the_worker() {
        let (permits, permit) = permits();
        let looks = Cell::new(0);
        let clock = || {
            // The first look is before the read, the second after it.
            if looks.replace(looks.get() + 1) == 1 {
                permits.revoke(&permit);
            }
            Millis(500)
        };
        assert_eq!(permits.serve(&get(4, &["c"]), &clock), None);
        assert_eq!(looks.get(), 2);
        assert_eq!(read(&permits, &get(4, &["c"]), 500, 500), None, "and so do later ones");
    }

    #[test]
    fn a_reading_under_way_ends_with_the_permit_that_it_began_with() {
        let (permits, _) = permits();
        let request = get(4, &["c"]);
        let begun = || {
            let mut reading = permits.begin(&request, Millis(500)).expect("the permit holds");
            permits.read(&mut reading, &request);
            reading
        };
        assert!(begun().finish(Millis(999)).is_some());
        let reading = begun();
        permits.publish(Permit::new(&region(), Millis(2_000), Arc::default()));
        assert!(!reading.permit.is_good(Millis(500)));
        assert_eq!(reading.finish(Millis(500)), None, "another permit took its place");
        let unread = permits.begin(&request, Millis(500)).expect("the later permit holds");
        assert_eq!(unread.finish(Millis(500)), None, "nothing was read");
    }

    #[test]
    fn taking_all_back_ends_reads_under_way() {
        let (permits, permit) = permits();
        permits.revoke_all();
        assert!(!permit.is_good(Millis(500)));
        assert_eq!(read(&permits, &get(4, &["c"]), 500, 500), None);
    }

    #[test]
    fn a_read_marks_the_permit_that_it_used() {
        let (permits, first) = permits();
        assert_eq!(read(&permits, &get(3, &["c"]), 500, 500), None);
        assert!(!first.is_used());
        assert!(read(&permits, &get(4, &["c"]), 500, 500).is_some());
        assert!(first.is_used());
        let second = Permit::new(&region(), Millis(2_000), Arc::default());
        permits.publish(second.clone());
        assert!(!first.is_good(Millis(0)), "only the published permit can be taken back");
        assert!(!second.is_used());
    }
}
