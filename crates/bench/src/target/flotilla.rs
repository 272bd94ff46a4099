//! Flotilla through its client. All clients of a run share one, as an application's tasks would.

use bytes::Bytes;
use flotilla_client::{Client, Error, Result as ClientResult, Tls};

use super::{Answer, CALL_TIMEOUT, Call, CallError, SWAP_TRIES_MAX, Target};
use crate::error::{BenchError, Result};
use crate::workload::Request;

/// A Flotilla cluster.
#[derive(Clone)]
pub struct FlotillaTarget {
    client: Client,
    /// For loading: nobody else writes yet, so a put of unknown outcome may be repeated.
    loader: Client,
}

impl FlotillaTarget {
    /// The cluster of the placement driver at these addresses, with these certificates if any.
    ///
    /// # Errors
    /// [`BenchError::Target`] if none answers.
    pub async fn connect(pd: &[String], tls: Option<Tls>) -> Result<FlotillaTarget> {
        let mut builder = Client::builder().endpoints(pd).request_timeout(CALL_TIMEOUT);
        if let Some(tls) = tls {
            builder = builder.tls(tls);
        }
        let client = builder.connect().await;
        let client = client.map_err(|error| BenchError::target("connect to Flotilla", error))?;
        let loader = client.clone().with_retry_undetermined_writes(true);
        Ok(FlotillaTarget { client, loader })
    }

    /// The client that all calls but those of a load go through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    async fn swap(&self, key: Bytes, value: Bytes) -> Result<Answer, CallError> {
        let mut expected = self.client.get(&key).await?;
        for _ in 0..SWAP_TRIES_MAX {
            let outcome = self.client.compare_and_swap(&key, expected, Some(value.clone())).await?;
            if outcome.swapped {
                return Ok(Answer::Done);
            }
            expected = outcome.previous;
        }
        Err(CallError::definite("others wrote the key before each of many compare-and-swaps"))
    }

    async fn scan(&self, start: Bytes, rows: u64) -> ClientResult<Answer> {
        let found = self.client.scan(start..Bytes::new(), rows).await?;
        Ok(if found.is_empty() { Answer::Absent } else { Answer::Done })
    }
}

impl Target for FlotillaTarget {
    fn call(&self, _lane: usize, request: Request) -> Call<'_, Answer> {
        Box::pin(async move {
            match request {
                Request::Get(key) => Ok(match self.client.get(&key).await? {
                    Some(_) => Answer::Done,
                    None => Answer::Absent,
                }),
                Request::Put { key, value, .. } => {
                    self.client.put(&key, value).await?;
                    Ok(Answer::Done)
                }
                Request::Scan { start, rows } => Ok(self.scan(start, rows).await?),
                Request::Swap { key, value } => self.swap(key, value).await,
            }
        })
    }

    fn load(&self, _lane: usize, rows: Vec<(Bytes, Bytes)>) -> Call<'_, ()> {
        Box::pin(async move { Ok(self.loader.batch_put(rows).await?) })
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> CallError {
        CallError { undetermined: error.is_undetermined(), reason: error.to_string() }
    }
}
