//! Shrinking: a scenario that fails becomes a smaller one that fails by the same invariant.
//!
//! In: a failing scenario, and a way to run one. Out: a [`Shrunk`]. Acts are left out by delta
//! debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002).
//! Then the first phase is cut short, and each number of the scenario is tried at a lesser or
//! plainer value. Passes repeat until none helps or the runs are used up. What passes try is fixed,
//! so the same scenario shrinks in the same way each time.
//!
//! Not here: whether the smaller failure has the cause of the first. The invariant's name is all
//! that is compared.

use crate::check::Violation;
use crate::scenario::{ClientScenario, ClusterScenario, NetScenario, PlannedAct, Scenario};
use crate::time::MS;

/// A scenario that was shrunk.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest scenario that fails by the same invariant.
    pub scenario: Scenario,
    /// Its violation.
    pub violation: Violation,
    /// How many scenarios were run.
    pub runs: u64,
}

/// Shrinks `scenario` by at most `runs_max` runs. `run` answers the violation of a scenario. None
/// if the scenario passes.
pub fn shrink(
    scenario: Scenario,
    runs_max: u64,
    run: &mut dyn FnMut(&Scenario) -> Option<Violation>,
) -> Option<Shrunk> {
    let violation = run(&scenario)?;
    let mut search = Search { best: scenario, violation, runs: 1, runs_max, run };
    loop {
        let before = search.best.clone();
        search.leave_out_acts();
        search.shorten();
        search.simplify();
        if search.best == before || search.is_over() {
            break;
        }
    }
    let Search { best, violation, runs, .. } = search;
    Some(Shrunk { scenario: best, violation, runs })
}

struct Search<'a> {
    best: Scenario,
    violation: Violation,
    runs: u64,
    runs_max: u64,
    run: &'a mut dyn FnMut(&Scenario) -> Option<Violation>,
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        self.runs >= self.runs_max
    }

    /// Runs the best scenario with a change, and keeps the change if the scenario still fails by
    /// the same invariant. A change that changes nothing is not run.
    fn attempt(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        if candidate == self.best || self.is_over() {
            return false;
        }
        self.runs += 1;
        match (self.run)(&candidate) {
            Some(violation) if violation.invariant == self.violation.invariant => {
                self.best = candidate;
                self.violation = violation;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Leaves out acts: halves of the list first, single acts at the end.
    fn leave_out_acts(&mut self) {
        let mut size = self.best.faults.acts.len().div_ceil(2);
        while size > 0 && !self.is_over() {
            let mut first = 0;
            let mut has_shrunk = false;
            while first < self.best.faults.acts.len() {
                let last = (first + size).min(self.best.faults.acts.len());
                let is_left_out = self.attempt(|scenario| {
                    scenario.faults.acts.drain(first..last);
                });
                has_shrunk |= is_left_out;
                if !is_left_out {
                    first = last;
                }
            }
            size = if has_shrunk && size == 1 { 1 } else { size / 2 };
        }
        self.attempt(|scenario| {
            let acts = &scenario.faults.acts;
            scenario.faults.kinds.retain(|kind| acts.iter().any(|planned| planned.act == *kind));
        });
    }

    /// Ends the first phase sooner: by halves, then by steps of a second.
    fn shorten(&mut self) {
        let last_act = |scenario: &Scenario| {
            scenario.faults.acts.last().map_or(0, |PlannedAct { at, .. }| *at)
        };
        let mut cut = self.best.safety / 2;
        while cut >= 1_000 * MS && !self.is_over() {
            let is_cut = self.attempt(|scenario| {
                let least = last_act(scenario) + 100 * MS;
                scenario.safety =
                    scenario.safety.saturating_sub(cut).max(least.min(scenario.safety));
            });
            if !is_cut {
                cut /= 2;
            }
        }
    }

    /// Tries each part of the scenario at its plainest, then single numbers at lesser values.
    fn simplify(&mut self) {
        for change in PLAINER {
            self.attempt(change);
        }
        self.halve(|scenario| &mut scenario.clients.count);
        self.halve(|scenario| &mut scenario.clients.keys);
        for _ in 0..STORES_LESS_MAX {
            self.attempt(|scenario| {
                let ClusterScenario { stores, replica_count, .. } = &mut scenario.cluster;
                *stores = (*stores - 1).max(*replica_count).min(*stores);
            });
        }
    }

    /// Halves a number of at least 1 as often as the scenario fails.
    fn halve<N: Copy + Into<u64> + TryFrom<u64>>(&mut self, field: fn(&mut Scenario) -> &mut N) {
        while self.attempt(|scenario| {
            let number = field(scenario);
            let half: u64 = (*number).into().div_ceil(2);
            *number = N::try_from(half).unwrap_or(*number);
        }) {}
    }
}

/// How many stores are left out, one after the other.
const STORES_LESS_MAX: usize = 4;

/// Changes that make a scenario plainer.
const PLAINER: &[fn(&mut Scenario)] = &[
    |scenario| scenario.net = NetScenario::default(),
    |scenario| scenario.net.loss = 0,
    |scenario| scenario.net.rpc_loss = 0,
    |scenario| scenario.net.duplicates = 0,
    |scenario| scenario.net.spikes = 0,
    |scenario| scenario.net.reorders = false,
    |scenario| scenario.disk = Default::default(),
    |scenario| scenario.clients.wander = 0,
    |scenario| scenario.clients.repeats_percent = 0,
    |scenario| {
        let ClientScenario { count, keys, .. } = scenario.clients;
        scenario.clients = ClientScenario { count, keys, ..ClientScenario::default() };
    },
    |scenario| {
        let ClusterScenario { stores, replica_count, .. } = scenario.cluster;
        scenario.cluster = ClusterScenario { stores, replica_count, ..Default::default() };
    },
    |scenario| scenario.cluster.log_kept = Default::default(),
    |scenario| scenario.cluster.idle_ms = u64::MAX,
    |scenario| scenario.faults.power_loss = false,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(scenario: &Scenario, kind: usize, keys: u16) -> Option<Violation> {
        let acts = &scenario.faults.acts;
        let has_it = acts.iter().any(|planned| planned.seed as usize == kind);
        let violation = Violation { invariant: "none of this", what: String::new() };
        (has_it && scenario.clients.keys >= keys).then_some(violation)
    }

    #[test]
    fn what_a_failure_needs_is_left() {
        let mut scenario = Scenario::draw(3);
        for (number, planned) in scenario.faults.acts.iter_mut().enumerate() {
            planned.seed = number as u64;
        }
        assert!(scenario.faults.acts.len() > 8, "a seed with many acts");
        let shrunk = shrink(scenario, 1_000, &mut |scenario| fails(scenario, 5, 7));
        let shrunk = shrunk.expect("the scenario fails");
        let Scenario { faults, clients, net, safety, .. } = shrunk.scenario;
        assert_eq!(faults.acts.len(), 1);
        assert_eq!(faults.kinds.len(), 1);
        assert!((7..14).contains(&clients.keys) && clients.count == 1, "{clients:?}");
        assert_eq!(net, NetScenario::default());
        assert!(safety < faults.acts[0].at + 2_000 * MS);
    }

    #[test]
    fn a_scenario_that_passes_is_not_shrunk_and_the_runs_are_bounded() {
        assert!(shrink(Scenario::draw(3), 1_000, &mut |_| None).is_none());
        let mut runs = 0;
        let shrunk = shrink(Scenario::draw(3), 10, &mut |scenario| {
            runs += 1;
            fails(scenario, usize::MAX, 1)
                .or(Some(Violation { invariant: "x", what: String::new() }))
        });
        assert_eq!((runs, shrunk.map(|shrunk| shrunk.runs)), (10, Some(10)));
    }
}
