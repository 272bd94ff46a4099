//! Requests, answers and writes.
//!
//! [`entry_bytes`] says how long a write is in a log entry without encoding it.

use bytes::Bytes;
use prost::length_delimiter_len;

use super::WireError;
use crate::error::RegionError;
use crate::proto;
use crate::region::KeyRange;
use crate::request::{Answer, CompareAndSwap, Mutation, Op, WriteOp};

/// The message of a request for a client's stream.
///
/// # Panics
/// For a scan, which has a call of its own (`Kv.Scan`).
pub fn encode_op(op: Op) -> proto::request::Op {
    match op {
        Op::Get(keys) => proto::request::Op::Get(proto::Get { keys }),
        Op::Write(WriteOp::Mutate(mutations)) => {
            proto::request::Op::Write(mutations_to_wire(mutations))
        }
        Op::Write(WriteOp::CompareAndSwap(swap)) => proto::request::Op::CompareAndSwap(swap.into()),
        Op::Scan(_) => unreachable!("a scan has a call of its own"),
    }
}

/// A request of a client's stream.
///
/// # Errors
/// [`WireError::Unsupported`] if the request, or a mutation, is of a kind that this version does
/// not know.
pub fn decode_op(op: Option<proto::request::Op>) -> Result<Op, WireError> {
    Ok(match op.ok_or(WireError::Unsupported("this kind of request"))? {
        proto::request::Op::Get(get) => Op::Get(get.keys),
        proto::request::Op::Write(write) => Op::Write(WriteOp::Mutate(mutations_from_wire(write)?)),
        proto::request::Op::CompareAndSwap(swap) => Op::Write(WriteOp::CompareAndSwap(swap.into())),
    })
}

/// The message of an answer, or of a refusal, for a client's stream.
///
/// # Panics
/// For rows, which travel on the stream of their scan.
pub fn encode_reply(result: Result<Answer, RegionError>) -> proto::reply::Result {
    match result {
        Ok(Answer::Get(values)) => {
            let slots = values.into_iter().map(slot).collect();
            proto::reply::Result::Get(proto::GetReply { slots })
        }
        Ok(Answer::Written) => proto::reply::Result::Write(proto::WriteReply {}),
        Ok(Answer::Swapped { swapped, previous }) => {
            let previous = Some(slot(previous));
            proto::reply::Result::CompareAndSwap(proto::CompareAndSwapReply { swapped, previous })
        }
        Ok(Answer::Scan { .. }) => unreachable!("rows travel on the stream of their scan"),
        Err(error) => proto::reply::Result::Error(error.into()),
    }
}

/// An answer, or a refusal, of a client's stream.
///
/// # Errors
/// A [`WireError`] if a refusal is of a kind that this version does not know.
pub fn decode_reply(reply: proto::reply::Result) -> Result<Result<Answer, RegionError>, WireError> {
    Ok(match reply {
        proto::reply::Result::Error(error) => Err(error.try_into()?),
        proto::reply::Result::Get(get) => {
            Ok(Answer::Get(get.slots.into_iter().map(value).collect()))
        }
        proto::reply::Result::Write(proto::WriteReply {}) => Ok(Answer::Written),
        proto::reply::Result::CompareAndSwap(reply) => {
            let previous = reply.previous.and_then(value);
            Ok(Answer::Swapped { swapped: reply.swapped, previous })
        }
    })
}

impl From<WriteOp> for proto::WriteOp {
    fn from(op: WriteOp) -> proto::WriteOp {
        let op = match op {
            WriteOp::Mutate(mutations) => proto::write_op::Op::Write(mutations_to_wire(mutations)),
            WriteOp::CompareAndSwap(swap) => proto::write_op::Op::CompareAndSwap(swap.into()),
        };
        proto::WriteOp { op: Some(op) }
    }
}

impl TryFrom<proto::WriteOp> for WriteOp {
    type Error = WireError;

    fn try_from(op: proto::WriteOp) -> Result<WriteOp, WireError> {
        Ok(match op.op.ok_or(WireError::Unsupported("this kind of write"))? {
            proto::write_op::Op::Write(write) => WriteOp::Mutate(mutations_from_wire(write)?),
            proto::write_op::Op::CompareAndSwap(swap) => WriteOp::CompareAndSwap(swap.into()),
        })
    }
}

/// The bytes of a write's message, as prost would count them.
pub fn entry_bytes(op: &WriteOp) -> usize {
    match op {
        WriteOp::Mutate(mutations) => {
            mutations.iter().map(|mutation| field(mutation_bytes(mutation))).sum()
        }
        WriteOp::CompareAndSwap(CompareAndSwap { key, expected, new }) => {
            let slot = |value: &Option<Bytes>| {
                field(value.as_ref().map_or(0, |value| BOOL_BYTES + bytes_field(value)))
            };
            bytes_field(key) + slot(expected) + slot(new)
        }
    }
}

fn mutation_bytes(mutation: &Mutation) -> usize {
    match mutation {
        Mutation::Put { key, value } => field(bytes_field(key) + bytes_field(value)),
        Mutation::Delete { key } => field(key.len()),
        Mutation::DeleteRange(range) => field(bytes_field(&range.start) + bytes_field(&range.end)),
    }
}

/// A true `bool` with its tag; a false one takes nothing.
const BOOL_BYTES: usize = 2;

/// A field of `len` bytes with its tag, which takes one byte for all fields of these messages.
fn field(len: usize) -> usize {
    1 + length_delimiter_len(len) + len
}

/// A field that is left out if it is empty.
fn bytes_field(bytes: &Bytes) -> usize {
    if bytes.is_empty() { 0 } else { field(bytes.len()) }
}

fn mutations_to_wire(mutations: Vec<Mutation>) -> proto::Write {
    proto::Write { mutations: mutations.into_iter().map(proto::Mutation::from).collect() }
}

fn mutations_from_wire(write: proto::Write) -> Result<Vec<Mutation>, WireError> {
    write.mutations.into_iter().map(Mutation::try_from).collect()
}

impl From<Mutation> for proto::Mutation {
    fn from(mutation: Mutation) -> proto::Mutation {
        let kind = match mutation {
            Mutation::Put { key, value } => proto::mutation::Kind::Put(proto::Pair { key, value }),
            Mutation::Delete { key } => proto::mutation::Kind::Delete(key),
            Mutation::DeleteRange(range) => proto::mutation::Kind::DeleteRange(range.into()),
        };
        proto::Mutation { kind: Some(kind) }
    }
}

impl TryFrom<proto::Mutation> for Mutation {
    type Error = WireError;

    fn try_from(mutation: proto::Mutation) -> Result<Mutation, WireError> {
        Ok(match mutation.kind.ok_or(WireError::Unsupported("this kind of mutation"))? {
            proto::mutation::Kind::Put(proto::Pair { key, value }) => Mutation::Put { key, value },
            proto::mutation::Kind::Delete(key) => Mutation::Delete { key },
            proto::mutation::Kind::DeleteRange(span) => Mutation::DeleteRange(KeyRange::from(span)),
        })
    }
}

impl From<CompareAndSwap> for proto::CompareAndSwap {
    fn from(swap: CompareAndSwap) -> proto::CompareAndSwap {
        let (expected, new) = (Some(slot(swap.expected)), Some(slot(swap.new)));
        proto::CompareAndSwap { key: swap.key, expected, new }
    }
}

impl From<proto::CompareAndSwap> for CompareAndSwap {
    fn from(swap: proto::CompareAndSwap) -> CompareAndSwap {
        let (expected, new) = (swap.expected.and_then(value), swap.new.and_then(value));
        CompareAndSwap { key: swap.key, expected, new }
    }
}

fn slot(value: Option<Bytes>) -> proto::Slot {
    proto::Slot { found: value.is_some(), value: value.unwrap_or_default() }
}

fn value(slot: proto::Slot) -> Option<Bytes> {
    slot.found.then_some(slot.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RegionId;
    use prost::Message;

    fn swap(expected: Option<&'static str>, new: Option<&'static str>) -> WriteOp {
        let (expected, new) = (expected.map(Bytes::from), new.map(Bytes::from));
        WriteOp::CompareAndSwap(CompareAndSwap { key: "k".into(), expected, new })
    }

    fn put(key: &'static str, value: Vec<u8>) -> Mutation {
        Mutation::Put { key: key.into(), value: value.into() }
    }

    fn writes() -> Vec<WriteOp> {
        vec![
            WriteOp::Mutate(vec![]),
            WriteOp::Mutate(vec![
                put("k", b"v".to_vec()),
                put("k", vec![]),
                put("", vec![]),
                put("long", vec![7; 200]),
                put("longer", vec![7; 70_000]),
                Mutation::Delete { key: "k".into() },
                Mutation::Delete { key: Bytes::new() },
                Mutation::DeleteRange(KeyRange::new("a", "")),
                Mutation::DeleteRange(KeyRange::new("a", "b")),
            ]),
            swap(None, None),
            swap(None, Some("")),
            swap(Some("1"), Some("2")),
            swap(Some("1"), None),
        ]
    }

    #[test]
    fn writes_survive_the_round_trip() {
        for op in writes() {
            let wire = proto::WriteOp::from(op.clone());
            let decoded = proto::WriteOp::decode(&wire.encode_to_vec()[..]).expect("as encoded");
            assert_eq!(WriteOp::try_from(decoded), Ok(op));
        }
    }

    #[test]
    fn a_write_is_as_long_as_prost_says() {
        for op in writes() {
            let encoded_len = match proto::WriteOp::from(op.clone()).op {
                Some(proto::write_op::Op::Write(write)) => write.encoded_len(),
                Some(proto::write_op::Op::CompareAndSwap(swap)) => swap.encoded_len(),
                None => panic!("a write has a kind"),
            };
            assert_eq!(entry_bytes(&op), encoded_len, "{op:?}");
        }
    }

    #[test]
    fn requests_survive_the_round_trip() {
        let get = Op::Get(vec!["a".into(), "b".into()]);
        for op in writes().into_iter().map(Op::Write).chain([get, Op::Get(vec![])]) {
            assert_eq!(decode_op(Some(encode_op(op.clone()))), Ok(op));
        }
    }

    #[test]
    fn answers_survive_the_round_trip() {
        for result in [
            Ok(Answer::Get(vec![None, Some("".into()), Some("v".into())])),
            Ok(Answer::Written),
            Ok(Answer::Swapped { swapped: true, previous: None }),
            Ok(Answer::Swapped { swapped: false, previous: Some("v".into()) }),
            Err(RegionError::RegionNotFound { region_id: RegionId(1) }),
        ] {
            assert_eq!(decode_reply(encode_reply(result.clone())), Ok(result));
        }
    }

    #[test]
    fn an_absent_slot_is_an_absent_key() {
        let short = proto::CompareAndSwap { key: "k".into(), expected: None, new: None };
        assert_eq!(WriteOp::CompareAndSwap(short.into()), swap(None, None));
    }

    #[test]
    fn what_this_version_does_not_know_is_unsupported() {
        let is_unsupported = |error| matches!(error, WireError::Unsupported(_));
        assert!(decode_op(None).is_err_and(is_unsupported));
        assert!(WriteOp::try_from(proto::WriteOp::default()).is_err_and(is_unsupported));
        let write = proto::Write { mutations: vec![proto::Mutation::default()] };
        let unknown = decode_op(Some(proto::request::Op::Write(write)));
        assert!(unknown.is_err_and(is_unsupported));
        let no_kind = proto::reply::Result::Error(proto::RegionError::default());
        assert!(decode_reply(no_kind).is_err());
    }
}
