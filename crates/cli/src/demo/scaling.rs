//! `flotilla demo scaling`: stores join one by one under load, and the placement driver spreads
//! regions over them.

use std::time::{Duration, Instant};

use clap::Args;
use flotilla_types::StoreId;
use tokio::time::sleep;

use super::claims;
use super::cluster::{Cluster, Plan, wait};
use super::load::{Load, Writers, read_back};
use super::stage::Stage;
use super::{DemoArgs, Spoil};
use crate::failure::{Failure, Tried};

/// Stores at the beginning, as many as a region has replicas, and the most that there may be.
const STORES_FIRST: u64 = 3;
const STORES_MAX: u64 = 8;

/// The load, and the size at which its regions split: some dozen regions.
const LOAD: Load = Load { writers: 8, rows: 150, value_bytes: 1_000 };
const REGION_BYTES: &str = "96KiB";

/// Regions before the first store joins.
const REGIONS_FIRST: usize = 12;

/// How often a line is plotted.
const PLOT_INTERVAL: Duration = Duration::from_millis(500);

/// How long the first regions may take, and the evening out after a store has joined.
const SPLIT_MAX: Duration = Duration::from_secs(20);
const EVEN_MAX: Duration = Duration::from_secs(20);

/// Marks of the longest bar.
const BAR_MAX: usize = 30;

/// Arguments of `flotilla demo scaling`.
#[derive(Args)]
pub struct ScalingArgs {
    #[command(flatten)]
    pub demo: DemoArgs,
    /// Stores in the end
    #[arg(long, default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(STORES_FIRST + 1..=STORES_MAX))]
    stores: u64,
}

/// Lines of throughput and balance.
struct Plot<'a> {
    cluster: &'a Cluster,
    writers: &'a Writers,
    began: Instant,
    last: (Instant, u64),
    /// The greatest throughput so far: the longest bar.
    most: f64,
}

/// Tells the story.
pub async fn run(args: ScalingArgs, stage: &mut Stage) -> Result<(), Failure> {
    stage.title("Scaling", "stores join under load, and regions spread over them")?;
    stage.step(&format!("A placement driver and {STORES_FIRST} stores, each a process")).await?;
    let later = args.stores - STORES_FIRST;
    let plan = Plan {
        stores: STORES_FIRST as usize,
        later: later as usize,
        replicas: 3,
        region_bytes: REGION_BYTES,
        clients: &[],
    };
    let mut cluster = Cluster::start(plan).await?;
    let client = cluster.client().await?;
    let writers = Writers::start(&client, LOAD);
    let what =
        format!("{} clients write without a pause; regions split as they grow", LOAD.writers);
    stage.step(&what).await?;
    wait(SPLIT_MAX, "regions to split", async || {
        let count = cluster.pd().all_regions().await.map_err(|error| error.to_string())?.len();
        if count >= REGIONS_FIRST { Ok(()) } else { Err(format!("{count} regions")) }
    })
    .await?;
    stage.say("  time   writes/s                                   regions of each store")?;
    let (began, mut most) = (Instant::now(), 0.0);
    let mut plot = Plot::new(&cluster, &writers, (began, most));
    sleep(PLOT_INTERVAL).await;
    plot.line(stage).await?;
    most = plot.most.max(most);

    for number in STORES_FIRST..args.stores {
        stage.step(&format!("Store {} joins", number + 1)).await?;
        cluster.start_store(number as usize)?;
        let mut plot = Plot::new(&cluster, &writers, (began, most));
        let spread = plot.until_even(number + 1, stage).await?;
        most = plot.most;
        stage.claim("regions are spread evenly", spread)?;
    }

    stage.step("The load ends").await?;
    let log = writers.stop().await;
    stage.claim("no client saw an error", log.no_error())?;
    if args.demo.spoil == Some(Spoil::LostWrite)
        && let Some(key) = log.rows.keys().next()
    {
        client.delete(key.clone()).await.tried("spoil")?;
    }
    let found = read_back(&client, &log.rows).await?;
    stage.claim("nothing is lost", claims::nothing_lost(&log.rows, &found))
}

impl<'a> Plot<'a> {
    fn new(cluster: &'a Cluster, writers: &'a Writers, (began, most): (Instant, f64)) -> Plot<'a> {
        let last = (Instant::now(), writers.acknowledged());
        Plot { cluster, writers, began, last, most }
    }

    /// One line: what was written since the last one, and how many regions each store has.
    async fn line(&mut self, stage: &Stage) -> Result<Vec<(StoreId, u64)>, Failure> {
        let regions = self.cluster.region_counts().await?;
        let (then, before) = self.last;
        let acknowledged = self.writers.acknowledged();
        self.last = (Instant::now(), acknowledged);
        let per_s = (acknowledged - before) as f64 / then.elapsed().as_secs_f64();
        self.most = self.most.max(per_s);
        let bar = "#".repeat((per_s / self.most.max(1.0) * BAR_MAX as f64).round() as usize);
        let counts: Vec<String> = regions.iter().map(|(_, count)| format!("{count:>3}")).collect();
        let (at, counts) = (self.began.elapsed().as_secs_f64(), counts.join(" "));
        stage.say(&format!("{at:>5.1} s {per_s:>8.0}  {bar:<BAR_MAX$}  {counts}"))?;
        Ok(regions)
    }

    /// Plots until so many stores hold the same number of regions, but for one, or time is up.
    async fn until_even(&mut self, stores: u64, stage: &Stage) -> Result<claims::Verdict, Failure> {
        let began = Instant::now();
        loop {
            sleep(PLOT_INTERVAL).await;
            let regions = self.line(stage).await?;
            let verdict = match regions.len() as u64 == stores {
                true => claims::even(&regions),
                false => Err(format!("{} of {stores} stores are known", regions.len())),
            };
            if verdict.is_ok() || began.elapsed() > EVEN_MAX {
                return Ok(verdict);
            }
        }
    }
}
