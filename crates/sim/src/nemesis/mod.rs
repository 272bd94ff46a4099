//! The one who makes things fail: at random moments, one of the acts that the seed has.
//!
//! * [`crashes`]: processes that are killed.
//! * [`clocks`]: threads that stand still, clocks that jump.
//! * [`disks`]: disks that are slow, full, failing or gone.
//! * [`links`]: the network.
//! * [`members`]: orders of an administrator or a placement driver.
//! * [`ambush`]: restarts at the worst moment for a lease.
//! * [`duel`]: candidates beside a leader that the other voters hear.
//! * [`stupor`]: leaders that stand still with answers under way.
//! * [`outrun`]: stores that will need snapshots.

pub mod ambush;
pub mod clocks;
pub mod crashes;
pub mod disks;
pub mod duel;
pub mod links;
pub mod members;
pub mod outrun;
pub mod stupor;

use flotilla_types::{StoreId, proto};

use crate::check::{Verdict, Violation};
use crate::event::{End, Event, Relief};
use crate::net::Link;
use crate::scenario::Act;
use crate::store::{DiskEnd, SimStore};
use crate::time::{MS, Micros};
use crate::world::World;

/// The number under which the nemesis sends.
pub const NEMESIS: End = End::Client(u32::MAX);

/// Strikes in a row at most.
const STRIKES_MAX: u64 = 20;

/// Faults of disks and clocks, of a thousand, that befall the placement driver.
const PD_SHARE: u64 = 150;

/// What the nemesis remembers.
#[derive(Debug, Default)]
pub struct Nemesis {
    /// Stores that it kills again as soon as they have started, and how often.
    storms: std::collections::BTreeMap<StoreId, u64>,
    /// When a disk ended last.
    last_end: Option<Micros>,
    /// True once it has retired.
    pub is_over: bool,
}

impl World {
    /// Plans the next act.
    pub(crate) fn plan_act(&mut self) {
        let delay = self.hub.dice.between(100 * MS, self.hub.scenario.act_max);
        self.hub.agenda.after(delay, Event::Nemesis);
    }

    /// Acts.
    pub(crate) fn act(&mut self) -> Verdict {
        if self.nemesis.is_over {
            return Ok(());
        }
        self.plan_act();
        let acts = self.hub.scenario.acts.clone();
        let Some(act) = self.hub.dice.pick(&acts).copied() else { return Ok(()) };
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

    /// True if there was somebody to suffer it.
    fn carry_out(&mut self, act: Act) -> Result<bool, Violation> {
        match act {
            Act::CrashOne => self.crash_some(1),
            Act::CrashMajority => {
                let most = self.stores.len() as u64;
                let count = self.hub.dice.between(most / 2 + 1, most);
                self.crash_some(count as usize)
            }
            Act::CrashAll => self.crash_some(self.stores.len()),
            Act::RestartStorm => self.storm(),
            Act::PowerCut => self.cut_power(),
            Act::LoseDisk => self.end_disk(DiskEnd::Lost),
            Act::DamageDisk => self.end_disk(DiskEnd::Damaged),
            _ => Ok(self.act_quietly(act)),
        }
    }

    /// Acts at which nothing is checked yet.
    fn act_quietly(&mut self, act: Act) -> bool {
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
            Act::CrashPd => {
                let down = self.fault_time();
                self.pd.crash(&mut self.hub, down)
            }
            Act::Transfer | Act::Split | Act::MovePeer | Act::RemovePeer | Act::RemoveHeir => {
                self.ask_operator(act)
            }
            Act::TransferAway => self.transfer_away(false),
            Act::TransferWatched => self.transfer_away(true),
            Act::Ambush => self.lay_ambush(),
            Act::Duel => self.begin_duel(),
            Act::Stupor => self.stupefy(),
            Act::Outrun => self.outrun(),
            Act::Drain => self.drain(),
            Act::Strike => {
                self.hub.strikes = self.hub.dice.between(1, STRIKES_MAX);
                true
            }
            Act::CrashOne
            | Act::CrashMajority
            | Act::CrashAll
            | Act::RestartStorm
            | Act::PowerCut
            | Act::LoseDisk
            | Act::DamageDisk => unreachable!("{act:?} is carried out where it is checked"),
        }
    }

    /// Mends what an act has cut. Healing did so already: what is cut after that is not to be
    /// mended by an act's end.
    fn mend(&mut self, links: &[Link]) {
        if !self.nemesis.is_over {
            self.hub.net.mend(links);
        }
    }

    fn fault_time(&mut self) -> Micros {
        self.hub.dice.between(50 * MS, self.hub.scenario.fault_max)
    }

    /// True if a fault of a machine is to befall the placement driver's.
    fn meets_pd(&mut self) -> bool {
        self.pd.is_up() && self.hub.dice.chance(PD_SHARE)
    }

    fn any_store(&mut self) -> Option<StoreId> {
        let ids: Vec<StoreId> = self.stores.keys().copied().collect();
        self.hub.dice.pick(&ids).copied()
    }

    /// Any store, or rather one that leads some region.
    fn victim(&mut self) -> Option<StoreId> {
        let leads = |store: &SimStore| {
            let process = store.process.as_ref()?;
            let mut peers = process.worker.regions().filter_map(|r| process.worker.peer(r.id));
            peers.any(|peer| peer.is_leader()).then_some(store.id)
        };
        let leaders: Vec<StoreId> = self.stores.values().filter_map(leads).collect();
        match self.hub.dice.chance(700) {
            true => self.hub.dice.pick(&leaders).copied(),
            false => self.any_store(),
        }
    }

    /// A fault ends.
    pub(crate) fn relieve(&mut self, relief: Relief) -> Verdict {
        match relief {
            Relief::Links(links) => self.mend(&links),
            Relief::CutOff(links) => {
                if !self.nemesis.is_over {
                    self.hub.net.cut(&links);
                }
            }
            Relief::Undrain(store) => self.set_state(store, proto::StoreState::Up),
            Relief::Disks => self.hub.stall_max = 0,
            Relief::Crash(store) => {
                if !self.nemesis.is_over {
                    let loss = self.loss();
                    return self.crash_store(store, loss, 50 * MS);
                }
            }
            Relief::PdRoom => self.pd.set_full(false),
            Relief::Room(store) => self.free_disk(store),
            Relief::Replacement => return self.replace_store(),
            Relief::Ambush(ambush) => return self.spring(ambush),
            Relief::Stupor { region, leader, until, stage } => {
                self.go_on_with_stupor((region, leader), until, stage);
            }
            Relief::NoAmbush(links) => {
                self.hub.ambush = None;
                self.mend(&links);
            }
            Relief::Duel { region, leader } => self.part(region, leader),
            Relief::Forget { but } => self.forget(but),
            Relief::Outrun { store, links } => self.come_back(store, &links),
        }
        Ok(())
    }

    /// Retires: everything that is broken is mended, every process starts.
    pub(crate) fn heal(&mut self) -> Verdict {
        self.hub.say(|| "healed".into());
        self.nemesis.is_over = true;
        self.hub.net.heal();
        self.hub.stall_max = 0;
        self.pd.mend();
        if !self.pd.is_up() {
            self.pd.start(&mut self.hub)?;
        }
        let ids: Vec<StoreId> = self.stores.keys().copied().collect();
        for id in ids {
            let Some(store) = self.stores.get_mut(&id).filter(|store| store.end.is_none()) else {
                continue;
            };
            store.disk.mend();
            if !store.is_up() {
                store.start(&mut self.hub, None)?;
            } else if let Some(process) = &mut store.process {
                process.resume(&mut self.hub);
            }
            self.set_state(id, proto::StoreState::Up);
        }
        Ok(())
    }
}
