//! The group's log as the `raft` crate reads it.
//!
//! Entries live in the shared [`LogStore`], and a suffix of them is cached here. The cache always
//! holds the entries that are not persisted or not applied yet. Beyond those it holds up to
//! `cache_bytes_max` for followers that are a little behind, and no more: an entry may be a slice
//! of the message that brought it, and then keeps the whole message in memory.
//!
//! The log begins after the truncated entry. The term of that entry is remembered, because an
//! append message names the entry before its first one.
//!
//! Terms are asked for more often than entries. So the first entry of each term is kept for as much
//! of the log as this process has written, however little of it is cached.
//!
//! This type never writes: it turns appends into [`LogOp`]s that the owner writes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use flotilla_engine::{LogOp, LogStore};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto;
use prost::Message;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::util::limit_size;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::ballots::Ballot;
use crate::codec::{entry_from_log, entry_to_log, snapshot_from_wire};
use crate::ready::Position;

/// The snapshot for followers that are behind the log's begin.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum SnapshotOffer {
    /// No follower needs one.
    #[default]
    None,
    /// Some follower needs one at this index or later; the owner is to make it.
    Wanted { index: u64 },
    /// The owner made it; every follower that needs one gets it.
    Ready(proto::SnapshotMeta),
}

pub(crate) struct GroupLog {
    store: Arc<dyn LogStore>,
    group: u64,
    peer: u64,
    truncated: Position,
    last: Position,
    /// Where each term begins, from the first entry whose term is known here.
    terms: VecDeque<Position>,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    cache_bytes_max: usize,
    hard_state: HardState,
    has_saved_state: bool,
    conf_state: ConfState,
    offer: RefCell<SnapshotOffer>,
}

/// What [`GroupLog::new`] is made of.
pub(crate) struct LogParts {
    pub group: u64,
    pub peer: u64,
    pub truncated: Position,
    pub last: Position,
    pub cache_bytes_max: usize,
    pub hard_state: HardState,
    pub has_saved_state: bool,
    pub conf_state: ConfState,
}

impl GroupLog {
    pub(crate) fn new(store: Arc<dyn LogStore>, parts: LogParts) -> GroupLog {
        GroupLog {
            store,
            group: parts.group,
            peer: parts.peer,
            truncated: parts.truncated,
            last: parts.last,
            terms: VecDeque::from([parts.last]),
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_bytes_max: parts.cache_bytes_max,
            hard_state: parts.hard_state,
            has_saved_state: parts.has_saved_state,
            conf_state: parts.conf_state,
            offer: RefCell::default(),
        }
    }

    pub(crate) fn truncated(&self) -> Position {
        self.truncated
    }

    pub(crate) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Takes entries over and answers the write that makes them durable; None without entries.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) -> Option<LogOp> {
        let first = entries.first()?.index;
        assert!(
            first > self.truncated.index && first <= self.last.index + 1,
            "append at {first} leaves a hole or rewrites the truncated: {:?} to {:?}",
            self.truncated,
            self.last
        );
        while self.cache.back().is_some_and(|entry| entry.index >= first) {
            let dropped = self.cache.pop_back().expect("just seen");
            self.cache_bytes -= entry_bytes(&dropped);
        }
        while self.terms.back().is_some_and(|begun| begun.index >= first) {
            self.terms.pop_back();
        }
        let log_entries = entries.iter().map(entry_to_log).collect();
        for entry in entries {
            self.last = Position { index: entry.index, term: entry.term };
            if self.terms.back().is_none_or(|begun| begun.term != entry.term) {
                self.terms.push_back(self.last);
            }
            self.cache_bytes += entry_bytes(&entry);
            self.cache.push_back(entry);
        }
        Some(LogOp::Append { group: self.group, entries: log_entries })
    }

    /// Takes a hard state over and answers the write that makes it durable.
    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) -> LogOp {
        self.hard_state = hard_state;
        self.state_op()
    }

    /// The term and vote of the last hard state that the owner got to write.
    pub(crate) fn ballot(&self) -> Ballot {
        Ballot { term: self.hard_state.term, vote: self.hard_state.vote }
    }

    /// The commit index of the last hard state that the owner got to write, or of the opening.
    pub(crate) fn saved_commit(&self) -> u64 {
        self.hard_state.commit
    }

    /// True if the log store holds a hard state of this peer, or the owner got one to write.
    pub(crate) fn has_saved_state(&self) -> bool {
        self.has_saved_state
    }

    /// Takes a commit index over and answers the write that makes it durable.
    pub(crate) fn set_commit(&mut self, commit: u64) -> LogOp {
        self.hard_state.commit = commit;
        self.state_op()
    }

    fn state_op(&mut self) -> LogOp {
        self.has_saved_state = true;
        let state = proto::HardState {
            term: self.hard_state.term,
            vote: self.hard_state.vote,
            commit: self.hard_state.commit,
            peer_id: self.peer,
            truncated_index: self.truncated.index,
            truncated_term: self.truncated.term,
        };
        LogOp::SetState { group: self.group, state: state.encode_to_vec().into() }
    }

    /// Drops entries up to `through` and answers the writes that do so on disk; they need no sync
    /// of their own.
    pub(crate) fn truncate(&mut self, through: u64) -> Vec<LogOp> {
        if through <= self.truncated.index || through > self.last.index {
            return vec![];
        }
        let Ok(term) = self.term(through) else { return vec![] };
        self.truncated = Position { index: through, term };
        while self.terms.get(1).is_some_and(|next| next.index <= through) {
            self.terms.pop_front();
        }
        while self.cache.front().is_some_and(|entry| entry.index <= through) {
            self.drop_cached_front();
        }
        vec![LogOp::Truncate { group: self.group, through }, self.state_op()]
    }

    /// The log begins anew after an installed snapshot.
    pub(crate) fn reset(
        &mut self,
        at: Position,
        conf_state: ConfState,
        hs: HardState,
    ) -> Vec<LogOp> {
        self.truncated = at;
        self.last = at;
        self.terms = VecDeque::from([at]);
        self.cache.clear();
        self.cache_bytes = 0;
        self.conf_state = conf_state;
        let state = self.set_hard_state(hs);
        vec![LogOp::Clear { group: self.group }, state]
    }

    /// Drops cached entries up to `needless`, and more while the cache is over its bound, but none
    /// after `applied`.
    pub(crate) fn shrink_cache(&mut self, applied: u64, needless: u64) {
        let mut bytes_max = self.cache_bytes_max;
        if planted(Mutant::CacheUnbounded) {
            bytes_max = usize::MAX;
        }
        while self.cache.front().is_some_and(|entry| {
            let is_spare = entry.index <= needless || self.cache_bytes > bytes_max;
            entry.index <= applied && is_spare
        }) {
            self.drop_cached_front();
        }
    }

    /// The entries in memory, in order.
    pub(crate) fn cache(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.cache.iter()
    }

    /// Bytes of the entries in memory.
    pub(crate) fn cached_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// Bytes of the entries in memory up to `through`.
    pub(crate) fn cached_bytes_to(&self, through: u64) -> usize {
        self.cache.iter().take_while(|entry| entry.index <= through).map(entry_bytes).sum()
    }

    fn drop_cached_front(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cache_bytes -= entry_bytes(&entry);
        }
    }

    /// The index at which a snapshot is wanted; None if none is, or one has been offered.
    pub(crate) fn wanted_at(&self) -> Option<u64> {
        match *self.offer.borrow() {
            SnapshotOffer::Wanted { index } => Some(index),
            SnapshotOffer::None | SnapshotOffer::Ready(_) => None,
        }
    }

    pub(crate) fn set_offer(&mut self, offer: SnapshotOffer) {
        *self.offer.get_mut() = offer;
    }

    /// Panics, with the values, if positions, terms and cache contradict each other. O(1).
    pub(crate) fn check(&self) {
        let (group, truncated, last) = (self.group, self.truncated, self.last);
        assert!(truncated <= last, "group {group}: truncated {truncated:?}, last {last:?}");
        let term = self.terms.back().map(|begun| begun.term);
        assert!(term == Some(last.term), "group {group}: last {last:?}, its term {term:?}");
        let Some((front, back)) = self.cache.front().zip(self.cache.back()) else {
            assert!(self.cache_bytes == 0, "group {group}: {} bytes of nothing", self.cache_bytes);
            return;
        };
        assert!(
            back.index == last.index && front.index > truncated.index,
            "group {group}: cache {}..={}, truncated {truncated:?}, last {last:?}",
            front.index,
            back.index
        );
        assert!(
            back.index - front.index + 1 == self.cache.len() as u64,
            "group {group}: cache {}..={} of {} entries",
            front.index,
            back.index,
            self.cache.len()
        );
    }

    fn cached(&self, index: u64) -> Option<&Entry> {
        let first = self.cache.front()?.index;
        self.cache.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    fn stored(&self, low: u64, high: u64, bytes_max: usize) -> raft::Result<Vec<Entry>> {
        let entries = self
            .store
            .entries(self.group, low, high, bytes_max)
            .map_err(|e| raft::Error::Store(StorageError::Other(Box::new(e))))?;
        Ok(entries.into_iter().map(entry_from_log).collect())
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + size_of::<Entry>()
}

impl Storage for GroupLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last.index + 1, "entries {low}..{high} of a log to {:?}", self.last);
        let max_size: Option<u64> = max_size.into();
        let bytes_max = max_size.map_or(usize::MAX, |max| max.try_into().unwrap_or(usize::MAX));
        let cache_first = self.cache.front().map_or(self.last.index + 1, |entry| entry.index);
        let stored_high = high.min(cache_first);
        let mut entries =
            if low < stored_high { self.stored(low, stored_high, bytes_max)? } else { vec![] };
        let next = low + entries.len() as u64;
        if next >= stored_high {
            let mut bytes: usize = entries.iter().map(entry_bytes).sum();
            for entry in (next..high).map_while(|index| self.cached(index)) {
                bytes = bytes.saturating_add(entry_bytes(entry));
                entries.push(entry.clone());
                if bytes > bytes_max {
                    break;
                }
            }
        }
        limit_size(&mut entries, max_size);
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.last.index {
            return Ok(self.last.term);
        }
        if index == self.truncated.index {
            return Ok(self.truncated.term);
        }
        if index < self.truncated.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if index > self.last.index {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        if let Some(begun) = self.terms.iter().rev().find(|begun| begun.index <= index) {
            return Ok(begun.term);
        }
        let entries = self.stored(index, index + 1, usize::MAX)?;
        entries.first().map(|entry| entry.term).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last.index)
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let mut offer = self.offer.borrow_mut();
        if let SnapshotOffer::Ready(meta) = &*offer
            && meta.index >= request_index
            && meta.index >= self.truncated.index
        {
            return Ok(snapshot_from_wire(meta.clone()));
        }
        *offer = SnapshotOffer::Wanted { index: request_index };
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_engine::{LogBatch, MemLog};
    use flotilla_types::dice::Dice;

    const GROUP: u64 = 7;

    fn open(store: &Arc<MemLog>, truncated: Position, last: Position) -> GroupLog {
        let parts = LogParts {
            group: GROUP,
            peer: 1,
            truncated,
            last,
            cache_bytes_max: crate::limits::CACHE_BYTES_MAX,
            hard_state: HardState::default(),
            has_saved_state: false,
            conf_state: ConfState::default(),
        };
        GroupLog::new(store.clone(), parts)
    }

    fn write(store: &MemLog, ops: Vec<LogOp>) {
        store.write(LogBatch { ops }, true).expect("in memory");
    }

    /// The term of each entry, by index.
    fn check(log: &GroupLog, truncated: u64, terms: &[u64]) {
        let end = terms.len() as u64;
        for index in truncated..end {
            assert_eq!(log.term(index).ok(), Some(terms[index as usize]), "{index}");
        }
        if truncated + 1 < end {
            let entries = log.entries(truncated + 1, end, None, GetEntriesContext::empty(false));
            let found = entries.expect("held").into_iter().map(|entry| (entry.index, entry.term));
            let held = (truncated + 1..end).map(|index| (index, terms[index as usize]));
            assert!(found.eq(held));
        }
    }

    #[test]
    fn terms_and_entries_are_those_appended_last_however_little_is_cached() {
        for seed in 0..100 {
            let mut dice = Dice::new(seed);
            let store = Arc::new(MemLog::default());
            let mut log = open(&store, Position::default(), Position::default());
            let (mut truncated, mut terms) = (0, vec![0]);
            for _ in 0..50 {
                let last = terms.len() as u64 - 1;
                let at = |index: u64| Position { index, term: terms[index as usize] };
                match dice.between(0, 10) {
                    0..=5 => {
                        let first =
                            dice.between(last.saturating_sub(3).max(truncated + 1), last + 2);
                        terms.truncate(first as usize);
                        for _ in 0..dice.between(1, 4) {
                            terms.push(terms[terms.len() - 1] + dice.between(0, 2));
                        }
                        let new = (first..terms.len() as u64).map(|index| {
                            let term = terms[index as usize];
                            Entry { index, term, ..Entry::default() }
                        });
                        write(&store, log.append(new.collect()).into_iter().collect());
                    }
                    6 | 7 => {
                        let applied = dice.between(truncated, last + 1);
                        log.shrink_cache(applied, dice.between(0, applied + 1));
                    }
                    8 if truncated < last => {
                        truncated = dice.between(truncated + 1, last + 1);
                        write(&store, log.truncate(truncated));
                    }
                    _ => log = open(&store, at(truncated), at(last)),
                }
                log.check();
                check(&log, truncated, &terms);
            }
        }
    }
}
