//! What a caller knows of the cluster: its id, its stores, and the region that cases ask for.

use flotilla_tests::command;
use flotilla_types::proto::{Epoch, RegionRef};
use serde_json::Value;

use flotilla_tests::Cluster;

/// The cluster as it was at one moment.
#[derive(Clone, Debug)]
pub struct World {
    /// The cluster's id.
    pub cluster_id: u64,
    /// Where the placement driver listens.
    pub pd: String,
    /// The store that leads the first region: its id, and where it listens.
    pub leader: (u64, String),
    /// A store that has the region, too.
    pub follower: (u64, String),
    /// The first region: the keys below [`SPLIT_KEY`].
    pub region: u64,
    /// Its epoch.
    pub epoch: (u64, u64),
    /// The region's members, each with its store.
    pub members: Vec<(u64, u64)>,
}

/// The cluster's first region ends here.
pub const SPLIT_KEY: &str = "m";

impl World {
    /// Asks the cluster, which has three stores and two regions.
    pub fn learn(cluster: &Cluster) -> World {
        World::of(cluster.pd_addr())
    }

    /// The cluster as it is now.
    pub fn learn_again(&self) -> World {
        World::of(&self.pd)
    }

    fn of(pd: &str) -> World {
        let ctl = |line: &[&str]| command::run(&[line, &["-o", "json", "--pd", pd]].concat());
        let status = ctl(&["ctl", "cluster", "status"]).json();
        let stores = ctl(&["ctl", "store", "list"]).ok().json();
        let regions = ctl(&["ctl", "region", "list"]).ok().json();
        let region = &regions[0];
        let store = |id: u64| {
            let stores = stores.as_array().expect("stores");
            let store = stores.iter().find(|store| number(&store["id"]) == id).expect("known");
            (id, store["addr"].as_str().expect("an address").to_string())
        };
        let peers = region["peers"].as_array().expect("peers");
        let members: Vec<(u64, u64)> =
            peers.iter().map(|peer| (number(&peer["id"]), number(&peer["store_id"]))).collect();
        let leading = number(&region["leader_store_id"]);
        let following = members.iter().find(|(_, store)| *store != leading).expect("three").1;
        let epoch = &region["epoch"];
        World {
            cluster_id: number(&status["cluster_id"]),
            pd: pd.to_string(),
            leader: store(leading),
            follower: store(following),
            region: number(&region["id"]),
            epoch: (number(&epoch["conf_ver"]), number(&epoch["version"])),
            members,
        }
    }

    /// The region as a request names it.
    pub fn region_ref(&self) -> RegionRef {
        let (conf_ver, version) = self.epoch;
        RegionRef { region_id: self.region, epoch: Some(Epoch { conf_ver, version }) }
    }

    /// The member of the region on this store.
    pub fn member_on(&self, store: u64) -> u64 {
        self.members.iter().find(|(_, on)| *on == store).expect("a member").0
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}
