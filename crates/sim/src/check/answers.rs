//! What a store answers is what the log says, all keys of an answer at once, checked in the moment
//! of the answer.
//!
//! * **A read** (keys, or a chunk of a scan) tells of one index: every row that it has, and every
//!   row that it lacks, is the model's at that index, and the region has the version there by which
//!   the read was routed. The index is not before what was applied anywhere when the read was taken
//!   up, and not after what the peer has applied when it answers.
//! * **A write** that is answered with success is one write of one entry that the peer has applied
//!   since the last look at it: the request as a whole, not a part of it. A swap's answer is what
//!   the row was right before the swap, with the writes before it in the same entry applied.
//!
//! Why an interval and not one index: a step may apply entries, serve a read and apply more. Most
//! intervals have one index or two. A read under a permit is judged as of the moment in which the
//! state was read, when the interval ends.
//!
//! What the checker cannot see: an answer of an index of which the rows are not kept any more
//! ([`super::rows`]), which is counted; what a client makes of an answer ([`super::linear`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_store::core::{Answer, Op, Request, RequestId};
use flotilla_types::{PAIR_BYTES, RegionId, ScanOp, StoreId, WriteOp};

use super::model::{Model, show_rows, value_number};
use super::rows::View;
use super::{Verdict, broken};

/// The invariant's name.
const NAME: &str = "an answer is what the log says at one index";

/// Of so many answers at most one may be too old to be judged, beside [`TOO_OLD_MAX`].
const TOO_OLD_ONE_IN: u64 = 100;

/// Answers of one seed that may be too old in any case.
const TOO_OLD_MAX: u64 = 10;

/// The requests that stores have taken up, and answers that are not judged yet.
#[derive(Debug, Default)]
pub struct Answers {
    asked: BTreeMap<(StoreId, RequestId), Asked>,
    told: Vec<Told>,
    /// How many answers were judged, and how many are older than the rows that the model keeps.
    pub counts: Counts,
}

/// Numbers of answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Those that were judged.
    pub judged: u64,
    /// Those of an index of which the rows are not kept any more.
    pub too_old: u64,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    region: RegionId,
    version: u64,
    op: Op,
    /// The last index that was applied anywhere when the store took the request up.
    newest: u64,
}

/// An answer to it, by a peer that had applied the entries up to the first index before the step
/// that answered, and up to the second after it.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    store: StoreId,
    asked: Asked,
    answer: Answer,
    applied: (u64, u64),
}

impl Answers {
    /// A store's process has started anew: what it had taken up is lost.
    pub fn reborn(&mut self, store: StoreId) {
        self.asked.retain(|(other, _), _| *other != store);
        self.told.retain(|told| told.store != store);
    }

    /// A store takes a request up.
    pub fn taken_up(&mut self, store: StoreId, request: &Request, model: &Model) {
        let Request { id, region, epoch, op, .. } = request;
        let (version, op, newest) = (epoch.version, op.clone(), model.newest(*region));
        self.asked.insert((store, *id), Asked { region: *region, version, op, newest });
    }

    /// The region of a request that the store has taken up.
    pub fn region(&self, at: (StoreId, RequestId)) -> Option<RegionId> {
        self.asked.get(&at).map(|asked| asked.region)
    }

    /// A request is answered: with `answer`, or with a refusal. `applied` is how far the peer had
    /// applied its log before the step and after it.
    pub fn answered(
        &mut self,
        (store, id): (StoreId, RequestId),
        answer: Option<&Answer>,
        applied: (u64, u64),
    ) {
        let Some(asked) = self.asked.remove(&(store, id)) else { return };
        if let Some(answer) = answer.cloned() {
            self.told.push(Told { store, asked, answer, applied });
        }
    }

    /// Judges the answers of which the model knows the entries by now.
    pub fn judge(&mut self, model: &Model) -> Verdict {
        let is_known = |told: &Told| model.newest(told.asked.region) >= told.applied.1;
        let (known, waiting) = std::mem::take(&mut self.told).into_iter().partition(is_known);
        self.told = waiting;
        let known: Vec<Told> = known;
        for told in known {
            match judge(&told, model) {
                Judged::True => self.counts.judged += 1,
                Judged::TooOld => {
                    self.counts.too_old += 1;
                    let Counts { judged, too_old } = self.counts;
                    if too_old > TOO_OLD_MAX + judged / TOO_OLD_ONE_IN {
                        let what = format!("{too_old} are too old, {judged} are not: {told:?}");
                        return broken("answers are judged", what);
                    }
                }
                Judged::False(expected) => {
                    let Told { store, asked, answer, applied } = &told;
                    let (region, op) = (asked.region, &asked.op);
                    let what = format!(
                        "store {store}, region {region}: {op:?} of version {} is answered {} with \
                         {applied:?} applied, and {} when it was asked; expected {expected}",
                        asked.version,
                        show(answer),
                        asked.newest
                    );
                    return broken(NAME, what);
                }
            }
        }
        Ok(())
    }
}

/// What is to be said of an answer.
enum Judged {
    True,
    /// The index may be one of which the rows are not kept.
    TooOld,
    /// It is none of the model's; what one of them is.
    False(String),
}

fn judge(told: &Told, model: &Model) -> Judged {
    let Told { asked, answer, applied: (before, after), .. } = told;
    let region = asked.region;
    if let Op::Write(op) = &asked.op {
        let entries = (before + 1, *after);
        let is_it = |(other, result): &&(WriteOp, Option<Answer>)| other == op && result.is_some();
        let mut results = model.writes(region, entries).filter(is_it).map(|(_, result)| result);
        if results.any(|result| result.as_ref() == Some(answer)) {
            return Judged::True;
        }
        // The rows before the first of these entries are known only if that entry is.
        if model.at(region, *before).is_none() {
            return Judged::TooOld;
        }
        let results: Vec<String> =
            model.writes(region, entries).filter(is_it).map(|one| format!("{:?}", one.1)).collect();
        return Judged::False(format!("one of {results:?}"));
    }
    for index in (asked.newest..=*after).rev() {
        let Some(view) = model.at(region, index) else { return Judged::TooOld };
        if view.region().epoch.version == asked.version && is_read(&view, &asked.op, answer) {
            return Judged::True;
        }
    }
    Judged::False(model.at(region, *after).map_or(String::new(), |view| expected(&view, &asked.op)))
}

/// True if the answer is that of a read of these rows.
fn is_read(view: &View<'_>, op: &Op, answer: &Answer) -> bool {
    match (op, answer) {
        (Op::Get(keys), Answer::Get(values)) => {
            let is_it = |(key, value): (&Bytes, &Option<Bytes>)| view.get(key) == value.as_ref();
            keys.len() == values.len() && keys.iter().zip(values).all(is_it)
        }
        (Op::Scan(scan), Answer::Scan { pairs, is_done, walked_to }) => {
            let rows = rows_of(view, scan);
            // What was walked over after the last row are no rows.
            let is_behind = |next: &Bytes| {
                let is_passed =
                    |last: &Bytes| if scan.is_reverse { next < last } else { next > last };
                walked_to.as_ref().is_none_or(is_passed)
            };
            let are_none_skipped = rows.get(pairs.len()).is_none_or(|next| is_behind(next.0));
            are_none_skipped && is_chunk(&rows, scan, (pairs, *is_done))
        }
        _ => false,
    }
}

fn rows_of<'a>(view: &View<'a>, scan: &ScanOp) -> Vec<(&'a Bytes, &'a Bytes)> {
    let mut rows = view.rows(&scan.range);
    if scan.is_reverse {
        rows.reverse();
    }
    rows
}

/// True if a chunk has the first of `rows`, as many as the scan's bounds allow, and says it is done
/// only at the end of the range or the limit. A chunk may end early: a store counts the deleted
/// rows that it walks over, which the model does not know.
fn is_chunk(
    rows: &[(&Bytes, &Bytes)],
    scan: &ScanOp,
    (pairs, is_done): (&[(Bytes, Bytes)], bool),
) -> bool {
    let limit = if scan.limit == 0 { usize::MAX } else { scan.limit as usize };
    let is_row = |((key, value), (told_key, told)): (&(&Bytes, &Bytes), &(Bytes, Bytes))| {
        *key == told_key && if scan.keys_only { told.is_empty() } else { *value == told }
    };
    let are_rows = pairs.len() <= rows.len() && rows.iter().zip(pairs).all(is_row);
    let bytes = |(key, value): &(Bytes, Bytes)| PAIR_BYTES + key.len() + value.len();
    let is_within = pairs.len() <= 1 || pairs.iter().map(bytes).sum::<usize>() <= scan.bytes_max;
    let is_end = if is_done { pairs.len() == rows.len().min(limit) } else { pairs.len() < limit };
    are_rows && is_within && is_end && pairs.len() <= limit
}

fn expected(view: &View<'_>, op: &Op) -> String {
    match op {
        Op::Get(keys) => {
            show(&Answer::Get(keys.iter().map(|key| view.get(key).cloned()).collect()))
        }
        Op::Scan(scan) => format!("the first of {}", show_rows(rows_of(view, scan))),
        Op::Write(_) => String::new(),
    }
}

fn show(answer: &Answer) -> String {
    let number = |value: &Option<Bytes>| value.as_deref().map(value_number);
    match answer {
        Answer::Get(values) => format!("{:?}", values.iter().map(number).collect::<Vec<_>>()),
        Answer::Scan { pairs, is_done, .. } => {
            let rows = show_rows(pairs.iter().map(|(key, value)| (key, value)));
            format!("{rows}, done: {is_done}")
        }
        Answer::Written => "written".into(),
        Answer::Swapped { swapped, previous } => {
            format!("swapped: {swapped}, before: {:?}", number(previous))
        }
    }
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
