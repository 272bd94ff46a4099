//! The address book: where the other stores and the placement driver's members listen, as this
//! store was last told.
//!
//! In: what the placement driver's answers say, and what other stores say of themselves beside
//! their messages. Out: what the transport has yet to learn. The book is kept in the state store,
//! so that a store that starts while the placement driver is away reaches the others, and one that
//! starts after all members it was configured with were replaced finds their successors: the driver
//! reads those addresses before it opens the core.
//!
//! What comes last counts. A store that has moved tells its new address with each connection that
//! it makes, so an outdated answer of the placement driver holds only until then.
//!
//! Invariant: what is in memory is in the state store, durable with the next checkpoint. An address
//! that a crash loses is told again.

use std::collections::BTreeMap;

use flotilla_engine::{StateBatch, StateStore};
use flotilla_types::StoreId;
use flotilla_types::heartbeat::StoreAddr;
use flotilla_types::mutant::{Mutant, planted};

use super::Fatal;
use super::records;

/// The addresses of the placement driver's members are kept up to this size: five members under the
/// longest names there are, and as many again.
const PD_ADDRS_BYTES_MAX: usize = 10 * 256;

/// Whether the book was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// It was: the change is to become durable.
    News,
    /// All was known.
    Nothing,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Addresses {
    known: BTreeMap<StoreId, String>,
    /// Of the placement driver's members.
    pd: Vec<String>,
    /// What was found in the state store, until it is taken.
    saved: Option<Vec<StoreAddr>>,
}

impl Addresses {
    /// The book as the state store has it.
    pub fn load(state: &StateStore) -> Result<Addresses, Fatal> {
        let known: BTreeMap<StoreId, String> =
            records::load_addresses(state)?.into_iter().collect();
        let saved: Vec<StoreAddr> = known
            .iter()
            .map(|(store, addr)| StoreAddr { store_id: *store, addr: addr.clone() })
            .collect();
        let saved = Some(saved).filter(|saved| !saved.is_empty());
        Ok(Addresses { known, pd: records::load_pd_addrs(state)?, saved })
    }

    /// What the state store had; once.
    pub fn take_saved(&mut self) -> Option<Vec<StoreAddr>> {
        self.saved.take()
    }

    /// All that is known.
    pub fn all(&self) -> Vec<StoreAddr> {
        let known = self.known.iter();
        known.map(|(store, addr)| StoreAddr { store_id: *store, addr: addr.clone() }).collect()
    }

    /// Takes over what was told, and answers what was not known.
    pub fn learn(
        &mut self,
        told: Vec<StoreAddr>,
        state: &StateStore,
    ) -> Result<Vec<StoreAddr>, Fatal> {
        let is_news = |told: &StoreAddr| {
            !told.addr.is_empty() && self.known.get(&told.store_id) != Some(&told.addr)
        };
        let news: Vec<StoreAddr> = told.into_iter().filter(is_news).collect();
        if news.is_empty() {
            return Ok(news);
        }
        let mut batch = StateBatch::default();
        for StoreAddr { store_id, addr } in &news {
            records::put_address(&mut batch, *store_id, addr);
            self.known.insert(*store_id, addr.clone());
        }
        if !planted(Mutant::AddressesUnsaved) {
            state.write(batch)?;
        }
        Ok(news)
    }

    /// Takes over where the placement driver's members listen, as they said: the whole list.
    pub fn learn_pd(
        &mut self,
        mut told: Vec<String>,
        state: &StateStore,
    ) -> Result<Learned, Fatal> {
        let mut bytes = 0;
        told.retain(|addr| {
            bytes += addr.len();
            bytes <= PD_ADDRS_BYTES_MAX
        });
        if told.is_empty() || told == self.pd {
            return Ok(Learned::Nothing);
        }
        let mut batch = StateBatch::default();
        records::put_pd_addrs(&mut batch, &told);
        self.pd = told;
        if !planted(Mutant::PdAddrsUnsaved) {
            state.write(batch)?;
        }
        Ok(Learned::News)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(store: u64, addr: &str) -> StoreAddr {
        StoreAddr { store_id: StoreId(store), addr: addr.into() }
    }

    #[test]
    fn what_is_told_last_counts_and_outlives_the_process() {
        let state = StateStore::in_memory();
        let mut book = Addresses::load(&state).expect("empty");
        let news = book.learn(vec![at(1, "a:1"), at(2, "b:1")], &state);
        assert_eq!(news, Ok(vec![at(1, "a:1"), at(2, "b:1")]));
        let news = book.learn(vec![at(1, "a:1"), at(2, "c:1"), at(3, "")], &state);
        assert_eq!(news, Ok(vec![at(2, "c:1")]), "no address is no news");
        let mut next = Addresses::load(&state).expect("kept");
        assert_eq!(next.take_saved(), Some(vec![at(1, "a:1"), at(2, "c:1")]));
        assert_eq!(next.take_saved(), None);
    }

    #[test]
    fn the_last_list_of_the_placement_drivers_members_is_kept_and_an_empty_one_is_none() {
        let state = StateStore::in_memory();
        let list = |addrs: &[&str]| addrs.iter().map(|addr| addr.to_string()).collect::<Vec<_>>();
        let mut book = Addresses::load(&state).expect("empty");
        assert_eq!(book.learn_pd(list(&["a:1", "b:1"]), &state), Ok(Learned::News));
        assert_eq!(book.learn_pd(list(&["b:1", "c:1"]), &state), Ok(Learned::News));
        assert_eq!(book.learn_pd(vec![], &state), Ok(Learned::Nothing));
        assert_eq!(records::load_pd_addrs(&state), Ok(list(&["b:1", "c:1"])));
        let mut next = Addresses::load(&state).expect("kept");
        assert_eq!(next.learn_pd(list(&["b:1", "c:1"]), &state), Ok(Learned::Nothing));
        assert_eq!(next.take_saved(), None, "they are no stores");
        let long = "x".repeat(PD_ADDRS_BYTES_MAX);
        assert_eq!(next.learn_pd(list(&["d:1", &long]), &state), Ok(Learned::News));
        assert_eq!(records::load_pd_addrs(&state), Ok(list(&["d:1"])));
    }
}
