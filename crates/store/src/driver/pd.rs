//! Calls to the placement driver: tries its members in turn, follows the one that leads.

use std::time::Duration;

use flotilla_types::limits::MESSAGE_BYTES_MAX;
use flotilla_types::proto::pd_client::PdClient;
use flotilla_types::proto::{PdReply, PdRequest, pd_error, pd_reply, pd_request};
use tonic::transport::{Channel, Endpoint};

/// How long one member may take to answer.
const CALL_MS_MAX: u64 = 3_000;

/// A way to the placement driver.
pub struct PdCaller {
    endpoints: Vec<String>,
    /// The cluster that calls are made for; 0 while it is not known.
    pub cluster: u64,
    current: Option<PdClient<Channel>>,
    next: usize,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub enum CallError {
    /// No member answered.
    Unreachable(String),
    /// A member answered that it cannot yet; try again.
    Busy(String),
    /// The member that leads refused.
    Refused(pd_error::Kind),
}

impl PdCaller {
    /// Calls go to one of `endpoints` ("host:port").
    pub fn new(endpoints: Vec<String>, cluster: u64) -> PdCaller {
        PdCaller { endpoints, cluster, current: None, next: 0 }
    }

    /// The addresses tried.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Asks each member once, at most.
    pub async fn call(&mut self, op: pd_request::Op) -> Result<pd_reply::Result, CallError> {
        let mut last = CallError::Unreachable("no address was given".to_string());
        for _ in 0..=self.endpoints.len() {
            match self.call_once(op.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(CallError::Refused(pd_error::Kind::NotLeader(hint))) => {
                    self.current = connect(&hint.leader_addr);
                    last = CallError::Unreachable("no member leads".to_string());
                }
                Err(CallError::Unreachable(reason)) => {
                    self.current = None;
                    last = CallError::Unreachable(reason);
                }
                Err(answer @ (CallError::Refused(_) | CallError::Busy(_))) => return Err(answer),
            }
        }
        Err(last)
    }

    async fn call_once(&mut self, op: pd_request::Op) -> Result<pd_reply::Result, CallError> {
        if self.current.is_none() {
            let addr = self.endpoints.get(self.next % self.endpoints.len().max(1));
            self.next += 1;
            self.current = addr.and_then(|addr| connect(addr));
        }
        let Some(client) = &mut self.current else {
            return Err(CallError::Unreachable("not an address".to_string()));
        };
        let request = PdRequest { cluster_id: self.cluster, op: Some(op) };
        let limit = Duration::from_millis(CALL_MS_MAX);
        let reply: PdReply = match tokio::time::timeout(limit, client.call(request)).await {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => return Err(CallError::Unreachable(status.message().to_string())),
            Err(_) => return Err(CallError::Unreachable("no answer".to_string())),
        };
        match reply.result {
            Some(pd_reply::Result::Error(error)) => match error.kind {
                Some(pd_error::Kind::Busy(busy)) => Err(CallError::Busy(busy.reason)),
                Some(kind) => Err(CallError::Refused(kind)),
                None => Err(CallError::Unreachable("an empty answer".to_string())),
            },
            Some(result) => Ok(result),
            None => Err(CallError::Unreachable("an empty answer".to_string())),
        }
    }
}

fn connect(addr: &str) -> Option<PdClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).ok()?;
    let channel = endpoint
        .connect_timeout(Duration::from_millis(CALL_MS_MAX))
        .tcp_nodelay(true)
        .connect_lazy();
    let client = PdClient::new(channel);
    Some(
        client
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX),
    )
}
