//! `flotilla demo replication`: a write reaches every replica, the leader is killed, and nothing
//! that was acknowledged is lost.
//!
//! What a replica holds is read from the replica itself, whether or not it leads
//! ([`flotilla_client::read_replica`]), so the demo does not take the leader's word for it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use flotilla_client::{Client, Replica};
use flotilla_types::{Member, StoreId};

use super::claims::{self, Verdict};
use super::cluster::{Cluster, Plan, wait};
use super::load::{Load, Log, Writers, read_back};
use super::stage::Stage;
use super::{DemoArgs, Spoil};
use crate::args::replicas;
use crate::failure::{Failure, Tried};

/// Stores of the demo.
const STORES: usize = 5;

/// What is written while the leader is killed.
const LOAD: Load = Load { writers: 8, rows: 100_000, value_bytes: 64 };

/// Rows that are acknowledged before the leader is killed, and at least so many after it.
const ROWS_BEFORE: u64 = 300;
const ROWS_AFTER: u64 = 300;

/// How long replicas may take to apply what was written, and a killed store to catch up.
const CATCH_UP_MAX: Duration = Duration::from_secs(15);

/// Arguments of `flotilla demo replication`.
#[derive(Args)]
pub struct ReplicationArgs {
    #[command(flatten)]
    pub demo: DemoArgs,
    /// Replicas of each region: 3 or 5
    #[arg(long, default_value = "5", value_parser = replicas)]
    replicas: u64,
}

/// Tells the story.
pub async fn run(args: ReplicationArgs, stage: &mut Stage) -> Result<(), Failure> {
    let about = "a write reaches every replica, and outlives its leader";
    stage.title("Replication", about)?;
    stage.step(&format!("A placement driver and {STORES} stores, each a process")).await?;
    let plan = Plan {
        stores: STORES,
        later: 0,
        replicas: args.replicas,
        region_bytes: "96MiB",
        clients: &[],
    };
    let mut cluster = Cluster::start(plan).await?;
    let client = cluster.client().await?;
    let region = cluster.first_region().await?;
    let stores: Vec<String> =
        region.region.members.iter().map(|member| member.store_id.to_string()).collect();
    stage.say(&format!("one region, replicated to the stores {}", stores.join(", ")))?;

    write_is_visible(&cluster, &client, stage).await?;
    let log = leader_is_killed(&mut cluster, &client, stage).await?;
    nothing_is_lost((&cluster, &client), log, args.demo.spoil, stage).await?;
    killed_store_catches_up(&mut cluster, args.demo.spoil, stage).await
}

async fn write_is_visible(
    cluster: &Cluster,
    client: &Client,
    stage: &mut Stage,
) -> Result<(), Failure> {
    stage.step("One row is written: apple = red").await?;
    let (key, value) = (Bytes::from("apple"), Bytes::from("red"));
    client.put(key.clone(), value.clone()).await.tried("put")?;
    let acknowledged = Instant::now();
    stage.say("acknowledged: a majority has it in its log, and the leader has applied it")?;
    let keys = [key];
    let seen = wait(CATCH_UP_MAX, "the replicas to apply the row", async || {
        let replicas = cluster.replicas(&keys).await?;
        let values: Vec<(StoreId, Option<Bytes>)> =
            replicas.iter().map(|(member, replica)| (member.store_id, value_of(replica))).collect();
        claims::visible_on_each(&values, &value).map(|seen| (replicas, seen))
    });
    let (replicas, seen) = seen.await?;
    for (member, replica) in &replicas {
        let found = value_of(replica).unwrap_or_default();
        let found = String::from_utf8_lossy(&found).into_owned();
        let leads = if replica.leader == Some(member.id) { ", leads" } else { "" };
        let (store, index) = (member.store_id, replica.applied_index);
        stage.say(&format!("store {store}: applied index {index}, apple = {found}{leads}"))?;
    }
    let ms = acknowledged.elapsed().as_millis();
    stage.claim("the row is visible on each replica", Ok(format!("{seen}, {ms} ms later")))
}

fn value_of(replica: &Replica) -> Option<Bytes> {
    replica.values.first().cloned().flatten()
}

async fn leader_is_killed(
    cluster: &mut Cluster,
    client: &Client,
    stage: &mut Stage,
) -> Result<Log, Failure> {
    stage
        .step(&format!("{} clients write, and the leader is killed (kill -9)", LOAD.writers))
        .await?;
    let writers = Writers::start(client, LOAD);
    wait_for_rows(&writers, ROWS_BEFORE).await?;
    let leader = leader(cluster).await?;
    let index = cluster.index_of(leader.store_id).await?;
    let before = writers.acknowledged();
    let killed = Instant::now();
    cluster.kill_store(index).await;
    stage.say(&format!("store {} is killed after {before} rows", leader.store_id))?;
    wait_for_rows(&writers, before + ROWS_AFTER).await?;
    let log = writers.stop().await;
    let pause = log.moments.windows(2).filter_map(|pair| match pair {
        [one, next] if *next > killed => Some(next.duration_since(*one)),
        _ => None,
    });
    let pause = pause.max().unwrap_or_default().as_millis();
    stage.say(&format!("writes stood still for {pause} ms, and go on under another leader"))?;
    stage.claim("no client sees an error", log.no_error())?;
    Ok(log)
}

async fn wait_for_rows(writers: &Writers, count: u64) -> Result<(), Failure> {
    wait(CATCH_UP_MAX, "writes to be acknowledged", async || {
        let acknowledged = writers.acknowledged();
        if acknowledged >= count { Ok(()) } else { Err(format!("{acknowledged} of {count}")) }
    })
    .await
}

async fn leader(cluster: &Cluster) -> Result<Member, Failure> {
    let leader = cluster.first_region().await?.leader;
    leader.ok_or_else(|| Failure::Server("the region's leader is not known".into()))
}

async fn nothing_is_lost(
    (cluster, client): (&Cluster, &Client),
    log: Log,
    spoil: Option<Spoil>,
    stage: &mut Stage,
) -> Result<(), Failure> {
    stage.step("Every row that was acknowledged is read back").await?;
    if spoil == Some(Spoil::LostWrite)
        && let Some(key) = log.rows.keys().next()
    {
        client.delete(key.clone()).await.tried("spoil")?;
    }
    let found = read_back(client, &log.rows).await?;
    stage.claim("nothing is lost", claims::nothing_lost(&log.rows, &found))?;
    let seen = equal(cluster, spoil).await?;
    stage.claim("the replicas that are left are equal", seen)
}

async fn killed_store_catches_up(
    cluster: &mut Cluster,
    spoil: Option<Spoil>,
    stage: &mut Stage,
) -> Result<(), Failure> {
    stage.step("The killed store is started again").await?;
    let stopped = (0..STORES).find(|index| !cluster.runs(*index));
    if let Some(index) = stopped {
        cluster.start_store(index)?;
    }
    let began = Instant::now();
    let seen = equal(cluster, spoil).await?;
    let ms = began.elapsed().as_millis();
    stage.claim("it has caught up", seen.map(|seen| format!("{seen}, after {ms} ms")))
}

/// The verdict on all replicas that run, once they have applied the same index or time is up.
pub async fn equal(cluster: &Cluster, spoil: Option<Spoil>) -> Result<Verdict, Failure> {
    let began = Instant::now();
    wait(2 * CATCH_UP_MAX, "the replicas to be read", async || {
        let replicas = cluster.replicas(&[]).await;
        // Some are behind, or do not answer yet.
        let is_early = began.elapsed() < CATCH_UP_MAX;
        let mut replicas: Vec<(StoreId, Replica)> = match replicas {
            Ok(replicas) => {
                replicas.into_iter().map(|(m, replica)| (m.store_id, replica)).collect()
            }
            Err(why) if is_early => return Err(why),
            Err(why) => return Ok(Err(why)),
        };
        let verdict = claims::equal_at_one_index(&replicas);
        if let (true, Err(why)) = (is_early, &verdict) {
            return Err(why.clone());
        }
        if spoil == Some(Spoil::UnequalReplicas)
            && let Some((_, last)) = replicas.last_mut()
        {
            last.digest = Bytes::from_static(b"another");
        }
        Ok(claims::equal_at_one_index(&replicas))
    })
    .await
}
