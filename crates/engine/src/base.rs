//! The durable part of a [`crate::StateStore`]: the interface that a storage engine implements.

use bytes::Bytes;
use flotilla_types::KeyRange;

use crate::buffer::Buffer;
use crate::change::{Order, StateBatch};
use crate::error::EngineError;

/// Rows in ascending key order; None at the end. What [`Base::install`] reads.
pub type Rows<'a> = dyn FnMut() -> Result<Option<(Bytes, Bytes)>, EngineError> + 'a;

/// What is called for each row of a walk: its key, and its value unless it was deleted. False ends
/// the walk.
pub type Walk<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> bool + 'a;

/// A durable ordered map. One thread writes at a time; views are read from any thread.
pub trait Base: Send + Sync {
    /// Makes the buffer's changes durable in one transaction.
    fn apply(&self, buffer: &Buffer) -> Result<(), EngineError>;

    /// Replaces everything in the ranges `clear` by `rows`, then applies `records`, in one durable
    /// transaction.
    fn install(
        &self,
        clear: &[KeyRange],
        rows: &mut Rows<'_>,
        records: &StateBatch,
    ) -> Result<(), EngineError>;

    /// The state as of the last transaction; later ones do not change it.
    fn view(&self) -> Result<Box<dyn ReadView>, EngineError>;

    /// Bytes on disk.
    fn disk_bytes(&self) -> u64;

    /// Bytes of pages in memory; 0 where no pages are kept.
    fn cached_bytes(&self) -> usize {
        0
    }
}

/// A consistent, durable state. Cheap to hold for seconds; pages it sees are not reused meanwhile.
pub trait ReadView: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Calls `visit` for each row in `range`, in `order`, until it answers false. A row without a
    /// value was deleted and is still on the disk: it is no part of the state, and walking over it
    /// costs as much as over any other.
    fn walk(&self, range: &KeyRange, order: Order, visit: &mut Walk<'_>)
    -> Result<(), EngineError>;

    /// Calls `visit` for each pair in `range`, in `order`, until it answers false.
    fn scan(
        &self,
        range: &KeyRange,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        self.walk(range, order, &mut |key, value| value.is_none_or(|value| visit(key, value)))
    }
}
