//! The nemesis: the part of the world that makes things fail. It carries out the acts that the
//! scenario lists ([`crate::scenario::PlannedAct`]), each by dice of its own.
//!
//! * [`crashes`]: crashes and restarts of processes.
//! * [`clocks`]: paused threads, and clocks that jump or change their rate.
//! * [`disks`]: disks that are slow, full, failing, lost or damaged.
//! * [`links`]: cut, clogged and slow links, and broken connections.
//! * [`members`]: orders of an administrator or a placement driver.
//! * [`ambush`]: voters that restart at the worst moment for a lease.
//! * [`duel`]: a candidate beside a leader that the other voters still follow.
//! * [`suspend`]: machines that are suspended.
//! * [`flood`]: requests in a number that a store cannot serve at once.
//! * [`impostor`]: empty directories in place of stores that hold the first region.
//! * [`replace_pd`]: members of the placement driver that are replaced.
//! * [`joint`]: stores that fail in the middle of a change of members.
//! * [`late_split`]: followers that apply a split when its right part is gone from their store.
//! * [`stupor`]: leaders that pause while answers to them are under way.
//! * [`rumour`]: voters that learn of a later term while a lease rests on them.
//! * [`old_pd`]: a placement driver that is put back from an older copy of its directory.
//! * [`outrun`]: stores that will need snapshots.
//!
//! The nemesis breaks only what the product must survive: a quorum of disks stays, and clocks keep
//! within the drift that leases allow for. What must hold meanwhile is in [`crate::check`].

pub mod ambush;
pub mod clocks;
pub mod crashes;
pub mod disks;
pub mod duel;
pub mod flood;
pub mod impostor;
pub mod joint;
pub mod late_split;
pub mod links;
pub mod members;
pub mod old_pd;
pub mod outrun;
pub mod replace_pd;
pub mod rumour;
pub mod stupor;
pub mod suspend;

use flotilla_types::dice::Dice;
use flotilla_types::{StoreId, proto};

use crate::check::{Verdict, Violation};
use crate::event::{End, Event, Relief};
use crate::net::Link;
use crate::pd::node::Node;
use crate::scenario::{Act, PlannedAct};
use crate::store::disk::Loss;
use crate::store::{DiskEnd, SimStore};
use crate::time::{MS, Micros};
use crate::world::World;

/// The endpoint from which the nemesis sends.
pub const NEMESIS: End = End::Client(u32::MAX);

/// The greatest number of strikes in a row.
const STRIKES_MAX: u64 = 20;

/// Longer than any first phase lasts.
const GONE: Micros = 1_000_000_000 * MS;

/// Faults of disks and clocks in a thousand that hit the placement driver.
const PD_SHARE: u64 = 150;

/// The nemesis's memory.
#[derive(Default)]
pub struct Nemesis {
    /// Stores that a storm kills again as soon as they start, with the restarts that are left.
    storms: std::collections::BTreeMap<StoreId, u64>,
    /// Machines that are suspended.
    pub suspended: suspend::Suspended,
    /// Requests that floods have sent.
    floods: u64,
    /// Requests to the placement driver.
    requests: u64,
    /// A copy of the placement driver's directory, which is to be put back.
    old_pd: Option<crate::pd::node::PdCopy>,
    /// The member of the placement driver that is being replaced.
    replaced_pd: Option<replace_pd::Replacement>,
    /// When the last disk ended.
    last_end: Option<Micros>,
    /// True once the first phase of the seed is over, and no fault begins any more.
    pub is_over: bool,
}

impl World {
    /// Puts the acts of the scenario on the agenda.
    pub(crate) fn plan_acts(&mut self) {
        for planned in &self.hub.scenario.faults.acts {
            self.hub.agenda.at(planned.at, Event::Nemesis(*planned));
        }
    }

    /// Carries out one act.
    pub(crate) fn act(&mut self, planned: PlannedAct) -> Verdict {
        if self.nemesis.is_over {
            return Ok(());
        }
        let PlannedAct { act, seed, .. } = planned;
        self.hub.dice.acts = Dice::new(seed);
        self.hub.say(|| format!("nemesis: {act:?}"));
        self.hub.trace.add(&[act as u64]);
        let running = self.stores.values().filter_map(|store| store.process.as_ref());
        let quiescent: usize = running.map(|process| process.worker.quiescent()).sum();
        self.hub.coverage.add("peers quiescent", quiescent as u64);
        if self.carry_out(act)? {
            self.hub.coverage.hit(act.mark());
        }
        Ok(())
    }

    /// Carries out an act. False if the world has nothing that the act applies to.
    fn carry_out(&mut self, act: Act) -> Result<bool, Violation> {
        match act {
            Act::CrashOne => self.crash_some(1),
            Act::CrashMajority => {
                let most = self.stores.len() as u64;
                let count = self.hub.dice.acts.between(most / 2 + 1, most);
                self.crash_some(count as usize)
            }
            Act::CrashAll => self.crash_some(self.stores.len()),
            Act::RestartStorm => self.storm(),
            Act::PowerCut => self.cut_power(),
            Act::LoseDisk => self.end_disk(DiskEnd::Lost),
            Act::DamageDisk => self.end_disk(DiskEnd::Damaged),
            Act::CrashPd => {
                let down = self.fault_time();
                let id = self.pd.victim(&mut self.hub.dice.acts);
                self.pd.crash(&mut self.hub, id, down)
            }
            Act::GonePd => self.pd.crash_all(&mut self.hub, GONE),
            Act::ReplacePd => self.replace_pd(),
            _ => Ok(self.act_unchecked(act)),
        }
    }

    /// Carries out an act that checks no invariant itself.
    fn act_unchecked(&mut self, act: Act) -> bool {
        match act {
            Act::Pause => self.pause(),
            Act::ClockRate => self.change_rate(),
            Act::ClockJump => self.jump_clock(),
            Act::DiskStall => self.stall(),
            Act::LogError | Act::CheckpointError => self.fail_disk(act),
            Act::DiskFull => self.fill_disk(),
            Act::Isolate | Act::Halves | Act::Ring | Act::OneWay | Act::Clog | Act::Swizzle => {
                self.disturb_links(act)
            }
            Act::ConnReset => self.break_connections(),
            Act::SlowLink => self.slow_links(),
            Act::Transfer | Act::Split | Act::MovePeer | Act::RemovePeer | Act::RemoveHeir => {
                self.ask_operator(act)
            }
            Act::TransferAway => self.transfer_away(false),
            Act::TransferWatched => self.transfer_away(true),
            Act::Ambush => self.lay_ambush(),
            Act::Duel => self.begin_duel(),
            Act::Stupor => self.stupefy(),
            Act::Rumour => self.begin_rumour(),
            Act::Suspend => self.suspend(),
            Act::Flood => self.flood(),
            Act::Outrun => self.outrun(),
            Act::Joint => self.strike_joint(),
            Act::LateSplit => self.split_late(),
            Act::Drain => self.drain(),
            Act::OldPd => self.copy_pd(),
            Act::Strike => {
                self.hub.strikes = self.hub.dice.acts.between(1, STRIKES_MAX);
                true
            }
            Act::CrashOne
            | Act::CrashMajority
            | Act::CrashAll
            | Act::RestartStorm
            | Act::PowerCut
            | Act::LoseDisk
            | Act::DamageDisk
            | Act::CrashPd
            | Act::GonePd
            | Act::ReplacePd => unreachable!("{act:?} is carried out where it is checked"),
        }
    }

    /// Mends the links that an act has cut. Healing mends all links already, so links that are cut
    /// after healing are not to be mended when the act ends.
    fn mend(&mut self, links: &[Link]) {
        if !self.nemesis.is_over {
            self.hub.net.mend(links);
        }
    }

    fn fault_time(&mut self) -> Micros {
        self.hub.dice.acts.between(50 * MS, self.hub.scenario.faults.fault_max)
    }

    /// The member of the placement driver that a fault of a machine is to hit; None if a store is.
    fn hit_pd(&mut self) -> Option<&mut Node> {
        if !self.pd.is_up() || !self.hub.dice.acts.chance(PD_SHARE) {
            return None;
        }
        let id = self.pd.victim(&mut self.hub.dice.acts);
        self.pd.node(id)
    }

    fn any_store(&mut self) -> Option<StoreId> {
        let ids: Vec<StoreId> = self.stores.keys().copied().collect();
        self.hub.dice.acts.pick(&ids).copied()
    }

    /// A random store, with preference for a store that leads a region.
    fn victim(&mut self) -> Option<StoreId> {
        let leads = |store: &SimStore| store.process.as_ref()?.led().next().map(|_| store.id);
        let leaders: Vec<StoreId> = self.stores.values().filter_map(leads).collect();
        match self.hub.dice.acts.chance(700) {
            true => self.hub.dice.acts.pick(&leaders).copied(),
            false => self.any_store(),
        }
    }

    /// Ends a fault, or goes on to its next stage.
    pub(crate) fn relieve(&mut self, relief: Relief) -> Verdict {
        match relief {
            Relief::Links(links) => self.mend(&links),
            Relief::Fast(links) => self.hub.net.slow(&links, None),
            Relief::CutOff(links) => {
                if !self.nemesis.is_over {
                    self.hub.net.cut(&links);
                }
            }
            Relief::Undrain(store) => {
                // Healing has done so already.
                if !self.nemesis.is_over {
                    self.set_state(store, proto::StoreState::Up);
                }
            }
            Relief::Disks => self.hub.stall_max = 0,
            Relief::Crash(store) => {
                if !self.nemesis.is_over {
                    let loss = self.loss();
                    return self.crash_store(store, loss, 50 * MS);
                }
            }
            Relief::OldPd => return self.put_back_pd(),
            Relief::PdRoom => self.pd.empty_disks(),
            Relief::Room(store) => self.free_disk(store),
            Relief::Replacement => {
                return self.add_another("stores replaced", Relief::Replacement);
            }
            Relief::Impostor { store, tries_left } => {
                return self.go_on_with_impostor(store, tries_left);
            }
            Relief::Latecomer => {
                return self.add_another("stores that came late", Relief::Latecomer);
            }
            Relief::PdReplaced { is_removed } => return self.go_on_replacing_pd(is_removed),
            Relief::Ambush(ambush) => return self.spring(ambush),
            Relief::Stupor { region, leader, until, stage } => {
                self.go_on_with_stupor((region, leader), until, stage);
            }
            Relief::NoAmbush(links) => {
                self.hub.ambush = None;
                self.mend(&links);
            }
            Relief::Duel { region, leader } => self.part(region, leader),
            Relief::Rumour(stage) => self.go_on_with_rumour(stage),
            Relief::Wake(end) => self.wake_machine(end),
            Relief::Flood { store, requests } => self.send_wave(store, requests),
            Relief::Joint(store) => return self.on_joint(store),
            Relief::LateSplit { end, store, orders_left } => {
                self.go_on_with_late_split((end, store), orders_left);
            }
            Relief::Forget { but } => self.forget(but),
            Relief::Outrun { store, links } => self.come_back(store, &links),
        }
        Ok(())
    }

    /// Retires the nemesis: everything that is broken is mended but disks that have ended, and
    /// every process with a disk starts.
    pub(crate) fn heal(&mut self) -> Verdict {
        self.hub.say(|| "healed".into());
        self.nemesis.is_over = true;
        self.hub.rumour = None;
        self.wake_machines();
        self.hub.net.heal();
        // What follows may ask the placement driver while the world goes on.
        let carries = self.hub.net.held_until().max(self.hub.now());
        self.hub.checks.recovery.mended(carries);
        self.hub.stall_max = 0;
        self.pd.mend();
        self.pd.start(&mut self.hub)?;
        self.hub.give_pd();
        let ids: Vec<StoreId> = self.stores.keys().copied().collect();
        for id in ids {
            let Some(store) = self.stores.get_mut(&id).filter(|store| store.end.is_none()) else {
                continue;
            };
            store.disk.mend();
            if store.process.as_ref().is_some_and(|process| process.is_leaving) {
                store.crash(&mut self.hub, Loss::Nothing, MS)?;
            }
            if !store.is_up() {
                store.start(&mut self.hub, None)?;
            } else if let Some(process) = &mut store.process {
                process.resume(&mut self.hub);
            }
        }
        self.set_all_up()
    }
}
