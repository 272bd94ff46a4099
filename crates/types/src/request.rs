//! What a client asks of one region, what a store answers, and the limits on a request.
//!
//! Clients and stores share these types: a client builds an [`Op`] and checks it with [`validate`];
//! the store that receives it checks it again, because the sender may be any program. A
//! [`WriteOp`] is also what a log entry holds. All keys are stored keys ([`crate::keys`]).
//!
//! Everything that the rest of the code needs to know of one kind of write stands here as a method:
//! its keys, its size, whether it is idempotent, which answers fit it. A new kind of write is a
//! variant here, its message in [`crate::wire`], and its effect in the store's `apply`.
//!
//! Deliberately not here: ids, deadlines and epochs of requests, which belong to their carriers;
//! what a write does to the data.

use std::fmt;

use bytes::Bytes;

use crate::error::RegionError;
use crate::keys::{KEYSPACE_BYTES, key_after};
use crate::limits::{BATCH_BYTES_MAX, BATCH_KEYS_MAX, KEY_BYTES_MAX};
use crate::limits::{check, check_key, check_value};
use crate::region::{KeyRange, Region};

/// What a client asks of one region.
#[derive(Clone, PartialEq, Eq)]
pub enum Op {
    /// The values of these keys.
    Get(Vec<Bytes>),
    /// A chunk of rows.
    Scan(ScanOp),
    /// A change, through the log.
    Write(WriteOp),
}

/// A chunk of rows within one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOp {
    /// The keys wanted; within the region.
    pub range: KeyRange,
    /// The greatest number of rows; 0 for no limit.
    pub limit: u64,
    /// The chunk ends before the row that would exceed this number of bytes, unless that is the
    /// first. Each row counts [`PAIR_BYTES`] beside its own, and deleted rows that the store has to
    /// walk over count as well.
    pub bytes_max: usize,
    /// From the range's end downwards.
    pub is_reverse: bool,
    /// Without values.
    pub keys_only: bool,
}

/// A change of one region's rows. It takes effect at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// Unconditional changes, applied in order.
    Mutate(Vec<Mutation>),
    /// Sets a key if its value is the expected one.
    CompareAndSwap(CompareAndSwap),
}

/// One unconditional change.
#[derive(Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key; no error if it is absent.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Removes the keys of a range.
    DeleteRange(KeyRange),
}

/// Sets `key` to `new` if its value is `expected`. None stands for an absent key on either side.
#[derive(Clone, PartialEq, Eq)]
pub struct CompareAndSwap {
    /// The key.
    pub key: Bytes,
    /// The value that the key must have.
    pub expected: Option<Bytes>,
    /// The value that the key gets.
    pub new: Option<Bytes>,
}

/// A store's answer to a request that it carried out.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// One value for each key, in the order asked; None for an absent key.
    Get(Vec<Option<Bytes>>),
    /// Rows, in the order asked for.
    Scan {
        /// The rows.
        pairs: Vec<(Bytes, Bytes)>,
        /// True if the range or the limit is exhausted.
        is_done: bool,
        /// The last key that was read, if the chunk ended among deleted rows behind its last row:
        /// the scan goes on behind this key. None if the chunk ended with a row, or is done.
        walked_to: Option<Bytes>,
    },
    /// The mutations took effect.
    Written,
    /// The comparison was made.
    Swapped {
        /// True if the value was the expected one, and is now the new one.
        swapped: bool,
        /// The value found; None for an absent key.
        previous: Option<Bytes>,
    },
}

impl Op {
    /// The first key that the request names, by which it is routed; None if it names none.
    pub fn first_key(&self) -> Option<&Bytes> {
        match self {
            Op::Get(keys) => keys.first(),
            Op::Scan(scan) => Some(&scan.range.start),
            Op::Write(op) => op.first_key(),
        }
    }

    /// Refuses a request with a key outside the region.
    ///
    /// # Errors
    /// [`RegionError::KeyNotInRegion`] with the first such key.
    pub fn check_keys(&self, region: &Region) -> Result<(), RegionError> {
        let range = &region.range;
        let outside = match self {
            Op::Get(keys) => keys.iter().find(|key| !range.contains(key)),
            Op::Scan(scan) => (!range.covers(&scan.range)).then_some(&scan.range.start),
            Op::Write(op) => return op.check_keys(region),
        };
        outside.map_or(Ok(()), |key| Err(key_not_in_region(key, region)))
    }
}

impl WriteOp {
    /// The first key that the write names; None if it has no mutations.
    pub fn first_key(&self) -> Option<&Bytes> {
        match self {
            WriteOp::Mutate(mutations) => mutations.first().map(Mutation::first_key),
            WriteOp::CompareAndSwap(swap) => Some(&swap.key),
        }
    }

    /// What the write may change, in its order; a single key as the range that holds only it.
    pub fn ranges(&self) -> Vec<KeyRange> {
        match self {
            WriteOp::Mutate(mutations) => mutations.iter().map(Mutation::range).collect(),
            WriteOp::CompareAndSwap(swap) => vec![only(&swap.key)],
        }
    }

    /// Refuses a write with a key outside the region.
    ///
    /// # Errors
    /// [`RegionError::KeyNotInRegion`] with the first such key.
    pub fn check_keys(&self, region: &Region) -> Result<(), RegionError> {
        let range = &region.range;
        let outside = match self {
            WriteOp::Mutate(mutations) => mutations
                .iter()
                .find(|mutation| !mutation.lies_in(range))
                .map(|mutation| mutation.first_key()),
            WriteOp::CompareAndSwap(swap) => (!range.contains(&swap.key)).then_some(&swap.key),
        };
        outside.map_or(Ok(()), |key| Err(key_not_in_region(key, region)))
    }

    /// True if the write, applied twice with nothing in between, changes and answers the same as if
    /// applied once.
    pub fn is_idempotent(&self) -> bool {
        match self {
            WriteOp::Mutate(_) => true,
            WriteOp::CompareAndSwap(_) => false,
        }
    }
}

impl Mutation {
    /// The key, or the first key of the range.
    pub fn first_key(&self) -> &Bytes {
        match self {
            Mutation::Put { key, .. } | Mutation::Delete { key } => key,
            Mutation::DeleteRange(range) => &range.start,
        }
    }

    /// What the mutation changes; a single key as the range that holds only it.
    pub fn range(&self) -> KeyRange {
        match self {
            Mutation::Put { key, .. } | Mutation::Delete { key } => only(key),
            Mutation::DeleteRange(range) => range.clone(),
        }
    }

    fn lies_in(&self, outer: &KeyRange) -> bool {
        match self {
            Mutation::Put { key, .. } | Mutation::Delete { key } => outer.contains(key),
            Mutation::DeleteRange(range) => outer.covers(range),
        }
    }
}

impl Answer {
    /// True if this is the kind of answer that `op` asks for.
    pub fn fits(&self, op: &Op) -> bool {
        match (self, op) {
            (Answer::Get(values), Op::Get(keys)) => values.len() == keys.len(),
            (Answer::Scan { .. }, Op::Scan(_))
            | (Answer::Written, Op::Write(WriteOp::Mutate(_)))
            | (Answer::Swapped { .. }, Op::Write(WriteOp::CompareAndSwap(_))) => true,
            (
                Answer::Get(_) | Answer::Scan { .. } | Answer::Written | Answer::Swapped { .. },
                Op::Get(_) | Op::Scan(_) | Op::Write(_),
            ) => false,
        }
    }

    /// The values of [`Answer::Get`]; None if the answer is another one.
    pub fn into_values(self) -> Option<Vec<Option<Bytes>>> {
        if let Answer::Get(values) = self { Some(values) } else { None }
    }

    /// The bytes that the answer takes in memory, to within its fixed parts.
    pub fn bytes(&self) -> usize {
        let slot = |value: &Option<Bytes>| SLOT_BYTES + value.as_ref().map_or(0, Bytes::len);
        match self {
            Answer::Get(values) => values.iter().map(slot).sum(),
            Answer::Scan { pairs, walked_to, .. } => {
                let pair = |(key, value): &(Bytes, Bytes)| PAIR_BYTES + key.len() + value.len();
                pairs.iter().map(pair).sum::<usize>() + walked_to.as_ref().map_or(0, Bytes::len)
            }
            Answer::Written => 0,
            Answer::Swapped { previous, .. } => slot(previous),
        }
    }
}

/// What a value takes beside its bytes.
const SLOT_BYTES: usize = size_of::<Option<Bytes>>();

/// What a row of a scan takes beside the bytes of its key and value.
pub const PAIR_BYTES: usize = 2 * SLOT_BYTES;

fn only(key: &Bytes) -> KeyRange {
    KeyRange { start: key.clone(), end: key_after(key) }
}

fn key_not_in_region(key: &Bytes, region: &Region) -> RegionError {
    RegionError::KeyNotInRegion { key: key.clone(), region: Box::new(region.clone()) }
}

/// Checks every limit on a request, and answers its size: the bytes of its keys and values.
///
/// # Errors
/// [`RegionError::LimitExceeded`] names the first limit that the request exceeds.
pub fn validate(op: &Op) -> Result<usize, RegionError> {
    let mut size = RequestSize::default();
    match op {
        Op::Get(keys) => keys.iter().try_for_each(|key| size.add(key, b""))?,
        Op::Scan(ScanOp { range, .. }) => {
            check_scan_bound(&range.start)?;
            check_scan_bound(&range.end)?;
            size.bytes = range.start.len() + range.end.len();
        }
        Op::Write(WriteOp::Mutate(mutations)) => {
            mutations.iter().try_for_each(|mutation| match mutation {
                Mutation::Put { key, value } => size.add(key, value),
                Mutation::Delete { key } => size.add(key, b""),
                Mutation::DeleteRange(range) => size.add_range(range),
            })?;
        }
        Op::Write(WriteOp::CompareAndSwap(CompareAndSwap { key, expected, new })) => {
            let expected = expected.as_deref().unwrap_or_default();
            check_value(expected)?;
            size.bytes = expected.len();
            size.add(key, new.as_deref().unwrap_or_default())?;
        }
    }
    Ok(size.bytes)
}

/// The size of a request that is still growing: its keys and values are checked against the limits
/// as they come, so that an endless source of keys ends in an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestSize {
    keys: usize,
    bytes: usize,
}

impl RequestSize {
    /// Checks a key, its value (empty if it has none) and the request as a whole with both.
    ///
    /// # Errors
    /// [`RegionError::LimitExceeded`]: key bytes, value bytes, keys in a batch, bytes in a batch.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), RegionError> {
        check_key(key)?;
        check_value(value)?;
        self.count(key.len() + value.len())
    }

    /// Checks a range, and the request as a whole with it.
    ///
    /// # Errors
    /// [`RegionError::LimitExceeded`]: key bytes, keys in a batch, bytes in a batch.
    pub fn add_range(&mut self, range: &KeyRange) -> Result<(), RegionError> {
        check_bound(&range.start, KEY_BYTES_MAX)?;
        check_bound(&range.end, KEY_BYTES_MAX)?;
        self.count(range.start.len() + range.end.len())
    }

    fn count(&mut self, bytes: usize) -> Result<(), RegionError> {
        self.keys += 1;
        self.bytes += bytes;
        check("keys in a batch", BATCH_KEYS_MAX, self.keys)?;
        check("bytes of keys and values in a batch", BATCH_BYTES_MAX, self.bytes)
    }
}

/// Checks where a question about a range of stored keys begins or ends. A question that goes on
/// after a key begins at a bound one byte longer.
///
/// # Errors
/// [`RegionError::LimitExceeded`]: key bytes.
pub fn check_scan_bound(stored: &[u8]) -> Result<(), RegionError> {
    check_bound(stored, KEY_BYTES_MAX + 1)
}

/// Checks a bound of a range of stored keys; unlike a key, a bound may be empty.
fn check_bound(stored: &[u8], max: usize) -> Result<(), RegionError> {
    check("key bytes", max, stored.len().saturating_sub(KEYSPACE_BYTES))
}

/// Prints no keys: they are the user's.
impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Get(keys) => write!(f, "Get({} keys)", keys.len()),
            Op::Scan(scan) => scan.fmt(f),
            Op::Write(op) => op.fmt(f),
        }
    }
}

/// Prints lengths only: keys and values are the user's.
impl fmt::Debug for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mutation::Put { key, value } => write!(f, "Put({}B = {}B)", key.len(), value.len()),
            Mutation::Delete { key } => write!(f, "Delete({}B)", key.len()),
            Mutation::DeleteRange(range) => write!(f, "Delete{range:?}"),
        }
    }
}

/// Prints lengths only: keys and values are the user's.
impl fmt::Debug for CompareAndSwap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompareAndSwap")
            .field("key_bytes", &self.key.len())
            .field("expected_bytes", &self.expected.as_ref().map(Bytes::len))
            .field("new_bytes", &self.new.as_ref().map(Bytes::len))
            .finish()
    }
}

/// Prints lengths only: keys and values are the user's.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Get(values) => {
                let lengths = values.iter().map(|value| value.as_ref().map(Bytes::len));
                f.debug_list().entries(lengths).finish()
            }
            Answer::Scan { pairs, is_done, .. } => {
                write!(f, "Scan({} rows, done: {is_done})", pairs.len())
            }
            Answer::Written => f.write_str("Written"),
            Answer::Swapped { swapped, previous } => {
                write!(f, "Swapped({swapped}, previous: {:?})", previous.as_ref().map(Bytes::len))
            }
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
