//! One Raft group: consensus, log, apply order, membership, reads and snapshots.
