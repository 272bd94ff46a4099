//! Messages to requests, and answers to messages.
//!
//! Everything that came from outside is checked here and nowhere behind: what this version does not
//! know is refused as [`RegionError::Unsupported`], what exceeds a limit as
//! [`RegionError::LimitExceeded`]. A request gets its deadline here, too.

use bytes::Bytes;
use flotilla_metrics::process;
use flotilla_types::limits::{CHUNK_BYTES_MAX, granted_timeout_ms};
use flotilla_types::proto::{
    MemoryHeld, MemoryReply, Pair, RegionRef, Reply, Request as WireRequest, Route, RoutesReply,
    ScanChunk, ScanRequest, reply,
};
use flotilla_types::request::validate;
use flotilla_types::wire::{decode_op, encode_reply};
use flotilla_types::{
    Answer, KeyRange, Member, Millis, Op, Region, RegionError, RegionId, ScanOp, WireError,
};
use prost::Message;

use crate::core::census::Census;
use crate::core::held_routes::HeldRoutes;
use crate::core::{Request, RequestId};
use crate::driver::account::Account;
use crate::driver::inbox::RequestResult;

/// The request that arrived at `now`, and its size in bytes.
pub fn request(now: Millis, wire: WireRequest) -> Result<(Request, usize), RegionError> {
    let op = decode_op(wire.op).map_err(unsupported)?;
    let bytes = validate(&op)?;
    let deadline = now.plus(granted_timeout_ms(wire.timeout_ms));
    Ok((routed(&wire.region.unwrap_or_default(), deadline, op), bytes))
}

/// The whole scan; each of its chunks has at most about [`CHUNK_BYTES_MAX`].
pub fn scan(wire: ScanRequest) -> Result<ScanOp, RegionError> {
    let scan = ScanOp {
        range: KeyRange::from(wire.span.unwrap_or_default()),
        limit: wire.limit,
        bytes_max: CHUNK_BYTES_MAX,
        is_reverse: wire.reverse,
        keys_only: wire.keys_only,
    };
    validate(&Op::Scan(scan.clone()))?;
    Ok(scan)
}

/// A request to the region that `to` names. Its id is the worker's thread's to choose.
pub fn routed(to: &RegionRef, deadline: Millis, op: Op) -> Request {
    let epoch = to.epoch.unwrap_or_default().into();
    Request { id: RequestId(0), region: RegionId(to.region_id), epoch, deadline, op }
}

fn unsupported(error: WireError) -> RegionError {
    let what = match error {
        WireError::Unsupported(what) => what.to_string(),
        WireError::Malformed(_) | WireError::Missing(_) | WireError::Format { .. } => {
            error.to_string()
        }
    };
    RegionError::Unsupported { what }
}

/// What a reply that carries nothing weighs.
const REPLY_BYTES: usize = 64;

/// The reply to the request `id`, and about how many bytes it takes.
pub fn reply((id, result): (u64, RequestResult)) -> (Reply, usize) {
    let answer_bytes = result.as_ref().map_or(0, Answer::bytes);
    let result = encode_reply(result);
    let error_bytes = match &result {
        reply::Result::Error(error) => error.encoded_len(),
        _ => 0,
    };
    (Reply { id, result: Some(result) }, REPLY_BYTES + answer_bytes + error_bytes)
}

/// A chunk of rows; the last one if `done`.
pub fn chunk(pairs: Vec<(Bytes, Bytes)>, done: bool) -> ScanChunk {
    let pairs = pairs.into_iter().map(|(key, value)| Pair { key, value }).collect();
    ScanChunk { error: None, pairs, done }
}

/// What the store holds around a key. The caller adds who it is.
pub fn held_routes(held: HeldRoutes) -> RoutesReply {
    let route = |(region, leader): (Region, Option<Member>)| Route {
        region: Some(region.into()),
        leader: leader.map(Into::into),
        ..Route::default()
    };
    RoutesReply {
        routes: held.routes.into_iter().map(route).collect(),
        stores: held.stores.into_iter().map(Into::into).collect(),
        ..RoutesReply::default()
    }
}

/// The account of the store's memory.
pub fn memory(account: &Account, census: Option<&Census>) -> MemoryReply {
    let held = account.read(census).into_iter().map(|held| MemoryHeld {
        kind: held.kind.to_string(),
        bytes: held.bytes,
        bytes_max: held.bytes_max,
    });
    MemoryReply {
        error: None,
        held: held.collect(),
        // What is not known is NaN, which becomes 0.
        resident_bytes: process::resident_bytes() as u64,
        bytes_max: account.memory_bytes() as u64,
    }
}

/// The chunk that ends a scan with a refusal.
pub fn refused_chunk(error: RegionError) -> ScanChunk {
    ScanChunk { error: Some(error.into()), pairs: vec![], done: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::WriteOp;
    use flotilla_types::keys::stored_key;
    use flotilla_types::limits::{KEY_BYTES_MAX, TIMEOUT_MS_DEFAULT};
    use flotilla_types::proto::{Get, KeySpan, Mutation, Write, request};

    fn wire(op: Option<request::Op>) -> WireRequest {
        WireRequest { id: 7, op, ..WireRequest::default() }
    }

    fn get(key: Bytes) -> WireRequest {
        wire(Some(request::Op::Get(Get { keys: vec![key] })))
    }

    #[test]
    fn a_request_comes_with_its_size_and_its_deadline() {
        let (decoded, bytes) = request(Millis(5), get(stored_key(0, b"k"))).expect("valid");
        assert_eq!(bytes, 5);
        assert_eq!(decoded.deadline, Millis(5 + TIMEOUT_MS_DEFAULT));
        assert_eq!(decoded.op, Op::Get(vec![stored_key(0, b"k")]));
    }

    #[test]
    fn what_this_store_does_not_know_is_unsupported() {
        let unknown = Err(RegionError::Unsupported { what: "this kind of request".into() });
        assert_eq!(request(Millis(1), wire(None)), unknown);
        let write = Write { mutations: vec![Mutation { kind: None }] };
        let unknown = Err(RegionError::Unsupported { what: "this kind of mutation".into() });
        assert_eq!(request(Millis(1), wire(Some(request::Op::Write(write)))), unknown);
    }

    #[test]
    fn requests_and_scans_over_a_limit_are_refused() {
        let too_long = stored_key(0, &[b'k'; KEY_BYTES_MAX + 1]);
        let refused = request(Millis(1), get(too_long.clone()));
        assert!(matches!(refused, Err(RegionError::LimitExceeded { .. })), "{refused:?}");
        let span = Some(KeySpan { start: too_long.clone(), end: Bytes::new() });
        assert!(scan(ScanRequest { span, ..ScanRequest::default() }).is_ok(), "after a key");
        let span =
            Some(KeySpan { start: [&too_long[..], b"k"].concat().into(), end: Bytes::new() });
        let refused = scan(ScanRequest { span, ..ScanRequest::default() });
        assert!(matches!(refused, Err(RegionError::LimitExceeded { .. })), "{refused:?}");
    }

    #[test]
    fn an_empty_write_is_a_write_of_nothing() {
        let write = wire(Some(request::Op::Write(Write { mutations: vec![] })));
        let (decoded, bytes) = request(Millis(1), write).expect("valid");
        assert_eq!((decoded.op, bytes), (Op::Write(WriteOp::Mutate(vec![])), 0));
    }

    #[test]
    fn a_reply_weighs_what_it_carries() {
        let value = Some(Bytes::from(vec![0; 1000]));
        assert!(reply((1, Ok(Answer::Get(vec![value.clone(), None])))).1 >= 1000);
        assert!(reply((1, Ok(Answer::Swapped { swapped: false, previous: value }))).1 >= 1000);
        assert_eq!(reply((1, Ok(Answer::Written))).1, REPLY_BYTES);
        let error = RegionError::Unsupported { what: "x".repeat(1000) };
        assert!(reply((1, Err(error))).1 >= 1000);
    }
}
