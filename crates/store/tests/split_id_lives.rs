//! A placement driver that was put back from an older copy may lease an id twice. A store that
//! applies a split whose right part has the id of a region that lives there with other keys leaves
//! that region as it is, and drops the rows of the right part.

mod follower;

use flotilla_group::{MessageKind, RaftMessage};
use flotilla_types::{KeyRange, RegionId, proto};
use follower::{Follower, TERM, message};
use prost::Message;

/// The leader of region 1 has committed a split at `key`, whose right part has `id`.
fn split(follower: &mut Follower, key: &'static str, id: u64) {
    let peer = follower.worker.peer(RegionId(1)).expect("has it");
    let (epoch, at) = (peer.region.epoch, peer.applied);
    let split = proto::SplitCommand {
        epoch: Some(epoch.into()),
        split_key: key.into(),
        new_region_id: id,
        new_peer_ids: (1..=3).map(|peer| id + peer).collect(),
    };
    let command = proto::Command { format: 1, kind: Some(proto::command::Kind::Split(split)) };
    let index = at.index + 1;
    let data = command.encode_to_vec().into();
    let append = RaftMessage {
        term: TERM,
        index: at.index,
        log_term: at.term,
        entries: vec![proto::Entry { term: TERM, index, data, ..proto::Entry::default() }],
        commit: index,
        ..RaftMessage::default()
    };
    follower.turn(1_000, vec![message(1, MessageKind::MsgAppend, append)]);
}

fn range(follower: &Follower, id: u64) -> KeyRange {
    follower.worker.peer(RegionId(id)).expect("it lives").region.range.clone()
}

#[test]
fn a_region_goes_on_though_a_split_gives_its_id_to_other_keys() {
    let mut follower = Follower::begin();
    split(&mut follower, "d", 100);
    let before = range(&follower, 100);
    assert_eq!(before.start, "d");
    split(&mut follower, "b", 100);
    assert_eq!(range(&follower, 1).end, "b", "the left part has let go of the rest");
    assert_eq!(range(&follower, 100), before);
}
