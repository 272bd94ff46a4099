//! The stores whose addresses a store's process was told: it can send to no others.
//!
//! In: what the store's own book had at its start, and what the placement driver and other stores
//! tell (`Output::StoreAddrs`). Out: whether a store can be reached. A store has one address as
//! long as it lives, so that the book holds ids only.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_engine::{EngineError, StateBatch, StateStore};
use flotilla_types::{KeyRange, StoreId};

use crate::time::{MS, Micros};

/// The records of addresses, as `flotilla_store::core::records` lays them out.
const RECORDS: [&[u8]; 2] = [b"\x01b", b"\x01c"];

/// Where a store says that it listens.
pub fn address(store: StoreId) -> String {
    format!("store{store}:1")
}

/// An address that is not known is reported at most this often (`RECONNECT_MS` of the transport).
const REPORT_INTERVAL: Micros = 200 * MS;

/// Drops the addresses that a store's directory has.
pub fn forget(state: &StateStore) -> Result<(), EngineError> {
    let [start, end] = RECORDS;
    let mut batch = StateBatch::default();
    batch.delete_range(KeyRange::new(start, end));
    state.write(batch)
}

/// The addresses that a process knows.
#[derive(Clone, Debug, Default)]
pub struct AddressBook {
    known: BTreeSet<StoreId>,
    reported: BTreeMap<StoreId, Micros>,
}

/// What the book has of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its address.
    Known,
    /// Nothing: what is sent to it is lost.
    Unknown {
        /// True if the sender is told that the store is unreachable.
        is_to_report: bool,
    },
}

impl AddressBook {
    /// Adds stores whose addresses were told.
    pub fn learn(&mut self, stores: impl IntoIterator<Item = StoreId>) {
        self.known.extend(stores);
    }

    /// What the book has of `store`.
    pub fn look_up(&mut self, store: StoreId, now: Micros) -> Found {
        if self.known.contains(&store) {
            return Found::Known;
        }
        let last = self.reported.get(&store);
        let is_to_report = last.is_none_or(|last| now >= last + REPORT_INTERVAL);
        if is_to_report {
            self.reported.insert(store, now);
        }
        Found::Unknown { is_to_report }
    }

    /// True if the address of `store` is known.
    pub fn has(&self, store: StoreId) -> bool {
        self.known.contains(&store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_store::core::records;

    #[test]
    fn a_store_that_nobody_told_of_is_not_reached_and_is_reported_now_and_then() {
        let mut book = AddressBook::default();
        book.learn([StoreId(1)]);
        assert_eq!(book.look_up(StoreId(1), 0), Found::Known);
        let reports = [0, 1, REPORT_INTERVAL].map(|now| book.look_up(StoreId(2), now));
        let unknown = |is_to_report| Found::Unknown { is_to_report };
        assert_eq!(reports, [unknown(true), unknown(false), unknown(true)]);
        book.learn([StoreId(2)]);
        assert_eq!(book.look_up(StoreId(2), 0), Found::Known);
    }

    #[test]
    fn a_directory_that_forgets_addresses_keeps_whose_it_is() {
        let state = StateStore::in_memory();
        let mut batch = StateBatch::default();
        records::put_ident(&mut batch, 1, StoreId(3));
        records::put_address(&mut batch, StoreId(4), "store4:1");
        state.write(batch).expect("in memory");
        forget(&state).expect("in memory");
        assert_eq!(records::load_addresses(&state), Ok(vec![]));
        assert_eq!(records::load_ident(&state), Ok(Some((1, StoreId(3)))));
    }
}
