//! A set that only grows: each element is a row of its own, written once. A scan tells all elements
//! whose writes ended before the scan began, and none that was not written.
//!
//! The set is one of many, each with [`ELEMENTS_MAX`] elements, so that scans stay short.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{End, Findings, Stamps, Wrong, spread};

/// Elements of one set.
const ELEMENTS_MAX: u64 = 500;

/// All sets.
#[derive(Default)]
pub struct Sets(Mutex<Log>);

#[derive(Default)]
struct Log {
    adds: Vec<Add>,
    scans: Vec<Scan>,
}

/// A write of an element, whose number is its place.
#[derive(Clone, Copy, Debug)]
struct Add {
    invoked: u64,
    returned: u64,
    end: Option<End>,
}

/// What a scan of one set has told.
#[derive(Clone, Debug)]
struct Scan {
    set: u64,
    invoked: u64,
    returned: u64,
    found: BTreeSet<u64>,
}

impl Sets {
    /// Begins to add a new element. Answers its number.
    pub fn begin(&self, stamps: &Stamps) -> u64 {
        let mut log = self.lock();
        log.adds.push(Add { invoked: stamps.next(), returned: u64::MAX, end: None });
        log.adds.len() as u64 - 1
    }

    /// An element was added, or not.
    pub fn end(&self, element: u64, end: End, stamps: &Stamps) {
        let returned = stamps.next();
        if let Some(add) = self.lock().adds.get_mut(element as usize) {
            add.end = Some(end);
            add.returned = returned;
        }
    }

    /// The row of an element.
    pub fn row(element: u64) -> String {
        spread(&prefix(element / ELEMENTS_MAX), element)
    }

    /// The set that elements are added to now.
    pub fn present(&self) -> u64 {
        (self.lock().adds.len() as u64).saturating_sub(1) / ELEMENTS_MAX
    }

    /// What a scan of a set, which began at this stamp, has told.
    pub fn scanned(&self, set: u64, invoked: u64, found: BTreeSet<u64>, stamps: &Stamps) {
        let returned = stamps.next();
        self.lock().scans.push(Scan { set, invoked, returned, found });
    }

    /// Judges all scans.
    pub fn judge(&self) -> Findings {
        let log = self.lock();
        let mut findings = BTreeMap::new();
        for scan in &log.scans {
            for (element, what, wrong) in judge(&log.adds, scan) {
                let what =
                    format!("element {element} {what}: {:?}", log.adds.get(element as usize));
                let at = (scan.invoked, scan.returned);
                findings.entry(element).or_insert((wrong, format!("{what}, scan at {at:?}")));
            }
        }
        findings.into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys of a set begin with this and a `/`.
pub fn prefix(set: u64) -> String {
    format!("set/{set:06}")
}

fn judge(adds: &[Add], scan: &Scan) -> Vec<(u64, &'static str, Wrong)> {
    let first = scan.set * ELEMENTS_MAX;
    let last = (first + ELEMENTS_MAX).min(adds.len() as u64);
    let of_set = first..last;
    let mut findings = vec![];
    for element in of_set.clone() {
        let add = &adds[element as usize];
        let is_found = scan.found.contains(&element);
        let is_due = add.end == Some(End::Ok) && add.returned < scan.invoked;
        if is_due && !is_found {
            findings.push((element, "was added and is not there", Wrong::Lost));
        }
        if is_found && add.invoked > scan.returned {
            findings.push((element, "is there before it was added", Wrong::Stale));
        }
        if is_found && add.end == Some(End::Failed) {
            findings.push((element, "is there, and its write had no effect", Wrong::Duplicated));
        }
    }
    let strangers = scan.found.iter().filter(|element| !of_set.contains(element));
    findings.extend(strangers.map(|element| (*element, "was never added", Wrong::Duplicated)));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(invoked: u64, returned: u64, end: End) -> Add {
        Add { invoked, returned, end: Some(end) }
    }

    fn found(adds: &[Add], (invoked, returned): (u64, u64), found: &[u64]) -> Vec<Wrong> {
        let found = found.iter().copied().collect();
        let findings = judge(adds, &Scan { set: 0, invoked, returned, found });
        findings.into_iter().map(|(.., wrong)| wrong).collect()
    }

    #[test]
    fn what_may_be_there_is_fine() {
        assert_eq!(found(&[add(1, 2, End::Ok)], (3, 4), &[0]), []);
        assert_eq!(found(&[add(1, 4, End::Ok)], (3, 5), &[]), []);
        assert_eq!(found(&[add(1, 2, End::Undetermined)], (3, 4), &[0]), []);
        assert_eq!(found(&[add(1, 2, End::Undetermined)], (3, 4), &[]), []);
        assert_eq!(found(&[add(1, 2, End::Failed)], (3, 4), &[]), []);
    }

    #[test]
    fn planted_bad_histories_are_refused() {
        assert_eq!(found(&[add(1, 2, End::Ok)], (3, 4), &[]), [Wrong::Lost]);
        assert_eq!(found(&[add(5, 6, End::Ok)], (3, 4), &[0]), [Wrong::Stale]);
        assert_eq!(found(&[add(1, 2, End::Failed)], (3, 4), &[0]), [Wrong::Duplicated]);
        assert_eq!(found(&[add(1, 2, End::Ok)], (3, 4), &[0, 1]), [Wrong::Duplicated]);
    }
}
