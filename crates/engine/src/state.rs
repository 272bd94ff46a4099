//! The ordered applied state of all groups of a process: a write buffer in front of a [`Base`].
//!
//! Reads see, from newest to oldest: the active buffer, the frozen buffer if there is one, the
//! base. A checkpoint has two halves, so that the slow one can run on another thread while the
//! active buffer takes new writes:
//!
//! 1. [`StateStore::freeze`], by the writer: the active buffer becomes the frozen one. It holds
//!    exactly the writes up to this call.
//! 2. [`StateStore::flush`], by any thread: the frozen buffer goes into the base in one durable
//!    transaction, and is dropped.
//!
//! A crash loses a suffix of the writes: whole batches, the newest first.
//!
//! Not here: what a key means, and when a checkpoint is due. The caller decides both.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use flotilla_types::KeyRange;

use crate::base::{Base, ReadView, Rows, Walk};
use crate::buffer::{Buffer, Lookup};
use crate::change::{Order, StateBatch, StateOp};
use crate::disk_base::{DiskBase, DiskOptions};
use crate::error::EngineError;
use crate::layers::Layers;
use crate::mem_base::MemBase;

/// Points of the active buffer that one [`StateStore::walk_aside`] walks over at most. They are
/// copied while the writer waits, which takes some 50 us; so are the cleared ranges among them,
/// however many.
const ASIDE_POINTS_MAX: usize = 1024;

/// How far a walk went whose visitor did not end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// To the end of the range.
    All,
    /// To the last row that was visited. What lies behind it was not looked at.
    Part,
}

/// The applied state. One thread writes and freezes, one (the same or another) flushes and
/// installs, any thread reads. See the module's header.
pub struct StateStore {
    base: Box<dyn Base>,
    layers: RwLock<Layers>,
}

impl StateStore {
    /// Opens the redb file at `path`, creating it if there is none. The directory must exist.
    /// [`EngineError::Corrupt`] if the file is not one that a store has written.
    pub fn open_disk(path: &Path, options: DiskOptions) -> Result<StateStore, EngineError> {
        StateStore::new(Box::new(DiskBase::open(path, options)?))
    }

    /// An empty store that forgets everything when dropped.
    pub fn in_memory() -> StateStore {
        StateStore::new(Box::new(MemBase::default())).expect("a view of memory does not fail")
    }

    /// A store with empty buffers over `base`: what a restart sees.
    pub fn new(base: Box<dyn Base>) -> Result<StateStore, EngineError> {
        let layers = Layers { active: Buffer::default(), frozen: None, base: base.view()?.into() };
        Ok(StateStore { base, layers: RwLock::new(layers) })
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let layers = self.read();
        if let Some(found) = layers.buffered(key) {
            return Ok(found);
        }
        // A view never changes, so the disk is read without the lock, and the writer goes on.
        let base = Arc::clone(&layers.base);
        drop(layers);
        base.get(key)
    }

    /// Calls `visit` with the value of each of `keys`, in their order, until it answers false: one
    /// consistent state. Writes do not wait for `visit`, nor for the disk.
    pub fn get_many(
        &self,
        keys: &[Bytes],
        visit: &mut dyn FnMut(Option<Bytes>) -> bool,
    ) -> Result<(), EngineError> {
        if let [key] = keys {
            visit(self.get(key)?);
            return Ok(());
        }
        let layers = self.read();
        let buffered: Vec<Option<Option<Bytes>>> =
            keys.iter().map(|key| layers.buffered(key)).collect();
        let base = Arc::clone(&layers.base);
        drop(layers);
        for (key, found) in keys.iter().zip(buffered) {
            let value = match found {
                Some(found) => found,
                None => base.get(key)?,
            };
            if !visit(value) {
                break;
            }
        }
        Ok(())
    }

    /// Calls `visit` for each pair in `range`, in `order`, until it answers false: one consistent
    /// state. Writes wait meanwhile, so `visit` must be quick, bound what it takes, and never call
    /// this store.
    pub fn scan(
        &self,
        range: &KeyRange,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        self.walk(range, order, &mut |key, value| value.is_none_or(|value| visit(key, value)))
    }

    /// As [`StateStore::scan`], and calls `visit` without a value for each deleted row that it
    /// comes by: rows may be deleted by the million and cost time until they are merged away, so a
    /// caller that bounds its work counts them.
    pub fn walk(
        &self,
        range: &KeyRange,
        order: Order,
        visit: &mut Walk<'_>,
    ) -> Result<(), EngineError> {
        self.read().walk(range, order, visit)
    }

    /// As [`StateStore::walk`], except that writes wait neither for `visit` nor for the disk, and
    /// that the walk may end early: of what was written last, it sees a bounded part, of about
    /// `bytes_max`. What it visits is one consistent state.
    pub fn walk_aside(
        &self,
        range: &KeyRange,
        order: Order,
        bytes_max: usize,
        visit: &mut Walk<'_>,
    ) -> Result<Walked, EngineError> {
        let layers = self.read();
        let (active, covered) = layers.active.part(range, order, (ASIDE_POINTS_MAX, bytes_max));
        let (frozen, base) = (layers.frozen.clone(), Arc::clone(&layers.base));
        drop(layers);
        Layers { active, frozen, base }.walk(&covered, order, visit)?;
        Ok(if covered == *range { Walked::All } else { Walked::Part })
    }

    /// The values of `keys`, in their order, as one consistent state, if the buffers alone know
    /// them: the disk is not asked.
    pub fn buffered(&self, keys: &[Bytes]) -> Option<Vec<Option<Bytes>>> {
        let layers = self.read();
        keys.iter().map(|key| layers.buffered(key)).collect()
    }

    /// Applies the batch: visible to all readers at once and as a whole, durable only after the
    /// next [`StateStore::freeze`] and [`StateStore::flush`].
    pub fn write(&self, batch: StateBatch) -> Result<(), EngineError> {
        let mut layers = self.write_lock();
        for op in batch.ops {
            layers.active.apply(op);
        }
        layers.active.check();
        Ok(())
    }

    /// Estimated bytes of memory in both buffers: the writes that a crash would lose.
    pub fn unflushed_bytes(&self) -> usize {
        self.read().buffers().map(Buffer::bytes).sum()
    }

    /// Estimated bytes of memory in the active buffer: the writes of the next checkpoint.
    pub fn active_bytes(&self) -> usize {
        self.read().active.bytes()
    }

    /// Estimated bytes of memory in the frozen buffer: what the next [`StateStore::flush`] writes.
    pub fn frozen_bytes(&self) -> usize {
        self.read().frozen.as_deref().map_or(0, Buffer::bytes)
    }

    /// Closes the active buffer for the next [`StateStore::flush`]. False, and nothing is done, if
    /// the previous one is not flushed yet.
    pub fn freeze(&self) -> bool {
        let mut layers = self.write_lock();
        if layers.frozen.is_some() {
            return false;
        }
        if !layers.active.is_empty() {
            layers.frozen = Some(Arc::new(std::mem::take(&mut layers.active)));
        }
        layers.check();
        true
    }

    /// Makes the frozen buffer durable; returns at once if there is none. Slow, for another thread:
    /// reads and writes go on meanwhile.
    ///
    /// # Errors
    /// The disk failed. The buffer stays and is still read, and every later flush fails too.
    pub fn flush(&self) -> Result<(), EngineError> {
        let Some(frozen) = self.read().frozen.clone() else { return Ok(()) };
        self.base.apply(&frozen)?;
        self.swap_base(|layers| layers.frozen = None)
        // `frozen` is dropped here, outside of the lock: freeing a large buffer takes milliseconds.
    }

    /// Replaces everything in `clear` by `rows`, and applies `records`, in one transaction that is
    /// durable on return and visible as a whole. The buffers take no part in it.
    ///
    /// The caller flushes before, and lets no flush run meanwhile. A buffered write of the ranges
    /// or of the records' keys would hide the installed rows, so the absence of one is asserted.
    ///
    /// # Errors
    /// An error of `rows` is answered as it is, and the state is as before. Other errors are the
    /// disk's.
    pub fn install(
        &self,
        clear: &[KeyRange],
        rows: &mut Rows<'_>,
        records: StateBatch,
    ) -> Result<(), EngineError> {
        self.assert_not_buffered(clear, &records);
        self.base.install(clear, rows, &records)?;
        self.swap_base(|_| ())
    }

    /// The last durable state. A view keeps its space in the base occupied while it lives.
    pub fn view(&self) -> Result<Box<dyn ReadView>, EngineError> {
        self.base.view()
    }

    /// Bytes that the base takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.base.disk_bytes()
    }

    /// Bytes of the base's pages in memory.
    pub fn cached_bytes(&self) -> usize {
        self.base.cached_bytes()
    }

    /// Lets readers see the base's newest transaction, and the effect of `change` with it.
    fn swap_base(&self, change: impl FnOnce(&mut Layers)) -> Result<(), EngineError> {
        let view = Arc::from(self.base.view()?);
        let mut layers = self.write_lock();
        change(&mut layers);
        let old = std::mem::replace(&mut layers.base, view);
        drop(layers);
        // Ending a read transaction may do work, which needs no lock.
        drop(old);
        Ok(())
    }

    fn assert_not_buffered(&self, clear: &[KeyRange], records: &StateBatch) {
        let layers = self.read();
        let free = |range: &KeyRange| layers.buffers().all(|buffer| !buffer.touches(range));
        for range in clear {
            assert!(free(range), "install over buffered writes in {range:?}");
        }
        for op in &records.ops {
            let free = match op {
                StateOp::Put { key, .. } | StateOp::Delete { key } => {
                    layers.buffers().all(|buffer| buffer.lookup(key) == Lookup::Unknown)
                }
                StateOp::DeleteRange { range } => free(range),
            };
            assert!(free, "install of a record over a buffered write of it");
        }
    }

    // A panic while the lock is held comes from a visitor, an assertion or a failed allocation. A
    // buffer is whole after each single change, so readers go on. A batch may be half applied: the
    // caller that survives such a panic decides what that means.
    fn read(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lock(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }
}
