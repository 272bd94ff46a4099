//! What scripts print of regions, peers, messages and events: one line each.

use flotilla_host::core::message::{Address, Body, End, Envelope};
use flotilla_store::core::Event;
use flotilla_types::{KeyRange, Member, MemberRole, Region, StoreId};

use crate::trace;

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `s2/12`; a learner `s2/12L`, a joint change's voters `s2/12I` and `s2/12O`.
pub fn peer(peer: &Member) -> String {
    let role = match peer.role {
        MemberRole::Voter => "",
        MemberRole::Learner => "L",
        MemberRole::IncomingVoter => "I",
        MemberRole::DemotingVoter => "D",
    };
    format!("s{}/{}{role}", peer.store_id, peer.id)
}

/// `[a,m)`; an open end is empty.
pub fn range(range: &KeyRange) -> String {
    format!("[{},{})", text(&range.start), text(&range.end))
}

/// `r1 [a,m) 2.3`.
pub fn region(region: &Region) -> String {
    format!("r{} {} {}", region.id, range(&region.range), region.epoch)
}

/// The region with its members.
pub fn members(of: &Region) -> String {
    let peers: Vec<String> = of.members.iter().map(peer).collect();
    format!("{} {}", region(of), peers.join(" "))
}

/// `s1/11 -> s2/12 r1 Append ...`.
pub fn envelope(envelope: &Envelope) -> String {
    let what = match &envelope.body {
        Body::Message(message) => trace::describe(message),
        Body::Removed => "Removed".to_string(),
        Body::Quiesce { term, index } => format!("Quiesce {index}@{term}"),
        Body::Beat(_) => "Beat".to_string(),
        Body::Introduction(_) => "Introduction".to_string(),
    };
    let (from, to) = (end(envelope.from), end(envelope.to));
    format!("{from} -> {to} r{} {what}", envelope.region_id)
}

fn end(of: End) -> String {
    match of.address {
        Address::Store(store) => format!("s{store}/{}", of.member),
        Address::Pd(_) => panic!("a store shares no group with a placement driver"),
    }
}

/// True for a message that is printed only if heartbeats are.
pub fn is_heartbeat(envelope: &Envelope) -> bool {
    match &envelope.body {
        Body::Message(message) => trace::is_heartbeat(message),
        Body::Beat(_) => true,
        Body::Removed | Body::Quiesce { .. } | Body::Introduction(_) => false,
    }
}

/// What happened on a store.
pub fn event(store: StoreId, event: &Event) -> String {
    let what = match event {
        Event::BecameLeader { region, term } => format!("leads r{region} in term {term}"),
        Event::FirstRegion { region: first } => format!("begins {}", members(first)),
        Event::Split { left, right } => format!("splits {}, {}", region(left), members(right)),
        Event::MembersChanged { region } => format!("has {}", members(region)),
        Event::PeerCreated { region, peer } => format!("creates {peer} of r{region}"),
        Event::PeerDestroyed { region, peer } => format!("destroys {peer} of r{region}"),
        Event::SnapshotInstalled { region, index } => {
            format!("installs a snapshot of r{region} at {index}")
        }
        Event::EntriesHeldBack { region } => format!("holds back entries of r{region}"),
        Event::EntriesRefused { region } => format!("refuses entries of r{region}"),
    };
    format!("  s{store} {what}")
}
