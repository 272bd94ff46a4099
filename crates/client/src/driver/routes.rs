//! Fills the router from the placement driver: on a miss, and when no store knows.
//!
//! A miss is waited for, one lookup at a time: callers that miss the same range while one of them
//! asks find its answer in the cache when their turn comes. A refresh is never waited for: the
//! stores may know better, and PD may be away.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use flotilla_types::RegionId;
use tokio::time::{Instant, timeout_at};

use crate::core::router::{Miss, Router, Sent};
use crate::error::{Error, Result};

use super::lock;
use super::pd::PdClient;

/// Regions asked for on a miss: neighbours are likely to be wanted next, and 64 fit a few
/// kilobytes.
const LOOKUP_REGIONS_MAX: u64 = 64;

/// Refreshes under way at once.
const REFRESHES_MAX: usize = 16;

/// A refresh that takes longer would find a cache that has moved on.
const REFRESH_MS_MAX: u64 = 2_000;

/// The shared cache and its only way to PD.
pub(crate) struct Routes {
    pd: PdClient,
    router: RwLock<Router>,
    one_lookup: tokio::sync::Mutex<()>,
    refreshing: Mutex<BTreeSet<RegionId>>,
}

impl Routes {
    pub(crate) fn new(pd: PdClient) -> Routes {
        Routes {
            pd,
            router: RwLock::new(Router::default()),
            one_lookup: tokio::sync::Mutex::new(()),
            refreshing: Mutex::new(BTreeSet::new()),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Router> {
        self.router.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Router> {
        self.router.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks PD for what the cache lacks. Ok means that PD answered, not that it knew.
    pub(crate) async fn look_up(&self, miss: &Miss, deadline: Instant) -> Result<()> {
        let _turn = timeout_at(deadline, self.one_lookup.lock()).await.map_err(|_| {
            Error::DeadlineExceeded {
                what: "lookup of a region".into(),
                last: "waiting for another lookup at the placement driver".into(),
            }
        })?;
        if self.read().knows(miss) {
            return Ok(());
        }
        let page = self.pd.regions_by(miss.key(), LOOKUP_REGIONS_MAX, deadline).await?;
        self.write().absorb_routes(page, None);
        Ok(())
    }

    /// Asks PD about a region that led callers astray, in the background.
    pub(crate) fn refresh(self: &Arc<Self>, region: RegionId, key: Bytes) {
        {
            let mut refreshing = lock(&self.refreshing);
            if refreshing.len() >= REFRESHES_MAX || !refreshing.insert(region) {
                return;
            }
        }
        let routes = Arc::clone(self);
        tokio::spawn(async move {
            let deadline = Instant::now() + Duration::from_millis(REFRESH_MS_MAX);
            match routes.pd.regions_by(key, LOOKUP_REGIONS_MAX, deadline).await {
                Ok(page) => routes.write().absorb_routes(page, Some(region)),
                Err(error) => tracing::debug!(region = region.0, %error, "refresh failed"),
            }
            lock(&routes.refreshing).remove(&region);
        });
    }

    /// Notes that a store answered for a region. Almost always nothing new, so look before locking.
    pub(crate) fn confirm(&self, sent: &Sent) {
        let known = self.read().is_leader(sent);
        if !known {
            self.write().confirm_leader(sent);
        }
    }
}
