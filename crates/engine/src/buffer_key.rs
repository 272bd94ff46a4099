//! Keys of a write buffer: short ones lie within the map's nodes.
//!
//! A search compares some twenty keys. With each behind a pointer of its own, that is twenty misses
//! of the processor's caches, and most of what an apply costs.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;

/// Keys up to this length lie within the node; it makes a [`BufferKey`] 40 bytes, 8 more than the
/// handle that it stands for.
const INLINE_BYTES_MAX: usize = 38;

/// A key, ordered as its bytes are.
#[derive(Clone)]
pub(crate) enum BufferKey {
    /// A short key, followed by zeros.
    Inline { length: u8, bytes: [u8; INLINE_BYTES_MAX] },
    /// A long key.
    Shared(Bytes),
}

impl BufferKey {
    /// The key's bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            BufferKey::Inline { length, bytes } => &bytes[..usize::from(*length)],
            BufferKey::Shared(bytes) => bytes,
        }
    }
}

impl From<Bytes> for BufferKey {
    fn from(key: Bytes) -> BufferKey {
        match u8::try_from(key.len()) {
            Ok(length) if key.len() <= INLINE_BYTES_MAX => {
                let mut bytes = [0; INLINE_BYTES_MAX];
                bytes[..key.len()].copy_from_slice(&key);
                BufferKey::Inline { length, bytes }
            }
            Ok(_) | Err(_) => BufferKey::Shared(key),
        }
    }
}

impl Borrow<[u8]> for BufferKey {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Ord for BufferKey {
    fn cmp(&self, other: &BufferKey) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl PartialOrd for BufferKey {
    fn partial_cmp(&self, other: &BufferKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for BufferKey {
    fn eq(&self, other: &BufferKey) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for BufferKey {}

impl fmt::Debug for BufferKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_lengths_are_ordered_as_their_bytes() {
        let mut keys: Vec<Vec<u8>> = vec![vec![], vec![0], vec![0, 0], vec![0; 38], vec![0; 39]];
        keys.extend([vec![1], vec![1; 38], vec![1; 39], vec![1; 300], vec![2; 37], vec![255]]);
        for a in &keys {
            let (key, bytes) = (BufferKey::from(Bytes::from(a.clone())), Bytes::from(a.clone()));
            assert_eq!(key.as_slice(), &bytes[..]);
            for b in &keys {
                let other = BufferKey::from(Bytes::from(b.clone()));
                assert_eq!(key.cmp(&other), a.cmp(b), "{a:?} and {b:?}");
                assert_eq!(key == other, a == b, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn a_key_is_little_more_than_a_handle() {
        assert_eq!(size_of::<BufferKey>(), 40);
    }
}
