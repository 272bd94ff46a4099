//! What every process has, as Linux tells it: memory, descriptors, processor time, its start.
//!
//! Read when it is told. What cannot be read is not told.

use std::fs;

use crate::registry::Registry;

/// Ticks in a second of what `/proc` counts; the same on every Linux since 2.6.
const TICKS_PER_SECOND: f64 = 100.0;

/// Fields of `/proc/self/stat` after the name, which may hold anything.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const THREADS: usize = 17;
const START_TICKS: usize = 19;
const VIRTUAL_BYTES: usize = 20;
const RESIDENT_PAGES: usize = 21;

/// Registers the process's own series, under the names that all exporters use.
pub fn register(registry: &Registry) {
    registry.computed(
        "process_resident_memory_bytes",
        "Resident memory of the process",
        &[],
        resident_bytes,
    );
    registry.computed("process_virtual_memory_bytes", "Virtual memory of the process", &[], || {
        stat(VIRTUAL_BYTES)
    });
    registry.computed(
        "process_cpu_seconds_total",
        "Processor time that the process took, of user and system",
        &[],
        || (stat(USER_TICKS) + stat(SYSTEM_TICKS)) / TICKS_PER_SECOND,
    );
    registry.computed("process_threads", "Threads of the process", &[], || stat(THREADS));
    let started = booted_at() + stat(START_TICKS) / TICKS_PER_SECOND;
    registry.computed(
        "process_start_time_seconds",
        "When the process started, in seconds since 1970",
        &[],
        move || started,
    );
    registry.computed("process_open_fds", "Open descriptors of the process", &[], || {
        fs::read_dir("/proc/self/fd").map_or(f64::NAN, |entries| entries.count() as f64)
    });
    registry.computed("process_max_fds", "Descriptors that the process may open", &[], max_fds);
}

/// Resident memory of the process; NaN if it is not known.
pub fn resident_bytes() -> f64 {
    stat(RESIDENT_PAGES) * rustix::param::page_size() as f64
}

/// A field of `/proc/self/stat`.
fn stat(field: usize) -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    number(fields.split_whitespace().nth(field))
}

/// When the machine started, in seconds since 1970.
fn booted_at() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    number(text.lines().find_map(|line| line.strip_prefix("btime ")))
}

fn max_fds() -> f64 {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    number(line.and_then(|line| line.split_whitespace().next()))
}

fn number(text: Option<&str>) -> f64 {
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_of() {
        assert!(stat(RESIDENT_PAGES) > 100.0 && stat(THREADS) >= 1.0);
        assert!(stat(VIRTUAL_BYTES) > stat(RESIDENT_PAGES));
        assert!(max_fds() >= 16.0);
        let started = booted_at() + stat(START_TICKS) / TICKS_PER_SECOND;
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
        assert!(started < now + 1.0 && now - started < 3_600.0, "{started}, {now}");
    }
}
