//! What stands in a file that is loaded: batches of its rows, and what is odd about its beginning.
//! Knows no cluster.

use std::fmt;
use std::io::{self, BufRead};

use flotilla_types::tsv::{Batch, Dialect, LineError, LineFault, Lines};

/// How each file of gzip begins (RFC 1952).
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// Why the input cannot be read on.
#[derive(Debug)]
pub enum InputError {
    /// A line is no row.
    Line(LineError),
    /// The input begins as gzip's files do.
    Compressed,
    /// The input could not be read.
    Unreadable {
        /// The line behind those that were read, counted from 1.
        line: u64,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputError::Line(error) if error.fault == LineFault::Unfinished => {
                write!(f, "{error}; --partial-ok takes the line as it is")
            }
            InputError::Line(error) => error.fmt(f),
            InputError::Compressed => {
                write!(f, "the input is compressed; load it by: gzip -dc FILE | flotilla kv load -")
            }
            InputError::Unreadable { line, error } => {
                write!(f, "line {line} could not be read: {error}")
            }
        }
    }
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
    lines: Lines,
}

impl<R: BufRead> Batches<R> {
    /// Rows of `reader`.
    pub fn new(reader: R, dialect: Dialect) -> Batches<R> {
        Batches { reader, lines: Lines::new(dialect) }
    }

    /// Looks at the beginning of the input, before the first batch. What is odd is found within
    /// the reader's first buffer.
    pub fn inspect(&mut self) -> Result<Vec<Oddity>, InputError> {
        let unreadable = |error| InputError::Unreadable { line: 1, error };
        let start = self.reader.fill_buf().map_err(unreadable)?;
        if start.starts_with(GZIP_MAGIC) {
            return Err(InputError::Compressed);
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
    pub fn next_batch(&mut self) -> Result<Option<Batch>, InputError> {
        let mut is_ended = false;
        loop {
            let batch = self.lines.next_batch().map_err(InputError::Line)?;
            if batch.is_some() || is_ended {
                return Ok(batch);
            }
            is_ended = self.read_on()?;
        }
    }

    /// Reads the next piece of the input; true at its end.
    fn read_on(&mut self) -> Result<bool, InputError> {
        let line = self.lines.count() + 1;
        let piece = match self.reader.fill_buf() {
            Ok(piece) => piece,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(InputError::Unreadable { line, error }),
        };
        let count = piece.len();
        if count == 0 {
            self.lines.end();
        }
        self.lines.push(piece);
        self.reader.consume(count);
        Ok(count == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(is_partial_ok: bool) -> Dialect {
        Dialect { is_hex: false, is_partial_ok }
    }

    fn batches(text: &[u8], is_partial_ok: bool) -> (Vec<Batch>, Option<InputError>) {
        // A buffer that is shorter than a row.
        let reader = io::BufReader::with_capacity(2, text);
        let mut rows = Batches::new(reader, dialect(is_partial_ok));
        let mut batches = Vec::new();
        loop {
            match rows.next_batch() {
                Ok(Some(batch)) => batches.push(batch),
                Ok(None) => return (batches, None),
                Err(error) => return (batches, Some(error)),
            }
        }
    }

    #[test]
    fn a_reader_is_read_to_its_end_or_first_bad_line() {
        for (text, rows, says) in [
            ("", 0, ""),
            ("a\t1\nb\t2\n", 2, ""),
            ("a\t1\nb\t2\nnone\nc\t3\n", 2, "line 3 has no tab"),
            ("a\t1\nb\t2", 1, "line 2, the last, has no newline"),
        ] {
            let (read, error) = batches(text.as_bytes(), false);
            assert_eq!(read.iter().map(|batch| batch.rows).sum::<u64>(), rows, "{text:?}");
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with(says) && error.is_empty() == says.is_empty(), "{error}");
        }
        assert_eq!(batches(b"a\t1\nb\t2", true).0[0].rows, 2);
    }

    #[test]
    fn the_beginning_is_looked_at_before_anything_is_stored() {
        let inspect = |text: &[u8]| Batches::new(text, dialect(false)).inspect();
        assert!(matches!(inspect(b"\x1f\x8b\x08rest"), Err(InputError::Compressed)));
        let both = [Oddity::ByteOrderMark, Oddity::CarriageReturn];
        assert_eq!(inspect(b"\xef\xbb\xbfa\t1\r\nb\t2\r\n").expect("rows"), both);
        assert_eq!(inspect(b"a\t1\nb\t2\r\n").expect("rows"), []);
        assert_eq!(inspect(b"").expect("nothing"), []);
    }
}
