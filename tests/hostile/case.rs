//! A case: what is sent, and in which ways it may end.
//!
//! A call's end is told in words, such as `epoch not match` or `status 13`. A case names the
//! beginnings of those that are right.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_tests::Cluster;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::grpc::{Ended, Sent, call};
use crate::world::World;

/// A call that has not ended by then hangs: what a request may take that names no time limit, and
/// some for a machine that is busy with other tests.
pub const CASE_TIME_MAX: Duration = Duration::from_secs(20);

/// Calls at a time.
const CALLS_MAX: usize = 4;

/// A leader may change, and may have too much to do: a call that it refuses is made again for some
/// time.
const REFUSED_TIME_MAX: Duration = Duration::from_secs(15);

/// Before it is made again.
const PAUSE: Duration = Duration::from_millis(300);

/// What the words for the end begin with if the store that is asked does not lead (any more).
pub const NOT_LEADER: &str = "not leader";

/// What a call is, once the cluster is known.
pub type Build = Box<dyn Fn(&World) -> Sent + Send + Sync>;

/// One call, and how it may end.
pub struct Case {
    /// For people.
    pub name: String,
    /// The call.
    pub build: Build,
    /// The words for what an answer says, if its status is 0.
    pub tell: fn(&Ended) -> String,
    /// One of these begins the words for the end.
    pub expected: Vec<&'static str>,
}

/// Makes all calls; answers the cases that ended otherwise than they may.
pub async fn run(cluster: &Cluster, cases: Vec<Case>) -> Vec<String> {
    let world = Arc::new(Mutex::new(Arc::new(World::learn(cluster))));
    let permits = Arc::new(Semaphore::new(CALLS_MAX));
    let mut calls = JoinSet::new();
    let mut failed = vec![];
    for case in cases {
        let (world, permits) = (world.clone(), permits.clone());
        calls.spawn(async move {
            let _permit = permits.acquire_owned().await.expect("never closed");
            run_one(&world, case).await
        });
    }
    while let Some(ended) = calls.join_next().await {
        failed.extend(ended.expect("no panic"));
    }
    failed
}

/// None if the case ends as it may.
async fn run_one(world: &Mutex<Arc<World>>, case: Case) -> Option<String> {
    let begun = Instant::now();
    loop {
        let known = world.lock().await.clone();
        let words = end(&(case.build)(&known), case.tell).await;
        if case.expected.iter().any(|expected| words.starts_with(expected)) {
            return None;
        }
        let is_not_leader = words.starts_with(NOT_LEADER);
        let is_refused = is_not_leader || words.starts_with("busy: ");
        if !is_refused || begun.elapsed() > REFUSED_TIME_MAX {
            let Case { name, expected, .. } = case;
            return Some(format!("{name}: {words:.300}, not {expected:?}"));
        }
        sleep(PAUSE).await;
        let mut world = world.lock().await;
        if is_not_leader && Arc::ptr_eq(&world, &known) {
            *world = Arc::new(tokio::task::block_in_place(|| known.learn_again()));
        }
    }
}

async fn end(sent: &Sent, tell: fn(&Ended) -> String) -> String {
    match timeout(CASE_TIME_MAX, call(sent)).await {
        Err(_) => "hangs".into(),
        Ok(Err(error)) => format!("closed: {error}"),
        Ok(Ok(Ended { http, status, .. })) if http != 200 => format!("http {http} {status:?}"),
        Ok(Ok(Ended { status: None, .. })) => "no status".into(),
        Ok(Ok(ended @ Ended { status: Some(0), .. })) => tell(&ended),
        Ok(Ok(Ended { status: Some(status), .. })) => format!("status {status}"),
    }
}
