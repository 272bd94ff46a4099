//! Flotilla and etcd on one machine: rounds in turns, equal durability, equal load.
//!
//! A round of one system: three servers (and Flotilla's PD) start with empty directories, the keys
//! are loaded, each operation runs at each number of clients, the servers stop and their data goes.
//! Only one system runs at a time. Rounds alternate, and the order swaps from round to round, so
//! that a machine that becomes slower or busier affects both systems alike. Each figure is the
//! median of the rounds.
//!
//! Both acknowledge a put once it is durable on two of three servers, and both answer a get
//! linearizably. Ends by itself: every wait has a deadline, every run has a length.

pub mod cluster;
pub mod machine;
pub mod plot;
pub mod sample;
pub mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::config::RunConfig;
use crate::error::{BenchError, Result};
use crate::keys::Distribution;
use crate::run;
use crate::target::Target;
use crate::workload::Op;

use cluster::{Cluster, Programs, System};
use machine::Machine;
use sample::{Meter, Sample};
use summary::{Cell, cells};

/// The most rounds: a comparison must end the same day.
pub const ROUNDS_MAX: usize = 100;

/// Pause between two runs, so that one's last flushes do not fall into the next one's warm-up.
const REST: Duration = Duration::from_millis(500);

/// What to compare.
#[derive(Clone, Debug)]
pub struct CompareConfig {
    /// Where the programs are.
    pub programs: Programs,
    /// The systems to measure: both, or one alone.
    pub systems: Vec<System>,
    /// Operations, one run each.
    pub ops: Vec<Op>,
    /// Numbers of clients, one run each.
    pub clients: Vec<usize>,
    /// Rounds of each system.
    pub rounds: usize,
    /// Time at each run's start that is not measured.
    pub warmup: Duration,
    /// Time of each run that is measured.
    pub window: Duration,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Keys that are loaded.
    pub keys: u64,
    /// How keys are chosen.
    pub distribution: Distribution,
    /// The seed of the choice of keys and values.
    pub seed: u64,
    /// Where the servers' directories are made.
    pub dir: PathBuf,
}

impl CompareConfig {
    fn run(&self, op: Op, clients: usize) -> RunConfig {
        RunConfig {
            op,
            clients,
            rate: None,
            warmup: self.warmup,
            window: self.window,
            value_bytes: self.value_bytes,
            keys: self.keys,
            distribution: self.distribution,
            scan_rows: 100,
            seed: self.seed,
        }
    }

    /// Checks that these settings can be compared.
    ///
    /// # Errors
    /// [`BenchError::Usage`].
    pub fn check(&self) -> Result<()> {
        if !(1..=ROUNDS_MAX).contains(&self.rounds) {
            let text = format!("--rounds {}: choose 1 to {ROUNDS_MAX}", self.rounds);
            return Err(BenchError::Usage(text));
        }
        if self.ops.is_empty() || self.clients.is_empty() || self.systems.is_empty() {
            let text = "--ops, --clients and --targets: name at least one of each";
            return Err(BenchError::Usage(text.into()));
        }
        self.clients.iter().try_for_each(|clients| self.run(Op::Put, *clients).check())
    }
}

/// The result of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Where it was measured.
    pub machine: Machine,
    /// Versions of the systems, as their programs print them.
    pub versions: Vec<(String, String)>,
    /// Rounds of each system.
    pub rounds: usize,
    /// Length of each window.
    pub seconds: f64,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Keys loaded.
    pub keys: u64,
    /// The median of the rounds, for each system, operation and number of clients.
    pub cells: Vec<Cell>,
    /// Every run.
    pub samples: Vec<Sample>,
}

/// Carries a comparison out. `progress` gets a line for each step that begins.
///
/// # Errors
/// [`BenchError::EtcdAbsent`] before anything is started; [`BenchError::Target`] if servers do not
/// start or end unasked.
pub async fn compare(config: &CompareConfig, progress: &mut dyn FnMut(&str)) -> Result<Comparison> {
    config.check()?;
    let mut versions = Vec::new();
    for system in &config.systems {
        versions.push((system.name().to_string(), config.programs.version(*system)?));
    }
    let machine = Machine::measure(&config.dir)?;
    let mut samples = Vec::new();
    for number in 0..config.rounds {
        let mut systems = config.systems.clone();
        if number % 2 == 1 {
            systems.reverse();
        }
        for system in systems {
            Round { config, system, number }.run(&mut samples, progress).await?;
        }
    }
    Ok(Comparison {
        machine,
        versions,
        rounds: config.rounds,
        seconds: config.window.as_secs_f64(),
        value_bytes: config.value_bytes,
        keys: config.keys,
        cells: cells(&samples),
        samples,
    })
}

/// One round of one system.
struct Round<'a> {
    config: &'a CompareConfig,
    system: System,
    number: usize,
}

impl Round<'_> {
    async fn run(&self, samples: &mut Vec<Sample>, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let Round { config, system, number } = self;
        let head = format!("round {} of {}, {}", number + 1, config.rounds, system.name());
        progress(&format!("{head}: start, load {} keys", config.keys));
        let mut cluster = Cluster::start(*system, &config.programs, &config.dir).await?;
        let loader = cluster.connect(run_clients_max(config)).await?;
        run::load(&loader, &config.run(Op::Put, 1)).await?;
        for op in &config.ops {
            for clients in &config.clients {
                tokio::time::sleep(REST).await;
                progress(&format!("{head}: {} with {clients} clients", op.name()));
                let target = cluster.connect(*clients).await?;
                let run = config.run(*op, *clients);
                samples.push(self.measure(&mut cluster, target, &run).await?);
            }
        }
        cluster.stop().await;
        Ok(())
    }

    async fn measure(
        &self,
        cluster: &mut Cluster,
        target: Arc<dyn Target>,
        run: &RunConfig,
    ) -> Result<Sample> {
        let mut meter = Meter::new(cluster.pids(), cluster.dir());
        let report = run::run(&target, run, &mut meter).await?;
        cluster.check_alive()?;
        Ok(meter.sample(self.system, self.number, run, report).await)
    }
}

fn run_clients_max(config: &CompareConfig) -> usize {
    config.clients.iter().copied().max().unwrap_or(1)
}
