//! Links between a cluster's processes, and a client's: cut and healed while they run.

use flotilla_proxy::{Mesh, Rules};
use tokio::runtime::{Builder, Runtime};

/// The name of the client, which listens nowhere.
pub const CLIENT: &str = "client";

/// A link for each ordered pair, carried on threads of its own.
pub struct Links {
    mesh: Mesh,
    _runtime: Runtime,
}

impl Links {
    /// Links between these servers (names with addresses), and from the client to each.
    pub fn open(servers: &[(String, String)]) -> Links {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let names = servers.iter().map(|(name, _)| name.clone());
        let callers: Vec<String> = names.chain([CLIENT.to_string()]).collect();
        let mesh = runtime.block_on(Mesh::open(&callers, servers)).expect("ports for the links");
        Links { mesh, _runtime: runtime }
    }

    /// See [`Mesh::dials`].
    pub fn dials(&self, name: &str) -> Vec<(String, String)> {
        self.mesh.dials(name)
    }

    /// See [`Mesh::dial_args`].
    pub fn dial_args(&self, name: &str) -> Vec<String> {
        self.mesh.dial_args(name)
    }

    /// Cuts the process of this name off from all others: what is sent waits.
    pub fn cut_off(&self, name: &str) {
        self.mesh.around(name, Rules::cut());
    }

    /// All links carry everything again.
    pub fn heal(&self) {
        self.mesh.heal();
    }
}
