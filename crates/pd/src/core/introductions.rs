//! Introductions: the members of a new group take part in nothing before each has the directories
//! of all others on record.
//!
//! A member whose directory was lost, and that is started again with the same list, knows nothing
//! of its votes and of the entries that it acknowledged. It could vote twice in a term, and outvote
//! a member that has what was committed. So each directory draws a number when it is made:
//!
//! 1. A member with a new directory tells every other one, with each tick, its directory's number
//!    and the number that it has on record of the other.
//! 2. Whoever is told keeps the number, durably, before he says anything else. While he is new
//!    himself the last number counts; once he has begun, the first one stays for ever.
//! 3. A member begins, durably, when every other one has its directory on record, and it has
//!    theirs. Only then it stands for election, votes and takes entries.
//! 4. A member that has begun answers. If it has another directory on record, the new one ends.
//!
//! Why it is sound: what a member voted for and acknowledged counts only for members that have
//! begun, and each of them has that member's directory on record for good (3, 2). A second
//! directory needs all of them, and gets none. The price: a new group begins once all its members
//! run.
//!
//! A member that is alone, and one that joins a group that runs, has begun from the first: its
//! group has a number of its own, and its id is new.
//!
//! The record is a state in the log, beside the group's: it is older than every vote in it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flotilla_engine::LogOp;
use flotilla_host::core::awaited::Awaited;
use flotilla_host::core::message::Introduction;
use flotilla_types::dice::mix;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Millis, WireError, proto};
use prost::Message;

/// The number of the record in the log: no Raft group has it.
pub const INTRODUCTIONS: u64 = 2;

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Introductions {
    /// This member's directory.
    own: u64,
    /// The directories of the others, as on record.
    known: BTreeMap<u64, u64>,
    has_begun: bool,
    /// Those that have this directory on record, as they said since this process began.
    known_by: BTreeSet<u64>,
    /// What is waited for, and whether that was said.
    awaited: Awaited,
}

/// What an introduction leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing.
    Nothing,
    /// The record has changed and is to be kept.
    Keep,
    /// The other member knows another directory of this one, which must end.
    Stranger,
}

impl Introductions {
    /// The record as the log has it. Without one, `is_new` says whether the directory is a new
    /// member's of a new group; its number comes from `seed` then.
    pub(crate) fn open(
        record: Option<Bytes>,
        is_new: bool,
        seed: u64,
    ) -> Result<Introductions, WireError> {
        let Some(record) = record else {
            let (own, known) = (mix(seed).max(1), BTreeMap::new());
            return Ok(Introductions {
                own,
                known,
                has_begun: !is_new,
                ..Introductions::default()
            });
        };
        let record = proto::PdIntroductions::decode(record)?;
        Ok(Introductions {
            own: record.own,
            known: record.known.into_iter().map(|known| (known.member, known.directory)).collect(),
            has_begun: record.begun,
            ..Introductions::default()
        })
    }

    /// The change that keeps the record.
    pub(crate) fn keep(&self) -> LogOp {
        let known = self.known.iter();
        let known = known.map(|(&member, &directory)| proto::PdDirectory { member, directory });
        let record =
            proto::PdIntroductions { own: self.own, known: known.collect(), begun: self.has_begun };
        LogOp::SetState { group: INTRODUCTIONS, state: record.encode_to_vec().into() }
    }

    /// True if this member takes part.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun || planted(Mutant::PdStrangerVotes)
    }

    /// What this member says to another.
    pub(crate) fn said_to(&self, member: u64) -> Introduction {
        let yours = self.known.get(&member).copied().unwrap_or(0);
        Introduction { directory: self.own, yours, is_new: !self.has_begun }
    }

    /// Those of the `others` that are waited for.
    pub(crate) fn awaited<'a>(
        &'a self,
        others: impl Iterator<Item = u64> + 'a,
    ) -> impl Iterator<Item = u64> + 'a {
        let knows = |member| self.known.contains_key(&member) && self.known_by.contains(&member);
        others.filter(move |member| !self.has_begun && !knows(*member))
    }

    /// What is to be said of those of the `others` that are waited for.
    pub(crate) fn note_awaited(
        &mut self,
        now: Millis,
        others: impl Iterator<Item = u64>,
    ) -> Option<String> {
        let awaited: Vec<u64> = self.awaited(others).collect();
        let what = format!(
            "a new group begins once all its members run and reach each other: waiting for \
             {awaited:?}"
        );
        self.awaited.note(Some(what), now)
    }

    /// A member of this group introduces itself; `others` are all but this one.
    pub(crate) fn hear(
        &mut self,
        member: u64,
        said: Introduction,
        others: impl Iterator<Item = u64>,
    ) -> Heard {
        let is_known = said.yours == self.own;
        if !self.has_begun && !is_known && !said.is_new && said.yours != 0 {
            return Heard::Stranger;
        }
        let last = self.known.get(&member).copied();
        let is_kept = last.is_none() || !self.has_begun;
        let mut is_changed = false;
        if is_kept && last != Some(said.directory) {
            self.known.insert(member, said.directory);
            is_changed = true;
        }
        if is_known {
            self.known_by.insert(member);
        } else {
            self.known_by.remove(&member);
        }
        if !self.has_begun && self.awaited(others).next().is_none() {
            self.has_begun = true;
            is_changed = true;
        }
        if is_changed { Heard::Keep } else { Heard::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member with a new directory, drawn from `seed`.
    fn new(seed: u64) -> Introductions {
        Introductions::open(None, true, seed).expect("new")
    }

    fn others(of: u64) -> impl Iterator<Item = u64> {
        (1..=3).filter(move |member| *member != of)
    }

    /// `from` says what it has to say to `to`, which answers if it has begun.
    fn meet(members: &mut BTreeMap<u64, Introductions>, from: u64, to: u64) -> Heard {
        let said = members[&from].said_to(to);
        let listener = members.get_mut(&to).expect("a member");
        let heard = listener.hear(from, said, others(to));
        let answer = listener.said_to(from);
        let asker = members.get_mut(&from).expect("a member");
        match said.is_new && !answer.is_new {
            true => asker.hear(to, answer, others(from)),
            false => heard,
        }
    }

    fn begun() -> BTreeMap<u64, Introductions> {
        let mut members: BTreeMap<u64, Introductions> =
            (1..=3).map(|member| (member, new(member))).collect();
        for _ in 0..2 {
            for from in 1..=3 {
                for to in others(from) {
                    assert_ne!(meet(&mut members, from, to), Heard::Stranger);
                }
            }
        }
        members
    }

    #[test]
    fn a_group_begins_once_all_have_met_and_not_before() {
        let members = begun();
        assert!(members.values().all(Introductions::has_begun));
        let mut two: BTreeMap<u64, Introductions> =
            (1..=2).map(|member| (member, new(member))).collect();
        for _ in 0..5 {
            meet(&mut two, 1, 2);
            meet(&mut two, 2, 1);
        }
        assert!(!two.values().any(Introductions::has_begun), "the third has said nothing");
        assert_eq!(two[&1].awaited(others(1)).collect::<Vec<u64>>(), [3]);
    }

    #[test]
    fn a_second_directory_of_a_member_is_refused_by_each_that_has_begun() {
        for known_by in [1, 3] {
            let mut members = begun();
            members.insert(2, new(99));
            assert_eq!(meet(&mut members, 2, known_by), Heard::Stranger);
            assert!(!members[&2].has_begun());
        }
        // Two that were lost do not begin anew beside the third.
        let mut members = begun();
        members.insert(1, new(98));
        members.insert(2, new(99));
        for _ in 0..3 {
            meet(&mut members, 1, 2);
            meet(&mut members, 2, 1);
        }
        assert!(!members[&1].has_begun() && !members[&2].has_begun());
        assert_eq!(meet(&mut members, 1, 3), Heard::Stranger);
    }

    #[test]
    fn before_anybody_has_begun_a_directory_may_be_made_anew() {
        let mut members: BTreeMap<u64, Introductions> =
            (1..=3).map(|member| (member, new(member))).collect();
        meet(&mut members, 1, 2);
        meet(&mut members, 2, 1);
        members.insert(1, new(99));
        for _ in 0..3 {
            for from in 1..=3 {
                for to in others(from) {
                    assert_ne!(meet(&mut members, from, to), Heard::Stranger);
                }
            }
        }
        assert!(members.values().all(Introductions::has_begun));
    }

    #[test]
    fn the_record_survives_the_disk_and_a_member_without_one_is_as_it_was_told() {
        let members = begun();
        let LogOp::SetState { state, .. } = members[&1].keep() else { panic!("a state") };
        let read = Introductions::open(Some(state), true, 5).expect("whole");
        assert_eq!((read.own, &read.known), (members[&1].own, &members[&1].known));
        assert!(read.has_begun());
        assert!(Introductions::open(None, false, 5).expect("a lone member").has_begun());
        assert!(Introductions::open(Some("\u{7f}".into()), true, 5).is_err());
    }
}
