//! How many bytes a message takes on the wire, roughly: what it carries, and a share for the rest.
//! Cheap to compute, and equal in every run.

use flotilla_host::core::message::{Body as Message, Envelope};
use flotilla_types::{Answer, CompareAndSwap, Mutation, Op, RegionError, WriteOp};
use prost::Message as _;

use crate::event::Body;

/// The framing of a message, and what it holds beside keys, values and entries.
const FRAME_BYTES: usize = 64;

/// The same for an entry of a log, or a row.
const ROW_BYTES: usize = 16;

/// The size of a message in bytes.
pub fn bytes(body: &Body) -> u64 {
    let carried = match body {
        Body::Envelope(envelope) => carried_by(envelope),
        Body::Snapshot { envelope, rows, .. } => {
            carried_by(envelope) + rows.iter().map(|(key, value)| row(key, value)).sum::<usize>()
        }
        Body::Request(request) => asked(&request.op),
        Body::Reply { result, .. } => answered(result),
        Body::PdRequest { request, .. } => request.encoded_len(),
        Body::PdReply { reply, .. } => reply.as_ref().map_or(0, |reply| reply.encoded_len()),
        Body::RoutesRequest { key, .. } => key.len(),
        Body::RoutesReply { held, .. } => ROW_BYTES * (held.routes.len() + held.stores.len()),
        Body::SnapshotTaken { .. } | Body::Broken { .. } => 0,
    };
    (FRAME_BYTES + carried) as u64
}

fn carried_by(envelope: &Envelope) -> usize {
    let Message::Message(message) = &envelope.body else { return 0 };
    let entries = message.entries.iter().map(|entry| ROW_BYTES + entry.data.len());
    let snapshot = message.snapshot.as_ref().map_or(0, |meta| meta.data.len());
    entries.sum::<usize>() + snapshot
}

fn row(key: &[u8], value: &[u8]) -> usize {
    ROW_BYTES + key.len() + value.len()
}

fn asked(op: &Op) -> usize {
    match op {
        Op::Get(keys) => keys.iter().map(|key| row(key, &[])).sum(),
        Op::Scan(scan) => row(&scan.range.start, &scan.range.end),
        Op::Write(WriteOp::Mutate(mutations)) => mutations.iter().map(mutated).sum(),
        Op::Write(WriteOp::CompareAndSwap(CompareAndSwap { key, expected, new })) => {
            let values = [expected, new].into_iter().flatten();
            row(key, &[]) + values.map(|value| value.len()).sum::<usize>()
        }
    }
}

fn mutated(mutation: &Mutation) -> usize {
    match mutation {
        Mutation::Put { key, value } => row(key, value),
        Mutation::Delete { key } => row(key, &[]),
        Mutation::DeleteRange(range) => row(&range.start, &range.end),
    }
}

fn answered(result: &Result<Answer, RegionError>) -> usize {
    match result {
        Ok(Answer::Get(values)) => {
            values.iter().map(|value| row(&[], value.as_deref().unwrap_or_default())).sum()
        }
        Ok(Answer::Scan { pairs, .. }) => pairs.iter().map(|(key, value)| row(key, value)).sum(),
        Ok(Answer::Swapped { previous, .. }) => row(&[], previous.as_deref().unwrap_or_default()),
        Ok(Answer::Written) | Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::event::{AttemptId, ClientRequest};
    use flotilla_types::{Epoch, RegionId};

    #[test]
    fn a_message_is_as_large_as_what_it_carries() {
        let value = Bytes::from(vec![0; 5_000]);
        let put = Mutation::Put { key: Bytes::from_static(b"k"), value: value.clone() };
        let op = Op::Write(WriteOp::Mutate(vec![put.clone(), put]));
        let attempt = AttemptId { client: 1, number: 1 };
        let epoch = Epoch { conf_ver: 1, version: 1 };
        let request = ClientRequest { attempt, region: RegionId(1), epoch, timeout_ms: 1, op };
        assert!((10_000..10_500).contains(&bytes(&Body::Request(Box::new(request)))));
        let result = Box::new(Ok(Answer::Get(vec![Some(value), None])));
        assert!((5_000..5_500).contains(&bytes(&Body::Reply { attempt, result })));
        let rows = Arc::new(vec![(Bytes::from_static(b"k"), Bytes::from(vec![0; 700])); 10]);
        assert_eq!(rows.iter().map(|(key, value)| row(key, value)).sum::<usize>(), 7_170);
    }
}
