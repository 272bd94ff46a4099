//! Rows that are there from the beginning to the end, so that a scan must tell each of its range,
//! in order and once, whatever regions do meanwhile. Values are numbers that their one writer
//! raises.
//!
//! A value is older than it may be if a higher one was acknowledged before the scan began, unless a
//! write of unknown outcome may have brought it back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{End, Findings, Wrong};

/// The rows.
pub const ROWS: u64 = 600;

/// All rows, and what scans have told wrongly.
#[derive(Default)]
pub struct Scans(Mutex<Log>);

#[derive(Default)]
struct Log {
    rows: BTreeMap<u64, Row>,
    findings: Findings,
    scans: u64,
}

/// What one row may have.
#[derive(Clone, Debug, Default)]
pub struct Row {
    tried: u64,
    acknowledged: u64,
    unknown: BTreeSet<u64>,
}

/// A scan: the rows of this range, in this direction.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Rows by number.
    pub rows: Range<u64>,
    /// From the end.
    pub is_reverse: bool,
    before: BTreeMap<u64, u64>,
}

impl Scans {
    /// The next value of a row. Its writer asks again only once this one has ended.
    pub fn begin_write(&self, row: u64) -> u64 {
        let mut log = self.lock();
        let row = log.rows.entry(row).or_default();
        row.tried += 1;
        row.tried
    }

    /// A value was written, or not.
    pub fn end_write(&self, row: u64, value: u64, end: End) {
        let mut log = self.lock();
        let row = log.rows.entry(row).or_default();
        match end {
            End::Ok => row.acknowledged = row.acknowledged.max(value),
            End::Undetermined => drop(row.unknown.insert(value)),
            End::Failed => {}
        }
    }

    /// Begins a scan.
    pub fn begin(&self, rows: Range<u64>, is_reverse: bool) -> Asked {
        let log = self.lock();
        let before = log.rows.range(rows.clone()).map(|(row, has)| (*row, has.acknowledged));
        Asked { before: before.collect(), rows, is_reverse }
    }

    /// Judges what a scan was told: rows by number, with their values.
    pub fn told(&self, asked: &Asked, told: &[(u64, u64)]) {
        let mut log = self.lock();
        log.scans += 1;
        let findings = judge(asked, told, &log.rows);
        log.findings.extend(findings);
    }

    /// What scans have told wrongly so far, and the number of scans.
    pub fn judge(&self) -> (Findings, u64) {
        let log = self.lock();
        (log.findings.clone(), log.scans)
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of a row.
pub fn key(row: u64) -> String {
    format!("scan/{row:06}")
}

/// The row of a key, if it is one.
pub fn row(key: &[u8]) -> Option<u64> {
    let number = key.strip_prefix(b"scan/")?;
    std::str::from_utf8(number).ok().filter(|digits| digits.len() == 6)?.parse().ok()
}

fn judge(asked: &Asked, told: &[(u64, u64)], rows: &BTreeMap<u64, Row>) -> Findings {
    let mut due: Vec<u64> = asked.rows.clone().collect();
    if asked.is_reverse {
        due.reverse();
    }
    let mut findings = vec![];
    let scan = format!("scan of {:?}, reverse {}", asked.rows, asked.is_reverse);
    let names: Vec<u64> = told.iter().map(|(row, _)| *row).collect();
    if names != due {
        let missing: Vec<&u64> = due.iter().filter(|row| !names.contains(row)).collect();
        let wrong = if missing.is_empty() { Wrong::Duplicated } else { Wrong::Lost };
        findings.push((wrong, format!("{scan}: missing {missing:?}, told {names:?}")));
    }
    for (row, value) in told {
        let Some(has) = rows.get(row) else { continue };
        let before = asked.before.get(row).copied().unwrap_or(0);
        if *value > has.tried || *value < before && !has.unknown.contains(value) {
            let what = format!("{scan}: row {row} is {value}, acknowledged {before}, {has:?}");
            findings.push((Wrong::Stale, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(is_reverse: bool) -> (Scans, Asked) {
        let scans = Scans::default();
        for row in 0..4 {
            for end in [End::Ok, End::Undetermined, End::Ok] {
                let value = scans.begin_write(row);
                scans.end_write(row, value, end);
            }
        }
        let asked = scans.begin(1..4, is_reverse);
        (scans, asked)
    }

    fn wrong(is_reverse: bool, told: &[(u64, u64)]) -> Vec<Wrong> {
        let (scans, asked) = asked(is_reverse);
        scans.told(&asked, told);
        scans.judge().0.into_iter().map(|(wrong, _)| wrong).collect()
    }

    #[test]
    fn a_whole_scan_is_fine_in_either_direction() {
        assert_eq!(wrong(false, &[(1, 3), (2, 3), (3, 3)]), []);
        assert_eq!(wrong(true, &[(3, 3), (2, 2), (1, 3)]), []);
    }

    #[test]
    fn planted_bad_scans_are_refused() {
        assert_eq!(wrong(false, &[(1, 3), (3, 3)]), [Wrong::Lost]);
        assert_eq!(wrong(false, &[]), [Wrong::Lost]);
        assert_eq!(wrong(false, &[(1, 3), (2, 3), (2, 3), (3, 3)]), [Wrong::Duplicated]);
        assert_eq!(wrong(false, &[(2, 3), (1, 3), (3, 3)]), [Wrong::Duplicated], "order");
        assert_eq!(wrong(false, &[(1, 1), (2, 3), (3, 3)]), [Wrong::Stale]);
        assert_eq!(wrong(false, &[(1, 4), (2, 3), (3, 3)]), [Wrong::Stale], "from the future");
    }

    #[test]
    fn a_key_is_a_row_and_back() {
        assert_eq!(row(key(17).as_bytes()), Some(17));
        assert_eq!(row(b"scan/x"), None);
    }
}
