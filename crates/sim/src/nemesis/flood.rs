//! A flood: one client has up to 200 scans and reads open at one store, and asks again and again.
//!
//! The answers go nowhere. A store that let such a flood keep it from its ticks, or from the
//! messages of the other members, would lose its leaderships to stores that are flooded next.

use flotilla_store::core::Op;
use flotilla_types::{KeyRange, Region, ScanOp, StoreId};

use crate::client::work::stored;
use crate::event::{AttemptId, Body, ClientRequest, End, Event, Relief};
use crate::time::{MS, Micros};
use crate::world::World;

/// The client number of all floods.
const FLOOD: u32 = 1 << 25;

/// The most requests in one wave.
const REQUESTS_MAX: u64 = 200;

/// The most waves of a flood.
const WAVES_MAX: u64 = 20;

/// The time between two waves.
const INTERVAL: Micros = 100 * MS;

/// How long the store may take to answer, in milliseconds.
const TIMEOUT_MS: u64 = 2_000;

/// Bytes of a chunk: as many as a client asks for, so that a chunk holds a whole region.
const CHUNK_BYTES: usize = 1024 * 1024;

impl World {
    /// Chooses a store and plans the waves.
    pub(super) fn flood(&mut self) -> bool {
        let Some(store) = self.victim() else { return false };
        let waves = self.hub.dice.acts.between(1, WAVES_MAX + 1);
        for wave in 0..waves {
            let requests = self.hub.dice.acts.between(REQUESTS_MAX / 4, REQUESTS_MAX + 1);
            let wave_begins = Event::Relief(Relief::Flood { store, requests });
            self.hub.agenda.after(wave * INTERVAL, wave_begins);
        }
        true
    }

    /// Sends the requests of one wave, for regions that the store leads.
    pub(super) fn send_wave(&mut self, store: StoreId, requests: u64) {
        if self.nemesis.is_over {
            return;
        }
        let Some(process) = self.stores.get(&store).and_then(|store| store.process.as_ref()) else {
            return;
        };
        let led: Vec<Region> = process.led().cloned().collect();
        for _ in 0..requests {
            let Some(region) = self.hub.dice.acts.pick(&led).cloned() else { return };
            let op = if self.hub.dice.acts.chance(800) {
                scan(region.range)
            } else {
                let key = self.hub.dice.acts.between(0, u64::from(self.hub.scenario.clients.keys));
                Op::Get(vec![stored(key as u16)])
            };
            self.nemesis.floods += 1;
            let request = ClientRequest {
                attempt: AttemptId { client: FLOOD, number: self.nemesis.floods },
                region: region.id,
                epoch: region.epoch,
                timeout_ms: TIMEOUT_MS,
                op,
            };
            let body = Body::Request(Box::new(request));
            self.hub.send(End::Client(FLOOD), End::Store(store), body);
        }
    }
}

fn scan(range: KeyRange) -> Op {
    let (limit, bytes_max) = (0, CHUNK_BYTES);
    Op::Scan(ScanOp { range, limit, bytes_max, is_reverse: false, keys_only: false })
}

#[cfg(test)]
mod tests {
    use crate::coverage::Coverage;
    use crate::scenario::{Act, CostScenario, PlannedAct, Scenario};
    use crate::time::{MS, Micros};
    use crate::trace::Trace;
    use crate::world::World;

    /// The time in which floods come, before anything is healed or left out.
    const FLOODED: Micros = 12_000 * MS;

    /// A quiet world in which a scan costs milliseconds, and in which nothing happens but floods.
    fn run(seed: u64, floods: u64) -> Coverage {
        let mut scenario = Scenario { seed, ..Scenario::default() };
        let cold = CostScenario { cold: 500, cold_max: 1_000, ..CostScenario::default() };
        scenario.cost = CostScenario { message: 3, row: 1, proposal: 10, ..cold };
        // One region, which is never cut or moved: only a leader that is deposed has a successor.
        scenario.cluster.region_bytes_max = 1 << 30;
        scenario.faults.kinds = vec![Act::Flood];
        let flood = |number| {
            let at = (4_000 + number * 1_000) * MS;
            PlannedAct { at, act: Act::Flood, seed: seed * 100 + number }
        };
        scenario.faults.acts = (0..floods).map(flood).collect();
        let mut world = World::begin(scenario, Trace::default()).expect("the world begins");
        world.run(FLOODED).expect("nothing is wrong");
        world.hub.coverage
    }

    fn count(coverage: &Coverage, mark: &str) -> u64 {
        coverage.all().find(|(name, _)| *name == mark).map_or(0, |(_, count)| count)
    }

    /// Most reads are served under permits, beside the worker. How many reach the worker depends on
    /// the seed, so not every flood is large there.
    #[test]
    fn a_flood_of_scans_deposes_no_leader() {
        let mut large = 0;
        for seed in 1..9 {
            let (quiet, flooded) = (run(seed, 0), run(seed, 7));
            large += u64::from(count(&flooded, "turns cut by time") > 20);
            assert_eq!(count(&flooded, "elections"), count(&quiet, "elections"), "seed {seed}");
        }
        assert!(large > 4, "only {large} floods are large");
    }
}
