//! Four keys beside each other, written and read at once. While they are in one region, both are
//! atomic: a read that tells different values has seen a part of a write.
//!
//! So the four are a register, too, and its history is judged as one. Regions only ever split, so
//! the range map at the end says which four were in one region all the time; the others count
//! only as calls.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::{Findings, Wrong, spread};

/// Keys of a batch.
pub const KEYS: usize = 4;

/// What reads have seen in parts: the group, and how.
#[derive(Default)]
pub struct Torn(Mutex<Vec<(u16, String)>>);

impl Torn {
    /// The one value that a read tells, if it is one. Else the read is noted, and None.
    pub fn whole(&self, group: u16, values: &[Option<u64>]) -> Option<Option<u64>> {
        let distinct: BTreeSet<Option<u64>> = values.iter().copied().collect();
        if distinct.len() == 1 {
            return distinct.first().copied();
        }
        let mut torn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        torn.push((group, format!("{values:?}")));
        None
    }

    /// What was torn although no region begins among the group's keys.
    pub fn judge(&self, starts: &[Vec<u8>]) -> Findings {
        let torn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = torn.iter().filter(|(group, _)| is_of_one_region(*group, starts));
        let tell = |(group, how): &(u16, String)| format!("batch {}: {how}", name(*group));
        of_one.map(|torn| (Wrong::Torn, tell(torn))).collect()
    }
}

/// The keys of a group.
pub fn keys(group: u16) -> [String; KEYS] {
    [1, 2, 3, 4].map(|number| format!("{}/{number}", name(group)))
}

/// True if no region begins among the group's keys. Starts are user keys.
pub fn is_of_one_region(group: u16, starts: &[Vec<u8>]) -> bool {
    let [first, .., last] = keys(group);
    let is_within = |start: &[u8]| first.as_bytes() < start && start <= last.as_bytes();
    !starts.iter().any(|start| is_within(start))
}

fn name(group: u16) -> String {
    spread("batch", u64::from(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_write_is_told_unless_a_region_begins_within() {
        let torn = Torn::default();
        assert_eq!(torn.whole(0, &[Some(1); 4]), Some(Some(1)));
        assert_eq!(torn.whole(0, &[None; 4]), Some(None));
        assert!(torn.judge(&[]).is_empty());
        assert_eq!(torn.whole(0, &[Some(1), Some(1), Some(2), Some(1)]), None);
        let found = torn.judge(&[vec![], keys(1)[1].clone().into_bytes()]);
        assert_eq!(found.iter().map(|(wrong, _)| *wrong).collect::<Vec<_>>(), [Wrong::Torn]);
        assert!(torn.judge(&[keys(0)[2].clone().into_bytes()]).is_empty());
        let at_the_first = keys(0)[0].clone().into_bytes();
        assert_eq!(torn.judge(&[at_the_first]).len(), 1);
    }
}
