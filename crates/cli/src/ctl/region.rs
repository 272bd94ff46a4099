//! `flotilla ctl region`: the regions.
//!
//! JSON shows a region's bounds as hex of the stored keys: the keyspace id (4 bytes, 00000000 for
//! the default keyspace), then the user key. Tables show a bound of the default keyspace as its
//! user key where that is printable text. Either way an open end is empty.

use bytes::Bytes;
use clap::{Args, Subcommand};
use flotilla_client::{OperatorRequest, Route};
use flotilla_gateway::views;
use flotilla_types::explain::{Explanation, Question, RegionExplanation, StoreVerdict};
use flotilla_types::keys::{DEFAULT_KEYSPACE, KEYSPACE_BYTES, stored_key};
use flotilla_types::{Load, Member, MemberRole, RegionId, StoreId};
use serde_json::{Value, json};

use super::{human_bytes, print_operator};
use crate::args::{ClusterArgs, Encoding, Format};
use crate::failure::{Failure, Tried};
use crate::output;

/// The commands of `flotilla ctl region`.
#[derive(Subcommand)]
pub enum RegionCommand {
    /// Print all regions in key order
    List {
        /// Only those with a peer on this store
        #[arg(long, value_name = "ID")]
        store: Option<u64>,
    },
    /// Print the regions that clients use most, the busiest first
    Hot {
        /// What is counted, per second
        #[arg(long, value_enum, default_value = "reads")]
        by: HotBy,
        /// The most regions to print
        #[arg(long, default_value_t = 10)]
        limit: usize,
    },
    /// Print one region; status 1 if there is none with this id
    Show {
        /// The region's id
        id: u64,
    },
    /// Say what a region lacks, and for each store why a new peer of it would go there or not
    Explain {
        /// The region's id
        id: u64,
    },
    /// Cut a region in two
    Split(SplitArgs),
    /// Make another store's peer the leader
    TransferLeader {
        /// The region's id
        id: u64,
        /// The store whose peer is to lead
        store: u64,
    },
    /// Move a peer from one store to another
    MovePeer {
        /// The region's id
        id: u64,
        /// The store that has a peer
        from_store: u64,
        /// The store to have it
        to_store: u64,
    },
    /// Add a peer on a store
    AddPeer {
        /// The region's id
        id: u64,
        /// The store to have it
        store: u64,
    },
    /// Remove the peer on a store
    RemovePeer {
        /// The region's id
        id: u64,
        /// The store that has it
        store: u64,
    },
}

/// What `flotilla ctl region hot` counts.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum HotBy {
    /// Gets, and chunks of scans
    Reads,
    /// Batches, and comparisons
    Writes,
    /// Bytes read and written
    Bytes,
}

impl HotBy {
    fn of(self, load: Load) -> u64 {
        match self {
            HotBy::Reads => load.reads,
            HotBy::Writes => load.writes,
            HotBy::Bytes => load.read_bytes.saturating_add(load.written_bytes),
        }
    }
}

/// Arguments of `flotilla ctl region split`.
#[derive(Args)]
pub struct SplitArgs {
    /// The region's id
    id: u64,
    /// The first key of the right part [default: near the middle of the region's bytes]
    #[arg(long, value_name = "KEY")]
    at: Option<String>,
    #[command(flatten)]
    encoding: Encoding,
}

/// Carries a `ctl region` command out.
pub async fn run(command: RegionCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        RegionCommand::List { store } => list(store, cluster).await,
        RegionCommand::Hot { by, limit } => hot(by, limit, cluster).await,
        RegionCommand::Show { id } => show(id, cluster).await,
        RegionCommand::Explain { id } => explain(id, cluster).await,
        RegionCommand::Split(args) => {
            let at = match &args.at {
                Some(key) => split_key(args.encoding.decode("--at", key)?)?,
                None => Bytes::new(),
            };
            order("split", args.id, OperatorRequest::Split(at), cluster).await
        }
        RegionCommand::TransferLeader { id, store } => {
            order("transfer-leader", id, OperatorRequest::TransferLeader(StoreId(store)), cluster)
                .await
        }
        RegionCommand::MovePeer { id, from_store, to_store } => {
            let kind =
                OperatorRequest::MovePeer { from: StoreId(from_store), to: StoreId(to_store) };
            order("move-peer", id, kind, cluster).await
        }
        RegionCommand::AddPeer { id, store } => {
            order("add-peer", id, OperatorRequest::AddPeer(StoreId(store)), cluster).await
        }
        RegionCommand::RemovePeer { id, store } => {
            order("remove-peer", id, OperatorRequest::RemovePeer(StoreId(store)), cluster).await
        }
    }
}

fn split_key(user_key: Bytes) -> Result<Bytes, Failure> {
    if user_key.is_empty() {
        return Err(Failure::Usage(
            "ctl region split: --at is empty; leave it out to split near the middle".into(),
        ));
    }
    Ok(stored_key(DEFAULT_KEYSPACE, &user_key))
}

async fn order(
    verb: &str,
    region: u64,
    kind: OperatorRequest,
    cluster: &ClusterArgs,
) -> Result<(), Failure> {
    let what = format!("ctl region {verb} {region}");
    let operator = cluster.pd_client(&what)?.add_operator(RegionId(region), kind).await;
    print_operator(cluster.output, operator.tried(&what)?)
}

/// The regions with load, the busiest first; of two as busy the one with the lower keys first.
async fn hot(by: HotBy, limit: usize, cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = "ctl region hot";
    let mut regions = cluster.pd_client(what)?.all_regions().await.tried(what)?;
    hottest(&mut regions, by, limit);
    if cluster.output == Format::Json {
        return output::json(&regions.iter().map(views::region).collect::<Vec<_>>());
    }
    let row = |route: &Route| {
        let (region, load) = (&route.region, route.load);
        vec![
            region.id.to_string(),
            bound(&region.range.start),
            bound(&region.range.end),
            route.leader.map_or("unknown".into(), |leader| leader.store_id.to_string()),
            load.reads.to_string(),
            load.writes.to_string(),
            human_bytes(load.read_bytes),
            human_bytes(load.written_bytes),
        ]
    };
    let header = ["id", "start", "end", "leader", "reads/s", "writes/s", "read/s", "written/s"];
    output::table(&header, &regions.iter().map(row).collect::<Vec<_>>())
}

fn hottest(regions: &mut Vec<Route>, by: HotBy, limit: usize) {
    regions.retain(|route| by.of(route.load) > 0);
    regions.sort_by_key(|route| std::cmp::Reverse(by.of(route.load)));
    regions.truncate(limit);
}

async fn list(store: Option<u64>, cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = "ctl region list";
    let mut regions = cluster.pd_client(what)?.all_regions().await.tried(what)?;
    if let Some(store) = store {
        regions.retain(|route| route.region.member_on(StoreId(store)).is_some());
    }
    match cluster.output {
        Format::Json => output::json(&regions.iter().map(views::region).collect::<Vec<_>>()),
        Format::Table => print_table(&regions),
    }
}

async fn show(id: u64, cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = format!("ctl region show {id}");
    let regions = cluster.pd_client(&what)?.all_regions().await.tried(&what)?;
    let found = regions.into_iter().find(|route| route.region.id == RegionId(id));
    let found = found.ok_or_else(|| {
        Failure::Absent(format!("{what}: region {id} does not exist; see ctl region list"))
    })?;
    match cluster.output {
        Format::Json => output::json(&views::region(&found)),
        Format::Table => print_table(&[found]),
    }
}

async fn explain(id: u64, cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = format!("ctl region explain {id}");
    let told = cluster.pd_client(&what)?.explain(Question::Region(RegionId(id))).await;
    let Explanation::Region(told) = told.tried(&what)? else {
        return Err(super::unasked(&what));
    };
    if cluster.output == Format::Json {
        return output::json(&explanation_json(id, &told));
    }
    output::line(&format!("region {id} needs {}", told.needs))?;
    let row = |store: &StoreVerdict| {
        let chosen = if store.is_chosen { "chosen" } else { "" };
        vec![store.store_id.to_string(), chosen.into(), store.why.clone()]
    };
    output::table(&["store", "", "why"], &told.stores.iter().map(row).collect::<Vec<_>>())
}

fn explanation_json(id: u64, told: &RegionExplanation) -> Value {
    let store = |store: &StoreVerdict| {
        json!({
            "store_id": store.store_id.0, "chosen": store.is_chosen, "why": store.why,
            "shared_labels": store.shared_labels, "region_count": store.region_count,
        })
    };
    let stores = told.stores.iter().map(store).collect::<Vec<_>>();
    json!({ "id": id, "needs": told.needs, "stores": stores })
}

fn print_table(regions: &[Route]) -> Result<(), Failure> {
    let row = |route: &Route| {
        let region = &route.region;
        vec![
            region.id.to_string(),
            bound(&region.range.start),
            bound(&region.range.end),
            region.epoch.to_string(),
            stores(route),
            route.leader.map_or("unknown".into(), |leader| leader.store_id.to_string()),
            human_bytes(route.approximate_bytes),
            route.approximate_keys.to_string(),
        ]
    };
    let header = ["id", "start", "end", "epoch", "stores", "leader", "bytes", "keys"];
    output::table(&header, &regions.iter().map(row).collect::<Vec<_>>())
}

/// The stores of the region's members, each with its role unless the member is a voter.
fn stores(route: &Route) -> String {
    let member = |member: &Member| match member.role {
        MemberRole::Voter => member.store_id.to_string(),
        role => format!("{}({})", member.store_id, views::role_name(role)),
    };
    route.region.members.iter().map(member).collect::<Vec<_>>().join(",")
}

/// A region's bound for people: text, or `0x` and hex digits (see the header).
fn bound(stored: &Bytes) -> String {
    let user = stored.strip_prefix(&DEFAULT_KEYSPACE.to_be_bytes()[..KEYSPACE_BYTES]);
    match user.map(std::str::from_utf8) {
        Some(Ok(text)) if !text.is_empty() && !text.contains(char::is_control) => text.to_string(),
        _ if stored.is_empty() => String::new(),
        _ => format!("0x{}", hex::encode(stored)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{Epoch, KeyRange, PeerId, Region};

    #[test]
    fn scripts_find_the_agreed_fields() {
        let leader = Member::voter(PeerId(5), StoreId(1));
        let region = Region {
            id: RegionId(2),
            range: KeyRange::new(stored_key(0, b"m"), Bytes::new()),
            epoch: Epoch { conf_ver: 3, version: 4 },
            members: vec![leader],
        };
        let mut route = Route {
            region,
            leader: Some(leader),
            approximate_bytes: 10,
            approximate_keys: 1,
            load: Default::default(),
        };
        let expected = json!({
            "id": 2, "start": "000000006d", "end": "",
            "epoch": { "conf_ver": 3, "version": 4 },
            "peers": [{ "id": 5, "store_id": 1, "role": "voter" }],
            "leader_store_id": 1, "approximate_bytes": 10, "approximate_keys": 1,
            "load": {
                "reads_per_second": 0, "read_bytes_per_second": 0,
                "writes_per_second": 0, "written_bytes_per_second": 0,
            },
        });
        assert_eq!(views::region(&route), expected);
        route.leader = None;
        assert_eq!(views::region(&route)["leader_store_id"], Value::Null);
    }

    #[test]
    fn the_busiest_region_goes_first_and_idle_ones_are_left_out() {
        let route = |id, load| Route {
            region: Region { id: RegionId(id), ..Region::default() },
            leader: None,
            approximate_bytes: 0,
            approximate_keys: 0,
            load,
        };
        let reads = |reads| Load { reads, written_bytes: 100 - reads, ..Load::default() };
        let all = || vec![route(1, reads(3)), route(2, Load::default()), route(3, reads(9))];
        for (by, expected) in [
            (HotBy::Reads, vec![RegionId(3), RegionId(1)]),
            (HotBy::Bytes, vec![RegionId(1), RegionId(3)]),
            (HotBy::Writes, vec![]),
        ] {
            let mut regions = all();
            hottest(&mut regions, by, 2);
            assert_eq!(regions.iter().map(|r| r.region.id).collect::<Vec<_>>(), expected);
        }
        let mut regions = all();
        hottest(&mut regions, HotBy::Reads, 1);
        assert_eq!(regions.len(), 1);
    }

    #[test]
    fn bounds_are_text_where_they_can_be() {
        assert_eq!(bound(&stored_key(0, b"apple")), "apple");
        assert_eq!(bound(&stored_key(0, b"a\n")), "0x00000000610a");
        assert_eq!(bound(&stored_key(1, b"apple")), "0x000000016170706c65");
        assert_eq!(bound(&stored_key(1, b"")), "0x00000001");
        assert_eq!(bound(&Bytes::new()), "");
    }
}
