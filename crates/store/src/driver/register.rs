//! How a starting store registers with the placement driver (PD).
//!
//! In: the configuration and the open directory. Out: which store this is, and what PD said.
//!
//! 1. The store asks PD to register it, under its id if the directory names one. A new store waits
//!    for PD; one that has an id waits only for a PD that answers.
//! 2. What PD answers to a new store is written into the directory: the cluster and the store's id.
//!
//! PD is sought at the configured addresses, and at those that its members had when the store ran
//! last. A store that has an id starts without PD, and its heartbeats register it later.

use std::time::Duration;

use flotilla_net::pd::{PdCallError, PdCaller};
use flotilla_net::principal::CertRole;
use flotilla_net::tls::TlsError;
use flotilla_types::StoreId;
use flotilla_types::proto::{RegisterStoreReply, RegisterStoreRequest, pd_reply, pd_request};
use tracing::warn;

use super::config::StoreConfig;
use super::dir::StoreDir;
use super::error::StartError;
use crate::core::records;

/// How long a starting store waits for the placement driver.
const REGISTER_MS_MAX: u64 = 10_000;

/// How long a store that is known waits for an answer: several round trips. It starts anyway.
const KNOWN_MS_MAX: u64 = 1_000;

/// Between two attempts to register.
const REGISTER_INTERVAL_MS: u64 = 200;

/// A store that knows who it is.
pub struct Registered {
    /// The way to the placement driver.
    pub pd: PdCaller,
    /// The cluster and the store.
    pub identity: (u64, StoreId),
    /// What was asked, to be asked again if there is no `reply`.
    pub request: RegisterStoreRequest,
    /// The placement driver's answer; None if it did not answer.
    pub reply: Option<RegisterStoreReply>,
}

/// Makes the directory a store's, if it is not yet; asks whether the placement driver agrees.
pub async fn register(config: &StoreConfig, dir: &mut StoreDir) -> Result<Registered, StartError> {
    let (cluster, store) = dir.ident.unwrap_or_default();
    let request = RegisterStoreRequest {
        store_id: store.0,
        addr: config.advertise.clone().unwrap_or_else(|| config.addr.clone()),
        labels: config.labels.clone().into_iter().collect(),
    };
    check_certificate(config, dir.ident.map(|(_, store)| store))?;
    let pd = PdCaller::new(config.pd.clone())?.secured(config.security.tls().cloned());
    pd.remember(&records::load_pd_addrs(&dir.data.state)?);
    pd.set_cluster_id(cluster);
    let reply = ask(config, dir, &pd, &request).await?;
    if let (Some(reply), None) = (&reply, dir.ident) {
        check_certificate(config, Some(StoreId(reply.store_id)))?;
        dir.set_ident(reply.cluster_id, StoreId(reply.store_id))?;
    }
    let identity = dir.ident.unwrap_or_default();
    pd.set_cluster_id(identity.0);
    Ok(Registered { pd, identity, request, reply })
}

/// Checks that the certificate, if there is one, is of a store, of this one if it names one, and
/// valid for the address that others call. A new store is none in particular.
pub fn check_certificate(config: &StoreConfig, store: Option<StoreId>) -> Result<(), TlsError> {
    let addr = config.advertise.as_ref().unwrap_or(&config.addr);
    let id = store.map(|store| store.0);
    config.security.tls().map_or(Ok(()), |tls| tls.check_server(CertRole::Store, id, addr))
}

/// The placement driver's answer; None if there is none and the store can start without it.
async fn ask(
    config: &StoreConfig,
    dir: &StoreDir,
    pd: &PdCaller,
    request: &RegisterStoreRequest,
) -> Result<Option<RegisterStoreReply>, StartError> {
    let op = pd_request::Op::RegisterStore(request.clone());
    let is_new = dir.ident.is_none();
    let mut waited_ms = 0;
    let answer = loop {
        let answer = if is_new { pd.call_once(&op).await } else { call_briefly(pd, &op).await };
        match answer {
            Err(error) if waited_ms < REGISTER_MS_MAX && is_worth_waiting(&error, is_new) => {
                tokio::time::sleep(Duration::from_millis(REGISTER_INTERVAL_MS)).await;
                waited_ms += REGISTER_INTERVAL_MS;
            }
            answer => break answer,
        }
    };
    let refused = |reason: String| StartError::Refused { dir: config.dir.clone(), reason };
    match answer {
        Ok(pd_reply::Result::RegisterStore(reply)) => Ok(Some(reply)),
        Ok(_) => Err(refused("it answered another request".to_string())),
        Err(PdCallError::OtherCluster { cluster_id, .. }) => {
            let (cluster, store) = dir.ident.unwrap_or_default();
            let dir = config.dir.clone();
            Err(StartError::OtherCluster { dir, store, cluster, pd_cluster: cluster_id })
        }
        Err(
            error @ (PdCallError::Refused { .. }
            | PdCallError::NotFound { .. }
            | PdCallError::Unsupported { .. }),
        ) => Err(refused(error.to_string())),
        Err(error) if is_new => {
            let tried = pd.addrs().to_vec();
            Err(StartError::PdUnreachable { tried, reason: reason(error) })
        }
        Err(error) => {
            warn!(%error, "the placement driver did not register the store, which starts anyway");
            Ok(None)
        }
    }
}

/// The answer to a store that does not wait for one long.
async fn call_briefly(pd: &PdCaller, op: &pd_request::Op) -> Result<pd_reply::Result, PdCallError> {
    let limit = Duration::from_millis(KNOWN_MS_MAX);
    tokio::time::timeout(limit, pd.call_once(op)).await.unwrap_or_else(|_| {
        let reason = format!("no answer within {KNOWN_MS_MAX} ms");
        Err(PdCallError::Unreachable { tried: pd.addrs().to_vec(), reason })
    })
}

/// True if the same request may soon be answered, and the store cannot or should not start before.
fn is_worth_waiting(error: &PdCallError, is_new: bool) -> bool {
    match error {
        PdCallError::Busy { .. } => true,
        // After a lost answer a new store asks again; at worst an id is wasted.
        PdCallError::Unreachable { .. }
        | PdCallError::NoLeader { .. }
        | PdCallError::Undetermined { .. } => is_new,
        PdCallError::Refused { .. }
        | PdCallError::NotFound { .. }
        | PdCallError::OtherCluster { .. }
        | PdCallError::Unsupported { .. }
        | PdCallError::Protocol { .. } => false,
    }
}

/// What happened, without the addresses, which [`StartError::PdUnreachable`] names.
fn reason(error: PdCallError) -> String {
    match error {
        PdCallError::Unreachable { reason, .. } => reason,
        error => error.to_string(),
    }
}
