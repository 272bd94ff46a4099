//! One server: its place on the network and the disk, and its process while there is one.
//!
//! A process is ended by its own id, and never outlives this value.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

/// How often the end of a process is looked for.
const END_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How long a server that was told to stop may take: longer than its own limit.
const STOP_MAX: Duration = Duration::from_secs(15);

/// A server, whether or not it runs.
pub struct Server {
    /// Its name in logs, links and faults.
    pub name: String,
    /// Where it listens.
    pub addr: String,
    /// Where it serves the HTTP API.
    pub http: String,
    /// Its data directory.
    pub dir: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    run: Mutex<Run>,
}

/// What a server's next process is started with, and the one that runs.
struct Run {
    binary: PathBuf,
    env: Vec<(String, String)>,
    process: Option<Child>,
    /// Its end is awaited by whoever ends it.
    is_ending: bool,
    /// Its disk is lost, and it is never started again.
    is_retired: bool,
    peak: Usage,
}

/// What processes of a server have held at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Memory that was resident.
    pub memory_bytes: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Server {
    /// A server that does not run yet, in a directory of this name under `root`.
    pub fn new(root: &Path, name: String, (addr, http): (String, String), binary: &Path) -> Server {
        let run = Run {
            binary: binary.to_path_buf(),
            env: vec![],
            process: None,
            is_ending: false,
            is_retired: false,
            peak: Usage::default(),
        };
        let dir = root.join("data").join(&name);
        let log = root.join("logs").join(format!("{name}.log"));
        Server { name, addr, http, dir, args: vec![], log, run: Mutex::new(run) }
    }

    /// What it is started with, beside its addresses and its directory.
    pub fn with_args(mut self, role: &str, args: &[String]) -> Server {
        let dir = self.dir.display().to_string();
        let own = [role, "--dir", &dir, "--addr", &self.addr, "--http-addr", &self.http];
        self.args = [own.map(String::from).to_vec(), args.to_vec()].concat();
        self
    }

    /// Starts it on its directory and addresses.
    pub fn start(&self) -> io::Result<()> {
        let mut run = self.lock();
        if run.process.is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&run.binary);
        command.args(&self.args).env_remove("FLOTILLA_PD").env_remove("FLOTILLA_DIAL");
        command.env("FLOTILLA_LOG", "info").envs(run.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        run.process = Some(command.spawn()?);
        run.is_ending = false;
        Ok(())
    }

    /// From the next start on, this binary.
    pub fn set_binary(&self, binary: &Path) {
        self.lock().binary = binary.to_path_buf();
    }

    /// The binary of the next start.
    pub fn binary(&self) -> PathBuf {
        self.lock().binary.clone()
    }

    /// From the next start on, these variables beside the usual ones.
    pub fn set_env(&self, env: Vec<(String, String)>) {
        self.lock().env = env;
    }

    /// kill -9, and waits until it is gone. None if it did not run.
    pub fn kill(&self) -> Option<ExitStatus> {
        let mut run = self.lock();
        let mut process = run.process.take()?;
        // An error means that it has ended by itself.
        let _ = process.kill();
        process.wait().ok()
    }

    /// Sends a signal; false if it does not run.
    pub fn signal(&self, signal: Signal) -> bool {
        let run = self.lock();
        let pid = run.process.as_ref().and_then(|process| Pid::from_raw(process.id() as i32));
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// True if its process is stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        let run = self.lock();
        let Some(process) = run.process.as_ref() else { return false };
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        state == Some('T')
    }

    /// SIGTERM, and waits for the end: how it ended and after how long. A server that does not end
    /// in time is killed; then there is no status.
    pub async fn terminate(&self) -> (Option<ExitStatus>, Duration) {
        let began = Instant::now();
        self.lock().is_ending = true;
        self.signal(Signal::TERM);
        while began.elapsed() < STOP_MAX {
            let ended = self.take_ended();
            if ended.is_some() || !self.runs() {
                return (ended, began.elapsed());
            }
            sleep(END_POLL_INTERVAL).await;
        }
        self.kill();
        (None, began.elapsed())
    }

    /// True while there is a process that nobody has seen end.
    pub fn runs(&self) -> bool {
        self.lock().process.is_some()
    }

    /// How the process ended, if it did and nobody ended it.
    pub fn ended_by_itself(&self) -> Option<ExitStatus> {
        if self.lock().is_ending { None } else { self.take_ended() }
    }

    /// Its directory is removed; it is no part of the cluster any more.
    pub fn retire(&self) -> io::Result<()> {
        self.lock().is_retired = true;
        fs::remove_dir_all(&self.dir)
    }

    /// True once its disk is lost.
    pub fn is_retired(&self) -> bool {
        self.lock().is_retired
    }

    /// Whether its end is awaited from now on, and so no surprise.
    pub fn expect_end(&self, is_expected: bool) {
        self.lock().is_ending = is_expected;
    }

    /// How its process ended, if it has; whoever asks has expected it.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.take_ended()
    }

    fn take_ended(&self) -> Option<ExitStatus> {
        let mut run = self.lock();
        let status = run.process.as_mut()?.try_wait().ok()??;
        run.process = None;
        Some(status)
    }

    /// Looks at what the process holds now, and answers the most so far.
    pub fn usage(&self) -> Usage {
        let mut run = self.lock();
        if let Some(process) = &run.process {
            let now = usage(process.id());
            let peak = &mut run.peak;
            peak.memory_bytes = peak.memory_bytes.max(now.memory_bytes);
            peak.descriptors = peak.descriptors.max(now.descriptors);
        }
        run.peak
    }

    /// All that its processes have logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn usage(pid: u32) -> Usage {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    Usage { memory_bytes: kib.unwrap_or(0) * 1024, descriptors }
}

/// An exit status in words: a signal or a code.
pub fn in_words(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("status {code}"),
        (None, None) => "an unknown status".into(),
    }
}
