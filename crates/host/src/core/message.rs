//! Who sends and receives the messages of Raft groups.
//!
//! A group's members live on stores, or are the members of the placement driver (PD). The two count
//! their ids apart, so an id alone names nobody: an [`Address`] does. On the wire a store's role is
//! 0 and costs no bytes.

use std::fmt;

use flotilla_types::StoreId;
use flotilla_types::proto::Role;

/// Where a member of a Raft group lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// On this store.
    Store(StoreId),
    /// In the process of the PD member with this id, which is never 0.
    Pd(u64),
}

impl Address {
    /// The address that `role` and `id` name on the wire; None for a role that is not known.
    pub fn from_wire(role: i32, id: u64) -> Option<Address> {
        Some(match Role::try_from(role).ok()? {
            Role::Store => Address::Store(StoreId(id)),
            Role::Pd => Address::Pd(id),
        })
    }

    /// The role, as it stands on the wire.
    pub fn role(self) -> i32 {
        match self {
            Address::Store(_) => Role::Store.into(),
            Address::Pd(_) => Role::Pd.into(),
        }
    }

    /// The id, as it stands on the wire.
    pub fn id(self) -> u64 {
        match self {
            Address::Store(store) => store.0,
            Address::Pd(id) => id,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Store(store) => write!(f, "store {store}"),
            Address::Pd(id) => write!(f, "placement driver {id}"),
        }
    }
}

/// Who a process is to the others of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; never 0.
    pub cluster: u64,
    /// Where others reach it.
    pub address: Address,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of cluster {}", self.address, self.cluster)
    }
}

/// Names a received snapshot whose rows are kept on disk until they are installed or discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StagedId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_after_the_wire_and_ids_of_two_roles_are_apart() {
        for address in [Address::Store(StoreId(3)), Address::Pd(3)] {
            assert_eq!(Address::from_wire(address.role(), address.id()), Some(address));
        }
        assert_ne!(Address::Store(StoreId(3)), Address::Pd(3));
        assert_eq!(Address::Store(StoreId(3)).role(), 0, "left out on the wire");
        assert_eq!(Address::from_wire(9, 3), None);
    }
}
