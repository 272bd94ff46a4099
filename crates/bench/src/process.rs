//! Child processes: started with a log file of their own, stopped by their pid, never left behind.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{BenchError, Result};

/// How long a server may take to stop on SIGTERM before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a stopping server is polled.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How much of a dead server's log is shown.
const LOG_TAIL_BYTES: usize = 600;

/// A server process. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command`; what it prints goes to `dir/name.log`.
    ///
    /// # Errors
    /// [`BenchError::Io`] if it cannot be started.
    pub fn start(name: &str, command: &mut Command, dir: &Path) -> Result<Server> {
        let program = command.get_program().to_string_lossy().into_owned();
        let what = format!("start {name} ({program})");
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log).map_err(BenchError::io(what.as_str()))?;
        let errors = output.try_clone().map_err(BenchError::io(what.as_str()))?;
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.map_err(BenchError::io(what))?;
        Ok(Server { name: name.to_string(), child, log })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the server has ended, with the end of its log.
    ///
    /// # Errors
    /// [`BenchError::Target`].
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let tail = log.len().saturating_sub(LOG_TAIL_BYTES);
                let tail = log.get(tail..).unwrap_or(&log).trim().to_string();
                Err(BenchError::target(format!("{} ended ({status})", self.name), tail))
            }
            Ok(None) => Ok(()),
            Err(error) => Err(BenchError::Io { what: format!("look at {}", self.name), error }),
        }
    }

    /// Sends SIGTERM and waits; kills the server if it does not stop in time.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            tokio::time::sleep(STOP_POLL_INTERVAL).await;
        }
    }

    /// Sends a signal to the process. The pid is still the child's, which has not been waited for.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may end at this moment; then there is nobody left to tell.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Waits until `deadline` for the process to end by itself; true if it has.
    pub(crate) async fn ended_by(&mut self, deadline: Instant) -> bool {
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(STOP_POLL_INTERVAL).await;
        }
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if the process has ended and was waited for: then all is done.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Loopback addresses with ports that are free at this moment, all different.
///
/// # Errors
/// [`BenchError::Io`] if the system gives none.
pub fn free_addresses(count: usize) -> Result<Vec<String>> {
    let what = "find free ports on 127.0.0.1";
    // All are held until all are known; a port just given back is not given out again soon.
    let held: std::io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect();
    let held = held.map_err(BenchError::io(what))?;
    let address = |listener: &TcpListener| listener.local_addr().map(|addr| addr.to_string());
    held.iter().map(address).collect::<std::io::Result<_>>().map_err(BenchError::io(what))
}

/// The program called `name` in the directories of PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(dir: &Path, program: &str, argument: &str) -> Server {
        let mut command = Command::new(program);
        Server::start("child", command.arg(argument), dir).expect("coreutils are there")
    }

    fn lives(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn a_server_is_stopped_or_killed_and_never_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut server = start(dir.path(), "sleep", "600");
        let pid = server.pid();
        server.check_alive().expect("it sleeps");
        server.stop().await;
        assert!(!lives(pid));
        let dropped = start(dir.path(), "sleep", "600");
        let pid = dropped.pid();
        drop(dropped);
        assert!(!lives(pid));
    }

    #[tokio::test]
    async fn a_server_that_ends_is_noticed_with_its_last_words() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut server = start(dir.path(), "ls", "/no/such/place");
        assert!(server.ended_by(Instant::now() + STOP_TIMEOUT).await);
        let error = server.check_alive().expect_err("ls ends").to_string();
        assert!(error.contains("child ended") && error.contains("/no/such/place"), "{error}");
    }

    #[test]
    fn ports_differ_and_programs_are_found() {
        let mut addresses = free_addresses(20).expect("ports");
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 20);
        assert!(find_program("sh").is_some() && find_program("no such program").is_none());
    }
}
