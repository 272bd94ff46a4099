//! Handing leaderships on: a store that is about to stop lets others lead before it does, so that
//! nobody waits for an election.
//!
//! 1. The driver steps [`super::Input::HandOver`]. At once, and then with each tick, every region
//!    that is led from here is transferred to its *successor*: the voter that is furthest on, of
//!    those that were heard lately. At most `TRANSFERS_MAX` transfers are under way; one that
//!    comes to nothing is begun anew.
//! 2. While a region is transferred it refuses writes as busy, for some milliseconds. Afterwards
//!    this store's peer names the next leader.
//! 3. Nothing is left to hand on: regions that are still led from here have no successor. New
//!    requests for those are refused as busy from now on; those under way are finished.
//! 4. No caller waits any more: [`super::Output::HandedOver`], once. The driver stops the store, or
//!    does so earlier, when its patience ends.
//!
//! From step 1 on the store stays a follower like any other: it votes, acknowledges entries and
//! applies them. If it is elected again, the region is transferred again.
//!
//! Not here: what becomes durable at the stop ([`super::checkpoint`]), and what the placement
//! driver is told ([`super::report`]).

use flotilla_group::FollowerProgress;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{MemberRole, Millis, PeerId, RegionError, RegionId};

use super::Output;
use super::context::Context;
use super::peer::Peer;
use super::quiesce;

/// Transfers under way at once: each makes its target write its vote, and so do its voters.
const TRANSFERS_MAX: usize = 256;

/// A voter that has not written for this long may have failed, and is no successor.
const RECENT_MS: u64 = 1_000;

/// When to ask again where step 3 refuses: another store may lead by then.
const RETRY_AFTER_MS: u64 = 50;

/// How far the store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The store is not about to stop.
    #[default]
    Leads,
    /// Regions are handed on (steps 1 and 2).
    HandsOn,
    /// Requests are finished (step 3).
    Finishes,
    /// The driver was told (step 4).
    Done,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct HandOver {
    stage: Stage,
    /// The last region that was transferred. The next look begins after it, so that regions whose
    /// transfers fail do not keep others from theirs.
    last: RegionId,
}

impl HandOver {
    /// Step 1: the store is about to stop.
    pub fn begin(&mut self, cx: &mut Context) {
        if self.stage == Stage::Leads {
            self.stage = Stage::HandsOn;
            self.transfer_led(cx);
        }
    }

    /// With each tick: goes on.
    pub fn tick(&mut self, cx: &mut Context) {
        if self.stage == Stage::Leads {
            return;
        }
        let is_left = self.transfer_led(cx);
        match self.stage {
            Stage::HandsOn if !is_left => self.stage = Stage::Finishes,
            Stage::Finishes if !is_left && !has_callers(cx) => {
                self.stage = Stage::Done;
                cx.turn.out.push(Output::HandedOver);
            }
            Stage::Leads | Stage::HandsOn | Stage::Finishes | Stage::Done => {}
        }
    }

    /// Step 3: why a leader takes no request any more, if it does not.
    pub fn refusal(&self) -> Option<RegionError> {
        match self.stage {
            Stage::Leads | Stage::HandsOn => None,
            Stage::Finishes | Stage::Done => Some(RegionError::ServerBusy {
                reason: "the store is about to stop".to_string(),
                retry_after_ms: RETRY_AFTER_MS,
            }),
        }
    }

    /// Begins the transfers for which there is room. True if a region is led from here that has a
    /// successor.
    fn transfer_led(&mut self, cx: &mut Context) -> bool {
        let now = cx.shared.now;
        let mut led: Vec<(RegionId, PeerId)> =
            cx.regions.iter().filter_map(|peer| successor(peer, now)).collect();
        let is_left = !led.is_empty() && !planted(Mutant::HandOverHalf);
        let first = led.partition_point(|(region, _)| *region <= self.last);
        led.rotate_left(first);
        let is_under_way = |region: RegionId| {
            cx.regions.get(region).is_some_and(|peer| peer.group.is_transferring())
        };
        let (under_way, next): (Vec<_>, Vec<_>) =
            led.into_iter().partition(|(region, _)| is_under_way(*region));
        for (region, to) in next.into_iter().take(TRANSFERS_MAX.saturating_sub(under_way.len())) {
            self.last = region;
            transfer(cx, region, to);
        }
        is_left
    }
}

fn transfer(cx: &mut Context, region: RegionId, to: PeerId) {
    quiesce::activate(cx, region, None);
    if let Some(peer) = cx.regions.get_mut(region) {
        peer.group.transfer_leader(to.0);
        cx.regions.mark_dirty(region);
    }
}

/// The region, if this peer leads it, and the voter that is to lead it next.
fn successor(peer: &Peer, now: Millis) -> Option<(RegionId, PeerId)> {
    if !peer.is_leader() {
        return None;
    }
    let will_vote = |id: PeerId| {
        let role = peer.region.member(id).map(|member| member.role);
        matches!(role, Some(MemberRole::Voter | MemberRole::IncomingVoter))
    };
    let may_lead = |member: &FollowerProgress| {
        let id = PeerId(member.peer);
        let is_other = id != peer.id && will_vote(id);
        is_other && !member.needs_snapshot && peer.is_recently_active(id, now, RECENT_MS)
    };
    let candidates = peer.group.progress().into_iter().filter(may_lead);
    let furthest = candidates.max_by_key(|member| member.matched)?;
    Some((peer.region.id, PeerId(furthest.peer)))
}

fn has_callers(cx: &Context) -> bool {
    if planted(Mutant::HandOverOwing) {
        return false;
    }
    cx.regions.iter().any(Peer::has_callers)
}
