//! The source of faults: one begins every 3 to 8 seconds, some at once, all drawn from the seed.
//!
//! Kinds come like cards from a deck that is shuffled anew when it is empty, so that each comes
//! about as often as any other. What a fault does to whom follows from its number and the seed;
//! when exactly its steps happen does not, for real processes are not to be told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flotilla_types::dice::Dice;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::faults::{Case, Ended, Fault, carry_out};
use crate::recovery::Recoveries;

/// Faults that are under way at once.
const OVERLAP_MAX: usize = 3;

/// Between the beginnings of two faults.
const INTERVAL_MS: (u64, u64) = (3_000, 8_000);

/// Kinds that are drawn in turn until one is not skipped.
const DRAWS_MAX: usize = 4;

/// What the nemesis has done.
#[derive(Default)]
pub struct Done {
    /// How many faults of each kind were seen to have an effect.
    pub seen: BTreeMap<Fault, u64>,
    /// How many were not.
    pub unseen: BTreeMap<Fault, u64>,
    /// Recoveries that were measured.
    pub recoveries: Recoveries,
}

/// The deck that kinds are drawn from.
struct Deck {
    kinds: Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    fn draw(&mut self, dice: &mut Dice) -> Option<Fault> {
        if self.left.is_empty() {
            self.left = self.kinds.clone();
            dice.shuffle(&mut self.left);
        }
        self.left.pop()
    }
}

/// Brings faults of these kinds over the cluster until `end`, and answers when the last one is
/// over.
pub async fn run(cluster: Arc<Cluster>, kinds: Vec<Fault>, seed: u64, end: Instant) -> Done {
    let mut dice = Dice::of_lane(seed, u64::MAX);
    let mut deck = Deck { kinds, left: vec![] };
    let mut done = Done::default();
    let mut under_way = JoinSet::new();
    let mut number = 0;
    while Instant::now() < end {
        let interval = Duration::from_millis(dice.between(INTERVAL_MS.0, INTERVAL_MS.1));
        let next = Instant::now() + interval;
        while Instant::now() < next || under_way.len() >= OVERLAP_MAX {
            settle(&cluster, &mut done, &mut under_way).await;
            sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..DRAWS_MAX {
            let Some(fault) = deck.draw(&mut dice) else { break };
            number += 1;
            let own = Dice::of_lane(seed, number);
            if begin(&cluster, (number, fault), own, &mut under_way).await {
                break;
            }
        }
    }
    while !under_way.is_empty() {
        settle(&cluster, &mut done, &mut under_way).await;
        sleep(Duration::from_millis(20)).await;
    }
    done
}

/// Begins a fault; false if it was skipped at once.
async fn begin(
    cluster: &Arc<Cluster>,
    (number, fault): (u64, Fault),
    dice: Dice,
    under_way: &mut JoinSet<(u64, Fault, Ended)>,
) -> bool {
    let cluster = Arc::clone(cluster);
    let handle = under_way.spawn(async move {
        let case = Case { number, fault, cluster: &cluster, dice };
        (number, fault, carry_out(case).await)
    });
    // One that is skipped says so within a call of the administrator.
    for _ in 0..50 {
        sleep(Duration::from_millis(2)).await;
        if handle.is_finished() {
            return false;
        }
    }
    true
}

/// Counts the faults that have ended, and measures the recovery if none is under way then.
async fn settle(
    cluster: &Arc<Cluster>,
    done: &mut Done,
    under_way: &mut JoinSet<(u64, Fault, Ended)>,
) {
    let mut last = None;
    while let Some(ended) = under_way.try_join_next() {
        let Ok((number, fault, ended)) = ended else {
            cluster.timeline.wrong("a fault panicked");
            continue;
        };
        let name = fault.name();
        cluster.timeline.note(format!("fault {number} {name} is over: {ended:?}"));
        match ended {
            Ended::Seen(_) => *done.seen.entry(fault).or_default() += 1,
            Ended::Unseen(_) => *done.unseen.entry(fault).or_default() += 1,
            Ended::Skipped(_) => continue,
        }
        last = Some(format!("fault {number} {name}"));
    }
    let Some(last) = last.filter(|_| under_way.is_empty()) else { return };
    done.recoveries.measure(cluster, &last).await;
}
