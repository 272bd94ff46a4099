//! Single keys, each with the history of all calls on it. Both checkers of linearizability judge
//! each key by itself.
//!
//! A key is in use until its history has [`CALLS_MAX`] calls or [`UNKNOWN_MAX`] of unknown outcome,
//! because the search for an order grows with both; then a new key takes its place. Each value is
//! written once.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flotilla_history::linear::describe;
use flotilla_history::second::{Compared, agrees};
use flotilla_history::{Kind, Outcome, Record, linear};
use flotilla_types::dice::Dice;

use super::{End, Findings, Stamps, Wrong, spread};

/// Keys that are in use at once.
const ACTIVE: usize = 24;

/// Calls of one key.
const CALLS_MAX: usize = 160;

/// Writes of unknown outcome of one key; the second checker takes twelve.
const UNKNOWN_MAX: usize = 6;

/// All keys of a workload.
pub struct Registers {
    workload: &'static str,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    histories: Vec<Vec<Record>>,
    active: Vec<u16>,
    last_value: u64,
}

/// A call that has begun: its key, and its place in the key's history.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    key: u16,
    at: usize,
}

/// How the judges have worked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    /// Histories that both checkers judged alike.
    pub compared: u64,
    /// Histories with too many calls of unknown outcome for the second checker.
    pub skipped: u64,
}

impl Judged {
    /// Counts what another judge has done, too.
    pub fn add(&mut self, other: Judged) {
        self.compared += other.compared;
        self.skipped += other.skipped;
    }
}

impl Registers {
    /// No key has been used yet.
    pub fn new(workload: &'static str) -> Registers {
        Registers { workload, keys: Mutex::default() }
    }

    /// A key that is in use.
    pub fn pick(&self, dice: &mut Dice) -> u16 {
        let mut keys = self.lock();
        while keys.active.len() < ACTIVE {
            let new = keys.histories.len() as u16;
            keys.histories.push(vec![]);
            keys.active.push(new);
        }
        dice.pick(&keys.active).copied().unwrap_or(0)
    }

    /// The name of a key.
    pub fn name(&self, key: u16) -> String {
        spread(self.workload, u64::from(key))
    }

    /// A value that nobody has written yet.
    pub fn new_value(&self) -> u64 {
        let mut keys = self.lock();
        keys.last_value += 1;
        keys.last_value
    }

    /// How many keys have been used.
    pub fn len(&self) -> u16 {
        self.lock().histories.len() as u16
    }

    /// Begins a call.
    pub fn begin(&self, client: u32, key: u16, kind: Kind, stamps: &Stamps) -> Begun {
        let mut keys = self.lock();
        // Under the lock, so that records are in the order of their stamps.
        let (invoked, outcome) = (stamps.next(), Outcome::Open);
        let attempts = u32::from(kind != Kind::Read);
        let record = Record { key, client, kind, outcome, invoked, returned: u64::MAX, attempts };
        let history = &mut keys.histories[usize::from(key)];
        history.push(record);
        Begun { key, at: history.len() - 1 }
    }

    /// Ends a call.
    pub fn end(&self, begun: Begun, outcome: Outcome, stamps: &Stamps) {
        let returned = stamps.next();
        let mut keys = self.lock();
        let history = &mut keys.histories[usize::from(begun.key)];
        let record = &mut history[begun.at];
        record.outcome = outcome;
        record.returned = returned;
        if outcome == Outcome::Failed {
            record.attempts = 0;
        }
        let is_unknown = |record: &&Record| record.outcome == Outcome::Undetermined;
        let unknown = history.iter().filter(is_unknown).count();
        if history.len() >= CALLS_MAX || unknown >= UNKNOWN_MAX {
            keys.active.retain(|key| *key != begun.key);
        }
    }

    /// Judges all histories.
    pub fn judge(&self) -> (Findings, Judged) {
        self.judge_those(|_| true)
    }

    /// Judges the histories of these keys.
    pub fn judge_those(&self, is_judged: impl Fn(u16) -> bool) -> (Findings, Judged) {
        let mut findings = vec![];
        let mut judged = Judged::default();
        for (key, history) in self.lock().histories.iter().enumerate() {
            let key = key as u16;
            if !is_judged(key) {
                continue;
            }
            let verdict = linear::check(key, history);
            match agrees(key, history, &verdict) {
                Ok(Compared::Agreed) => judged.compared += 1,
                Ok(Compared::Skipped) => judged.skipped += 1,
                Err(violation) => findings.push((Wrong::Stale, violation.what)),
            }
            if let Err(violation) = verdict {
                let what =
                    format!("{}: {}: {}", self.name(key), violation.invariant, violation.what);
                findings.push((what_kind(key, history), what));
            }
        }
        (findings, judged)
    }

    /// All histories, to be read by people.
    pub fn dump(&self) -> String {
        let keys = self.lock();
        let histories = keys.histories.iter().enumerate();
        let lines = histories.map(|(key, history)| {
            format!("{}\n{}", self.name(key as u16), describe(key as u16, history))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A history that is linearizable without its last read has lost what the read should have seen,
/// unless the read saw a value that was already replaced.
fn what_kind(key: u16, history: &[Record]) -> Wrong {
    let Some((last, before)) = history.split_last() else { return Wrong::Stale };
    let Outcome::Read(seen) = last.outcome else { return Wrong::Stale };
    let known: BTreeSet<Option<u64>> = before
        .iter()
        .filter_map(|record| match record.outcome {
            Outcome::Read(value) => Some(value),
            _ => None,
        })
        .collect();
    let is_new = seen.is_none() || !known.contains(&seen);
    if is_new && linear::check(key, before).is_ok() { Wrong::Lost } else { Wrong::Stale }
}

/// How a read ended, and what it found.
pub fn read_outcome<E>(answer: &Result<Option<u64>, E>) -> (End, Outcome) {
    match answer {
        Ok(value) => (End::Ok, Outcome::Read(*value)),
        Err(_) => (End::Failed, Outcome::Failed),
    }
}

/// What a write that ended so is in a history.
pub fn write_outcome(end: End) -> Outcome {
    match end {
        End::Ok => Outcome::Written,
        End::Failed => Outcome::Failed,
        End::Undetermined => Outcome::Undetermined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(calls: &[(Kind, Outcome)]) -> (Findings, Judged) {
        let (registers, stamps) = (Registers::new("register"), Stamps::default());
        let key = registers.pick(&mut Dice::new(1));
        for (kind, outcome) in calls {
            let begun = registers.begin(1, key, *kind, &stamps);
            registers.end(begun, *outcome, &stamps);
        }
        registers.judge()
    }

    const PUT: (Kind, Outcome) = (Kind::Write(Some(7)), Outcome::Written);

    #[test]
    fn a_history_is_judged_by_both_and_what_is_wrong_is_named() {
        let (findings, judged) = registers(&[PUT, (Kind::Read, Outcome::Read(Some(7)))]);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!((judged.compared, judged.skipped), (ACTIVE as u64, 0));
        let (findings, _) = registers(&[PUT, (Kind::Read, Outcome::Read(None))]);
        assert_eq!(findings.iter().map(|(wrong, _)| *wrong).collect::<Vec<_>>(), [Wrong::Lost]);
        let other = (Kind::Write(Some(8)), Outcome::Written);
        let old = (Kind::Read, Outcome::Read(Some(7)));
        let (findings, _) = registers(&[PUT, old, other, old]);
        assert_eq!(findings.iter().map(|(wrong, _)| *wrong).collect::<Vec<_>>(), [Wrong::Stale]);
    }

    #[test]
    fn a_key_with_a_long_history_is_used_no_more() {
        let (registers, stamps) = (Registers::new("register"), Stamps::default());
        for _ in 0..CALLS_MAX {
            let begun = registers.begin(1, registers.pick(&mut Dice::new(1)), Kind::Read, &stamps);
            registers.end(begun, Outcome::Failed, &stamps);
        }
        registers.pick(&mut Dice::new(1));
        assert_eq!(registers.len(), ACTIVE as u16 + 1);
    }
}
