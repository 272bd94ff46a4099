//! Limits that both ends of a connection go by.

/// Calls under way on one connection, streams included: a store has one or two at a placement
/// driver, a client one at a store, and one for each scan. More wait at the caller's end of the
/// connection, where they take no memory at the server's.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 256;
