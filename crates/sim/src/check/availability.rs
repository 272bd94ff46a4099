//! Availability: a region with a working quorum answers whoever asks.
//!
//! The world looks at every region each 100 ms; one region at one look is a cell. A cell has a
//! quorum if some set of the region's voters is a quorum of every configuration that one of them
//! or the newest shape of the region has, and each voter of the set works: its process runs and is
//! not paused, its disk is neither slow nor full and its write buffer has room, it has durable
//! state and no install under way, it reaches every other voter of the set in both directions, and
//! its log reaches back far enough for the others, or forward far enough, that none of them needs a
//! snapshot. A region has none while a rumour decides which of its messages are lost, or while a
//! voter leads it that runs, hears a quorum and is heard by it, and yet is in no such set: its disk
//! has no room, or its links are slow. Nothing in Raft takes the leadership from it.
//!
//! * No region with a quorum goes longer than a bound without an answer to a read, or to a write,
//!   while somebody asks. The bound is [`bound`]; the clock starts anew when a voter of the quorum
//!   stops working or restarts.
//! * The share of cells with a quorum that were served is a figure of the run. A cell is served
//!   unless somebody has asked in vain for [`VAIN_AFTER`].
//!
//! The clock also starts anew while the network proves nothing, and for writes to a region in which
//! clients have no key: a probe cannot write there.
//!
//! Why it is sound: clients may ask the wrong store, so whoever has asked in vain for a while is
//! joined by probes, which the nemesis never cuts off and which ask every store that leads (see
//! [`crate::looks`]). A network that loses or delays so much that followers hear no leader for an
//! election timeout proves nothing, so only seeds with a network that is good enough are judged.
//!
//! What it cannot see: a region that nobody asks; a fault shorter than the time between two looks;
//! a write buffer that never has room again, which the last calls of a seed meet.

use std::collections::BTreeMap;

use flotilla_store::core::{Answer, RequestId};
use flotilla_types::{RegionError, RegionId, StoreId};

use super::{Verdict, broken};
use crate::scenario::{Act, Scenario, by_the_slowest_clock};
use crate::time::{MS, Micros};

/// Whoever asks for so long without an answer asks in vain. Longer than a write takes when nothing
/// is wrong: two round trips of 50 ms and two syncs of 20 ms.
pub const VAIN_AFTER: Micros = 300 * MS;

/// How long a region with a working quorum may let somebody ask in vain when disk and network take
/// no time, in least election timeouts: 3 s for the product's 500 ms. The lease or promise of a
/// leader that is lost ends within one timeout, a leader that hears no quorum steps down within
/// another, and two elections of up to two timeouts each may follow.
const TIMEOUTS_MAX: u64 = 6;

/// The greatest share of Raft messages, in a thousand, that a network may lose to be judged by.
const LOSS_MAX: u64 = 50;

/// What connections add: one that was silent while its link was cut is resumed, or made anew.
const RECONNECTED: Micros = 3_000 * MS;

/// Syncs, messages and steps of checkpoints that follow each other until a write is answered; see
/// [`super::recovery`].
const SYNCS: u64 = 10;
const MESSAGES: u64 = 20;
const DISK_STEPS: u64 = 6;

/// How long a region with a quorum that works may let somebody ask in vain. None if the network is
/// not good enough to judge by.
pub fn bound(scenario: &Scenario, is_healed: bool) -> Option<Micros> {
    // A flood keeps a store's thread busy for as long as it likes.
    let is_calm = scenario.net.spikes == 0 && !scenario.has(Act::Flood);
    let is_good = is_healed || (is_calm && scenario.net.loss <= LOSS_MAX);
    let links = &scenario.links;
    let delay = scenario.net.delay_max + links.far_max.max(links.slow_max);
    let connected = if links.connections.is_some() { RECONNECTED } else { 0 };
    let disk = SYNCS * scenario.disk.sync_max + DISK_STEPS * scenario.disk.step_max;
    let election = by_the_slowest_clock(TIMEOUTS_MAX * scenario.timing.election());
    is_good.then_some(election + disk + MESSAGES * delay + connected)
}

/// A voter that works: its store, and the life of the store's process.
pub type Working = (StoreId, u32);

/// The figures of a seed or of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Cells with a quorum.
    pub cells: u64,
    /// Those of them that were served.
    pub served: u64,
    /// The longest time that a region with a quorum let somebody ask in vain.
    pub longest: Micros,
}

impl Served {
    /// Adds the figures of another seed.
    pub fn merge(&mut self, other: &Served) {
        self.cells += other.cells;
        self.served += other.served;
        self.longest = self.longest.max(other.longest);
    }

    /// The share of cells that were served; 1 if no cell had a quorum.
    pub fn share(&self) -> f64 {
        if self.cells == 0 { 1.0 } else { self.served as f64 / self.cells as f64 }
    }
}

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A get or a scan.
    Read,
    /// A write or a swap.
    Write,
}

/// Both kinds.
pub const KINDS: [Kind; 2] = [Kind::Read, Kind::Write];

/// What is known of one region.
#[derive(Default)]
struct Service {
    quorum: Vec<Working>,
    quorum_since: Micros,
    /// Since when somebody asks for a read, and for a write, without an answer.
    vain_since: [Option<Micros>; 2],
}

/// The account of who asked and who answered.
#[derive(Default)]
pub struct Availability {
    /// Requests that a store has taken up and not answered.
    asked: BTreeMap<(StoreId, RequestId), RegionId>,
    regions: BTreeMap<RegionId, Service>,
    /// The figures so far.
    pub served: Served,
}

impl Availability {
    /// Somebody asks a region.
    pub fn asks(&mut self, region: RegionId, kind: Kind, now: Micros) {
        let service = self.regions.entry(region).or_default();
        service.vain_since[kind as usize].get_or_insert(now);
    }

    /// A store takes up a request.
    pub fn taken_up(&mut self, store: StoreId, id: RequestId, region: RegionId) {
        self.asked.insert((store, id), region);
    }

    /// A store answers. Answers which region was served, and how, if the request succeeded.
    pub fn replied(
        &mut self,
        store: StoreId,
        id: RequestId,
        result: &Result<Answer, RegionError>,
    ) -> Option<(RegionId, Kind)> {
        let region = self.asked.remove(&(store, id))?;
        let kind = match result {
            Ok(Answer::Get(_) | Answer::Scan { .. }) => Kind::Read,
            Ok(Answer::Written | Answer::Swapped { .. }) => Kind::Write,
            Err(_) => return None,
        };
        let service = self.regions.entry(region).or_default();
        service.vain_since[kind as usize] = None;
        Some((region, kind))
    }

    /// Nobody can ask the region for this.
    pub fn asks_no_more(&mut self, region: RegionId, kind: Kind) {
        if let Some(service) = self.regions.get_mut(&region) {
            service.vain_since[kind as usize] = None;
        }
    }

    /// A store's process has started: what the last one had taken up is not answered.
    pub fn reborn(&mut self, store: StoreId) {
        self.asked.retain(|(other, _), _| *other != store);
    }

    /// The quorum that the region had at the last look.
    pub fn quorum(&self, region: RegionId) -> &[Working] {
        self.regions.get(&region).map_or(&[], |service| &service.quorum)
    }

    /// Looks at a region that has this quorum, if any, now. Answers which kinds of requests are to
    /// be joined by probes. `bound` is None if the network is not good enough to judge by.
    pub fn look(
        &mut self,
        region: RegionId,
        quorum: Vec<Working>,
        now: Micros,
        bound: Option<Micros>,
    ) -> Result<[bool; 2], super::Violation> {
        let service = self.regions.entry(region).or_default();
        let goes_on = !service.quorum.is_empty()
            && service.quorum.iter().all(|working| quorum.contains(working));
        if !goes_on || bound.is_none() {
            service.quorum_since = now;
        }
        service.quorum = quorum;
        if service.quorum.is_empty() {
            return Ok([false; 2]);
        }
        let vain = service.vain_since.map(|since| since.map_or(0, |since| now - since));
        self.served.cells += 1;
        self.served.served += u64::from(vain.iter().all(|vain| *vain < VAIN_AFTER));
        for (kind, vain) in KINDS.into_iter().zip(vain) {
            let vain = vain.min(now - service.quorum_since);
            self.served.longest = self.served.longest.max(vain);
            if bound.is_some_and(|bound| vain > bound) {
                too_long(region, &service.quorum, kind, vain)?;
            }
        }
        Ok(vain.map(|vain| vain >= VAIN_AFTER))
    }
}

fn too_long(region: RegionId, quorum: &[Working], kind: Kind, vain: Micros) -> Verdict {
    let stores: Vec<String> = quorum.iter().map(|(store, _)| store.to_string()).collect();
    let what = format!(
        "region {region}: no {kind:?} succeeded for {} ms, though stores {} are a working quorum",
        vain / MS,
        stores.join(", ")
    );
    broken("a region with a quorum serves", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: RegionId = RegionId(7);
    const ONE: (StoreId, RequestId) = (StoreId(1), RequestId(1));

    fn both(life: u32) -> Vec<Working> {
        vec![(StoreId(1), 1), (StoreId(2), life)]
    }

    #[test]
    fn a_region_that_lets_somebody_ask_in_vain_is_found() {
        let mut availability = Availability::default();
        let bound = Some(3_000 * MS);
        assert_eq!(availability.look(REGION, both(1), 0, bound), Ok([false; 2]));
        availability.asks(REGION, Kind::Write, 100 * MS);
        assert_eq!(availability.look(REGION, both(1), 400 * MS, bound), Ok([false, true]));
        assert!(availability.look(REGION, both(1), 3_200 * MS, bound).is_err());
        assert!(availability.look(REGION, both(1), 3_200 * MS, None).is_ok(), "a bad network");
        assert_eq!((availability.served.cells, availability.served.served), (4, 1));
        assert_eq!(availability.served.longest, 3_100 * MS);
    }

    #[test]
    fn an_answer_of_the_same_kind_ends_the_wait_and_a_refusal_does_not() {
        let mut availability = Availability::default();
        let mut reply = |result: Result<Answer, RegionError>| {
            availability.asks(REGION, Kind::Write, 100 * MS);
            availability.taken_up(ONE.0, ONE.1, REGION);
            availability.replied(ONE.0, ONE.1, &result);
            availability.look(REGION, both(1), 900 * MS, None)
        };
        let refused = RegionError::Undetermined { region_id: REGION };
        assert_eq!(reply(Err(refused)), Ok([false, true]));
        assert_eq!(reply(Ok(Answer::Get(vec![]))), Ok([false, true]));
        assert_eq!(reply(Ok(Answer::Written)), Ok([false, false]));
    }

    #[test]
    fn the_clock_starts_anew_when_a_voter_of_the_quorum_restarts() {
        let mut availability = Availability::default();
        let bound = Some(3_000 * MS);
        availability.asks(REGION, Kind::Read, 0);
        assert!(availability.look(REGION, both(1), 0, bound).is_ok());
        assert!(availability.look(REGION, both(2), 2_900 * MS, bound).is_ok());
        assert!(availability.look(REGION, both(2), 3_100 * MS, bound).is_ok());
        assert!(availability.look(REGION, vec![], 9_000 * MS, bound).is_ok(), "no quorum");
        assert!(availability.look(REGION, both(2), 9_100 * MS, bound).is_ok());
        assert!(availability.look(REGION, both(2), 12_200 * MS, bound).is_err());
    }
}
