//! Connections between processes.
//!
//! * [`tls`]: TLS for every port; certificates that change are taken.
//! * [`principal`]: whom a certificate names. [`certs`]: makes certificates.
//! * [`access`]: which role may call what.
//! * [`accept`]: how many connections a process accepts, and whose.
//! * [`apart`]: connections that are served by threads of their own, told apart from others.
//! * [`connect`]: the one connector: addresses, scheme, time limits, keepalives, windows.
//! * `dial`: where a process connects to reach an address, if not there.
//! * `incoming`, `outgoing`: their sockets, with TLS or without; `fault`: why TLS failed, in words.
//! * [`listen`]: the one listener: binding, and how servers are set up.
//! * `limits`: what both ends of a connection go by.
//! * [`paced`]: answers in small pieces, which can be cut off while nobody reads them.
//! * [`services`]: the services of the protocol, clients and servers, with its message limits.
//! * [`pd`]: the one caller of the placement driver.
//! * [`core`]: whom the caller asks, and when, as the simulator runs it, too.
//!
//! In: addresses (`HOST:PORT`) and requests. Out: channels, servers and answers.
//!
//! Architecture invariant: nothing outside this crate opens or accepts a connection between
//! Flotilla's processes, and nothing here knows what a request means, except which of the placement
//! driver's requests may be repeated.

pub mod accept;
pub mod access;
pub mod apart;
pub mod certs;
pub mod connect;
pub mod core;
mod dial;
mod fault;
pub mod incoming;
mod limits;
pub mod listen;
mod outgoing;
pub mod paced;
pub mod pd;
pub mod principal;
pub mod services;
pub mod tls;
