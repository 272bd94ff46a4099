//! A child process that does not outlive its owner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::binary;
use crate::wait::wait_for;

/// How often the end of a process is looked for; short, for times are measured with it.
const END_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Lines of a process's stderr that a failed test shows.
const TAIL_LINES: usize = 40;

/// A running `flotilla`. Its stdout and stderr go to files. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// A file that a process writes to, and where in it the process began.
struct Output {
    path: PathBuf,
    begin: usize,
}

impl Process {
    /// Starts `flotilla ARGS`; `name` tells its output files in `logs` from others. A process of
    /// the same name writes on where the last one ended, and each reads its own part only.
    pub fn start(name: &str, logs: &Path, args: &[String]) -> Process {
        Process::start_with_stdin(name, logs, args, Stdio::null())
    }

    /// [`Process::start`] with so many descriptors.
    pub fn start_limited(name: &str, logs: &Path, args: &[String], descriptors: usize) -> Process {
        let mut limited = Command::new("sh");
        let line = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        limited.args(["-c", &line]).arg(binary::flotilla()).args(args).stdin(Stdio::null());
        Process::spawn(name, logs, limited)
    }

    /// [`Process::start`] with something to read.
    pub fn start_with_stdin(name: &str, logs: &Path, args: &[String], stdin: Stdio) -> Process {
        let mut command = Command::new(binary::flotilla());
        command.args(args).stdin(stdin);
        Process::spawn(name, logs, command)
    }

    /// [`Process::start`], with what `filter` says in its log, which is what it writes to stderr.
    pub fn start_logging(name: &str, logs: &Path, args: &[String], filter: &str) -> Process {
        let mut command = Command::new(binary::flotilla());
        command.args(args).env("FLOTILLA_LOG", filter).stdin(Stdio::null());
        Process::spawn(name, logs, command)
    }

    fn spawn(name: &str, logs: &Path, mut command: Command) -> Process {
        let stdout = Output::new(logs.join(format!("{name}.stdout")));
        let stderr = Output::new(logs.join(format!("{name}.stderr")));
        let child = command
            .stdout(stdout.open())
            .stderr(stderr.open())
            .spawn()
            .expect("the binary under test can be started");
        Process { name: name.to_string(), child, stdout, stderr }
    }

    /// The operating system's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The writing end of the process's stdin, once, if it was started with a pipe.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// The exit status if the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for the end; None if `deadline` passes first.
    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            match self.ended() {
                Some(status) => return Some(status),
                None if start.elapsed() > deadline => return None,
                None => thread::sleep(END_POLL_INTERVAL),
            }
        }
    }

    /// kill -9, and waits for the process to be gone.
    pub fn kill(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends the signal of this name, such as INT or TERM.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// The most that the process has held of memory, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("the process lives");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number") * 1024
    }

    /// Everything written to stdout so far.
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.read()
    }

    /// Everything written to stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.read()).into_owned()
    }

    /// Waits until stdout has a line equal to `line`.
    pub fn wait_for_line(&mut self, line: &str, deadline: Duration) {
        let what = format!("{} to print the line {line:?}", self.name);
        wait_for(&what, deadline, || {
            let printed = String::from_utf8_lossy(&self.stdout()).into_owned();
            if printed.lines().any(|printed| printed == line) {
                return Ok(());
            }
            if let Some(status) = self.ended() {
                panic!("{} ended with {status}: {}", self.name, self.stderr());
            }
            Err(format!("stdout {printed:?}, stderr ends {:?}", tail(&self.stderr())))
        });
    }

    /// Fails if the process reported a panic.
    pub fn assert_no_panic(&self) {
        let stderr = self.stderr();
        assert!(!stderr.contains("panicked at"), "{} panicked:\n{stderr}", self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- last of what {} wrote to stderr:\n{}", self.name, tail(&self.stderr()));
        }
    }
}

impl Output {
    fn new(path: PathBuf) -> Output {
        let begin = fs::metadata(&path).map_or(0, |meta| meta.len() as usize);
        Output { path, begin }
    }

    fn open(&self) -> File {
        let file = File::options().create(true).append(true).open(&self.path);
        file.expect("an output file can be opened")
    }

    fn read(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap_or_default().split_off(self.begin)
    }
}

/// Sends the signal of this name to the process with this id.
pub fn signal(pid: u32, name: &str) {
    // The shell's own kill, for sending a signal otherwise takes unsafe code.
    let line = format!("kill -{name} {pid}");
    let status = Command::new("sh").args(["-c", &line]).status().expect("sh can be started");
    assert!(status.success(), "{line}: {status}");
}

/// How many descriptors this process may have open.
pub fn descriptors_max() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").expect("limits can be read");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let soft = line.split_whitespace().nth(3).expect("a number");
    soft.parse().unwrap_or(usize::MAX)
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
