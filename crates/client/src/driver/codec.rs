//! The wire's edge: domain requests into messages of `proto/kv.proto`, and replies back.

use flotilla_types::wire::{decode_reply, encode_op};
use flotilla_types::{Answer, KeyRange, Op, RegionError, TraceId, proto};

use crate::core::failure::Failure;
use crate::core::router::Sent;

/// A request about the region named in `sent`. Its id is the connection's to give.
pub(crate) fn request(
    sent: &Sent,
    op: Op,
    timeout_ms: u64,
    trace: Option<&TraceId>,
) -> proto::Request {
    let region = Some(region_ref(sent));
    let trace_id = trace.map_or_else(String::new, TraceId::to_string);
    proto::Request { id: 0, region, timeout_ms, op: Some(encode_op(op)), trace_id }
}

/// About how many bytes the request takes: its keys and values.
pub(crate) fn request_bytes(request: &proto::Request) -> usize {
    request.op.as_ref().map_or(0, proto::request::Op::encoded_len)
}

/// The answer, or the failure that a refusal or an unknown reply stands for.
pub(crate) fn answer(reply: proto::reply::Result) -> Result<Answer, Failure> {
    match decode_reply(reply) {
        Ok(result) => result.map_err(Failure::from),
        Err(error) => Err(Failure::InvalidResponse { what: error.to_string() }),
    }
}

/// The failure that a refusal stands for.
pub(crate) fn refusal(error: proto::RegionError) -> Failure {
    match RegionError::try_from(error) {
        Ok(error) => error.into(),
        Err(error) => Failure::InvalidResponse { what: error.to_string() },
    }
}

/// How a scan asks for its rows, the same for each of its regions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanForm {
    pub(crate) reverse: bool,
    pub(crate) keys_only: bool,
    pub(crate) timeout_ms: u64,
}

/// A scan of `span` (within the region named in `sent`) for at most `limit` rows, 0 for all. The
/// caller fills the cluster's id in.
pub(crate) fn scan_request(
    sent: &Sent,
    span: KeyRange,
    limit: u64,
    form: ScanForm,
) -> proto::ScanRequest {
    proto::ScanRequest {
        cluster_id: 0,
        store_id: sent.store.0,
        region: Some(region_ref(sent)),
        span: Some(span.into()),
        limit,
        reverse: form.reverse,
        keys_only: form.keys_only,
        timeout_ms: form.timeout_ms,
    }
}

fn region_ref(sent: &Sent) -> proto::RegionRef {
    proto::RegionRef { region_id: sent.region.0, epoch: Some(sent.epoch.into()) }
}
