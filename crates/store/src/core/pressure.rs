//! Pressure: what a store does while its disk cannot keep up with what its peers apply.
//!
//! Applied changes wait in the state store's buffers for a checkpoint. While more waits there than
//! `PRESSURE_CHECKPOINTS` checkpoints are to hold, the store is under pressure:
//!
//! 1. Clients' writes are refused as ServerBusy ([`super::worker`]).
//! 2. A follower goes on taking entries into its log and acknowledging them, for its leader needs
//!    them for a quorum, and the log is not what is full. It holds back the committed ones
//!    ([`HeldBack`]) instead of applying them ([`super::advance`]).
//! 3. A leader applies what is committed, and what it held back as a follower, for callers wait for
//!    its answers. What it can add is bounded: it takes no more writes.
//! 4. What a store holds back is bounded in bytes. Beyond the bound, entries with data are refused
//!    as if they had been lost ([`super::route`]); the leader sends them again. Heartbeats and
//!    entries without data pass, so no follower takes its leader for lost, and a new leader can
//!    begin its term.
//! 5. A snapshot is refused before its rows are received ([`Pressure::is_high`], asked by whoever
//!    receives). One that was received is installed.
//! 6. A checkpoint ends: the followers apply what they held back, in portions, until the store is
//!    under pressure again ([`super::checkpoint`]).
//!
//! A restart forgets what was held back: the log has it, and hands it out again.
//!
//! Invariant: what a region has held back follows on what its peer has applied, without a gap.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flotilla_engine::StateStore;
use flotilla_group::{Committed, CommittedBody};
use flotilla_types::RegionId;

/// Buffers over this many checkpoints' worth mean that the disk cannot keep up.
pub const PRESSURE_CHECKPOINTS: usize = 4;

/// The most bytes of held-back entries that are applied before the buffers are looked at again.
const PORTION_BYTES: usize = 1024 * 1024;

/// Tells whether a store is under pressure. Any thread may ask.
#[derive(Clone)]
pub struct Pressure {
    state: Arc<StateStore>,
    unflushed_max: usize,
}

impl Pressure {
    /// The pressure of the store that `state` belongs to, whose checkpoints begin at
    /// `checkpoint_bytes`.
    pub fn new(state: Arc<StateStore>, checkpoint_bytes: usize) -> Pressure {
        Pressure { state, unflushed_max: PRESSURE_CHECKPOINTS.saturating_mul(checkpoint_bytes) }
    }

    /// True while more waits for the disk than checkpoints are to hold, by far.
    pub fn is_high(&self) -> bool {
        self.state.unflushed_bytes() > self.unflushed_max
    }

    /// The most bytes of entries that the store holds back: as much again as its buffers hold.
    fn held_back_bytes_max(&self) -> usize {
        self.unflushed_max
    }
}

/// Committed entries that followers have not applied yet, by region.
#[derive(Debug, Default)]
pub struct HeldBack {
    regions: BTreeMap<RegionId, VecDeque<Committed>>,
    bytes: usize,
}

impl HeldBack {
    /// Adds what a group handed out as committed.
    pub fn add(&mut self, region: RegionId, committed: Vec<Committed>) {
        if committed.is_empty() {
            return;
        }
        self.bytes += committed.iter().map(entry_bytes).sum::<usize>();
        self.regions.entry(region).or_default().extend(committed);
    }

    /// Adds what a group handed out as committed, and takes the region's next entries. What follows
    /// on nothing and fits a portion, as nearly always, comes back as it is.
    pub fn pass(&mut self, region: RegionId, committed: Vec<Committed>) -> Vec<Committed> {
        let is_first = !self.regions.contains_key(&region);
        if is_first && committed.iter().map(entry_bytes).sum::<usize>() <= PORTION_BYTES {
            return committed;
        }
        self.add(region, committed);
        self.take(region)
    }

    /// Takes the region's next entries, in order: at least one, and no more than a portion.
    pub fn take(&mut self, region: RegionId) -> Vec<Committed> {
        let Some(entries) = self.regions.get_mut(&region) else { return vec![] };
        let (mut taken, mut bytes) = (vec![], 0);
        while bytes < PORTION_BYTES
            && let Some(entry) = entries.pop_front()
        {
            bytes += entry_bytes(&entry);
            taken.push(entry);
        }
        if entries.is_empty() {
            self.regions.remove(&region);
        }
        self.bytes -= bytes;
        taken
    }

    /// Forgets the region's entries: its peer ends, or jumps over them by a snapshot.
    pub fn forget(&mut self, region: RegionId) {
        let forgotten = self.regions.remove(&region).into_iter().flatten();
        self.bytes -= forgotten.map(|entry| entry_bytes(&entry)).sum::<usize>();
    }

    /// The regions that hold entries back, by id.
    pub fn regions(&self) -> impl Iterator<Item = RegionId> {
        self.regions.keys().copied()
    }

    /// True if no more entries with data are to be taken.
    pub fn is_full(&self, pressure: &Pressure) -> bool {
        self.bytes > pressure.held_back_bytes_max()
    }
}

/// What an entry costs in memory: its content, and the value around it.
fn entry_bytes(entry: &Committed) -> usize {
    let content = match &entry.body {
        CommittedBody::Empty => 0,
        CommittedBody::Command(data) | CommittedBody::Membership(data) => data.len(),
    };
    content + size_of::<Committed>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_group::Position;

    const REGION: RegionId = RegionId(7);

    fn entries(first: u64, sizes: &[usize]) -> Vec<Committed> {
        let entry = |(index, size): (u64, &usize)| Committed {
            position: Position { index, term: 2 },
            body: CommittedBody::Command(vec![0; *size].into()),
        };
        (first..).zip(sizes).map(entry).collect()
    }

    fn indexes(taken: &[Committed]) -> Vec<u64> {
        taken.iter().map(|entry| entry.position.index).collect()
    }

    #[test]
    fn entries_come_back_in_order_and_in_portions() {
        let mut held = HeldBack::default();
        held.add(REGION, entries(5, &[10, PORTION_BYTES]));
        held.add(REGION, entries(7, &[10, 10]));
        held.add(RegionId(8), entries(1, &[10]));
        assert_eq!(indexes(&held.take(REGION)), [5, 6]);
        assert_eq!(indexes(&held.take(REGION)), [7, 8]);
        assert_eq!(indexes(&held.take(REGION)), [0; 0]);
        assert_eq!(held.regions().collect::<Vec<_>>(), [RegionId(8)]);
        held.forget(RegionId(8));
        assert_eq!(held.regions().count(), 0);
        assert_eq!(held.bytes, 0);
    }

    #[test]
    fn entries_that_follow_on_nothing_pass_and_others_come_in_their_order() {
        let mut held = HeldBack::default();
        assert_eq!(indexes(&held.pass(REGION, entries(5, &[10, 10]))), [5, 6]);
        assert_eq!((held.regions().count(), held.bytes), (0, 0));
        assert_eq!(indexes(&held.pass(REGION, entries(7, &[PORTION_BYTES, 10]))), [7]);
        assert_eq!(indexes(&held.pass(REGION, entries(9, &[10]))), [8, 9]);
        assert_eq!((held.regions().count(), held.bytes), (0, 0));
    }

    #[test]
    fn a_store_holds_back_as_much_as_its_buffers_hold_and_one_entry() {
        let pressure = Pressure::new(Arc::new(StateStore::in_memory()), 100);
        let mut held = HeldBack::default();
        held.add(REGION, entries(1, &[400 - size_of::<Committed>()]));
        assert!(!held.is_full(&pressure));
        held.add(REGION, entries(2, &[0]));
        assert!(held.is_full(&pressure));
        held.take(REGION);
        assert!(!held.is_full(&pressure));
    }
}
