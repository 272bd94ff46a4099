//! A placement driver that is put back from an older copy of its directory, as an administrator may
//! do who has lost the directory.
//!
//! 1. What is durable of the only member's disk is copied. The member goes on, and hands out ids.
//! 2. Later the member is killed, the copy takes the place of its disk, and it starts again. Of
//!    what it has handed out and learned since the copy it knows nothing.
//!
//! The cluster must come to no harm: no id that a store uses is handed out again, no key is lost,
//! and the range map is whole once the stores have reported.
//!
//! Not here: a copy from before a store registered or was removed. Such a store is unknown to the
//! member that is put back, or in service again.

use crate::check::Verdict;
use crate::event::{Event, Relief};
use crate::time::{MS, Micros};
use crate::world::World;

/// The time from the copy to when it is put back.
const AGE: (Micros, Micros) = (500 * MS, 15_000 * MS);

impl World {
    /// Step 1. False if there is a copy already.
    pub(super) fn copy_pd(&mut self) -> bool {
        let World { pd, hub, nemesis, .. } = self;
        if nemesis.old_pd.is_some() {
            return false;
        }
        let Some(copy) = pd.lone().and_then(|node| node.copy(hub)) else { return false };
        nemesis.old_pd = Some(copy);
        let age = hub.dice.acts.between(AGE.0, AGE.1);
        hub.agenda.after(age, Event::Relief(Relief::OldPd));
        true
    }

    /// Step 2.
    pub(super) fn put_back_pd(&mut self) -> Verdict {
        let down = self.fault_time();
        let World { pd, hub, nemesis, .. } = self;
        let Some(copy) = nemesis.old_pd.take().filter(|_| !nemesis.is_over) else { return Ok(()) };
        let Some(node) = pd.lone().filter(|node| node.has_stores_of(&copy)) else { return Ok(()) };
        let ids = node.put_back(hub, copy, down)?;
        hub.coverage.hit("placement driver put back from an older copy");
        if ids > 0 {
            hub.coverage.hit("placement driver put back that has handed out ids since");
        }
        Ok(())
    }
}
