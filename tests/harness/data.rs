//! The real rows that the tests load: `tests/data/unicode.tsv`, see the README beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::binary;

/// The file's path.
pub fn path() -> PathBuf {
    binary::workspace().join("tests/data/unicode.tsv")
}

/// The file's bytes: 34,925 rows.
pub fn bytes() -> Vec<u8> {
    fs::read(path()).expect("tests/data/unicode.tsv is committed")
}

/// What `kv dump` must print after `tsv` was loaded: its rows in byte order of the keys, each key
/// once, with the value of its last row.
pub fn sorted(tsv: &[u8]) -> Vec<u8> {
    let mut rows = BTreeMap::new();
    for line in tsv.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let tab = line.iter().position(|byte| *byte == b'\t').expect("a row has a tab");
        rows.insert(&line[..tab], &line[tab + 1..]);
    }
    let mut out = Vec::with_capacity(tsv.len());
    for (key, value) in rows {
        out.extend_from_slice(key);
        out.push(b'\t');
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

/// Fails with the first row that differs unless `dump` equals `expected`.
pub fn assert_same(dump: &[u8], expected: &[u8]) {
    if dump == expected {
        return;
    }
    let rows = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    let lines = dump.split(|b| *b == b'\n').zip(expected.split(|b| *b == b'\n'));
    let first = lines.enumerate().find(|(_, (got, want))| got != want);
    let first = first.map(|(row, (got, want))| {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        format!("row {}: dumped {:?}, loaded {:?}", row + 1, text(got), text(want))
    });
    panic!(
        "the dump ({} rows) differs from what was loaded ({} rows); {}",
        rows(dump),
        rows(expected),
        first.unwrap_or_else(|| "one is a prefix of the other".into())
    );
}
