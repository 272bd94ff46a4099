//! The ledger: what the stores of a sweep have promised. A reopened store is compared with the
//! ledger.
//!
//! * To clients: for each key the last acknowledged value, and the later values of unknown outcome.
//! * To other stores: the term and vote of each peer of the swept store, as the peer's messages
//!   imply them, and the entries that the peer has acknowledged.
//! * To itself: applied indexes and tombstones that a checkpoint has made durable.
//! * For all stores: the rows and the region at each applied index, equal wherever the index is
//!   reached. The peers in memory are the reference.
//!
//! The ledger keeps the first contradiction; [`Ledger::verdict`] returns it.

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_engine::LogStore;
use flotilla_group::{MessageKind, RaftMessage};
use flotilla_host::core::message::{Body, Envelope};
use flotilla_store::core::records::{FIRST_INDEX, load_peers, load_tombstones};
use flotilla_types::proto::HardState;
use flotilla_types::{PeerId, Region, RegionId, StoreId};
use prost::Message;

use super::store::{Process, Rows, SWEPT, Store};

/// The values that may be read from a key.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// The value acknowledged last; None if no value was acknowledged.
    acknowledged: Option<Bytes>,
    /// The values requested since, of unknown outcome.
    open: Vec<Bytes>,
}

/// The promise that a peer's messages imply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Promise {
    term: u64,
    /// The vote in `term`; 0 if no message implied one.
    vote: u64,
    /// The term in which entries were acknowledged last, and the last index acknowledged.
    held: (u64, u64),
}

/// What a checkpoint covers.
#[derive(Clone, Debug, Default)]
struct Covered {
    applied: BTreeMap<(RegionId, PeerId), u64>,
    tombstones: BTreeMap<RegionId, PeerId>,
}

/// See the module's header.
#[derive(Default)]
pub struct Ledger {
    slots: BTreeMap<Bytes, Slot>,
    promises: BTreeMap<(RegionId, PeerId), Promise>,
    frozen: Covered,
    durable: Covered,
    history: BTreeMap<(RegionId, u64), (Region, Rows)>,
    seen: BTreeMap<(StoreId, RegionId), (PeerId, u64)>,
    broken: Option<String>,
    /// True while only the swept store is checked. The other stores are cut off from it, and their
    /// disks are in memory.
    pub is_idle: bool,
}

impl Ledger {
    /// The ledger of a cluster whose first region is `first`.
    pub fn begin(first: &Region) -> Ledger {
        let begun = (first.clone(), vec![]);
        let history = BTreeMap::from([((first.id, FIRST_INDEX), begun)]);
        Ledger { history, ..Ledger::default() }
    }

    /// A client requests to set `key`.
    pub fn asked(&mut self, key: &Bytes, value: &Bytes) {
        self.slots.entry(key.clone()).or_default().open.push(value.clone());
    }

    /// The write was acknowledged to the client.
    pub fn acknowledged(&mut self, key: &Bytes, value: &Bytes) {
        let slot = self.slots.entry(key.clone()).or_default();
        // The open value has become the acknowledged value.
        slot.open.retain(|open| open != value);
        slot.acknowledged = Some(value.clone());
    }

    /// All keys that clients requested to set.
    pub fn keys(&self) -> Vec<Bytes> {
        self.slots.keys().cloned().collect()
    }

    /// True if a client may read `value` from `key`.
    pub fn may_be(&self, key: &Bytes, value: Option<&Bytes>) -> bool {
        let Some(slot) = self.slots.get(key) else { return value.is_none() };
        slot.acknowledged.as_ref() == value
            || value.is_some_and(|value| slot.open.iter().any(|open| open == value))
    }

    /// The values expected of `key`, in words.
    pub fn tell(&self, key: &Bytes) -> String {
        format!("{:?}", self.slots.get(key))
    }

    /// Takes note of the promise that a message implies, when the message leaves a store.
    pub fn promise(&mut self, from: StoreId, envelope: &Envelope) {
        let Body::Message(message) = &envelope.body else { return };
        if from != SWEPT {
            return;
        }
        let region = envelope.region_id;
        let promise = self.promises.entry((region, PeerId(message.from))).or_default();
        note(promise, message);
    }

    /// A checkpoint of the swept store begins.
    pub fn freeze(&mut self, store: &Store) {
        let Some(process) = store.process.as_ref().filter(|_| store.id == SWEPT) else { return };
        let saved = load_peers(&process.state).unwrap_or_default();
        let tombstones = load_tombstones(&process.state).unwrap_or_default();
        self.frozen = Covered {
            applied: saved
                .into_iter()
                .map(|saved| ((saved.region.id, saved.peer), saved.applied.index))
                .collect(),
            tombstones: tombstones.into_iter().collect(),
        };
    }

    /// The checkpoint is durable.
    pub fn is_durable(&mut self, store: StoreId) {
        if store == SWEPT {
            self.durable = std::mem::take(&mut self.frozen);
        }
    }

    /// A store's process has started anew: its peers are checked again at their present index.
    pub fn reborn(&mut self, store: StoreId) {
        self.seen.retain(|(other, _), _| *other != store);
    }

    /// Checks the peers of a store: at equal indexes all peers have equal rows.
    pub fn observe(&mut self, store: &Store) {
        let Some(process) = &store.process else { return };
        if self.is_idle && store.id != SWEPT {
            return;
        }
        for region in process.worker.regions() {
            let Some(peer) = process.worker.peer(region.id).filter(|peer| peer.has_state()) else {
                continue;
            };
            let now = (peer.id, peer.applied.index);
            if self.seen.insert((store.id, region.id), now) == Some(now) {
                continue;
            }
            let found = match process.rows(region) {
                Ok(rows) => (region.clone(), rows),
                // The store itself reports the disk's failure.
                Err(_) => continue,
            };
            let known = self.history.entry((region.id, now.1)).or_insert_with(|| found.clone());
            if *known != found {
                let what = differ(store.id, now.1, known, &found);
                self.broken.get_or_insert(what);
            }
        }
    }

    /// Ok, or the first contradiction.
    pub fn verdict(&self) -> Result<(), String> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// Compares a store that was just opened with its promises. The error names the first broken
    /// promise.
    pub fn check_reopened(&self, process: &Process) -> Result<(), String> {
        let tombstones: BTreeMap<RegionId, PeerId> =
            load_tombstones(&process.state).map_err(|e| e.to_string())?.into_iter().collect();
        for (region, dead) in &self.durable.tombstones {
            if tombstones.get(region).is_none_or(|found| found < dead) {
                let found = tombstones.get(region);
                return Err(format!("region {region}: tombstone {dead} has become {found:?}"));
            }
        }
        let saved = load_peers(&process.state).map_err(|e| e.to_string())?;
        for saved in &saved {
            let (region, index) = (&saved.region, saved.applied.index);
            if tombstones.get(&region.id).is_some_and(|dead| saved.peer <= *dead) {
                return Err(format!("region {}: peer {} lives again", region.id, saved.peer));
            }
            let found = (region.clone(), process.rows(region)?);
            match self.history.get(&(region.id, index)) {
                Some(known) if *known == found => {}
                Some(known) => return Err(differ(SWEPT, index, known, &found)),
                None => {
                    return Err(format!("region {}: nobody ever was at {index}", region.id));
                }
            }
        }
        let at = |region: RegionId, peer: PeerId| {
            let same = |saved: &&_| peer_of(saved) == (region, peer);
            saved.iter().find(same).map(|saved| saved.applied.index)
        };
        let is_dead = |region: &RegionId, peer: &PeerId| {
            tombstones.get(region).is_some_and(|dead| peer <= dead)
        };
        for ((region, peer), index) in &self.durable.applied {
            let found = at(*region, *peer);
            if !is_dead(region, peer) && found.is_none_or(|found| found < *index) {
                return Err(format!(
                    "region {region}: {index} was durable of peer {peer}, and {found:?} is"
                ));
            }
        }
        for ((region, peer), promise) in &self.promises {
            if !is_dead(region, peer) && *promise != Promise::default() {
                kept(process, *region, *peer, promise, at(*region, *peer).unwrap_or_default())?;
            }
        }
        Ok(())
    }
}

fn peer_of(saved: &flotilla_store::core::records::SavedPeer) -> (RegionId, PeerId) {
    (saved.region.id, saved.peer)
}

fn note(promise: &mut Promise, message: &RaftMessage) {
    let kind = message.kind();
    let votes_for = match kind {
        MessageKind::MsgRequestVote => message.from,
        MessageKind::MsgRequestVoteResponse if !message.reject => message.to,
        _ => 0,
    };
    // A pre-vote names a term that no peer has yet.
    let is_real =
        !matches!(kind, MessageKind::MsgRequestPreVote | MessageKind::MsgRequestPreVoteResponse);
    // A leader's appends may leave before its entries are durable; its vote for itself may not.
    let waits = votes_for != 0 || kind == MessageKind::MsgAppendResponse;
    if !is_real || !waits {
        return;
    }
    if message.term > promise.term {
        (promise.term, promise.vote) = (message.term, 0);
    }
    if message.term == promise.term && votes_for != 0 {
        promise.vote = votes_for;
    }
    if kind == MessageKind::MsgAppendResponse && !message.reject {
        promise.held = promise.held.max((message.term, message.index));
    }
}

fn kept(
    process: &Process,
    region: RegionId,
    peer: PeerId,
    promise: &Promise,
    applied: u64,
) -> Result<(), String> {
    let log: &dyn LogStore = &*process.log;
    let state = log.state(region.0).map_err(|e| e.to_string())?.unwrap_or_default();
    let state = HardState::decode(state).map_err(|e| e.to_string())?;
    let last = log.bounds(region.0).map_or(0, |bounds| bounds.last);
    // The worker's first turn begins a stale log anew, and keeps the term and the vote.
    let is_vote_kept = state.term > promise.term
        || (state.term == promise.term && (promise.vote == 0 || state.vote == promise.vote));
    if state.peer_id > peer.0 {
        return Ok(());
    }
    let is_held = promise.held.1 <= last.max(applied).max(state.truncated_index);
    if state.peer_id == peer.0 && is_vote_kept && is_held {
        return Ok(());
    }
    Err(format!(
        "region {region}, peer {peer}: it has told {promise:?}, and {state:?} with entries up to \
         {last}, applied {applied}, is what is left"
    ))
}

fn differ(store: StoreId, index: u64, known: &(Region, Rows), found: &(Region, Rows)) -> String {
    let region = known.0.id;
    if known.0 != found.0 {
        return format!("region {region} at {index} on {store}: {:?} != {:?}", known.0, found.0);
    }
    let first = known.1.iter().find(|row| !found.1.contains(row));
    let other = found.1.iter().find(|row| !known.1.contains(row));
    format!("region {region} at {index} on {store}: row {first:?} is expected, {other:?} is found")
}
