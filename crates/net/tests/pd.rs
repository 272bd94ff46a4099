//! The caller of the placement driver, against members that do what a test tells them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_net::listen::{Listener, Services};
use flotilla_net::pd::{PdAddrsError, PdCallError, PdCaller};
use flotilla_net::services::pd_server;
use flotilla_types::proto::pd_error::Kind;
use flotilla_types::proto::pd_reply::Result as Answer;
use flotilla_types::proto::pd_request::Op;
use flotilla_types::proto::pd_server::Pd;
use flotilla_types::proto::{self, PdError, PdReply, PdRequest};
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

const CLUSTER: u64 = 77;

/// Well over a hedge, on a machine that is busy with other tests; below the 3 s after which an
/// answer is given up.
const FROZEN_BOUND: Duration = Duration::from_millis(2_900);

/// What a member does with requests.
#[derive(Clone)]
enum Conduct {
    /// Answers, and refuses another cluster's requests.
    Leads,
    /// Names the leader; empty for "not known".
    Follows(String),
    Busy,
    /// Takes requests and never answers.
    Silent,
    /// Says that it leads, and never answers anything else.
    Loses,
}

struct Member {
    conduct: Mutex<Conduct>,
    requests: Mutex<Vec<PdRequest>>,
}

struct Service(Arc<Member>);

#[tonic::async_trait]
impl Pd for Service {
    async fn call(&self, request: Request<PdRequest>) -> Result<Response<PdReply>, Status> {
        let request = request.into_inner();
        let cluster = request.cluster_id;
        let is_probe = matches!(request.op, Some(Op::Members(_)));
        self.0.requests.lock().expect("no panic").push(request);
        let conduct = self.0.conduct.lock().expect("no panic").clone();
        let error = match conduct {
            Conduct::Leads if cluster == 0 || cluster == CLUSTER => {
                let status = proto::ClusterStatus { cluster_id: CLUSTER, ..Default::default() };
                let result = Some(Answer::ClusterStatus(status));
                return Ok(Response::new(PdReply { result, ..PdReply::default() }));
            }
            Conduct::Leads => Kind::ClusterMismatch(proto::ClusterMismatch { cluster_id: CLUSTER }),
            Conduct::Follows(leader_addr) => Kind::NotLeader(proto::NotPdLeader { leader_addr }),
            Conduct::Busy => Kind::Busy(proto::PdBusy { reason: "too many requests".into() }),
            Conduct::Loses if is_probe => {
                let result = Some(Answer::Group(proto::PdGroup::default()));
                return Ok(Response::new(PdReply { result, ..PdReply::default() }));
            }
            Conduct::Silent | Conduct::Loses => std::future::pending().await,
        };
        let result = Some(Answer::Error(PdError { kind: Some(error) }));
        Ok(Response::new(PdReply { result, ..PdReply::default() }))
    }
}

impl Member {
    /// Starts a member and answers where it listens.
    async fn start(conduct: Conduct) -> (Arc<Member>, String) {
        let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.addr().to_string();
        let member =
            Arc::new(Member { conduct: Mutex::new(conduct), requests: Mutex::new(vec![]) });
        let routes = Routes::new(pd_server(Service(member.clone())));
        tokio::spawn(listener.serve(Services::alike(routes), std::future::pending()));
        (member, addr)
    }

    fn behave(&self, conduct: Conduct) {
        *self.conduct.lock().expect("no panic") = conduct;
    }

    fn requests(&self) -> usize {
        self.requests.lock().expect("no panic").len()
    }

    /// Those that ask for more than who leads.
    fn requests_to_do(&self) -> usize {
        let requests = self.requests.lock().expect("no panic");
        requests.iter().filter(|request| !matches!(request.op, Some(Op::Members(_)))).count()
    }
}

/// An address where nobody listens.
async fn dead_addr() -> String {
    Listener::bind("127.0.0.1:0").await.expect("a free port").addr().to_string()
}

fn caller(addrs: &[&str]) -> PdCaller {
    PdCaller::new(addrs.iter().map(|addr| (*addr).to_string()).collect()).expect("addresses")
}

fn status() -> Op {
    Op::ClusterStatus(proto::ClusterStatusRequest {})
}

/// Requests that make something new each time.
fn once_only() -> [Op; 2] {
    let new_store = Op::RegisterStore(proto::RegisterStoreRequest::default());
    [new_store, Op::AddOperator(proto::AddOperatorRequest::default())]
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

fn late() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn the_leader_is_found_past_the_dead_and_by_a_followers_word_and_remembered() {
    let (leader, leader_addr) = Member::start(Conduct::Leads).await;
    let (follower, follower_addr) = Member::start(Conduct::Follows(leader_addr)).await;
    let pd = caller(&[&dead_addr().await, &follower_addr]);
    for _ in 0..3 {
        pd.call_once(&status()).await.expect("the leader answers");
    }
    assert_eq!(leader.requests(), 3);
    assert_eq!(follower.requests(), 1, "asked only until the leader was known");
}

#[tokio::test]
async fn an_election_is_waited_for_until_the_deadline_but_not_by_one_round() {
    let (member, addr) = Member::start(Conduct::Follows(String::new())).await;
    let pd = caller(&[&addr]);
    let once = pd.call_once(&status()).await.expect_err("nobody leads");
    assert!(matches!(once, PdCallError::NoLeader { .. }), "{once}");
    let in_time = pd.call(&status(), soon()).await.expect_err("nobody leads");
    assert!(matches!(in_time, PdCallError::NoLeader { .. }), "{in_time}");
    let asked = member.requests();
    let elected = async {
        while member.requests() == asked {
            tokio::task::yield_now().await;
        }
        member.behave(Conduct::Leads);
    };
    let op = status();
    let (answer, ()) = tokio::join!(pd.call(&op, late()), elected);
    assert!(matches!(answer, Ok(Answer::ClusterStatus(_))), "{answer:?}");
}

#[tokio::test]
async fn a_leader_that_is_busy_is_told_apart_from_one_that_is_not_there() {
    let (_busy, addr) = Member::start(Conduct::Busy).await;
    let error = caller(&[&addr]).call_once(&status()).await.expect_err("busy");
    assert_eq!(error, PdCallError::Busy { reason: "too many requests".into() });
    let dead = dead_addr().await;
    let error = caller(&[&dead]).call_once(&status()).await.expect_err("nobody there");
    assert!(
        matches!(&error, PdCallError::Unreachable { tried, .. } if *tried == [dead]),
        "{error}"
    );
}

#[tokio::test]
async fn addresses_where_nobody_answers_are_given_up_long_before_a_late_deadline() {
    let dead = dead_addr().await;
    let began = Instant::now();
    let error = caller(&[&dead]).call(&status(), late()).await.expect_err("nobody there");
    assert!(matches!(error, PdCallError::Unreachable { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_may_not_be_done_twice_is_sent_once_if_its_answer_is_lost() {
    let (member, addr) = Member::start(Conduct::Loses).await;
    let (other, other_addr) = Member::start(Conduct::Leads).await;
    let pd = caller(&[&addr, &other_addr]);
    for op in once_only() {
        let before = member.requests_to_do();
        let error = pd.call(&op, soon()).await.expect_err("no answer");
        assert!(matches!(error, PdCallError::Undetermined { .. }), "{error}");
        assert_eq!(member.requests_to_do(), before + 1);
        assert_eq!(other.requests(), 0, "it may be done already");
    }
    let (member, addr) = Member::start(Conduct::Silent).await;
    let pd = caller(&[&addr]);
    for op in once_only() {
        let error = pd.call(&op, soon()).await.expect_err("no answer");
        assert!(matches!(error, PdCallError::Unreachable { .. }), "it was not sent: {error}");
    }
    assert_eq!(member.requests_to_do(), 0);
    let known_store = proto::RegisterStoreRequest { store_id: 1, ..Default::default() };
    let error = pd.call(&Op::RegisterStore(known_store), soon()).await.expect_err("no answer");
    assert!(matches!(error, PdCallError::Undetermined { .. }), "{error}");
    let error = pd.call(&status(), soon()).await.expect_err("no answer");
    assert!(matches!(error, PdCallError::Unreachable { .. }), "a read has no effect: {error}");
}

#[tokio::test]
async fn a_leader_that_freezes_costs_a_call_no_more_than_a_hedge_once_another_leads() {
    let (frozen, frozen_addr) = Member::start(Conduct::Leads).await;
    let (follower, follower_addr) = Member::start(Conduct::Follows(frozen_addr.clone())).await;
    let (next, next_addr) = Member::start(Conduct::Follows(frozen_addr.clone())).await;
    let addrs = [frozen_addr.as_str(), &follower_addr, &next_addr];
    let ops = once_only().into_iter().chain([status()]);
    for op in ops {
        frozen.behave(Conduct::Leads);
        next.behave(Conduct::Follows(frozen_addr.clone()));
        let pd = caller(&addrs);
        pd.call_once(&status()).await.expect("the first leads");
        frozen.behave(Conduct::Silent);
        let (began, before) = (Instant::now(), follower.requests());
        let elected = async {
            while follower.requests() == before {
                tokio::task::yield_now().await;
            }
            next.behave(Conduct::Leads);
            Instant::now()
        };
        let (answer, elected) = tokio::join!(pd.call_once(&op), elected);
        answer.expect("the next one answers");
        let (hedged, took) = (elected - began, elected.elapsed());
        println!("the others were probed after {hedged:?}, and the next answered after {took:?}");
        assert!(hedged < FROZEN_BOUND, "{hedged:?}");
        assert!(took < FROZEN_BOUND, "{took:?}");
    }
    assert_eq!(next.requests_to_do(), 3, "one each");
    assert_eq!(follower.requests_to_do(), 0);
    let known = proto::RegisterStoreRequest { store_id: 1, ..Default::default() };
    let pd = caller(&addrs);
    pd.call_once(&Op::RegisterStore(known)).await.expect("past a frozen first one");
}

#[tokio::test]
async fn another_clusters_placement_driver_refuses() {
    let (member, addr) = Member::start(Conduct::Leads).await;
    let pd = caller(&[&addr]);
    pd.call_once(&status()).await.expect("the cluster is not known yet");
    pd.set_cluster_id(5);
    let error = pd.call(&status(), late()).await.expect_err("another cluster");
    assert_eq!(error, PdCallError::OtherCluster { cluster_id: CLUSTER, wanted: 5 });
    assert_eq!(member.requests(), 2, "it would refuse again");
}

#[tokio::test]
async fn what_an_earlier_caller_learned_is_asked_beside_what_is_configured() {
    let (_leader, addr) = Member::start(Conduct::Leads).await;
    let (_stranger, strange) = Member::start(Conduct::Leads).await;
    let pd = caller(&[&dead_addr().await]);
    pd.remember(&["no address".into(), addr.clone()]);
    assert_eq!(pd.learned(), std::slice::from_ref(&addr));
    pd.call_once(&status()).await.expect("the member that was remembered leads");

    // By now another cluster's member may listen where one of this cluster did.
    let pd = caller(&[&dead_addr().await]);
    pd.remember(&[strange]);
    pd.set_cluster_id(5);
    let error = pd.call_once(&status()).await.expect_err("it is another cluster's");
    assert!(matches!(error, PdCallError::Unreachable { .. }), "{error:?}");
}

#[test]
fn addresses_are_checked_before_anybody_is_called() {
    let new = |addrs: &[&str]| PdCaller::new(addrs.iter().map(|addr| (*addr).into()).collect());
    assert_eq!(new(&[]).err(), Some(PdAddrsError::None));
    assert_eq!(new(&["pd:1"; 17]).err(), Some(PdAddrsError::TooMany { actual: 17 }));
    for bad in ["nonsense", "https://pd:1"] {
        assert!(
            matches!(new(&["pd:1", bad]), Err(PdAddrsError::Invalid(error)) if error.addr == bad)
        );
    }
}
