//! Counts the fsync and fdatasync calls of processes, with `perf stat` on the kernel's tracepoints.
//!
//! The count is exact and cheap, and both systems under test pay the same for the tracepoints.
//! `perf` attaches some 50 ms after its start, so it misses about half a percent of a window of
//! 10 s. Without `perf`, or without the right to trace, there is no count.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Server, find_program};

/// All calls by which either system makes data durable.
const EVENTS: &str = "syscalls:sys_enter_fdatasync,syscalls:sys_enter_fsync";

/// How long perf may take to write its result.
const RESULT_TIMEOUT: Duration = Duration::from_secs(3);

/// A count under way.
#[derive(Debug)]
pub struct FsyncCounter {
    perf: Server,
    result: PathBuf,
}

impl FsyncCounter {
    /// Begins to count the calls of `pids`; None if that is not possible here.
    pub fn start(pids: &[u32], dir: &Path) -> Option<FsyncCounter> {
        let program = find_program("perf")?;
        let result = dir.join("perf-stat.csv");
        // A result of an earlier count must not pass for this one's.
        let _ = fs::remove_file(&result);
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let mut command = Command::new(program);
        command.args(["stat", "-x", ",", "-e", EVENTS, "-p", &pids.join(",")]);
        command.arg("-o").arg(&result);
        let perf = Server::start("perf", &mut command, dir).ok()?;
        Some(FsyncCounter { perf, result })
    }

    /// Ends the count.
    pub fn stop(&mut self) {
        self.perf.signal(Signal::INT);
    }

    /// The calls counted; None if perf could not count.
    pub async fn count(mut self) -> Option<u64> {
        self.perf.ended_by(Instant::now() + RESULT_TIMEOUT).await;
        parse(&fs::read_to_string(&self.result).ok()?)
    }
}

/// The sum of both events' counts. Each line is `count,unit,event,...`; None unless both are there
/// and are numbers (perf writes `<not supported>` and the like).
fn parse(result: &str) -> Option<u64> {
    let count = |event: &str| -> Option<u64> {
        let line = result.lines().find(|line| line.split(',').nth(2) == Some(event))?;
        line.split(',').next()?.parse().ok()
    };
    EVENTS.split(',').map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_events_must_have_been_counted() {
        let good = "# started on Mon\n\n12,,syscalls:sys_enter_fdatasync,417147606,100.00,,\n\
                    3,,syscalls:sys_enter_fsync,417147426,100.00,,\n";
        assert_eq!(parse(good), Some(15));
        assert_eq!(parse(&good.replace("12,", "<not counted>,")), None);
        assert_eq!(parse(good.lines().take(3).collect::<Vec<_>>().join("\n").as_str()), None);
        assert_eq!(parse(""), None);
    }
}
