//! A store that answers nothing while requests wait: whether another leads their regions by now.
//!
//! A process that stands still keeps its connections, and its clients would wait until a keepalive
//! ends them, although its regions have new leaders as soon as after the death of a process. So the
//! other stores of the regions are asked.
//!
//! In: a region whose request waits, whichever of them. Out: the regions that another store says it
//! leads. What becomes of the requests is the connection's; which word counts is
//! [`crate::core::lookup::led_by`]'s.

use std::sync::Arc;

use flotilla_types::{RegionId, StoreId};
use tokio::sync::mpsc;

use super::routes::{LedElsewhere, Routes};

/// Answers that are not looked at yet: one for each other store of a region.
const ANSWERS_MAX: usize = 8;

/// The questions of one connection, one round of them at a time.
pub(crate) struct Doubt {
    routes: Arc<Routes>,
    answers: mpsc::Receiver<LedElsewhere>,
    answered: mpsc::Sender<LedElsewhere>,
}

impl Doubt {
    pub(crate) fn new(routes: Arc<Routes>) -> Doubt {
        let (answered, answers) = mpsc::channel(ANSWERS_MAX);
        Doubt { routes, answers, answered }
    }

    /// True while a question is under way.
    pub(crate) fn is_asking(&self) -> bool {
        // Each question holds a sender.
        self.answered.strong_count() > 1
    }

    /// Asks the stores of the region, but for this one, what they lead from there on, unless a
    /// question is under way.
    pub(crate) fn ask(&self, region: RegionId, store: StoreId) {
        if self.is_asking() {
            return;
        }
        let (routes, answered) = (self.routes.clone(), self.answered.clone());
        tokio::spawn(async move { routes.led_elsewhere(region, store, &answered).await });
    }

    /// The next answer that names a region.
    pub(crate) async fn next(&mut self) -> LedElsewhere {
        match self.answers.recv().await {
            Some(led) => led,
            // It has a sender itself.
            None => std::future::pending().await,
        }
    }

    /// Notes that a store leads a region.
    pub(crate) fn note(&self, region: RegionId, by: StoreId) {
        self.routes.leads(region, by);
    }
}
