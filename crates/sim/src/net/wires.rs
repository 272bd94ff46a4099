//! The directed links: which are cut, clogged or slow, and how long a message is under way.
//!
//! Each link has dice of its own, so that what one link does to its messages changes nothing on
//! another. What a link adds to the usual delays is drawn when the link is first used, and stays.
//!
//! Not here: what becomes of a message on a cut link ([`super::datagrams`], [`super::conns`]).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::dice::{Dice, mix};

use crate::chance;
use crate::event::{End, Link};
use crate::scenario::{LinkScenario, NetScenario};
use crate::time::Micros;

/// A lane of the seed for what a link always has.
const ALWAYS: u64 = 0x6c69_6e6b;

/// A link that was used.
#[derive(Debug)]
struct Wire {
    dice: Dice,
    /// Added to every delay.
    extra: Micros,
    /// When what was sent so far has left.
    free_at: Micros,
}

/// The state of all links.
#[derive(Debug)]
pub struct Wires {
    pub(super) config: NetScenario,
    links: LinkScenario,
    seed: u64,
    wires: BTreeMap<Link, Wire>,
    cut: BTreeMap<Link, u32>,
    clogged: BTreeMap<Link, Micros>,
    /// Links of less bandwidth than usual, in bytes per second.
    slow: BTreeMap<Link, u64>,
    /// Links that were cut, mended or made fast again since [`Wires::take_changed`].
    changed: BTreeSet<Link>,
    pub(super) is_healed: bool,
}

impl Wires {
    /// The links of the world `seed`, none of them cut, clogged or slow.
    pub fn new(config: NetScenario, links: LinkScenario, seed: u64) -> Wires {
        Wires {
            config,
            links,
            seed,
            wires: BTreeMap::new(),
            cut: BTreeMap::new(),
            clogged: BTreeMap::new(),
            slow: BTreeMap::new(),
            changed: BTreeSet::new(),
            is_healed: false,
        }
    }

    fn wire(&mut self, link: Link) -> &mut Wire {
        let (links, seed) = (&self.links, self.seed);
        self.wires.entry(link).or_insert_with(|| Wire::new(links, seed, link))
    }

    /// The link's own dice.
    pub fn dice(&mut self, link: Link) -> &mut Dice {
        &mut self.wire(link).dice
    }

    /// When a message arrives that leaves now, if nothing else is under way.
    pub fn travel(&mut self, now: Micros, link: Link) -> Micros {
        let NetScenario { delay_min, delay_max, spikes, .. } = self.config;
        let may_spike = !self.is_healed;
        let clogged = self.clogged.get(&link).copied().unwrap_or(0);
        let Wire { dice, extra, .. } = self.wire(link);
        let mut delay = dice.between(delay_min, delay_max);
        if may_spike && dice.chance(spikes) {
            delay *= dice.between(2, 50);
        }
        now.max(clogged) + delay + *extra
    }

    /// When the last of `bytes` has left, behind what the link carries already.
    pub fn depart(&mut self, now: Micros, link: Link, bytes: u64) -> Micros {
        let usual = self.links.connections.as_ref().map_or(u64::MAX, |conns| conns.bytes_per_s);
        let rate = self.slow.get(&link).copied().unwrap_or(usual).max(1);
        let wire = self.wire(link);
        wire.free_at = wire.free_at.max(now) + bytes.saturating_mul(1_000_000) / rate;
        wire.free_at
    }

    /// True if a link to `end` is to carry what waits on it until after `at`.
    pub fn is_busy(&self, end: End, at: Micros) -> bool {
        self.wires.iter().any(|((_, to), wire)| *to == end && wire.free_at > at)
    }

    /// True if the link is cut.
    pub fn is_cut(&self, link: Link) -> bool {
        self.cut.contains_key(&link)
    }

    /// True if the link is neither cut nor clogged at `now`. It may be slow.
    pub fn carries(&self, link: Link, now: Micros) -> bool {
        !self.is_cut(link) && self.clogged.get(&link).is_none_or(|until| *until <= now)
    }

    /// True if the link is neither cut nor clogged nor slow at `now`.
    pub fn is_open(&self, link: Link, now: Micros) -> bool {
        self.carries(link, now) && !self.slow.contains_key(&link)
    }

    /// True if every link is open at `now`.
    pub fn are_all_open(&self, now: Micros) -> bool {
        let is_clogged = self.clogged.values().any(|until| *until > now);
        self.cut.is_empty() && !is_clogged && self.slow.is_empty()
    }

    /// Cuts links. A link that is cut twice must be mended twice.
    pub fn cut(&mut self, links: &[Link]) {
        for link in links {
            *self.cut.entry(*link).or_default() += 1;
            self.changed.insert(*link);
        }
    }

    /// Mends links that were cut.
    pub fn mend(&mut self, links: &[Link]) {
        for link in links {
            if let Some(times) = self.cut.get_mut(link) {
                *times -= 1;
                if *times == 0 {
                    self.cut.remove(link);
                    self.changed.insert(*link);
                }
            }
        }
    }

    /// Delays what travels over the links until `until`, or longer if they are clogged for longer
    /// already: what waits until then keeps its place before what is sent now.
    pub fn clog(&mut self, links: &[Link], until: Micros) {
        for link in links {
            let clogged = self.clogged.entry(*link).or_default();
            *clogged = until.max(*clogged);
        }
    }

    /// Limits what the links carry to `bytes_per_s`; None ends that.
    pub fn slow(&mut self, links: &[Link], bytes_per_s: Option<u64>) {
        for link in links {
            match bytes_per_s {
                Some(rate) => drop(self.slow.insert(*link, rate)),
                None => self.hasten(*link),
            }
        }
    }

    /// What a slow link has not carried yet waits no longer.
    fn hasten(&mut self, link: Link) {
        if self.slow.remove(&link).is_some() {
            self.wires.entry(link).and_modify(|wire| wire.free_at = 0);
            self.changed.insert(link);
        }
    }

    /// Mends and unclogs all links, and ends chance loss, duplication and reordering for good.
    /// Links that are cut later stay cut until they are mended.
    pub fn heal(&mut self) {
        self.changed.extend(std::mem::take(&mut self.cut).into_keys());
        // What waits on a clogged link until its clog ends waits no longer.
        self.changed.extend(std::mem::take(&mut self.clogged).into_keys());
        self.is_healed = true;
        let slow: Vec<Link> = self.slow.keys().copied().collect();
        slow.into_iter().for_each(|link| self.hasten(link));
    }

    /// The links that were cut, mended or made fast again since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<Link> {
        std::mem::take(&mut self.changed)
    }

    /// True if [`Wires::take_changed`] has something to tell.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }
}

impl Wire {
    fn new(links: &LinkScenario, seed: u64, link: Link) -> Wire {
        let (from, to) = (link.0.number(), link.1.number());
        let always = chance::of_link(mix(seed ^ ALWAYS), from, to);
        let mut always = Dice::new(always);
        let is_far = |end| matches!(end, End::Store(store) if store.0 == links.far_store);
        let mut extra = 0;
        if is_far(link.0) != is_far(link.1) {
            extra += always.between(links.far_min, links.far_max);
        }
        if always.chance(links.slow_ways) {
            extra += always.between(0, links.slow_max);
        }
        Wire { dice: Dice::new(chance::of_link(seed, from, to)), extra, free_at: 0 }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::StoreId;

    use super::*;
    use crate::time::MS;

    fn store(id: u64) -> End {
        End::Store(StoreId(id))
    }

    #[test]
    fn a_far_store_is_far_in_both_directions_and_each_has_a_delay_of_its_own() {
        let links = LinkScenario {
            far_store: 2,
            far_min: 30 * MS,
            far_max: 120 * MS,
            ..LinkScenario::default()
        };
        let config = NetScenario { delay_min: 10, delay_max: 11, ..NetScenario::default() };
        let mut wires = Wires::new(config, links, 1);
        assert_eq!(wires.travel(0, (store(1), store(3))), 10);
        let (there, back) = ((store(1), store(2)), (store(2), store(1)));
        let delays = [wires.travel(0, there), wires.travel(0, back)];
        assert!(delays.iter().all(|delay| (30 * MS..=121 * MS).contains(delay)), "{delays:?}");
        assert_ne!(delays[0], delays[1]);
        assert_eq!(delays[0], wires.travel(0, there), "the link keeps its delay");
    }

    #[test]
    fn in_some_links_one_direction_is_slow() {
        let links = LinkScenario { slow_ways: 500, slow_max: 50 * MS, ..LinkScenario::default() };
        let config = NetScenario { delay_min: 10, delay_max: 11, ..NetScenario::default() };
        let mut wires = Wires::new(config, links, 1);
        let pairs = (1..6).flat_map(|a| (1..a).map(move |b| (store(a), store(b))));
        let is_lopsided = pairs
            .filter(|(a, b)| (wires.travel(0, (*a, *b)) > 10) != (wires.travel(0, (*b, *a)) > 10));
        assert!((2..9).contains(&is_lopsided.count()));
    }

    #[test]
    fn a_message_leaves_behind_the_bytes_before_it() {
        let connections = Some(crate::scenario::ConnScenario {
            bytes_per_s: 1_000_000,
            ..crate::scenario::ConnScenario::default()
        });
        let links = LinkScenario { connections, ..LinkScenario::default() };
        let mut wires = Wires::new(NetScenario::default(), links, 1);
        let link = (store(1), store(2));
        assert_eq!(wires.depart(0, link, 5_000), 5_000);
        assert_eq!(wires.depart(1_000, link, 1_000), 6_000);
        assert_eq!(wires.depart(9_000, link, 1_000), 10_000);
        wires.slow(&[link], Some(1_000));
        assert_eq!(wires.depart(10_000, link, 10), 20_000);
        wires.slow(&[link], None);
        assert_eq!(wires.depart(20_000, link, 1_000), 21_000);
    }
}
