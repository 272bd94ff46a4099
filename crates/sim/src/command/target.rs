//! The scenario that a command is about, as its arguments name it: a seed or a file, and a planted
//! bug.

use std::path::{Path, PathBuf};

use clap::Args;
use flotilla_sim::regressions::Regression;
use flotilla_sim::scenario::Scenario;

/// The arguments that name a scenario.
#[derive(Args)]
pub struct Target {
    /// The seed.
    #[arg(long, required_unless_present = "file")]
    seed: Option<u64>,
    /// The file with the scenario, which `shrink` wrote.
    #[arg(long, conflicts_with = "seed")]
    file: Option<PathBuf>,
    /// Plant this bug.
    #[cfg(feature = "mutants")]
    #[arg(long, value_parser = super::mutants::named)]
    mutant: Option<flotilla_types::mutant::Mutant>,
}

impl Target {
    /// The scenario. The error says what is wrong with its file.
    pub fn job(&self) -> Result<Job, String> {
        let by_seed = || Ok(Job::of_seed(self.seed.unwrap_or(0)));
        self.file.as_deref().map_or_else(by_seed, Job::of_file)
    }

    /// Plants the bug, if one is named. Answers its name.
    #[cfg(feature = "mutants")]
    pub fn plant(&self) -> Option<&'static str> {
        flotilla_types::mutant::plant(self.mutant);
        self.mutant.map(|mutant| mutant.name())
    }

    /// A build without the feature `mutants` plants no bug.
    #[cfg(not(feature = "mutants"))]
    pub fn plant(&self) -> Option<&'static str> {
        None
    }
}

/// A scenario to run, and how a person runs it again.
#[derive(Clone)]
pub struct Job {
    /// The scenario.
    pub scenario: Scenario,
    /// The scenario's name: its seed, or its file.
    pub name: String,
    /// The arguments of `replay` that name the scenario.
    pub arguments: String,
}

impl Job {
    /// The job of a seed.
    pub fn of_seed(seed: u64) -> Job {
        let (name, arguments) = (format!("seed {seed}"), format!("--seed {seed}"));
        Job { scenario: Scenario::draw(seed), name, arguments }
    }

    /// The job of a file. The error says what is wrong with the file.
    pub fn of_file(path: &Path) -> Result<Job, String> {
        Ok(Job::of_regression(path, Regression::read(path)?))
    }

    /// The job of a file that was read.
    pub fn of_regression(path: &Path, read: Regression) -> Job {
        let path = path.display();
        let (name, arguments) = (format!("file {path}"), format!("--file {path}"));
        Job { scenario: read.scenario, name, arguments }
    }
}
