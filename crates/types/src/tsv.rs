//! Rows as lines of TSV, and batches of rows: the form of a dump, and of what is loaded.
//!
//! In: the pieces of a file, as they come. Out: batches to put. The first column is the key; the
//! rest of the line after the first tab is the value; with hex digits either may hold any byte. Of
//! rows with one key the last wins, as if the rows were put one after the other. A line that is no
//! row ends the file, and the rows before the line come first.
//!
//! The memory is bounded by the pieces that were pushed and not read, one line, and one batch.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::take;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{BATCH_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Rows of a batch, well below the limit of a request: a batch is the unit that waits and retries.
pub const BATCH_ROWS: usize = 512;

/// Bytes of a batch after which it is closed. The last row may exceed it, by less than the largest
/// row, which keeps the batch within [`BATCH_BYTES_MAX`].
pub const BATCH_BYTES: usize = 1024 * 1024;

/// The longest line: the largest row, in hex digits, and its tab. A file without newlines does not
/// fill the memory.
pub const LINE_BYTES_MAX: usize = 2 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) + 1;

const _: () = assert!(BATCH_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX <= BATCH_BYTES_MAX);

/// Rows to put in one call, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Key and value of each row.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// Rows read, those that a later row of the batch replaced included.
    pub rows: u64,
    /// Bytes of the keys and values read.
    pub bytes: u64,
    /// The index in `pairs` of each key.
    places: BTreeMap<Bytes, usize>,
}

/// A line is no row. Displayed as a sentence that begins with the line.
#[derive(Clone, Debug, PartialEq)]
pub struct LineError {
    /// Counted from 1.
    pub line: u64,
    /// Why it is none.
    pub fault: LineFault,
}

/// Why a line is no row.
#[derive(Clone, Debug, PartialEq)]
pub enum LineFault {
    /// Nothing separates the key from the value.
    NoTab,
    /// The key has no bytes.
    EmptyKey,
    /// The key, the value or the line is too long.
    OverLimit {
        /// The limit's name and unit.
        limit: &'static str,
        /// The greatest value allowed.
        max: usize,
    },
    /// The key or the value is no hex; what the decoder said.
    NotHex(hex::FromHexError),
    /// The last line has no newline, so what wrote the file may have been cut off in it.
    Unfinished,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line;
        match &self.fault {
            LineFault::NoTab => write!(f, "line {line} has no tab between a key and a value"),
            LineFault::EmptyKey => write!(f, "line {line} has an empty key"),
            LineFault::OverLimit { limit, max } => {
                write!(f, "line {line} is over the limit of {max} {limit}")
            }
            LineFault::NotHex(error) => write!(f, "line {line} is not hex: {error}"),
            LineFault::Unfinished => write!(
                f,
                "line {line}, the last, has no newline, so the file may have been cut off"
            ),
        }
    }
}

/// How lines are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Keys and values are hex digits, not raw bytes.
    pub is_hex: bool,
    /// Whether the last line may lack its newline.
    pub is_partial_ok: bool,
}

/// The lines of one file.
#[derive(Debug)]
pub struct Lines {
    dialect: Dialect,
    buffer: BytesMut,
    /// Bytes at the buffer's begin that have no newline.
    searched: usize,
    is_ended: bool,
    line: u64,
    batch: Batch,
    /// A bad line that ended the last batch, to be returned at the next call.
    error: Option<LineError>,
}

impl Lines {
    /// A file of which nothing was read yet.
    pub fn new(dialect: Dialect) -> Lines {
        Lines {
            dialect,
            buffer: BytesMut::new(),
            searched: 0,
            is_ended: false,
            line: 0,
            batch: Batch::default(),
            error: None,
        }
    }

    /// Takes the next piece of the file.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// All pieces were pushed.
    pub fn end(&mut self) {
        self.is_ended = true;
    }

    /// How many lines were read.
    pub fn count(&self) -> u64 {
        self.line
    }

    /// The next batch of what was pushed. None if more has to be pushed first, or the file's end
    /// was told and nothing is left of it.
    ///
    /// # Errors
    /// The first line that is no row, after the rows before the line. The file ends there: the
    /// caller asks no more.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, LineError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        while !self.batch.is_full() {
            match self.next_row() {
                Ok(Some((key, value))) => self.batch.add(key, value),
                Ok(None) if self.is_ended => break,
                Ok(None) => return Ok(None),
                Err(error) if self.batch.rows == 0 => return Err(error),
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        Ok(Some(take(&mut self.batch)).filter(|batch| batch.rows > 0))
    }

    fn next_row(&mut self) -> Result<Option<(Bytes, Bytes)>, LineError> {
        let Some(text) = self.next_line()? else { return Ok(None) };
        let tab = text.iter().position(|byte| *byte == b'\t');
        let tab = tab.ok_or_else(|| self.wrong(LineFault::NoTab))?;
        let (key, value) = text.split_at(tab);
        let value = value.strip_prefix(b"\t").unwrap_or(value);
        let (key, value) = (self.decode(key)?, self.decode(value)?);
        if key.is_empty() {
            return Err(self.wrong(LineFault::EmptyKey));
        }
        self.check("key bytes", KEY_BYTES_MAX, key.len())?;
        self.check("value bytes", VALUE_BYTES_MAX, value.len())?;
        Ok(Some((key, value)))
    }

    /// The next line without its newline; None if no whole line was pushed.
    fn next_line(&mut self) -> Result<Option<Bytes>, LineError> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(found) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return self.unfinished_line();
        };
        let line = self.buffer.split_to(self.searched + found).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        self.line += 1;
        self.check("line bytes", LINE_BYTES_MAX, line.len())?;
        Ok(Some(line))
    }

    /// What stands behind the last newline.
    fn unfinished_line(&mut self) -> Result<Option<Bytes>, LineError> {
        let is_long = self.buffer.len() > LINE_BYTES_MAX;
        if self.buffer.is_empty() || !(is_long || self.is_ended) {
            return Ok(None);
        }
        let rest = self.buffer.split().freeze();
        self.searched = 0;
        self.line += 1;
        self.check("line bytes", LINE_BYTES_MAX, rest.len())?;
        if !self.dialect.is_partial_ok {
            return Err(self.wrong(LineFault::Unfinished));
        }
        Ok(Some(rest))
    }

    /// Copied, so that a row does not keep the piece that the row came in.
    fn decode(&self, text: &[u8]) -> Result<Bytes, LineError> {
        if !self.dialect.is_hex {
            return Ok(Bytes::copy_from_slice(text));
        }
        hex::decode(text).map(Bytes::from).map_err(|error| self.wrong(LineFault::NotHex(error)))
    }

    fn check(&self, limit: &'static str, max: usize, actual: usize) -> Result<(), LineError> {
        if actual <= max { Ok(()) } else { Err(self.wrong(LineFault::OverLimit { limit, max })) }
    }

    fn wrong(&self, fault: LineFault) -> LineError {
        LineError { line: self.line, fault }
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
        self.pairs.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: Dialect = Dialect { is_hex: false, is_partial_ok: false };
    const PARTIAL: Dialect = Dialect { is_hex: false, is_partial_ok: true };
    const HEX: Dialect = Dialect { is_hex: true, is_partial_ok: false };

    /// The batches of a text that comes in pieces of so many bytes, and the error that ends it.
    fn read(text: &[u8], piece: usize, dialect: Dialect) -> (Vec<Batch>, Option<LineError>) {
        let mut lines = Lines::new(dialect);
        let mut batches = vec![];
        let mut pieces = text.chunks(piece);
        loop {
            match lines.next_batch() {
                Ok(Some(batch)) => batches.push(batch),
                Ok(None) if lines.is_ended => return (batches, None),
                Ok(None) => match pieces.next() {
                    Some(piece) => lines.push(piece),
                    None => lines.end(),
                },
                Err(error) => return (batches, Some(error)),
            }
        }
    }

    fn pairs(batches: &[Batch]) -> Vec<(&[u8], &[u8])> {
        let pairs = batches.iter().flat_map(|batch| &batch.pairs);
        pairs.map(|(key, value)| (&key[..], &value[..])).collect()
    }

    fn says(error: Option<LineError>) -> String {
        error.expect("an error").to_string()
    }

    #[test]
    fn the_value_is_all_after_the_first_tab_whatever_the_pieces() {
        let text = b"a\t1\t2 \nb\t\na\t3\r\nlast\tline";
        let expected: [(&[u8], &[u8]); 3] = [(b"a", b"3\r"), (b"b", b""), (b"last", b"line")];
        for piece in 1..=text.len() {
            let (batches, error) = read(text, piece, PARTIAL);
            assert_eq!((pairs(&batches), error), (expected.to_vec(), None), "pieces of {piece}");
            assert_eq!(batches.iter().map(|batch| batch.rows).sum::<u64>(), 4);
            assert_eq!(batches.iter().map(|batch| batch.bytes).sum::<u64>(), 17);
        }
        assert_eq!(read(b"", 1, RAW), (vec![], None));
    }

    #[test]
    fn a_line_that_is_no_row_comes_after_the_rows_before_it() {
        for (bad, what) in
            [("none", "has no tab"), ("", "has no tab"), ("\tvalue", "has an empty key")]
        {
            let text = format!("a\t1\nb\t2\n{bad}\nc\t3\n");
            let (batches, error) = read(text.as_bytes(), 5, RAW);
            assert_eq!(pairs(&batches).len(), 2);
            assert!(says(error).starts_with(&format!("line 3 {what}")));
        }
    }

    #[test]
    fn a_last_line_that_may_be_cut_off_is_taken_on_request_only() {
        let (batches, error) = read(b"a\t1\nb\t2", 3, RAW);
        assert_eq!(pairs(&batches), [(&b"a"[..], &b"1"[..])]);
        assert!(says(error).starts_with("line 2, the last, has no newline"));
        let (batches, error) = read(b"a\t1\nb\t2", 3, PARTIAL);
        assert_eq!((pairs(&batches).len(), error), (2, None));
    }

    #[test]
    fn rows_over_a_limit_name_line_and_limit() {
        let long = vec![b'x'; LINE_BYTES_MAX + 2];
        assert!(says(read(&long, 1 << 20, RAW).1).starts_with("line 1 is over the limit of"));
        let long_key = [&b"a\t1\n"[..], &[b'k'; KEY_BYTES_MAX + 1], b"\tv\n"].concat();
        let error = says(read(&long_key, 1 << 20, RAW).1);
        assert!(error.contains("line 2") && error.contains("key bytes"), "{error}");
        let value = vec![b'f'; 2 * VALUE_BYTES_MAX];
        let largest = [&b"6b\t"[..], &value[..], b"\n"].concat();
        assert_eq!(pairs(&read(&largest, 1 << 20, HEX).0).len(), 1);
    }

    #[test]
    fn batches_are_closed_by_rows_and_by_bytes() {
        let many: String = (0..BATCH_ROWS + 1).map(|row| format!("{row}\tv\n")).collect();
        let (batches, _) = read(many.as_bytes(), 1000, RAW);
        assert_eq!(batches.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [512, 1]);
        let big = format!("a\t{0}\nb\t{0}\n", "x".repeat(BATCH_BYTES));
        assert_eq!(read(big.as_bytes(), 1 << 20, RAW).0.len(), 2);
    }

    #[test]
    fn hex_rows_hold_any_bytes() {
        let (batches, error) = read(b"6b0a\t09\nzz\t00\n", 3, HEX);
        assert_eq!(pairs(&batches), [(&b"k\n"[..], &b"\t"[..])]);
        assert!(says(error).starts_with("line 2 is not hex"));
    }
}
