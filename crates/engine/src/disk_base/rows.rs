//! Rows of several tables as one: the runs', newest first, and those of the main table.

use std::cmp::Ordering;

use redb::{AccessGuard, Range, StorageError};

use crate::change::Order;

/// Keys, as redb names them.
pub(super) type Key = &'static [u8];

/// Rows of one table, in one order.
pub(super) enum Source<'a> {
    /// A run's; no value is a deletion.
    Run(Range<'a, Key, Option<Key>>),
    /// The main table's.
    Main(Range<'a, Key, Key>),
}

impl<'a> Source<'a> {
    fn next(&mut self, order: Order) -> Result<Option<Row<'a>>, StorageError> {
        fn step<T>(rows: &mut impl DoubleEndedIterator<Item = T>, order: Order) -> Option<T> {
            match order {
                Order::Ascending => rows.next(),
                Order::Descending => rows.next_back(),
            }
        }
        match self {
            Source::Run(rows) => {
                let next = step(rows, order).transpose()?;
                Ok(next.map(|(key, value)| Row { key, value: Value::Run(value) }))
            }
            Source::Main(rows) => {
                let next = step(rows, order).transpose()?;
                Ok(next.map(|(key, value)| Row { key, value: Value::Main(value) }))
            }
        }
    }
}

/// A key and its value, or that it was deleted.
pub(super) struct Row<'a> {
    key: AccessGuard<'a, Key>,
    value: Value<'a>,
}

enum Value<'a> {
    Run(AccessGuard<'a, Option<Key>>),
    Main(AccessGuard<'a, Key>),
}

impl Row<'_> {
    pub(super) fn key(&self) -> &[u8] {
        self.key.value()
    }

    /// None if the key was deleted.
    pub(super) fn value(&self) -> Option<&[u8]> {
        match &self.value {
            Value::Run(value) => value.value(),
            Value::Main(value) => Some(value.value()),
        }
    }
}

/// The rows of all sources in one order; of several for one key, the first source's.
pub(super) struct MergedRows<'a> {
    sources: Vec<(Source<'a>, Option<Row<'a>>)>,
    order: Order,
}

impl<'a> MergedRows<'a> {
    /// `sources` from the newest to the oldest.
    pub(super) fn new(
        sources: impl IntoIterator<Item = Source<'a>>,
        order: Order,
    ) -> Result<MergedRows<'a>, StorageError> {
        let begin = |mut source: Source<'a>| {
            let head = source.next(order)?;
            Ok((source, head))
        };
        let sources: Result<Vec<_>, StorageError> = sources.into_iter().map(begin).collect();
        Ok(MergedRows { sources: sources?, order })
    }

    pub(super) fn next(&mut self) -> Result<Option<Row<'a>>, StorageError> {
        let Some(first) = self.first() else { return Ok(None) };
        let order = self.order;
        let (source, head) = &mut self.sources[first];
        let row = std::mem::replace(head, source.next(order)?);
        // The rows of older sources for this key are hidden.
        for (source, head) in &mut self.sources[first + 1..] {
            if head.as_ref().map(Row::key) == row.as_ref().map(Row::key) {
                *head = source.next(order)?;
            }
        }
        Ok(row)
    }

    /// The source whose row comes first; the newest, if several have a row for its key.
    fn first(&self) -> Option<usize> {
        let mut first: Option<(usize, &[u8])> = None;
        for (at, (_, head)) in self.sources.iter().enumerate() {
            let Some(key) = head.as_ref().map(Row::key) else { continue };
            if first.is_none_or(|(_, best)| self.order.compare(key, best) == Ordering::Less) {
                first = Some((at, key));
            }
        }
        first.map(|(at, _)| at)
    }
}
