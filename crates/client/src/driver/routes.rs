//! Fills the router from PD, as [`crate::core::lookup`] says: lookups for callers that wait, one at
//! a time, and refreshes in the background.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use flotilla_types::RegionId;
use tokio::time::{Instant, timeout_at};

use crate::core::limits::ClientLimits;
use crate::core::lookup::{REFRESH_MS_MAX, Refreshes};
use crate::core::router::{Miss, Router, Sent};
use crate::error::{Error, Result};

use super::lock;
use super::pd::PdClient;

/// The shared cache and its only way to PD.
pub(crate) struct Routes {
    pd: PdClient,
    limits: ClientLimits,
    router: RwLock<Router>,
    one_lookup: tokio::sync::Mutex<()>,
    refreshes: Mutex<Refreshes>,
}

impl Routes {
    pub(crate) fn new(pd: PdClient, limits: ClientLimits) -> Routes {
        Routes {
            pd,
            limits,
            router: RwLock::new(Router::new(limits.regions_cached_max)),
            one_lookup: tokio::sync::Mutex::new(()),
            refreshes: Mutex::new(Refreshes::new(limits.refreshes_max)),
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
        let limit = self.limits.lookup_regions_max;
        let page = self.pd.regions_by(miss.key(), limit, deadline).await?;
        self.write().absorb_routes(page, None);
        Ok(())
    }

    /// Asks PD about a region whose cached form led callers astray, in the background, unless such
    /// a question is under way.
    pub(crate) fn refresh(self: &Arc<Self>, region: RegionId) {
        let key = lock(&self.refreshes).begin(region, &self.read());
        let Some(key) = key else { return };
        let routes = Arc::clone(self);
        tokio::spawn(async move {
            let deadline = Instant::now() + Duration::from_millis(REFRESH_MS_MAX);
            match routes.pd.regions_by(key, routes.limits.lookup_regions_max, deadline).await {
                Ok(page) => routes.write().absorb_routes(page, Some(region)),
                Err(error) => tracing::debug!(region = region.0, %error, "refresh failed"),
            }
            lock(&routes.refreshes).ended(region);
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
