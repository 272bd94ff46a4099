//! Bad input gets a clear error, loses nothing and panics nowhere.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use flotilla_tests::binary::flotilla;
use flotilla_tests::cluster::copy_dir;
use flotilla_tests::{Cluster, Process, command, data, free_port, wait_for};

/// A server that has not refused by then has started.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(20);

/// Writes a TSV file into the cluster's scratch directory and loads it.
fn load(cluster: &Cluster, rows: &[u8]) -> command::Finished {
    let path = cluster.scratch().join("rows.tsv");
    fs::write(&path, rows).expect("the scratch directory can be written");
    cluster.run(&["kv", "load", &path.display().to_string()])
}

#[test]
fn keys_and_values_over_a_limit_are_refused_by_the_limits_name() {
    let cluster = Cluster::start(1, "96MiB");
    cluster.run(&["kv", "put", "kept", "value"]).ok();
    let long_key = "k".repeat(9 * 1024);
    for key in ["", &long_key] {
        for line in [&["kv", "put", key, "v"][..], &["kv", "get", key], &["kv", "delete", key]] {
            cluster.run(line).expect_code(2).expect_stderr(&["error: ", "key bytes"]);
        }
    }
    let mut rows = b"before\t1\nlarge\t".to_vec();
    rows.resize(rows.len() + 7 * 1024 * 1024, b'v');
    rows.extend_from_slice(b"\nafter\t2\n");
    load(&cluster, &rows).expect_code(2).expect_stderr(&["rows.tsv", "line 2", "value bytes"]);
    assert_eq!(cluster.dump(), b"before\t1\nkept\tvalue\n");

    let mut largest = b"largest\t".to_vec();
    largest.resize(largest.len() + 6 * 1024 * 1024, b'v');
    largest.push(b'\n');
    load(&cluster, &largest).ok();
    let read = cluster.run(&["kv", "get", "largest"]).ok();
    assert_eq!(read.stdout.len(), 6 * 1024 * 1024 + 1, "the value and a newline");
}

#[test]
fn a_line_that_is_no_row_is_named_and_nothing_after_it_is_sent() {
    let cluster = Cluster::start(1, "96MiB");
    let rows = b"a\t1\nb\t2\nno tab here\nc\t3\n";
    load(&cluster, rows).expect_code(2).expect_stderr(&["rows.tsv", "line 3", "tab"]);
    assert_eq!(cluster.dump(), b"a\t1\nb\t2\n");
    load(&cluster, b"d\t4\n\te\n").expect_code(2).expect_stderr(&["line 2", "empty key"]);
    assert_eq!(cluster.dump(), b"a\t1\nb\t2\nd\t4\n");
    cluster
        .run(&["kv", "load", "/no/such/file.tsv"])
        .expect_code(2)
        .expect_stderr(&["/no/such/file.tsv"]);
}

#[test]
fn a_file_that_may_be_cut_off_or_is_compressed_is_refused() {
    let cluster = Cluster::start(1, "96MiB");
    load(&cluster, b"a\t1\nb\t2 of 200").expect_code(2).expect_stderr(&["line 2", "--partial-ok"]);
    assert_eq!(cluster.dump(), b"a\t1\n");
    let path = cluster.scratch().join("rows.tsv").display().to_string();
    cluster.run(&["kv", "load", &path, "--partial-ok"]).ok();
    assert_eq!(cluster.dump(), b"a\t1\nb\t2 of 200\n");
    load(&cluster, b"\x1f\x8b\x08\x00c\t3\n").expect_code(2).expect_stderr(&["gzip -dc"]);
    load(&cluster, b"\xef\xbb\xbfd\t4\r\n").ok().expect_stderr(&["byte order mark", "return"]);
}

#[test]
fn a_load_that_is_interrupted_says_how_much_is_stored() {
    let cluster = Cluster::start(1, "96MiB");
    let mut load = cluster.start_load("-");
    let mut stdin = load.take_stdin().expect("a pipe");
    let rows: String = (0..1024).map(|row| format!("{row:04}\tv\n")).collect();
    stdin.write_all(rows.as_bytes()).expect("the load reads");
    wait_for("1024 stored rows", Duration::from_secs(20), || {
        let rows = cluster.dump().split(|byte| *byte == b'\n').count() - 1;
        if rows == 1024 { Ok(()) } else { Err(format!("{rows} rows")) }
    });
    load.signal("INT");
    let status = load.wait(Duration::from_secs(20)).expect("it ends");
    assert_eq!(status.code(), Some(3));
    let stderr = load.stderr();
    assert!(stderr.contains("1024 rows are stored, and 0 more may be"), "{stderr}");
}

#[test]
fn many_keys_are_deleted_only_if_that_is_confirmed() {
    let cluster = Cluster::start(1, "96MiB");
    load(&cluster, b"a/1\t1\na/2\t2\nb\t3\nc\t4\n").ok();
    for line in [&["kv", "delete", "--prefix", "a/"][..], &["kv", "delete", "--range", "", ""]] {
        cluster.run(line).expect_code(2).expect_stderr(&["--yes"]);
    }
    let deleted = cluster.run(&["kv", "delete", "--prefix", "a/", "--yes", "-o", "json"]).ok();
    assert_eq!(deleted.json()["deleted"], true);
    assert_eq!(cluster.dump(), b"b\t3\nc\t4\n");
    cluster.run(&["kv", "delete", "--range", "c", "", "--yes"]).ok();
    assert_eq!(cluster.run(&["kv", "delete", "x", "-o", "json"]).ok().json()["deleted"], true);
    assert_eq!(cluster.dump(), b"b\t3\n");
    let file = cluster.scratch().join("value");
    fs::write(&file, b"\x00two\nlines").expect("the scratch directory can be written");
    cluster.run(&["kv", "put", "f", "--file", &file.display().to_string()]).ok();
    assert_eq!(cluster.run(&["kv", "get", "f", "--raw"]).ok().stdout, b"\x00two\nlines");
    cluster.run(&["kv", "put", "f", "--file", "/no/such/file"]).expect_code(2);
}

#[test]
fn a_range_that_ends_before_it_starts_is_refused() {
    let cluster = Cluster::start(1, "96MiB");
    cluster.run(&["kv", "put", "m", "1"]).ok();
    cluster.run(&["kv", "scan", "z", "a"]).expect_code(2).expect_stderr(&["START", "END"]);
    assert_eq!(cluster.run(&["kv", "scan", "m", "m"]).ok().text(), "");
    assert_eq!(cluster.run(&["kv", "scan", "a", "z"]).ok().text(), "m\t1");
    assert_eq!(cluster.run(&["kv", "scan", "--limit", "0"]).code, 2);
}

#[test]
fn what_does_not_exist_is_absent_and_not_an_outage() {
    let cluster = Cluster::start(1, "96MiB");
    cluster.run(&["kv", "put", "key", "one"]).ok();
    cluster.run(&["kv", "get", "nothing"]).expect_code(1).expect_stderr(&["absent"]);
    let other = cluster.run(&["kv", "cas", "key", "two", "three"]).expect_code(1);
    assert_eq!(other.text(), "one");
    cluster.run(&["kv", "cas", "key", "--absent", "two"]).expect_code(1);
    cluster.run(&["kv", "cas", "key", "one", "two"]).ok();
    cluster.run(&["kv", "cas", "key", "two", "--delete"]).ok();
    cluster.run(&["kv", "cas", "key", "--absent", "three"]).ok();
    assert_eq!(cluster.run(&["kv", "get", "key"]).ok().text(), "three");
    for line in [
        &["ctl", "store", "show", "99"][..],
        &["ctl", "store", "drain", "99"],
        &["ctl", "store", "remove", "99"],
        &["ctl", "region", "show", "99"],
        &["ctl", "region", "explain", "99"],
        &["ctl", "operator", "show", "99"],
        &["ctl", "scheduler", "explain", "99"],
        &["ctl", "region", "split", "99"],
        &["ctl", "operator", "cancel", "99"],
        &["ctl", "pd", "remove", "99"],
        &["ctl", "pd", "transfer-leader", "99"],
    ] {
        cluster.run(line).expect_code(1).expect_stderr(&["99"]);
    }
}

#[test]
fn a_placement_driver_that_is_not_there_is_named() {
    let nobody = format!("127.0.0.1:{}", free_port());
    for line in [&["kv", "get", "key"][..], &["kv", "put", "k", "v"], &["ctl", "cluster", "status"]]
    {
        command::run(&[line, &["--pd", &nobody]].concat())
            .expect_code(3)
            .expect_stderr(&["error: ", &nobody]);
    }
    for line in [
        &["kv", "get", "key", "--pd", "nonsense"][..],
        &["playground", "--pds", "2"],
        &["pd", "--id", "1", "--dir", "x", "--addr", "h:1", "--peer", "2=h:2"],
        &["pd", "--id", "1", "--dir", "x", "--addr", "h:1", "--peer", "1=h:1", "--peer", "1=h:2"],
        &["pd", "--id", "1", "--dir", "x", "--addr", "h:1", "--peer", "1=h:1", "--join", "h:2"],
        &["pd", "--id", "1", "--dir", "x", "--addr", "h:1", "--peer", "0=h:1"],
        &["store", "--dir", "x", "--addr", "h:1", "--region-bytes", "many"],
    ] {
        command::run(line).expect_code(2);
    }
}

#[test]
fn a_reader_that_closes_the_pipe_ends_a_dump_quietly() {
    let cluster = Cluster::start(1, "96MiB");
    cluster.run(&["kv", "load", &data::path().display().to_string()]).ok();
    let line = format!("'{}' kv dump --pd {} | head -1", flotilla().display(), cluster.pd_addr());
    let output = Command::new("sh").args(["-c", &line]).output().expect("sh can be started");
    assert!(output.stdout.starts_with(b"#\t"), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_directory_of_another_cluster_or_server_is_refused() {
    let mut one = Cluster::start(2, "96MiB");
    let other = Cluster::start(1, "96MiB");
    let scratch = one.scratch().to_path_buf();

    // While its owner runs, nobody else may open a directory.
    let elsewhere = format!("127.0.0.1:{}", free_port());
    let in_use = with_option(one.store_args(0), "--addr", &elsewhere);
    refused(&scratch, &in_use, &["store0"]);

    one.kill_all_stores();
    let foreign = with_option(one.store_args(0), "--pd", other.pd_addr());
    refused(&scratch, &foreign, &["store0", "cluster"]);

    one.kill_pd();
    let dir = one.pd_dir().display().to_string();
    let args = ["pd", "--id", "2", "--dir", &dir, "--addr", &elsewhere].map(String::from);
    refused(&scratch, &args, &["pd"]);

    // Each role refuses the other's directory, and leaves it as it was.
    let (pd_dir, store_dir) = (one.pd_dir(), one.store_dir(0));
    let before = (contents(&pd_dir), contents(&store_dir));
    let store_in_pd = with_option(one.store_args(0), "--dir", &dir);
    refused(&scratch, &store_in_pd, &["'flotilla pd 1'", "'flotilla store'", "--dir"]);
    let dir = store_dir.display().to_string();
    let pd_in_store = ["pd", "--id", "1", "--dir", &dir, "--addr", &elsewhere].map(String::from);
    refused(&scratch, &pd_in_store, &["'flotilla store'", "'flotilla pd 1'", "--dir"]);
    assert!(before == (contents(&pd_dir), contents(&store_dir)), "a refusal changed a file");

    // What was refused has spoilt nothing.
    one.start_all();
    one.wait_healthy();
}

#[test]
fn a_directory_of_another_program_is_refused_and_left_as_it_is() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("home");
    fs::create_dir(&dir).expect("a directory can be created");
    fs::write(dir.join("notes.txt"), "mine").expect("a file can be written");
    let before = contents(&dir);
    let name = dir.display().to_string();
    let pd = ["pd", "--id", "1", "--dir", &name, "--addr", "127.0.0.1:0"].map(String::from);
    let store = ["store", "--dir", &name, "--addr", "127.0.0.1:0"].map(String::from);
    for args in [&pd[..], &store] {
        refused(scratch.path(), args, &[&name, "'notes.txt'", "empty directory"]);
        assert_eq!(contents(&dir), before);
    }
}

#[test]
fn a_server_that_listens_everywhere_is_told_so_and_what_others_are_to_call() {
    let cluster = Cluster::start(1, "96MiB");
    let fresh = cluster.scratch().join("fresh");
    let dir = fresh.display().to_string();
    let everywhere = with_option(cluster.store_args(0), "--addr", "0.0.0.0:0");
    let store = with_option(everywhere, "--dir", &dir);
    let pd = ["pd", "--id", "1", "--dir", &dir, "--addr", "[::]:0"].map(String::from);
    for args in [&store[..], &pd] {
        let words = ["without TLS", "loopback addresses only", "--tls-dir", "--insecure"];
        refused(cluster.scratch(), args, &words);
        let args = [args, &["--insecure".to_string()]].concat();
        let args = &args[..];
        refused(cluster.scratch(), args, &["all addresses of this machine", "--advertise-addr"]);
        assert!(!fresh.exists(), "nothing is made of the directory");
    }
}

/// A store's state beside another store's log: the log holds votes and entries of peers that never
/// lived here.
#[test]
fn a_log_of_another_store_is_refused() {
    let mut cluster = Cluster::start(3, "96MiB");
    cluster.kill_all_stores();
    let (mixed, donor) = (cluster.scratch().join("mixed"), cluster.store_dir(1));
    copy_dir(&cluster.store_dir(0), &mixed);
    for log in files(&mixed).iter().filter(|file| is_log(file)) {
        fs::remove_file(log).expect("a file can be removed");
    }
    for log in files(&donor).iter().filter(|file| is_log(file)) {
        let to = mixed.join(log.strip_prefix(&donor).expect("below it"));
        fs::copy(log, to).expect("a file can be copied");
    }
    let args = with_option(cluster.store_args(0), "--dir", &mixed.display().to_string());
    refused(cluster.scratch(), &args, &["mixed"]);
}

/// Starts a server that must refuse, naming all of `words`.
fn refused(scratch: &Path, args: &[String], words: &[&str]) {
    let mut process = Process::start("refused", scratch, args);
    let status = process.wait(REFUSAL_DEADLINE);
    let stderr = process.stderr();
    let status = status.unwrap_or_else(|| panic!("{args:?} was not refused: {stderr}"));
    assert_eq!(status.code(), Some(3), "{args:?}: {stderr}");
    process.assert_no_panic();
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no {word:?} in {stderr}");
    }
}

fn with_option(mut args: Vec<String>, option: &str, value: &str) -> Vec<String> {
    let at = args.iter().position(|arg| arg == option).expect("the option is given");
    args[at + 1] = value.to_string();
    args
}

/// Ways to damage a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Emptied,
    CutInHalf,
    FirstPageOverwritten,
    MiddleOverwritten,
}

impl Damage {
    const ALL: [Damage; 4] = [
        Damage::Emptied,
        Damage::CutInHalf,
        Damage::FirstPageOverwritten,
        Damage::MiddleOverwritten,
    ];

    fn apply(self, file: &Path) {
        let mut bytes = fs::read(file).expect("the file can be read");
        let middle = bytes.len() / 2;
        match self {
            Damage::Emptied => bytes.clear(),
            Damage::CutInHalf => bytes.truncate(middle),
            Damage::FirstPageOverwritten => bytes.iter_mut().take(4096).for_each(|b| *b = 0xa5),
            Damage::MiddleOverwritten => {
                bytes.iter_mut().skip(middle).take(16).for_each(|b| *b = 0xa5);
            }
        }
        fs::write(file, bytes).expect("the file can be written");
    }
}

/// Each damage to a file of one server, with the others whole: the server recovers and the cluster
/// becomes healthy, or it refuses to start and names the file or its directory. Either way no row
/// is lost and nothing panics.
#[test]
fn damaged_files_are_recovered_from_or_refused_by_name() {
    let mut cluster = Cluster::start(3, "96MiB");
    let rows: Vec<u8> = data::bytes().into_iter().take(200_000).collect();
    let end = rows.iter().rposition(|byte| *byte == b'\n').expect("whole rows") + 1;
    load(&cluster, &rows[..end]).ok();
    let expected = data::sorted(&rows[..end]);
    wait_for_followers(&mut cluster, &expected);
    cluster.kill_all();

    // Everything is put back before each damage: a single disk that goes back in time while the
    // others go on is more than Raft promises to survive.
    let dirs = [cluster.store_dir(0), cluster.store_dir(1), cluster.store_dir(2), cluster.pd_dir()];
    let whole = cluster.scratch().join("whole");
    for dir in &dirs {
        copy_dir(dir, &kept(&whole, dir));
    }
    for damaged in [&dirs[0], &dirs[3]] {
        for file in files(damaged).into_iter().filter(|file| is_worth_damaging(file)) {
            for damage in Damage::ALL {
                for dir in &dirs {
                    fs::remove_dir_all(dir).expect("a directory can be removed");
                    copy_dir(&kept(&whole, dir), dir);
                }
                damage.apply(&file);
                cluster.start_all();
                check_damaged(&mut cluster, &file, damage, &expected);
                cluster.kill_all();
            }
        }
    }
}

fn check_damaged(cluster: &mut Cluster, file: &Path, damage: Damage, expected: &[u8]) {
    let refusal = cluster.wait_healthy_or_ended();
    cluster.check_output();
    let case = format!("{damage:?} of {}", file.display());
    if let Some((status, stderr)) = &refusal {
        assert_eq!(status.code(), Some(3), "{case}: {stderr}");
        let dir = file.parent().expect("in a directory").display().to_string();
        let error = stderr.lines().find(|line| line.starts_with("error: "));
        let error = error.unwrap_or_else(|| panic!("{case}: no error line in {stderr}"));
        assert!(error.contains(&dir), "{case}: {error} does not name it");
    }
    println!("{case}: {}", if refusal.is_some() { "refused" } else { "recovered" });
    // Without PD no client finds the stores; its own file is put back for the next case.
    if refusal.is_none() || !file.starts_with(cluster.pd_dir()) {
        data::assert_same(&cluster.dump(), expected);
    }
}

/// Makes sure that all rows are on every store: with each store dead in turn, the other two serve.
fn wait_for_followers(cluster: &mut Cluster, expected: &[u8]) {
    for store in 0..3 {
        cluster.kill_store(store);
        data::assert_same(&cluster.dump(), expected);
        cluster.start_store(store);
        cluster.wait_healthy();
    }
}

fn kept(whole: &Path, dir: &Path) -> PathBuf {
    whole.join(dir.file_name().expect("a name"))
}

fn is_log(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "raftlog" || extension == "rewrite")
}

/// Small files hold locks or nothing yet.
fn is_worth_damaging(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.len() >= 512)
}

/// The files below a directory, and what is in them.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |file: PathBuf| (file.clone(), fs::read(&file).expect("the file can be read"));
    files(dir).into_iter().map(read).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_wrong_choice_of_logs_is_refused() {
    let run = |name: &str, value: &str| {
        let mut command = Command::new(flotilla());
        let nowhere = format!("127.0.0.1:{}", free_port());
        command.args(["gateway", "--addr", "192.0.2.1:1", "--pd", &nowhere]).env(name, value);
        let output = command.output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (name, value) in [
        ("FLOTILLA_LOG", "inof"),
        ("FLOTILLA_LOG", "flotilla_store=loud"),
        ("FLOTILLA_LOG_FORMAT", "xml"),
    ] {
        let (code, stderr) = run(name, value);
        assert_eq!(code, Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with(&format!("error: {name}={value}")), "{stderr}");
    }
}
