//! Deletes: each acknowledged delete is committed, and each committed delete has a request of its
//! own.
//!
//! A command carries no name of its call, and a delete carries no value that could name one. So the
//! deletes of a key that took effect are matched with the requests to delete the key, by time: each
//! effect needs a request of its own that was sent before the effect and, if the call was
//! acknowledged, was not answered before the effect. A request of unknown outcome may take effect
//! at any later time, or never. Deletes by range count for each key of the range; a swap of a value
//! for none is a delete, too.
//!
//! What this checker cannot see: a delete that happened twice or late, while another call of
//! unknown outcome explains the effect as well. [`super::linear`] may still find such a delete.
//!
//! Two matchings are needed: one of every acknowledged delete with an effect, one of every effect
//! with a request. If both exist, one matching exists that does both (Mendelsohn and Dulmage 1958).
//! Serving the intervals of requests by the earliest end first finds a matching if one exists.

use std::collections::BTreeSet;

use flotilla_types::KeyRange;

use super::{Verdict, broken};
use crate::client::work::stored;
use crate::history::{Kind, Outcome, Record};

/// Deletes that took effect.
#[derive(Debug, Default)]
pub struct Deletes {
    removed: Vec<(KeyRange, u64)>,
}

/// A request for a delete: the stamps between which it took effect, or may have. `u64::MAX` stands
/// for no end.
type Interval = (u64, u64);

impl Deletes {
    /// Takes note of an entry that removes the keys of a range, applied for the first time.
    pub fn removed(&mut self, range: KeyRange, stamp: u64) {
        self.removed.push((range, stamp));
    }

    /// Checks the history of one key.
    pub fn check(&self, key: u16, records: &[Record]) -> Verdict {
        let stored = stored(key);
        let hits = self.removed.iter().filter(|(range, _)| range.contains(&stored));
        let effects: Vec<u64> = hits.map(|(_, stamp)| *stamp).collect();
        judge(key, &effects, records)
    }
}

fn judge(key: u16, effects: &[u64], records: &[Record]) -> Verdict {
    let (mut acknowledged, mut unknown): (Vec<Interval>, Vec<Interval>) = (vec![], vec![]);
    for record in records.iter().filter(|record| asks_to_delete(record.kind)) {
        let acks = match record.outcome {
            Outcome::Written | Outcome::Swapped { swapped: true, .. } => 1,
            Outcome::Open | Outcome::Undetermined => 0,
            Outcome::Failed
            | Outcome::Read(_)
            | Outcome::Found
            | Outcome::Swapped { swapped: false, .. } => {
                continue;
            }
        };
        let (once, ever) = ((record.invoked, record.returned), (record.invoked, u64::MAX));
        acknowledged.extend((0..acks).map(|_| once));
        unknown.extend((acks..record.attempts).map(|_| ever));
    }
    if matched(effects, &acknowledged) < acknowledged.len() {
        return broken("what is acknowledged is committed", describe(key, effects, &acknowledged));
    }
    acknowledged.extend(unknown);
    if matched(effects, &acknowledged) < effects.len() {
        let what = describe(key, effects, &acknowledged);
        return broken("no delete happens oftener than it was asked for", what);
    }
    Ok(())
}

/// True if the request may delete the key. A swap of none for none changes nothing.
fn asks_to_delete(kind: Kind) -> bool {
    match kind {
        Kind::Read | Kind::Write(Some(_)) => false,
        Kind::Write(None) => true,
        Kind::Swap { expected, new } => expected.is_some() && new.is_none(),
    }
}

/// The size of a maximum matching of effects with requests.
fn matched(effects: &[u64], requests: &[Interval]) -> usize {
    let mut requests: Vec<Interval> = requests.to_vec();
    requests.sort_unstable();
    let mut coming = requests.into_iter().enumerate().peekable();
    let mut open: BTreeSet<(u64, usize)> = BTreeSet::new();
    let mut count = 0;
    for effect in effects {
        while let Some((at, (_, end))) = coming.next_if(|(_, (begin, _))| begin < effect) {
            open.insert((end, at));
        }
        open.retain(|(end, _)| end > effect);
        if open.pop_first().is_some() {
            count += 1;
        }
    }
    count
}

fn describe(key: u16, effects: &[u64], requests: &[Interval]) -> String {
    format!("key {key}: deletes took effect at {effects:?}, asked for within {requests:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(invoked: u64, returned: u64, outcome: Outcome, attempts: u32) -> Record {
        let kind = Kind::Write(None);
        Record { key: 0, client: 0, kind, outcome, invoked, returned, attempts }
    }

    fn is_good(effects: &[u64], records: &[Record]) -> bool {
        judge(0, effects, records).is_ok()
    }

    #[test]
    fn an_acknowledged_delete_took_effect_between_question_and_answer() {
        let done = delete(10, 20, Outcome::Written, 1);
        assert!(is_good(&[15], &[done]));
        assert!(!is_good(&[], &[done]), "lost");
        assert!(!is_good(&[25], &[done]), "acknowledged early");
        assert!(!is_good(&[15, 16], &[done]), "twice");
        assert!(!is_good(&[15, 25], &[done]), "again later");
        assert!(is_good(&[15, 25], &[delete(10, 20, Outcome::Written, 2)]), "it was sent twice");
    }

    #[test]
    fn a_delete_of_unknown_outcome_takes_effect_later_or_never_but_once() {
        let unsure = delete(10, 20, Outcome::Undetermined, 1);
        assert!(is_good(&[], &[unsure]));
        assert!(is_good(&[99], &[unsure]));
        assert!(!is_good(&[5], &[unsure]), "before it was asked for");
        assert!(!is_good(&[15, 99], &[unsure]), "twice");
        assert!(!is_good(&[15], &[delete(10, 20, Outcome::Failed, 0)]), "it had failed");
        assert!(!is_good(&[15], &[delete(10, 20, Outcome::Undetermined, 0)]), "it was never sent");
    }

    #[test]
    fn effects_are_shared_out_so_that_all_fit_if_they_can() {
        let short = delete(10, 20, Outcome::Written, 1);
        let long = delete(5, 40, Outcome::Written, 1);
        assert!(is_good(&[15, 30], &[long, short]));
        assert!(!is_good(&[25, 30], &[long, short]), "the short one has none");
    }

    #[test]
    fn a_swap_of_a_value_for_none_is_a_delete() {
        let kind = Kind::Swap { expected: Some(7), new: None };
        let outcome = Outcome::Swapped { swapped: true, previous: Some(7) };
        let swap = Record { kind, outcome, ..delete(10, 20, Outcome::Open, 1) };
        assert!(is_good(&[15], &[swap]));
        assert!(!is_good(&[], &[swap]));
        assert!(!is_good(&[15, 16], &[swap]));
    }
}
