//! The Raft service: messages and snapshots of other stores.

use std::sync::Arc;

use flotilla_types::StoreId;
use flotilla_types::proto::raft_server::Raft;
use flotilla_types::proto::{
    EnvelopeBatch, MessagesDone, SnapshotDone, SnapshotPart, snapshot_part,
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use super::inbox::{Inbox, Mail};
use super::snapshot::Staging;
use super::transport::weight;
use crate::core::{Input, StagedId};

/// The Raft service of one store.
pub struct RaftService {
    /// The cluster and the store that receives.
    pub identity: (u64, StoreId),
    /// The worker.
    pub inbox: Inbox,
    /// Where received rows are kept.
    pub staging: Arc<Staging>,
    /// Bounds the snapshots that are being received.
    pub receiving: Arc<Semaphore>,
}

impl RaftService {
    fn check_destination(&self, cluster_id: u64, to_store: u64) -> Result<(), Status> {
        let (cluster, store) = self.identity;
        if (cluster_id, StoreId(to_store)) == (cluster, store) {
            return Ok(());
        }
        Err(Status::failed_precondition(format!("this is store {store} of cluster {cluster}")))
    }

    async fn receive(&self, mut parts: Streaming<SnapshotPart>) -> Result<(), String> {
        let first = next_part(&mut parts).await?;
        let Some(snapshot_part::Part::Header(header)) = first else {
            return Err("a snapshot begins with its header".to_string());
        };
        self.check_destination(header.cluster_id, header.to_store)
            .map_err(|status| status.message().to_string())?;
        let envelope = header.envelope.ok_or("a header without its message")?;
        let _permit = self.receiving.try_acquire().map_err(|_| "too many snapshots under way")?;
        let staged = self.receive_rows(&mut parts).await?;
        self.inbox.report(Mail::from(Input::SnapshotStaged { staged, envelope }));
        Ok(())
    }

    async fn receive_rows(&self, parts: &mut Streaming<SnapshotPart>) -> Result<StagedId, String> {
        let mut receiving = self.staging.receive().map_err(|e| e.to_string())?;
        let staged = receiving.staged;
        let ended = loop {
            match next_part(parts).await {
                Ok(Some(snapshot_part::Part::Rows(rows))) => {
                    // A chunk is small enough to be written without leaving the task.
                    if let Err(error) = receiving.rows(&rows) {
                        break Err(error.to_string());
                    }
                }
                Ok(Some(snapshot_part::Part::End(end))) => {
                    let end = tokio::task::spawn_blocking(move || receiving.end(&end)).await;
                    break match end {
                        Ok(ended) => ended.map_err(|e| e.to_string()),
                        Err(error) => Err(error.to_string()),
                    };
                }
                Ok(Some(snapshot_part::Part::Header(_)) | None) => {
                    break Err("a snapshot broke off".to_string());
                }
                Err(error) => break Err(error),
            }
        };
        if ended.is_err() {
            let _ = self.staging.discard(staged);
        }
        ended
    }
}

async fn next_part(
    parts: &mut Streaming<SnapshotPart>,
) -> Result<Option<snapshot_part::Part>, String> {
    let part = parts.message().await.map_err(|status| status.message().to_string())?;
    Ok(part.and_then(|part| part.part))
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn messages(
        &self,
        request: Request<Streaming<EnvelopeBatch>>,
    ) -> Result<Response<MessagesDone>, Status> {
        let mut batches = request.into_inner();
        while let Some(batch) = batches.message().await? {
            self.check_destination(batch.cluster_id, batch.to_store)?;
            let bytes = batch.envelopes.iter().map(weight).sum();
            if self.inbox.offer(Mail::Messages(batch.envelopes), bytes).is_err() {
                debug!("the inbox is full, messages are dropped");
            }
        }
        Ok(Response::new(MessagesDone {}))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotPart>>,
    ) -> Result<Response<SnapshotDone>, Status> {
        let received = self.receive(request.into_inner()).await;
        let accepted = received.is_ok();
        let reason = received.err().unwrap_or_default();
        Ok(Response::new(SnapshotDone { accepted, reason }))
    }
}
