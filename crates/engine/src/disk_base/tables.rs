//! The tables of one write transaction: the main table, and the runs in front of it.
//!
//! A checkpoint of keys that lie far apart would rewrite a leaf of the main table for each of
//! them: read it, change one row of ten, write it elsewhere. So a sparse checkpoint becomes a
//! **run**, a table of its own that is written in one go, and [`Tables::merge`] moves the rows of
//! many runs into the main table together, when several of them share each leaf.
//!
//! Merging moves a **merge cursor** through the keys, in rounds: each call goes on from where the
//! last one stopped, takes the rows of all runs that lie there, and begins a new round at the end
//! of the keys. A run remembers the cursor's position of the moment at which it was written. It is
//! dropped when the cursor reaches that position one round later: all of its rows have been merged
//! by then.
//!
//! Architecture invariant: the value of a key is that of the newest run that has the key, and that
//! of the main table if no run has it. Merged rows stay in their run until the run is dropped; the
//! main table has the same values. Runs are dropped oldest first, so a run outlives every older one
//! whose rows it hides. A write that does not become a run removes its keys from the runs.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_types::KeyRange;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::filter::{Filter, Filters, Fingerprint};
use super::rows::{Key, MergedRows, Source};
use crate::buffer::{Buffer, bounds};
use crate::change::{Order, StateOp};

pub(super) const MAIN: TableDefinition<'_, Key, Key> = TableDefinition::new("state");

/// The runs: number, and the merge cursor (round, key) of the moment at which the run was written.
pub(super) const RUNS: TableDefinition<'_, u64, (u64, Key)> = TableDefinition::new("runs");

/// Their filters.
pub(super) const FILTERS: TableDefinition<'_, u64, Key> = TableDefinition::new("filters");

/// One row: the number of the next run, which is never used twice, and the merge cursor (round,
/// key). `hand` is the table's name on disk.
const CURSOR: TableDefinition<'_, (), (u64, u64, Key)> = TableDefinition::new("hand");

/// Bytes of a page of redb.
const PAGE_BYTES: usize = 4096;

/// How many neighbouring pairs of a checkpoint's keys are looked at, to estimate their distance.
const SAMPLES: usize = 16;

/// Rows merged for each row written. Above 1, so that the runs become fewer.
const MERGED_PER_WRITTEN: usize = 2;

/// When checkpoints become runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// The least rows of a checkpoint that becomes a run.
    pub rows_min: usize,
    /// The least leaves of the main table between two rows of a checkpoint that becomes a run. Rows
    /// of a denser checkpoint share leaves without one.
    pub leaves_min: usize,
    /// The most leaves between two such rows. Rows of a sparser checkpoint would share no leaves
    /// even with those of many other runs.
    pub leaves_max: usize,
    /// The most runs before merging begins.
    pub kept: usize,
}

impl RunOptions {
    /// With 24 runs, two of their rows share a leaf when 12 leaves lie between two rows of one.
    /// Each run costs 50 ns for a read, a few microseconds for a scan, and its rows' space on disk.
    pub const DEFAULT: RunOptions =
        RunOptions { rows_min: 4096, leaves_min: 1, leaves_max: 32, kept: 24 };
}

/// How far merging has come: all keys before `key`, in the `round`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct MergeCursor {
    round: u64,
    key: Bytes,
}

impl MergeCursor {
    /// The same key in the next round.
    fn one_round_later(&self) -> MergeCursor {
        MergeCursor { round: self.round + 1, key: self.key.clone() }
    }
}

struct Run<'txn> {
    number: u64,
    written_at: MergeCursor,
    filter: Arc<Filter>,
    table: Table<'txn, Key, Option<Key>>,
}

/// See the module's header.
pub(super) struct Tables<'txn> {
    transaction: &'txn WriteTransaction,
    filters: &'txn Filters,
    main: Table<'txn, Key, Key>,
    /// Oldest first.
    runs: Vec<Run<'txn>>,
    next_run: u64,
    cursor: MergeCursor,
}

impl<'txn> Tables<'txn> {
    pub(super) fn open(
        transaction: &'txn WriteTransaction,
        filters: &'txn Filters,
    ) -> Result<Tables<'txn>, redb::Error> {
        let main = transaction.open_table(MAIN)?;
        let (mut next_run, mut cursor) = (1, MergeCursor::default());
        if let Some(saved) = transaction.open_table(CURSOR)?.get(())? {
            let (next, round, key) = saved.value();
            (next_run, cursor) = (next, MergeCursor { round, key: Bytes::copy_from_slice(key) });
        }
        let mut runs = vec![];
        let saved = transaction.open_table(FILTERS)?;
        for entry in transaction.open_table(RUNS)?.iter()? {
            let (number, written_at) = entry?;
            let (number, (round, key)) = (number.value(), written_at.value());
            runs.push(Run {
                number,
                written_at: MergeCursor { round, key: Bytes::copy_from_slice(key) },
                filter: filters.get(number, || load_filter(&saved, number))?,
                table: transaction.open_table(run_table(&run_name(number)))?,
            });
        }
        let tables = Tables { transaction, filters, main, runs, next_run, cursor };
        tables.check();
        Ok(tables)
    }

    /// Writes a checkpoint.
    pub(super) fn apply(
        &mut self,
        buffer: &Buffer,
        options: &RunOptions,
    ) -> Result<(), redb::Error> {
        for range in buffer.cleared(&KeyRange::all()) {
            self.remove_range(&range)?;
        }
        let is_sparse = self.is_sparse(buffer, options)?;
        if is_sparse {
            self.add_run(buffer)?;
        } else {
            // In key order, so that each leaf is rewritten once.
            for (key, value) in buffer.points(&KeyRange::all(), Order::Ascending) {
                self.set(key, value.map(|value| &value[..]))?;
            }
        }
        if self.runs.len() > options.kept || !is_sparse {
            self.merge(buffer.len() * MERGED_PER_WRITTEN)?;
        }
        Ok(())
    }

    /// Writes one change into the main table.
    pub(super) fn write(&mut self, op: &StateOp) -> Result<(), redb::Error> {
        match op {
            StateOp::Put { key, value } => self.set(key, Some(value)),
            StateOp::Delete { key } => self.set(key, None),
            StateOp::DeleteRange { range } => self.remove_range(range),
        }
    }

    /// The main table. Only for rows whose keys no run has.
    pub(super) fn main(&mut self) -> &mut Table<'txn, Key, Key> {
        &mut self.main
    }

    fn set(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), redb::Error> {
        if !self.runs.is_empty() {
            let print = Fingerprint::of(key);
            for run in self.runs.iter_mut().filter(|run| run.filter.may_hold(print)) {
                run.table.remove(key)?;
            }
        }
        put(&mut self.main, key, value)
    }

    pub(super) fn remove_range(&mut self, range: &KeyRange) -> Result<(), redb::Error> {
        let Some(bounds) = bounds(range) else { return Ok(()) };
        for run in &mut self.runs {
            run.table.retain_in::<&[u8], _>(bounds, |_, _| false)?;
        }
        Ok(self.main.retain_in::<&[u8], _>(bounds, |_, _| false)?)
    }

    /// True if the rows of a checkpoint lie far apart in the main table, and not too far.
    fn is_sparse(&self, buffer: &Buffer, options: &RunOptions) -> Result<bool, redb::Error> {
        let rows = buffer.len();
        if rows < options.rows_min.max(1) {
            return Ok(false);
        }
        // A buffer's overhead for a row is about the space that a leaf leaves empty.
        let per_leaf = (PAGE_BYTES / (buffer.bytes() / rows)).max(1);
        let between_max = options.leaves_max.saturating_mul(per_leaf).saturating_add(1);
        let mut points = buffer.points(&KeyRange::all(), Order::Ascending);
        let step = (rows / SAMPLES).max(2);
        let (mut samples, mut between) = (0, 0);
        while let (Some((from, _)), Some((to, _))) = (points.next(), points.next()) {
            for row in self
                .main
                .range::<&[u8]>((Bound::Excluded(from), Bound::Excluded(to)))?
                .take(between_max)
            {
                row?;
                between += 1;
            }
            samples += 1;
            if step > 2 {
                points.nth(step - 3);
            }
        }
        let leaves = between / (samples.max(1) * per_leaf);
        Ok((options.leaves_min..=options.leaves_max).contains(&leaves))
    }

    fn add_run(&mut self, buffer: &Buffer) -> Result<(), redb::Error> {
        let number = self.next_run;
        self.next_run += 1;
        let mut table = self.transaction.open_table(run_table(&run_name(number)))?;
        let mut filter = Filter::for_keys(buffer.len());
        let mut end = table.lower_bound_mut(Bound::<&[u8]>::Unbounded)?;
        for (key, value) in buffer.points(&KeyRange::all(), Order::Ascending) {
            filter.insert(Fingerprint::of(key));
            end.insert_before(key, value.map(|value| &value[..]))?;
        }
        end.close()?;
        let written_at = self.cursor.clone();
        let mut list = self.transaction.open_table(RUNS)?;
        list.insert(number, (written_at.round, &written_at.key[..]))?;
        self.transaction.open_table(FILTERS)?.insert(number, filter.as_bytes())?;
        let filter = self.filters.get(number, || Ok::<_, redb::Error>(filter))?;
        self.runs.push(Run { number, written_at, filter, table });
        drop(list);
        self.save_cursor()
    }

    /// Merges the next `rows_max` rows of the runs into the main table, or all if they are fewer.
    fn merge(&mut self, rows_max: usize) -> Result<(), redb::Error> {
        if self.runs.is_empty() {
            return Ok(());
        }
        let end = self.cursor.one_round_later();
        let mut left = rows_max;
        let to_the_end = KeyRange { start: self.cursor.key.clone(), end: Bytes::new() };
        self.cursor = match self.merge_range(&to_the_end, &mut left)? {
            Some(key) => MergeCursor { round: self.cursor.round, key },
            None if end.key.is_empty() => end,
            None => {
                let from_the_beginning = KeyRange { start: Bytes::new(), end: end.key.clone() };
                let stopped = self.merge_range(&from_the_beginning, &mut left)?;
                MergeCursor { key: stopped.unwrap_or(end.key), ..end }
            }
        };
        self.drop_merged()?;
        self.save_cursor()
    }

    /// Merges rows of the range while any are `left` to merge. Answers the first key that is not
    /// merged, if there is one.
    fn merge_range(
        &mut self,
        range: &KeyRange,
        left: &mut usize,
    ) -> Result<Option<Bytes>, redb::Error> {
        let Some(bounds) = bounds(range) else { return Ok(None) };
        let Tables { main, runs, .. } = self;
        let mut sources = Vec::with_capacity(runs.len());
        for run in runs.iter().rev() {
            sources.push(Source::Run(run.table.range::<&[u8]>(bounds)?));
        }
        let mut rows = MergedRows::new(sources, Order::Ascending)?;
        while let Some(row) = rows.next()? {
            if *left == 0 {
                return Ok(Some(Bytes::copy_from_slice(row.key())));
            }
            *left -= 1;
            put(main, row.key(), row.value())?;
        }
        Ok(None)
    }

    /// Drops the runs that the merge cursor has passed since they were written.
    fn drop_merged(&mut self) -> Result<(), redb::Error> {
        let is_merged = |run: &Run<'_>| run.written_at.one_round_later() <= self.cursor;
        let merged = self.runs.iter().take_while(|run| is_merged(run)).count();
        if merged == 0 {
            return Ok(());
        }
        let mut list = self.transaction.open_table(RUNS)?;
        let mut saved = self.transaction.open_table(FILTERS)?;
        for run in self.runs.drain(..merged) {
            list.remove(run.number)?;
            saved.remove(run.number)?;
            self.transaction.delete_table(run.table)?;
        }
        self.filters.forget_before(self.runs.first().map_or(self.next_run, |run| run.number));
        self.check();
        Ok(())
    }

    /// Panics, with the values, if a run is newer than the table of runs or than the merge cursor.
    /// Runs are listed by number, so the last one is the newest. O(1).
    fn check(&self) {
        let Some(newest) = self.runs.last() else { return };
        let (number, next) = (newest.number, self.next_run);
        assert!(number < next, "run {number} stands, and the next one would be {next}");
        let (written_at, cursor) = (&newest.written_at, &self.cursor);
        assert!(written_at <= cursor, "run {number} of {written_at:?}, cursor {cursor:?}");
    }

    fn save_cursor(&mut self) -> Result<(), redb::Error> {
        let MergeCursor { round, key } = &self.cursor;
        let mut saved = self.transaction.open_table(CURSOR)?;
        saved.insert((), (self.next_run, *round, &key[..]))?;
        Ok(())
    }
}

fn put(
    main: &mut Table<'_, Key, Key>,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), redb::Error> {
    match value {
        Some(value) => drop(main.insert(key, value)?),
        None => drop(main.remove(key)?),
    }
    Ok(())
}

/// The name of a run's table.
pub(super) fn run_name(number: u64) -> String {
    format!("run-{number}")
}

/// A run's table. No value is a deletion.
pub(super) fn run_table(name: &str) -> TableDefinition<'_, Key, Option<Key>> {
    TableDefinition::new(name)
}

/// Reads a run's filter.
pub(super) fn load_filter(
    saved: &impl ReadableTable<u64, Key>,
    run: u64,
) -> Result<Filter, redb::Error> {
    let bytes = saved.get(run)?;
    let filter = bytes.and_then(|bytes| Filter::from_bytes(bytes.value()));
    filter.ok_or_else(|| redb::Error::Corrupted(format!("run {run} has no filter")))
}
