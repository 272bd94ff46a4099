//! [`RegionError`], by which a store refuses a request.

use super::WireError;
use crate::error::RegionError;
use crate::id::{RegionId, StoreId};
use crate::proto::{self, region_error::Kind};
use crate::region::{Member, Region};

impl From<RegionError> for proto::RegionError {
    fn from(error: RegionError) -> proto::RegionError {
        let kind = match error {
            RegionError::NotLeader { region_id, leader } => Kind::NotLeader(proto::NotLeader {
                region_id: region_id.0,
                leader: leader.map(proto::Member::from),
            }),
            RegionError::EpochNotMatch { current } => Kind::EpochNotMatch(proto::EpochNotMatch {
                current: current.into_iter().map(proto::Region::from).collect(),
            }),
            RegionError::KeyNotInRegion { key, region } => {
                Kind::KeyNotInRegion(proto::KeyNotInRegion { key, region: Some((*region).into()) })
            }
            RegionError::RegionNotFound { region_id } => {
                Kind::RegionNotFound(proto::RegionNotFound { region_id: region_id.0 })
            }
            RegionError::WrongDestination { cluster_id, store_id } => {
                Kind::WrongDestination(proto::WrongDestination { cluster_id, store_id: store_id.0 })
            }
            RegionError::ServerBusy { reason, retry_after_ms } => {
                Kind::ServerBusy(proto::ServerBusy { reason, retry_after_ms })
            }
            RegionError::LimitExceeded { limit, max, actual } => {
                Kind::LimitExceeded(proto::LimitExceeded { limit, max, actual })
            }
            RegionError::Unsupported { what } => Kind::Unsupported(proto::Unsupported { what }),
            RegionError::DeadlineExceeded { region_id } => {
                Kind::DeadlineExceeded(proto::DeadlineExceeded { region_id: region_id.0 })
            }
            RegionError::Undetermined { region_id } => {
                Kind::Undetermined(proto::Undetermined { region_id: region_id.0 })
            }
        };
        proto::RegionError { kind: Some(kind) }
    }
}

impl TryFrom<proto::RegionError> for RegionError {
    type Error = WireError;

    fn try_from(error: proto::RegionError) -> Result<RegionError, WireError> {
        Ok(match error.kind.ok_or(WireError::Missing("region_error.kind"))? {
            Kind::NotLeader(e) => RegionError::NotLeader {
                region_id: RegionId(e.region_id),
                leader: e.leader.map(Member::from),
            },
            Kind::EpochNotMatch(e) => RegionError::EpochNotMatch {
                current: e.current.into_iter().map(Region::try_from).collect::<Result<_, _>>()?,
            },
            Kind::KeyNotInRegion(e) => {
                let region = e.region.ok_or(WireError::Missing("key_not_in_region.region"))?;
                let region = Box::new(region.try_into()?);
                RegionError::KeyNotInRegion { key: e.key, region }
            }
            Kind::RegionNotFound(e) => {
                RegionError::RegionNotFound { region_id: RegionId(e.region_id) }
            }
            Kind::WrongDestination(e) => RegionError::WrongDestination {
                cluster_id: e.cluster_id,
                store_id: StoreId(e.store_id),
            },
            Kind::ServerBusy(e) => {
                RegionError::ServerBusy { reason: e.reason, retry_after_ms: e.retry_after_ms }
            }
            Kind::LimitExceeded(e) => {
                RegionError::LimitExceeded { limit: e.limit, max: e.max, actual: e.actual }
            }
            Kind::Unsupported(e) => RegionError::Unsupported { what: e.what },
            Kind::DeadlineExceeded(e) => {
                RegionError::DeadlineExceeded { region_id: RegionId(e.region_id) }
            }
            Kind::Undetermined(e) => RegionError::Undetermined { region_id: RegionId(e.region_id) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PeerId;
    use crate::region::{Epoch, KeyRange, MemberRole};

    #[test]
    fn region_errors_survive_the_round_trip() {
        let peer = Member { id: PeerId(4), store_id: StoreId(2), role: MemberRole::IncomingVoter };
        let region = Region {
            id: RegionId(9),
            range: KeyRange::new("a", ""),
            epoch: Epoch { conf_ver: 3, version: 7 },
            members: vec![peer],
        };
        for error in [
            RegionError::NotLeader { region_id: RegionId(1), leader: Some(peer) },
            RegionError::NotLeader { region_id: RegionId(1), leader: None },
            RegionError::EpochNotMatch { current: vec![region.clone()] },
            RegionError::KeyNotInRegion { key: "k".into(), region: Box::new(region) },
            RegionError::RegionNotFound { region_id: RegionId(1) },
            RegionError::WrongDestination { cluster_id: 8, store_id: StoreId(3) },
            RegionError::ServerBusy { reason: "inbox".into(), retry_after_ms: 20 },
            RegionError::LimitExceeded { limit: "key bytes".into(), max: 1, actual: 2 },
            RegionError::Unsupported { what: "this kind of request".into() },
            RegionError::DeadlineExceeded { region_id: RegionId(1) },
            RegionError::Undetermined { region_id: RegionId(1) },
        ] {
            let wire = proto::RegionError::from(error.clone());
            assert_eq!(RegionError::try_from(wire), Ok(error));
        }
    }

    #[test]
    fn an_error_without_a_kind_is_refused() {
        assert!(RegionError::try_from(proto::RegionError::default()).is_err());
    }
}
