//! What requests share: the client of the cluster, and the budget of bytes in memory.
//!
//! The client connects in the background, so a gateway may start before its cluster.

use std::sync::Arc;

use flotilla_client::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, info};

use crate::hosts::Hosts;
use crate::limits::{BODIES_BYTES_MAX, CONNECT_PAUSE, CONNECT_TIME_MAX};
use crate::problem::Problem;

/// What every request's handler has.
#[derive(Debug)]
pub(crate) struct App {
    client: watch::Receiver<Option<Client>>,
    bytes: Arc<Semaphore>,
    pub(crate) hosts: Hosts,
}

impl App {
    /// For requests that come by one of `hosts`; `client` holds the client once it is connected.
    pub(crate) fn new(client: watch::Receiver<Option<Client>>, hosts: Hosts) -> App {
        App { client, bytes: Arc::new(Semaphore::new(BODIES_BYTES_MAX)), hosts }
    }

    /// The cluster's client; waits for it while it connects.
    pub(crate) async fn client(&self) -> Result<Client, Problem> {
        if let Some(client) = &*self.client.borrow() {
            return Ok(client.clone());
        }
        let mut client = self.client.clone();
        let connected = timeout(CONNECT_TIME_MAX, client.wait_for(Option::is_some)).await;
        let found = connected.ok().and_then(|found| found.ok()?.clone());
        found.ok_or_else(|| {
            Problem::unavailable("neither a placement driver nor a store has answered yet")
        })
    }

    /// Takes so many bytes from the budget; None if it has no more. They are back when what is
    /// returned is dropped.
    pub(crate) fn take_bytes(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        self.bytes.clone().try_acquire_many_owned(bytes).ok()
    }
}

/// Connects to the cluster at these addresses, again and again until it answers.
pub(crate) async fn connect(endpoints: Vec<String>, found: watch::Sender<Option<Client>>) {
    loop {
        match Client::connect(&endpoints).await {
            Ok(client) => {
                info!("the gateway has reached its cluster");
                found.send_replace(Some(client));
                return;
            }
            Err(error) => debug!(%error, "the gateway's cluster does not answer yet"),
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
}
