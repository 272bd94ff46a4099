//! The placement driver's requests, typed: one method for each that a client or a person makes.
//!
//! Used by [`crate::Client`] for routes, and by the command line for administration. Finding the
//! leader and trying again is [`PdCaller`]'s; what only stores ask for is not here.
//!
//! Administrative answers are the messages of `proto/pd.proto` as they came; routes are converted,
//! for they feed the router.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_net::pd::{PD_ADDRS_MAX, PdAddrsError, PdCallError, PdCaller};
use flotilla_net::tls::Tls;
use flotilla_types::explain::{Explanation, Question};
use flotilla_types::placement::OperatorRequest;
use flotilla_types::{Member, Region, StoreId, proto};
use proto::change_members_request::Kind as Change;
use proto::pd_reply::Result as Answer;
use proto::pd_request::Op;
use tokio::time::Instant;

use crate::core::router::{Route, RoutesPage};
use crate::error::{Error, Result};

/// How long a call may take unless [`PdClient::with_timeout`] says otherwise: some elections.
pub const PD_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Pages that [`PdClient::all_regions`] follows at most: with the thousands of regions that fit a
/// page, more than any cluster has.
const PAGES_MAX: usize = 10_000;

/// Calls to the placement driver; follows its leader. Cheap to clone; clones share connections and
/// what is known of the leader.
///
/// Every call ends within the timeout. Besides what a method says, it may end as
/// [`Error::PdUnreachable`] (no address answers), [`Error::DeadlineExceeded`] (members answer but
/// none leads, or it is busy), [`Error::Refused`] (another cluster's, or the request cannot be
/// carried out) or [`Error::Protocol`].
#[derive(Clone, Debug)]
pub struct PdClient {
    caller: Arc<PdCaller>,
    tls: Option<Tls>,
    timeout: Duration,
}

impl PdClient {
    /// A client for the placement driver at these addresses (`HOST:PORT`, any of its members).
    /// Connects at the first call. The cluster id is learned from the first answer that has it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an address that is none, or no address at all;
    /// [`Error::LimitExceeded`] for more than [`PD_ADDRS_MAX`].
    pub fn new<I, A>(endpoints: I) -> Result<PdClient>
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
    {
        PdClient::secured(endpoints, None)
    }

    /// The same, with these certificates if there are any.
    ///
    /// # Errors
    /// As [`PdClient::new`].
    pub fn secured<I, A>(endpoints: I, tls: Option<Tls>) -> Result<PdClient>
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
    {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        let caller = PdCaller::new(endpoints).map_err(addrs_error)?.secured(tls.clone());
        Ok(PdClient { caller: Arc::new(caller), tls, timeout: PD_TIMEOUT_DEFAULT })
    }

    /// The certificates that the cluster is called with.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The same client with another timeout for its calls.
    pub fn with_timeout(mut self, timeout: Duration) -> PdClient {
        self.timeout = timeout;
        self
    }

    /// The cluster id; None until it is learned.
    pub fn cluster_id(&self) -> Option<u64> {
        Some(self.caller.cluster_id()).filter(|id| *id != 0)
    }

    /// The addresses given, without scheme.
    pub fn endpoints(&self) -> &[String] {
        self.caller.addrs()
    }

    /// The cluster's id, its placement drivers, and counts.
    pub async fn cluster_status(&self) -> Result<proto::ClusterStatus> {
        let op = Op::ClusterStatus(proto::ClusterStatusRequest {});
        match self.call(op).await? {
            Answer::ClusterStatus(status) => {
                self.learn(status.cluster_id);
                Ok(status)
            }
            other => Err(unexpected(other)),
        }
    }

    /// Every store that was not removed for good, with its load.
    pub async fn stores(&self) -> Result<Vec<proto::StoreStatus>> {
        match self.call(Op::Stores(proto::StoresRequest {})).await? {
            Answer::Stores(reply) => Ok(reply.stores),
            other => Err(unexpected(other)),
        }
    }

    /// One page of the range map: regions in key order from the one that holds the stored key
    /// `start` on, at most `limit` (0: as many as a reply holds).
    pub async fn regions(&self, start: impl Into<Bytes>, limit: u64) -> Result<RoutesPage> {
        self.regions_by(start.into(), limit, self.deadline()).await
    }

    /// The whole range map, page by page, in key order. Each page has the full timeout. Regions
    /// that split meanwhile may appear in either form, and every key is in some region of the
    /// answer.
    pub async fn all_regions(&self) -> Result<Vec<Route>> {
        let mut routes: Vec<Route> = Vec::new();
        let mut start = Bytes::new();
        for _ in 0..PAGES_MAX {
            let page = self.regions(start.clone(), 0).await?;
            let end = page.routes.last().map(|route| route.region.range.end.clone());
            routes.extend(page.routes);
            match end {
                Some(end) if end > start => start = end,
                Some(end) if end.is_empty() => return Ok(routes),
                Some(_) => return Err(Error::Protocol { what: "regions out of order".into() }),
                None => return Ok(routes),
            }
        }
        Err(Error::Protocol { what: format!("more than {PAGES_MAX} pages of regions") })
    }

    /// Takes a store into service, drains it, or removes it for good.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such store.
    pub async fn set_store_state(&self, store: StoreId, state: proto::StoreState) -> Result<()> {
        self.set_state(store, state, false).await
    }

    /// Removes a store for good that may hold replicas, because it never runs again: its process
    /// has ended, and its directory is never used again. The caller answers for that.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such store, [`Error::Refused`] if it was heard lately.
    pub async fn remove_lost_store(&self, store: StoreId) -> Result<()> {
        self.set_state(store, proto::StoreState::Removed, true).await
    }

    async fn set_state(
        &self,
        store: StoreId,
        state: proto::StoreState,
        is_lost: bool,
    ) -> Result<()> {
        let (store_id, state) = (store.0, state.into());
        let request = proto::SetStoreStateRequest { store_id, state, is_lost };
        match self.call(Op::SetStoreState(request)).await? {
            Answer::SetStoreState(proto::SetStoreStateReply {}) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Asks for a change of a region; returns the operator's id at once. Not repeated if the answer
    /// is lost: the error is then [`Error::Undetermined`], and [`PdClient::operators`] tells.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such region or store, [`Error::Refused`] if the region
    /// has an operator already or the change makes no sense.
    pub async fn add_operator(
        &self,
        region: flotilla_types::RegionId,
        kind: OperatorRequest,
    ) -> Result<u64> {
        let request = proto::AddOperatorRequest { region_id: region.0, kind: Some(kind.into()) };
        match self.call(Op::AddOperator(request)).await? {
            Answer::AddOperator(reply) => Ok(reply.operator_id),
            other => Err(unexpected(other)),
        }
    }

    /// The operators under way.
    pub async fn operators(&self) -> Result<Vec<proto::OperatorStatus>> {
        match self.call(Op::Operators(proto::OperatorsRequest {})).await? {
            Answer::Operators(reply) => Ok(reply.operators),
            other => Err(unexpected(other)),
        }
    }

    /// Cancels an operator. Steps that a store has begun are not undone. May be repeated after a
    /// lost answer, and then ends as `NotFound` although this call cancelled it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such operator.
    pub async fn cancel_operator(&self, operator_id: u64) -> Result<()> {
        let request = proto::CancelOperatorRequest { operator_id };
        match self.call(Op::CancelOperator(request)).await? {
            Answer::CancelOperator(proto::CancelOperatorReply {}) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// What the placement driver thinks of something, and why. Changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such store or region.
    pub async fn explain(&self, question: Question) -> Result<Explanation> {
        match self.call(Op::Explain(question.into())).await? {
            Answer::Explanation(explanation) => Explanation::try_from(explanation)
                .map_err(|error| Error::Protocol { what: error.to_string() }),
            other => Err(unexpected(other)),
        }
    }

    /// The placement driver's own group.
    pub async fn members(&self) -> Result<proto::PdGroup> {
        self.ask_members(Op::Members(proto::MembersRequest {})).await
    }

    /// Adds a member to the placement driver's group. Its process is started with `--join`, and it
    /// votes once it has caught up. May be repeated.
    ///
    /// # Errors
    /// [`Error::Refused`] if the id is in use or was removed.
    pub async fn add_member(&self, id: u64, addr: &str) -> Result<proto::PdGroup> {
        let member = proto::PdMember { id, addr: addr.into(), ..Default::default() };
        self.change_members(Change::Add(member)).await
    }

    /// Removes a member of the placement driver's group for ever. May be repeated.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such member, [`Error::Refused`] if those that are left
    /// could not decide anything.
    pub async fn remove_member(&self, id: u64) -> Result<proto::PdGroup> {
        self.change_members(Change::Remove(id)).await
    }

    /// Makes a member of the placement driver's group its leader.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such member, [`Error::Refused`] if it cannot lead.
    pub async fn transfer_pd_leader(&self, id: u64) -> Result<proto::PdGroup> {
        self.change_members(Change::TransferLeader(id)).await
    }

    async fn change_members(&self, change: Change) -> Result<proto::PdGroup> {
        let request = proto::ChangeMembersRequest { kind: Some(change) };
        self.ask_members(Op::ChangeMembers(request)).await
    }

    async fn ask_members(&self, op: Op) -> Result<proto::PdGroup> {
        match self.call(op).await? {
            Answer::Group(group) => Ok(group),
            other => Err(unexpected(other)),
        }
    }

    pub(crate) async fn regions_by(
        &self,
        start_key: Bytes,
        limit: u64,
        deadline: Instant,
    ) -> Result<RoutesPage> {
        let op = Op::Regions(proto::RegionsRequest { start_key, limit });
        match self.call_by(op, deadline).await? {
            Answer::Regions(reply) => routes_page(reply),
            other => Err(unexpected(other)),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    async fn call(&self, op: Op) -> Result<Answer> {
        self.call_by(op, self.deadline()).await
    }

    async fn call_by(&self, op: Op, deadline: Instant) -> Result<Answer> {
        self.caller.call(&op, deadline).await.map_err(|error| call_error(op_name(&op), error))
    }

    pub(crate) fn learn(&self, cluster_id: u64) {
        if self.caller.cluster_id() == 0 {
            self.caller.set_cluster_id(cluster_id);
        }
    }
}

fn addrs_error(error: PdAddrsError) -> Error {
    match error {
        PdAddrsError::None | PdAddrsError::Invalid(_) => {
            Error::InvalidArgument { what: error.to_string() }
        }
        PdAddrsError::TooMany { actual } => Error::LimitExceeded {
            limit: "placement driver addresses".into(),
            max: PD_ADDRS_MAX as u64,
            actual: actual as u64,
        },
    }
}

fn call_error(what: &str, error: PdCallError) -> Error {
    match error {
        PdCallError::Unreachable { tried, reason } => Error::PdUnreachable { tried, reason },
        PdCallError::NoLeader { reason } | PdCallError::Busy { reason } => {
            Error::DeadlineExceeded { what: what.into(), last: reason }
        }
        PdCallError::Undetermined { reason } => Error::Undetermined { what: what.into(), reason },
        PdCallError::NotFound { what } => Error::NotFound { what },
        PdCallError::Protocol { what } => Error::Protocol { what },
        PdCallError::Refused { .. }
        | PdCallError::Unsupported { .. }
        | PdCallError::OtherCluster { .. } => Error::Refused { reason: error.to_string() },
    }
}

/// What a request is called in errors.
fn op_name(op: &Op) -> &'static str {
    match op {
        Op::ClusterStatus(_) => "cluster status",
        Op::RegisterStore(_) => "register store",
        Op::Heartbeat(_) => "store heartbeat",
        Op::AllocateIds(_) => "allocate ids",
        Op::Regions(_) => "regions",
        Op::Stores(_) => "stores",
        Op::SetStoreState(_) => "set store state",
        Op::AddOperator(_) => "add operator",
        Op::Operators(_) => "operators",
        Op::CancelOperator(_) => "cancel operator",
        Op::Members(_) => "placement drivers",
        Op::ChangeMembers(_) => "change placement drivers",
        Op::Explain(_) => "explain",
    }
}

pub(crate) fn routes_page(reply: proto::RegionsReply) -> Result<RoutesPage> {
    let route = |route: proto::Route| {
        let region =
            route.region.ok_or(Error::Protocol { what: "a route without region".into() })?;
        Ok(Route {
            region: Region::try_from(region)
                .map_err(|error| Error::Protocol { what: error.to_string() })?,
            leader: route.leader.map(Member::from),
            approximate_bytes: route.approximate_bytes,
            approximate_keys: route.approximate_keys,
            load: route.load.map(Into::into).unwrap_or_default(),
        })
    };
    let stores = reply.stores.into_iter().map(|store| (StoreId(store.store_id), store.addr));
    Ok(RoutesPage {
        routes: reply.routes.into_iter().map(route).collect::<Result<_>>()?,
        stores: stores.collect(),
    })
}

fn unexpected(answer: Answer) -> Error {
    let got = match answer {
        Answer::Error(_) => "an error",
        Answer::ClusterStatus(_) => "cluster status",
        Answer::RegisterStore(_) => "a registration",
        Answer::Heartbeat(_) => "a heartbeat's reply",
        Answer::Ids(_) => "ids",
        Answer::Regions(_) => "regions",
        Answer::Stores(_) => "stores",
        Answer::SetStoreState(_) => "a store state's reply",
        Answer::AddOperator(_) => "an operator's id",
        Answer::Operators(_) => "operators",
        Answer::CancelOperator(_) => "a cancellation's reply",
        Answer::Group(_) => "placement drivers",
        Answer::Explanation(_) => "an explanation",
    };
    Error::Protocol { what: format!("the placement driver answered {got}, which was not asked") }
}
