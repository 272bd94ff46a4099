//! Where a scan goes on: a scan is read in chunks, each a request of its own.
//!
//! In: the scan that was asked for, then the rows of each chunk. Out: the next chunk to read
//! ([`ScanCursor::next`]). After each chunk the cursor stands behind the last row that was read, so
//! no row is read twice or skipped: behind the chunk's last row, or behind the deleted rows that
//! were walked over after it. A chunk may have no rows at all.
//!
//! Deliberately not here: reading rows ([`super::read`]), and regions: a scan lies within one.

use bytes::Bytes;
use flotilla_types::keys::key_after;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{KeyRange, ScanOp};

/// The rest of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanCursor {
    /// The next chunk, as if there were no limit of rows.
    op: ScanOp,
    /// None: no limit.
    rows_left: Option<u64>,
    is_done: bool,
}

impl ScanCursor {
    /// A scan none of whose rows was read. `op.bytes_max` bounds each chunk, `op.limit` (0: none)
    /// the whole scan.
    pub fn new(op: ScanOp) -> ScanCursor {
        let rows_left = (op.limit > 0).then_some(op.limit);
        ScanCursor { op, rows_left, is_done: false }
    }

    /// The chunk to read next; None if the scan has ended.
    pub fn next(&self) -> Option<ScanOp> {
        let has_ended = self.is_done || self.rows_left == Some(0);
        let limit = self.rows_left.unwrap_or(0);
        (!has_ended).then(|| ScanOp { limit, ..self.op.clone() })
    }

    /// Notes what the chunk has: its rows, whether the range or the limit is exhausted, and the
    /// last key that was read, if that is no row of the chunk. A chunk that names no key ends the
    /// scan in any case, for it says nothing of where to go on.
    pub fn read(&mut self, pairs: &[(Bytes, Bytes)], is_done: bool, walked_to: Option<&Bytes>) {
        if let Some(rows_left) = &mut self.rows_left {
            *rows_left = rows_left.saturating_sub(pairs.len() as u64);
        }
        match walked_to.or(pairs.last().map(|(key, _)| key)) {
            Some(last) if !is_done => self.op.range = self.rest_after(last),
            Some(_) | None => self.is_done = true,
        }
    }

    fn rest_after(&self, last: &Bytes) -> KeyRange {
        let KeyRange { start, end } = self.op.range.clone();
        if self.op.is_reverse {
            KeyRange { start, end: last.clone() }
        } else if planted(Mutant::ScanRowTwice) {
            KeyRange { start: last.clone(), end }
        } else {
            KeyRange { start: key_after(last), end }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(limit: u64, is_reverse: bool) -> ScanCursor {
        let range = KeyRange::new("b", "m");
        ScanCursor::new(ScanOp { range, limit, bytes_max: 10, is_reverse, keys_only: true })
    }

    fn rows(keys: &[&'static str]) -> Vec<(Bytes, Bytes)> {
        keys.iter().map(|key| (Bytes::from(*key), Bytes::new())).collect()
    }

    fn next(cursor: &ScanCursor) -> (KeyRange, u64) {
        let op = cursor.next().expect("the scan goes on");
        assert_eq!((op.bytes_max, op.keys_only), (10, true));
        (op.range, op.limit)
    }

    #[test]
    fn a_scan_goes_on_behind_its_last_row() {
        let mut cursor = cursor(0, false);
        assert_eq!(next(&cursor), (KeyRange::new("b", "m"), 0));
        cursor.read(&rows(&["b", "d"]), false, None);
        assert_eq!(next(&cursor), (KeyRange::new("d\0", "m"), 0));
        cursor.read(&rows(&["e"]), true, None);
        assert_eq!(cursor.next(), None);
    }

    #[test]
    fn a_reverse_scan_goes_on_before_its_last_row() {
        let mut cursor = cursor(0, true);
        cursor.read(&rows(&["l", "d"]), false, None);
        assert_eq!(next(&cursor), (KeyRange::new("b", "d"), 0));
    }

    #[test]
    fn the_limit_counts_the_rows_of_all_chunks() {
        let mut cursor = cursor(3, false);
        assert_eq!(next(&cursor).1, 3);
        cursor.read(&rows(&["b", "c"]), false, None);
        assert_eq!(next(&cursor).1, 1);
        cursor.read(&rows(&["d"]), false, None);
        assert_eq!(cursor.next(), None, "0 rows left must not read as no limit");
    }

    #[test]
    fn a_scan_goes_on_behind_the_deleted_rows_that_were_walked_over() {
        let (mut up, mut down) = (cursor(5, false), cursor(0, true));
        up.read(&rows(&["b"]), false, Some(&"f".into()));
        assert_eq!(next(&up), (KeyRange::new("f\0", "m"), 4));
        up.read(&[], false, Some(&"g".into()));
        assert_eq!(next(&up), (KeyRange::new("g\0", "m"), 4));
        down.read(&[], false, Some(&"h".into()));
        assert_eq!(next(&down), (KeyRange::new("b", "h"), 0));
    }

    #[test]
    fn a_chunk_that_names_no_key_ends_the_scan() {
        let mut cursor = cursor(0, false);
        cursor.read(&[], false, None);
        assert_eq!(cursor.next(), None);
    }
}
