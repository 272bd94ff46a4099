//! Messages of other stores: which peer they are for, whether to create one, and who was removed.
//!
//! A message for a region that this store has no peer of may create one, without state, that waits
//! for a snapshot. Not while a local region covers any of its range: then either the new region
//! comes out of a split that is not applied here yet (a vote is kept for it), or the local peer
//! is stale and will learn of its removal first. Not either if the incarnation was removed
//! ([`super::tombstones`]).
//!
//! A peer learns of its removal from its own log, from the leader that removed it or a member that
//! it writes to ([`Body::Removed`]), or from the placement driver.
//!
//! Not here: beats and the messages of quiescence ([`super::quiesce`]).

use std::collections::BTreeMap;

use flotilla_group::{MessageKind, Position, RaftMessage, StepError};
use flotilla_host::core::message::{Body, Envelope};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{PeerId, Region, RegionId};

use super::context::Context;
use super::envelope::{self, Header, creates_peer};
use super::incarnation::{self, may_create};
use super::install;
use super::lifecycle::Lifecycle;
use super::peer::{Peer, PeerOpening};
use super::quiesce;
use super::size::Size;
use super::{Event, Fatal, StagedId};

/// Peers on one store. Each costs memory and ticks; the placement driver never plans so many.
const PEERS_MAX: usize = 100_000;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The peer's group took it. A snapshot's rows are the peer's from now on.
    Stepped,
    /// It was acted on, and is no message for a group.
    Handled,
    /// It is for another store, another incarnation, or for nobody that may live here.
    NotForUs,
    /// What it says is outdated, or nothing new.
    Stale,
    /// It cannot be taken now, as if it had been lost; the sender tries again.
    Refused,
}

/// Requests for votes that came for regions before the split that creates them was applied here.
pub struct KeptVotes {
    max: usize,
    by_region: BTreeMap<RegionId, Envelope>,
}

impl KeptVotes {
    /// No votes; at most `max` will be kept.
    pub fn new(max: usize) -> KeptVotes {
        KeptVotes { max, by_region: BTreeMap::new() }
    }

    /// How many votes are kept.
    pub fn count(&self) -> usize {
        self.by_region.len()
    }

    fn keep(&mut self, theirs: &Region, header: &Header, message: &RaftMessage) {
        if !matches!(message.kind(), MessageKind::MsgRequestVote | MessageKind::MsgRequestPreVote) {
            return;
        }
        let body = Body::Message(Box::new(message.clone()));
        let vote = envelope::with_region(theirs, header.from, header.to, body);
        self.by_region.insert(theirs.id, vote);
        if planted(Mutant::KeptVotesUnbounded) {
            return;
        }
        if self.by_region.len() > self.max {
            // The oldest region is the likeliest never to be created here.
            self.by_region.pop_first();
        }
    }
}

/// Takes a message for a group; `staged` if it came with a snapshot's rows.
pub fn deliver(
    cx: &mut Context,
    votes: &mut KeptVotes,
    (header, message): (&Header, RaftMessage),
    staged: Option<StagedId>,
) -> Result<Taken, Fatal> {
    let is_snapshot = message.kind() == MessageKind::MsgSnapshot;
    if is_snapshot != staged.is_some() {
        return Ok(Taken::NotForUs);
    }
    if let Some(refused) = find_or_create(cx, votes, header, &message)? {
        return Ok(refused);
    }
    let has_data = message.entries.iter().any(|entry| !entry.data.is_empty());
    if has_data && cx.held_back.is_full(&cx.shared.pressure) {
        // The leader sends it again, when there may be room.
        cx.turn.out.push(Event::EntriesRefused { region: header.region_id }.into());
        return Ok(Taken::Refused);
    }
    let Some(staged) = staged else { return step_peer(cx, header, message, None) };
    let region = header.region_id;
    let Some(range) = install::installable(&cx.regions, region, &message) else {
        return Ok(Taken::Refused);
    };
    let taken = step_peer(cx, header, message, Some(staged))?;
    if taken == Taken::Stepped {
        // Claimed at once: another snapshot of this turn may want a part of it.
        cx.regions.claim(region, range);
    }
    Ok(taken)
}

fn step_peer(
    cx: &mut Context,
    header: &Header,
    message: RaftMessage,
    staged: Option<StagedId>,
) -> Result<Taken, Fatal> {
    let region = header.region_id;
    let now = cx.shared.now;
    let peer = cx.regions.get_mut(region).expect("found or created");
    if is_from_removed(peer, header) {
        let ours = peer.member(cx.shared.store());
        let reply = envelope::removed(&peer.region, ours, header.from);
        cx.turn.send(header.from.store_id, reply);
        return Ok(Taken::Stale);
    }
    if peer.lifecycle.staged().is_some() && staged.is_some() {
        return Ok(Taken::Refused);
    }
    if peer.is_expected_answer(&message) {
        return Ok(Taken::Stale);
    }
    peer.note_message(header.from, now);
    let peer = match peer.is_quiescent() {
        true => {
            quiesce::activate(cx, region, Some(header.from.id));
            cx.regions.get_mut(region).expect("found or created")
        }
        false => peer,
    };
    let stepped = peer.group.step(now, message);
    if let (Ok(()), Some(staged)) = (&stepped, staged) {
        peer.lifecycle.offer(staged);
    }
    if peer.has_work() {
        cx.regions.mark_dirty(region);
    }
    match stepped {
        Ok(()) => Ok(Taken::Stepped),
        Err(StepError::Ignored) => Ok(Taken::Stale),
        Err(lost @ StepError::LostLog { .. }) => {
            Err(Fatal::LostLog { region, reason: lost.to_string() })
        }
    }
}

/// True if the sender is no member, and knows no configuration in which it might be.
fn is_from_removed(peer: &Peer, header: &Header) -> bool {
    peer.has_state()
        && peer.region.member(header.from.id).is_none()
        && header.conf_ver < peer.region.epoch.conf_ver
}

/// Makes sure that the very incarnation that the message is for lives here. Answers what becomes of
/// the message if that incarnation does not, and must not.
fn find_or_create(
    cx: &mut Context,
    votes: &mut KeptVotes,
    header: &Header,
    message: &RaftMessage,
) -> Result<Option<Taken>, Fatal> {
    let region = header.region_id;
    match cx.regions.get(region).map(|peer| (peer.id, peer.region.epoch)) {
        Some((id, _)) if id == header.to.id => return Ok(None),
        Some((id, _)) if id > header.to.id => return Ok(Some(Taken::Stale)),
        Some((_, epoch)) => {
            // The sender knows a later incarnation here, so the present one was removed meanwhile.
            if header.conf_ver > epoch.conf_ver {
                incarnation::destroy(cx, region)?;
            }
            return Ok(Some(Taken::Refused));
        }
        None => {}
    }
    let Some(theirs) = &header.region else { return Ok(Some(Taken::NotForUs)) };
    let is_member = theirs.member(header.to.id).is_some();
    if is_member {
        cx.tombstones.note_addressed(cx.shared.now, region, header.to.id);
    }
    if !creates_peer(message.kind()) || !is_member || !may_create(cx, region, header.to.id)? {
        return Ok(Some(Taken::NotForUs));
    }
    if cx.regions.is_occupied(region, &theirs.range) {
        activate_occupants(cx, theirs);
        votes.keep(theirs, header, message);
        return Ok(Some(Taken::Refused));
    }
    if cx.regions.len() >= PEERS_MAX {
        return Ok(Some(Taken::Refused));
    }
    create_empty(cx, theirs, header.to.id)
}

fn create_empty(cx: &mut Context, theirs: &Region, peer: PeerId) -> Result<Option<Taken>, Fatal> {
    let region = theirs.id;
    let log = cx.shared.log.clone();
    if flotilla_group::peer_with_state(&*log, region.0)? == Some(peer.0) {
        // A crash took the state of a peer that a split created, and the left region has moved on
        // without it. The log remembers the peer. No member counts on the entries in that log, for
        // the peer deferred their acknowledgement, but its votes from before the split may count.
        // So the entries are forgotten, the vote is kept, and the next message creates the peer
        // empty.
        cx.turn.log.write_synced(flotilla_group::forget_entries(&*log, region.0)?);
        return Ok(Some(Taken::Refused));
    }
    let is_restart = log.state(region.0)?.is_some();
    let opening = PeerOpening {
        id: peer,
        region: Region { id: region, ..Region::default() },
        applied: Position::default(),
        is_restart,
        size: Size::default(),
        lifecycle: Lifecycle::empty(theirs.epoch),
    };
    incarnation::open(cx, opening)?;
    cx.turn.out.push(Event::PeerCreated { region, peer }.into());
    Ok(None)
}

/// Makes the peers active that hold a part of a region that cannot be created here: one of them may
/// have been removed without having learned of it.
fn activate_occupants(cx: &mut Context, theirs: &Region) {
    let occupants = cx.regions.range_map().overlapping(&theirs.range).map(|other| other.id);
    for other in occupants.filter(|other| *other != theirs.id).collect::<Vec<_>>() {
        quiesce::activate(cx, other, None);
    }
}

/// The region has just been created by a split: its peer gets the vote that was kept for it.
pub fn hand_over_vote(
    cx: &mut Context,
    votes: &mut KeptVotes,
    region: RegionId,
) -> Result<(), Fatal> {
    let Some(kept) = votes.by_region.remove(&region) else { return Ok(()) };
    if let Some((header, Body::Message(message))) = envelope::open(kept) {
        deliver(cx, votes, (&header, *message), None)?;
    }
    Ok(())
}

/// A member says that this store's peer was removed. That is true only if the member knows a later
/// configuration.
pub fn on_removed(cx: &mut Context, header: &Header) -> Result<Taken, Fatal> {
    let Some(current) = &header.region else { return Ok(Taken::NotForUs) };
    let Some(peer) = cx.regions.get(current.id) else { return Ok(Taken::NotForUs) };
    let is_later = current.epoch.conf_ver > peer.known_epoch().conf_ver;
    if peer.id != header.to.id || !is_later || current.member(peer.id).is_some() {
        return Ok(Taken::Stale);
    }
    incarnation::destroy(cx, current.id)?;
    Ok(Taken::Handled)
}
