//! What a store has learned of where the placement driver's members listen outlives its process: a
//! new process finds the list that a finished checkpoint made durable, or one that was told since.
//!
//! A store that was given members which are all gone by now finds the placement driver by this
//! list only.

use std::collections::BTreeMap;

use flotilla_store::core::{Input, Output};
use flotilla_types::StoreId;

use super::{Verdict, broken};

/// The lists of one store.
#[derive(Debug, Default)]
struct Told {
    /// Whether the first of `lists` is durable.
    is_durable: bool,
    /// The durable list, and those told since, the oldest first.
    lists: Vec<Vec<String>>,
    /// The present checkpoint, and how many of `lists` precede the last that it makes durable.
    under_way: Option<(u64, usize)>,
}

/// The lists of all stores.
#[derive(Debug, Default)]
pub struct PdAddrs {
    told: BTreeMap<StoreId, Told>,
}

impl PdAddrs {
    /// Takes note of an input that a store is about to take.
    pub fn takes(&mut self, store: StoreId, input: &Input) {
        let told = self.told.entry(store).or_default();
        match input {
            Input::PdAddrs(list) if !list.is_empty() && told.lists.last() != Some(list) => {
                told.lists.push(list.clone());
            }
            Input::Checkpointed { number } => {
                if let Some((_, older)) = told.under_way.take_if(|(begun, _)| begun == number) {
                    told.lists.drain(..older);
                    told.is_durable = true;
                }
            }
            _ => {}
        }
    }

    /// Takes note of the outputs of a store.
    pub fn gives(&mut self, store: StoreId, outputs: &[Output]) {
        for output in outputs {
            if let (Output::Checkpoint { number, .. }, Some(told)) =
                (output, self.told.get_mut(&store))
                && let Some(older) = told.lists.len().checked_sub(1)
            {
                told.under_way = Some((*number, older));
            }
        }
    }

    /// A process of a store starts, and finds the list `saved`.
    pub fn reborn(&mut self, store: StoreId, saved: Vec<String>) -> Verdict {
        let told = self.told.remove(&store).unwrap_or_default();
        if told.is_durable && !told.lists.contains(&saved) {
            let what = format!("store {store}: {saved:?} of {:?}", told.lists);
            return broken("a store keeps what it learned of the placement driver", what);
        }
        let is_durable = !saved.is_empty();
        let lists = Some(saved).filter(|_| is_durable).into_iter().collect();
        self.told.insert(store, Told { is_durable, lists, under_way: None });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId(1);

    fn list(addr: &str) -> Vec<String> {
        vec![addr.into()]
    }

    fn checkpoint(number: u64) -> Output {
        Output::Checkpoint { number, exports: vec![], installs: vec![] }
    }

    /// A store that was told "a", in a checkpoint that has ended, and "b" since.
    fn told() -> PdAddrs {
        let mut addrs = PdAddrs::default();
        addrs.takes(STORE, &Input::PdAddrs(list("a")));
        addrs.gives(STORE, &[checkpoint(1)]);
        addrs.takes(STORE, &Input::PdAddrs(list("b")));
        addrs.takes(STORE, &Input::Checkpointed { number: 1 });
        addrs
    }

    #[test]
    fn a_list_counts_once_its_checkpoint_has_ended() {
        let mut addrs = PdAddrs::default();
        addrs.takes(STORE, &Input::PdAddrs(list("a")));
        addrs.gives(STORE, &[checkpoint(1)]);
        assert_eq!(addrs.reborn(STORE, vec![]), Ok(()));
        assert!(told().reborn(STORE, vec![]).is_err());
        assert!(told().reborn(STORE, list("c")).is_err());
        assert_eq!(told().reborn(STORE, list("a")), Ok(()));
        assert_eq!(told().reborn(STORE, list("b")), Ok(()));
    }

    #[test]
    fn what_a_process_has_found_is_durable() {
        let mut addrs = told();
        assert_eq!(addrs.reborn(STORE, list("b")), Ok(()));
        assert!(addrs.reborn(STORE, list("a")).is_err());
    }
}
