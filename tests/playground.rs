//! The playground: the first thing that a new user runs.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use flotilla_tests::binary::{flotilla, workspace};
use flotilla_tests::{Process, command, free_port, http};

/// A cold start that takes longer has hung; the figure is printed.
const START_DEADLINE: Duration = Duration::from_secs(60);

const STOP_DEADLINE: Duration = Duration::from_secs(20);

struct Playground {
    process: Process,
    pd: String,
    logs: tempfile::TempDir,
}

impl Playground {
    fn start(more: &[&str]) -> Playground {
        let logs = tempfile::tempdir().expect("a temporary directory");
        let port = free_port().to_string();
        let args = [&["playground", "--pd-port", &port, "--http-port", "0"], more].concat();
        let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        let start = Instant::now();
        let mut process = Process::start("playground", logs.path(), &args);
        process.wait_for_line("ready", START_DEADLINE);
        println!("playground {more:?}: ready after {:?}", start.elapsed());
        Playground { process, pd: format!("127.0.0.1:{port}"), logs }
    }

    fn printed(&self) -> String {
        String::from_utf8_lossy(&self.process.stdout()).into_owned()
    }

    /// The directory that it says its data is in.
    fn data_dir(&self) -> String {
        let printed = self.printed();
        let line = printed.lines().find_map(|line| line.strip_prefix("data "));
        line.unwrap_or_else(|| panic!("no data directory in {printed}")).trim().to_string()
    }

    fn stop(mut self, signal: &str) {
        self.process.signal(signal);
        let status = self.process.wait(STOP_DEADLINE).expect("it stops in time");
        assert!(status.success(), "{status}: {}", self.process.stderr());
        self.process.assert_no_panic();
        assert!(self.logs.path().exists());
    }
}

#[test]
fn a_new_playground_says_ready_and_ctrl_c_leaves_nothing_behind() {
    let playground = Playground::start(&[]);
    let printed = playground.printed();
    assert!(printed.contains(&playground.pd), "PD's address is printed: {printed}");
    assert_eq!(printed.lines().filter(|line| line.starts_with("store ")).count(), 3, "{printed}");
    let http = printed.lines().find_map(|line| line.strip_prefix("http     http://"));
    let http = http.unwrap_or_else(|| panic!("no HTTP API in {printed}"));
    http::request(http, "PUT /v1/kv/apple", &[], b"red").expect("an answer").expect(204);
    let read = http::request(http, "GET /v1/kv/apple", &[], b"").expect("an answer").expect(200);
    assert_eq!(read.body, b"red");
    let status = command::run(&["ctl", "cluster", "status", "-o", "json", "--pd", &playground.pd]);
    let status = status.ok().json();
    assert_eq!((&status["healthy"], &status["stores"]), (&true.into(), &3.into()), "{status}");
    let data = playground.data_dir();
    assert!(fs::exists(&data).expect("readable"), "{data}");
    playground.stop("INT");
    assert!(!fs::exists(&data).expect("readable"), "{data} is left behind");
}

#[test]
fn a_playground_with_a_directory_comes_back_with_its_rows() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("kept").display().to_string();
    let playground = Playground::start(&["--dir", &dir]);
    command::run(&["kv", "put", "apple", "red", "--pd", &playground.pd]).ok();
    playground.stop("TERM");
    let playground = Playground::start(&["--dir", &dir]);
    let read = command::run(&["kv", "get", "apple", "--pd", &playground.pd]).ok();
    assert_eq!(read.text(), "red");
    playground.stop("INT");
}

/// One command of the README's session, and what it says the command prints (None: it does not).
struct Typed {
    line: String,
    prints: Option<String>,
}

#[test]
fn the_session_in_the_readme_works_as_typed() {
    let session = readme_session();
    assert!(session.len() >= 5, "{} commands found in the README", session.len());
    let playground = Playground::start(&[]);
    let bin = flotilla().parent().expect("in a directory").display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    for typed in session {
        let output = Command::new("sh")
            .args(["-c", &typed.line])
            .current_dir(workspace())
            .env("PATH", &path)
            .env("FLOTILLA_PD", &playground.pd)
            .output()
            .expect("sh can be started");
        assert!(output.status.success(), "{}: {output:?}", typed.line);
        if let Some(prints) = typed.prints {
            let printed = String::from_utf8_lossy(&output.stdout);
            assert_eq!(printed.trim_end(), prints, "{}", typed.line);
        }
    }
    playground.stop("INT");
}

/// The block of the README marked `console`: `$` in front of what is typed, then what it prints.
fn readme_session() -> Vec<Typed> {
    let readme = fs::read_to_string(workspace().join("README.md")).expect("there is a README");
    let block = readme.split("```console\n").nth(1).expect("the README has a console block");
    let block = block.split("```").next().expect("the block ends");
    let mut session: Vec<Typed> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), session.last_mut()) {
            (Some(typed), _) => session.push(Typed { line: typed.into(), prints: None }),
            (None, Some(last)) => {
                let before = last.prints.take().map(|text| text + "\n").unwrap_or_default();
                last.prints = Some(before + line);
            }
            (None, None) => panic!("the session begins with what is printed: {line}"),
        }
    }
    session
}
