//! The shapes of JSON bodies, which are only described.

#![expect(dead_code, reason = "only the description is made of these")]

use std::collections::BTreeMap;

use utoipa::{IntoParams, ToSchema};

/// Bytes as they are.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(crate) struct Bytes(Vec<u8>);

/// The key in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct KeyPath {
    /// The key, 1 to 8,192 bytes, with percent-escapes; slashes belong to it.
    #[param(min_length = 1)]
    key: String,
}

/// The headers that make a request conditional.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct Conditional {
    /// Only if the value has one of these tags; `*` is any value.
    #[param(rename = "If-Match", min_length = 1, pattern = r#"^(\*|"[!#-~]*"( *, *"[!#-~]*")*)$"#)]
    if_match: Option<String>,
    /// Only if the value has none of these tags; `*`: only if the key is absent.
    #[param(
        rename = "If-None-Match",
        min_length = 1,
        pattern = r#"^(\*|"[!#-~]*"( *, *"[!#-~]*")*)$"#
    )]
    if_none_match: Option<String>,
}

/// Why a request was not carried out, or that this is not known (RFC 9457).
#[derive(ToSchema)]
pub(crate) struct Problem {
    /// What programs go by: `urn:flotilla:problem:` and a name that stays.
    #[schema(pattern = "^urn:flotilla:problem:[a-z-]+$")]
    r#type: String,
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    detail: String,
    /// The request may have had an effect, or may yet.
    undetermined: bool,
    /// There was no effect, and the same request may succeed later.
    retryable: bool,
}

/// The cluster as a whole.
#[derive(ToSchema)]
pub(crate) struct ClusterStatus {
    cluster_id: u64,
    /// The placement driver's members.
    pd: Vec<PdMember>,
    stores: u64,
    regions: u64,
    unhealthy_regions: u64,
    replica_count: u64,
    /// What the cluster waits for before it has a region; empty if for nothing.
    awaited: String,
    healthy: bool,
    reasons: Vec<Reason>,
}

#[derive(ToSchema)]
pub(crate) struct PdMember {
    id: u64,
    addr: String,
    leader: bool,
}

/// Why a cluster is not healthy.
#[derive(ToSchema)]
pub(crate) struct Reason {
    /// Such as `unavailable` or `under-replicated`.
    kind: String,
    /// Some of the regions.
    regions: Vec<u64>,
    /// How many regions it is true of.
    region_count: u64,
    stores: Vec<u64>,
    what: String,
}

#[derive(ToSchema)]
pub(crate) struct Stores {
    stores: Vec<Store>,
}

/// A store and its load.
#[derive(ToSchema)]
pub(crate) struct Store {
    id: u64,
    addr: String,
    /// Such as `up` or `down`.
    state: String,
    draining: bool,
    labels: BTreeMap<String, String>,
    region_count: u64,
    leader_count: u64,
    used_bytes: u64,
    capacity_bytes: u64,
    /// Since the last heartbeat; null before the leading placement driver has received one.
    #[schema(required)]
    last_heartbeat_ms: Option<u64>,
    /// What clients have it do; null if it has not told, or is silent.
    #[schema(required)]
    load: Option<StoreLoad>,
}

/// What clients have a store do, over the last second or so; a time is null if nothing ended.
#[derive(ToSchema)]
pub(crate) struct StoreLoad {
    reads_per_second: u64,
    read_bytes_per_second: u64,
    writes_per_second: u64,
    written_bytes_per_second: u64,
    /// Half of the reads took no longer, in microseconds.
    #[schema(required)]
    read_p50_us: Option<u64>,
    #[schema(required)]
    read_p99_us: Option<u64>,
    #[schema(required)]
    write_p50_us: Option<u64>,
    #[schema(required)]
    write_p99_us: Option<u64>,
}

/// A page of the range map.
#[derive(ToSchema)]
pub(crate) struct Regions {
    regions: Vec<Region>,
    /// Where the next page starts; null after the last.
    #[schema(required)]
    next: Option<String>,
}

/// A region; its bounds are stored keys in hex digits, an empty end being the last there is.
#[derive(ToSchema)]
pub(crate) struct Region {
    id: u64,
    start: String,
    end: String,
    epoch: Epoch,
    peers: Vec<Peer>,
    #[schema(required)]
    leader_store_id: Option<u64>,
    approximate_bytes: u64,
    approximate_keys: u64,
    load: RegionLoad,
}

/// What clients have a region do, over some seconds; roughly.
#[derive(ToSchema)]
pub(crate) struct RegionLoad {
    reads_per_second: u64,
    read_bytes_per_second: u64,
    writes_per_second: u64,
    written_bytes_per_second: u64,
}

#[derive(ToSchema)]
pub(crate) struct Epoch {
    conf_ver: u64,
    version: u64,
}

#[derive(ToSchema)]
pub(crate) struct Peer {
    id: u64,
    store_id: u64,
    /// Such as `voter` or `learner`.
    role: String,
}

#[derive(ToSchema)]
pub(crate) struct Operators {
    operators: Vec<Operator>,
}

/// An operator and where it is.
#[derive(ToSchema)]
pub(crate) struct Operator {
    id: u64,
    region_id: u64,
    kind: String,
    steps: Vec<String>,
    current_step: u64,
    age_ms: u64,
}

/// Whether requests can succeed.
#[derive(ToSchema)]
pub(crate) struct Readiness {
    ready: bool,
    reasons: Vec<ReadinessReason>,
}

#[derive(ToSchema)]
pub(crate) struct ReadinessReason {
    kind: String,
    what: String,
}

/// Rows that a batch has read, in the order asked.
#[derive(ToSchema)]
pub(crate) struct RowsRead {
    rows: Vec<RowRead>,
}

/// A key, and its value or null; `_hex` holds bytes that are no text.
#[derive(ToSchema)]
pub(crate) struct RowRead {
    key: Option<String>,
    key_hex: Option<String>,
    value: Option<String>,
    value_hex: Option<String>,
}

/// What a load has put.
#[derive(ToSchema)]
pub(crate) struct Loaded {
    rows: u64,
    bytes: u64,
}
