//! `flotilla demo partition`: the leader and one follower are cut off from the three other voters.
//! Their side acknowledges nothing and answers no read that may be stale; the other side elects and
//! goes on. Healed, all replicas are equal.
//!
//! Each process reaches each other one over a link of its own ([`flotilla_proxy`]). A client on
//! either side is a `flotilla kv` process whose links are cut as its side's are. What a cut link is
//! sent waits, as on a network that loses packets.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use flotilla_client::Client;
use flotilla_proxy::Rules;
use tokio::time::sleep;

use super::claims;
use super::cluster::{Cluster, Plan, wait};
use super::replication::equal;
use super::stage::Stage;
use super::{DemoArgs, Spoil};
use crate::failure::{Failure, Tried};

/// Stores of the demo, all of which hold the one region.
const STORES: usize = 5;

/// The client on the leader's side, and the one on the other side.
const MINORITY: &str = "client-of-the-minority";
const MAJORITY: &str = "client-of-the-majority";

/// How long the clients try.
const MINORITY_TIMEOUT: &str = "3s";
const MAJORITY_TIMEOUT: &str = "10s";

/// Reads on each side, at once.
const READS: usize = 3;

/// How long the majority may take to go on: an election, and a client that finds the leader.
const GO_ON_MAX: Duration = Duration::from_secs(15);

/// How long the links stay cut after that, so that what waits in them grows old.
const CUT_ON: Duration = Duration::from_millis(500);

/// Arguments of `flotilla demo partition`.
#[derive(Args)]
pub struct PartitionArgs {
    #[command(flatten)]
    pub demo: DemoArgs,
}

/// The two sides: names of stores, and addresses to begin with.
struct Sides {
    minority: Vec<String>,
    majority: Vec<String>,
    minority_addrs: String,
    majority_addrs: String,
}

/// Tells the story.
pub async fn run(args: PartitionArgs, stage: &mut Stage) -> Result<(), Failure> {
    stage.title("Partition", "the leader's side is cut off, and nothing stale is read")?;
    stage.step(&format!("A placement driver and {STORES} stores, each a process")).await?;
    let clients: &[&str] = &[MINORITY, MAJORITY];
    let plan = Plan { stores: STORES, later: 0, replicas: 5, region_bytes: "96MiB", clients };
    let cluster = Cluster::start(plan).await?;
    let client = cluster.client().await?;
    client.put("colour", "red").await.tried("put")?;
    stage.say("one region on all of them; colour = red is written")?;

    let sides = cut(&cluster, stage).await?;
    stage.step("Both sides are asked to write").await?;
    let written = minority_writes(&cluster, &sides);
    let (written, went_on) = tokio::join!(written, majority_goes_on(&cluster, &sides));
    let (written, went_on) = (written?, went_on?);
    stage.say(&format!("$ flotilla kv put colour blue    (minority)  exit status {written}"))?;
    stage.say("$ flotilla kv put colour green   (majority)  exit status 0")?;
    let ms = went_on.as_millis();
    stage.claim("the minority acknowledges no write", refuses(written))?;
    stage.claim("the majority elects and goes on", Ok(format!("{ms} ms after the cut")))?;
    if args.demo.spoil == Some(Spoil::StaleRead) {
        client.put("colour", "red").await.tried("spoil")?;
    }
    no_side_is_stale(&cluster, &sides, stage).await?;
    heals((&cluster, &client), &sides, args.demo.spoil, stage).await
}

async fn cut(cluster: &Cluster, stage: &mut Stage) -> Result<Sides, Failure> {
    stage.step("The leader and one follower are cut off from the three others").await?;
    let region = cluster.first_region().await?;
    let leader = region.leader.map(|leader| leader.store_id);
    let leader = leader.ok_or_else(|| Failure::Server("the leader is not known".into()))?;
    let leader = cluster.index_of(leader).await?;
    let follower = (leader + 1) % STORES;
    let is_minor = |index: &usize| *index == leader || *index == follower;
    let names = |indexes: &[usize]| -> Vec<String> {
        indexes.iter().map(|index| cluster.store_name(*index).to_string()).collect()
    };
    let addrs = |indexes: &[usize]| {
        let addrs: Vec<&str> = indexes.iter().map(|index| cluster.store_addr(*index)).collect();
        addrs.join(",")
    };
    let (minor, major): (Vec<usize>, Vec<usize>) = (0..STORES).partition(is_minor);
    let sides = Sides {
        minority: names(&minor),
        majority: names(&major),
        minority_addrs: addrs(&minor),
        majority_addrs: addrs(&major),
    };
    let (one, other) = sides.names();
    cluster.mesh().between(&one, &other, Rules::cut());
    stage.say(&format!(
        "minority: {}; {} leads",
        sides.minority.join(", "),
        cluster.store_name(leader)
    ))?;
    stage.say(&format!("majority: {}, and the placement driver", sides.majority.join(", ")))?;
    Ok(sides)
}

impl Sides {
    /// All processes of either side.
    fn names(&self) -> (Vec<&str>, Vec<&str>) {
        let minority = self.minority.iter().map(String::as_str).chain([MINORITY]);
        let majority = self.majority.iter().map(String::as_str).chain([MAJORITY, "pd"]);
        (minority.collect(), majority.collect())
    }
}

/// The exit status of a put on the leader's side.
async fn minority_writes(cluster: &Cluster, sides: &Sides) -> Result<i32, Failure> {
    let put = ["kv", "put", "colour", "blue", "--request-timeout", MINORITY_TIMEOUT];
    let args = [put.as_slice(), &["--pd", &sides.minority_addrs]].concat();
    Ok(cluster.run_as(MINORITY, &args).await?.0)
}

fn refuses(status: i32) -> claims::Verdict {
    match status {
        0 => Err("it was acknowledged".into()),
        4 => Ok("the outcome is not known (status 4)".into()),
        status => Ok(format!("refused (status {status})")),
    }
}

/// How long it takes until a put on the other side is acknowledged.
async fn majority_goes_on(cluster: &Cluster, sides: &Sides) -> Result<Duration, Failure> {
    let began = Instant::now();
    let put = ["kv", "put", "colour", "green", "--request-timeout", MAJORITY_TIMEOUT];
    let args = [put.as_slice(), &["--pd", &sides.majority_addrs]].concat();
    wait(GO_ON_MAX, "the majority to go on", async || match cluster.run_as(MAJORITY, &args).await {
        Ok((0, _)) => Ok(began.elapsed()),
        Ok((status, _)) => Err(format!("exit status {status}")),
        Err(failure) => Err(format!("{failure:?}")),
    })
    .await
}

async fn no_side_is_stale(
    cluster: &Cluster,
    sides: &Sides,
    stage: &mut Stage,
) -> Result<(), Failure> {
    stage.step("Both sides are read").await?;
    let green = Bytes::from("green");
    let minority = reads(cluster, MINORITY, (&sides.minority_addrs, MINORITY_TIMEOUT));
    let majority = reads(cluster, MAJORITY, (&sides.majority_addrs, MAJORITY_TIMEOUT));
    let (minority, majority) = tokio::join!(minority, majority);
    let verdict = claims::not_stale("minority", &minority?, &green);
    stage.claim("no read of the minority is stale", verdict)?;
    let majority = majority?;
    let verdict = match majority.len() {
        READS => claims::not_stale("majority", &majority, &green),
        answered => Err(format!("{answered} of {READS} reads were answered")),
    };
    stage.claim("no read of the majority is stale", verdict)
}

/// What the reads of a side found; those that were refused are left out.
async fn reads(
    cluster: &Cluster,
    client: &str,
    (addrs, timeout): (&str, &str),
) -> Result<Vec<Option<Bytes>>, Failure> {
    let args = ["kv", "get", "colour", "--request-timeout", timeout, "--pd", addrs];
    let read = || cluster.run_as(client, &args);
    let reads = tokio::join!(read(), read(), read());
    let mut found = vec![];
    for read in [reads.0, reads.1, reads.2] {
        match read? {
            (0, printed) => found.push(Some(printed.slice(..printed.len().saturating_sub(1)))),
            // The key is absent.
            (1, _) => found.push(None),
            _ => {}
        }
    }
    Ok(found)
}

async fn heals(
    (cluster, client): (&Cluster, &Client),
    sides: &Sides,
    spoil: Option<Spoil>,
    stage: &mut Stage,
) -> Result<(), Failure> {
    sleep(CUT_ON).await;
    stage.step("The links are healed").await?;
    let healed = Instant::now();
    cluster.mesh().heal();
    let verdict = equal(cluster, spoil).await?;
    let ms = healed.elapsed().as_millis();
    let verdict = verdict.map(|seen| format!("{seen}, after {ms} ms"));
    stage.claim("all replicas are equal by digest at one index", verdict)?;
    let found = client.get("colour").await.tried("get")?;
    // The write of the minority is one that nobody was told of; no later than now it is decided.
    let verdict = claims::not_stale("healed cluster", &[found], &Bytes::from("green"));
    stage.claim("what the majority acknowledged is there", verdict)?;
    let read = reads(cluster, MINORITY, (&sides.minority_addrs, MAJORITY_TIMEOUT)).await?;
    let verdict = claims::not_stale("side that was cut off", &read, &Bytes::from("green"));
    stage.claim("and is read where the leader was cut off", verdict)
}
