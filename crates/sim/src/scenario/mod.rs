//! The scenario: what a seed decides before the world begins, namely sizes, timings, and the list
//! of faults.
//!
//! Swarm testing (Groce et al. 2012): each kind of fault is on in some seeds and off in others, so
//! that one kind does not hide what another would show. What a fault does is in
//! [`crate::nemesis`].
//!
//! A scenario can be written to a file and read again: a seed is a scenario that is drawn. Each
//! part is drawn by dice of its own, so that a part with a new field leaves the other parts of
//! every seed as they were; a file without the field has the field's default.

pub mod acts;
pub mod class;
pub mod links;
pub mod parts;
pub mod time;

use flotilla_types::dice::{Dice, mix};
use serde::{Deserialize, Serialize};

pub use acts::{Act, FaultScenario, PlannedAct};
pub use class::Class;
pub use links::{ConnScenario, LinkScenario};
pub use parts::{ClientScenario, ClusterScenario, DiskScenario, NetScenario};
pub use time::{CostScenario, TimingScenario};

pub use crate::admin::AdminScenario;
pub use crate::client::habits::HabitScenario;
use crate::limits::{Bounds, LimitScenario};
use crate::time::{MS, Micros};

/// The range of clock rates, in local microseconds per true second. The fastest clock is 9.9 %
/// ahead of the slowest, within the drift that the lease allows for.
pub const RATES: (u64, u64) = (953_000, 1_047_000);

/// The true time that passes while the slowest clock counts `local` microseconds.
pub fn by_the_slowest_clock(local: Micros) -> Micros {
    local * 1_000_000 / RATES.0
}

/// Steps of checkpoints that a call may have to wait for, one after another: regions are split
/// while the last calls go on, each new region serves once its state is durable, and the disk
/// thread takes one snapshot after the other.
const DISK_STEPS: u64 = 40;

/// The stream of dice that draws the links.
const LINKS: u64 = 0x6c69;

/// The stream of dice that draws what work costs.
const COST: u64 = 0x636f;

/// The stream of dice that draws the timing of Raft groups.
const TIMING: u64 = 0x7469;
/// The stream of dice that plans copies of the placement driver's directory.
const COPIES: u64 = 0x636f_7079;
/// The stream of dice that draws whether regions are evened out.
const BALANCE: u64 = 0x62_616c;
/// The stream of dice that draws the bounds.
const LIMITS: u64 = 0x6c6d;

/// What a seed decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scenario {
    /// The seed of all that the other fields leave open.
    pub seed: u64,
    /// The class.
    pub class: Class,
    /// The cluster.
    pub cluster: ClusterScenario,
    /// The clients.
    pub clients: ClientScenario,
    /// What clients do beside.
    pub habits: HabitScenario,
    /// The administrator.
    pub admin: AdminScenario,
    /// The faults.
    pub faults: FaultScenario,
    /// The network.
    pub net: NetScenario,
    /// How its links differ, and what they carry.
    pub links: LinkScenario,
    /// The disks.
    pub disk: DiskScenario,
    /// What the work of stores costs.
    pub cost: CostScenario,
    /// The timing of Raft groups.
    pub timing: TimingScenario,
    /// The bounds of the cores.
    pub limits: LimitScenario,
    /// The length of the first phase, in which anything may fail.
    pub safety: Micros,
    /// How long after healing every key must be readable and writable.
    pub liveness: Micros,
}

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            seed: 0,
            class: Class::Usual,
            cluster: ClusterScenario::default(),
            clients: ClientScenario::default(),
            faults: FaultScenario::default(),
            net: NetScenario::default(),
            links: LinkScenario::default(),
            habits: HabitScenario::default(),
            admin: AdminScenario::default(),
            disk: DiskScenario::default(),
            cost: CostScenario::default(),
            timing: TimingScenario::default(),
            limits: LimitScenario::default(),
            safety: 40_000 * MS,
            liveness: 60_000 * MS,
        }
    }
}

impl Scenario {
    /// What `seed` decides.
    pub fn draw(seed: u64) -> Scenario {
        let lane = |lane: u64| Dice::new(mix(seed ^ 0x5ce9_a210) ^ mix(lane));
        let safety = 40_000 * MS;
        let faults = FaultScenario::draw(&mut lane(1), safety);
        let disk = DiskScenario::draw(&mut lane(2));
        let cluster = ClusterScenario::draw(&mut lane(3), faults.ends_disks());
        let net = NetScenario::draw(&mut lane(5));
        let links = LinkScenario::draw(&mut lane(LINKS), cluster.stores);
        let class = Class::draw(&mut lane(6));
        let mut scenario = Scenario {
            seed,
            class,
            cost: CostScenario::draw(&mut lane(COST)),
            timing: TimingScenario::draw(&mut lane(TIMING), (&net, &links), &disk),
            cluster,
            clients: ClientScenario::draw(&mut lane(4)),
            net,
            links,
            habits: HabitScenario::draw(&mut lane(21)),
            admin: AdminScenario::draw(&mut lane(22)),
            safety,
            liveness: 40_000 * MS + DISK_STEPS * disk.step_max,
            limits: LimitScenario::draw(&mut lane(LIMITS)),
            faults,
            disk,
        };
        scenario.cluster.draw_balance(&mut lane(BALANCE));
        class.shape(&mut scenario, &mut lane(7));
        let Scenario { faults, cluster, safety, .. } = &mut scenario;
        faults.plan_copies(&mut lane(COPIES), *safety);
        if faults.has(Act::OldPd) {
            // Only a lone member can be put back: of several, the others know better.
            cluster.pds = 1;
        }
        scenario
    }

    /// The bounds of the cores.
    pub fn bounds(&self) -> Bounds {
        let mut bounds = self.limits.bounds();
        bounds.pd.balance_moves_max = self.cluster.balance_moves_max;
        bounds
    }

    /// True if the nemesis may carry out this act.
    pub fn has(&self, act: Act) -> bool {
        self.faults.has(act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_the_same_after_a_file() {
        for seed in 0..20 {
            let scenario = Scenario::draw(seed);
            let text = serde_json::to_string(&scenario).expect("a scenario can be written");
            let read: Scenario = serde_json::from_str(&text).expect("and read");
            assert_eq!(read, scenario);
        }
    }

    #[test]
    fn a_file_that_lacks_a_field_has_the_default_of_the_field() {
        let read: Scenario = serde_json::from_str(r#"{"seed": 7, "clients": {"keys": 5}}"#)
            .expect("fields may be missing");
        assert_eq!((read.seed, read.clients.keys), (7, 5));
        assert_eq!(read.clients.count, ClientScenario::default().count);
        assert_eq!(read.net, NetScenario::default());
    }

    #[test]
    fn acts_are_in_the_order_of_time_and_end_with_the_first_phase() {
        let planned: Vec<FaultScenario> = (0..50).map(|seed| Scenario::draw(seed).faults).collect();
        assert!(planned.iter().any(|faults| faults.acts.len() > 5));
        for faults in planned {
            assert!(faults.acts.is_sorted_by_key(|planned| planned.at));
            assert!(faults.acts.iter().all(|planned| planned.at < 900_000 * MS));
            assert!(faults.acts.iter().all(|planned| faults.has(planned.act)));
        }
    }
}
