//! The layout of a store's state.
//!
//! ```text
//!   01 'i'                     StoreIdent        which store this is
//!   01 'r' region id (8, BE)   PeerRecord        a peer that has state, and its region
//!   01 'a' region id           AppliedRecord     how far that state goes
//!   01 't' region id           TombstoneRecord   the last peer that was removed from here
//!   01 'b' store id (8, BE)    AddressRecord     where another store listens
//!   01 'p'                     PdAddrsRecord     where the placement driver's members listen
//!   02 stored key              header byte, value
//! ```
//!
//! All regions' rows share one key space: a split moves no data. A row's value begins with a header
//! byte that says how the rest is to be read.

use bytes::{BufMut, Bytes, BytesMut};
use flotilla_engine::{Order, StateBatch, StateStore};
use flotilla_group::Position;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto;
use flotilla_types::{KeyRange, PeerId, Region, RegionId, StoreId, WireError};
use prost::Message;

use super::Fatal;

const RECORD: u8 = 1;
const DATA: u8 = 2;
const IDENT: u8 = b'i';
const PEER: u8 = b'r';
const APPLIED: u8 = b'a';
const TOMBSTONE: u8 = b't';
const ADDRESS: u8 = b'b';
const PD_ADDRS: u8 = b'p';

/// Header byte of a plain value.
const VALUE_PLAIN: u8 = 0;

/// What walking over a deleted row counts beside its key: about as much as a small row's value.
const DELETED_ROW_BYTES: usize = 16;

/// The index and term of the entry before a new region's first. Not zero, so that a peer without
/// state, at index zero, is always behind and gets a snapshot.
pub const FIRST_INDEX: u64 = 5;

/// How far the state of a new region goes.
pub const FIRST: Position = Position { index: FIRST_INDEX, term: FIRST_INDEX };

/// A peer as it is found at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPeer {
    /// The peer.
    pub peer: PeerId,
    /// Its region.
    pub region: Region,
    /// How far its state goes.
    pub applied: Position,
    /// Its region's bytes and rows, if they were known.
    pub size: Option<(u64, u64)>,
}

/// The state key of a stored key.
pub fn data_key(stored: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + stored.len());
    key.put_u8(DATA);
    key.put_slice(stored);
    key.freeze()
}

/// The stored key of a state key in the data range.
pub fn stored_key(state_key: &[u8]) -> &[u8] {
    state_key.get(1..).unwrap_or_default()
}

/// What walking over a deleted row counts, in bytes.
pub fn deleted_row_bytes(state_key: &[u8]) -> usize {
    state_key.len() + DELETED_ROW_BYTES
}

/// The state range of a range of stored keys.
pub fn data_range(range: &KeyRange) -> KeyRange {
    let end =
        if range.end.is_empty() { Bytes::from_static(&[DATA + 1]) } else { data_key(&range.end) };
    KeyRange { start: data_key(&range.start), end }
}

/// The stored form of a value.
pub fn encode_value(value: &[u8]) -> Bytes {
    let mut stored = BytesMut::with_capacity(1 + value.len());
    stored.put_u8(VALUE_PLAIN);
    stored.put_slice(value);
    stored.freeze()
}

/// The value within its stored form.
pub fn decode_value(stored: Bytes) -> Result<Bytes, Fatal> {
    match stored.first() {
        Some(&VALUE_PLAIN) => Ok(stored.slice(1..)),
        Some(&format) => Err(unreadable("a value", WireError::Format { format: format.into() })),
        None => Err(unreadable("a value", WireError::Missing("header byte"))),
    }
}

fn record_key(kind: u8, id: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(10);
    key.put_u8(RECORD);
    key.put_u8(kind);
    key.put_u64(id);
    key.freeze()
}

fn kind_range(kind: u8) -> KeyRange {
    KeyRange::new(vec![RECORD, kind], vec![RECORD, kind + 1])
}

fn unreadable(what: impl Into<String>, source: WireError) -> Fatal {
    Fatal::Unreadable { what: what.into(), source }
}

/// Writes a peer's record.
pub fn put_peer(batch: &mut StateBatch, peer: PeerId, region: &Region) {
    let record = proto::PeerRecord { region: Some(region.clone().into()), peer_id: peer.0 };
    batch.put(record_key(PEER, region.id.0), record.encode_to_vec());
}

/// Writes how far a peer's state goes, and how many bytes and rows its region has, if known.
pub fn put_applied(
    batch: &mut StateBatch,
    region: RegionId,
    applied: Position,
    size: Option<(u64, u64)>,
) {
    let Position { index, term } = applied;
    let (bytes, keys) = size.unzip();
    let record = proto::AppliedRecord { index, term, bytes, keys };
    batch.put(record_key(APPLIED, region.0), record.encode_to_vec());
}

/// Writes the tombstone of a peer that is destroyed, and drops its other records.
pub fn put_tombstone(batch: &mut StateBatch, region: RegionId, peer: PeerId) {
    batch.delete(record_key(PEER, region.0));
    batch.delete(record_key(APPLIED, region.0));
    if planted(Mutant::TombstoneUnwritten) {
        return;
    }
    let record = proto::TombstoneRecord { peer_id: peer.0 };
    batch.put(record_key(TOMBSTONE, region.0), record.encode_to_vec());
}

/// Which store this is, if the directory was ever one's.
pub fn load_ident(state: &StateStore) -> Result<Option<(u64, StoreId)>, Fatal> {
    let Some(record) = state.get(&[RECORD, IDENT])? else { return Ok(None) };
    let ident = proto::StoreIdent::decode(record)
        .map_err(|e| unreadable("the store's identity", e.into()))?;
    Ok(Some((ident.cluster_id, StoreId(ident.store_id))))
}

/// Writes which store this is; written once.
pub fn put_ident(batch: &mut StateBatch, cluster_id: u64, store: StoreId) {
    let record = proto::StoreIdent { cluster_id, store_id: store.0 };
    batch.put(vec![RECORD, IDENT], record.encode_to_vec());
}

/// Writes where another store listens.
pub fn put_address(batch: &mut StateBatch, store: StoreId, addr: &str) {
    let record = proto::AddressRecord { addr: addr.to_string() };
    batch.put(record_key(ADDRESS, store.0), record.encode_to_vec());
}

/// Where the other stores listen.
pub fn load_addresses(state: &StateStore) -> Result<Vec<(StoreId, String)>, Fatal> {
    let records = load_kind(state, ADDRESS)?.into_iter();
    records
        .map(|(store, record)| {
            let record = proto::AddressRecord::decode(record)
                .map_err(|e| unreadable(format!("the address of store {store}"), e.into()))?;
            Ok((StoreId(store.0), record.addr))
        })
        .collect()
}

/// Writes where the placement driver's members listen.
pub fn put_pd_addrs(batch: &mut StateBatch, addrs: &[String]) {
    let record = proto::PdAddrsRecord { addrs: addrs.to_vec() };
    batch.put(vec![RECORD, PD_ADDRS], record.encode_to_vec());
}

/// Where the placement driver's members listen; empty if none has said so.
pub fn load_pd_addrs(state: &StateStore) -> Result<Vec<String>, Fatal> {
    let Some(record) = state.get(&[RECORD, PD_ADDRS])? else { return Ok(vec![]) };
    let record = proto::PdAddrsRecord::decode(record)
        .map_err(|e| unreadable("the addresses of the placement driver", e.into()))?;
    Ok(record.addrs)
}

/// The peers that have state, by region id.
pub fn load_peers(state: &StateStore) -> Result<Vec<SavedPeer>, Fatal> {
    let mut saved = vec![];
    for (region_id, record) in load_kind(state, PEER)? {
        let what = || format!("the record of region {region_id}");
        let record = proto::PeerRecord::decode(record).map_err(|e| unreadable(what(), e.into()))?;
        let region = record.region.ok_or(WireError::Missing("peer_record.region"));
        let region = region.and_then(Region::try_from).map_err(|e| unreadable(what(), e))?;
        let (applied, size) = load_applied(state, region.id)?;
        saved.push(SavedPeer { peer: PeerId(record.peer_id), region, applied, size });
    }
    Ok(saved)
}

fn load_applied(
    state: &StateStore,
    region: RegionId,
) -> Result<(Position, Option<(u64, u64)>), Fatal> {
    let what = || format!("the applied index of region {region}");
    let record = state
        .get(&record_key(APPLIED, region.0))?
        .ok_or_else(|| unreadable(what(), WireError::Missing("record")))?;
    let record = proto::AppliedRecord::decode(record).map_err(|e| unreadable(what(), e.into()))?;
    let applied = Position { index: record.index, term: record.term };
    Ok((applied, record.bytes.zip(record.keys)))
}

/// The peers that were removed from this store and must not live again.
pub fn load_tombstones(state: &StateStore) -> Result<Vec<(RegionId, PeerId)>, Fatal> {
    let mut tombstones = vec![];
    for (region, record) in load_kind(state, TOMBSTONE)? {
        let record = proto::TombstoneRecord::decode(record)
            .map_err(|e| unreadable(format!("the tombstone of region {region}"), e.into()))?;
        tombstones.push((region, PeerId(record.peer_id)));
    }
    Ok(tombstones)
}

fn load_kind(state: &StateStore, kind: u8) -> Result<Vec<(RegionId, Bytes)>, Fatal> {
    let mut rows = vec![];
    state.scan(&kind_range(kind), Order::Ascending, &mut |key, value| {
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        true
    })?;
    let mut records = vec![];
    for (key, value) in rows {
        let id = key
            .get(2..)
            .and_then(|id| id.try_into().ok())
            .map(u64::from_be_bytes)
            .ok_or_else(|| unreadable("a record key", WireError::Missing("region id")))?;
        records.push((RegionId(id), value));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::Epoch;

    #[test]
    fn records_survive_the_round_trip() {
        let state = StateStore::in_memory();
        let region = Region {
            id: RegionId(300),
            range: KeyRange::new("a", ""),
            epoch: Epoch::FIRST,
            members: vec![],
        };
        let mut batch = StateBatch::default();
        put_ident(&mut batch, 77, StoreId(3));
        put_peer(&mut batch, PeerId(8), &region);
        put_applied(&mut batch, region.id, Position { index: 9, term: 2 }, Some((70, 3)));
        put_tombstone(&mut batch, RegionId(5), PeerId(6));
        state.write(batch).expect("in memory");
        assert_eq!(load_ident(&state), Ok(Some((77, StoreId(3)))));
        let (applied, size) = (Position { index: 9, term: 2 }, Some((70, 3)));
        let saved = SavedPeer { peer: PeerId(8), region, applied, size };
        assert_eq!(load_peers(&state), Ok(vec![saved]));
        assert_eq!(load_tombstones(&state), Ok(vec![(RegionId(5), PeerId(6))]));
    }

    #[test]
    fn the_data_range_of_everything_holds_every_key_and_no_record() {
        let all = data_range(&KeyRange::all());
        assert!(all.contains(&data_key(b"")));
        assert!(all.contains(&data_key(&[0xff; 20])));
        assert!(!all.contains(&record_key(TOMBSTONE, u64::MAX)));
    }

    #[test]
    fn a_value_of_an_unknown_format_is_refused() {
        assert_eq!(decode_value(encode_value(b"v")), Ok(Bytes::from("v")));
        assert!(decode_value(Bytes::from_static(b"\x09v")).is_err());
        assert!(decode_value(Bytes::new()).is_err());
    }
}
