//! Disks that fail and processes that are killed: after the first failed write or sync a store
//! refuses everything, and what was synced before is there after a restart.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use flotilla_engine::disk_base::DiskBase;
use flotilla_engine::{
    DiskLog, DiskOptions, EngineError, LogBatch, LogBounds, LogEntry, LogOp, LogOptions, LogStore,
    RunOptions, StateBatch, StateStore,
};
use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

const OPTIONS: DiskOptions = DiskOptions { cache_bytes: 1024 * 1024, runs: RunOptions::DEFAULT };

/// What a test sees and orders of a disk.
#[derive(Debug, Default)]
struct Switch {
    is_failing: AtomicBool,
    syncs: AtomicUsize,
}

impl Switch {
    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        match self.is_failing.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the disk is gone")),
            false => Ok(()),
        }
    }
}

/// redb's memory backend, whose syncs may fail.
#[derive(Debug)]
struct Storage(InMemoryBackend, Arc<Switch>);

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// The real file system, whose syncs may fail.
struct Files(Arc<Switch>);

type RealHandle = <DefaultFileSystem as FileSystem>::Handle;

struct FileHandle(Arc<RealHandle>, Arc<Switch>);

impl Handle for FileHandle {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        self.0.truncate(offset)
    }

    fn file_size(&self) -> io::Result<usize> {
        self.0.file_size()
    }

    fn sync(&self) -> io::Result<()> {
        self.1.sync()?;
        self.0.sync()
    }
}

impl FileSystem for Files {
    type Handle = FileHandle;
    type Reader = <DefaultFileSystem as FileSystem>::Reader;
    type Writer = <DefaultFileSystem as FileSystem>::Writer;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<FileHandle> {
        Ok(FileHandle(Arc::new(DefaultFileSystem.create(path)?), Arc::clone(&self.0)))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<FileHandle> {
        Ok(FileHandle(Arc::new(DefaultFileSystem.open(path, permission)?), Arc::clone(&self.0)))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        DefaultFileSystem.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        DefaultFileSystem.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<FileHandle>) -> io::Result<Self::Reader> {
        DefaultFileSystem.new_reader(Arc::clone(&handle.0))
    }

    fn new_writer(&self, handle: Arc<FileHandle>) -> io::Result<Self::Writer> {
        DefaultFileSystem.new_writer(Arc::clone(&handle.0))
    }
}

fn put(store: &StateStore, key: &'static str) {
    let mut batch = StateBatch::default();
    batch.put(key, "value");
    store.write(batch).expect("write");
}

fn append(index: u64) -> LogBatch {
    let entry = LogEntry { index, term: 1, data: "data".into(), ..LogEntry::default() };
    LogBatch { ops: vec![LogOp::Append { group: 1, entries: vec![entry] }] }
}

fn is_poisoned(result: &Result<(), EngineError>) -> bool {
    matches!(result, Err(EngineError::Poisoned { reason }) if reason.contains("the disk is gone"))
}

#[test]
fn a_state_store_whose_flush_failed_never_flushes_again_and_still_reads() {
    let switch = Arc::new(Switch::default());
    let storage = Storage(InMemoryBackend::new(), Arc::clone(&switch));
    let base = DiskBase::open_backend(Path::new("simulated"), storage, OPTIONS).expect("open");
    let store = StateStore::new(Box::new(base)).expect("view");
    put(&store, "a");
    assert!(store.freeze());
    switch.is_failing.store(true, Ordering::Relaxed);
    assert!(matches!(store.flush(), Err(EngineError::Io { .. })));
    switch.is_failing.store(false, Ordering::Relaxed);
    assert!(is_poisoned(&store.flush()));
    assert!(!store.freeze(), "the frozen buffer stays");
    assert_eq!(store.get(b"a").expect("get"), Some("value".into()));
    let install = store.install(&[], &mut || Ok(None), StateBatch::default());
    assert!(is_poisoned(&install));
}

#[test]
fn a_log_whose_sync_failed_refuses_everything_after() {
    let directory = tempfile::tempdir().expect("tempdir");
    let switch = Arc::new(Switch::default());
    let files = Arc::new(Files(Arc::clone(&switch)));
    let log = DiskLog::open_with_file_system(directory.path(), LogOptions::default(), files)
        .expect("open");
    log.write(append(1), true).expect("write");
    switch.is_failing.store(true, Ordering::Relaxed);
    assert!(is_poisoned(&log.write(append(2), true)));
    switch.is_failing.store(false, Ordering::Relaxed);
    assert!(is_poisoned(&log.write(append(2), true)));
    assert!(is_poisoned(&log.write(LogBatch::default(), true)));
    assert!(is_poisoned(&log.purge().map(|_| ())));
    assert!(is_poisoned(&log.entries(1, 1, 2, 0).map(|_| ())));
    drop(log);
    let log = DiskLog::open(directory.path(), LogOptions::default()).expect("open again");
    assert_eq!(log.bounds(1).map(|held| held.first), Some(1));
}

/// `Engine::sync` and a synced write of an empty batch do nothing in raft-engine 0.4.2.
#[test]
fn an_empty_batch_syncs_the_batches_before_it_and_only_those() {
    let directory = tempfile::tempdir().expect("tempdir");
    let switch = Arc::new(Switch::default());
    let files = Arc::new(Files(Arc::clone(&switch)));
    let log = DiskLog::open_with_file_system(directory.path(), LogOptions::default(), files)
        .expect("open");
    let syncs_of = |batch: LogBatch, sync: bool| {
        let before = switch.syncs.load(Ordering::Relaxed);
        log.write(batch, sync).expect("write");
        switch.syncs.load(Ordering::Relaxed) - before
    };
    assert_eq!(syncs_of(append(1), false), 0);
    assert_eq!(syncs_of(LogBatch::default(), false), 0);
    assert_eq!(syncs_of(LogBatch::default(), true), 1);
    assert_eq!(syncs_of(LogBatch::default(), true), 0, "nothing is left to sync");
    assert_eq!(syncs_of(append(2), true), 1);
    assert_eq!(log.groups(), [1], "the mark's group is not listed");
}

/// What replaced synced data must be synced before a purge may delete that data.
#[test]
fn a_purge_and_a_clear_are_never_ahead_of_the_sync() {
    let directory = tempfile::tempdir().expect("tempdir");
    let switch = Arc::new(Switch::default());
    let files = Arc::new(Files(Arc::clone(&switch)));
    let log = DiskLog::open_with_file_system(directory.path(), LogOptions::default(), files)
        .expect("open");
    let syncs = || switch.syncs.load(Ordering::Relaxed);
    log.write(append(1), false).expect("write");
    let before = syncs();
    log.purge().expect("purge");
    assert_eq!(syncs() - before, 1);
    let clear = LogBatch { ops: vec![LogOp::Clear { group: 1 }] };
    log.write(clear, false).expect("write");
    assert_eq!(syncs() - before, 2);
}

#[test]
fn opening_a_log_syncs_what_a_killed_process_may_have_left_in_the_page_cache() {
    let directory = tempfile::tempdir().expect("tempdir");
    drop(DiskLog::open(directory.path(), LogOptions::default()).expect("create"));
    let switch = Arc::new(Switch::default());
    let files = Arc::new(Files(Arc::clone(&switch)));
    DiskLog::open_with_file_system(directory.path(), LogOptions::default(), files).expect("open");
    assert!(switch.syncs.load(Ordering::Relaxed) > 0);
}

/// Copies the files of a running store: what a kill -9 leaves, less the page cache's mercy.
#[test]
fn what_a_killed_process_leaves_opens_with_the_last_flush() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (path, copy) = (directory.path().join("state.redb"), directory.path().join("copy.redb"));
    let store = StateStore::open_disk(&path, OPTIONS).expect("create");
    for key in ["a", "b"] {
        put(&store, key);
        assert!(store.freeze());
        store.flush().expect("flush");
        put(&store, "lost");
        fs::copy(&path, &copy).expect("copy");
        let survivor = StateStore::open_disk(&copy, OPTIONS).expect("open");
        assert_eq!(survivor.get(key.as_bytes()).expect("get"), Some("value".into()));
        assert_eq!(survivor.get(b"lost").expect("get").is_some(), key == "b");
    }
}

#[test]
fn what_a_killed_process_leaves_of_the_log_opens_with_every_batch() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (running, copy) = (directory.path().join("log"), directory.path().join("copy"));
    let options = LogOptions { file_bytes: 1024, purge_bytes: 4096 };
    let log = DiskLog::open(&running, options).expect("create");
    fs::create_dir(&copy).expect("directory");
    for index in 1..=60 {
        log.write(append(index), true).expect("write");
    }
    for file in fs::read_dir(&running).expect("list") {
        let file = file.expect("file");
        fs::copy(file.path(), copy.join(file.file_name())).expect("copy");
    }
    let survivor = DiskLog::open(&copy, options).expect("open");
    assert_eq!(survivor.bounds(1), Some(LogBounds { first: 1, last: 60 }));
    assert_eq!(survivor.entries(1, 1, 61, usize::MAX).expect("entries").len(), 60);
}
