//! Changes of the state, and the order in which it is read: the words that all layers share.

use std::cmp::Ordering;

use bytes::Bytes;
use flotilla_types::KeyRange;

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the least key up.
    Ascending,
    /// From the greatest key down.
    Descending,
}

impl Order {
    /// `Less` if `a` comes before `b` in this order.
    pub fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Order::Ascending => a.cmp(b),
            Order::Descending => b.cmp(a),
        }
    }
}

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateOp {
    /// Sets the value of a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Makes a key absent.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Makes all keys of a range absent. Its cost grows with the buffer's keys in the range. The
    /// base's keys there cost nothing before the flush.
    DeleteRange {
        /// The range.
        range: KeyRange,
    },
}

/// Changes that readers see together, and of which a crash loses all or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateBatch {
    /// The changes, in order.
    pub ops: Vec<StateOp>,
}

impl StateBatch {
    /// Adds a [`StateOp::Put`].
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push(StateOp::Put { key: key.into(), value: value.into() });
    }

    /// Adds a [`StateOp::Delete`].
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.ops.push(StateOp::Delete { key: key.into() });
    }

    /// Adds a [`StateOp::DeleteRange`].
    pub fn delete_range(&mut self, range: KeyRange) {
        self.ops.push(StateOp::DeleteRange { range });
    }

    /// True if there is no change.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}
