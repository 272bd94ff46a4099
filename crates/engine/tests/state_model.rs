//! `StateStore` over redb and over memory, compared with a plain map through random histories:
//! every read sees what the map has, and a restart loses exactly the writes after the last
//! frozen and flushed one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use flotilla_engine::disk_base::DiskBase;
use flotilla_engine::mem_base::MemBase;
use flotilla_engine::{
    DiskOptions, EngineError, Order, RunOptions, StateBatch, StateOp, StateStore, base::ReadView,
};
use flotilla_types::KeyRange;
use flotilla_types::dice::Dice;

type Model = BTreeMap<Bytes, Bytes>;
type Pairs = Vec<(Bytes, Bytes)>;

const SMALL_CACHE: DiskOptions =
    DiskOptions { cache_bytes: 1024 * 1024, runs: RunOptions::DEFAULT };

/// Every checkpoint of so many rows becomes a run, and few runs are kept.
fn with_runs(rows_min: usize, kept: usize) -> DiskOptions {
    let runs = RunOptions { rows_min, leaves_min: 0, leaves_max: usize::MAX, kept };
    DiskOptions { runs, ..SMALL_CACHE }
}

fn open(path: &Path) -> StateStore {
    StateStore::open_disk(path, SMALL_CACHE).expect("open")
}

fn apply(model: &mut Model, op: &StateOp) {
    match op {
        StateOp::Put { key, value } => drop(model.insert(key.clone(), value.clone())),
        StateOp::Delete { key } => drop(model.remove(key)),
        StateOp::DeleteRange { range } => model.retain(|key, _| !range.contains(key)),
    }
}

fn model_scan(model: &Model, range: &KeyRange, order: Order, limit: usize) -> Pairs {
    let pairs = model.iter().filter(|(key, _)| range.contains(key));
    let pairs = pairs.map(|(key, value)| (key.clone(), value.clone()));
    match order {
        Order::Ascending => pairs.take(limit).collect(),
        Order::Descending => pairs.rev().take(limit).collect(),
    }
}

fn collect(
    limit: usize,
    scan: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), EngineError>,
) -> Pairs {
    let mut pairs = Vec::new();
    scan(&mut |key, value| {
        pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        pairs.len() < limit
    })
    .expect("scan");
    pairs
}

fn store_scan(store: &StateStore, range: &KeyRange, order: Order, limit: usize) -> Pairs {
    collect(limit, |visit| store.scan(range, order, visit))
}

#[test]
fn a_walk_comes_by_deleted_rows_and_a_scan_does_not() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for store in [StateStore::in_memory(), open(&dir.path().join("state"))] {
        let write = |ops: Vec<StateOp>| store.write(StateBatch { ops }).expect("write");
        let put = |key: &'static str| StateOp::Put { key: key.into(), value: "v".into() };
        write(["a", "b", "c"].map(put).into());
        assert!(store.freeze());
        store.flush().expect("flush");
        write(["a", "b"].map(|key| StateOp::Delete { key: key.into() }).into());
        let mut walked = vec![];
        let walk = store.walk(&KeyRange::all(), Order::Ascending, &mut |key, value| {
            walked.push((key.to_vec(), value.is_some()));
            true
        });
        walk.expect("walk");
        let row = |key: &str, is_there| (key.as_bytes().to_vec(), is_there);
        assert_eq!(walked, [row("a", false), row("b", false), row("c", true)]);
        let scanned = store_scan(&store, &KeyRange::all(), Order::Ascending, usize::MAX);
        assert_eq!(scanned, [("c".into(), "v".into())]);
    }
}

fn view_pairs(view: &dyn ReadView) -> Pairs {
    collect(usize::MAX, |visit| view.scan(&KeyRange::all(), Order::Ascending, visit))
}

/// One or two letters of a small alphabet: keys collide, and some are prefixes of others.
fn random_key(dice: &mut Dice) -> Bytes {
    let mut key = vec![b'a' + dice.below(6) as u8];
    if dice.below(3) > 0 {
        key.push(b'a' + dice.below(12) as u8);
    }
    key.into()
}

fn random_range(dice: &mut Dice) -> KeyRange {
    let start = if dice.below(6) == 0 { Bytes::new() } else { random_key(dice) };
    let end = if dice.below(6) == 0 { Bytes::new() } else { random_key(dice) };
    KeyRange { start, end }
}

fn random_op(dice: &mut Dice) -> StateOp {
    match dice.below(12) {
        0 => StateOp::DeleteRange { range: random_range(dice) },
        1..=3 => StateOp::Delete { key: random_key(dice) },
        _ => {
            let value = Bytes::from(dice.below(1 << 30).to_string());
            StateOp::Put { key: random_key(dice), value }
        }
    }
}

/// A store of each kind and the model of what they hold.
struct Trio {
    path: std::path::PathBuf,
    options: DiskOptions,
    disk: Option<StateStore>,
    base: MemBase,
    memory: StateStore,
    all: Model,
    frozen: Option<Model>,
    durable: Model,
}

impl Trio {
    fn new(path: &Path, options: DiskOptions) -> Trio {
        let base = MemBase::default();
        Trio {
            path: path.to_path_buf(),
            options,
            disk: Some(StateStore::open_disk(path, options).expect("open")),
            memory: StateStore::new(Box::new(base.clone())).expect("memory"),
            base,
            all: Model::new(),
            frozen: None,
            durable: Model::new(),
        }
    }

    fn stores(&self) -> [&StateStore; 2] {
        [self.disk.as_ref().expect("open"), &self.memory]
    }

    fn write(&mut self, dice: &mut Dice) {
        let ops: Vec<StateOp> = (0..1 + dice.below(6)).map(|_| random_op(dice)).collect();
        for op in &ops {
            apply(&mut self.all, op);
        }
        for store in self.stores() {
            store.write(StateBatch { ops: ops.clone() }).expect("write");
        }
    }

    fn freeze(&mut self) {
        let frozen = self.stores().map(StateStore::freeze);
        // An empty buffer is not kept, so nothing is pending after freezing it.
        let is_pending = self.frozen.is_some();
        assert_eq!(frozen, [!is_pending; 2]);
        if !is_pending && self.stores()[0].unflushed_bytes() > 0 {
            self.frozen = Some(self.all.clone());
        }
    }

    fn flush(&mut self) {
        for store in self.stores() {
            store.flush().expect("flush");
        }
        if let Some(frozen) = self.frozen.take() {
            self.durable = frozen;
        }
    }

    fn install(&mut self, dice: &mut Dice) {
        for _ in 0..2 {
            self.freeze();
            self.flush();
        }
        let clear: Vec<KeyRange> = (0..1 + dice.below(2)).map(|_| random_range(dice)).collect();
        let mut rows = Model::new();
        for _ in 0..dice.below(40) {
            let key = random_key(dice);
            if clear.iter().any(|range| range.contains(&key)) {
                rows.insert(key, "installed".into());
            }
        }
        let mut records = StateBatch::default();
        records.put("r", dice.below(100).to_string());
        for store in self.stores() {
            let mut next = rows.clone().into_iter();
            store.install(&clear, &mut || Ok(next.next()), records.clone()).expect("install");
        }
        self.all.retain(|key, _| !clear.iter().any(|range| range.contains(key)));
        self.all.extend(rows);
        apply(&mut self.all, &records.ops[0]);
        self.durable = self.all.clone();
    }

    fn restart(&mut self) {
        self.disk = None;
        self.disk = Some(StateStore::open_disk(&self.path, self.options).expect("open"));
        self.memory = StateStore::new(Box::new(self.base.clone())).expect("memory");
        self.frozen = None;
        self.all = self.durable.clone();
    }

    fn check(&self, dice: &mut Dice) {
        let (range, key) = (random_range(dice), random_key(dice));
        let limit = if dice.below(2) == 0 { usize::MAX } else { 1 + dice.below(5) as usize };
        for store in self.stores() {
            assert_eq!(store.get(&key).expect("get"), self.all.get(&key).cloned());
            for order in [Order::Ascending, Order::Descending] {
                let expected = model_scan(&self.all, &range, order, limit);
                assert_eq!(store_scan(store, &range, order, limit), expected, "{order:?}");
            }
            let all = model_scan(&self.all, &KeyRange::all(), Order::Ascending, usize::MAX);
            assert_eq!(store_scan(store, &KeyRange::all(), Order::Ascending, usize::MAX), all);
            let durable = self.durable.iter().map(|(k, v)| (k.clone(), v.clone()));
            let view = store.view().expect("view");
            assert_eq!(view_pairs(&*view), durable.collect::<Pairs>());
        }
    }
}

#[test]
fn random_histories_agree_with_a_plain_map() {
    (1..=8).for_each(|seed| random_history(seed, SMALL_CACHE));
}

#[test]
fn random_histories_with_runs_agree_with_a_plain_map() {
    for seed in 1..=12 {
        // Only runs; and checkpoints that write past the runs among them.
        let rows_min = [1, 10][seed as usize % 2];
        random_history(seed, with_runs(rows_min, seed as usize % 4));
    }
}

fn random_history(seed: u64, options: DiskOptions) {
    let directory = tempfile::tempdir().expect("tempdir");
    let mut trio = Trio::new(&directory.path().join("state.redb"), options);
    let mut dice = Dice::new(seed);
    for _ in 0..250 {
        match dice.below(40) {
            0..=2 => trio.freeze(),
            3 | 4 => trio.flush(),
            5 => trio.install(&mut dice),
            6 => trio.restart(),
            _ => trio.write(&mut dice),
        }
        trio.check(&mut dice);
    }
}

#[test]
fn reads_go_on_with_whole_batches_while_a_flush_runs() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = open(&directory.path().join("state.redb"));
    let done = AtomicBool::new(false);
    let pair = |n: u64| {
        let mut batch = StateBatch::default();
        batch.put("a", n.to_string());
        batch.put("b", n.to_string());
        batch
    };
    store.write(pair(0)).expect("write");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.freeze();
                store.flush().expect("flush");
            }
        });
        scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let pairs = store_scan(&store, &KeyRange::all(), Order::Ascending, 9);
                assert_eq!(pairs[0].1, pairs[1].1, "a batch is seen as a whole");
                let text = std::str::from_utf8(&pairs[0].1).expect("a number");
                let number: u64 = text.parse().expect("a number");
                assert!(number >= last, "{number} after {last}");
                last = number;
            }
        });
        for n in 1..20_000 {
            store.write(pair(n)).expect("write");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(store.get(b"a").expect("get"), Some("19999".into()));
}

#[test]
fn freezing_waits_for_the_flush_and_sizes_are_those_of_the_buffers() {
    let store = StateStore::in_memory();
    assert!(store.freeze() && store.freeze(), "an empty buffer needs no flush");
    assert_eq!(store.unflushed_bytes(), 0);
    let mut batch = StateBatch::default();
    batch.put("key", "value");
    store.write(batch).expect("write");
    let bytes = store.active_bytes();
    assert!(bytes > 8);
    assert!(store.freeze());
    assert!(!store.freeze(), "the frozen buffer is not flushed yet");
    assert_eq!((store.active_bytes(), store.unflushed_bytes()), (0, bytes));
    store.flush().expect("flush");
    assert_eq!(store.unflushed_bytes(), 0);
    assert_eq!(store.disk_bytes(), 8);
}

#[test]
fn a_failed_install_changes_nothing_and_harms_nothing() {
    let directory = tempfile::tempdir().expect("tempdir");
    let disk = open(&directory.path().join("state.redb"));
    for store in [disk, StateStore::in_memory()] {
        let mut batch = StateBatch::default();
        batch.put("a", "kept");
        batch.put("x", "kept");
        store.write(batch).expect("write");
        assert!(store.freeze());
        store.flush().expect("flush");

        let broken = EngineError::Io { file: "snapshot".into(), reason: "cut short".into() };
        let mut rows = vec![Ok(Some(("b".into(), "new".into()))), Err(broken.clone())].into_iter();
        let mut next = || rows.next().expect("not read past the error");
        let clear = [KeyRange::new("a", "c")];
        assert_eq!(store.install(&clear, &mut next, StateBatch::default()), Err(broken));
        assert_eq!(store.get(b"a").expect("get"), Some("kept".into()));
        assert_eq!(store.get(b"b").expect("get"), None);

        let mut rows = vec![("b".into(), "1".into()), ("x".into(), "2".into())].into_iter();
        let refused = store.install(&clear, &mut || Ok(rows.next()), StateBatch::default());
        assert!(matches!(refused, Err(EngineError::Corrupt { .. })), "x is outside and there");

        let mut rows = vec![("b".into(), "1".into()), ("y".into(), "2".into())].into_iter();
        store.install(&clear, &mut || Ok(rows.next()), StateBatch::default()).expect("install");
        let keys = store_scan(&store, &KeyRange::all(), Order::Ascending, 9);
        assert_eq!(keys.iter().map(|(key, _)| &key[..]).collect::<Vec<_>>(), [b"b", b"x", b"y"]);
    }
}

#[test]
#[should_panic(expected = "install over buffered writes")]
fn installing_over_buffered_writes_is_an_assertion() {
    let store = StateStore::in_memory();
    let mut batch = StateBatch::default();
    batch.put("b", "pending");
    store.write(batch).expect("write");
    let _ = store.install(&[KeyRange::new("a", "c")], &mut || Ok(None), StateBatch::default());
}

#[test]
fn any_storage_backend_will_do() {
    let backend = redb::backends::InMemoryBackend::new();
    let base = DiskBase::open_backend(Path::new("simulated"), backend, SMALL_CACHE).expect("open");
    let store = StateStore::new(Box::new(base)).expect("view");
    let mut batch = StateBatch::default();
    batch.put("k", "v");
    store.write(batch).expect("write");
    assert!(store.freeze());
    store.flush().expect("flush");
    let view = store.view().expect("view");
    assert_eq!(view_pairs(&*view), [("k".into(), "v".into())]);
    assert!(store.disk_bytes() > 0);
}

#[test]
fn keys_read_together_are_of_one_moment() {
    const WRITES: u32 = 5_000;
    let state = StateStore::in_memory();
    let keys = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    let write = |number: u32| {
        let mut batch = StateBatch::default();
        for key in &keys {
            batch.put(key.clone(), number.to_be_bytes().to_vec());
        }
        state.write(batch).expect("write");
    };
    write(0);
    let last = Some(Bytes::copy_from_slice(&WRITES.to_be_bytes()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=WRITES {
                write(number);
                // Moves the rows from layer to layer under the reader.
                if number % 10 == 0 {
                    state.freeze();
                    state.flush().expect("flush");
                }
            }
        });
        let mut seen = vec![];
        while seen.first() != Some(&last) {
            seen.clear();
            let mut take = |value| {
                seen.push(value);
                true
            };
            state.get_many(&keys, &mut take).expect("read");
            assert_eq!(seen.len(), 2);
            assert_eq!(seen[0], seen[1]);
        }
    });
}

#[test]
fn a_visitor_of_many_keys_ends_when_it_wants() {
    let state = StateStore::in_memory();
    let keys = ["a", "b", "c"].map(Bytes::from);
    let mut visits = 0;
    let mut stop = |_| {
        visits += 1;
        visits < 2
    };
    state.get_many(&keys, &mut stop).expect("read");
    assert_eq!(visits, 2);
}
