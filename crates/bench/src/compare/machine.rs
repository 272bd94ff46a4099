//! The machine that a comparison ran on: figures mean nothing without it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::error::{BenchError, Result};

/// Serial writes that measure the device: enough for a median, done within a second or two.
const PROBE_WRITES: usize = 500;

/// Bytes of each.
const PROBE_BYTES: usize = 4096;

/// The machine and its moment.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Seconds since 1970.
    pub unix_time_s: u64,
    /// Processors this process may use.
    pub cores: usize,
    /// The processor's name.
    pub cpu: String,
    /// Memory.
    pub memory_bytes: u64,
    /// The kernel's version.
    pub kernel: String,
    /// Other processes wanted this many processors in the minute before the start.
    pub load_average: String,
    /// Median of serial 4 KiB appends, each with fdatasync, where the servers' data will be. A few
    /// microseconds mean a disk that does not make data durable, such as tmpfs.
    pub fdatasync_us: f64,
}

impl Machine {
    /// Looks at the machine and measures the disk under `dir`.
    ///
    /// # Errors
    /// [`BenchError::Io`] if `dir` cannot be written to.
    pub fn measure(dir: &Path) -> Result<Machine> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let what = format!("write to {}", dir.display());
        Ok(Machine {
            unix_time_s: now.as_secs(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: named(&read("/proc/cpuinfo"), "model name"),
            memory_bytes: kibibytes(&named(&read("/proc/meminfo"), "MemTotal")) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or_default().into(),
            fdatasync_us: probe(dir).map_err(BenchError::io(what))?,
        })
    }
}

fn probe(dir: &Path) -> std::io::Result<f64> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut micros = Vec::new();
    for _ in 0..PROBE_WRITES {
        let start = Instant::now();
        file.write_all(&[7; PROBE_BYTES])?;
        file.sync_data()?;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    Ok(micros[PROBE_WRITES / 2].round())
}

/// What follows `name` and a colon; empty if the line is not there.
fn named(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim()).to_string()
}

fn kibibytes(text: &str) -> u64 {
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_known() {
        let dir = tempfile::tempdir().expect("a directory");
        let machine = Machine::measure(dir.path()).expect("it can be written to");
        assert!(machine.cores > 0 && machine.memory_bytes > 1 << 20, "{machine:?}");
        assert!(Machine::measure(Path::new("/no/such/directory")).is_err());
    }

    #[test]
    fn lines_are_found_by_name() {
        assert_eq!(kibibytes(&named("A: 1 kB\nMemTotal:   24 kB\n", "MemTotal")), 24);
        assert_eq!(named("", "MemTotal"), "");
    }
}
