//! `flotilla kv load`: puts the rows of a TSV file, many batches at a time.
//!
//! ```text
//! thread: read lines, check each, gather batches --bounded channel--> task: send, await, report
//! ```
//! * The first column is the key; the rest of the line after the first tab is the value.
//! * Of rows with one key the last wins, as if the rows were put one after the other: within a
//!   batch a later row replaces an earlier row of its key, and a batch with a key that is in flight
//!   waits until the earlier batch with that key has ended.
//! * A line that cannot be a row ends the load: every batch before the line is finished, no batch
//!   after the line is sent, and the error names the line.
//! * A batch with an unknown outcome is put again (`retry_undetermined_writes`). Repeating is
//!   harmless while the loader is the only writer of its keys; a row that another client writes
//!   meanwhile may be overwritten.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use flotilla_client::{Client, Error as ClientError};
use flotilla_types::tsv::{Batch, Dialect};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::args::{ClusterArgs, Encoding, Format};
use crate::failure::Failure;
use crate::output;
use crate::signals::StopSignals;
use crate::terminal::progress_bar;

mod rows;

use rows::{Batches, InputError};

/// Batches awaited at a time. Enough to keep every store's log writer busy; with
/// [`flotilla_types::tsv::BATCH_BYTES`] it bounds the memory to some tens of MiB.
const BATCHES_IN_FLIGHT_MAX: usize = 32;

/// Batches read ahead of those in flight.
const BATCHES_READ_AHEAD_MAX: usize = 8;

/// How long one batch is tried. Long enough for a cluster whose stores are all restarted.
const BATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// A load that no batch of has ended for so long says what it waits for, and again after as long.
const WAIT_TOLD_AFTER: Duration = Duration::from_secs(1);

/// Arguments of `flotilla kv load`.
#[derive(Args)]
pub struct LoadArgs {
    /// A TSV file, or - for stdin: on each line a key, a tab, and the value to the line's end.
    /// Of lines with the same key the last wins. The loader must be the only writer of its keys:
    /// it repeats the puts whose outcome is not known.
    file: PathBuf,
    /// Take a last line without a newline as it is. It is refused otherwise, for what wrote the
    /// file may have been cut off in the middle of a row
    #[arg(long)]
    partial_ok: bool,
    #[command(flatten)]
    encoding: Encoding,
}

/// What the reading thread sends: batches, and at most one bad line as the last.
type FromReader = Result<Batch, InputError>;

/// Loads the file and reports rows, bytes, seconds and rows per second.
pub async fn run(args: LoadArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let from_stdin = args.file.as_os_str() == "-";
    let name = if from_stdin { "stdin".into() } else { args.file.display().to_string() };
    let what = format!("kv load {name}");
    let bytes_read = Arc::new(AtomicU64::new(0));
    let input = open(&args, from_stdin, &name)?;
    let mut stop = StopSignals::new()?;
    let client = cluster
        .connect(&what)
        .await?
        .with_timeout(BATCH_TIMEOUT)
        .with_retry_undetermined_writes(true);
    let (sender, batches) = mpsc::channel(BATCHES_READ_AHEAD_MAX);
    let progress = Progress::start(input.length, bytes_read.clone());
    let reader = Counting { inner: input.reader, bytes: bytes_read };
    let dialect = Dialect { is_hex: args.encoding.hex, is_partial_ok: args.partial_ok };
    let rows = Batches::new(BufReader::with_capacity(1 << 20, reader), dialect);
    thread::spawn(move || send_batches(rows, sender));
    let start = Instant::now();
    let mut loader = Loader::new(client, progress);
    let ended = tokio::select! {
        outcome = loader.load(batches) => Some(outcome),
        () = stop.received() => None,
    };
    let outcome = ended.unwrap_or_else(|| Err(loader.interrupted()));
    loader.progress.finish();
    report(&loader.acknowledged, start.elapsed(), cluster.output, outcome, &name)
}

struct Input {
    reader: Box<dyn Read + Send>,
    /// Bytes, if known.
    length: Option<u64>,
}

fn open(args: &LoadArgs, from_stdin: bool, name: &str) -> Result<Input, Failure> {
    if from_stdin {
        return Ok(Input { reader: Box::new(io::stdin()), length: None });
    }
    let unreadable = |error: io::Error| {
        Failure::Usage(format!("kv load {name}: {error}; name a file that can be read, or -"))
    };
    let file = File::open(&args.file).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?;
    if length.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    Ok(Input { reader: Box::new(file), length: Some(length.len()).filter(|_| length.is_file()) })
}

/// The reading thread: returns at the end of the input, after a bad line, or when the receiver is
/// gone.
fn send_batches(mut rows: Batches<impl BufRead>, sender: mpsc::Sender<FromReader>) {
    match rows.inspect() {
        Ok(oddities) => {
            oddities.iter().for_each(|oddity| eprintln!("warning: kv load: {oddity}"));
        }
        // A receiver that is gone needs no reason.
        Err(error) => return drop(sender.blocking_send(Err(error))),
    }
    while let Some(next) = rows.next_batch().transpose() {
        let last = next.is_err();
        if sender.blocking_send(next).is_err() || last {
            return;
        }
    }
}

/// Rows and bytes that the cluster has acknowledged.
#[derive(Default)]
struct Acknowledged {
    rows: u64,
    bytes: u64,
}

/// Why a load did not reach the end of its input.
enum Stopped {
    Line(InputError),
    Failed(ClientError),
    /// A batch's task ended without an outcome.
    Broken(JoinError),
    /// A signal came; the outcome of so many rows is not known.
    Signal {
        rows: u64,
    },
}

/// How a batch's task ended.
type Ended = Result<(Batch, Result<(), ClientError>), JoinError>;

struct Loader {
    client: Client,
    progress: Progress,
    in_flight: JoinSet<(Batch, Result<(), ClientError>)>,
    keys_in_flight: HashSet<Bytes>,
    rows_sent: u64,
    acknowledged: Acknowledged,
}

impl Loader {
    fn new(client: Client, progress: Progress) -> Loader {
        Loader {
            client,
            progress,
            in_flight: JoinSet::new(),
            keys_in_flight: HashSet::new(),
            rows_sent: 0,
            acknowledged: Acknowledged::default(),
        }
    }

    /// Sends the batches. When this returns, no batch is in flight, whatever the outcome.
    async fn load(&mut self, mut batches: mpsc::Receiver<FromReader>) -> Result<(), Stopped> {
        let mut outcome = Ok(());
        while let Some(batch) = batches.recv().await {
            outcome = match batch {
                Ok(batch) => self.send(batch).await,
                Err(line) => Err(Stopped::Line(line)),
            };
            if outcome.is_err() {
                break;
            }
        }
        // The next send of the reading thread fails, which ends that thread.
        batches.close();
        while !self.in_flight.is_empty() {
            let ended = self.finish_one().await;
            // A failed batch comes before the bad line, so the failed batch is the outcome.
            if let (Err(failed), Ok(()) | Err(Stopped::Line(_))) = (ended, &outcome) {
                outcome = Err(failed);
            }
        }
        outcome
    }

    /// Puts a batch in flight, once there is room for it and none of its keys is in flight.
    async fn send(&mut self, batch: Batch) -> Result<(), Stopped> {
        while self.in_flight.len() >= BATCHES_IN_FLIGHT_MAX
            || batch.pairs.iter().any(|(key, _)| self.keys_in_flight.contains(key))
        {
            self.finish_one().await?;
        }
        self.keys_in_flight.extend(batch.pairs.iter().map(|(key, _)| key.clone()));
        self.rows_sent += batch.rows;
        let client = self.client.clone();
        self.in_flight.spawn(async move {
            let result = client.batch_put(batch.pairs.clone()).await;
            (batch, result)
        });
        Ok(())
    }

    /// How much is stored when a signal comes; a failure among what has ended by then comes first.
    fn interrupted(&mut self) -> Stopped {
        while let Some(ended) = self.in_flight.try_join_next() {
            if let Err(failed) = self.account(ended) {
                return failed;
            }
        }
        self.in_flight.abort_all();
        Stopped::Signal { rows: self.rows_sent - self.acknowledged.rows }
    }

    /// The next batch to end. While none does, stderr says each second what the load waits for.
    async fn join_next(&mut self) -> Option<Ended> {
        let start = Instant::now();
        loop {
            match timeout(WAIT_TOLD_AFTER, self.in_flight.join_next()).await {
                Ok(ended) => return ended,
                Err(_) => {
                    self.progress.tell(&waits_for(start.elapsed(), self.client.last_failure()))
                }
            }
        }
    }

    async fn finish_one(&mut self) -> Result<(), Stopped> {
        match self.join_next().await {
            None => Ok(()),
            Some(ended) => self.account(ended),
        }
    }

    fn account(&mut self, ended: Ended) -> Result<(), Stopped> {
        let (batch, result) = ended.map_err(Stopped::Broken)?;
        for (key, _) in &batch.pairs {
            self.keys_in_flight.remove(key);
        }
        result.map_err(Stopped::Failed)?;
        self.acknowledged.rows += batch.rows;
        self.acknowledged.bytes += batch.bytes;
        self.progress.update(self.acknowledged.rows);
        Ok(())
    }
}

/// What a load that has waited for so long waits for. `failure` is the client's latest one, and how
/// long ago it was.
fn waits_for(waited: Duration, failure: Option<(Duration, String)>) -> String {
    let seconds = waited.as_secs();
    match failure {
        Some((ago, failure)) if ago <= waited => {
            format!("kv load: waiting for {seconds} s; the last attempt failed with: {failure}")
        }
        Some(_) | None => {
            format!("kv load: waiting for {seconds} s; no store has answered or refused yet")
        }
    }
}

fn report(
    done: &Acknowledged,
    elapsed: Duration,
    format: Format,
    outcome: Result<(), Stopped>,
    name: &str,
) -> Result<(), Failure> {
    let seconds = elapsed.as_secs_f64();
    let rate = done.rows as f64 / seconds.max(f64::EPSILON);
    match outcome {
        Ok(()) if format == Format::Json => output::json(&json!({
            "rows": done.rows,
            "bytes": done.bytes,
            "seconds": seconds,
            "rows_per_s": rate,
        })),
        Ok(()) => {
            let (rows, bytes) = (done.rows, done.bytes);
            eprintln!("loaded {rows} rows, {bytes} bytes, in {seconds:.2} s: {rate:.0} rows/s");
            Ok(())
        }
        Err(Stopped::Line(error)) => Err(Failure::Usage(format!(
            "kv load {name}: {error}; {} rows before it are stored; correct the line and load the \
             file again",
            done.rows
        ))),
        Err(Stopped::Failed(error)) => {
            let what = format!("kv load {name}, after {} rows were stored", done.rows);
            Err(Failure::Client { what, error })
        }
        Err(Stopped::Signal { rows }) => Err(Failure::Server(format!(
            "kv load {name}: stopped by a signal; {} rows are stored, and {rows} more may be; \
             load the file again",
            done.rows
        ))),
        Err(Stopped::Broken(error)) => {
            Err(Failure::Server(format!("kv load {name}: a batch was not finished: {error}")))
        }
    }
}

/// Counts what passes through a reader.
struct Counting<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// How much of the input was read, and how many rows are acknowledged.
struct Progress {
    bar: ProgressBar,
    bytes_read: Arc<AtomicU64>,
}

impl Progress {
    fn start(length: Option<u64>, bytes_read: Arc<AtomicU64>) -> Progress {
        Progress { bar: progress_bar(length), bytes_read }
    }

    /// A line on stderr, above the bar.
    fn tell(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    fn update(&self, rows: u64) {
        // What was read runs ahead of what is acknowledged, by a bounded number of batches.
        self.bar.set_position(self.bytes_read.load(Ordering::Relaxed));
        self.bar.set_message(format!("{rows} rows"));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
