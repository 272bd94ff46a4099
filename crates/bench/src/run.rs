//! One run: load the keys, start the clients, measure a window of time.
//!
//! * **Closed loop**: each client asks again as soon as it is answered. Shows the most that a
//!   system carries; its latencies are those at that load.
//! * **Open loop**: operations are due on a fixed schedule, whether or not earlier ones are done. A
//!   latency runs from when an operation was due, so a stall shows in every operation it delayed
//!   (no coordinated omission). At most as many operations are under way as there are clients.
//!   Operations that were due and never begun are reported, and count with the time they waited.
//!
//! Every run ends: each call has a timeout, and calls that outlast it are abandoned and counted as
//! errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_types::dice::Dice;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::config::RunConfig;
use crate::error::{BenchError, Result};
use crate::keys::{Chooser, key};
use crate::recorder::Recorder;
use crate::report::RunReport;
use crate::schedule::Schedule;
use crate::target::{Answer, CALL_TIMEOUT, CallError, Target};
use crate::usage;
use crate::workload::{Request, Space, Stream};

/// Rows in one batch of the load.
const LOAD_ROWS_MAX: u64 = 256;

/// Bytes in one batch of the load: well below the 6 MiB and 1.5 MiB that the systems accept.
const LOAD_BYTES_MAX: u64 = 1 << 20;

/// Batches of the load under way at a time.
const LOAD_BATCHES_MAX: usize = 16;

/// How often a batch of the load is tried: a cluster that has just started may still elect.
const LOAD_TRIES_MAX: usize = 5;

/// Time beyond their own timeout that calls under way at a run's end may need.
const STRAGGLER_MARGIN: Duration = Duration::from_secs(5);

/// Sees the measured window open and close.
pub trait Observer {
    /// The warm-up is over.
    fn window_opened(&mut self);
    /// The last counted operation has ended.
    fn window_closed(&mut self);
}

/// Puts all keys, so that reads find them.
///
/// # Errors
/// [`BenchError::Target`] if rows cannot be put even on several tries.
pub async fn load(target: &Arc<dyn Target>, config: &RunConfig) -> Result<()> {
    config.check()?;
    let space = config.space();
    let row_bytes = config.value_bytes as u64 + 16;
    let rows = (LOAD_BYTES_MAX / row_bytes).clamp(1, LOAD_ROWS_MAX);
    let mut loading = JoinSet::new();
    for (lane, first) in (0..config.keys).step_by(rows as usize).enumerate() {
        if loading.len() >= LOAD_BATCHES_MAX
            && let Some(done) = loading.join_next().await
        {
            loaded(done)?;
        }
        let mut dice = Dice::of_lane(config.seed, first);
        let numbers = first..config.keys.min(first + rows);
        let batch = numbers.map(|number| (key(number), space.value(&mut dice))).collect();
        loading.spawn(load_batch(target.clone(), lane, batch));
    }
    while let Some(done) = loading.join_next().await {
        loaded(done)?;
    }
    Ok(())
}

type Loaded = std::result::Result<Result<(), CallError>, tokio::task::JoinError>;

fn loaded(done: Loaded) -> Result<()> {
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(BenchError::target("load the keys", error)),
        Err(error) => Err(BenchError::target("load the keys", error)),
    }
}

async fn load_batch(
    target: Arc<dyn Target>,
    lane: usize,
    rows: Vec<(Bytes, Bytes)>,
) -> Result<(), CallError> {
    let mut outcome = Ok(());
    for _ in 0..LOAD_TRIES_MAX {
        outcome = target.load(lane, rows.clone()).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Runs the clients through warm-up and window and reports the window.
///
/// # Errors
/// [`BenchError::Usage`] for settings that cannot be run. Failed operations are no error: they are
/// counted in the report.
pub async fn run(
    target: &Arc<dyn Target>,
    config: &RunConfig,
    observer: &mut dyn Observer,
) -> Result<RunReport> {
    config.check()?;
    // Space and chooser are built before the clock starts, because building them takes long.
    let space = config.space();
    let chooser = Chooser::new(config.distribution, config.keys);
    let start = Instant::now();
    let from = start + config.warmup;
    let recorder = Arc::new(Recorder::new(from, from + config.window));
    let pace = config.rate.map(|rate| Arc::new(Pace::new(start, Schedule::new(rate))));
    let mut clients = JoinSet::new();
    for lane in 0..config.clients {
        let dice = Dice::of_lane(config.seed, lane as u64);
        let stream = Stream::new(config.op, config.scan_rows, space.clone(), chooser.clone(), dice);
        let (target, space, recorder) = (target.clone(), space.clone(), recorder.clone());
        let client = Client { lane, target, space, recorder, stream };
        match &pace {
            None => clients.spawn(client.closed_loop()),
            Some(pace) => clients.spawn(client.open_loop(pace.clone())),
        };
    }
    let metronome = pace.clone().map(|pace| {
        let until = recorder.until();
        std::thread::spawn(move || pace.keep(until))
    });
    sleep_until(from.into()).await;
    let cpu_before = usage::own_cpu();
    observer.window_opened();
    sleep_until(recorder.until().into()).await;
    observer.window_closed();
    let client_cpu = usage::own_cpu().saturating_sub(cpu_before);
    if let Some(metronome) = metronome {
        // The metronome ends by its own clock, at the window's end.
        drop(tokio::task::spawn_blocking(|| metronome.join()).await);
    }
    let abandoned = finish(&mut clients).await;
    let unstarted = pace.map_or(0, |pace| pace.record_unstarted(&recorder));
    Ok(RunReport::new(config, &recorder, client_cpu).with_lost(abandoned, unstarted))
}

/// Waits for the clients' last calls. Returns how many had to be abandoned.
async fn finish(clients: &mut JoinSet<()>) -> u64 {
    let all = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(CALL_TIMEOUT + STRAGGLER_MARGIN, all).await.is_ok() {
        return 0;
    }
    let abandoned = clients.len() as u64;
    clients.abort_all();
    abandoned
}

/// One client.
struct Client {
    lane: usize,
    target: Arc<dyn Target>,
    space: Arc<Space>,
    recorder: Arc<Recorder>,
    stream: Stream,
}

impl Client {
    async fn closed_loop(mut self) {
        let mut now = Instant::now();
        while now < self.recorder.until() {
            now = self.operate(now).await;
        }
    }

    async fn open_loop(mut self, pace: Arc<Pace>) {
        while let Some(due) = pace.next().await {
            self.operate(due).await;
        }
    }

    /// Carries out the next operation, due at `due`, and returns when it ended.
    async fn operate(&mut self, due: Instant) -> Instant {
        let request = self.stream.request();
        let inserts = matches!(request, Request::Put { new: true, .. });
        let outcome: Result<Answer, CallError> = self.target.call(self.lane, request).await;
        let end = Instant::now();
        if inserts && outcome.is_ok() {
            self.space.inserted();
        }
        self.recorder.record(self.lane, (due, end), outcome);
        end
    }
}

/// Hands out the operations of an open loop as they fall due.
struct Pace {
    start: Instant,
    schedule: Schedule,
    /// One permit for each operation that is due and not yet taken.
    due: Semaphore,
    released: AtomicU64,
    taken: AtomicU64,
}

impl Pace {
    fn new(start: Instant, schedule: Schedule) -> Pace {
        let (released, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        Pace { start, schedule, due: Semaphore::new(0), released, taken }
    }

    /// Releases operations as they fall due, until `until`. On a thread of its own: the runtime's
    /// timers are a millisecond coarse, which would be part of every latency.
    fn keep(&self, until: Instant) {
        let mut released = 0;
        loop {
            let now = Instant::now();
            let due = self.schedule.due(now.min(until).saturating_duration_since(self.start));
            self.due.add_permits((due - released) as usize);
            released = due;
            if now >= until {
                break;
            }
            let next = (self.start + self.schedule.offset(due)).min(until);
            std::thread::sleep(next.saturating_duration_since(now));
        }
        self.released.store(released, Ordering::Release);
        self.due.close();
    }

    /// Waits for the next operation and returns when it was due; None at the end.
    async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let ticket = self.taken.fetch_add(1, Ordering::Relaxed);
        Some(self.start + self.schedule.offset(ticket))
    }

    /// Records the operations that were due and never taken, and returns how many they are.
    fn record_unstarted(&self, recorder: &Recorder) -> u64 {
        let taken = self.taken.load(Ordering::Relaxed);
        let unstarted = taken..self.released.load(Ordering::Acquire).max(taken);
        let due = unstarted.map(|ticket| self.start + self.schedule.offset(ticket));
        due.filter(|due| recorder.record_unstarted(*due)).count() as u64
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod run_tests;
