//! A store answers every request that its worker takes up, once and in time.
//!
//! * A request is answered once: no reply has an id that nobody waits for.
//! * A request is answered by the end of the turn of the second tick of its worker that comes at
//!   the request's deadline or later, by the store's own clock. The first tick answers what waits.
//!   A write that is queued in the turn of that tick waits only from the end of the turn on, so the
//!   second tick finds it.
//!
//! Ticks and not time: a thread that is paused, suspended, or waits for a sync does not tick, and a
//! tick that comes late is one tick. What waits in the inbox is not taken up yet.
//!
//! What the checker cannot see: requests that a process had when it ended; their callers notice
//! that their connection is lost.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_store::core::{Output, RequestId};
use flotilla_types::{Millis, RegionError, StoreId};

use super::{Verdict, broken};

/// Ticks at or after a request's deadline by which the request is answered.
const TICKS_MAX: u64 = 2;

/// What the stores owe.
#[derive(Debug, Default)]
pub struct Replies {
    stores: BTreeMap<StoreId, Owed>,
}

/// What one store owes.
#[derive(Debug, Default)]
struct Owed {
    deadlines: BTreeMap<RequestId, Millis>,
    by_deadline: BTreeSet<(Millis, RequestId)>,
    /// How many ticks have come at or after the deadline, if any.
    late: BTreeMap<RequestId, u64>,
}

impl Owed {
    fn remove(&mut self, id: RequestId) -> Option<Millis> {
        let deadline = self.deadlines.remove(&id)?;
        self.by_deadline.remove(&(deadline, id));
        self.late.remove(&id);
        Some(deadline)
    }
}

impl Replies {
    /// A store's process has started anew: it owes nothing.
    pub fn reborn(&mut self, store: StoreId) {
        self.stores.remove(&store);
    }

    /// A store's worker takes a request up.
    pub fn taken_up(&mut self, store: StoreId, id: RequestId, deadline: Millis) {
        let owed = self.stores.entry(store).or_default();
        owed.deadlines.insert(id, deadline);
        owed.by_deadline.insert((deadline, id));
    }

    /// A store's reply leaves.
    pub fn replied(&mut self, store: StoreId, id: RequestId) -> Verdict {
        let owed = self.stores.entry(store).or_default();
        if owed.remove(id).is_some() {
            return Ok(());
        }
        broken("a request is answered once", format!("store {store}: {id:?} once more"))
    }

    /// The worker of a store is about to tick.
    pub fn ticks(&mut self, store: StoreId, now: Millis) -> Verdict {
        let Some(owed) = self.stores.get_mut(&store) else { return Ok(()) };
        for (deadline, id) in &owed.by_deadline {
            if *deadline > now {
                break;
            }
            let ticks = owed.late.entry(*id).or_default();
            if *ticks >= TICKS_MAX {
                let what = format!(
                    "store {store}: {id:?} was due at {deadline:?}, and {ticks} ticks have come \
                     since then; it is {now:?}"
                );
                return broken("a request is answered by its deadline", what);
            }
            *ticks += 1;
        }
        Ok(())
    }

    /// How many of a tick's outputs answer a write before its deadline with "undetermined".
    pub fn given_up(&self, store: StoreId, now: Millis, outputs: &[Output]) -> u64 {
        let Some(owed) = self.stores.get(&store) else { return 0 };
        let is_early = |id: &RequestId| owed.deadlines.get(id).is_some_and(|due| now < *due);
        let is_given_up = |output: &&Output| match output {
            Output::Reply { id, result: Err(RegionError::Undetermined { .. }) } => is_early(id),
            _ => false,
        };
        outputs.iter().filter(is_given_up).count() as u64
    }

    /// The number of replies that the store owes.
    pub fn owed(&self, store: StoreId) -> usize {
        self.stores.get(&store).map_or(0, |owed| owed.deadlines.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId(1);
    const ID: RequestId = RequestId(7);

    fn due_at_100() -> Replies {
        let mut replies = Replies::default();
        replies.taken_up(STORE, ID, Millis(100));
        replies
    }

    #[test]
    fn a_second_reply_is_found() {
        let mut replies = due_at_100();
        assert_eq!(replies.owed(STORE), 1);
        assert!(replies.replied(STORE, ID).is_ok());
        assert_eq!(replies.owed(STORE), 0);
        assert!(replies.replied(STORE, ID).is_err());
    }

    #[test]
    fn a_request_that_two_ticks_after_its_deadline_leave_open_is_found() {
        let mut replies = due_at_100();
        for now in [50, 99, 100, 150] {
            assert!(replies.ticks(STORE, Millis(now)).is_ok(), "at {now}");
        }
        assert!(replies.ticks(STORE, Millis(200)).is_err());
    }

    #[test]
    fn a_request_that_is_answered_in_time_is_forgotten() {
        let mut replies = due_at_100();
        assert!(replies.ticks(STORE, Millis(100)).is_ok());
        assert!(replies.replied(STORE, ID).is_ok());
        (0..5).for_each(|late| assert!(replies.ticks(STORE, Millis(200 + late)).is_ok()));
    }

    #[test]
    fn a_process_that_starts_anew_owes_nothing() {
        let mut replies = due_at_100();
        replies.reborn(STORE);
        assert_eq!(replies.owed(STORE), 0);
        assert!(replies.replied(STORE, ID).is_err(), "another process asked");
    }
}
