//! Damaged, truncated and missing files: refused with the file's name where something is lost,
//! repaired where only a torn write is cut off, and never a panic.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flotilla_engine::{
    DiskLog, DiskOptions, EngineError, LogBatch, LogEntry, LogOp, LogOptions, LogStore, RunOptions,
    StateBatch, StateStore,
};
use flotilla_types::dice::Dice;

/// Checkpoints of more than [`ROWS`] become runs.
const OPTIONS: DiskOptions = DiskOptions {
    cache_bytes: 1024 * 1024,
    runs: RunOptions { rows_min: ROWS + 1, leaves_min: 0, leaves_max: usize::MAX, kept: 1 },
};

const ROWS: usize = 250;

/// A state file with a few hundred rows in the main table and in a run, closed cleanly.
fn state_file(directory: &Path) -> PathBuf {
    let path = directory.join("state.redb");
    let store = StateStore::open_disk(&path, OPTIONS).expect("create");
    for rows in [0..ROWS, ROWS - 1..2 * ROWS] {
        let mut batch = StateBatch::default();
        for row in rows {
            batch.put(format!("key {row:05}"), vec![b'v'; 100]);
        }
        store.write(batch).expect("write");
        assert!(store.freeze());
        store.flush().expect("flush");
    }
    path
}

/// Opening answers, and an answer other than success is damage of this file.
fn open_damaged(path: &Path) -> bool {
    match StateStore::open_disk(path, OPTIONS) {
        Ok(_) => true,
        Err(EngineError::Corrupt { file, reason }) => {
            assert_eq!(file, path);
            assert!(!reason.is_empty());
            false
        }
        Err(other) => panic!("not reported as damage: {other:?}"),
    }
}

fn flip(path: &Path, offset: u64) {
    let mut file = fs::File::options().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).expect("seek");
    file.read_exact(&mut byte).expect("read");
    file.seek(SeekFrom::Start(offset)).expect("seek");
    file.write_all(&[byte[0] ^ 0xff]).expect("write");
}

#[test]
fn an_empty_state_file_is_damage_and_a_missing_one_is_created() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("state.redb");
    // What a crash during creation leaves is no obstacle.
    fs::write(directory.path().join("state.redb.new"), b"half a header").expect("write");
    drop(StateStore::open_disk(&path, OPTIONS).expect("create"));
    assert!(!directory.path().join("state.redb.new").exists());
    drop(StateStore::open_disk(&path, OPTIONS).expect("open again"));
    fs::write(&path, b"").expect("empty it");
    assert!(!open_damaged(&path));
    assert_eq!(fs::metadata(&path).expect("still there").len(), 0);
}

#[test]
fn truncated_state_files_and_garbage_are_refused() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = state_file(directory.path());
    let whole = fs::read(&path).expect("read");
    for length in [1, 9, 63, 64, 320, 4095, 4096, 5000, 8192, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..length]).expect("write");
        assert!(!open_damaged(&path), "cut to {length} of {}", whole.len());
    }
    let mut dice = Dice::new(3);
    for length in [1, 100, 4096, 100_000] {
        let garbage: Vec<u8> = (0..length).map(|_| dice.below(256) as u8).collect();
        fs::write(&path, garbage).expect("write");
        assert!(!open_damaged(&path), "garbage of {length}");
    }
    fs::write(&path, vec![0; whole.len()]).expect("write");
    assert!(!open_damaged(&path), "zeros");
    fs::write(&path, whole).expect("write");
    assert!(open_damaged(&path), "whole again");
}

#[test]
fn no_flipped_byte_in_the_header_makes_opening_panic() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = state_file(directory.path());
    let whole = fs::read(&path).expect("read");
    let mut refused = 0;
    for offset in (0..320).chain((4096..whole.len() as u64).step_by(4099)) {
        fs::write(&path, &whole).expect("write");
        flip(&path, offset);
        refused += u64::from(!open_damaged(&path));
    }
    assert!(refused > 20, "only {refused} noticed");
}

#[test]
fn a_second_opening_of_a_state_file_is_refused_and_not_called_damage() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = state_file(directory.path());
    let _first = StateStore::open_disk(&path, OPTIONS).expect("open");
    let second = StateStore::open_disk(&path, OPTIONS).err();
    assert!(matches!(second, Some(EngineError::Io { .. })), "{second:?}");
}

/// Entries 1 to 100 of group 1 over several files; their paths, oldest first.
fn log_files(directory: &Path) -> Vec<PathBuf> {
    let log = open_log(directory).expect("open");
    for index in 1..=100 {
        let entry =
            LogEntry { index, term: 1, data: vec![b'd'; 100].into(), ..LogEntry::default() };
        let ops = vec![LogOp::Append { group: 1, entries: vec![entry] }];
        log.write(LogBatch { ops }, true).expect("write");
    }
    drop(log);
    let files = fs::read_dir(directory).expect("list").map(|file| file.expect("file").path());
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|suffix| suffix == "raftlog")).collect();
    files.sort();
    assert!(files.len() > 3, "{} files", files.len());
    files
}

fn open_log(directory: &Path) -> Result<DiskLog, EngineError> {
    DiskLog::open(directory, LogOptions { file_bytes: 4096, purge_bytes: 1024 * 1024 })
}

fn last_index(directory: &Path) -> u64 {
    let log = open_log(directory).expect("open");
    let last = log.bounds(1).expect("entries").last;
    assert_eq!(log.entries(1, 1, last + 1, usize::MAX).expect("entries").len(), last as usize);
    last
}

fn assert_refused(directory: &Path, what: &str) {
    match open_log(directory).map(|_| ()) {
        Err(EngineError::Corrupt { file, .. }) => assert!(file.starts_with(directory), "{what}"),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_torn_tail_of_the_log_is_cut_off() {
    let tear = |damage: &dyn Fn(&Path)| {
        let directory = tempfile::tempdir().expect("tempdir");
        damage(log_files(directory.path()).last().expect("files"));
        // Twice, for the first opening repairs.
        (last_index(directory.path()), last_index(directory.path()))
    };
    let garbage = tear(&|newest| {
        let mut file = fs::File::options().append(true).open(newest).expect("open");
        file.write_all(b"garbage that a crash left behind").expect("write");
    });
    assert_eq!(garbage, (100, 100));
    let cut = tear(&|newest| {
        let length = fs::metadata(newest).expect("length").len();
        fs::File::options()
            .write(true)
            .open(newest)
            .expect("open")
            .set_len(length - 7)
            .expect("cut");
    });
    assert_eq!(cut, (99, 99), "the torn batch is gone, the rest is there");
    let (emptied, again) = tear(&|newest| fs::write(newest, b"").expect("empty it"));
    assert!((40..99).contains(&emptied) && emptied == again, "{emptied}, {again}");
}

#[test]
fn damage_in_an_older_log_file_is_refused() {
    for damage in ["cut", "emptied", "missing", "header", "last batch"] {
        let directory = tempfile::tempdir().expect("tempdir");
        let older = log_files(directory.path())[1].clone();
        let length = fs::metadata(&older).expect("length").len();
        match damage {
            "cut" => {
                let file = fs::File::options().write(true).open(&older).expect("open");
                file.set_len(length - 5).expect("cut");
            }
            "emptied" => fs::write(&older, b"").expect("empty it"),
            "missing" => fs::remove_file(&older).expect("remove"),
            "header" => flip(&older, 3),
            // Within the entry of the last batch, in front of its index block.
            _ => flip(&older, length - 60),
        }
        assert_refused(directory.path(), damage);
    }
}

#[test]
fn a_damaged_entry_is_reported_when_it_is_read() {
    let directory = tempfile::tempdir().expect("tempdir");
    let older = log_files(directory.path())[0].clone();
    // The first batch begins behind the file's header; this is in the middle of its data.
    flip(&older, 160);
    let log = open_log(directory.path()).expect("entries in front of the last are not checked");
    let damaged = log.entries(1, 1, 2, usize::MAX);
    assert!(matches!(damaged, Err(EngineError::Corrupt { .. })), "{damaged:?}");
    assert_eq!(log.entries(1, 2, 3, usize::MAX).expect("the next is whole").len(), 1);
}

#[test]
fn no_garbage_in_the_log_makes_opening_panic() {
    let directory = tempfile::tempdir().expect("tempdir");
    let files = log_files(directory.path());
    let mut dice = Dice::new(9);
    let older = fs::read(&files[1]).expect("read");
    let newest = fs::read(files.last().expect("files")).expect("read");
    for _ in 0..60 {
        let (file, whole) = match dice.below(2) {
            0 => (&files[1], &older),
            _ => (files.last().expect("files"), &newest),
        };
        let mut damaged = whole.clone();
        for _ in 0..1 + dice.below(4) {
            let at = dice.below(damaged.len() as u64) as usize;
            damaged[at] = dice.below(256) as u8;
        }
        fs::write(file, &damaged).expect("write");
        match open_log(directory.path()).map(|_| ()) {
            Ok(()) | Err(EngineError::Corrupt { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
        fs::write(&files[1], &older).expect("write");
        fs::write(files.last().expect("files"), &newest).expect("write");
    }
    fs::write(&files[1], vec![b'x'; 3000]).expect("write");
    assert_refused(directory.path(), "garbage");
}
