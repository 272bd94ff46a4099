//! What the world reads in a message between stores: who asks for votes, what creates a peer, and
//! numbers that stand for the message in the trace.

use flotilla_group::MessageKind;
use flotilla_host::core::message::{Body, Envelope};
use flotilla_store::core::envelope::creates_peer;
use flotilla_types::{Region, proto};
use prost::Message;

/// Numbers that stand for a message in the trace.
pub fn numbers(envelope: &Envelope) -> [u64; 6] {
    let region = envelope.region_id.0;
    match &envelope.body {
        Body::Message(message) => [
            region,
            message.kind as u64,
            message.to,
            message.term,
            message.index,
            message.commit + ((message.entries.len() as u64) << 48),
        ],
        Body::Quiesce { term, index } => [region, 98, *term, *index, 0, 0],
        Body::Beat(beat) => [beat.incarnation, 97, 0, 0, 0, 0],
        Body::Introduction(said) => [said.directory, 96, said.yours, said.is_new.into(), 0, 0],
        Body::Removed => [region, 99, 0, 0, 0, 0],
    }
}

/// True if somebody stands for election, or asks whether to.
pub fn asks_for_vote(envelope: &Envelope) -> bool {
    let Body::Message(message) = &envelope.body else { return false };
    let kind = message.kind();
    matches!(kind, MessageKind::MsgRequestVote | MessageKind::MsgRequestPreVote)
}

/// True for a message at which a store creates the peer that it is for, if it may.
pub fn creates(envelope: &Envelope) -> bool {
    match &envelope.body {
        Body::Message(message) => creates_peer(message.kind()),
        _ => false,
    }
}

/// The region of the snapshot that the message carries.
pub fn snapshot_region(envelope: &Envelope) -> Option<Region> {
    let Body::Message(message) = &envelope.body else { return None };
    let data = message.snapshot.as_ref()?.data.clone();
    Region::try_from(proto::Region::decode(data).ok()?).ok()
}
