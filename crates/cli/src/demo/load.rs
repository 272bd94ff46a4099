//! Writers of a demo: rows with keys of their own, one after another, and what became of each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use flotilla_client::Client;
use tokio::task::JoinSet;

use super::claims::{Rows, Verdict};
use crate::failure::{Failure, Tried};

/// Rows that are read back in one call.
const ROWS_PER_READ: usize = 200;

/// What writers write.
#[derive(Clone, Copy)]
pub struct Load {
    /// How many write at once.
    pub writers: usize,
    /// Rows of each; then it begins anew.
    pub rows: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
}

/// Writers that run until they are stopped.
pub struct Writers {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    acknowledged: AtomicU64,
    log: Mutex<Log>,
}

/// What became of the writes.
#[derive(Default)]
pub struct Log {
    /// Rows that were acknowledged.
    pub rows: Rows,
    /// Writes that ended in an error, each with its reason.
    pub errors: Vec<String>,
    /// The moments of acknowledgements, in order.
    pub moments: Vec<Instant>,
}

impl Log {
    /// The verdict on the claim that no write ended in an error.
    pub fn no_error(&self) -> Verdict {
        match self.errors.first() {
            None => Ok(format!("{} writes, 0 errors", self.moments.len())),
            Some(first) => Err(format!("{} errors, such as: {first}", self.errors.len())),
        }
    }
}

impl Writers {
    /// Starts them.
    pub fn start(client: &Client, load: Load) -> Writers {
        let shared = Arc::<Shared>::default();
        let mut tasks = JoinSet::new();
        for writer in 0..load.writers {
            tasks.spawn(write(client.clone(), shared.clone(), writer, load));
        }
        Writers { shared, tasks }
    }

    /// Writes that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets each writer finish its write, and answers what became of all.
    pub async fn stop(mut self) -> Log {
        self.shared.is_over.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut *self.shared.lock())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write(client: Client, shared: Arc<Shared>, writer: usize, load: Load) {
    for turn in 0_u64.. {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let row = turn % load.rows;
        // Spread over the key space, so that every region has its share.
        let spread = (row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16;
        let key = Bytes::from(format!("row/{spread:04x}-{writer}-{row:06}"));
        let mut value = format!("{turn:06}").into_bytes();
        value.resize(load.value_bytes.max(value.len()), b'.');
        let value = Bytes::from(value);
        let written = client.put(key.clone(), value.clone()).await;
        let mut log = shared.lock();
        match written {
            Ok(()) => {
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                log.rows.insert(key, value);
                log.moments.push(Instant::now());
            }
            Err(error) => log.errors.push(error.to_string()),
        }
    }
}

/// Reads the keys of these rows back.
pub async fn read_back(
    client: &Client,
    rows: &Rows,
) -> Result<BTreeMap<Bytes, Option<Bytes>>, Failure> {
    let keys: Vec<Bytes> = rows.keys().cloned().collect();
    let mut found = BTreeMap::new();
    for chunk in keys.chunks(ROWS_PER_READ) {
        let values = client.batch_get(chunk.to_vec()).await.tried("read the rows back")?;
        found.extend(chunk.iter().cloned().zip(values));
    }
    Ok(found)
}
