//! Tables, JSON and rows on stdout.
//!
//! Rows as text are the raw bytes, so that a pipe gets what was stored. JSON has no bytes: a key or
//! value that is UTF-8 is a string under its own name (`key`, `value`); one that is not is a hex
//! string under `key_hex`, `value_hex`. With `--hex` everything is hex under its own name.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use indicatif::{HumanBytes, ProgressBar};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::Format;
use crate::failure::{Failure, Tried};
use crate::terminal::progress_bar;

/// Bytes of rows gathered before they are written.
const ROW_BUFFER_BYTES: usize = 64 * 1024;

/// Rows between two updates of a progress bar.
const PROGRESS_ROWS: u64 = 1_000;

/// Prints one JSON value, with a newline.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other);
    let text = text.tried("write JSON")?;
    line(&text)
}

/// Prints one line.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).tried("write to stdout")
}

/// Prints bytes as they are (or as hex), with a newline.
pub fn bytes(bytes: &[u8], hex: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    write_bytes(&mut out, bytes, hex)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .tried("write to stdout")
}

/// Prints bytes as they are (or as hex), and nothing after them.
pub fn raw_bytes(bytes: &[u8], hex: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    write_bytes(&mut out, bytes, hex).and_then(|()| out.flush()).tried("write to stdout")
}

/// Prints a table: columns as wide as their longest cell, two spaces between them.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout());
    write_table(&mut out, header, rows).and_then(|()| out.flush()).tried("write to stdout")
}

fn write_table(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let header: Vec<String> = header.iter().map(|name| name.to_uppercase()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.chain(header.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    for row in std::iter::once(&header).chain(rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Prints one JSON object per command, else `text` where there is any.
pub fn result(format: Format, value: &Value, text: &str) -> Result<(), Failure> {
    match format {
        Format::Json => json(value),
        Format::Table if text.is_empty() => Ok(()),
        Format::Table => line(text),
    }
}

/// Puts `bytes` into a JSON object under `name`, or under `name` with `_hex` (see the header).
pub fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8], hex: bool) {
    match std::str::from_utf8(bytes) {
        _ if hex => object.insert(name.into(), hex::encode(bytes).into()),
        Ok(text) => object.insert(name.into(), text.into()),
        Err(_) => object.insert(format!("{name}_hex"), hex::encode(bytes).into()),
    };
}

/// How many rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowStyle {
    /// `key<TAB>value`, one on a line
    Tsv,
    /// One JSON array of `{key, value}`
    JsonArray,
    /// One JSON object `{key, value}` on each line
    JsonLines,
}

/// Prints rows as they come, without holding more than a buffer of them.
pub struct RowWriter<W: Write = Stdout> {
    out: BufWriter<W>,
    style: RowStyle,
    hex: bool,
    rows: u64,
    bytes: u64,
    unloadable: u64,
    progress: Option<ProgressBar>,
}

impl RowWriter<Stdout> {
    /// Rows on stdout.
    pub fn stdout(style: RowStyle, hex: bool) -> RowWriter<Stdout> {
        RowWriter::new(io::stdout(), style, hex)
    }

    /// Shows on a terminal how many rows were written, unless the rows go there themselves.
    pub fn with_progress(mut self) -> RowWriter<Stdout> {
        self.progress = (!io::stdout().is_terminal()).then(|| progress_bar(None));
        self
    }
}

impl<W: Write> RowWriter<W> {
    fn new(out: W, style: RowStyle, hex: bool) -> RowWriter<W> {
        let out = BufWriter::with_capacity(ROW_BUFFER_BYTES, out);
        RowWriter { out, style, hex, rows: 0, bytes: 0, unloadable: 0, progress: None }
    }

    /// Prints one row.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.write_row(key, value).tried("write to stdout")?;
        self.bytes += (key.len() + value.len()) as u64;
        if let Some(bar) =
            self.progress.as_ref().filter(|_| self.rows.is_multiple_of(PROGRESS_ROWS))
        {
            bar.set_message(format!("{} rows, {}", self.rows, HumanBytes(self.bytes)));
            bar.tick();
        }
        Ok(())
    }

    /// Prints what closes the rows, and returns how many of them a TSV file cannot hold: those
    /// with a tab in the key or a newline anywhere.
    pub fn finish(mut self) -> Result<u64, Failure> {
        let end: &[u8] = match (self.style, self.rows) {
            (RowStyle::Tsv | RowStyle::JsonLines, _) => b"",
            (RowStyle::JsonArray, 0) => b"[]\n",
            (RowStyle::JsonArray, _) => b"\n]\n",
        };
        self.out.write_all(end).and_then(|()| self.out.flush()).tried("write to stdout")?;
        if let Some(bar) = &self.progress {
            bar.finish_and_clear();
        }
        Ok(self.unloadable)
    }

    fn write_row(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match self.style {
            RowStyle::Tsv => self.write_tsv(key, value)?,
            RowStyle::JsonArray => {
                let before: &[u8] = if self.rows == 0 { b"[\n  " } else { b",\n  " };
                self.out.write_all(before)?;
                self.write_object(key, value)?;
            }
            RowStyle::JsonLines => {
                self.write_object(key, value)?;
                self.out.write_all(b"\n")?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn write_tsv(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let breaks = key.iter().any(|byte| matches!(byte, b'\t' | b'\n')) || value.contains(&b'\n');
        self.unloadable += u64::from(breaks && !self.hex);
        write_bytes(&mut self.out, key, self.hex)?;
        self.out.write_all(b"\t")?;
        write_bytes(&mut self.out, value, self.hex)?;
        self.out.write_all(b"\n")
    }

    fn write_object(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut object = Map::new();
        insert_bytes(&mut object, "key", key, self.hex);
        insert_bytes(&mut object, "value", value, self.hex);
        serde_json::to_writer(&mut self.out, &object).map_err(io::Error::from)
    }
}

fn write_bytes(out: &mut impl Write, bytes: &[u8], hex: bool) -> io::Result<()> {
    if hex { out.write_all(hex::encode(bytes).as_bytes()) } else { out.write_all(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(style: RowStyle, hex: bool, rows: &[(&[u8], &[u8])]) -> (String, u64) {
        let mut printed = Vec::new();
        let mut writer = RowWriter::new(&mut printed, style, hex);
        for (key, value) in rows {
            writer.row(key, value).expect("a vector takes all");
        }
        let unloadable = writer.finish().expect("a vector takes all");
        (String::from_utf8_lossy(&printed).into_owned(), unloadable)
    }

    #[test]
    fn rows_are_raw_hex_or_json() {
        let two: [(&[u8], &[u8]); 2] = [(b"a", b"1"), (b"b", b"2")];
        assert_eq!(rows(RowStyle::Tsv, false, &two), ("a\t1\nb\t2\n".into(), 0));
        assert_eq!(rows(RowStyle::Tsv, true, &two), ("61\t31\n62\t32\n".into(), 0));
        let (array, _) = rows(RowStyle::JsonArray, false, &two);
        let array: Value = serde_json::from_str(&array).expect("JSON");
        assert_eq!(array[1]["value"], "2");
        assert_eq!(rows(RowStyle::JsonArray, false, &[]).0, "[]\n");
    }

    #[test]
    fn rows_that_a_file_cannot_hold_are_counted() {
        let odd: [(&[u8], &[u8]); 3] = [(b"a\tb", b""), (b"c", b"1\n2"), (b"d", b"1\t2")];
        assert_eq!(rows(RowStyle::Tsv, false, &odd).1, 2);
        assert_eq!(rows(RowStyle::Tsv, true, &odd).1, 0);
    }

    #[test]
    fn json_names_what_is_not_text() {
        let (line, _) = rows(RowStyle::JsonLines, false, &[(b"k", b"\xff")]);
        assert_eq!(line, "{\"key\":\"k\",\"value_hex\":\"ff\"}\n");
        let (line, _) = rows(RowStyle::JsonLines, true, &[(b"k", b"\xff")]);
        assert_eq!(line, "{\"key\":\"6b\",\"value\":\"ff\"}\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let mut out = Vec::new();
        let rows = [vec!["1".to_string(), "x".into()], vec!["1234".into(), "y".into()]];
        write_table(&mut out, &["id", "addr"], &rows).expect("a vector takes all");
        assert_eq!(String::from_utf8_lossy(&out), "ID    ADDR\n1     x\n1234  y\n");
    }
}
