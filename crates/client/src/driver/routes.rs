//! Fills the router from PD, as [`crate::core::lookup`] says: lookups for callers that wait, one at
//! a time, and refreshes in the background.
//!
//! PD may be away. A question that PD has not answered within [`STORES_AFTER_MS`] goes to stores as
//! well, those first that are likely to hold the key ([`Router::stores_to_ask`]), and whoever fills
//! the hole first ends it. While PD is known to be away, stores are asked at once beside it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use flotilla_net::tls::Tls;
use flotilla_types::{RegionId, StoreId};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use crate::core::limits::ClientLimits;
use crate::core::lookup::{
    DOUBTED_REGIONS_MAX, REFRESH_MS_MAX, Refreshes, STORES_AFTER_MS, STORES_AT_ONCE, led_by,
};
use crate::core::router::{Miss, Router, RoutesPage, Sent};
use crate::error::{Error, Result};

use super::held::{Held, HeldCaller};
use super::lock;
use super::pd::PdClient;

/// Stores asked for one hole: more than hold a region, few enough for the second that a hole may
/// take.
const STORES_ASKED_MAX: usize = 16;

/// Between two rounds of asking who is there: as often as a store that starts is looked for.
const IDENTIFY_INTERVAL_MS: u64 = 200;

/// The shared cache and its ways to those that fill it.
pub(crate) struct Routes {
    pd: PdClient,
    cluster_id: u64,
    stores: HeldCaller,
    /// True while PD is known not to answer.
    is_pd_away: AtomicBool,
    limits: ClientLimits,
    router: RwLock<Router>,
    one_lookup: tokio::sync::Mutex<()>,
    refreshes: Mutex<Refreshes>,
}

/// The regions that a store says it leads.
pub(crate) struct LedElsewhere {
    /// The store.
    pub(crate) by: StoreId,
    /// Its regions.
    pub(crate) regions: Vec<RegionId>,
}

/// What a question is about, and when it is answered.
struct Question<'a> {
    key: &'a Bytes,
    distrusted: Option<RegionId>,
    deadline: Instant,
    is_answered: &'a (dyn Fn(&Router) -> bool + Sync),
}

impl Routes {
    pub(crate) fn new(pd: PdClient, cluster_id: u64, limits: ClientLimits) -> Routes {
        let stores = HeldCaller::new(pd.tls().cloned());
        Routes {
            pd,
            cluster_id,
            stores,
            is_pd_away: AtomicBool::new(false),
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

    /// Asks for what the cache lacks. Ok means that PD or a store answered, not that it knew.
    pub(crate) async fn look_up(&self, miss: &Miss, deadline: Instant) -> Result<()> {
        let _turn = timeout_at(deadline, self.one_lookup.lock()).await.map_err(|_| {
            Error::DeadlineExceeded {
                what: "lookup of a region".into(),
                last: "waiting for another lookup".into(),
            }
        })?;
        if self.read().knows(miss) {
            return Ok(());
        }
        let (key, is_answered) = (miss.key(), |router: &Router| router.knows(miss));
        let question =
            Question { key: &key, distrusted: None, deadline, is_answered: &is_answered };
        self.ask(question).await
    }

    /// Asks about a region whose cached form led callers astray, in the background, unless such a
    /// question is under way.
    pub(crate) fn refresh(self: &Arc<Self>, region: RegionId) {
        let (key, epoch) = {
            let router = self.read();
            let key = lock(&self.refreshes).begin(region, &router);
            (key, router.region(region).map(|known| known.epoch))
        };
        let (Some(key), Some(epoch)) = (key, epoch) else { return };
        let routes = Arc::clone(self);
        tokio::spawn(async move {
            let deadline = Instant::now() + Duration::from_millis(REFRESH_MS_MAX);
            let is_answered = |router: &Router| router.has_better(&key, region, epoch);
            let distrusted = Some(region);
            let question = Question { key: &key, distrusted, deadline, is_answered: &is_answered };
            if let Err(error) = routes.ask(question).await {
                tracing::debug!(region = region.0, %error, "refresh failed");
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

    /// Asks the stores of a region, but for `store`, which regions they lead from that one on.
    /// Tells of those that lead one.
    pub(crate) async fn led_elsewhere(
        &self,
        region: RegionId,
        store: StoreId,
        led: &mpsc::Sender<LedElsewhere>,
    ) {
        let (key, addrs) = self.read().stores_beside(region, store);
        let limit = DOUBTED_REGIONS_MAX;
        let ask = |addr| self.stores.ask(addr, self.cluster_id, key.clone(), limit);
        let mut answers: FuturesUnordered<_> = addrs.iter().map(|addr| ask(&**addr)).collect();
        while let Some(answer) = answers.next().await {
            let Ok(held) = answer else { continue };
            let regions = led_by(held.store, &held.page);
            if !regions.is_empty() {
                // Nobody reads once the connection has ended.
                let _ = led.send(LedElsewhere { by: held.store, regions }).await;
            }
        }
    }

    /// Notes that a store says of itself that it leads a region.
    pub(crate) fn leads(&self, region: RegionId, store: StoreId) {
        self.write().leads(region, store);
    }

    /// Asks PD, and stores if PD takes long or does not know. Ends when the question is answered,
    /// or nobody is left to ask.
    async fn ask(&self, question: Question<'_>) -> Result<()> {
        let (key, deadline) = (question.key, question.deadline);
        let pd = self.pd.regions_by(key.clone(), self.limits.lookup_regions_max, deadline);
        let stores = timeout_at(deadline, self.ask_stores(&question));
        tokio::pin!(pd, stores);
        let answer = tokio::select! {
            answer = &mut pd => {
                let answer = self.take_answer(answer, question.distrusted);
                if answer.is_err() || !(question.is_answered)(&self.read()) {
                    let is_answered = stores.await.unwrap_or(false);
                    return if is_answered { Ok(()) } else { answer };
                }
                answer
            }
            is_answered = &mut stores => {
                if is_answered.unwrap_or(false) {
                    self.is_pd_away.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                self.take_answer(pd.await, question.distrusted)
            }
        };
        answer
    }

    fn take_answer(&self, answer: Result<RoutesPage>, distrusted: Option<RegionId>) -> Result<()> {
        self.is_pd_away.store(answer.is_err(), Ordering::Relaxed);
        match answer {
            Ok(page) => {
                self.write().absorb_routes(page, distrusted);
                Ok(())
            }
            // Where a store was named as the placement driver, a later try may find a store.
            Err(Error::Protocol { what }) => {
                Err(Error::PdUnreachable { tried: self.pd.endpoints().to_vec(), reason: what })
            }
            Err(error) => Err(error),
        }
    }

    /// Asks stores, a few at once, until the question is answered. False if nobody could.
    async fn ask_stores(&self, question: &Question<'_>) -> bool {
        if !self.is_pd_away.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(STORES_AFTER_MS)).await;
        }
        let known = self.read().stores_to_ask(question.key);
        let mut addrs: Vec<Arc<str>> = known.into_iter().map(|(_, addr)| addr).collect();
        addrs.extend(self.pd.endpoints().iter().map(|addr| Arc::from(addr.as_str())));
        addrs.truncate(STORES_ASKED_MAX);
        let limit = self.limits.lookup_regions_max;
        for some in addrs.chunks(STORES_AT_ONCE) {
            let ask = |addr| self.stores.ask(addr, self.cluster_id, question.key.clone(), limit);
            let mut answers: FuturesUnordered<_> = some.iter().map(|addr| ask(&**addr)).collect();
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(held) => {
                        self.write().absorb_held(held.store, held.page);
                    }
                    Err(reason) => tracing::debug!(%reason, "a store gave no routes"),
                }
                if (question.is_answered)(&self.read()) {
                    return true;
                }
            }
        }
        false
    }
}

/// The first store among these addresses to answer; asked again and again until one does.
pub(crate) async fn identify(addrs: &[String], tls: Option<Tls>) -> Held {
    let caller = HeldCaller::new(tls);
    loop {
        let ask = |addr| caller.ask(addr, 0, Bytes::new(), 0);
        let mut answers: FuturesUnordered<_> = addrs.iter().map(|addr| ask(addr)).collect();
        while let Some(answer) = answers.next().await {
            if let Ok(held) = answer {
                return held;
            }
        }
        sleep(Duration::from_millis(IDENTIFY_INTERVAL_MS)).await;
    }
}
