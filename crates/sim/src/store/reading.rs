//! The reads under a permit that a store's process has begun and not ended: plain data. What
//! happens to them is in [`super::permit`].

use std::collections::BTreeMap;

use flotilla_store::core::permit::Reading;
use flotilla_store::core::{Request, RequestId};

use crate::check::Verdict;
use crate::event::{AttemptId, ClientRequest};

/// The reads of a process that have begun and not ended.
#[derive(Default)]
pub struct Readings {
    pub(super) under_way: BTreeMap<RequestId, Stage>,
}

/// A read under way.
pub(super) struct Stage {
    pub(super) reading: Reading,
    pub(super) read: Request,
    /// As the client sent it, for the worker if the permit lapses.
    pub(super) request: ClientRequest,
    /// What the checkers say about the answer, once the state is read.
    pub(super) checked: Option<Verdict>,
}

impl Readings {
    /// The attempts that wait for these reads.
    pub fn into_attempts(self) -> impl Iterator<Item = AttemptId> {
        self.under_way.into_values().map(|stage| stage.request.attempt)
    }
}
