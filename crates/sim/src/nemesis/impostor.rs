//! An impostor: a process with an empty directory at the address of a store that was chosen for the
//! cluster's first region.
//!
//! 1. A store has just created its peer of the first region: it may vote from now on. The placement
//!    driver is killed, so that it has heard of nobody when it is back, and knows only what is
//!    committed.
//! 2. As soon as it answers, it is asked, as if by the same machine, for the id of a new store.
//!
//! It must refuse. If it gave the store's id to a process that has none of the store's votes, the
//! store could vote twice in a term.

use flotilla_types::{StoreId, proto};
use proto::pd_reply::Result as Answer;
use proto::pd_request::Op;

use crate::check::{Verdict, broken};
use crate::event::{Event, Relief};
use crate::hub::Hub;
use crate::time::{MS, Micros};
use crate::world::World;

/// Stores of a thousand beside whose beginning an impostor comes.
const SHARE: u64 = 100;

/// Between two tries to be answered.
const AGAIN: Micros = 5 * MS;

/// The number of tries.
const TRIES_MAX: u32 = 40;

/// The placement driver is down no longer than that.
const DOWN_MAX: Micros = 50 * MS;

impl Hub {
    /// A store has created its peer of the first region: an impostor may be about to come (step 1).
    pub fn lure_impostor(&mut self, store: StoreId) {
        if self.dice.processes.chance(SHARE) {
            let tries_left = TRIES_MAX;
            self.agenda.after(0, Event::Relief(Relief::Impostor { store, tries_left }));
        }
    }
}

impl World {
    /// Kills the placement driver, or asks it if it is back.
    pub(super) fn go_on_with_impostor(&mut self, store: StoreId, tries_left: u32) -> Verdict {
        if self.nemesis.is_over
            || tries_left == 0
            || self.pd.regions().is_some_and(|regions| !regions.is_empty())
        {
            return Ok(());
        }
        if tries_left == TRIES_MAX {
            let down = self.hub.dice.acts.between(0, DOWN_MAX);
            self.pd.crash_leader(&mut self.hub, down)?;
        } else if self.is_refused(store)? {
            self.hub.coverage.hit("impostors refused");
            return Ok(());
        }
        let tries_left = tries_left - 1;
        self.hub.agenda.after(AGAIN, Event::Relief(Relief::Impostor { store, tries_left }));
        Ok(())
    }

    /// Step 2. False if the placement driver does not answer yet.
    fn is_refused(&mut self, store: StoreId) -> Result<bool, crate::check::Violation> {
        let listed = self.ask_leader(Op::Stores(proto::StoresRequest {}))?;
        let Some(Answer::Stores(listed)) = listed.and_then(|reply| reply.result) else {
            return Ok(false);
        };
        let mut stores = listed.stores.into_iter().filter_map(|status| status.store);
        let Some(known) = stores.find(|known| known.id == store.0) else { return Ok(false) };
        let (addr, labels) = (known.addr, Default::default());
        let anew = proto::RegisterStoreRequest { store_id: 0, addr, labels };
        let reply = self.ask_leader(Op::RegisterStore(anew))?;
        match reply.and_then(|reply| reply.result) {
            Some(Answer::RegisterStore(reply)) => {
                let what = format!("store {store}: a process with an empty directory is {reply:?}");
                broken("the id of a store that may have voted is given to no other", what)
                    .map(|()| true)
            }
            Some(Answer::Error(error)) => {
                Ok(matches!(error.kind, Some(proto::pd_error::Kind::Refused(_))))
            }
            Some(_) | None => Ok(false),
        }
    }
}
