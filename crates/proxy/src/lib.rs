//! Links between processes that can be cut, delayed, throttled and reset while they carry, for
//! demonstrations and tests on one machine, without root.
//!
//! * [`rules`]: what a link does with connections and with bytes in either direction.
//! * `carry`: the bytes of one connection.
//! * [`link`]: [`Link`], one listening port that leads to one address.
//! * [`mesh`]: [`Mesh`], a link for each ordered pair of processes.
//! * `ports`: [`free_port`], where such processes may listen.
//!
//! A link belongs to one ordered pair: the process that connects, and the process that is connected
//! to. So the link from A to B and the link from B to A are cut one by one, and a third process
//! notices nothing. Flotilla's processes learn each other's addresses from the placement driver and
//! from each other, and all of them learn the same ones. What differs is where a process connects:
//! it is started with `--dial ADDR=VIA` for each address ([`Mesh::dials`]), and `VIA` is the port
//! of its own link there. Nothing else in a process knows of the link, so what runs is what ships.
//! (Namespaces of the network would do without the option and need root; one port in front of each
//! server could not tell who calls.)
//!
//! What a link does not do: lose, repeat or reorder packets. TCP hides these; what a process sees
//! of them is delay, a connection that carries nothing, and a connection that is reset.

mod carry;
pub mod link;
pub mod mesh;
mod ports;
pub mod rules;

pub use link::{Counts, Link};
pub use mesh::Mesh;
pub use ports::free_port;
pub use rules::{Flow, Rules, Way};
