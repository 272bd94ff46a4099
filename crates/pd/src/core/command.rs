//! The payload of a log entry of PD's own group.
//!
//! A payload is a prost message that begins with a format number. A member refuses a number that it
//! does not know: if two members guessed its meaning differently, their states would diverge.

use bytes::Bytes;
use flotilla_types::{Region, StoreId, WireError, proto};
use prost::Message;

use crate::core::records::StoreRecord;

/// The only command format yet.
const FORMAT: u32 = 1;

/// A change of the replicated state. Applying it is deterministic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PdCommand {
    /// The first command of a cluster; later ones change nothing.
    Bootstrap {
        /// Names the cluster; never 0.
        cluster_id: u64,
        /// Voters that every region should have.
        replica_count: u64,
    },
    /// Creates the store when its id is 0, else replaces its record.
    PutStore(StoreRecord),
    /// Hands out a block of ids, starting at the watermark.
    TakeIds {
        /// How many.
        count: u64,
    },
    /// Raises the watermark above ids that are in use.
    RaiseIds {
        /// The highest of them.
        highest: u64,
    },
    /// Regions as their leaders reported them; those older than what is known are ignored.
    PutRegions(Vec<Region>),
    /// The cluster's first region gets a voter on each of these stores.
    CreateFirst(Vec<StoreId>),
}

impl PdCommand {
    /// The entry's payload.
    pub fn encode(&self) -> Bytes {
        use proto::pd_command::Kind;
        let kind = match self {
            PdCommand::Bootstrap { cluster_id, replica_count } => {
                Kind::Bootstrap(proto::Bootstrap {
                    cluster_id: *cluster_id,
                    replica_count: *replica_count,
                })
            }
            PdCommand::PutStore(store) => {
                Kind::PutStore(proto::PutStore { store: Some(store.to_wire()) })
            }
            PdCommand::TakeIds { count } => Kind::TakeIds(proto::TakeIds { count: *count }),
            PdCommand::RaiseIds { highest } => {
                Kind::RaiseIds(proto::RaiseIds { highest: *highest })
            }
            PdCommand::PutRegions(regions) => Kind::PutRegions(proto::PutRegions {
                regions: regions.iter().cloned().map(proto::Region::from).collect(),
            }),
            PdCommand::CreateFirst(stores) => Kind::CreateFirst(proto::CreateFirst {
                store_ids: stores.iter().map(|store| store.0).collect(),
            }),
        };
        proto::PdCommand { format: FORMAT, kind: Some(kind) }.encode_to_vec().into()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// The log is damaged or a newer version wrote it. The caller must stop: a member that skips an
    /// entry differs from the others.
    pub fn decode(payload: Bytes) -> Result<PdCommand, WireError> {
        use proto::pd_command::Kind;
        let command = proto::PdCommand::decode(payload)?;
        if command.format != FORMAT {
            return Err(WireError::Format { format: command.format });
        }
        Ok(match command.kind.ok_or(WireError::Missing("pd_command.kind"))? {
            Kind::Bootstrap(bootstrap) => PdCommand::Bootstrap {
                cluster_id: bootstrap.cluster_id,
                replica_count: bootstrap.replica_count,
            },
            Kind::PutStore(put) => {
                let store = put.store.ok_or(WireError::Missing("put_store.store"))?;
                PdCommand::PutStore(StoreRecord::from_wire(store))
            }
            Kind::TakeIds(take) => PdCommand::TakeIds { count: take.count },
            Kind::RaiseIds(raise) => PdCommand::RaiseIds { highest: raise.highest },
            Kind::PutRegions(put) => PdCommand::PutRegions(
                put.regions.into_iter().map(Region::try_from).collect::<Result<_, _>>()?,
            ),
            Kind::CreateFirst(create) => {
                PdCommand::CreateFirst(create.store_ids.into_iter().map(StoreId).collect())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::{Epoch, KeyRange, Member, PeerId, RegionId};

    use super::*;
    use crate::core::records::StoreMode;

    #[test]
    fn commands_survive_the_round_trip() {
        let labels = [("zone", "a"), ("rack", "7")];
        let store = StoreRecord {
            id: StoreId(3),
            addr: "10.0.0.1:20160".into(),
            labels: labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            mode: StoreMode::Draining,
        };
        let region = Region {
            id: RegionId(9),
            range: KeyRange::new("a", ""),
            epoch: Epoch::FIRST,
            members: vec![Member::voter(PeerId(4), StoreId(3))],
        };
        for command in [
            PdCommand::Bootstrap { cluster_id: 8, replica_count: 3 },
            PdCommand::PutStore(store),
            PdCommand::TakeIds { count: 1000 },
            PdCommand::RaiseIds { highest: 77 },
            PdCommand::PutRegions(vec![region]),
            PdCommand::CreateFirst(vec![StoreId(1), StoreId(3)]),
        ] {
            assert_eq!(PdCommand::decode(command.encode()), Ok(command));
        }
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let newer = proto::PdCommand { format: 2, kind: None }.encode_to_vec();
        assert_eq!(PdCommand::decode(newer.into()), Err(WireError::Format { format: 2 }));
        assert!(PdCommand::decode(Bytes::from_static(b"\xff\xff\xff")).is_err());
    }

    #[test]
    fn a_payload_that_lacks_a_part_is_refused() {
        use proto::pd_command::Kind;
        let decode = |kind| {
            let command = proto::PdCommand { format: FORMAT, kind };
            PdCommand::decode(command.encode_to_vec().into())
        };
        assert_eq!(decode(None), Err(WireError::Missing("pd_command.kind")));
        let put = Some(Kind::PutStore(proto::PutStore { store: None }));
        assert_eq!(decode(put), Err(WireError::Missing("put_store.store")));
        let regions = vec![proto::Region::default()];
        let put = Some(Kind::PutRegions(proto::PutRegions { regions }));
        assert!(decode(put).is_err(), "a region without an id");
    }
}
