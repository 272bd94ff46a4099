//! What a replica has applied: its rows, between two looks that say the same index
//! ([`crate::core::held_replica`]).
//!
//! Rows are read in pieces of [`PIECE_BYTES`], and writes do not wait for the disk meanwhile
//! ([`StateStore::walk_aside`]).

use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::{EngineError, Order, StateStore, Walked};
use flotilla_types::keys::key_after;
use flotilla_types::proto::{ReplicaReply, ReplicaRequest, Slot};
use flotilla_types::{KeyRange, RegionError, RegionId};
use tonic::Status;
use twox_hash::xxhash3_128::Hasher;

use super::{KvService, busy};
use crate::core::held_replica::HeldReplica;
use crate::core::records::{data_key, data_range, decode_value, deleted_row_bytes};
use crate::driver::inbox::Mail;

/// What a look counts for in the inbox.
const LOOK_BYTES: usize = 1024;

/// Bytes of one piece, deleted rows included.
const PIECE_BYTES: usize = 1024 * 1024;

/// Readings of a replica that goes on applying, before the caller is told to try again.
const READINGS_MAX: usize = 5;

/// Keys whose rows one question may ask for.
const KEYS_MAX: usize = 64;

/// The rows of a replica at one index.
struct Rows {
    count: u64,
    bytes: u64,
    digest: u128,
    slots: Vec<Slot>,
}

/// Answers a question; what is wrong with the replica stands in the reply.
pub async fn read(service: &KvService, asked: ReplicaRequest) -> Result<ReplicaReply, Status> {
    match tried(service, asked).await? {
        Ok(reply) => Ok(reply),
        Err(error) => Ok(ReplicaReply { error: Some(error.into()), ..ReplicaReply::default() }),
    }
}

async fn tried(
    service: &KvService,
    asked: ReplicaRequest,
) -> Result<Result<ReplicaReply, RegionError>, Status> {
    let region_id = RegionId(asked.region_id);
    if let Err(error) = check(service, &asked) {
        return Ok(Err(error));
    }
    for _ in 0..READINGS_MAX {
        let Some(first) = look(service, region_id).await? else {
            return Ok(Err(RegionError::RegionNotFound { region_id }));
        };
        if first.is_installing {
            continue;
        }
        let rows = rows(service.state.clone(), &first, asked.keys.clone()).await?;
        if look(service, region_id).await?.as_ref() == Some(&first) {
            return Ok(Ok(reply(first, rows)));
        }
    }
    Ok(Err(busy("the replica goes on applying; try again when there are fewer writes")))
}

fn check(service: &KvService, asked: &ReplicaRequest) -> Result<(), RegionError> {
    service.check_destination(asked.cluster_id, asked.store_id)?;
    if asked.keys.len() > KEYS_MAX {
        let (limit, max) = ("keys of a question to a replica".to_string(), KEYS_MAX as u64);
        return Err(RegionError::LimitExceeded { limit, max, actual: asked.keys.len() as u64 });
    }
    Ok(())
}

async fn look(service: &KvService, region: RegionId) -> Result<Option<HeldReplica>, Status> {
    service.inquire(|sink| Mail::Replica(region, sink), LOOK_BYTES).await
}

async fn rows(
    state: Arc<StateStore>,
    look: &HeldReplica,
    keys: Vec<Bytes>,
) -> Result<Rows, Status> {
    let range = look.region.range.clone();
    let read = tokio::task::spawn_blocking(move || read_rows(&state, &range, &keys));
    let failed = |error: String| Status::internal(format!("the replica cannot be read: {error}"));
    match read.await {
        Ok(rows) => rows.map_err(failed),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn read_rows(state: &StateStore, range: &KeyRange, keys: &[Bytes]) -> Result<Rows, String> {
    let mut rows = Rows { count: 0, bytes: 0, digest: 0, slots: vec![] };
    let mut hasher = Hasher::new();
    let mut rest = Some(data_range(range));
    while let Some(range) = rest.take() {
        rest = read_piece(state, &range, &mut rows, &mut hasher)
            .map_err(|error| error.to_string())?
            .map(|last| KeyRange { start: key_after(&last), end: range.end });
    }
    rows.digest = hasher.finish_128();
    for key in keys {
        let stored = state.get(&data_key(key)).map_err(|error| error.to_string())?;
        let value = stored.map(decode_value).transpose().map_err(|error| error.to_string())?;
        rows.slots.push(Slot { found: value.is_some(), value: value.unwrap_or_default() });
    }
    Ok(rows)
}

/// Reads about [`PIECE_BYTES`]. Answers the last key looked at if there may be more after it.
fn read_piece(
    state: &StateStore,
    range: &KeyRange,
    rows: &mut Rows,
    hasher: &mut Hasher,
) -> Result<Option<Bytes>, EngineError> {
    let (mut read, mut walked, mut last) = (0, 0, vec![]);
    let reached = state.walk_aside(range, Order::Ascending, PIECE_BYTES, &mut |key, value| {
        last.clear();
        last.extend_from_slice(key);
        let Some(value) = value else {
            walked += deleted_row_bytes(key);
            return walked < PIECE_BYTES;
        };
        // The lengths keep rows apart whose bytes run together alike.
        hasher.write(&(key.len() as u64).to_le_bytes());
        hasher.write(&(value.len() as u64).to_le_bytes());
        hasher.write(key);
        hasher.write(value);
        rows.count += 1;
        read += key.len() + value.len();
        walked += key.len() + value.len();
        walked < PIECE_BYTES
    })?;
    rows.bytes += read as u64;
    Ok((walked >= PIECE_BYTES || reached == Walked::Part).then(|| Bytes::from(last)))
}

fn reply(look: HeldReplica, rows: Rows) -> ReplicaReply {
    let HeldReplica { region, applied, leader, is_installing: _ } = look;
    ReplicaReply {
        error: None,
        applied_index: applied.index,
        applied_term: applied.term,
        leader_peer_id: leader.map_or(0, |leader| leader.id.0),
        region: Some(region.into()),
        rows: rows.count,
        bytes: rows.bytes,
        digest: rows.digest.to_be_bytes().to_vec().into(),
        slots: rows.slots,
    }
}
