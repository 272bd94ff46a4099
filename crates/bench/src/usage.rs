//! The resources that processes have used, from Linux's `/proc`. On other systems every figure is
//! None.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The resources that one process, or several together, have used since their start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Bytes written to disk, counted when a page is dirtied; None if the system does not count
    /// them.
    pub write_bytes: Option<u64>,
    /// Resident memory at present.
    pub rss_bytes: u64,
}

impl Usage {
    /// The usage of one process; None if there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> Option<Usage> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let cpu = cpu(&read("stat")?)?;
        let write_bytes = read("io").and_then(|io| field(&io, "write_bytes:"));
        let rss_bytes = field(&read("status")?, "VmRSS:")? * 1024;
        Some(Usage { cpu, write_bytes, rss_bytes })
    }

    /// The usage of several processes together; None if one of them has ended.
    pub fn of_all(pids: &[u32]) -> Option<Usage> {
        let mut sum = Usage { write_bytes: Some(0), ..Usage::default() };
        for pid in pids {
            let usage = Usage::of(*pid)?;
            sum.cpu += usage.cpu;
            sum.rss_bytes += usage.rss_bytes;
            sum.write_bytes =
                sum.write_bytes.zip(usage.write_bytes).map(|(sum, bytes)| sum + bytes);
        }
        Some(sum)
    }
}

impl Sub for Usage {
    type Output = Usage;

    /// The usage since `earlier`; the memory is the present one.
    fn sub(self, earlier: Usage) -> Usage {
        let written = self.write_bytes.zip(earlier.write_bytes);
        Usage {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            write_bytes: written.map(|(now, then)| now.saturating_sub(then)),
            rss_bytes: self.rss_bytes,
        }
    }
}

/// CPU time of this process; zero where it is unknown.
pub fn own_cpu() -> Duration {
    fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu(&stat)).unwrap_or_default()
}

/// Fields 14 and 15 of `/proc/PID/stat`. The name, field 2, is in parentheses and may hold
/// anything, parentheses included.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// The number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let fields = "R 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        let per_second = rustix::param::clock_ticks_per_second();
        for name in ["flotilla", "a) b (c", ") R 1"] {
            let cpu = cpu(&format!("7 ({name}) {fields}")).expect("parses");
            assert_eq!(cpu, Duration::from_secs_f64(200.0 / per_second as f64), "{name}");
        }
        assert_eq!(cpu("7 (cut off) R 1"), None);
    }

    #[test]
    fn usage_of_this_process_is_known_and_that_of_none_is_not() {
        let own = Usage::of(std::process::id()).expect("this process lives");
        assert!(own.rss_bytes > 1024 * 1024);
        assert_eq!(Usage::of_all(&[std::process::id(), u32::MAX]), None);
    }

    #[test]
    fn what_is_not_known_of_one_is_not_known_of_the_difference() {
        let now = Usage { write_bytes: Some(10), ..Usage::default() };
        let then = Usage { write_bytes: Some(4), ..Usage::default() };
        assert_eq!((now - then).write_bytes, Some(6));
        assert_eq!((now - Usage::default()).write_bytes, None);
    }
}
