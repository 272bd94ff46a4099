//! A cluster for one bar, its client, and runs on it.

use std::path::Path;
use std::sync::Arc;

use crate::bars::{BarsConfig, Shape};
use crate::compare::cluster::{Cluster, System};
use crate::compare::sample::{Meter, Sample};
use crate::config::RunConfig;
use crate::error::Result;
use crate::keys::Distribution;
use crate::run::{self, Observer};
use crate::target::{FlotillaTarget, Target};
use crate::workload::Op;

/// Three stores, a placement driver, and a client.
pub struct Stage {
    /// The servers.
    pub cluster: Cluster,
    /// Flotilla as its client sees it.
    pub flotilla: Arc<FlotillaTarget>,
    target: Arc<dyn Target>,
}

impl Stage {
    /// An empty cluster.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn empty(config: &BarsConfig) -> Result<Stage> {
        let dir: &Path = &config.dir;
        let cluster = Cluster::start(System::Flotilla, &config.programs, dir).await?;
        let flotilla = Arc::new(FlotillaTarget::connect(cluster.endpoints(), None).await?);
        Ok(Stage { cluster, target: flotilla.clone(), flotilla })
    }

    /// A cluster with the keys of the shape.
    ///
    /// # Errors
    /// As [`Stage::empty`] and [`Stage::load`].
    pub async fn loaded(config: &BarsConfig) -> Result<Stage> {
        let stage = Stage::empty(config).await?;
        stage.load(&run_config(&config.shape, 1)).await?;
        Ok(stage)
    }

    /// Puts the keys of `run`.
    ///
    /// # Errors
    /// As [`run::load`].
    pub async fn load(&self, run: &RunConfig) -> Result<()> {
        run::load(&self.target, run).await
    }

    /// Carries out a run and measures the servers meanwhile.
    ///
    /// # Errors
    /// [`crate::BenchError::Target`] if a server has ended.
    pub async fn measure(&mut self, run: &RunConfig) -> Result<Sample> {
        let mut meter = Meter::new(self.cluster.pids(), self.cluster.dir());
        let report = run::run(&self.target, run, &mut meter).await?;
        self.cluster.check_alive()?;
        Ok(meter.sample(System::Flotilla, 0, run, report).await)
    }

    /// The system under test, for a run that is not measured by [`Stage::measure`].
    pub fn target(&self) -> Arc<dyn Target> {
        self.target.clone()
    }

    /// Stops the servers and removes their data.
    pub async fn stop(self) {
        self.cluster.stop().await;
    }
}

/// Uniform puts in a closed loop.
pub fn run_config(shape: &Shape, clients: usize) -> RunConfig {
    RunConfig {
        op: Op::Put,
        clients,
        rate: None,
        warmup: shape.warmup,
        window: shape.window,
        value_bytes: shape.value_bytes,
        keys: shape.keys,
        distribution: Distribution::Uniform,
        scan_rows: 100,
        seed: shape.seed,
    }
}

/// Ignores the window: nothing else is measured during the run.
pub struct Unobserved;

impl Observer for Unobserved {
    fn window_opened(&mut self) {}
    fn window_closed(&mut self) {}
}
