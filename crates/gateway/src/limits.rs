//! Every bound of the gateway that is not one of a row ([`flotilla_types::limits`]).

use std::time::Duration;

/// Connections that are served at a time, idle ones included: about as many as a process of 1,024
/// descriptors has places for callers ([`flotilla_net::accept`]). For more, idle ones are closed;
/// where none is idle, one waits accepted and the rest in the listener's queue.
pub(crate) const CONNECTIONS_MAX: usize = 768;

/// How long a connection may take to send a request's head, and how long it may be idle before the
/// next. Longer than load balancers keep an idle connection for themselves would only hold
/// descriptors.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a client may take nothing of what is sent to it, before its connection is closed.
pub(crate) const SEND_SILENCE_MAX: Duration = Duration::from_secs(20);

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

/// Bytes of rows gathered before they are sent: enough that a chunk's framing costs nothing.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// Scans, dumps and loads at a time. Each holds a chunk of a store of about
/// [`flotilla_types::limits::CHUNK_BYTES_MAX`], or some batches of rows.
pub(crate) const STREAMS_MAX: usize = 64;

/// How long a chunk of rows waits for its share of the budget, which slow readers of others hold.
pub(crate) const BUDGET_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the body of a load may be silent.
pub(crate) const LOAD_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Batches of one load that are written at a time.
pub(crate) const LOAD_BATCHES_MAX: usize = 4;

/// How long one batch of a load is tried: long enough for a store that restarts.
pub(crate) const LOAD_BATCH_TIME_MAX: Duration = Duration::from_secs(60);

/// Regions in one page of the range map, unless fewer are asked for.
pub(crate) const REGIONS_PAGE_MAX: u64 = 1_000;

/// How long the placement driver may take to answer whether the cluster is ready; load balancers
/// wait a second or two for that.
pub(crate) const READY_TIME_MAX: Duration = Duration::from_millis(800);

/// Listeners to the cluster's changes at a time: each holds a connection of [`CONNECTIONS_MAX`].
pub(crate) const LISTENERS_MAX: usize = 64;

/// Messages that a listener may fall behind: some seconds. With a range map that changes as a whole
/// each holds up to 6 MB, once for all listeners.
pub(crate) const MESSAGES_MAX: usize = 8;

/// The pause between two looks at the cluster for those who listen: changes are to be seen within
/// two seconds, of which a heartbeat takes one.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_millis(400);

/// The longest pause, for clusters whose look takes long.
pub(crate) const LOOK_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long a look may take before the listeners are told that the placement driver is silent.
pub(crate) const LOOK_TIME_MAX: Duration = Duration::from_millis(1_500);

/// Regions that are looked at; a page draws no more.
pub(crate) const REGIONS_SHOWN_MAX: usize = 20_000;

/// Events that a new listener gets to see.
pub(crate) const EVENTS_KEPT_MAX: usize = 200;

/// Regions that an event names.
pub(crate) const EVENT_REGIONS_MAX: usize = 16;
