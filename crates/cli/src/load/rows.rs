//! Lines to rows, and rows to batches. Knows no cluster.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, Read};

use bytes::Bytes;
use flotilla_types::limits::{BATCH_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};

use crate::args::Encoding;

/// Rows of a batch, well below the limit of a request: a batch is the unit that waits and retries.
pub const BATCH_ROWS: usize = 512;

/// Bytes of a batch after which it is closed. The last row may exceed it, by less than the largest
/// row, which keeps the batch within [`BATCH_BYTES_MAX`].
pub const BATCH_BYTES: usize = 1024 * 1024;

/// The longest line that is read: any row in hex digits fits, and a file without newlines does not
/// fill the memory.
const LINE_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

const _: () = assert!(BATCH_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX <= BATCH_BYTES_MAX);

/// Rows to put in one call, each key once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Key and value of each row.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// Rows read, those that a later row of the batch replaced included.
    pub rows: u64,
    /// Bytes of the keys and values read.
    pub bytes: u64,
}

/// Why a line is no row.
#[derive(Debug)]
pub enum LineError {
    /// Nothing separates the key from the value.
    NoTab {
        /// Counted from 1.
        line: u64,
    },
    /// The key has no bytes.
    EmptyKey {
        /// Counted from 1.
        line: u64,
    },
    /// The key or the value is too long.
    OverLimit {
        /// Counted from 1.
        line: u64,
        /// The limit's name and unit.
        limit: &'static str,
        /// The greatest value allowed.
        max: usize,
    },
    /// With `--hex`: the key or the value is no hex.
    NotHex {
        /// Counted from 1.
        line: u64,
        /// What the decoder said.
        error: hex::FromHexError,
    },
    /// The line could not be read.
    Unreadable {
        /// Counted from 1.
        line: u64,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::NoTab { line } => {
                write!(f, "line {line} has no tab between a key and a value")
            }
            LineError::EmptyKey { line } => write!(f, "line {line} has an empty key"),
            LineError::OverLimit { line, limit, max } => {
                write!(f, "line {line} is over the limit of {max} {limit}")
            }
            LineError::NotHex { line, error } => write!(f, "line {line} is not hex: {error}"),
            LineError::Unreadable { line, error } => {
                write!(f, "line {line} could not be read: {error}")
            }
        }
    }
}

/// Batches of the rows of a reader.
pub struct Batches<R> {
    reader: R,
    encoding: Encoding,
    line: u64,
    /// A bad line that ended the last batch, to be returned at the next call.
    error: Option<LineError>,
}

impl<R: BufRead> Batches<R> {
    /// Rows of `reader`, in hex digits if `encoding` says so.
    pub fn new(reader: R, encoding: Encoding) -> Batches<R> {
        Batches { reader, encoding, line: 0, error: None }
    }

    /// The next batch; None at the end. Rows before a bad line come as a batch before its error.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, LineError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut batch = Batch::default();
        let mut places = HashMap::new();
        while batch.pairs.len() < BATCH_ROWS && batch.bytes < BATCH_BYTES as u64 {
            match self.next_row() {
                Ok(Some(row)) => batch.add(row, &mut places),
                Ok(None) => break,
                Err(error) if batch.rows == 0 => return Err(error),
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        Ok(Some(batch).filter(|batch| batch.rows > 0))
    }

    fn next_row(&mut self) -> Result<Option<(Bytes, Bytes)>, LineError> {
        let Some(text) = self.next_line()? else { return Ok(None) };
        let line = self.line;
        let tab = text.iter().position(|byte| *byte == b'\t').ok_or(LineError::NoTab { line })?;
        let row = (self.decode(text.slice(..tab))?, self.decode(text.slice(tab + 1..))?);
        if row.0.is_empty() {
            return Err(LineError::EmptyKey { line });
        }
        check(line, "key bytes", KEY_BYTES_MAX, row.0.len())?;
        check(line, "value bytes", VALUE_BYTES_MAX, row.1.len())?;
        Ok(Some(row))
    }

    /// The next line without its newline; None at the end.
    fn next_line(&mut self) -> Result<Option<Bytes>, LineError> {
        let line = self.line + 1;
        let mut text = Vec::new();
        let read = (&mut self.reader).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut text);
        if read.map_err(|error| LineError::Unreadable { line, error })? == 0 {
            return Ok(None);
        }
        self.line = line;
        check(line, "line bytes", LINE_BYTES_MAX, text.len())?;
        if text.last() == Some(&b'\n') {
            text.pop();
        }
        Ok(Some(text.into()))
    }

    fn decode(&self, bytes: Bytes) -> Result<Bytes, LineError> {
        if !self.encoding.hex {
            return Ok(bytes);
        }
        let decoded = hex::decode(&bytes);
        decoded.map(Bytes::from).map_err(|error| LineError::NotHex { line: self.line, error })
    }
}

impl Batch {
    /// Adds a row, or replaces the row of the same key; `places` has the index of each key.
    fn add(&mut self, row: (Bytes, Bytes), places: &mut HashMap<Bytes, usize>) {
        self.rows += 1;
        self.bytes += (row.0.len() + row.1.len()) as u64;
        match places.get(&row.0) {
            Some(place) => self.pairs[*place] = row,
            None => {
                places.insert(row.0.clone(), self.pairs.len());
                self.pairs.push(row);
            }
        }
    }
}

fn check(line: u64, limit: &'static str, max: usize, actual: usize) -> Result<(), LineError> {
    if actual <= max { Ok(()) } else { Err(LineError::OverLimit { line, limit, max }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(text: &[u8], hex: bool) -> (Vec<Batch>, Option<LineError>) {
        let mut rows = Batches::new(text, Encoding { hex });
        let mut batches = Vec::new();
        loop {
            match rows.next_batch() {
                Ok(Some(batch)) => batches.push(batch),
                Ok(None) => return (batches, None),
                Err(error) => return (batches, Some(error)),
            }
        }
    }

    fn pairs(batch: &Batch) -> Vec<(&[u8], &[u8])> {
        batch.pairs.iter().map(|(key, value)| (&key[..], &value[..])).collect()
    }

    #[test]
    fn the_value_is_all_after_the_first_tab() {
        let (read, error) = batches(b"a\t1\t2 \nb\t\nc\t3\r", false);
        assert!(error.is_none());
        let expected: [(&[u8], &[u8]); 3] = [(b"a", b"1\t2 "), (b"b", b""), (b"c", b"3\r")];
        assert_eq!(pairs(&read[0]), expected);
    }

    #[test]
    fn a_bad_line_comes_after_the_rows_before_it() {
        for (bad, says) in [
            ("none", "line 3 has no tab"),
            ("", "line 3 has no tab"),
            ("\tvalue", "line 3 has an empty key"),
        ] {
            let (read, error) = batches(format!("a\t1\nb\t2\n{bad}\nc\t3\n").as_bytes(), false);
            assert_eq!(read.iter().map(|batch| batch.rows).sum::<u64>(), 2);
            assert!(error.expect("an error").to_string().starts_with(says), "{bad:?}");
        }
    }

    #[test]
    fn rows_over_a_limit_name_line_and_limit() {
        let long_key = [&b"a\t1\n"[..], &[b'k'; KEY_BYTES_MAX + 1], b"\tv\n"].concat();
        let error = batches(&long_key, false).1.expect("an error").to_string();
        assert!(error.contains("line 2") && error.contains("key bytes"), "{error}");
    }

    #[test]
    fn within_a_batch_the_last_row_of_a_key_wins() {
        let (read, _) = batches(b"a\t1\nb\t2\na\t3\n", false);
        let expected: [(&[u8], &[u8]); 2] = [(b"a", b"3"), (b"b", b"2")];
        assert_eq!(pairs(&read[0]), expected);
        assert_eq!((read[0].rows, read[0].bytes), (3, 6));
    }

    #[test]
    fn batches_are_closed_by_rows_and_by_bytes() {
        let many: String = (0..BATCH_ROWS + 1).map(|row| format!("{row}\tv\n")).collect();
        let (read, _) = batches(many.as_bytes(), false);
        assert_eq!(read.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [512, 1]);
        let big = format!("a\t{0}\nb\t{0}\n", "x".repeat(BATCH_BYTES));
        assert_eq!(batches(big.as_bytes(), false).0.len(), 2);
    }

    #[test]
    fn hex_rows_hold_any_bytes() {
        let (read, error) = batches(b"6b0a\t09\nzz\t00\n", true);
        let expected: [(&[u8], &[u8]); 1] = [(b"k\n", b"\t")];
        assert_eq!(pairs(&read[0]), expected);
        assert!(error.expect("an error").to_string().starts_with("line 2 is not hex"));
    }
}
