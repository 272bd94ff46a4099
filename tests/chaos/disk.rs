//! Disks that fail: a library that is loaded into stores before all others (`disk.c`), and what it
//! is told to do.
//!
//! The library is built with the C compiler of the machine. Where there is none, faults of disks
//! are off.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What the library is built from.
const SOURCE: &str = include_str!("disk.c");

/// The rule by which syncs fail.
pub const FSYNC_FAILS: &str = "fsync-fails";

/// The disk of one server.
#[derive(Debug)]
pub struct Disk {
    rule: PathBuf,
    seen: PathBuf,
    undo: PathBuf,
    has_failed: AtomicBool,
}

/// Builds the library in `root`.
pub fn build(root: &Path) -> Result<PathBuf, String> {
    let (source, library) = (root.join("disk.c"), root.join("disk.so"));
    fs::write(&source, SOURCE).map_err(|error| error.to_string())?;
    let mut command = Command::new("cc");
    command.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let built = command.output().map_err(|error| format!("cc: {error}"))?;
    match built.status.success() {
        true => Ok(library),
        false => Err(format!("cc: {}", String::from_utf8_lossy(&built.stderr))),
    }
}

impl Disk {
    /// The disk of the server of this name.
    pub fn new(root: &Path, name: &str) -> Disk {
        let file = |what: &str| root.join(format!("{name}.disk-{what}"));
        let (rule, seen, undo) = (file("rule"), file("seen"), file("undo"));
        Disk { rule, seen, undo, has_failed: AtomicBool::new(false) }
    }

    /// What a process is started with, so that the disk under `dir` goes by its rule.
    pub fn env(&self, library: &Path, dir: &Path) -> Vec<(String, String)> {
        let pair = |name: &str, path: &Path| (name.to_string(), path.display().to_string());
        vec![
            pair("LD_PRELOAD", library),
            pair("CHAOS_DISK_DIR", dir),
            pair("CHAOS_DISK_RULE", &self.rule),
            pair("CHAOS_DISK_SEEN", &self.seen),
            pair("CHAOS_DISK_UNDO", &self.undo),
        ]
    }

    /// From now on, the disk goes by this rule, as `disk.c` names it.
    pub fn set(&self, rule: &str) -> Result<(), String> {
        if rule == FSYNC_FAILS {
            self.has_failed.store(true, Ordering::SeqCst);
        }
        // Whoever reads meanwhile sees one rule or the other.
        let new = self.rule.with_extension("new");
        let written = fs::write(&new, rule).and_then(|()| fs::rename(&new, &self.rule));
        written.map_err(|error| format!("{}: {error}", self.rule.display()))
    }

    /// True once a sync may have failed.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    /// How many calls have met a rule so far.
    pub fn met(&self) -> u64 {
        fs::metadata(&self.seen).map_or(0, |file| file.len())
    }

    /// From now on, what each write replaces is noted, and syncs take so long.
    pub fn note_writes(&self, sync: Duration) -> Result<(), String> {
        // There are no notes of before.
        let _ = fs::remove_file(&self.undo);
        self.set(&format!("note {}", sync.as_millis()))
    }

    /// Undoes, in the files under `dir` of a server that was killed, all noted writes that no sync
    /// has made durable, the last one first. Answers how many these are.
    pub fn lose_unsynced(&self, dir: &Path) -> io::Result<usize> {
        let notes = fs::read(&self.undo).unwrap_or_default();
        let mut files = BTreeMap::new();
        open_all(dir, &mut files)?;
        let lost = unsynced(&notes);
        for write in lost.iter().rev() {
            // A file that is gone has nothing to lose.
            if let Some(file) = files.get(&write.inode) {
                file.write_all_at(write.before, write.offset)?;
                if file.metadata()?.len() > write.size {
                    file.set_len(write.size)?;
                }
            }
        }
        Ok(lost.len())
    }
}

/// A write that is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Write<'a> {
    position: u64,
    inode: u64,
    offset: u64,
    before: &'a [u8],
    size: u64,
}

/// Numbers at the beginning of a note, and their bytes.
const NUMBERS: usize = 5;
const HEAD_BYTES: usize = NUMBERS * 8;

/// The writes that no sync has made durable, in their order. A last note that is cut off is of a
/// write that never began.
fn unsynced(notes: &[u8]) -> Vec<Write<'_>> {
    let mut writes = vec![];
    let mut durable: BTreeMap<u64, u64> = BTreeMap::new();
    let mut at = 0;
    while let Some(head) = notes.get(at..at + HEAD_BYTES) {
        let number = |index: usize| {
            let bytes = head[index * 8..index * 8 + 8].try_into().unwrap_or_default();
            u64::from_le_bytes(bytes)
        };
        let (inode, offset) = (number(1), number(2));
        if number(0) == 2 {
            let upto = durable.entry(inode).or_default();
            *upto = offset.max(*upto);
            at += HEAD_BYTES;
            continue;
        }
        let begin = at + HEAD_BYTES;
        let Some(before) = notes.get(begin..begin + number(3) as usize) else { break };
        let position = at as u64;
        writes.push(Write { position, inode, offset, before, size: number(4) });
        at = begin + before.len();
    }
    writes.retain(|write| durable.get(&write.inode).is_none_or(|upto| write.position >= *upto));
    writes
}

/// Opens all files under a directory, by their inodes.
fn open_all(dir: &Path, files: &mut BTreeMap<u64, File>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            open_all(&path, files)?;
        } else {
            let file = File::options().read(true).write(true).open(&path)?;
            files.insert(file.metadata()?.ino(), file);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(head: [u64; NUMBERS], before: &[u8]) -> Vec<u8> {
        let head = head.iter().flat_map(|number| number.to_le_bytes());
        head.chain(before.iter().copied()).collect()
    }

    #[test]
    fn what_was_noted_before_a_sync_of_its_file_is_durable() {
        let first = note([1, 7, 0, 2, 10], b"ab");
        let second = note([1, 8, 4, 1, 10], b"c");
        let upto = (first.len() + second.len()) as u64;
        let third = note([1, 7, 2, 0, 12], b"");
        let sync = note([2, 7, upto, 0, 0], b"");
        let notes = [first, second, third, sync, b"cut off".to_vec()].concat();
        let lost: Vec<(u64, u64)> =
            unsynced(&notes).iter().map(|write| (write.inode, write.offset)).collect();
        assert_eq!(lost, [(8, 4), (7, 2)]);
    }
}
