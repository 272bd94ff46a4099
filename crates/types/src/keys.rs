//! User keys and stored keys.
//!
//! A stored key is the keyspace id (4 bytes, big-endian) followed by the user key. Region bounds,
//! requests and log entries hold stored keys; only the client's public API and the command line
//! speak of user keys.
//!
//! Not here: the limits on a key ([`crate::limits`]), and the prefix by which a store's tables tell
//! rows from records (the store's `core/records.rs`).

use bytes::{BufMut, Bytes, BytesMut};

use crate::region::KeyRange;

/// The keyspace of keys for which the user names none.
pub const DEFAULT_KEYSPACE: u32 = 0;

/// The bytes of the keyspace id in front of a user key.
pub const KEYSPACE_BYTES: usize = 4;

/// The stored form of a user key.
pub fn stored_key(keyspace: u32, user_key: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(KEYSPACE_BYTES + user_key.len());
    key.put_u32(keyspace);
    key.put_slice(user_key);
    key.freeze()
}

/// The user key within a stored key; None if `stored` is shorter than a keyspace id.
pub fn user_key(stored: &Bytes) -> Option<Bytes> {
    (stored.len() >= KEYSPACE_BYTES).then(|| stored.slice(KEYSPACE_BYTES..))
}

/// The stored range of the user keys `[start, end)`; an empty `end` is the keyspace's end.
pub fn stored_range(keyspace: u32, start: &[u8], end: &[u8]) -> KeyRange {
    let end = if end.is_empty() { keyspace_end(keyspace) } else { stored_key(keyspace, end) };
    KeyRange::new(stored_key(keyspace, start), end)
}

fn keyspace_end(keyspace: u32) -> Bytes {
    match keyspace.checked_add(1) {
        Some(next) => stored_key(next, b""),
        None => Bytes::new(),
    }
}

/// The least key greater than `key`.
pub fn key_after(key: &[u8]) -> Bytes {
    let mut after = BytesMut::with_capacity(key.len() + 1);
    after.put_slice(key);
    after.put_u8(0);
    after.freeze()
}

/// The end of the range of keys with `prefix`: the least key greater than all of them, or empty
/// (+infinity) if there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    end.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyspace_ends_where_the_next_begins() {
        let range = stored_range(0, b"", b"");
        assert!(range.contains(&stored_key(0, b"\xff\xff")));
        assert!(!range.contains(&stored_key(1, b"")));
        assert!(stored_range(u32::MAX, b"", b"").end.is_empty());
    }

    #[test]
    fn a_prefix_of_ff_bytes_has_no_end() {
        assert_eq!(prefix_end(b"ab"), Bytes::from("ac"));
        assert_eq!(prefix_end(b"a\xff"), Bytes::from("b"));
        assert!(prefix_end(b"\xff\xff").is_empty());
        assert!(prefix_end(b"").is_empty());
    }
}
