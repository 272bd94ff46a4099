//! Conversions between [`crate::heartbeat`] and the generated messages of [`crate::proto`].
//!
//! Into the wire always works. From the wire fails for a message without a field that it means
//! nothing without. One unreadable part does not cost a heartbeat or its reply the other parts:
//! an unreadable report is counted and left out, and an unreadable command, or one whose step this
//! version does not know, is dropped. A command comes again with the next reply, and a store that
//! cannot carry it out leaves the region as it is.

use crate::heartbeat::{
    HeartbeatId, HeartbeatReply, IdBlock, LeaderlessPeer, RegionCommand, RegionReport, Step,
    StoreAddr, StoreHeartbeat, StoreUsage, TombstonedPeer,
};
use crate::id::{PeerId, RegionId, StoreId};
use crate::load::{Load, Quantiles, StoreLoad};
use crate::proto::{self, region_command::Step as WireStep};
use crate::region::{Epoch, Member, Region};
use crate::wire::WireError;

impl From<IdBlock> for proto::IdBlock {
    fn from(block: IdBlock) -> proto::IdBlock {
        proto::IdBlock { start: block.start, count: block.count }
    }
}

impl From<proto::IdBlock> for IdBlock {
    fn from(block: proto::IdBlock) -> IdBlock {
        IdBlock { start: block.start, count: block.count }
    }
}

impl From<StoreAddr> for proto::StoreAddr {
    fn from(store: StoreAddr) -> proto::StoreAddr {
        proto::StoreAddr { store_id: store.store_id.0, addr: store.addr }
    }
}

impl From<proto::StoreAddr> for StoreAddr {
    fn from(store: proto::StoreAddr) -> StoreAddr {
        StoreAddr { store_id: StoreId(store.store_id), addr: store.addr }
    }
}

impl From<StoreHeartbeat> for proto::StoreHeartbeat {
    fn from(heartbeat: StoreHeartbeat) -> proto::StoreHeartbeat {
        proto::StoreHeartbeat {
            store_id: heartbeat.store_id.0,
            process: heartbeat.id.process,
            number: heartbeat.id.number,
            full: heartbeat.is_full,
            rest_follows: heartbeat.rest_follows,
            asked_in_term: heartbeat.asked_in_term,
            reports: heartbeat.reports.into_iter().map(Into::into).collect(),
            leaderless: heartbeat.leaderless.into_iter().map(Into::into).collect(),
            tombstoned: heartbeat.tombstoned.into_iter().map(Into::into).collect(),
            used_bytes: heartbeat.usage.used_bytes,
            capacity_bytes: heartbeat.usage.capacity_bytes,
            peer_count: heartbeat.usage.peer_count,
            load: heartbeat.usage.load.map(Into::into),
            ids_left: heartbeat.ids_left,
            highest_id: heartbeat.highest_id,
            stopping: heartbeat.is_stopping,
        }
    }
}

impl From<proto::StoreHeartbeat> for StoreHeartbeat {
    fn from(heartbeat: proto::StoreHeartbeat) -> StoreHeartbeat {
        let sent = heartbeat.reports.len();
        let reports: Vec<RegionReport> =
            heartbeat.reports.into_iter().flat_map(RegionReport::try_from).collect();
        StoreHeartbeat {
            store_id: StoreId(heartbeat.store_id),
            id: HeartbeatId { process: heartbeat.process, number: heartbeat.number },
            is_full: heartbeat.full,
            rest_follows: heartbeat.rest_follows,
            asked_in_term: heartbeat.asked_in_term,
            unreadable_reports: (sent - reports.len()) as u64,
            reports,
            leaderless: heartbeat.leaderless.into_iter().map(Into::into).collect(),
            tombstoned: heartbeat.tombstoned.into_iter().map(Into::into).collect(),
            usage: StoreUsage {
                used_bytes: heartbeat.used_bytes,
                capacity_bytes: heartbeat.capacity_bytes,
                peer_count: heartbeat.peer_count,
                load: heartbeat.load.map(Into::into),
            },
            ids_left: heartbeat.ids_left,
            highest_id: heartbeat.highest_id,
            is_stopping: heartbeat.stopping,
        }
    }
}

impl From<Load> for proto::Load {
    fn from(load: Load) -> proto::Load {
        let Load { reads, read_bytes, writes, written_bytes } = load;
        proto::Load { reads, read_bytes, writes, written_bytes }
    }
}

impl From<proto::Load> for Load {
    fn from(load: proto::Load) -> Load {
        let proto::Load { reads, read_bytes, writes, written_bytes } = load;
        Load { reads, read_bytes, writes, written_bytes }
    }
}

/// Nothing takes no bytes.
pub(crate) fn wire_load(load: Load) -> Option<proto::Load> {
    (!load.is_none()).then(|| load.into())
}

impl From<StoreLoad> for proto::StoreLoad {
    fn from(load: StoreLoad) -> proto::StoreLoad {
        proto::StoreLoad {
            total: wire_load(load.total),
            per_second: wire_load(load.per_second),
            read_p50_us: load.reads.p50_us,
            read_p99_us: load.reads.p99_us,
            write_p50_us: load.writes.p50_us,
            write_p99_us: load.writes.p99_us,
        }
    }
}

impl From<proto::StoreLoad> for StoreLoad {
    fn from(load: proto::StoreLoad) -> StoreLoad {
        StoreLoad {
            total: load.total.map(Load::from).unwrap_or_default(),
            per_second: load.per_second.map(Load::from).unwrap_or_default(),
            reads: Quantiles { p50_us: load.read_p50_us, p99_us: load.read_p99_us },
            writes: Quantiles { p50_us: load.write_p50_us, p99_us: load.write_p99_us },
        }
    }
}

impl From<RegionReport> for proto::RegionReport {
    fn from(report: RegionReport) -> proto::RegionReport {
        proto::RegionReport {
            region: Some(report.region.into()),
            leader: report.leader.map(Into::into),
            term: report.term,
            approximate_bytes: report.approximate_bytes,
            approximate_keys: report.approximate_keys,
            load: wire_load(report.load),
            lagging_peer_ids: report.lagging.into_iter().map(|peer| peer.0).collect(),
            unreachable_peer_ids: report.unreachable.into_iter().map(|peer| peer.0).collect(),
        }
    }
}

impl TryFrom<proto::RegionReport> for RegionReport {
    type Error = WireError;

    fn try_from(report: proto::RegionReport) -> Result<RegionReport, WireError> {
        let region = report.region.ok_or(WireError::Missing("report.region"))?;
        Ok(RegionReport {
            region: Region::try_from(region)?,
            leader: report.leader.map(Member::from),
            term: report.term,
            approximate_bytes: report.approximate_bytes,
            approximate_keys: report.approximate_keys,
            load: report.load.map(Load::from).unwrap_or_default(),
            lagging: report.lagging_peer_ids.into_iter().map(PeerId).collect(),
            unreachable: report.unreachable_peer_ids.into_iter().map(PeerId).collect(),
        })
    }
}

impl From<LeaderlessPeer> for proto::LeaderlessPeer {
    fn from(peer: LeaderlessPeer) -> proto::LeaderlessPeer {
        proto::LeaderlessPeer {
            region_id: peer.region_id.0,
            peer_id: peer.peer_id.0,
            epoch: Some(peer.epoch.into()),
        }
    }
}

/// An absent epoch is the default one: a peer that waits for its first snapshot has no other.
impl From<proto::LeaderlessPeer> for LeaderlessPeer {
    fn from(peer: proto::LeaderlessPeer) -> LeaderlessPeer {
        LeaderlessPeer {
            region_id: RegionId(peer.region_id),
            peer_id: PeerId(peer.peer_id),
            epoch: peer.epoch.map(Epoch::from).unwrap_or_default(),
        }
    }
}

impl From<TombstonedPeer> for proto::TombstonedPeer {
    fn from(peer: TombstonedPeer) -> proto::TombstonedPeer {
        proto::TombstonedPeer { region_id: peer.region_id.0, peer_id: peer.peer_id.0 }
    }
}

impl From<proto::TombstonedPeer> for TombstonedPeer {
    fn from(peer: proto::TombstonedPeer) -> TombstonedPeer {
        TombstonedPeer { region_id: RegionId(peer.region_id), peer_id: PeerId(peer.peer_id) }
    }
}

impl From<HeartbeatReply> for proto::HeartbeatReply {
    fn from(reply: HeartbeatReply) -> proto::HeartbeatReply {
        proto::HeartbeatReply {
            commands: reply.commands.into_iter().map(Into::into).collect(),
            ids: reply.ids.map(Into::into),
            need_full: reply.needs_full,
            next_heartbeat_ms: reply.next_heartbeat_ms,
            stores: reply.stores.into_iter().map(Into::into).collect(),
            term: reply.term,
            first_region: reply.first_region.map(Into::into),
            awaited: reply.awaited,
        }
    }
}

impl From<proto::HeartbeatReply> for HeartbeatReply {
    fn from(reply: proto::HeartbeatReply) -> HeartbeatReply {
        HeartbeatReply {
            commands: reply.commands.into_iter().flat_map(RegionCommand::try_from).collect(),
            ids: reply.ids.map(Into::into),
            needs_full: reply.need_full,
            next_heartbeat_ms: reply.next_heartbeat_ms,
            stores: reply.stores.into_iter().map(Into::into).collect(),
            term: reply.term,
            // One that cannot be read is told again.
            first_region: reply.first_region.and_then(|region| Region::try_from(region).ok()),
            awaited: reply.awaited,
        }
    }
}

impl From<RegionCommand> for proto::RegionCommand {
    fn from(command: RegionCommand) -> proto::RegionCommand {
        proto::RegionCommand {
            region_id: command.region_id.0,
            epoch: Some(command.epoch.into()),
            step: Some(command.step.into()),
        }
    }
}

impl TryFrom<proto::RegionCommand> for RegionCommand {
    type Error = WireError;

    fn try_from(command: proto::RegionCommand) -> Result<RegionCommand, WireError> {
        let epoch = command.epoch.ok_or(WireError::Missing("region_command.epoch"))?;
        let step = command.step.ok_or(WireError::Missing("region_command.step"))?;
        Ok(RegionCommand {
            region_id: RegionId(command.region_id),
            epoch: epoch.into(),
            step: step.try_into()?,
        })
    }
}

impl From<Step> for WireStep {
    fn from(step: Step) -> WireStep {
        match step {
            Step::AddLearner(member) => {
                WireStep::AddLearner(proto::AddLearnerStep { peer: Some(member.into()) })
            }
            Step::Promote(peer) => WireStep::Promote(proto::PromoteStep { peer_id: peer.0 }),
            Step::RemovePeer(peer) => {
                WireStep::RemovePeer(proto::RemovePeerStep { peer_id: peer.0 })
            }
            Step::ReplaceVoter { added, removed } => {
                let (in_peer_id, out_peer_id) = (added.0, removed.0);
                WireStep::ReplaceVoter(proto::ReplaceVoterStep { in_peer_id, out_peer_id })
            }
            Step::TransferLeader(peer) => {
                WireStep::TransferLeader(proto::TransferLeaderStep { peer_id: peer.0 })
            }
            Step::Split(split_key) => WireStep::Split(proto::SplitStep { split_key }),
            Step::DestroyPeer(peer) => {
                WireStep::DestroyPeer(proto::DestroyPeerStep { peer_id: peer.0 })
            }
        }
    }
}

impl TryFrom<WireStep> for Step {
    type Error = WireError;

    fn try_from(step: WireStep) -> Result<Step, WireError> {
        Ok(match step {
            WireStep::AddLearner(step) => {
                Step::AddLearner(step.peer.ok_or(WireError::Missing("add_learner.peer"))?.into())
            }
            WireStep::Promote(step) => Step::Promote(PeerId(step.peer_id)),
            WireStep::RemovePeer(step) => Step::RemovePeer(PeerId(step.peer_id)),
            WireStep::ReplaceVoter(step) => Step::ReplaceVoter {
                added: PeerId(step.in_peer_id),
                removed: PeerId(step.out_peer_id),
            },
            WireStep::TransferLeader(step) => Step::TransferLeader(PeerId(step.peer_id)),
            WireStep::Split(step) => Step::Split(step.split_key),
            WireStep::DestroyPeer(step) => Step::DestroyPeer(PeerId(step.peer_id)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::KeyRange;

    fn load() -> Load {
        Load { reads: 32, read_bytes: 33, writes: 34, written_bytes: 35 }
    }

    fn report() -> RegionReport {
        let leader = Member::voter(PeerId(11), StoreId(1));
        RegionReport {
            region: Region {
                id: RegionId(7),
                range: KeyRange::new("a", "b"),
                epoch: Epoch { conf_ver: 3, version: 2 },
                members: vec![leader, Member::learner(PeerId(12), StoreId(2))],
            },
            leader: Some(leader),
            term: 5,
            approximate_bytes: 6,
            approximate_keys: 8,
            load: load(),
            lagging: vec![PeerId(12)],
            unreachable: vec![PeerId(13), PeerId(14)],
        }
    }

    #[test]
    fn a_heartbeat_survives_the_round_trip() {
        let heartbeat = StoreHeartbeat {
            store_id: StoreId(1),
            id: HeartbeatId { process: 2, number: 3 },
            is_full: true,
            rest_follows: true,
            asked_in_term: 4,
            reports: vec![report()],
            leaderless: vec![LeaderlessPeer {
                region_id: RegionId(8),
                peer_id: PeerId(15),
                epoch: Epoch { conf_ver: 1, version: 9 },
            }],
            tombstoned: vec![TombstonedPeer { region_id: RegionId(9), peer_id: PeerId(16) }],
            usage: StoreUsage {
                used_bytes: 21,
                capacity_bytes: 22,
                peer_count: 23,
                load: Some(StoreLoad {
                    total: Load { reads: 26, ..load() },
                    per_second: Load { writes: 27, ..load() },
                    reads: Quantiles { p50_us: 28, p99_us: 29 },
                    writes: Quantiles { p50_us: 30, p99_us: 31 },
                }),
            },
            ids_left: 24,
            highest_id: 25,
            is_stopping: true,
            unreadable_reports: 0,
        };
        let wire = proto::StoreHeartbeat::from(heartbeat.clone());
        assert_eq!(StoreHeartbeat::from(wire), heartbeat);
    }

    #[test]
    fn every_step_of_a_reply_survives_the_round_trip() {
        let (added, removed) = (PeerId(1), PeerId(2));
        let steps = [
            Step::AddLearner(Member::learner(added, StoreId(3))),
            Step::Promote(added),
            Step::RemovePeer(removed),
            Step::ReplaceVoter { added, removed },
            Step::TransferLeader(added),
            Step::Split("k".into()),
            Step::DestroyPeer(removed),
        ];
        let (region_id, epoch) = (RegionId(7), Epoch::FIRST);
        let commands = steps.map(|step| RegionCommand { region_id, epoch, step });
        let reply = HeartbeatReply {
            commands: commands.into(),
            ids: Some(IdBlock { start: 100, count: 10 }),
            needs_full: true,
            next_heartbeat_ms: 250,
            stores: vec![StoreAddr { store_id: StoreId(3), addr: "c:1".into() }],
            term: 6,
            first_region: Some(report().region),
            awaited: "stores".into(),
        };
        let wire = proto::HeartbeatReply::from(reply.clone());
        assert_eq!(HeartbeatReply::from(wire), reply);
    }

    #[test]
    fn an_unreadable_command_costs_a_reply_only_that_command() {
        let newer = proto::RegionCommand { region_id: 7, ..Default::default() };
        let step = Some(WireStep::Promote(proto::PromoteStep { peer_id: 1 }));
        let without_epoch = proto::RegionCommand { step: step.clone(), ..newer.clone() };
        let epoch = Some(Epoch::FIRST.into());
        let good = proto::RegionCommand { region_id: 8, epoch, step };
        let commands = vec![newer, without_epoch, good];
        let reply = proto::HeartbeatReply { commands, term: 6, ..Default::default() };
        let read = HeartbeatReply::from(reply);
        let step = Step::Promote(PeerId(1));
        let kept = RegionCommand { region_id: RegionId(8), epoch: Epoch::FIRST, step };
        assert_eq!(read, HeartbeatReply { commands: vec![kept], term: 6, ..read.clone() });
    }

    #[test]
    fn an_unreadable_report_is_counted_and_costs_a_heartbeat_only_that_report() {
        let unreadable = proto::RegionReport { region: None, ..report().into() };
        let reports = vec![unreadable, report().into()];
        let heartbeat = proto::StoreHeartbeat { reports, used_bytes: 9, ..Default::default() };
        let read = StoreHeartbeat::from(heartbeat);
        assert_eq!(
            (read.reports, read.unreadable_reports, read.usage.used_bytes),
            (vec![report()], 1, 9)
        );
    }
}
