//! A client that behaves, beside those that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flotilla_client::{Client, Error};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Between two calls: enough of them for a 99th percentile in some seconds, and no load.
const PAUSE: Duration = Duration::from_millis(5);

/// A client that puts and gets until it is told to end.
pub struct Beside {
    is_over: Arc<AtomicBool>,
    calls: JoinHandle<Result<Vec<Duration>, Error>>,
}

impl Beside {
    /// Begins.
    pub fn start(client: Client) -> Beside {
        let is_over = Arc::new(AtomicBool::new(false));
        Beside { is_over: is_over.clone(), calls: tokio::spawn(calls(client, is_over)) }
    }

    /// How long the calls took, ascending; or the first failure.
    pub async fn end(self) -> Result<Vec<Duration>, Error> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut took = self.calls.await.expect("no panic")?;
        took.sort();
        Ok(took)
    }
}

async fn calls(client: Client, is_over: Arc<AtomicBool>) -> Result<Vec<Duration>, Error> {
    let mut took = vec![];
    while !is_over.load(Ordering::Relaxed) {
        // In both regions.
        for key in ["beside", "near"] {
            let begun = Instant::now();
            client.put(key, took.len().to_string()).await?;
            took.push(begun.elapsed());
            let begun = Instant::now();
            client.get(key).await?.expect("its row");
            took.push(begun.elapsed());
        }
        sleep(PAUSE).await;
    }
    Ok(took)
}

/// The value below which so many of a thousand lie.
pub fn permille(sorted: &[Duration], permille: usize) -> Duration {
    sorted[(sorted.len() - 1) * permille / 1000]
}
