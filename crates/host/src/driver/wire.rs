//! Envelopes and addresses on the wire.
//!
//! Sending and receiving tasks convert, so a core's thread does not. What a message carries is
//! moved, not copied. On the wire a store's role is 0 and costs no bytes.
//!
//! Invariant: a decoded envelope has a body, its region has the id that the envelope names, and its
//! addresses are of a known role.

use flotilla_types::proto::{self, Role, envelope::Body as WireBody};
use flotilla_types::{Region, RegionId, StoreId};

use crate::core::message::{Address, Beat, Body, End, Envelope, Introduction};

/// The address that `role` and `id` name; None for a role that is not known.
pub fn decode_address(role: i32, id: u64) -> Option<Address> {
    Some(match Role::try_from(role).ok()? {
        Role::Store => Address::Store(StoreId(id)),
        Role::Pd => Address::Pd(id),
    })
}

/// The role and the id of an address.
pub fn encode_address(address: Address) -> (i32, u64) {
    match address {
        Address::Store(store) => (Role::Store.into(), store.0),
        Address::Pd(id) => (Role::Pd.into(), id),
    }
}

/// An envelope for the wire.
pub fn encode_envelope(envelope: Envelope) -> proto::Envelope {
    let Envelope { region_id, conf_ver, region, from, to, body } = envelope;
    let (role, to_store) = encode_address(to.address);
    let (_, from_store) = encode_address(from.address);
    let body = match body {
        Body::Message(message) => WireBody::Message(message),
        Body::Removed => WireBody::Removed(proto::PeerRemoved {}),
        Body::Quiesce { term, index } => WireBody::Quiesce(proto::Quiesce { term, index }),
        Body::Beat(Beat { incarnation, is_answer }) => {
            WireBody::Beat(proto::StoreBeat { incarnation, is_answer })
        }
        Body::Introduction(Introduction { directory, yours, is_new }) => {
            WireBody::Introduction(proto::Introduction { directory, yours, is_new })
        }
    };
    proto::Envelope {
        region_id: region_id.0,
        conf_ver,
        from_peer: from.member,
        from_store,
        to_peer: to.member,
        to_store,
        region: region.map(|region| Box::new((*region).into())),
        role,
        body: Some(body),
    }
}

/// An envelope from the wire; None for one that contradicts itself or lacks what it must carry.
pub fn decode_envelope(envelope: proto::Envelope) -> Option<Envelope> {
    let region = envelope.region.map(|region| Region::try_from(*region)).transpose().ok()?;
    if region.as_ref().is_some_and(|region| region.id.0 != envelope.region_id) {
        return None;
    }
    let end = |id, member| Some(End { address: decode_address(envelope.role, id)?, member });
    let body = match envelope.body? {
        WireBody::Message(message) => Body::Message(message),
        WireBody::Removed(proto::PeerRemoved {}) => Body::Removed,
        WireBody::Quiesce(proto::Quiesce { term, index }) => Body::Quiesce { term, index },
        WireBody::Beat(proto::StoreBeat { incarnation, is_answer }) => {
            Body::Beat(Beat { incarnation, is_answer })
        }
        WireBody::Introduction(proto::Introduction { directory, yours, is_new }) => {
            Body::Introduction(Introduction { directory, yours, is_new })
        }
    };
    Some(Envelope {
        region_id: RegionId(envelope.region_id),
        conf_ver: envelope.conf_ver,
        region: region.map(Box::new),
        from: end(envelope.from_store, envelope.from_peer)?,
        to: end(envelope.to_store, envelope.to_peer)?,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_group::{MessageKind, RaftMessage};
    use flotilla_types::{Epoch, KeyRange, Member, PeerId};

    fn region() -> Region {
        let members =
            vec![Member::voter(PeerId(11), StoreId(1)), Member::learner(PeerId(12), StoreId(2))];
        let range = KeyRange { start: "a".into(), end: "m".into() };
        Region { id: RegionId(7), range, epoch: Epoch { conf_ver: 3, version: 4 }, members }
    }

    /// From member 11 to member 12, with the whole region.
    fn envelope(of: fn(u64) -> Address, body: Body) -> Envelope {
        let end = |id, member| End { address: of(id), member };
        Envelope {
            region_id: RegionId(7),
            conf_ver: 3,
            region: Some(Box::new(region())),
            from: end(1, 11),
            to: end(2, 12),
            body,
        }
    }

    fn store(id: u64) -> Address {
        Address::Store(StoreId(id))
    }

    fn removed() -> proto::Envelope {
        encode_envelope(envelope(store, Body::Removed))
    }

    #[test]
    fn an_address_is_the_same_after_the_wire_and_ids_of_two_roles_are_apart() {
        for address in [store(3), Address::Pd(3)] {
            let (role, id) = encode_address(address);
            assert_eq!(decode_address(role, id), Some(address));
        }
        assert_ne!(store(3), Address::Pd(3));
        assert_eq!(encode_address(store(3)), (0, 3), "the role is left out on the wire");
        assert_eq!(decode_address(9, 3), None);
    }

    #[test]
    fn an_envelope_with_any_body_is_the_same_after_the_wire() {
        let kind = MessageKind::MsgAppend.into();
        let entries = vec![proto::Entry { index: 6, data: "six".into(), ..Default::default() }];
        let message = RaftMessage { kind, term: 5, entries, ..RaftMessage::default() };
        let bodies = [
            Body::Message(Box::new(message)),
            Body::Removed,
            Body::Quiesce { term: 5, index: 6 },
            Body::Beat(Beat { incarnation: 9, is_answer: true }),
            Body::Introduction(Introduction { directory: 5, yours: 6, is_new: true }),
        ];
        for body in bodies {
            for of in [store as fn(u64) -> Address, Address::Pd] {
                let whole = envelope(of, body.clone());
                assert_eq!(decode_envelope(encode_envelope(whole.clone())), Some(whole.clone()));
                let named = Envelope { region: None, ..whole };
                assert_eq!(decode_envelope(encode_envelope(named.clone())), Some(named));
            }
        }
    }

    #[test]
    fn sender_and_receiver_have_their_own_fields_on_the_wire() {
        let proto::Envelope { from_store, from_peer, to_store, to_peer, .. } = removed();
        assert_eq!((from_store, from_peer, to_store, to_peer), (1, 11, 2, 12));
    }

    #[test]
    fn an_envelope_that_contradicts_itself_or_lacks_a_part_is_refused() {
        assert!(decode_envelope(removed()).is_some());
        let other_region = proto::Envelope { region_id: 8, ..removed() };
        assert_eq!(decode_envelope(other_region), None);
        let unreadable = proto::Region { id: 7, ..proto::Region::default() };
        let unreadable = proto::Envelope { region: Some(Box::new(unreadable)), ..removed() };
        assert_eq!(decode_envelope(unreadable), None);
        assert_eq!(decode_envelope(proto::Envelope { role: 9, ..removed() }), None);
        assert_eq!(decode_envelope(proto::Envelope { body: None, ..removed() }), None);
    }
}
