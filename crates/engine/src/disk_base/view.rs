//! Reads of one committed state: the runs in front of the main table.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_types::KeyRange;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableError};

use super::filter::{Filter, Filters, Fingerprint};
use super::rows::{Key, MergedRows, Source};
use super::storage_error;
use super::tables::{FILTERS, MAIN, RUNS, load_filter, run_name, run_table};
use crate::base::{ReadView, Walk};
use crate::buffer::bounds;
use crate::change::Order;
use crate::error::EngineError;

pub(super) struct DiskView {
    file: Arc<Path>,
    main: ReadOnlyTable<Key, Key>,
    /// Newest first.
    runs: Vec<Run>,
}

struct Run {
    filter: Arc<Filter>,
    table: ReadOnlyTable<Key, Option<Key>>,
}

impl DiskView {
    pub(super) fn open(
        file: Arc<Path>,
        transaction: &ReadTransaction,
        filters: &Filters,
    ) -> Result<DiskView, redb::Error> {
        let main = transaction.open_table(MAIN)?;
        let mut runs = vec![];
        // There is no list before there was a run.
        match transaction.open_table(RUNS) {
            Err(TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(error.into()),
            Ok(list) => {
                let saved = transaction.open_table(FILTERS)?;
                for entry in list.iter()?.rev() {
                    let number = entry?.0.value();
                    let filter = filters.get(number, || load_filter(&saved, number))?;
                    let table = transaction.open_table(run_table(&run_name(number)))?;
                    runs.push(Run { filter, table });
                }
            }
        }
        Ok(DiskView { file, main, runs })
    }

    fn find(&self, key: &[u8]) -> Result<Option<Bytes>, redb::Error> {
        if !self.runs.is_empty() {
            let print = Fingerprint::of(key);
            for run in self.runs.iter().filter(|run| run.filter.may_hold(print)) {
                if let Some(found) = run.table.get(key)? {
                    return Ok(found.value().map(Bytes::copy_from_slice));
                }
            }
        }
        Ok(self.main.get(key)?.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn rows(&self, range: &KeyRange, order: Order) -> Result<Option<MergedRows<'_>>, redb::Error> {
        let Some(bounds) = bounds(range) else { return Ok(None) };
        let mut sources = Vec::with_capacity(self.runs.len() + 1);
        for run in &self.runs {
            sources.push(Source::Run(run.table.range::<&[u8]>(bounds)?));
        }
        sources.push(Source::Main(self.main.range::<&[u8]>(bounds)?));
        Ok(Some(MergedRows::new(sources, order)?))
    }
}

impl ReadView for DiskView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.find(key).map_err(|error| storage_error(&self.file, error))
    }

    fn walk(
        &self,
        range: &KeyRange,
        order: Order,
        visit: &mut Walk<'_>,
    ) -> Result<(), EngineError> {
        let rows = self.rows(range, order).map_err(|error| storage_error(&self.file, error))?;
        let Some(mut rows) = rows else { return Ok(()) };
        while let Some(row) = rows.next().map_err(|error| storage_error(&self.file, error))? {
            if !visit(row.key(), row.value()) {
                break;
            }
        }
        Ok(())
    }
}
