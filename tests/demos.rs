//! The demos: each tells its story to the end, notices what it claims does not happen, and leaves
//! nothing behind.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use flotilla_tests::binary::flotilla;
use flotilla_tests::process::signal;
use flotilla_tests::wait_for;

/// What a demo takes at most, on a machine that is busy with other tests.
const DEMO_MAX: Duration = Duration::from_secs(120);

/// What ending a demo takes at most, on such a machine.
const END_MAX: Duration = Duration::from_secs(10);

fn demo(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(flotilla());
    command.arg("demo").args(args).env("TMPDIR", dir).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a demo to its end: its exit status and what it printed.
fn run(args: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let began = Instant::now();
    let output = demo(args, dir.path()).output().expect("the demo can be started");
    let took = began.elapsed();
    println!("demo {args:?} took {took:?}");
    assert!(took < DEMO_MAX, "demo {args:?} took {took:?}");
    assert_eq!(left_in(dir.path()), [""; 0], "{args:?}");
    assert_eq!(processes_in(dir.path()), [""; 0], "{args:?}");
    let Output { status, stdout, stderr } = output;
    let printed = [stdout, stderr].concat();
    let printed = String::from_utf8(printed).expect("text");
    assert!(!printed.contains('\u{1b}'), "colours in a pipe: {printed}");
    (status.code(), printed)
}

fn tells_its_story(args: &[&str], claims: &[&str]) {
    let (status, printed) = run(args);
    assert_eq!(status, Some(0), "{printed}");
    for claim in claims {
        assert!(printed.contains(&format!("ok {claim}")), "no claim {claim:?}: {printed}");
    }
}

fn is_noticed(args: &[&str], claim: &str) {
    let (status, printed) = run(args);
    assert_eq!(status, Some(1), "{printed}");
    assert!(printed.contains(&format!("FAILED {claim}")), "{printed}");
}

#[test]
fn replication_shows_a_write_on_each_replica_and_that_nothing_is_lost() {
    let claims = ["the row is visible on each replica", "nothing is lost", "it has caught up"];
    tells_its_story(&["replication"], &claims);
}

#[test]
fn scaling_spreads_regions_over_a_store_that_joins() {
    let claims = ["regions are spread evenly: ", "no client saw an error", "nothing is lost"];
    tells_its_story(&["scaling", "--stores", "4"], &claims);
}

#[test]
fn partition_reads_nothing_stale_and_heals() {
    let claims = [
        "the minority acknowledges no write",
        "the majority elects and goes on",
        "no read of the minority is stale",
        "no read of the majority is stale",
        "all replicas are equal by digest at one index",
    ];
    tells_its_story(&["partition"], &claims);
}

#[test]
fn a_lost_write_is_noticed() {
    is_noticed(&["replication", "--replicas", "3", "--spoil", "lost-write"], "nothing is lost");
}

#[test]
fn a_stale_read_is_noticed() {
    is_noticed(&["partition", "--spoil", "stale-read"], "no read of the majority is stale");
}

#[test]
fn unequal_replicas_are_noticed() {
    let args = ["replication", "--spoil", "unequal-replicas"];
    is_noticed(&args, "the replicas that are left are equal");
}

#[test]
fn a_demo_that_is_interrupted_ends_its_processes_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut running = demo(&["replication"], dir.path()).spawn().expect("it can be started");
    wait_for("its processes", END_MAX, || match processes_in(dir.path()).len() {
        0..4 => Err("few so far".to_string()),
        _ => Ok(()),
    });
    interrupt(&mut running, dir.path());
}

/// Sends SIGINT, and waits until the demo and all that it started are gone.
fn interrupt(running: &mut Child, dir: &Path) {
    signal(running.id(), "INT");
    wait_for("the demo to end", END_MAX, || {
        let status = running.try_wait().expect("a child can be waited for");
        let status = status.ok_or("it runs")?;
        assert_ne!(status.code(), Some(0), "it did not come to its end");
        let left = [left_in(dir), processes_in(dir)].concat();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn left_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory can be read");
    entries.map(|entry| format!("{:?}", entry.expect("an entry").path())).collect()
}

/// The command lines that name the directory.
fn processes_in(dir: &Path) -> Vec<String> {
    let name = dir.display().to_string();
    let processes = fs::read_dir("/proc").expect("/proc can be read").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&name)).collect()
}
