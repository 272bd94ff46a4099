//! The members of the placement driver that a caller knows: those that it was given, and those that
//! members have named since.
//!
//! In: what members say of themselves. Out: whom to ask. The leader's list replaces what was
//! learned before. What another member says only adds to the list: the member may have been removed
//! without knowing so, and its list may be of members that are gone.
//!
//! Invariant: what was given stays, and there are at most [`KNOWN_MAX`] in all.

use std::sync::Arc;

/// The longest list of members: more than three times the largest group, so that all members of one
/// group fit in beside those of the groups before it.
pub const KNOWN_MAX: usize = 16;

/// Who named the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    /// The member that leads.
    Leader,
    /// One that does not lead.
    Other,
}

/// See the module's documentation. `M` is a member's name: its address, or its number.
#[derive(Clone, Debug)]
pub struct Known<M> {
    given: Vec<M>,
    learned: Vec<M>,
    /// Those given, then those learned besides.
    all: Arc<[M]>,
}

impl<M: Clone + Eq> Known<M> {
    /// A caller that was given these members, at most [`KNOWN_MAX`].
    pub fn new(given: Vec<M>) -> Known<M> {
        let all = given.iter().take(KNOWN_MAX).cloned().collect();
        Known { given, learned: vec![], all }
    }

    /// All members that are known.
    pub fn all(&self) -> Arc<[M]> {
        self.all.clone()
    }

    /// The members that were given.
    pub fn given(&self) -> &[M] {
        &self.given
    }

    /// What members have named; empty while none has.
    pub fn learned(&self) -> &[M] {
        &self.learned
    }

    /// A member has named all members.
    pub fn learn(&mut self, told: Vec<M>, by: Teller) {
        if told.is_empty() {
            return;
        }
        match by {
            Teller::Leader => self.learned = told,
            Teller::Other => {
                let new = told.into_iter().filter(|member| !self.learned.contains(member));
                let new: Vec<M> = new.collect();
                self.learned.extend(new);
            }
        }
        self.learned.truncate(KNOWN_MAX);
        let besides = self.learned.iter().filter(|member| !self.given.contains(member));
        self.all = self.given.iter().chain(besides).take(KNOWN_MAX).cloned().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leaders_list_replaces_another_members_list_adds() {
        let mut known = Known::new(vec![1]);
        assert_eq!((known.all().to_vec(), known.learned()), (vec![1], &[][..]));
        known.learn(vec![1, 2, 3], Teller::Other);
        assert_eq!(known.all().to_vec(), [1, 2, 3], "nobody has said more");
        known.learn(vec![4, 5, 2], Teller::Leader);
        assert_eq!((known.all().to_vec(), known.learned()), (vec![1, 4, 5, 2], &[4, 5, 2][..]));
        known.learn(vec![1, 2, 3], Teller::Other);
        assert_eq!(known.learned(), [4, 5, 2, 1, 3], "it was removed, maybe, and does not know");
        known.learn(vec![], Teller::Leader);
        assert_eq!(known.all().to_vec(), [1, 4, 5, 2, 3], "an empty list says nothing");
        known.learn(vec![5], Teller::Leader);
        assert_eq!(known.all().to_vec(), [1, 5]);
    }

    #[test]
    fn lists_are_bounded_and_what_was_given_stays() {
        let mut known = Known::new(vec![0]);
        known.learn((1..=100).collect(), Teller::Leader);
        assert_eq!((known.learned().len(), known.all().len()), (KNOWN_MAX, KNOWN_MAX));
        known.learn((101..=200).collect(), Teller::Other);
        assert_eq!((known.learned().len(), known.all().first()), (KNOWN_MAX, Some(&0)));
    }
}
