//! Members of the placement driver that have applied the same entries hold the same state, whether
//! they applied them one by one, took them over by a snapshot, or read them back at a start.
//!
//! In: each member's state after its thread ran. A state is kept as a digest, for the last
//! thousands of positions of the log.
//!
//! What it cannot see: a difference between states that no two members show at the same position,
//! and one that every member makes in the same way.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use flotilla_pd::core::state::State;

use super::{Verdict, broken};

/// For how many positions states are kept: more than a member can be behind and still catch up.
const KEPT: usize = 20_000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Agreement {
    /// By applied index: the state's digest, and who showed it first.
    states: BTreeMap<u64, (u64, u64)>,
    /// Where each member was at last.
    last: BTreeMap<u64, u64>,
}

impl Agreement {
    /// Looks at the state of a member that has applied all entries up to `applied`.
    pub fn observe(&mut self, member: u64, applied: u64, state: &State) -> Verdict {
        if self.last.insert(member, applied) == Some(applied) {
            return Ok(());
        }
        let digest = digest(state);
        let &mut (known, by) = self.states.entry(applied).or_insert((digest, member));
        if known != digest {
            let what = format!("at {applied}, members {by} and {member}; the latter has {state:?}");
            return broken("members of the placement driver agree", what);
        }
        while self.states.len() > KEPT {
            self.states.pop_first();
        }
        Ok(())
    }

    /// A member's process has ended.
    pub fn process_ended(&mut self, member: u64) {
        self.last.remove(&member);
    }
}

fn digest(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{state:?}").hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_pd::core::command::PdCommand;
    use flotilla_pd::core::records::Changes;

    #[test]
    fn states_that_differ_at_one_position_are_found() {
        let mut other = State::default();
        let begun = PdCommand::Bootstrap { cluster_id: 7, replica_count: 3 };
        other.apply(begun, &mut Changes::default());
        let mut agreement = Agreement::default();
        assert_eq!(agreement.observe(1, 4, &State::default()), Ok(()));
        assert_eq!(agreement.observe(2, 5, &other), Ok(()));
        assert!(agreement.observe(2, 4, &other).is_err());
        assert_eq!(agreement.observe(3, 5, &other), Ok(()));
        assert_eq!(agreement.observe(1, 5, &other), Ok(()));
        assert_eq!(agreement.observe(1, 5, &State::default()), Ok(()), "seen already");
        agreement.process_ended(1);
        assert!(agreement.observe(1, 5, &State::default()).is_err());
    }
}
