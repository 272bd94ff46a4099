//! What requests share: the client of the cluster, and the budget of bytes in memory.
//!
//! The client connects in the background, so a gateway may start before its cluster.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_client::{Client, PdClient, Tls};
use flotilla_metrics::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, info};

use crate::feed::Feed;
use crate::hosts::Hosts;
use crate::limits::{
    BODIES_BYTES_MAX, BUDGET_TIME_MAX, CONNECT_PAUSE, CONNECT_TIME_MAX, STREAMS_MAX,
};
use crate::metrics::HttpMetrics;
use crate::problem::Problem;
use crate::trace;

/// The key that is read to see whether stores answer, whether or not there is such a row.
pub(crate) const PROBED_KEY: &str = "\0";

/// What every request's handler has.
#[derive(Debug)]
pub(crate) struct App {
    client: watch::Receiver<Option<Client>>,
    draining: watch::Receiver<bool>,
    bytes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    pub(crate) pd: PdClient,
    pub(crate) feed: Feed,
    pub(crate) hosts: Hosts,
    pub(crate) metrics: HttpMetrics,
}

impl App {
    /// For requests that come by one of `hosts` and are answered by the cluster of `pd`.
    pub(crate) fn new(pd: PdClient, hosts: Hosts, states: States, registry: Registry) -> App {
        let bytes = Arc::new(Semaphore::new(BODIES_BYTES_MAX));
        App {
            metrics: HttpMetrics::new(registry, &states.client, &bytes),
            client: states.client,
            draining: states.draining,
            bytes,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            feed: Feed::new(pd.clone()),
            pd,
            hosts,
        }
    }

    /// True once the gateway is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Changes to true once the gateway is about to stop.
    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.clone()
    }

    /// True once the cluster has answered.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.borrow().is_some()
    }

    /// The cluster's client; waits for it while it connects.
    pub(crate) async fn client(&self) -> Result<Client, Problem> {
        let named = |client: Client| match trace::current() {
            Some(id) => client.with_trace_id(id),
            None => client,
        };
        if let Some(client) = &*self.client.borrow() {
            return Ok(named(client.clone()));
        }
        let mut client = self.client.clone();
        let connected = timeout(CONNECT_TIME_MAX, client.wait_for(Option::is_some)).await;
        let found = connected.ok().and_then(|found| found.ok()?.clone());
        found.map(named).ok_or_else(|| {
            Problem::unavailable("neither a placement driver nor a store has answered yet")
        })
    }

    /// A place for one scan, dump or load.
    pub(crate) fn take_stream(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            Problem::overloaded("as many scans, dumps and loads run as may at a time; try again")
        })
    }

    /// Bytes on their way to a client, which count against the budget until they were sent. Waits
    /// for the budget if it is used up.
    pub(crate) async fn hold(&self, bytes: Bytes) -> Result<Bytes, Problem> {
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let share = self.bytes.clone().acquire_many_owned(count);
        match timeout(BUDGET_TIME_MAX, share).await {
            Ok(Ok(share)) => Ok(Bytes::from_owner(Sending { bytes, _share: share })),
            _ => Err(too_much_on_its_way()),
        }
    }

    /// The same for a whole value, which does not wait: values that wait take the memory that the
    /// budget is to bound.
    pub(crate) fn hold_now(&self, bytes: Bytes) -> Result<Bytes, Problem> {
        let share = self.take_bytes(bytes.len()).ok_or_else(too_much_on_its_way)?;
        Ok(Bytes::from_owner(Sending { bytes, _share: share }))
    }

    /// Takes so many bytes from the budget; None if it has no more. They are back when what is
    /// returned is dropped.
    pub(crate) fn take_bytes(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        self.bytes.clone().try_acquire_many_owned(bytes).ok()
    }
}

fn too_much_on_its_way() -> Problem {
    Problem::overloaded("answers on their way take too much memory; try again")
}

/// What changes while a gateway runs.
#[derive(Clone, Debug)]
pub(crate) struct States {
    /// The client, once it is connected.
    pub(crate) client: watch::Receiver<Option<Client>>,
    /// True once the gateway is about to stop.
    pub(crate) draining: watch::Receiver<bool>,
}

/// Bytes with their share of the budget.
struct Sending {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Sending {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Connects to the cluster at these addresses, again and again until it answers.
pub(crate) async fn connect(
    endpoints: Vec<String>,
    tls: Option<Tls>,
    found: watch::Sender<Option<Client>>,
) {
    let mut builder = Client::builder().endpoints(endpoints);
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    loop {
        match builder.clone().connect().await {
            Ok(client) => {
                info!("the gateway has reached its cluster");
                found.send_replace(Some(client.clone()));
                // Learns where rows are, so that requests succeed although the placement driver
                // goes before the first of them. A failure is the next request's to tell.
                let _ = client.get(PROBED_KEY).await;
                return;
            }
            Err(error) => debug!(%error, "the gateway's cluster does not answer yet"),
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
}

#[cfg(test)]
impl App {
    /// An app whose cluster never answers.
    pub(crate) fn alone() -> App {
        let (client, draining) = (watch::channel(None).1, watch::channel(false).1);
        let pd = PdClient::new(["127.0.0.1:1"]).expect("an address");
        App::new(pd, Hosts::default(), States { client, draining }, Registry::default())
    }
}
