//! Faults of the network: cuts of every shape, clogged and slow links, broken connections, and
//! swizzles (links cut one by one and mended in another order).

use std::collections::BTreeSet;

use flotilla_types::StoreId;

use crate::event::{End, Event, Relief};
use crate::net::{Link, between};
use crate::scenario::Act;
use crate::time::Micros;
use crate::world::World;

/// The bandwidth of a slow link in bytes per second: a few Raft messages to a few dozen.
const SLOW: (u64, u64) = (1_000, 30_000);

/// Of 1,000 machines that are cut off, so many are a member of the placement driver, if there are
/// several.
const ONE_PD: u64 = 250;

impl World {
    fn ends(&self) -> Vec<End> {
        let stores = self.stores.keys().map(|store| End::Store(*store));
        let clients = self.clients.iter().map(|client| End::Client(client.number));
        stores.chain(self.members_of_pd()).chain(clients).collect()
    }

    fn members_of_pd(&self) -> Vec<End> {
        (1..=self.hub.pd_count).map(End::Pd).collect()
    }

    /// Both directions of every link of the store.
    pub(crate) fn links_to_all(&self, store: StoreId) -> Vec<Link> {
        let one = BTreeSet::from([End::Store(store)]);
        between(&one, &self.ends().into_iter().filter(|end| !one.contains(end)).collect())
    }

    pub(super) fn disturb_links(&mut self, act: Act) -> bool {
        let links = self.choose_links(act);
        let time = self.fault_time();
        let is_any = !links.is_empty();
        if act == Act::Clog {
            let until = self.hub.now() + time;
            self.hub.net.clog(&links, until);
        } else if act == Act::Swizzle {
            self.swizzle(links, time);
        } else {
            self.hub.net.cut(&links);
            self.hub.agenda.after(time, Event::Relief(Relief::Links(links)));
        }
        is_any
    }

    /// Breaks a random share of the connections. False if messages travel without.
    pub(super) fn break_connections(&mut self) -> bool {
        let share = self.hub.dice.acts.between(50, 700);
        let now = self.hub.now();
        self.hub.net.reset(now, &mut self.hub.dice.acts, share) > 0
    }

    /// Takes most of their bandwidth from some links. False if messages travel without connections,
    /// which alone feel it.
    pub(super) fn slow_links(&mut self) -> bool {
        let links = self.choose_links(Act::SlowLink);
        let (time, rate) = (self.fault_time(), self.hub.dice.acts.between(SLOW.0, SLOW.1));
        if links.is_empty() || !self.hub.net.has_connections() {
            return false;
        }
        self.hub.net.slow(&links, Some(rate));
        self.hub.agenda.after(time, Event::Relief(Relief::Fast(links)));
        true
    }

    /// Cuts a random set of links one by one, and mends the links one by one in another order (the
    /// "swizzle-clog" of FoundationDB). The states in between are partitions that nobody would
    /// plan.
    fn swizzle(&mut self, mut links: Vec<Link>, time: Micros) {
        for link in &links {
            let delay = self.hub.dice.acts.between(0, time);
            self.hub.agenda.after(delay, Event::Relief(Relief::CutOff(vec![*link])));
        }
        self.hub.dice.acts.shuffle(&mut links);
        for link in links {
            let delay = time + self.hub.dice.acts.between(0, time);
            self.hub.agenda.after(delay, Event::Relief(Relief::Links(vec![link])));
        }
    }

    fn choose_links(&mut self, act: Act) -> Vec<Link> {
        let mut ends = self.ends();
        let stores: Vec<End> = self.stores.keys().map(|store| End::Store(*store)).collect();
        match act {
            Act::Isolate
                if self.hub.scenario.cluster.pds > 1 && self.hub.dice.acts.chance(ONE_PD) =>
            {
                self.hub.coverage.hit("members of the placement driver cut off");
                let one = BTreeSet::from([End::Pd(self.pd.victim(&mut self.hub.dice.acts))]);
                // A member that is cut off from the others only may still answer what is not so.
                let rest = if self.hub.dice.acts.chance(700) { self.members_of_pd() } else { ends };
                between(&one, &rest.into_iter().filter(|end| !one.contains(end)).collect())
            }
            Act::Isolate => {
                let one: BTreeSet<End> = self.victim().map(End::Store).into_iter().collect();
                // A store that is cut off from stores only may still give its clients stale
                // answers.
                let rest = if self.hub.dice.acts.chance(700) { stores } else { ends };
                between(&one, &rest.into_iter().filter(|end| !one.contains(end)).collect())
            }
            Act::Ring => {
                let mut links = vec![];
                for (at, from) in stores.iter().enumerate() {
                    for (other, to) in stores.iter().enumerate() {
                        let apart = at.abs_diff(other);
                        if apart > 1 && apart + 1 < stores.len() {
                            links.push((*from, *to));
                        }
                    }
                }
                links
            }
            Act::Halves => {
                self.hub.dice.acts.shuffle(&mut ends);
                let cut = self.hub.dice.acts.between(1, ends.len() as u64) as usize;
                let other = ends.split_off(cut);
                between(&ends.into_iter().collect(), &other.into_iter().collect())
            }
            _ => {
                let share = self.hub.dice.acts.between(50, 500);
                let all: BTreeSet<End> = ends.into_iter().collect();
                let mut links = between(&all, &all);
                links.retain(|(from, to)| from != to && self.hub.dice.acts.chance(share));
                links.sort_unstable();
                links.dedup();
                links
            }
        }
    }
}
