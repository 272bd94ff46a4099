//! The figures that Flotilla is to reach. Each bar is measured against a floor and a goal, on a
//! cluster of its own: three stores and a placement driver, as processes on loopback.
//!
//! In: [`BarsConfig`]. Out: a [`row::Row`] for each figure. A bar starts its cluster, measures, and
//! stops the cluster. Every wait has a deadline, and a bar that outlasts [`BAR_TIMEOUT`] is
//! abandoned. A bar that fails yields a row with the reason, and the other bars go on.
//!
//! * [`cost`]: CPU, latency and fsyncs for each operation, at 1, 64 and 256 clients.
//! * [`split_regions`]: the same load on one region and on a thousand.
//! * [`idle_regions`]: the cost of ten thousand regions without requests.
//! * [`kill_leader`]: kill -9 of a leader's store, until the first acknowledged write.
//! * [`transfer_leader`]: the longest gap in puts while leadership is transferred.
//! * [`loaded`]: puts into a large store against puts into an empty one.
//! * [`overwrites`]: bytes written to disk for each byte that a user puts.
//! * [`many_clients`]: overload: throughput, memory, and refusals with a hint.
//! * [`kill_all`]: kill -9 of all stores at once under load: acknowledged writes survive.
//!
//! Deliberately not here: etcd. [`crate::compare`] measures both systems side by side.

pub mod cost;
pub mod idle_regions;
pub mod kill_all;
pub mod kill_leader;
pub mod loaded;
pub mod many_clients;
pub mod overwrites;
pub mod row;
pub mod split_regions;
pub mod splitter;
pub mod stage;
pub mod transfer_leader;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::compare::cluster::{Programs, System};
use crate::compare::machine::Machine;
use crate::error::{BenchError, Result};

use row::Row;

/// No bar takes longer: the largest loads ten million rows, or makes ten thousand regions.
pub const BAR_TIMEOUT: Duration = Duration::from_secs(900);

/// The most regions that a bar makes.
pub const REGIONS_MAX: usize = 100_000;

/// The most kills in one bar.
pub const KILLS_MAX: usize = 100;

/// A bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// See [`cost`].
    Cost,
    /// See [`split_regions`].
    SplitRegions,
    /// See [`idle_regions`].
    IdleRegions,
    /// See [`kill_leader`].
    KillLeader,
    /// See [`transfer_leader`].
    TransferLeader,
    /// See [`loaded`].
    Loaded,
    /// See [`overwrites`].
    Overwrites,
    /// See [`many_clients`].
    ManyClients,
    /// See [`kill_all`].
    KillAll,
}

impl Bar {
    /// All of them, in the order they are measured.
    pub const ALL: [Bar; 9] = [
        Bar::Cost,
        Bar::Overwrites,
        Bar::ManyClients,
        Bar::SplitRegions,
        Bar::TransferLeader,
        Bar::KillLeader,
        Bar::KillAll,
        Bar::IdleRegions,
        Bar::Loaded,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Bar::Cost => "cost",
            Bar::SplitRegions => "split-regions",
            Bar::IdleRegions => "idle-regions",
            Bar::KillLeader => "kill-leader",
            Bar::TransferLeader => "transfer-leader",
            Bar::Loaded => "loaded",
            Bar::Overwrites => "overwrites",
            Bar::ManyClients => "many-clients",
            Bar::KillAll => "kill-all",
        }
    }
}

impl FromStr for Bar {
    type Err = String;

    fn from_str(name: &str) -> Result<Bar, String> {
        Bar::ALL.into_iter().find(|bar| bar.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Bar::ALL.iter().map(|bar| bar.name()).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

/// The bars to measure, and their sizes.
#[derive(Clone, Debug)]
pub struct BarsConfig {
    /// Where the program is.
    pub programs: Programs,
    /// Where the servers' directories are made.
    pub dir: PathBuf,
    /// The bars, in the order they are to be measured.
    pub bars: Vec<Bar>,
    /// The load of each run, unless its bar has its own.
    pub shape: Shape,
    /// The sizes of the bars that go to extremes.
    pub extremes: Extremes,
}

/// The load that the bars' runs have in common.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Shape {
    /// Time at each run's start that is not measured.
    pub warmup: Duration,
    /// Time of each run that is measured.
    pub window: Duration,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Keys that are loaded, except by `loaded`.
    pub keys: u64,
    /// The seed of the choice of keys and values.
    pub seed: u64,
}

/// The sizes of the bars that go to extremes. Smaller numbers take less time and prove less.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Extremes {
    /// Regions of `split-regions`.
    pub regions: usize,
    /// Regions of `idle-regions`.
    pub idle_regions: usize,
    /// Rows of `loaded`.
    pub loaded_keys: u64,
    /// Clients of `many-clients`.
    pub many_clients: usize,
    /// Kills of `kill-leader`, transfers of `transfer-leader`.
    pub kills: usize,
    /// Rounds of `kill-all`.
    pub kill_rounds: usize,
}

impl BarsConfig {
    /// Checks that these settings can be measured.
    ///
    /// # Errors
    /// [`BenchError::Usage`] names the setting and its bounds.
    pub fn check(&self) -> Result<()> {
        let Extremes { regions, idle_regions, kills, kill_rounds, .. } = self.extremes;
        let bounds = [
            ("--regions", regions, 2, REGIONS_MAX),
            ("--idle-regions", idle_regions, 1, REGIONS_MAX),
            ("--kills", kills, 1, KILLS_MAX),
            ("--kill-rounds", kill_rounds, 1, KILLS_MAX),
        ];
        for (name, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                let text = format!("{name} {value}: choose a number from {min} to {max}");
                return Err(BenchError::Usage(text));
            }
        }
        if self.bars.is_empty() {
            return Err(BenchError::Usage("--only: name at least one bar".into()));
        }
        if (self.shape.keys as usize) < 2 * regions {
            let text = format!("--keys {}: at least two for each of --regions", self.shape.keys);
            return Err(BenchError::Usage(text));
        }
        let mut run = stage::run_config(&self.shape, self.extremes.many_clients);
        run.check()?;
        run.keys = self.extremes.loaded_keys;
        run.check()
    }
}

/// The figures of all bars.
#[derive(Clone, Debug, Serialize)]
pub struct Bars {
    /// Where it was measured.
    pub machine: Machine,
    /// The program's version.
    pub version: String,
    /// The load of each run.
    pub shape: Shape,
    /// The sizes of the bars that go to extremes.
    pub extremes: Extremes,
    /// The figures.
    pub rows: Vec<Row>,
}

/// Measures the bars. `progress` gets a line for each bar that begins.
///
/// # Errors
/// [`BenchError::Usage`] for settings that cannot be measured, [`BenchError::Io`] if the program
/// cannot be run or the directory not written to. A bar that fails is no error: its row says so.
pub async fn measure(config: &BarsConfig, progress: &mut dyn FnMut(&str)) -> Result<Bars> {
    config.check()?;
    let version = config.programs.version(System::Flotilla)?;
    let machine = Machine::measure(&config.dir)?;
    let mut rows = Vec::new();
    for bar in &config.bars {
        progress(&format!("{}: begins", bar.name()));
        let outcome = tokio::time::timeout(BAR_TIMEOUT, measure_one(*bar, config)).await;
        let measured = match outcome {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => vec![Row::failed(bar.name(), &error.to_string())],
            Err(_) => {
                let text = format!("given up after {} s", BAR_TIMEOUT.as_secs());
                vec![Row::failed(bar.name(), &text)]
            }
        };
        for row in &measured {
            progress(&row.cells().join("  "));
        }
        rows.extend(measured);
    }
    let BarsConfig { shape, extremes, .. } = config;
    Ok(Bars { machine, version, shape: *shape, extremes: *extremes, rows })
}

async fn measure_one(bar: Bar, config: &BarsConfig) -> Result<Vec<Row>> {
    match bar {
        Bar::Cost => cost::measure(config).await,
        Bar::SplitRegions => split_regions::measure(config).await,
        Bar::IdleRegions => idle_regions::measure(config).await,
        Bar::KillLeader => kill_leader::measure(config).await,
        Bar::TransferLeader => transfer_leader::measure(config).await,
        Bar::Loaded => loaded::measure(config).await,
        Bar::Overwrites => overwrites::measure(config).await,
        Bar::ManyClients => many_clients::measure(config).await,
        Bar::KillAll => kill_all::measure(config).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_bar() {
        for bar in Bar::ALL {
            assert_eq!(bar.name().parse(), Ok(bar));
        }
        assert!("no-bar".parse::<Bar>().is_err());
    }

    #[test]
    fn settings_that_cannot_be_measured_are_told() {
        let shape = Shape {
            warmup: Duration::ZERO,
            window: Duration::from_secs(1),
            value_bytes: 256,
            keys: 10_000,
            seed: 1,
        };
        let extremes = Extremes {
            regions: 1_000,
            idle_regions: 10_000,
            loaded_keys: 10_000_000,
            many_clients: 4_096,
            kills: 5,
            kill_rounds: 2,
        };
        let programs = Programs { flotilla: "flotilla".into(), etcd: None };
        let bars = Bar::ALL.to_vec();
        let good = BarsConfig { programs, dir: "/tmp".into(), bars, shape, extremes };
        good.check().expect("the defaults can be measured");
        let bad = |change: fn(&mut BarsConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.check().expect_err("cannot be measured").to_string()
        };
        assert!(bad(|config| config.extremes.regions = 1).contains("--regions"));
        assert!(bad(|config| config.extremes.kills = 0).contains("--kills"));
        assert!(bad(|config| config.shape.keys = 1_999).contains("--keys"));
        assert!(bad(|config| config.bars.clear()).contains("--only"));
        assert!(bad(|config| config.extremes.many_clients = 0).contains("--clients"));
        assert!(bad(|config| config.extremes.loaded_keys = 0).contains("--keys"));
    }
}
