//! Log matching and state-machine safety, against a model with its own code.
//!
//! Whenever a peer has applied entries, the checker reads them from the peer's log. The first peer
//! that applies an index teaches the model; every other peer must have the same entry at the index.
//! The model applies the entries by itself (it shares no code with the store's `apply`) and keeps
//! the rows of each region at its last indexes ([`super::rows`]), and a digest of region and rows
//! at each index. Every peer's state must be the same at the same index, whether it came from
//! entries, from a snapshot or from a restart: the rows are compared where they are kept, the
//! digests before.
//!
//! What a region is beside its rows, and how entries change that, is in [`super::region_model`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::{LogEntry, LogStore, Order, StateStore};
use flotilla_store::core::peer::Peer;
use flotilla_store::core::records::{FIRST_INDEX, data_range, decode_value, stored_key};
use flotilla_types::dice::mix;
use flotilla_types::keys::key_after;
use flotilla_types::{
    Answer, Command, CompareAndSwap, KeyRange, Mutation, Region, RegionId, WriteOp,
};

use super::commits::Committed;
use super::group::Configuration;
use super::region_model::{NewRegion, RegionModel};
use super::rows::{View, row_digest};
use super::{Sight, Verdict, Violation, broken, show};
use crate::trace::digest;

/// The type of log entries that change members: the raft crate's ConfChangeV2.
pub const MEMBERSHIP: u8 = 2;

/// The number that names a value: its first eight bytes.
pub fn value_number(value: &[u8]) -> u64 {
    value.first_chunk().map_or(0, |number| u64::from_be_bytes(*number))
}

/// What all regions should hold.
#[derive(Debug, Default)]
pub struct Model {
    regions: BTreeMap<RegionId, RegionModel>,
    entries: BTreeMap<(RegionId, u64), u64>,
    states: BTreeMap<(RegionId, u64), u64>,
    checked: BTreeMap<(u64, RegionId), (u64, u64)>,
    written: BTreeMap<u64, u64>,
    refused: u64,
    news: Vec<News>,
}

/// What the model has learned from an entry that no peer had applied before.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The entry.
    Entry {
        /// The entry's region.
        region: RegionId,
        /// The entry's index and term, and the term in which it became known.
        entry: Committed,
        /// The configuration before the entry, and before the last change of that.
        configurations: Vec<Arc<Configuration>>,
    },
    /// The entry removes the keys of this range.
    Removed(KeyRange),
}

impl Model {
    /// Takes note of the cluster's first region.
    pub fn begin(&mut self, region: Region) {
        self.create(region, BTreeMap::new());
    }

    fn create(&mut self, region: Region, rows: BTreeMap<Bytes, Bytes>) {
        let id = region.id;
        let model = RegionModel::new(region, rows, FIRST_INDEX);
        self.states.insert((id, FIRST_INDEX), digest_of(&model));
        self.regions.insert(id, model);
    }

    /// How many entries that took effect have written a value.
    pub fn times_written(&self, value: u64) -> u64 {
        self.written.get(&value).copied().unwrap_or(0)
    }

    /// A model in which these values were written once each.
    #[cfg(test)]
    pub fn of_written(values: &[u64]) -> Model {
        Model { written: values.iter().map(|value| (*value, 1)).collect(), ..Model::default() }
    }

    /// The number of writes that were refused when they were applied.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// What the model has learned since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Number of regions.
    pub fn region_count(&self) -> usize {
        self.regions.len()
    }

    /// Checks the entries that peers have applied, and teaches the model the new ones. The right
    /// part of a split is followed after the left part, whatever their ids.
    pub fn follow_logs(&mut self, sight: &Sight<'_>, changed: &[&Peer]) -> Verdict {
        let mut left: Vec<&Peer> = changed.iter().copied().filter(|p| p.has_state()).collect();
        while !left.is_empty() {
            let (known, unknown): (Vec<&Peer>, Vec<&Peer>) =
                left.into_iter().partition(|peer| self.regions.contains_key(&peer.region.id));
            if let (true, Some(peer)) = (known.is_empty(), unknown.first()) {
                return broken("every region comes from a split", show(&peer.region));
            }
            known.into_iter().try_for_each(|peer| self.follow_log(sight, peer))?;
            left = unknown;
        }
        Ok(())
    }

    fn follow_log(&mut self, sight: &Sight<'_>, peer: &Peer) -> Verdict {
        let (region, applied) = (peer.region.id, peer.applied.index);
        let key = (sight.store.0, region);
        let known = self.checked.get(&key).filter(|(id, _)| *id == peer.id.0);
        // Entries before a snapshot may still be in the log, and no longer count.
        let truncated = peer.group.truncated().index;
        let checked = known.map_or(FIRST_INDEX, |(_, index)| *index).max(truncated);
        self.checked.insert(key, (peer.id.0, applied));
        let Some(bounds) = sight.log.bounds(region.0) else { return Ok(()) };
        let (low, high) = (bounds.first.max(checked + 1), (applied + 1).min(bounds.last + 1));
        if low >= high {
            return Ok(());
        }
        let entries = sight.log.entries(region.0, low, high, usize::MAX);
        let entries = entries.map_err(|error| Violation {
            invariant: "logs can be read",
            what: error.to_string(),
        })?;
        for entry in entries {
            let mark = entry_digest(&entry);
            match self.entries.get(&(region, entry.index)) {
                Some(known) if *known == mark => {}
                Some(_) => {
                    let (store, index) = (sight.store, entry.index);
                    let what = format!(
                        "store {store}, region {region}: entry {index} of term {} differs",
                        entry.term
                    );
                    return broken("committed entries are equal on all peers", what);
                }
                None => {
                    self.entries.insert((region, entry.index), mark);
                    self.learn(region, entry, peer.group.role().term)?;
                }
            }
        }
        Ok(())
    }

    /// The region and its rows as of `index`. None if that is too long ago or still to come.
    pub fn at(&self, region: RegionId, index: u64) -> Option<View<'_>> {
        self.regions.get(&region)?.at(index)
    }

    /// The last index that any peer of the region has applied; 0 if the region is not known.
    pub fn newest(&self, region: RegionId) -> u64 {
        self.regions.get(&region).map_or(0, |model| model.index)
    }

    /// The writes of a region's entries from `low` to `high`, both included, with what each came
    /// to; None for a write that was refused. Only the last entries are kept.
    pub fn writes(
        &self,
        region: RegionId,
        (low, high): (u64, u64),
    ) -> impl Iterator<Item = &(WriteOp, Option<Answer>)> {
        self.regions.get(&region).into_iter().flat_map(move |model| model.rows.writes(low, high))
    }

    /// Checks that a peer's state is what the entries say.
    pub fn check_state(&self, sight: &Sight<'_>, peer: &Peer) -> Verdict {
        let (store, region) = (sight.store, peer.region.id);
        let index = peer.applied.index;
        let Some(expected) = self.states.get(&(region, index)) else {
            let what = format!("store {store}, {}: nobody applied {index}", show(&peer.region));
            return broken("states are equal at equal indexes", what);
        };
        let view = self.at(region, index);
        let is_equal = match &view {
            Some(view) => is_equal(sight.state, peer, view)?,
            None => digest_of_peer(sight.state, peer)? == *expected,
        };
        if is_equal {
            return Ok(());
        }
        let model = view.map_or("what is too long ago".into(), |view| {
            let rows = view.rows(&KeyRange::all());
            format!("{} with {}", show(view.region()), show_rows(rows))
        });
        let mut rows = BTreeMap::new();
        scan(sight.state, &peer.region.range, &mut |key, value| {
            rows.insert(Bytes::copy_from_slice(key), value);
            true
        })?;
        let what = format!(
            "store {store} at index {index}: {} with {}; expected {model}",
            show(&peer.region),
            show_rows(&rows)
        );
        broken("states are equal at equal indexes", what)
    }

    /// Applies an entry that a peer in term `known_in` is the first to apply.
    fn learn(&mut self, id: RegionId, entry: LogEntry, known_in: u64) -> Verdict {
        let index = entry.index;
        let Some(mut model) = self.regions.remove(&id) else {
            return broken("every region comes from a split", format!("region {id}"));
        };
        if index != model.index + 1 {
            let what = format!("region {id}: {index} was applied first after {}", model.index);
            return broken("entries are applied in order", what);
        }
        model.begin(index);
        let committed = Committed { index, term: entry.term, known_in };
        let configurations = model.configurations();
        self.news.push(News::Entry { region: id, entry: committed, configurations });
        let right = self.apply(&mut model, entry)?;
        self.states.insert((id, index), digest_of(&model));
        self.regions.insert(id, model);
        if let Some((region, rows)) = right {
            if let Some(other) = self.regions.get(&region.id) {
                let what = format!("{} beside {}", show(&region), show(&other.region));
                return broken("no two regions have one id", what);
            }
            self.create(region, rows);
        }
        Ok(())
    }

    fn apply(
        &mut self,
        model: &mut RegionModel,
        entry: LogEntry,
    ) -> Result<Option<NewRegion>, Violation> {
        let is_membership = entry.kind == MEMBERSHIP;
        let payload = if is_membership { entry.context } else { entry.data };
        if payload.is_empty() {
            // An empty entry is a leader's first, unless it is of the type that changes members:
            // then it leaves the joint configuration.
            return if is_membership { model.leave_joint().map(|()| None) } else { Ok(None) };
        }
        let command = Command::decode(payload).map_err(|error| Violation {
            invariant: "entries can be read",
            what: error.to_string(),
        })?;
        match command {
            Command::Write { version, ops } => {
                for op in ops {
                    let result = self.write(model, version, &op);
                    self.refused += u64::from(result.is_none());
                    model.rows.note_write(op, result);
                }
                Ok(None)
            }
            Command::Split { epoch, split_key, new_region_id, new_peer_ids } => {
                let ids: Vec<u64> = new_peer_ids.iter().map(|id| id.0).collect();
                Ok(model.split(epoch, split_key, new_region_id, &ids))
            }
            Command::ChangePeers { epoch, changes } => {
                model.change_peers(epoch, &changes);
                Ok(None)
            }
        }
    }

    /// Applies a write. None if the write is refused.
    fn write(&mut self, model: &mut RegionModel, version: u64, op: &WriteOp) -> Option<Answer> {
        if version != model.region.epoch.version {
            return None;
        }
        match op {
            WriteOp::CompareAndSwap(CompareAndSwap { key, expected, new }) => {
                if !model.region.range.contains(key) {
                    return None;
                }
                let previous = model.rows.now().get(key).cloned();
                let swapped = previous == *expected;
                if swapped {
                    self.set(model, key, new.clone());
                    if expected.is_some() && new.is_none() {
                        self.note_removed(key);
                    }
                }
                Some(Answer::Swapped { swapped, previous })
            }
            WriteOp::Mutate(mutations) => {
                if !mutations.iter().all(|mutation| fits(&model.region, mutation)) {
                    return None;
                }
                for mutation in mutations {
                    self.mutate(model, mutation);
                }
                Some(Answer::Written)
            }
        }
    }

    fn mutate(&mut self, model: &mut RegionModel, mutation: &Mutation) {
        match mutation {
            Mutation::Put { key, value } => self.set(model, key, Some(value.clone())),
            Mutation::Delete { key } => {
                self.set(model, key, None);
                self.note_removed(key);
            }
            Mutation::DeleteRange(range) => {
                model.rows.remove_range(range);
                self.news.push(News::Removed(range.clone()));
            }
        }
    }

    fn note_removed(&mut self, key: &Bytes) {
        let range = KeyRange { start: key.clone(), end: key_after(key) };
        self.news.push(News::Removed(range));
    }

    fn set(&mut self, model: &mut RegionModel, key: &Bytes, value: Option<Bytes>) {
        if let Some(value) = &value {
            *self.written.entry(value_number(value)).or_default() += 1;
        }
        model.rows.set(key, value);
    }
}

fn fits(region: &Region, mutation: &Mutation) -> bool {
    match mutation {
        Mutation::Put { key, .. } | Mutation::Delete { key } => region.range.contains(key),
        Mutation::DeleteRange(range) => region.range.covers(range),
    }
}

/// Calls `visit` with each stored key and its value, until it answers false.
fn scan(
    state: &StateStore,
    range: &KeyRange,
    visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
) -> Verdict {
    let scanned = state.scan(&data_range(range), Order::Ascending, &mut |key, value| {
        let value = decode_value(Bytes::copy_from_slice(value)).unwrap_or_default();
        visit(stored_key(key), value)
    });
    scanned.map_err(|error| Violation { invariant: "states can be read", what: error.to_string() })
}

/// True if the peer's region and rows are those of the view.
fn is_equal(state: &StateStore, peer: &Peer, view: &View<'_>) -> Result<bool, Violation> {
    let mut expected = view.rows(&KeyRange::all()).into_iter();
    let mut is_equal = true;
    scan(state, &peer.region.range, &mut |key, value| {
        is_equal = expected.next().is_some_and(|row| *row.0 == key && *row.1 == value);
        is_equal
    })?;
    Ok(is_equal && expected.next().is_none() && peer.region == *view.region())
}

fn digest_of_peer(state: &StateStore, peer: &Peer) -> Result<u64, Violation> {
    let mut rows = 0;
    scan(state, &peer.region.range, &mut |key, value| {
        rows ^= row_digest(key, &value);
        true
    })?;
    Ok(state_digest(&peer.region, rows))
}

fn digest_of(model: &RegionModel) -> u64 {
    state_digest(&model.region, model.rows.digest())
}

fn entry_digest(entry: &LogEntry) -> u64 {
    let head = mix(entry.term.rotate_left(8) ^ u64::from(entry.kind));
    mix(head ^ digest(&entry.data).rotate_left(21) ^ digest(&entry.context))
}

fn state_digest(region: &Region, rows: u64) -> u64 {
    let mut hash = mix(region.epoch.conf_ver.rotate_left(32) ^ region.epoch.version);
    hash = mix(hash ^ digest(&region.range.start));
    hash = mix(hash ^ digest(&region.range.end));
    for peer in &region.members {
        hash = mix(hash ^ peer.id.0 ^ (peer.store_id.0 << 32) ^ ((peer.role as u64) << 56));
    }
    mix(hash ^ rows)
}

/// Rows in words: the numbers of their values.
pub fn show_rows<'a>(rows: impl IntoIterator<Item = (&'a Bytes, &'a Bytes)>) -> String {
    let row = |(key, value): (&Bytes, &Bytes)| {
        let key = String::from_utf8_lossy(key.get(4..).unwrap_or(key)).into_owned();
        format!("{key}={}", value_number(value))
    };
    rows.into_iter().map(row).collect::<Vec<String>>().join(" ")
}

/// A model of one region to which entries with these writes were applied.
#[cfg(test)]
pub fn of_entries(entries: Vec<Vec<WriteOp>>) -> Model {
    let mut model = Model::default();
    let region = Region { id: RegionId(1), range: KeyRange::all(), ..Region::default() };
    let version = region.epoch.version;
    model.begin(region);
    for (ops, index) in entries.into_iter().zip(FIRST_INDEX + 1..) {
        let data = Command::Write { version, ops }.encode();
        let entry = LogEntry { index, term: 5, kind: 0, data, context: Bytes::new() };
        assert_eq!(model.learn(RegionId(1), entry, 5), Ok(()));
    }
    model
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{Epoch, Member, MemberRole, PeerChange, PeerId, StoreId};

    fn member(id: u64, role: MemberRole) -> Member {
        Member { id: PeerId(id), store_id: StoreId(id), role }
    }

    fn membership(index: u64, context: Bytes) -> LogEntry {
        LogEntry { index, term: 5, kind: MEMBERSHIP, data: Bytes::new(), context }
    }

    fn roles(model: &Model) -> Vec<(u64, MemberRole)> {
        let region = &model.regions[&RegionId(1)].region;
        region.members.iter().map(|peer| (peer.id.0, peer.role)).collect()
    }

    fn three_voters_and_a_learner() -> Model {
        use MemberRole::{Learner, Voter};
        let mut peers = [2, 3, 4].map(|id| member(id, Voter)).to_vec();
        peers.push(member(5, Learner));
        let (id, epoch) = (RegionId(1), Epoch { conf_ver: 3, version: 4 });
        let mut model = Model::default();
        model.begin(Region { id, range: KeyRange::all(), epoch, members: peers });
        model
    }

    #[test]
    fn a_joint_change_is_entered_and_left_with_an_epoch_each() {
        use MemberRole::{DemotingVoter, IncomingVoter, Learner, Voter};
        let mut model = three_voters_and_a_learner();
        let changes = vec![
            PeerChange::AddVoter(member(5, Voter)),
            PeerChange::AddLearner(member(2, Learner)),
        ];
        let epoch = Epoch { conf_ver: 3, version: 4 };
        let change = Command::ChangePeers { epoch, changes }.encode();
        let learnt = model.learn(RegionId(1), membership(FIRST_INDEX + 1, change), 5);
        assert_eq!(learnt, Ok(()));
        let joint = [(2, DemotingVoter), (3, Voter), (4, Voter), (5, IncomingVoter)];
        assert_eq!(roles(&model), joint);
        assert_eq!(model.regions[&RegionId(1)].region.epoch.conf_ver, 4);

        let learnt = model.learn(RegionId(1), membership(FIRST_INDEX + 2, Bytes::new()), 5);
        assert_eq!(learnt, Ok(()));
        assert_eq!(roles(&model), [(2, Learner), (3, Voter), (4, Voter), (5, Voter)]);
        assert_eq!(model.regions[&RegionId(1)].region.epoch.conf_ver, 5);

        let again = model.learn(RegionId(1), membership(FIRST_INDEX + 3, Bytes::new()), 5);
        assert!(again.is_err(), "left twice");
    }

    #[test]
    fn a_single_change_takes_effect_at_once_and_a_stale_one_never() {
        use MemberRole::Voter;
        let mut model = three_voters_and_a_learner();
        let promote = |conf_ver| {
            let changes = vec![PeerChange::AddVoter(member(5, Voter))];
            let epoch = Epoch { conf_ver, version: 4 };
            Command::ChangePeers { epoch, changes }.encode()
        };
        let stale = model.learn(RegionId(1), membership(FIRST_INDEX + 1, promote(2)), 5);
        assert_eq!(stale, Ok(()));
        assert_eq!(roles(&model)[3], (5, MemberRole::Learner));
        let fresh = model.learn(RegionId(1), membership(FIRST_INDEX + 2, promote(3)), 5);
        assert_eq!(fresh, Ok(()));
        assert_eq!(roles(&model)[3], (5, Voter));
    }
}
