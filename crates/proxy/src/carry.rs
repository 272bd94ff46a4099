//! The bytes of one connection, in both directions, under rules that change while it carries.
//!
//! In each direction a reader stamps what it reads with the time, and a writer passes it on when
//! the rules let it. Between them stand [`CHUNKS_MAX`] chunks at most: what is delayed.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::rules::{Flow, Rules, Way};

/// Bytes that are read at once.
const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// Chunks of one direction that are on their way: 4 MiB, which is a second of delay at 32 Mbit/s.
const CHUNKS_MAX: usize = 256;

/// A throttled direction passes bytes on so many times in a second.
const THROTTLE_STEPS_PER_S: u64 = 20;

/// The rules of a link, and how often its connections were reset.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    pub(crate) rules: Rules,
    /// A connection that began at another number is reset.
    pub(crate) resets: u64,
}

/// What a link has carried.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) bytes_to_target: AtomicU64,
    pub(crate) bytes_to_caller: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) impeded: AtomicU64,
}

/// One direction: which of the rules it goes by, and where its bytes are counted.
struct Direction {
    way: fn(&Rules) -> Way,
    orders: watch::Receiver<Orders>,
    counters: Arc<Counters>,
    counter: fn(&Counters) -> &AtomicU64,
}

/// Carries one connection to its end: both sides closed it, one was lost, or it is reset.
pub(crate) async fn carry(
    mut caller: TcpStream,
    target: String,
    orders: watch::Receiver<Orders>,
    counters: Arc<Counters>,
) {
    let began_at = orders.borrow().resets;
    let mut reset = orders.clone();
    let reset = reset.wait_for(|orders| orders.resets != began_at);
    let carried = between(&mut caller, &target, &orders, &counters);
    let is_lost = tokio::select! {
        carried = carried => carried.is_err(),
        _ = reset => true,
    };
    if is_lost {
        counters.resets.fetch_add(1, Ordering::Relaxed);
        // An error means that the caller is gone already.
        let _ = caller.set_zero_linger();
    }
}

async fn between(
    caller: &mut TcpStream,
    target: &str,
    orders: &watch::Receiver<Orders>,
    counters: &Arc<Counters>,
) -> io::Result<()> {
    let direction = |way, counter| Direction {
        way,
        orders: orders.clone(),
        counters: Arc::clone(counters),
        counter,
    };
    let mut there = direction(|rules| rules.to_target, |counters| &counters.bytes_to_target);
    let mut back = direction(|rules| rules.to_caller, |counters| &counters.bytes_to_caller);
    // A connection reaches its target when bytes would.
    there.count_if_impeded();
    while there.passing().await.flow == Flow::Discard {
        there.changed().await?;
    }
    let mut target = TcpStream::connect(target).await?;
    target.set_nodelay(true)?;
    caller.set_nodelay(true)?;
    let outcome = {
        let (from_caller, to_caller) = caller.split();
        let (from_target, to_target) = target.split();
        let there = there.run(from_caller, to_target);
        let back = back.run(from_target, to_caller);
        tokio::try_join!(there, back)
    };
    if outcome.is_err() {
        let _ = target.set_zero_linger();
    }
    outcome.map(drop)
}

impl Direction {
    async fn run(&mut self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        let (chunks, under_way) = mpsc::channel(CHUNKS_MAX);
        let mut writer = Direction {
            way: self.way,
            orders: self.orders.clone(),
            counters: Arc::clone(&self.counters),
            counter: self.counter,
        };
        tokio::try_join!(self.take(from, chunks), writer.pass_on(to, under_way))?;
        Ok(())
    }

    /// Reads until the stream's end.
    async fn take(
        &mut self,
        mut from: ReadHalf<'_>,
        chunks: mpsc::Sender<(Instant, Vec<u8>)>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES_MAX];
        loop {
            self.passing().await;
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            if self.now().flow == Flow::Discard {
                self.count_if_impeded();
            }
            let chunk = (Instant::now(), buffer[..read].to_vec());
            if self.now().flow != Flow::Discard && chunks.send(chunk).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Writes what was read, when it may arrive.
    async fn pass_on(
        &mut self,
        mut to: WriteHalf<'_>,
        mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>,
    ) -> io::Result<()> {
        while let Some((read_at, chunk)) = chunks.recv().await {
            self.count_if_impeded();
            sleep_until(read_at + self.now().delay).await;
            let mut rest = chunk.as_slice();
            while !rest.is_empty() {
                let (piece, pause) = piece(rest.len(), self.now().bytes_per_s);
                sleep(pause).await;
                if self.passing().await.flow != Flow::Discard {
                    to.write_all(&rest[..piece]).await?;
                    let counter = (self.counter)(&self.counters);
                    counter.fetch_add(piece as u64, Ordering::Relaxed);
                }
                rest = &rest[piece..];
            }
        }
        self.passing().await;
        to.shutdown().await
    }

    /// Counts what meets a rule.
    fn count_if_impeded(&self) {
        if self.now() != Way::default() {
            self.counters.impeded.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn now(&self) -> Way {
        (self.way)(&self.orders.borrow().rules)
    }

    /// Waits until the direction holds nothing back. Waits for ever if the link is gone.
    async fn passing(&mut self) -> Way {
        let way = self.way;
        let passes = |orders: &Orders| way(&orders.rules).flow != Flow::Hold;
        let passed = self.orders.wait_for(passes).await.map(|orders| way(&orders.rules)).ok();
        match passed {
            Some(way) => way,
            None => std::future::pending().await,
        }
    }

    async fn changed(&mut self) -> io::Result<()> {
        self.orders.changed().await.map_err(|_| io::Error::other("the link is gone"))
    }
}

/// How many of so many bytes are passed on at once, and how long they take.
fn piece(bytes: usize, bytes_per_s: Option<NonZeroU64>) -> (usize, Duration) {
    let Some(rate) = bytes_per_s else { return (bytes, Duration::ZERO) };
    let step = usize::try_from(rate.get().div_ceil(THROTTLE_STEPS_PER_S)).unwrap_or(usize::MAX);
    let piece = bytes.min(step);
    (piece, Duration::from_secs_f64(piece as f64 / rate.get() as f64))
}
