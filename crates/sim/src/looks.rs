//! The look that the world takes at every region each 100 ms: which quorums work, whom probes have
//! to ask, and what that says about availability and recovery ([`crate::check::availability`],
//! [`crate::check::recovery`]).
//!
//! Probes ask every store that leads a region, for as long as somebody asks the region in vain or
//! the region has not served since everything was healed.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_store::core::Op;
use flotilla_store::core::peer::Peer;
use flotilla_types::{Member, MemberRole, Region, RegionId, StoreId};

use crate::check::Verdict;
use crate::check::availability::{self, Kind, Working};
use crate::event::{AttemptId, Body, ClientRequest, End, Event, Link};
use crate::net::Net;
use crate::probes::PROBE;
use crate::store::SimStore;
use crate::store::process::Process;
use crate::time::{LOOK, Micros};
use crate::world::World;

/// The greatest number of voters whose sets are tried one by one: a joint configuration of five
/// voters has six.
const VOTERS_MAX: usize = 8;

/// How long a store may take to answer a probe, in milliseconds.
const TIMEOUT_MS: u64 = 1_500;

impl World {
    /// Looks at every region, and plans the next look.
    pub(crate) fn on_look(&mut self) -> Verdict {
        self.hub.agenda.after(LOOK, Event::Look);
        let now = self.hub.now();
        // Until the links carry again after healing, the network proves nothing.
        let is_good = self.hub.checks.recovery.links_carry(now);
        let is_healed = self.hub.net.is_healed();
        let bound = availability::bound(&self.hub.scenario, is_healed).filter(|_| is_good);
        let mut wanted = vec![];
        for (region, quorum) in self.quorums() {
            let [read, write] = self.hub.checks.availability.look(region, quorum, now, bound)?;
            wanted.extend(read.then_some((region, Kind::Read)));
            if write && self.key_of(region).is_none() {
                self.hub.checks.availability.asks_no_more(region, Kind::Write);
                continue;
            }
            wanted.extend(write.then_some((region, Kind::Write)));
        }
        let checks = &mut self.hub.checks;
        let awaited = checks.recovery.look(checks.tiling.regions().map(|region| region.id));
        for (region, kind) in awaited {
            if kind == Kind::Write && self.key_of(region).is_none() {
                self.hub.checks.recovery.needs_no_write(region);
            } else {
                wanted.push((region, kind));
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        for (region, kind) in wanted {
            self.ask_leaders(region, kind);
        }
        Ok(())
    }

    /// The working quorum of each region; empty for a region without one, and for one whose
    /// messages a rumour loses.
    fn quorums(&self) -> Vec<(RegionId, Vec<Working>)> {
        let ground = Ground::of(self);
        let disturbed = self.hub.rumour.as_ref().map(|rumour| rumour.region);
        let quorum = |region: &Region| {
            if disturbed == Some(region.id) {
                return (region.id, vec![]);
            }
            let last = self.hub.checks.availability.quorum(region.id);
            (region.id, ground.quorum(region, last))
        };
        self.hub.checks.tiling.regions().map(quorum).collect()
    }

    /// The regions that have a quorum that works.
    pub(crate) fn regions_with_quorum(&self) -> BTreeSet<RegionId> {
        let has_quorum =
            |(region, quorum): (RegionId, Vec<Working>)| (!quorum.is_empty()).then_some(region);
        self.quorums().into_iter().filter_map(has_quorum).collect()
    }

    /// Asks every store that leads the region. A region without a key that clients use is only
    /// read: a write would leave a row that no client knows.
    fn ask_leaders(&mut self, region: RegionId, kind: Kind) {
        let key = self.key_of(region);
        for leader in self.leaders_of(region) {
            match key {
                Some(key) => self.probe(region, leader, key, kind == Kind::Write),
                None => self.read_start(region, leader),
            }
        }
    }

    fn read_start(&mut self, region: RegionId, to: StoreId) {
        let process = self.stores.get(&to).and_then(|store| store.process.as_ref());
        let Some(peer) = process.and_then(|process| process.worker.peer(region)) else { return };
        let op = Op::Get(vec![peer.region.range.start.clone()]);
        let epoch = peer.region.epoch;
        self.probes.attempts += 1;
        let attempt = AttemptId { client: PROBE, number: self.probes.attempts };
        let request = ClientRequest { attempt, region, epoch, timeout_ms: TIMEOUT_MS, op };
        self.hub.send(End::Client(PROBE), End::Store(to), Body::Request(Box::new(request)));
    }
}

/// The stores that run, and the links between them.
struct Ground<'a> {
    stores: BTreeMap<StoreId, Store<'a>>,
    net: &'a Net,
    now: Micros,
    is_whole: bool,
    /// True if stores may not know each other's addresses.
    are_forgotten: bool,
}

/// A store that runs.
struct Store<'a> {
    process: &'a Process,
    /// True if its disk takes what its peers apply.
    has_room: bool,
}

/// A voter of a store that runs.
struct Voter<'a> {
    store: StoreId,
    life: u32,
    peer: &'a Peer,
    /// True if it works, if the others reach it.
    works: bool,
}

impl<'a> Ground<'a> {
    /// No store runs while disks are slow.
    fn of(world: &'a World) -> Ground<'a> {
        let (net, now) = (&world.hub.net, world.hub.now());
        let running = |store: &'a SimStore| {
            let process = store.process.as_ref().filter(|process| {
                let runs = process.failed.is_none() && process.paused_until <= now;
                runs && !world.nemesis.suspended.has(End::Store(store.id))
            })?;
            let has_room = !store.disk.is_full() && !process.worker.pressure().is_high();
            Some((store.id, Store { process, has_room }))
        };
        let stores = match world.hub.stall_max {
            0 => world.stores.values().filter_map(running).collect(),
            _ => BTreeMap::new(),
        };
        let are_forgotten = world.hub.scenario.disk.forgets_addresses;
        let is_whole = net.are_all_open(now) && !are_forgotten;
        Ground { stores, net, now, is_whole, are_forgotten }
    }

    /// A set of voters that work and are a quorum; empty if there is none. The set `last` is
    /// preferred.
    fn quorum(&self, region: &Region, last: &[Working]) -> Vec<Working> {
        let running = self.voters(region);
        let voters: Vec<&Voter<'_>> = running.iter().filter(|voter| voter.works).collect();
        let shapes: Vec<&Region> =
            voters.iter().map(|voter| &voter.peer.region).chain([region]).collect();
        let is_quorum = |set: &[&Voter<'_>]| shapes.iter().all(|shape| is_quorum(shape, set));
        let is_good = |set: &[&Voter<'_>]| {
            let is_held = || self.held(&running, set).is_some_and(|held| is_quorum(&held));
            self.are_linked(set) && is_quorum(set) && !is_held()
        };
        if is_good(&voters) {
            return named(&voters);
        }
        if self.is_whole || voters.len() > VOTERS_MAX {
            return vec![];
        }
        let sets = (1..1_u32 << voters.len()).map(|set| {
            let is_in = |at: &usize| set & (1 << at) != 0;
            let chosen = voters.iter().enumerate().filter(|(at, _)| is_in(at));
            chosen.map(|(_, voter)| *voter).collect::<Vec<_>>()
        });
        let good = sets.filter(|set| is_good(set)).map(|set| named(&set));
        let is_last = |set: &Vec<Working>| !last.is_empty() && last.iter().all(|w| set.contains(w));
        good.max_by_key(|set| (is_last(set), set.len())).unwrap_or_default()
    }

    /// The region's voters on stores that run. One that works has durable state, and the others can
    /// bring it up to date by entries.
    fn voters(&self, region: &Region) -> Vec<Voter<'a>> {
        let members = region.members.iter().filter(|member| member.role != MemberRole::Learner);
        let voter = |member: &Member| {
            let Store { process, has_room } = self.stores.get(&member.store_id)?;
            let peer = process.worker.peer(region.id).filter(|peer| peer.id == member.id)?;
            let works = peer.has_state() && peer.durable_applied > 0 && !peer.group.is_paused();
            let (store, life, works) = (member.store_id, process.life, works && *has_room);
            Some(Voter { store, life, peer, works })
        };
        let mut voters: Vec<Voter<'a>> = members.filter_map(voter).collect();
        let working = voters.iter().filter(|voter| voter.works);
        let first = working.map(|voter| voter.peer.group.truncated().index).max();
        for voter in &mut voters {
            voter.works &= first.is_none_or(|first| voter.peer.group.last_index() >= first);
        }
        voters
    }

    /// A leader that does not work for the set, with the voters it hears that hear it.
    fn held<'v>(&self, running: &'v [Voter<'a>], set: &[&Voter<'_>]) -> Option<Vec<&'v Voter<'a>>> {
        let is_in_set = |voter: &Voter<'_>| set.iter().any(|one| one.store == voter.store);
        let leader = running.iter().find(|voter| voter.peer.is_leader() && !is_in_set(voter))?;
        let is_heard = |voter: &&Voter<'_>| self.are_both(leader, voter, Net::carries);
        Some(running.iter().filter(is_heard).collect())
    }

    fn are_linked(&self, set: &[&Voter<'_>]) -> bool {
        let is_open = |one: &Voter<'_>, other: &Voter<'_>| {
            self.are_both(one, other, Net::is_open) && self.are_acquainted(one.store, other.store)
        };
        self.is_whole || set.iter().all(|one| set.iter().all(|other| is_open(one, other)))
    }

    /// True if the links between two voters are like this in both directions.
    fn are_both(
        &self,
        one: &Voter<'_>,
        other: &Voter<'_>,
        is: fn(&Net, Link, Micros) -> bool,
    ) -> bool {
        let (one, other) = (End::Store(one.store), End::Store(other.store));
        let is_so = |link| is(self.net, link, self.now);
        one == other || (is_so((one, other)) && is_so((other, one)))
    }

    /// True if each of the two stores knows where the other one is.
    fn are_acquainted(&self, one: StoreId, other: StoreId) -> bool {
        let knows = |from: StoreId, to: StoreId| {
            self.stores.get(&from).is_some_and(|store| store.process.addresses.has(to))
        };
        one == other || !self.are_forgotten || (knows(one, other) && knows(other, one))
    }
}

fn named(set: &[&Voter<'_>]) -> Vec<Working> {
    set.iter().map(|voter| (voter.store, voter.life)).collect()
}

/// True if the set is a majority of the voters of the region's configuration, and of both halves
/// of a joint one.
fn is_quorum(region: &Region, set: &[&Voter<'_>]) -> bool {
    let has_most = |old: bool| {
        let votes = |member: &&Member| match member.role {
            MemberRole::Voter => true,
            MemberRole::IncomingVoter => !old,
            MemberRole::DemotingVoter => old,
            MemberRole::Learner => false,
        };
        let voters = region.members.iter().filter(votes);
        let (mut all, mut held) = (0, 0);
        for voter in voters {
            all += 1;
            held += usize::from(set.iter().any(|one| one.peer.id == voter.id));
        }
        held * 2 > all
    };
    has_most(false) && has_most(true)
}
