//! Every bound of the gateway that is not one of a row ([`flotilla_types::limits`]).

use std::time::Duration;

/// Connections that are served at a time, idle ones included. More wait in the listener's queue.
/// Each takes a descriptor, of which a process has 1,024 unless told otherwise and a store keeps a
/// hundred for its files.
pub(crate) const CONNECTIONS_MAX: usize = 768;

/// How long a connection may take to send a request's head, and how long it may be idle before the
/// next. Longer than load balancers keep an idle connection for themselves would only hold
/// descriptors.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of a request's head: the longest key with every byte escaped takes 24 KiB.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a request's body may take: the largest value at 2 Mbit/s.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of bodies in memory at a time, of all requests: twenty of the largest values.
pub(crate) const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How long a request waits for the first connection to the cluster, which every later one finds.
pub(crate) const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// The pause before the cluster is tried again, while it does not answer.
pub(crate) const CONNECT_PAUSE: Duration = Duration::from_millis(200);

/// Attempts of one conditional write. Each that fails met another writer's value that fulfils the
/// condition, too; so many in a row mean a key that is written all the time.
pub(crate) const SWAPS_MAX: usize = 16;

/// How long a stopping gateway waits for the requests under way: the server beside it then has some
/// seconds left to stop before container runtimes kill.
pub(crate) const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// What clients are told to wait when there is too much to do.
pub(crate) const RETRY_AFTER_S: u64 = 1;
