//! A [`Base`] in memory: the twin of [`crate::disk_base`] for simulation and tests.
//!
//! A [`MemBase`] is a handle; clones share one map, which outlives the [`crate::StateStore`]s over
//! it. A crash is therefore a new `StateStore` over a clone: the buffers are gone, and what was
//! applied is there. Deterministic.
//!
//! Not here: failures of the disk; a simulated disk under [`crate::disk_base`] has those.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flotilla_types::KeyRange;

use crate::base::{Base, ReadView, Rows, Walk};
use crate::buffer::{Buffer, bounds};
use crate::change::{Order, StateBatch, StateOp};
use crate::error::EngineError;

/// Shared with the views, which are unharmed by later changes: the writer copies what they hold.
type Map = Arc<BTreeMap<Bytes, Bytes>>;

/// A handle on a map that stands for a disk. See the module's header.
#[derive(Clone, Debug, Default)]
pub struct MemBase {
    map: Arc<Mutex<Map>>,
}

impl MemBase {
    /// A base of its own that is as this one is now.
    pub fn copy(&self) -> MemBase {
        MemBase { map: Arc::new(Mutex::new(Map::clone(&self.map()))) }
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        // The map is replaced as a whole, so it is consistent even after a panic.
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a copy; an error leaves the map as it was.
    fn transact(
        &self,
        change: impl FnOnce(&mut BTreeMap<Bytes, Bytes>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut map = Map::clone(&self.map());
        change(Arc::make_mut(&mut map))?;
        *self.map() = map;
        Ok(())
    }
}

impl Base for MemBase {
    fn apply(&self, buffer: &Buffer) -> Result<(), EngineError> {
        self.transact(|map| {
            for range in buffer.cleared(&KeyRange::all()) {
                remove_range(map, &range);
            }
            for (key, value) in buffer.points(&KeyRange::all(), Order::Ascending) {
                match value {
                    Some(value) => map.insert(Bytes::copy_from_slice(key), value.clone()),
                    None => map.remove(key),
                };
            }
            Ok(())
        })
    }

    fn install(
        &self,
        clear: &[KeyRange],
        rows: &mut Rows<'_>,
        records: &StateBatch,
    ) -> Result<(), EngineError> {
        self.transact(|map| {
            for range in clear {
                remove_range(map, range);
            }
            while let Some((key, value)) = rows()? {
                if map.insert(key, value).is_some() {
                    return Err(EngineError::Corrupt {
                        file: "memory".into(),
                        reason: "a row to install is there already".into(),
                    });
                }
            }
            for op in &records.ops {
                match op {
                    StateOp::Put { key, value } => drop(map.insert(key.clone(), value.clone())),
                    StateOp::Delete { key } => drop(map.remove(key)),
                    StateOp::DeleteRange { range } => remove_range(map, range),
                }
            }
            Ok(())
        })
    }

    fn view(&self) -> Result<Box<dyn ReadView>, EngineError> {
        Ok(Box::new(MemView { map: Map::clone(&self.map()) }))
    }

    fn disk_bytes(&self) -> u64 {
        let map = Map::clone(&self.map());
        map.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

fn remove_range(map: &mut BTreeMap<Bytes, Bytes>, range: &KeyRange) {
    let Some(bounds) = bounds(range) else { return };
    let keys: Vec<Bytes> = map.range::<[u8], _>(bounds).map(|(key, _)| key.clone()).collect();
    for key in keys {
        map.remove(&key);
    }
}

struct MemView {
    map: Map,
}

impl ReadView for MemView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.map.get(key).cloned())
    }

    fn walk(
        &self,
        range: &KeyRange,
        order: Order,
        visit: &mut Walk<'_>,
    ) -> Result<(), EngineError> {
        let Some(bounds) = bounds(range) else { return Ok(()) };
        let mut rows = self.map.range::<[u8], _>(bounds);
        let mut next = || match order {
            Order::Ascending => rows.next(),
            Order::Descending => rows.next_back(),
        };
        while let Some((key, value)) = next() {
            if !visit(key, Some(value)) {
                break;
            }
        }
        Ok(())
    }
}
