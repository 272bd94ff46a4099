//! Makes a cluster of many regions: cuts by order of the placement driver, all regions at once,
//! each in the middle of the bounds that it still lacks; then spreads the leaders over the stores.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_client::{Error, OperatorRequest, PdClient, Route};
use flotilla_types::keys::{DEFAULT_KEYSPACE, stored_key};
use flotilla_types::{RegionId, StoreId};

use crate::compare::cluster::Cluster;
use crate::error::{BenchError, Result};
use crate::keys::key;

/// How long the cuts may take.
const SPLIT_TIMEOUT: Duration = Duration::from_secs(420);

/// Time between two reads of the range map: two heartbeats of a store that carries out orders.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How long leaders may take to spread over the stores; then the bar is measured as it is.
const SPREAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Leaders are spread when no store has this many times its share: what is left, the placement
/// driver evens out within seconds, and is done when a bar is measured.
const SPREAD_MAX: f64 = 1.01;

/// Transfers ordered between two looks: as many as the placement driver has under way at most.
const TRANSFERS_MAX: usize = 256;

/// The cluster after the cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How long the cuts took.
    pub took: Duration,
    /// Leaders on each store.
    pub leaders: Vec<u64>,
}

impl Layout {
    /// For a row's note.
    pub fn note(&self) -> String {
        format!("split in {:.0} s, leaders {:?}", self.took.as_secs_f64(), self.leaders)
    }
}

/// Cuts until there are `regions` regions over keys number 0 to `keys`, each with as many of them,
/// then waits until all have their replicas and leaders are spread.
///
/// # Errors
/// [`BenchError::Target`] if there are fewer by the deadline, or they do not become whole.
pub async fn split(cluster: &mut Cluster, regions: usize, keys: u64) -> Result<Layout> {
    let pd = cluster.pd()?;
    let bounds = bounds(regions, keys);
    let start = Instant::now();
    loop {
        let routes = pd.all_regions().await.map_err(asked)?;
        if routes.len() >= regions {
            break;
        }
        if start.elapsed() > SPLIT_TIMEOUT {
            let reason = format!("{} of {regions} regions by the deadline", routes.len());
            return Err(BenchError::target("split regions", reason));
        }
        cluster.check_alive()?;
        order(&pd, &routes, &bounds).await?;
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let took = start.elapsed();
    cluster.wait_ready().await?;
    Ok(Layout { took, leaders: spread(&pd).await? })
}

/// One cut of each region that lacks a bound.
async fn order(pd: &PdClient, routes: &[Route], bounds: &[Bytes]) -> Result<()> {
    for route in routes {
        let Some(at) = middle_bound(&route.region.range.start, &route.region.range.end, bounds)
        else {
            continue;
        };
        match pd.add_operator(route.region.id, OperatorRequest::Split(at.clone())).await {
            // Refused: it is being cut, or as many are as can be. Not found: it was cut meanwhile.
            Ok(_) | Err(Error::Refused { .. } | Error::NotFound { .. }) => {}
            Err(error) => return Err(asked(error)),
        }
    }
    Ok(())
}

/// Transfers leaders until no store has many more than its share, or time is up: cuts leave all of
/// them on one store, and the placement driver by itself moves only a few at a time. Answers how
/// many each store then has.
async fn spread(pd: &PdClient) -> Result<Vec<u64>> {
    let deadline = Instant::now() + SPREAD_TIMEOUT;
    loop {
        let routes = pd.all_regions().await.map_err(asked)?;
        let leaders = leaders(&routes);
        let orders = transfers(&routes, &leaders);
        if orders.is_empty() || Instant::now() >= deadline {
            return Ok(leaders.into_values().collect());
        }
        for (region, to) in orders.into_iter().take(TRANSFERS_MAX) {
            match pd.add_operator(region, OperatorRequest::TransferLeader(to)).await {
                // Refused: it is under way, or as many are as can be.
                Ok(_) | Err(Error::Refused { .. } | Error::NotFound { .. }) => {}
                Err(error) => return Err(asked(error)),
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Leaders on each store that has a peer.
fn leaders(routes: &[Route]) -> BTreeMap<StoreId, u64> {
    let mut leaders = BTreeMap::new();
    for route in routes {
        for peer in &route.region.members {
            leaders.entry(peer.store_id).or_default();
        }
        if let Some(leader) = route.leader {
            *leaders.entry(leader.store_id).or_default() += 1;
        }
    }
    leaders
}

/// Which leaders must move where, so that no store has [`SPREAD_MAX`] times its share; none if that
/// is so already.
fn transfers(routes: &[Route], leaders: &BTreeMap<StoreId, u64>) -> Vec<(RegionId, StoreId)> {
    let share = routes.len() as u64 / leaders.len().max(1) as u64 + 1;
    let most = leaders.values().copied().max().unwrap_or(0) as f64;
    if most <= share as f64 * SPREAD_MAX {
        return Vec::new();
    }
    let mut counts = leaders.clone();
    let count = |counts: &BTreeMap<StoreId, u64>, store| counts.get(&store).copied().unwrap_or(0);
    let mut orders = Vec::new();
    for route in routes {
        let Some(from) = route.leader.map(|leader| leader.store_id) else { continue };
        let stores = route.region.members.iter().map(|peer| peer.store_id);
        let Some(to) = stores.min_by_key(|store| count(&counts, *store)) else { continue };
        if count(&counts, from) > share && count(&counts, to) < share {
            *counts.entry(from).or_default() -= 1;
            *counts.entry(to).or_default() += 1;
            orders.push((route.region.id, to));
        }
    }
    orders
}

/// The stored keys between which the regions lie.
fn bounds(regions: usize, keys: u64) -> Vec<Bytes> {
    let regions = regions as u64;
    // Multiplied at full width: keys times regions may exceed 64 bits.
    let number = |at: u64| (u128::from(at) * u128::from(keys) / u128::from(regions)) as u64;
    (1..regions).map(|at| stored_key(DEFAULT_KEYSPACE, &key(number(at)))).collect()
}

/// The bound in the middle of those within `(start, end)`; an empty `end` is +infinity.
fn middle_bound<'a>(start: &Bytes, end: &Bytes, bounds: &'a [Bytes]) -> Option<&'a Bytes> {
    let first = bounds.partition_point(|bound| bound <= start);
    let last = match end.is_empty() {
        true => bounds.len(),
        false => bounds.partition_point(|bound| bound < end),
    };
    let inside = bounds.get(first..last)?;
    inside.get(inside.len() / 2)
}

fn asked(error: Error) -> BenchError {
    BenchError::target("ask PD", error)
}

#[cfg(test)]
mod tests {
    use flotilla_types::{Epoch, KeyRange, Member, PeerId, Region};

    use super::*;

    fn route(id: u64, leader: usize) -> Route {
        let peers: Vec<Member> =
            (1..=3).map(|store| Member::voter(PeerId(10 * id + store), StoreId(store))).collect();
        Route {
            leader: peers.get(leader).copied(),
            region: Region {
                id: RegionId(id),
                range: KeyRange::new("", ""),
                epoch: Epoch::FIRST,
                members: peers,
            },
            approximate_bytes: 0,
            approximate_keys: 0,
            load: Default::default(),
        }
    }

    #[test]
    fn leaders_on_one_store_are_spread_over_all_and_then_left_alone() {
        let mut routes: Vec<Route> = (1..=99).map(|id| route(id, 0)).collect();
        let orders = transfers(&routes, &leaders(&routes));
        assert_eq!(orders.len(), 65, "a share of 33, and one more may stay");
        for (region, to) in orders {
            routes[region.0 as usize - 1] = route(region.0, to.0 as usize - 1);
        }
        let counts: Vec<u64> = leaders(&routes).into_values().collect();
        assert!(counts.iter().all(|count| (32..=34).contains(count)), "{counts:?}");
        assert!(transfers(&routes, &leaders(&routes)).is_empty());
    }

    #[test]
    fn cutting_in_the_middle_reaches_every_bound_once() {
        let bounds = bounds(1_000, 100_000);
        let mut regions = vec![(Bytes::new(), Bytes::new())];
        let mut rounds = 0;
        while regions.len() < 1_000 {
            rounds += 1;
            regions = regions
                .into_iter()
                .flat_map(|(start, end)| match middle_bound(&start, &end, &bounds) {
                    Some(at) => vec![(start, at.clone()), (at.clone(), end)],
                    None => vec![(start, end)],
                })
                .collect();
        }
        assert_eq!(rounds, 10, "as many as 1,000 has bits");
        let starts: Vec<&Bytes> = regions.iter().skip(1).map(|(start, _)| start).collect();
        assert_eq!(starts, bounds.iter().collect::<Vec<_>>());
        assert_eq!(starts[0], &stored_key(DEFAULT_KEYSPACE, b"user000000000100"));
        let whole = |(start, end): &(Bytes, Bytes)| middle_bound(start, end, &bounds).is_none();
        assert!(regions.iter().all(whole));
    }
}
