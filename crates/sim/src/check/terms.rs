//! The terms of one log, as a list of runs: a run of entries of one term is one item, however long.
//!
//! Entries that were truncated, or that a snapshot has put itself in the place of, count as held:
//! only what is committed and applied is truncated.

use flotilla_engine::LogEntry;

/// The index and the term of an entry.
pub type Position = (u64, u64);

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The first entry of each run, ascending.
    runs: Vec<Position>,
    /// The last entry, or what was truncated.
    last: u64,
    truncated: u64,
}

impl Terms {
    /// The last index.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Entries, consecutive, take the place of all from the first of them on.
    pub fn append(&mut self, entries: &[LogEntry]) {
        let Some(first) = entries.first() else { return };
        self.runs.retain(|(index, _)| *index < first.index);
        for LogEntry { index, term, .. } in entries {
            if self.runs.last().is_none_or(|(_, of_run)| of_run != term) {
                self.runs.push((*index, *term));
            }
            self.last = *index;
        }
    }

    /// The log begins after this index.
    pub fn truncate(&mut self, through: u64) {
        self.truncated = self.truncated.max(through);
        if through >= self.last {
            self.last = through;
            self.runs.clear();
        }
        let before = self.runs.iter().filter(|(index, _)| *index <= through).count();
        self.runs.drain(..before.saturating_sub(1));
    }

    /// The term of an entry that is held and not truncated.
    pub fn term(&self, index: u64) -> Option<u64> {
        let is_held = self.truncated < index && index <= self.last;
        let run = self.runs.iter().rev().find(|(first, _)| *first <= index);
        run.filter(|_| is_held).map(|(_, term)| *term)
    }

    /// True if the log has the entry, or begins after it.
    pub fn holds(&self, (index, term): Position) -> bool {
        index <= self.truncated || self.term(index) == Some(term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(runs: &[(u64, u64, u64)]) -> Terms {
        let mut terms = Terms::default();
        for (first, last, term) in runs {
            let entry = |index| LogEntry { index, term: *term, ..LogEntry::default() };
            let entries: Vec<LogEntry> = (*first..=*last).map(entry).collect();
            terms.append(&entries);
        }
        terms
    }

    #[test]
    fn a_run_is_one_item_and_each_entry_has_its_term() {
        let terms = log(&[(6, 8, 5), (9, 9, 5), (10, 12, 7)]);
        assert_eq!(terms.runs, [(6, 5), (10, 7)]);
        let all: Vec<Option<u64>> = (5..14).map(|index| terms.term(index)).collect();
        let (five, seven) = (Some(5), Some(7));
        assert_eq!(all, [None, five, five, five, five, seven, seven, seven, None]);
    }

    #[test]
    fn entries_replace_all_that_follow_them() {
        let terms = log(&[(6, 12, 5), (8, 9, 7)]);
        assert!(terms.holds((7, 5)) && terms.holds((9, 7)));
        assert!(!terms.holds((8, 5)) && !terms.holds((10, 5)));
        assert_eq!(terms.last(), 9);
    }

    #[test]
    fn what_is_truncated_counts_as_held_and_a_snapshot_takes_the_place_of_the_log() {
        let mut terms = log(&[(6, 9, 5), (10, 12, 7)]);
        terms.truncate(10);
        assert!(terms.holds((9, 4)) && terms.holds((11, 7)) && !terms.holds((11, 5)));
        assert_eq!(terms.runs, [(10, 7)]);
        terms.truncate(20);
        assert!(terms.holds((20, 9)) && !terms.holds((21, 7)));
        assert_eq!((terms.last(), terms.term(20)), (20, None));
    }
}
