//! Rows of snapshots that are being received: from the wire into a staged file, and out of it.
//!
//! ```text
//!   receive    checks each chunk's checksum and keys, writes rows to a file, checks the end's
//!              checksum, syncs
//!   file       repeated: key length (u32), value length (u32), key, value; little-endian
//! ```
//!
//! Invariants: a staged file that [`Receiving::end`] has answered is whole and durable, and its
//! keys ascend within the range that the snapshot is of. So an install neither touches what is
//! outside that range nor meets a key twice, whatever the sender does. A file whose snapshot breaks
//! off, or whose receiver is gone, is deleted with the value that stands for it.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flotilla_engine::EngineError;
use flotilla_types::KeyRange;
use flotilla_types::proto::{Pair, SnapshotEnd, SnapshotRows};

use crate::core::message::StagedId;

/// The checksum of a chunk: over each key and value, lengths included.
pub(super) fn rows_crc(pairs: &[Pair]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for pair in pairs {
        for part in [&pair.key, &pair.value] {
            crc.update(&(part.len() as u64).to_le_bytes());
            crc.update(part);
        }
    }
    crc.finalize()
}

/// Received snapshots on disk.
pub struct Staging {
    dir: PathBuf,
    next: AtomicU64,
}

impl Staging {
    /// Keeps files in `dir`, which exists and is empty.
    pub fn new(dir: PathBuf) -> Staging {
        Staging { dir, next: AtomicU64::new(1) }
    }

    /// A new file for a snapshot that begins to arrive, with rows in `range`.
    pub fn receive(&self, range: KeyRange) -> Result<Receiving, EngineError> {
        let staged = StagedId(self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.path(staged);
        let file = File::create(&path).map_err(|e| io(&path, &e))?;
        Ok(Receiving {
            staged: StagedFile { staged, path, is_kept: false },
            file: BufWriter::new(file),
            range,
            last_key: None,
            rows: 0,
            crcs: crc32fast::Hasher::new(),
        })
    }

    /// The rows of a staged snapshot, in order.
    pub fn rows(&self, staged: StagedId) -> Result<StagedRows, EngineError> {
        let path = self.path(staged);
        let file = File::open(&path).map_err(|e| io(&path, &e))?;
        let left = file.metadata().map_err(|e| io(&path, &e))?.len();
        Ok(StagedRows { path, file: BufReader::new(file), left })
    }

    /// Deletes a staged snapshot.
    pub fn discard(&self, staged: StagedId) -> Result<(), EngineError> {
        let path = self.path(staged);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(&path, &e)),
            _ => Ok(()),
        }
    }

    fn path(&self, staged: StagedId) -> PathBuf {
        self.dir.join(format!("{}.rows", staged.0))
    }
}

/// A file of rows that is deleted when this is dropped, unless it is [kept](StagedFile::keep).
pub struct StagedFile {
    staged: StagedId,
    path: PathBuf,
    is_kept: bool,
}

impl StagedFile {
    /// The name under which the core finds the file, which is its from now on.
    pub fn keep(mut self) -> StagedId {
        self.is_kept = true;
        self.staged
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be deleted is deleted at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A snapshot that is being received.
pub struct Receiving {
    staged: StagedFile,
    file: BufWriter<File>,
    range: KeyRange,
    last_key: Option<Bytes>,
    rows: u64,
    crcs: crc32fast::Hasher,
}

/// Why a part of a snapshot was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// It was damaged on the way.
    #[error("the checksum of {what} does not fit")]
    Checksum {
        /// Which part.
        what: &'static str,
    },
    /// A row does not belong where the sender put it.
    #[error("row {row} is {what}")]
    Row {
        /// Which, counted from 0.
        row: u64,
        /// What is wrong with its key.
        what: &'static str,
    },
    /// The disk failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Receiving {
    /// Writes a chunk down.
    pub fn rows(&mut self, chunk: &SnapshotRows) -> Result<(), ReceiveError> {
        if rows_crc(&chunk.pairs) != chunk.crc32 {
            return Err(ReceiveError::Checksum { what: "a chunk" });
        }
        self.crcs.update(&chunk.crc32.to_le_bytes());
        for pair in &chunk.pairs {
            self.check_key(&pair.key)?;
            self.write_row(pair).map_err(|e| io(&self.staged.path, &e))?;
            self.rows += 1;
        }
        Ok(())
    }

    fn check_key(&mut self, key: &Bytes) -> Result<(), ReceiveError> {
        let row = self.rows;
        if !self.range.contains(key) {
            return Err(ReceiveError::Row { row, what: "outside the snapshot's range" });
        }
        if self.last_key.as_ref().is_some_and(|last| last >= key) {
            return Err(ReceiveError::Row { row, what: "out of order" });
        }
        self.last_key = Some(key.clone());
        Ok(())
    }

    fn write_row(&mut self, pair: &Pair) -> std::io::Result<()> {
        for length in [pair.key.len(), pair.value.len()] {
            let length = u32::try_from(length).map_err(std::io::Error::other)?;
            self.file.write_all(&length.to_le_bytes())?;
        }
        self.file.write_all(&pair.key)?;
        self.file.write_all(&pair.value)
    }

    /// The rows are whole.
    pub fn end(mut self, end: &SnapshotEnd) -> Result<StagedFile, ReceiveError> {
        if end.rows != self.rows || end.crc32 != self.crcs.clone().finalize() {
            return Err(ReceiveError::Checksum { what: "the whole" });
        }
        let flushed = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        flushed.map_err(|e| io(&self.staged.path, &e))?;
        Ok(self.staged)
    }
}

/// Reads a staged file.
pub struct StagedRows {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
}

impl StagedRows {
    /// The next row; None at the end.
    pub fn next_row(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.row().map(Some).map_err(|e| io(&self.path, &e))
    }

    fn row(&mut self) -> std::io::Result<(Bytes, Bytes)> {
        let mut lengths = [0; 8];
        self.file.read_exact(&mut lengths)?;
        let length = |at: usize| {
            let bytes = [lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]];
            u64::from(u32::from_le_bytes(bytes))
        };
        let (key_bytes, value_bytes) = (length(0), length(4));
        let row_bytes = 8 + key_bytes + value_bytes;
        if row_bytes > self.left {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= row_bytes;
        let mut key = vec![0; key_bytes as usize];
        self.file.read_exact(&mut key)?;
        let mut value = vec![0; value_bytes as usize];
        self.file.read_exact(&mut value)?;
        Ok((key.into(), value.into()))
    }
}

fn io(path: &std::path::Path, error: &std::io::Error) -> EngineError {
    EngineError::Io { file: path.to_path_buf(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(rows: &[(&'static str, &'static str)]) -> SnapshotRows {
        let pairs: Vec<Pair> =
            rows.iter().map(|(k, v)| Pair { key: (*k).into(), value: (*v).into() }).collect();
        let crc32 = rows_crc(&pairs);
        SnapshotRows { pairs, crc32 }
    }

    fn end_of(chunks: &[SnapshotRows]) -> SnapshotEnd {
        let mut crcs = crc32fast::Hasher::new();
        chunks.iter().for_each(|chunk| crcs.update(&chunk.crc32.to_le_bytes()));
        let rows = chunks.iter().map(|chunk| chunk.pairs.len() as u64).sum();
        SnapshotEnd { rows, crc32: crcs.finalize() }
    }

    #[test]
    fn rows_come_back_as_they_were_received() {
        let dir = tempfile::tempdir().expect("a directory");
        let staging = Staging::new(dir.path().to_path_buf());
        let chunks = [chunk(&[("a", "1"), ("b", "")]), chunk(&[("c", "3")])];
        let mut receiving = staging.receive(KeyRange::all()).expect("a file");
        for chunk in &chunks {
            receiving.rows(chunk).expect("whole");
        }
        let staged = receiving.end(&end_of(&chunks)).expect("whole").keep();
        let mut rows = staging.rows(staged).expect("there");
        let mut read = vec![];
        while let Some((key, value)) = rows.next_row().expect("readable") {
            read.push((key, value));
        }
        assert_eq!(read.len(), 3);
        assert_eq!(read[1], (Bytes::from("b"), Bytes::new()));
        staging.discard(staged).expect("deletable");
        assert!(staging.rows(staged).is_err());
    }

    #[test]
    fn a_snapshot_whose_receiver_is_gone_leaves_no_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let staging = Staging::new(dir.path().to_path_buf());
        let files = || fs::read_dir(dir.path()).expect("a directory").count();
        let chunks = [chunk(&[("a", "1")])];
        let mut broken_off = staging.receive(KeyRange::all()).expect("a file");
        broken_off.rows(&chunks[0]).expect("whole");
        assert_eq!(files(), 1);
        drop(broken_off);
        assert_eq!(files(), 0);
        let mut whole = staging.receive(KeyRange::all()).expect("a file");
        whole.rows(&chunks[0]).expect("whole");
        let nobody_waits = whole.end(&end_of(&chunks)).expect("whole");
        assert_eq!(files(), 1);
        drop(nobody_waits);
        assert_eq!(files(), 0);
    }

    #[test]
    fn damage_on_the_way_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let staging = Staging::new(dir.path().to_path_buf());
        let mut bad = chunk(&[("a", "1")]);
        bad.pairs[0].value = "2".into();
        let mut receiving = staging.receive(KeyRange::all()).expect("a file");
        assert!(receiving.rows(&bad).is_err());
        let good = chunk(&[("a", "1")]);
        receiving.rows(&good).expect("whole");
        let lost = end_of(&[good, chunk(&[("b", "2")])]);
        assert!(receiving.end(&lost).is_err());
    }

    #[test]
    fn rows_ascend_within_the_range_that_the_snapshot_is_of() {
        let dir = tempfile::tempdir().expect("a directory");
        let staging = Staging::new(dir.path().to_path_buf());
        let refusal = |rows: &[&[(&'static str, &'static str)]]| {
            let mut receiving = staging.receive(KeyRange::new("b", "d")).expect("a file");
            rows.iter().find_map(|rows| receiving.rows(&chunk(rows)).err())
        };
        let row = |row, what| Some(ReceiveError::Row { row, what });
        let (outside, disorder) = ("outside the snapshot's range", "out of order");
        assert_eq!(refusal(&[&[("b", "1"), ("c", "2")], &[("cc", "3")]]), None);
        assert_eq!(refusal(&[&[("a", "1")]]), row(0, outside), "before the range");
        assert_eq!(refusal(&[&[("c", "1"), ("d", "2")]]), row(1, outside), "after the range");
        assert_eq!(refusal(&[&[("c", "1")], &[("c", "2")]]), row(1, disorder), "one key twice");
        assert_eq!(refusal(&[&[("c", "1")], &[("b", "2")]]), row(1, disorder), "a key behind");
    }
}
