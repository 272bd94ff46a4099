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

/// How each file of gzip begins (RFC 1952).
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

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
    /// The last line has no newline, so what wrote the file may have been cut off in it.
    Unfinished {
        /// Counted from 1.
        line: u64,
    },
    /// The input begins as gzip's files do.
    Compressed,
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
            LineError::Unfinished { line } => write!(
                f,
                "line {line}, the last, has no newline, so the file may have been cut off; \
                 --partial-ok takes the line as it is"
            ),
            LineError::Compressed => {
                write!(f, "the input is compressed; load it by: gzip -dc FILE | flotilla kv load -")
            }
            LineError::Unreadable { line, error } => {
                write!(f, "line {line} could not be read: {error}")
            }
        }
    }
}

/// How lines are read.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// Raw bytes or hex digits.
    pub encoding: Encoding,
    /// Whether the last line may lack its newline.
    pub is_partial_ok: bool,
}

/// What looks like a mistake at the beginning of the input, though all of it can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// The first key begins with the mark by which some editors tell that a file is UTF-8.
    ByteOrderMark,
    /// The first line ends with a carriage return, which is part of the value.
    CarriageReturn,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Oddity::ByteOrderMark => {
                "the first key begins with a UTF-8 byte order mark, which is stored as part of it"
            }
            Oddity::CarriageReturn => {
                "the first line ends with a carriage return, which is stored as part of its value; \
                 so are those of other lines"
            }
        })
    }
}

/// Batches of the rows of a reader.
pub struct Batches<R> {
    reader: R,
    dialect: Dialect,
    line: u64,
    /// A bad line that ended the last batch, to be returned at the next call.
    error: Option<LineError>,
}

impl<R: BufRead> Batches<R> {
    /// Rows of `reader`.
    pub fn new(reader: R, dialect: Dialect) -> Batches<R> {
        Batches { reader, dialect, line: 0, error: None }
    }

    /// Looks at the beginning of the input, before the first batch. What is odd is found within
    /// the reader's first buffer.
    pub fn inspect(&mut self) -> Result<Vec<Oddity>, LineError> {
        let unreadable = |error| LineError::Unreadable { line: 1, error };
        let start = self.reader.fill_buf().map_err(unreadable)?;
        if start.starts_with(GZIP_MAGIC) {
            return Err(LineError::Compressed);
        }
        let mut oddities = vec![];
        if start.starts_with(BYTE_ORDER_MARK) {
            oddities.push(Oddity::ByteOrderMark);
        }
        let newline = start.iter().position(|byte| *byte == b'\n');
        if newline.is_some_and(|newline| start[..newline].ends_with(b"\r")) {
            oddities.push(Oddity::CarriageReturn);
        }
        Ok(oddities)
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
        match text.last() {
            Some(b'\n') => {
                text.pop();
            }
            Some(_) | None if self.dialect.is_partial_ok => {}
            Some(_) | None => return Err(LineError::Unfinished { line }),
        }
        Ok(Some(text.into()))
    }

    fn decode(&self, bytes: Bytes) -> Result<Bytes, LineError> {
        if !self.dialect.encoding.hex {
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

    fn dialect(hex: bool, is_partial_ok: bool) -> Dialect {
        Dialect { encoding: Encoding { hex }, is_partial_ok }
    }

    fn batches(text: &[u8], hex: bool) -> (Vec<Batch>, Option<LineError>) {
        let mut rows = Batches::new(text, dialect(hex, false));
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
        let (read, error) = batches(b"a\t1\t2 \nb\t\nc\t3\r\n", false);
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
    fn a_last_line_that_may_be_cut_off_is_taken_on_request_only() {
        let (read, error) = batches(b"a\t1\nb\t2", false);
        assert_eq!(pairs(&read[0]), [(&b"a"[..], &b"1"[..])]);
        assert!(error.expect("an error").to_string().contains("line 2, the last, has no newline"));
        let mut rows = Batches::new(&b"a\t1\nb\t2"[..], dialect(false, true));
        let batch = rows.next_batch().expect("rows").expect("some");
        assert_eq!(pairs(&batch), [(&b"a"[..], &b"1"[..]), (&b"b"[..], &b"2"[..])]);
    }

    #[test]
    fn the_beginning_is_looked_at_before_anything_is_stored() {
        let inspect = |text: &[u8]| Batches::new(text, dialect(false, false)).inspect();
        assert!(matches!(inspect(b"\x1f\x8b\x08rest"), Err(LineError::Compressed)));
        let both = [Oddity::ByteOrderMark, Oddity::CarriageReturn];
        assert_eq!(inspect(b"\xef\xbb\xbfa\t1\r\nb\t2\r\n").expect("rows"), both);
        assert_eq!(inspect(b"a\t1\nb\t2\r\n").expect("rows"), []);
        assert_eq!(inspect(b"").expect("nothing"), []);
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
