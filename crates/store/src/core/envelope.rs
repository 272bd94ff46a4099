//! Envelopes: what stores put around each message, so that the receiver knows what it is for.
//!
//! Every envelope names the region, its `conf_ver`, and the sending and receiving member. The whole
//! region is added only where the receiver may have to create the peer.

use flotilla_group::{MessageKind as Kind, RaftMessage};
use flotilla_host::core::message::{Address, Body, End, Envelope};
use flotilla_types::{Member, PeerId, Region, RegionId, StoreId};

use super::peer::Peer;
use super::shared::Shared;

/// Where a message comes from and where it belongs.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The region.
    pub region_id: RegionId,
    /// The region's configuration version, as the sender knows it.
    pub conf_ver: u64,
    /// The region; left out by senders that know that the peer is there.
    pub region: Option<Box<Region>>,
    /// The sender. Its role is not told.
    pub from: Member,
    /// The receiver. Its role is not told.
    pub to: Member,
}

/// Takes an envelope apart. None for a message that is not from a store to a store, or tells of
/// another region than it names.
pub fn open(envelope: Envelope) -> Option<(Header, Body)> {
    let Envelope { region_id, conf_ver, region, from, to, body } = envelope;
    if region.as_ref().is_some_and(|region| region.id != region_id) {
        return None;
    }
    let header = Header { region_id, conf_ver, region, from: member(from)?, to: member(to)? };
    Some((header, body))
}

fn member(end: End) -> Option<Member> {
    match end.address {
        Address::Store(store) => Some(Member::learner(PeerId(end.member), store)),
        Address::Pd(_) => None,
    }
}

/// A peer as sender or receiver.
pub fn end(store: StoreId, peer: PeerId) -> End {
    End { address: Address::Store(store), member: peer.0 }
}

/// An envelope that only names the region.
pub fn with_region_id(region: &Region, from: Member, to: Member, body: Body) -> Envelope {
    Envelope {
        region_id: region.id,
        conf_ver: region.epoch.conf_ver,
        region: None,
        from: end(from.store_id, from.id),
        to: end(to.store_id, to.id),
        body,
    }
}

/// An envelope that carries all of the region.
pub fn with_region(region: &Region, from: Member, to: Member, body: Body) -> Envelope {
    let whole = Some(Box::new(region.clone()));
    Envelope { region: whole, ..with_region_id(region, from, to, body) }
}

/// Tells a peer that is a member no more so, as of the region's present epoch.
pub fn removed(current: &Region, from: Member, to: Member) -> Envelope {
    with_region(current, from, to, Body::Removed)
}

/// Puts a peer's message into its envelope. None if the receiver's store is not known.
pub fn wrap(peer: &Peer, shared: &Shared, message: RaftMessage) -> Option<(StoreId, Envelope)> {
    let to = peer.recipient(PeerId(message.to))?;
    let write = if is_known_to(peer, shared, &message) { with_region_id } else { with_region };
    let body = Body::Message(Box::new(message));
    // Envelopes tell no roles, so this peer's is not looked up.
    let from = Member::learner(peer.id, shared.store());
    Some((to.store_id, write(&peer.region, from, to, body)))
}

/// True if the receiver of a message need not be told of the region. Range and members matter only
/// to a store that may have to create the peer: not for an answer, nor for entries to a peer that
/// has ever written, nor for a heartbeat to a peer that wrote within an election timeout. If the
/// peer no longer exists, it stops answering; after an election timeout, a heartbeat with the whole
/// region creates it again.
fn is_known_to(peer: &Peer, shared: &Shared, message: &RaftMessage) -> bool {
    let last_message_at = peer.contacts.last_message_at(PeerId(message.to));
    match message.kind() {
        Kind::MsgAppendResponse | Kind::MsgHeartbeatResponse => true,
        Kind::MsgRequestVoteResponse | Kind::MsgRequestPreVoteResponse => true,
        Kind::MsgAppend => last_message_at.is_some(),
        Kind::MsgHeartbeat => last_message_at
            .is_some_and(|at| shared.now.since(at) < shared.config.timing.election_ms()),
        Kind::MsgRequestVote | Kind::MsgRequestPreVote | Kind::MsgSnapshot => false,
        // Sent seldom, or only within a group.
        Kind::MsgHup
        | Kind::MsgBeat
        | Kind::MsgPropose
        | Kind::MsgUnreachable
        | Kind::MsgSnapStatus
        | Kind::MsgCheckQuorum
        | Kind::MsgTransferLeader
        | Kind::MsgTimeoutNow
        | Kind::MsgReadIndex
        | Kind::MsgReadIndexResp => false,
    }
}

/// True for a message at which a store creates the peer that it is for, if it may.
pub fn creates_peer(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::MsgHeartbeat
            | Kind::MsgAppend
            | Kind::MsgSnapshot
            | Kind::MsgRequestVote
            | Kind::MsgRequestPreVote
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{Epoch, KeyRange};

    #[test]
    fn a_message_of_another_region_than_it_names_or_of_a_placement_driver_is_refused() {
        let members =
            vec![Member::voter(PeerId(1), StoreId(1)), Member::voter(PeerId(2), StoreId(2))];
        let (from, to) = (members[0], members[1]);
        let range = KeyRange::all();
        let region = Region { id: RegionId(7), range, epoch: Epoch::FIRST, members };
        let envelope = removed(&region, from, to);
        assert!(open(envelope.clone()).is_some());
        assert!(open(Envelope { region_id: RegionId(8), ..envelope.clone() }).is_none());
        let from = End { address: Address::Pd(1), ..envelope.from };
        assert!(open(Envelope { from, ..envelope }).is_none());
    }
}
