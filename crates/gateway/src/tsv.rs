//! Lines of TSV that come in pieces: rows, and batches of rows.
//!
//! In: the pieces of a body. Out: batches to put. The first column is the key; the rest of the line
//! after the first tab is the value. Of rows with one key the last wins, as if they were put one
//! after the other. A line that is no row ends the file: the rows before it come first.

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};
use flotilla_types::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use crate::limits::{LOAD_BATCH_BYTES, LOAD_BATCH_ROWS};

/// The longest line: the largest row, in hex digits, and its tab.
const LINE_BYTES_MAX: usize = 2 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) + 1;

/// Rows to put in one call, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) pairs: Vec<(Bytes, Bytes)>,
    /// Lines read, those that a later line replaced included.
    pub(crate) rows: u64,
    /// Bytes of the keys and values read.
    pub(crate) bytes: u64,
    places: HashMap<Bytes, usize>,
}

/// Why a line is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineError {
    /// Counted from 1.
    pub(crate) line: u64,
    /// Such as "has no tab".
    pub(crate) what: &'static str,
}

/// The lines of one file.
#[derive(Debug)]
pub(crate) struct Lines {
    is_hex: bool,
    buffer: BytesMut,
    /// Bytes at the buffer's begin that have no newline.
    searched: usize,
    line: u64,
    batch: Batch,
}

impl Lines {
    /// Lines of raw bytes, or of hex digits.
    pub(crate) fn new(is_hex: bool) -> Lines {
        Lines { is_hex, buffer: BytesMut::new(), searched: 0, line: 0, batch: Batch::default() }
    }

    /// Takes the next piece of the file.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next full batch of what was pushed; None if more has to be pushed first.
    pub(crate) fn next_batch(&mut self) -> Result<Option<Batch>, LineError> {
        while let Some(line) = self.next_line()? {
            self.add(&line)?;
            if self.batch.is_full() {
                return Ok(self.take());
            }
        }
        Ok(None)
    }

    /// What is left at the end of the file, whose last line may lack its newline.
    pub(crate) fn finish(&mut self) -> Result<Option<Batch>, LineError> {
        let rest = self.buffer.split().freeze();
        if !rest.is_empty() {
            self.line += 1;
            self.add(&rest)?;
        }
        Ok(self.take())
    }

    /// The rows that were read and are in no batch yet.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let batch = std::mem::take(&mut self.batch);
        Some(batch).filter(|batch| batch.rows > 0)
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, LineError> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(found) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(LineError { line: self.line + 1, what: "is longer than any row" });
            }
            return Ok(None);
        };
        let line = self.buffer.split_to(self.searched + found).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        self.line += 1;
        Ok(Some(line))
    }

    fn add(&mut self, text: &[u8]) -> Result<(), LineError> {
        let wrong = |what| LineError { line: self.line, what };
        let tab = text.iter().position(|byte| *byte == b'\t').ok_or(wrong("has no tab"))?;
        let (key, value) = text.split_at(tab);
        let value = value.strip_prefix(b"\t").unwrap_or(value);
        let (key, value) = (self.decode(key)?, self.decode(value)?);
        match (key.len(), value.len()) {
            (0, _) => Err(wrong("has an empty key")),
            (KEY_BYTES_MAX.., _) if key.len() > KEY_BYTES_MAX => Err(wrong("has too long a key")),
            (_, VALUE_BYTES_MAX..) if value.len() > VALUE_BYTES_MAX => {
                Err(wrong("has too large a value"))
            }
            _ => {
                self.batch.add(key, value);
                Ok(())
            }
        }
    }

    /// Copied, so that a row does not keep the piece that it came in.
    fn decode(&self, text: &[u8]) -> Result<Bytes, LineError> {
        if !self.is_hex {
            return Ok(Bytes::copy_from_slice(text));
        }
        let decoded = hex::decode(text).map(Bytes::from);
        decoded.map_err(|_| LineError { line: self.line, what: "is not hex" })
    }
}

impl Batch {
    fn add(&mut self, key: Bytes, value: Bytes) {
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
        match self.places.get(&key).and_then(|place| self.pairs.get_mut(*place)) {
            Some(pair) => pair.1 = value,
            None => {
                self.places.insert(key.clone(), self.pairs.len());
                self.pairs.push((key, value));
            }
        }
    }

    fn is_full(&self) -> bool {
        self.pairs.len() >= LOAD_BATCH_ROWS || self.bytes >= LOAD_BATCH_BYTES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a text that comes in pieces of so many bytes, and the error that ends it.
    fn read(text: &[u8], piece: usize, is_hex: bool) -> (Vec<Batch>, Option<LineError>) {
        let mut lines = Lines::new(is_hex);
        let mut batches = vec![];
        let mut failed = None;
        for piece in text.chunks(piece) {
            lines.push(piece);
            loop {
                match lines.next_batch() {
                    Ok(Some(batch)) => batches.push(batch),
                    Ok(None) => break,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            if failed.is_some() {
                batches.extend(lines.take());
                return (batches, failed);
            }
        }
        match lines.finish() {
            Ok(last) => batches.extend(last),
            Err(error) => {
                batches.extend(lines.take());
                failed = Some(error);
            }
        }
        (batches, failed)
    }

    fn pairs(batches: &[Batch]) -> Vec<(&[u8], &[u8])> {
        let pairs = batches.iter().flat_map(|batch| &batch.pairs);
        pairs.map(|(key, value)| (&key[..], &value[..])).collect()
    }

    #[test]
    fn pieces_make_no_difference() {
        let text = b"a\t1\t2 \nb\t\na\t3\r\nlast\tline";
        let expected: [(&[u8], &[u8]); 3] = [(b"a", b"3\r"), (b"b", b""), (b"last", b"line")];
        for piece in 1..=text.len() {
            let (batches, error) = read(text, piece, false);
            assert_eq!((pairs(&batches), error), (expected.to_vec(), None), "pieces of {piece}");
            assert_eq!(batches.iter().map(|batch| batch.rows).sum::<u64>(), 4);
        }
        assert_eq!(read(b"", 1, false), (vec![], None));
    }

    #[test]
    fn a_line_that_is_no_row_comes_after_the_rows_before_it() {
        for (bad, what) in
            [("none", "has no tab"), ("", "has no tab"), ("\tvalue", "has an empty key")]
        {
            let text = format!("a\t1\nb\t2\n{bad}\nc\t3\n");
            let (batches, error) = read(text.as_bytes(), 5, false);
            assert_eq!(pairs(&batches).len(), 2);
            assert_eq!(error, Some(LineError { line: 3, what }));
        }
        let (batches, error) = read(b"6b0a\t09\nzz\t00\n", 3, true);
        let expected: [(&[u8], &[u8]); 1] = [(b"k\n", b"\t")];
        assert_eq!(pairs(&batches), expected);
        assert_eq!(error, Some(LineError { line: 2, what: "is not hex" }));
    }

    #[test]
    fn a_line_without_end_ends_the_file() {
        let (batches, error) = read(&vec![b'x'; LINE_BYTES_MAX + 2], 1 << 20, false);
        assert!(batches.is_empty());
        assert_eq!(error, Some(LineError { line: 1, what: "is longer than any row" }));
        let long_key = [&vec![b'k'; KEY_BYTES_MAX + 1][..], b"\tv\n"].concat();
        assert_eq!(read(&long_key, 1 << 20, false).1.expect("refused").what, "has too long a key");
    }

    #[test]
    fn batches_are_closed_by_rows_and_by_bytes() {
        let many: String = (0..LOAD_BATCH_ROWS + 1).map(|row| format!("{row}\tv\n")).collect();
        let (batches, _) = read(many.as_bytes(), 1000, false);
        assert_eq!(batches.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [512, 1]);
        let big = format!("a\t{0}\nb\t{0}\n", "x".repeat(LOAD_BATCH_BYTES));
        assert_eq!(read(big.as_bytes(), 1 << 20, false).0.len(), 2);
    }
}
