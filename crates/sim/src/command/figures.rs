//! What a run measures beside its counters: how long regions took to serve again after healing, and
//! how available they were while a quorum worked.

use flotilla_sim::check::availability::Served;
use flotilla_sim::seed::Outcome;
use flotilla_sim::time::{MS, Micros};
use serde_json::json;

/// The figures of all seeds of a run.
#[derive(Default)]
pub struct Figures {
    /// How long all regions of a seed took to serve again, one for each seed that got there.
    recoveries: Vec<Micros>,
    served: Served,
}

impl Figures {
    /// Adds a seed.
    pub fn add(&mut self, outcome: &Outcome) {
        self.recoveries.extend(outcome.recovery);
        self.served.merge(&outcome.served);
    }

    /// The recovery that so many seeds in a thousand do not exceed, in milliseconds; 0 without any.
    fn recovery_ms(&self, per_mille: usize) -> u64 {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * per_mille).div_ceil(1_000).max(1);
        sorted.get(rank - 1).map_or(0, |time| time / MS)
    }

    /// The figures for scripts.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "recovery_ms": {
                "p50": self.recovery_ms(500),
                "p99": self.recovery_ms(990),
                "max": self.recovery_ms(1_000),
            },
            "availability": {
                "cells": self.served.cells,
                "served": self.served.served,
                "share": self.served.share(),
                "longest_wait_ms": self.served.longest / MS,
            },
        })
    }

    /// Prints the figures for people.
    pub fn print(&self) {
        println!(
            "recovery after healing: p50 {} ms, p99 {} ms, max {} ms",
            self.recovery_ms(500),
            self.recovery_ms(990),
            self.recovery_ms(1_000)
        );
        println!(
            "availability: {:.4} % of {} cells with a quorum served, the longest wait {} ms",
            100.0 * self.served.share(),
            self.served.cells,
            self.served.longest / MS
        );
    }
}
