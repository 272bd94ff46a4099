//! Why a store does not start.

use std::path::PathBuf;

use flotilla_host::driver::dir::DirError;
use flotilla_net::listen::{AdvertiseError, BindError};
use flotilla_net::pd::PdAddrsError;
use flotilla_net::tls::TlsError;
use flotilla_types::StoreId;

use crate::core::Fatal;

/// Why a store does not start. No row and no log entry was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Others cannot be told of the address.
    #[error(transparent)]
    Advertise(#[from] AdvertiseError),
    /// The certificate is not this store's.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The placement driver's addresses are none.
    #[error(transparent)]
    PdAddrs(#[from] PdAddrsError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// A thread of the store cannot be started, or panicked while it started.
    #[error("data directory {}: {reason}", .dir.display())]
    Thread {
        /// The data directory of the store.
        dir: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The placement driver did not answer, and this store has never been one's.
    #[error("no placement driver at {}: {reason}", .tried.join(", "))]
    PdUnreachable {
        /// The addresses tried.
        tried: Vec<String>,
        /// What the last one did.
        reason: String,
    },
    /// The placement driver does not want this store.
    #[error("the placement driver refuses the store in {}: {reason}", .dir.display())]
    Refused {
        /// The data directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// The directory holds a store of another cluster.
    #[error(
        "{} holds store {store} of cluster {cluster}, and the placement driver is of cluster \
         {pd_cluster}; start it with its own placement driver, or with an empty directory",
        .dir.display()
    )]
    OtherCluster {
        /// The data directory.
        dir: PathBuf,
        /// The store in it.
        store: StoreId,
        /// That store's cluster.
        cluster: u64,
        /// The placement driver's cluster.
        pd_cluster: u64,
    },
    /// What is on disk cannot be used.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}
