//! What any `LogStore` promises, checked on raft-engine and on its twin, step by step and after
//! reopening; and that long random histories leave both with the same content.

use std::path::Path;

use bytes::Bytes;
use flotilla_engine::{
    DiskLog, LogBatch, LogBounds, LogEntry, LogOp, LogOptions, LogStore, MemLog,
};
use flotilla_types::dice::Dice;

/// Files so small that histories of a few hundred entries are purged and rewritten.
const SMALL_FILES: LogOptions = LogOptions { file_bytes: 2 * 1024, purge_bytes: 4 * 1024 };

fn entry(index: u64, term: u64) -> LogEntry {
    let data = Bytes::from(format!("data {index} of term {term}"));
    LogEntry { index, term, kind: (index % 3) as u8, data, context: "ctx".into() }
}

fn append(group: u64, first: u64, last: u64, term: u64) -> LogOp {
    LogOp::Append { group, entries: (first..=last).map(|index| entry(index, term)).collect() }
}

fn state(group: u64, state: &'static str) -> LogOp {
    LogOp::SetState { group, state: state.into() }
}

fn truncate(group: u64, through: u64) -> LogOp {
    LogOp::Truncate { group, through }
}

fn write(log: &dyn LogStore, ops: &[LogOp]) {
    log.write(LogBatch { ops: ops.to_vec() }, true).expect("write");
}

/// Everything that a log answers: per group its bounds, state and entries.
type Content = Vec<(u64, Option<LogBounds>, Option<Bytes>, Vec<LogEntry>)>;

fn content(log: &dyn LogStore) -> Content {
    let content = |group| {
        let bounds = log.bounds(group);
        let entries = bounds.map_or(Vec::new(), |held| {
            log.entries(group, held.first, held.last + 1, usize::MAX).expect("entries")
        });
        (group, bounds, log.state(group).expect("state"), entries)
    };
    log.groups().into_iter().map(content).collect()
}

fn group(group: u64, first: u64, last: u64, term: u64, state: Option<&'static str>) -> Content {
    let entries = (first..=last).map(|index| entry(index, term)).collect();
    vec![(group, Some(LogBounds { first, last }), state.map(Bytes::from), entries)]
}

/// Writes each batch to both logs, then checks both live, and after reopening or a crash.
fn check(batches: &[&[LogOp]], expected: &Content) {
    let directory = tempfile::tempdir().expect("tempdir");
    let disk = DiskLog::open(directory.path(), SMALL_FILES).expect("open");
    let memory = MemLog::default();
    for batch in batches {
        write(&disk, batch);
        write(&memory, batch);
    }
    assert_eq!(content(&disk), *expected, "on disk");
    assert_eq!(content(&memory), *expected, "in memory");
    drop(disk);
    memory.crash();
    assert_eq!(content(&reopen(directory.path())), *expected, "on disk, opened again");
    assert_eq!(content(&memory), *expected, "in memory, after a crash");

    // The same when other groups' traffic has pushed it all through purges and rewrites.
    let disk = reopen(directory.path());
    push_through_purges(&disk);
    assert_eq!(content(&disk), *expected, "on disk, purged");
    drop(disk);
    assert_eq!(content(&reopen(directory.path())), *expected, "on disk, purged and opened again");
}

fn reopen(directory: &Path) -> DiskLog {
    DiskLog::open(directory, SMALL_FILES).expect("open again")
}

fn push_through_purges(disk: &DiskLog) {
    const OTHER: u64 = 77;
    for round in 0..40 {
        write(disk, &[append(OTHER, round * 10 + 1, round * 10 + 10, 1)]);
        write(disk, &[truncate(OTHER, round * 10 + 9)]);
        disk.purge().expect("purge");
    }
    write(disk, &[LogOp::Clear { group: OTHER }]);
}

#[test]
fn an_overwritten_tail_is_gone() {
    let batches: [&[LogOp]; 2] = [&[append(1, 1, 10, 1)], &[append(1, 5, 6, 2)]];
    let mut expected = group(1, 1, 4, 1, None);
    expected[0].1 = Some(LogBounds { first: 1, last: 6 });
    expected[0].3.extend([entry(5, 2), entry(6, 2)]);
    check(&batches, &expected);
    check(&[&[append(1, 1, 10, 1)], &[append(1, 1, 2, 2)]], &group(1, 1, 2, 2, None));
}

#[test]
fn truncation_keeps_what_lies_behind() {
    let held: &[LogOp] = &[append(1, 1, 10, 1), state(1, "hs")];
    check(&[held, &[truncate(1, 4)]], &group(1, 5, 10, 1, Some("hs")));
    check(&[held, &[truncate(1, 0)]], &group(1, 1, 10, 1, Some("hs")));
    check(&[held, &[truncate(1, 4)], &[truncate(1, 2)]], &group(1, 5, 10, 1, Some("hs")));
    check(&[held, &[truncate(2, 9)]], &group(1, 1, 10, 1, Some("hs")));
}

#[test]
fn an_emptied_log_keeps_its_state_and_begins_anywhere() {
    let held: &[LogOp] = &[append(1, 1, 10, 1), state(1, "hs")];
    let only_state = vec![(1, None, Some(Bytes::from("hs")), Vec::new())];
    check(&[held, &[truncate(1, 10)]], &only_state);
    check(&[held, &[truncate(1, u64::MAX)]], &only_state);
    check(&[held, &[truncate(1, 10), append(1, 11, 12, 2)]], &group(1, 11, 12, 2, Some("hs")));
    let (further, back) = ([append(1, 30, 31, 2)], [append(1, 5, 6, 2)]);
    check(&[held, &[truncate(1, 10)], &further], &group(1, 30, 31, 2, Some("hs")));
    check(&[held, &[truncate(1, 10)], &back], &group(1, 5, 6, 2, Some("hs")));
    check(&[&[append(1, 1, 3, 1)], &[truncate(1, 3)]], &Vec::new());
}

#[test]
fn what_follows_a_clear_in_the_same_batch_stays() {
    let held: &[LogOp] = &[append(1, 1, 10, 1), state(1, "old")];
    let clear = LogOp::Clear { group: 1 };
    check(&[held, std::slice::from_ref(&clear)], &Vec::new());
    let anew = [clear.clone(), state(1, "new"), append(1, 51, 52, 3)];
    check(&[held, &anew], &group(1, 51, 52, 3, Some("new")));
    let lower = [clear.clone(), append(1, 1, 2, 3), state(1, "new")];
    check(&[held, &[truncate(1, 5)], &lower], &group(1, 1, 2, 3, Some("new")));
    let only_state = [clear, state(1, "new")];
    check(&[held, &only_state], &vec![(1, None, Some("new".into()), Vec::new())]);
}

#[test]
fn groups_are_listed_in_order_and_do_not_mix() {
    let batch = [append(9, 5, 6, 1), state(300, "only"), append(2, 1, 1, 4)];
    let mut expected = group(2, 1, 1, 4, None);
    expected.extend(group(9, 5, 6, 1, None));
    expected.push((300, None, Some("only".into()), Vec::new()));
    check(&[&batch], &expected);
}

#[test]
fn the_byte_limit_cuts_both_logs_at_the_same_entry() {
    let directory = tempfile::tempdir().expect("tempdir");
    let disk = DiskLog::open(directory.path(), LogOptions::default()).expect("open");
    let memory = MemLog::default();
    for log in [&disk as &dyn LogStore, &memory] {
        write(log, &[append(1, 1, 200, 1)]);
        assert_eq!(log.entries(1, 7, 20, 0).expect("entries"), [entry(7, 1)]);
        assert_eq!(log.entries(1, 7, 7, 0).expect("entries"), []);
    }
    let counted = |log: &dyn LogStore, max| log.entries(1, 1, 201, max).expect("entries").len();
    for max in 0..12_000 {
        assert_eq!(counted(&disk, max), counted(&memory, max), "within {max} bytes");
    }
    assert_eq!(counted(&disk, 12_000), 200);
}

#[test]
fn a_hole_is_an_assertion_and_leaves_the_log_usable() {
    let directory = tempfile::tempdir().expect("tempdir");
    let disk = DiskLog::open(directory.path(), LogOptions::default()).expect("open");
    write(&disk, &[append(1, 1, 3, 1)]);
    let hole = LogBatch { ops: vec![append(2, 1, 1, 1), append(1, 5, 5, 1)] };
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disk.write(hole, true)));
    let message = refused.expect_err("a hole").downcast::<String>().expect("a message");
    assert_eq!(*message, "append to group 1 leaves a hole: 5 after 3");
    write(&disk, &[append(1, 4, 4, 1)]);
    assert_eq!(content(&disk), group(1, 1, 4, 1, None));
}

#[test]
fn a_crash_loses_the_unsynced_batches_newest_first() {
    let log = MemLog::default();
    let unsynced = |ops: &[LogOp]| log.write(LogBatch { ops: ops.to_vec() }, false).expect("write");
    write(&log, &[append(1, 1, 2, 1)]);
    unsynced(&[append(1, 3, 3, 1)]);
    unsynced(&[append(1, 4, 4, 1)]);
    assert_eq!(log.unsynced_batches(), 2);
    log.clone().crash_keeping(1);
    assert_eq!(content(&log), group(1, 1, 3, 1, None));
    unsynced(&[append(1, 4, 4, 1)]);
    log.crash();
    assert_eq!(content(&log), group(1, 1, 3, 1, None));
}

/// raft-engine caches the last block per thread, and takes a block of one log for another's.
#[test]
fn two_logs_read_on_one_thread_do_not_see_each_other() {
    let (one, two) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let one = DiskLog::open(one.path(), LogOptions::default()).expect("open");
    let two = DiskLog::open(two.path(), LogOptions::default()).expect("open");
    write(&one, &[append(1, 1, 3, 1)]);
    write(&two, &[append(1, 1, 3, 2)]);
    for _ in 0..2 {
        assert_eq!(content(&one), group(1, 1, 3, 1, None));
        assert_eq!(content(&two), group(1, 1, 3, 2, None));
    }
}

fn random_op(dice: &mut Dice, model: &MemLog) -> LogOp {
    let group = 1 + dice.below(4);
    let held = model.bounds(group);
    match (dice.below(20), held) {
        (0, _) => LogOp::Clear { group },
        (1..=3, _) => state(group, ["a", "b", "c"][dice.below(3) as usize]),
        (4, Some(held)) => truncate(group, held.last),
        (5..=8, Some(held)) => truncate(group, held.first + dice.below(held.last - held.first + 1)),
        (9..=10, Some(held)) => {
            let first = held.first + dice.below(held.last - held.first + 1);
            append(group, first, first + dice.below(3), 1 + dice.below(1000))
        }
        (_, held) => {
            let first = held.map_or(1 + dice.below(30), |held| held.last + 1);
            append(group, first, first + dice.below(8), 1 + dice.below(1000))
        }
    }
}

#[test]
fn random_histories_leave_both_logs_equal() {
    for seed in 1..=6 {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut disk = reopen(directory.path());
        let memory = MemLog::default();
        let mut dice = Dice::new(seed);
        for step in 0..600 {
            // The operations of a batch must fit one another, so each is made from a scratch log.
            let scratch = MemLog::default();
            for (group, _, state, entries) in content(&memory) {
                if !entries.is_empty() {
                    write(&scratch, &[LogOp::Append { group, entries }]);
                }
                if let Some(state) = state {
                    write(&scratch, &[LogOp::SetState { group, state }]);
                }
            }
            let mut batch = LogBatch::default();
            for _ in 0..1 + dice.below(3) {
                let op = random_op(&mut dice, &scratch);
                write(&scratch, std::slice::from_ref(&op));
                batch.ops.push(op);
            }
            memory.write(batch.clone(), false).expect("write");
            disk.write(batch, false).expect("write");
            if dice.below(10) == 0 {
                disk.purge().expect("purge");
            }
            if dice.below(40) == 0 {
                drop(disk);
                disk = reopen(directory.path());
            }
            if step % 10 == 0 || dice.below(40) == 0 {
                assert_eq!(content(&disk), content(&memory), "seed {seed}, step {step}");
            }
        }
        drop(disk);
        assert_eq!(content(&reopen(directory.path())), content(&memory), "seed {seed}");
    }
}
