//! How the replicated state is laid out in the state store.
//!
//! ```text
//!   "a"                  applied index and term, 8 bytes each, big-endian
//!   "g"                  PdGroup: PD's members and the id of their group
//!   "m"                  PdMeta: cluster id, id watermark, replica count
//!   "f"                  Region: the first region while no heartbeat has reported it
//!   "n" ++ store id      (empty): the store has never been named as a region's member, nor was it
//!                        chosen for the first region
//!   "r" ++ region id     Region
//!   "s" ++ store id      Store; its state is what the administrator decided, not what is observed
//! ```
//!
//! Ids are 8 bytes, big-endian. In: the [`Changes`] that applying commands collects. Out: what is
//! read back at open. Invariant: the applied position is written with the changes it stands for.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use flotilla_engine::{EngineError, Order, StateStore};
use flotilla_group::Position;
use flotilla_types::{KeyRange, RangeMap, Region, RegionId, StoreId, WireError, proto};
use prost::Message;

use crate::core::members::Members;

/// Where the applied position is kept.
pub(crate) const APPLIED_KEY: &[u8] = b"a";
/// Where the members are kept.
pub(crate) const GROUP_KEY: &[u8] = b"g";
/// Where [`proto::PdMeta`] is kept.
pub(crate) const META_KEY: &[u8] = b"m";
/// Where the first region waits to be created.
pub(crate) const FIRST_REGION_KEY: &[u8] = b"f";
const NEW_STORE_PREFIX: u8 = b'n';
const REGION_PREFIX: u8 = b'r';
const STORE_PREFIX: u8 = b's';

/// What the administrator decided about a store. Whether the store answers is observed, see
/// [`crate::core::reports`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreMode {
    /// In service.
    #[default]
    Up,
    /// Its peers are being moved away.
    Draining,
    /// Refused for ever.
    Removed,
}

/// What is committed about a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreRecord {
    /// Given at registration; 0 in a command that creates the store.
    pub id: StoreId,
    /// Where it listens, `host:port`.
    pub addr: String,
    /// Where it stands, such as `zone=a`; the members of a region go to stores whose values differ.
    pub labels: BTreeMap<String, String>,
    /// What the administrator decided.
    pub mode: StoreMode,
}

impl StoreRecord {
    /// How many label values both stores have.
    pub fn shared_labels(&self, other: &StoreRecord) -> usize {
        let is_shared = |(key, value): &(&String, &String)| other.labels.get(*key) == Some(value);
        self.labels.iter().filter(is_shared).count()
    }

    /// The record as it is written to disk.
    pub fn to_wire(&self) -> proto::Store {
        let state = match self.mode {
            StoreMode::Up => proto::StoreState::Up,
            StoreMode::Draining => proto::StoreState::Draining,
            StoreMode::Removed => proto::StoreState::Removed,
        };
        proto::Store {
            id: self.id.0,
            addr: self.addr.clone(),
            labels: self.labels.clone().into_iter().collect(),
            state: state.into(),
        }
    }

    /// Reads a record; the states that are only observed count as up.
    pub fn from_wire(store: proto::Store) -> StoreRecord {
        let mode = match store.state() {
            proto::StoreState::Draining => StoreMode::Draining,
            proto::StoreState::Removed => StoreMode::Removed,
            proto::StoreState::Up
            | proto::StoreState::Disconnected
            | proto::StoreState::Down
            | proto::StoreState::Unknown
            | proto::StoreState::Stopped => StoreMode::Up,
        };
        StoreRecord {
            id: StoreId(store.id),
            addr: store.addr,
            labels: store.labels.into_iter().collect(),
            mode,
        }
    }
}

/// Records to be written: the last value of each key; None deletes the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// By key.
    pub records: BTreeMap<Bytes, Option<Bytes>>,
}

impl Changes {
    pub(crate) fn put(&mut self, key: impl Into<Bytes>, value: Vec<u8>) {
        self.records.insert(key.into(), Some(value.into()));
    }

    pub(crate) fn delete(&mut self, key: impl Into<Bytes>) {
        self.records.insert(key.into(), None);
    }
}

/// Everything read back at open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The last applied entry; zero in a new directory.
    pub applied: Position,
    /// None in a new directory.
    pub members: Option<Members>,
    /// None before the cluster's first command.
    pub meta: Option<proto::PdMeta>,
    /// Set while it waits to be created.
    pub first_region: Option<Region>,
    /// Stores that have never been a region's member.
    pub new_stores: Vec<StoreId>,
    /// All regions.
    pub regions: RangeMap,
    /// All stores ever registered.
    pub stores: Vec<StoreRecord>,
}

/// Why the state could not be read. Fatal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The disk failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A record is not what was written there.
    #[error("state record '{}' of {} bytes is damaged: {reason}", char::from(*.kind), .key_bytes)]
    Damaged {
        /// The key's first byte, which says what the record is.
        kind: u8,
        /// The key's length.
        key_bytes: usize,
        /// What does not fit.
        reason: String,
    },
}

/// Reads everything back.
pub fn load(store: &StateStore) -> Result<Loaded, LoadError> {
    let mut rows: Vec<(Bytes, Bytes)> = vec![];
    store.scan(&KeyRange::all(), Order::Ascending, &mut |key, value| {
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        true
    })?;
    let mut loaded = Loaded::default();
    for (key, value) in rows {
        let kind = key.first().copied().unwrap_or(b'?');
        let key_bytes = key.len();
        loaded.take(&key, value).map_err(|error| LoadError::Damaged {
            kind,
            key_bytes,
            reason: error.to_string(),
        })?;
    }
    Ok(loaded)
}

impl Loaded {
    /// True for a directory of before there were several members: its member is alone, and no
    /// record says so.
    pub fn is_of_lone_member(&self) -> bool {
        self.members.is_none() && self.applied.index > 0
    }

    fn take(&mut self, key: &[u8], value: Bytes) -> Result<(), WireError> {
        match (key, key.split_first()) {
            (APPLIED_KEY, _) => self.applied = decode_position(&value)?,
            (GROUP_KEY, _) => self.members = Some(Members::decode(&value)?),
            (META_KEY, _) => self.meta = Some(proto::PdMeta::decode(value)?),
            (FIRST_REGION_KEY, _) => self.first_region = Some(decode_region(value)?),
            (_, Some((&NEW_STORE_PREFIX, id))) => self.new_stores.push(StoreId(decode_id(id)?)),
            (_, Some((&REGION_PREFIX, _))) => {
                let region = decode_region(value)?;
                if self.regions.overlapping(&region.range).next().is_some() {
                    return Err(WireError::Malformed("it overlaps another region".into()));
                }
                self.regions.upsert(region);
            }
            (_, Some((&STORE_PREFIX, _))) => {
                self.stores.push(StoreRecord::from_wire(proto::Store::decode(value)?));
            }
            _ => return Err(WireError::Malformed("no such kind of record".into())),
        }
        Ok(())
    }
}

pub(crate) fn store_key(id: StoreId) -> Bytes {
    id_key(STORE_PREFIX, id.0)
}

pub(crate) fn region_key(id: RegionId) -> Bytes {
    id_key(REGION_PREFIX, id.0)
}

pub(crate) fn new_store_key(id: StoreId) -> Bytes {
    id_key(NEW_STORE_PREFIX, id.0)
}

pub(crate) fn encode_region(region: &Region) -> Vec<u8> {
    proto::Region::from(region.clone()).encode_to_vec()
}

pub(crate) fn encode_position(position: Position) -> Vec<u8> {
    let mut value = Vec::with_capacity(16);
    value.put_u64(position.index);
    value.put_u64(position.term);
    value
}

fn id_key(prefix: u8, id: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(9);
    key.put_u8(prefix);
    key.put_u64(id);
    key.freeze()
}

fn decode_region(value: Bytes) -> Result<Region, WireError> {
    proto::Region::decode(value)?.try_into()
}

fn decode_id(id: &[u8]) -> Result<u64, WireError> {
    let bytes = id.try_into().map_err(|_| WireError::Malformed("an id of 8 bytes".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

fn decode_position(value: &[u8]) -> Result<Position, WireError> {
    let (index, term) = value
        .split_at_checked(8)
        .ok_or_else(|| WireError::Malformed("a position of 16 bytes".into()))?;
    Ok(Position { index: decode_id(index)?, term: decode_id(term)? })
}

#[cfg(test)]
mod tests {
    use flotilla_engine::StateBatch;
    use flotilla_types::{Epoch, Member, PeerId};

    use super::*;

    fn loaded(rows: Vec<(Bytes, Vec<u8>)>) -> Result<Loaded, LoadError> {
        let store = StateStore::in_memory();
        let mut batch = StateBatch::default();
        rows.into_iter().for_each(|(key, value)| batch.put(key, value));
        store.write(batch).expect("memory does not fail");
        load(&store)
    }

    fn region(id: u64, range: KeyRange) -> (Bytes, Vec<u8>) {
        let members = vec![Member::voter(PeerId(2), StoreId(1))];
        let region = Region { id: RegionId(id), range, epoch: Epoch::FIRST, members };
        (region_key(region.id), encode_region(&region))
    }

    #[test]
    fn what_was_written_is_read_back() {
        let store = StoreRecord {
            id: StoreId(1),
            addr: "a:1".into(),
            labels: [("zone".to_string(), "a".to_string())].into(),
            mode: StoreMode::Removed,
        };
        let applied = Position { index: 9, term: 4 };
        let read = loaded(vec![
            (APPLIED_KEY.into(), encode_position(applied)),
            (store_key(store.id), store.to_wire().encode_to_vec()),
            (new_store_key(StoreId(1)), vec![]),
            region(3, KeyRange::new("", "m")),
            region(4, KeyRange::new("m", "")),
        ])
        .expect("whole");
        assert_eq!((read.applied, read.stores), (applied, vec![store]));
        assert_eq!((read.new_stores, read.regions.len()), (vec![StoreId(1)], 2));
        assert_eq!(read.regions.first_hole(), None);
    }

    #[test]
    fn a_state_that_is_only_observed_counts_as_in_service() {
        for state in [proto::StoreState::Disconnected, proto::StoreState::Down] {
            let wire = proto::Store { id: 1, state: state.into(), ..proto::Store::default() };
            assert_eq!(StoreRecord::from_wire(wire).mode, StoreMode::Up, "{state:?}");
        }
        let draining = proto::StoreState::Draining.into();
        let wire = proto::Store { id: 1, state: draining, ..proto::Store::default() };
        assert_eq!(StoreRecord::from_wire(wire).mode, StoreMode::Draining);
    }

    #[test]
    fn a_damaged_record_is_refused_and_named() {
        let no_message = || vec![0xff; 3];
        let cases: [(Bytes, Vec<u8>, &str); 9] = [
            (APPLIED_KEY.into(), vec![0; 7], "record 'a' of 1 bytes is damaged"),
            (APPLIED_KEY.into(), vec![0; 15], "record 'a' of 1 bytes is damaged"),
            (META_KEY.into(), no_message(), "record 'm' of 1 bytes is damaged"),
            (FIRST_REGION_KEY.into(), no_message(), "record 'f' of 1 bytes is damaged"),
            ("n123".into(), vec![], "record 'n' of 4 bytes is damaged"),
            (region_key(RegionId(3)), no_message(), "record 'r' of 9 bytes is damaged"),
            (store_key(StoreId(3)), no_message(), "record 's' of 9 bytes is damaged"),
            ("z".into(), vec![], "record 'z' of 1 bytes is damaged: "),
            (Bytes::new(), vec![], "record '?' of 0 bytes is damaged: "),
        ];
        for (key, value, told) in cases {
            let error = loaded(vec![(key, value)]).expect_err(told).to_string();
            assert!(error.contains(told), "'{error}' does not say: {told}");
        }
    }

    #[test]
    fn regions_that_overlap_are_refused() {
        let all = || KeyRange::new("", "");
        let error = loaded(vec![region(3, all()), region(4, all())]).expect_err("two of one key");
        assert!(error.to_string().contains("overlaps another region"), "{error}");
    }
}
