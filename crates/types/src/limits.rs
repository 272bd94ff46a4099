//! Every limit that a user can run into, with where the number comes from.
//!
//! Not here: the check of a whole request ([`crate::request::validate`]).

use crate::error::RegionError;
use crate::keys::KEYSPACE_BYTES;

/// The longest user key: a few of redb's pages of 4 KiB, because redb copies a key into each tree
/// node on the key's path.
pub const KEY_BYTES_MAX: usize = 8 * 1024;

/// The longest stored key.
pub const STORED_KEY_BYTES_MAX: usize = KEY_BYTES_MAX + KEYSPACE_BYTES;

/// The longest value: with its key and framing, the value fits one log entry of
/// [`ENTRY_BYTES_MAX`].
pub const VALUE_BYTES_MAX: usize = 6 * 1024 * 1024;

/// The most keys in one batch request.
pub const BATCH_KEYS_MAX: usize = 1024;

/// The most bytes of keys and values in one batch request.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The most payload bytes in one log entry: the largest batch, with room for framing.
pub const ENTRY_BYTES_MAX: usize = BATCH_BYTES_MAX + 512 * 1024;

/// The most bytes that a receiver decodes as one gRPC message: the largest entry in its envelope,
/// with room for a few more messages beside it.
pub const MESSAGE_BYTES_MAX: usize = 2 * ENTRY_BYTES_MAX;

/// The longest address, `host:port`: a DNS name has up to 253 bytes, and a port follows.
pub const ADDR_BYTES_MAX: usize = 260;

/// True for what may be an address, `host:port`.
pub fn is_address(addr: &str) -> bool {
    addr.len() <= ADDR_BYTES_MAX && addr.contains(':')
}

/// Bytes of rows after which a scan chunk or a snapshot chunk is closed. One row may exceed it.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024;

/// The most bytes of values in the reply to a get of many keys, which must fit one message.
pub const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;

const _: () = assert!(REPLY_BYTES_MAX < MESSAGE_BYTES_MAX);

/// The time limit of a request that names none: long enough for several elections.
pub const TIMEOUT_MS_DEFAULT: u64 = 10_000;

/// The longest time limit. It bounds what a request whose sender is gone holds at a store.
pub const TIMEOUT_MS_MAX: u64 = 120_000;

/// The time limit that a request gets which asks for `asked_ms`; 0 stands for none named.
pub fn granted_timeout_ms(asked_ms: u64) -> u64 {
    match asked_ms {
        0 => TIMEOUT_MS_DEFAULT,
        asked => asked.min(TIMEOUT_MS_MAX),
    }
}

/// Checks that `actual` is at most `max`.
///
/// # Errors
/// [`RegionError::LimitExceeded`] with the limit's name.
pub fn check(limit: &'static str, max: usize, actual: usize) -> Result<(), RegionError> {
    if actual <= max {
        return Ok(());
    }
    Err(RegionError::LimitExceeded {
        limit: limit.to_string(),
        max: max as u64,
        actual: actual as u64,
    })
}

/// Checks a stored key: a user key of 1 byte to [`KEY_BYTES_MAX`] behind a keyspace id. A refusal
/// counts the bytes of the user key.
pub fn check_key(stored: &[u8]) -> Result<(), RegionError> {
    check("key bytes", KEY_BYTES_MAX, stored.len().saturating_sub(KEYSPACE_BYTES))?;
    if stored.len() > KEYSPACE_BYTES {
        return Ok(());
    }
    let (limit, max) = ("key bytes, and at least 1".to_string(), KEY_BYTES_MAX as u64);
    Err(RegionError::LimitExceeded { limit, max, actual: 0 })
}

/// Checks a value's length.
pub fn check_value(value: &[u8]) -> Result<(), RegionError> {
    check("value bytes", VALUE_BYTES_MAX, value.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::stored_key;

    #[test]
    fn limits_hold_at_the_edge_and_refuse_one_past_it() {
        assert!(check_key(&stored_key(0, b"")).is_err());
        assert!(check_key(&stored_key(0, b"k")).is_ok());
        assert!(check_key(&stored_key(0, &vec![1; KEY_BYTES_MAX])).is_ok());
        assert!(check_key(&stored_key(0, &vec![1; KEY_BYTES_MAX + 1])).is_err());
        assert!(check_value(&vec![0; VALUE_BYTES_MAX]).is_ok());
        assert!(check_value(&vec![0; VALUE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn every_request_has_a_time_limit() {
        assert_eq!(granted_timeout_ms(0), TIMEOUT_MS_DEFAULT);
        assert_eq!(granted_timeout_ms(1), 1);
        assert_eq!(granted_timeout_ms(TIMEOUT_MS_MAX), TIMEOUT_MS_MAX);
        assert_eq!(granted_timeout_ms(TIMEOUT_MS_MAX + 1), TIMEOUT_MS_MAX);
    }
}
