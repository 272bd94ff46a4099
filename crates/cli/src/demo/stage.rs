//! The terminal: steps, what is seen in them, and claims with their verdicts.
//!
//! Plain text on a pipe; the verdicts have colours on a terminal ([`crate::terminal`]).

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::failure::Failure;
use crate::output;
use crate::terminal::{Tone, paint};

/// Where a demo is told.
pub struct Stage {
    began: Instant,
    pace: Option<Duration>,
    steps: usize,
    claims: usize,
}

impl Stage {
    /// An empty stage; with a pace, each step begins after so long.
    pub fn new(pace: Option<Duration>) -> Stage {
        Stage { began: Instant::now(), pace, steps: 0, claims: 0 }
    }

    /// The demo's name, and what it is about.
    pub fn title(&self, name: &str, about: &str) -> Result<(), Failure> {
        output::line(&format!("{name}: {about}"))
    }

    /// A step begins.
    pub async fn step(&mut self, what: &str) -> Result<(), Failure> {
        if let Some(pace) = self.pace {
            sleep(pace).await;
        }
        self.steps += 1;
        let at = self.began.elapsed().as_secs_f64();
        output::line(&format!("\n{}. {what}  ({at:.1} s)", self.steps))
    }

    /// Something is seen.
    pub fn say(&self, what: &str) -> Result<(), Failure> {
        output::line(&format!("   {what}"))
    }

    /// A claim, and whether what was observed bears it out. One that it does not ends the demo
    /// with status 1.
    pub fn claim(&mut self, what: &str, verdict: Result<String, String>) -> Result<(), Failure> {
        self.claims += 1;
        match verdict {
            Ok(seen) => output::line(&format!("   {} {what}: {seen}", paint("ok", Tone::Good))),
            Err(why) => {
                output::line(&format!("   {} {what}: {why}", paint("FAILED", Tone::Bad)))?;
                Err(Failure::AnswerIsNo)
            }
        }
    }

    /// All claims hold.
    pub fn end(&self) -> Result<(), Failure> {
        let took = self.began.elapsed().as_secs_f64();
        let line = format!("{} claims checked, all of them hold, in {took:.1} s", self.claims);
        output::line(&format!("\n{}", paint(&line, Tone::Good)))
    }
}
