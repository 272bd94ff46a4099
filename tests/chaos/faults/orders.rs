//! An administrator's orders, many at once; and a store that is lost with its disk and replaced.

use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_client::Route;
use flotilla_types::placement::OperatorRequest;
use flotilla_types::proto::StoreState;
use flotilla_types::{RegionId, StoreId};
use tokio::time::sleep;

use super::processes::start;
use super::{Case, Ended};
use crate::server::Server;

/// Regions beyond which no order splits one: each costs every store a little.
const REGIONS_MAX: usize = 40;

/// How long a drained store may take to lose a leader or a replica.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// How long the regions of a lost store may take until they have all their replicas.
const REPLACED_MAX: Duration = Duration::from_secs(60);

/// Splits some regions.
pub async fn splits(case: &mut Case<'_>) -> Ended {
    let Ok(regions) = case.cluster.regions().await else {
        return Ended::Skipped("the regions are not known".into());
    };
    let room = REGIONS_MAX.saturating_sub(regions.len());
    let count = case.dice.between_inclusive(2, 5).min(room as u64);
    let mut taken = 0;
    for _ in 0..count {
        let Some(region) = case.dice.pick(&regions) else { break };
        let (id, order) = (region.region.id, OperatorRequest::Split(Bytes::new()));
        taken += usize::from(order_is_taken(case, id, order).await);
        sleep(case.time(0, 300)).await;
    }
    let now = case.cluster.regions().await.map_or(0, |regions| regions.len());
    told(taken, &format!("{} regions, now {now}", regions.len()))
}

/// Moves replicas of some regions.
pub async fn moves(case: &mut Case<'_>) -> Ended {
    let Some((regions, stores)) = regions_and_stores(case).await else {
        return Ended::Skipped("regions or stores are not known".into());
    };
    let mut taken = 0;
    for _ in 0..case.dice.between_inclusive(3, 8) {
        let Some(region) = case.dice.pick(&regions).map(|route| route.region.clone()) else {
            break;
        };
        let has = |store: &StoreId| region.members.iter().any(|member| member.store_id == *store);
        let free: Vec<StoreId> = stores.iter().copied().filter(|store| !has(store)).collect();
        let from = case.dice.pick(&region.members).map(|member| member.store_id);
        let (Some(from), Some(to)) = (from, case.dice.pick(&free).copied()) else { continue };
        let order = OperatorRequest::MovePeer { from, to };
        taken += usize::from(order_is_taken(case, region.id, order).await);
        sleep(case.time(0, 400)).await;
    }
    told(taken, "moves")
}

/// Makes other replicas lead, each region several times.
pub async fn transfers(case: &mut Case<'_>) -> Ended {
    let mut taken = 0;
    for _ in 0..case.dice.between_inclusive(2, 4) {
        let Ok(regions) = case.cluster.regions().await else { continue };
        for route in &regions {
            let voters: Vec<StoreId> =
                route.region.members.iter().map(|member| member.store_id).collect();
            let Some(to) = case.dice.pick(&voters).copied() else { continue };
            let order = OperatorRequest::TransferLeader(to);
            taken += usize::from(order_is_taken(case, route.region.id, order).await);
        }
        sleep(case.time(100, 1_000)).await;
    }
    told(taken, "changes of leaders")
}

/// Drains a store, and takes it back into service.
pub async fn drain(case: &mut Case<'_>) -> Ended {
    let names = case.some(case.cluster.store_names(), 1);
    let Some(_claim) = case.cluster.claim(&names) else {
        return Ended::Skipped("another fault has it".into());
    };
    let Some((id, before)) = held_by(case, &names.concat()).await else {
        return Ended::Skipped("the store is not known".into());
    };
    if let Err(error) = case.cluster.pd.set_store_state(id, StoreState::Draining).await {
        return Ended::Skipped(error.to_string());
    }
    case.note(&format!("{} drains", names.concat()));
    let began = Instant::now();
    let mut now = before;
    while now >= before && began.elapsed() < DRAIN_MAX {
        sleep(Duration::from_millis(200)).await;
        now = held_by(case, &names.concat()).await.map_or(now, |(_, now)| now);
    }
    sleep(case.time(0, 2_000)).await;
    set_up_again(case, id).await;
    let seen = format!("{before:?} -> {now:?} regions and leaders");
    if now < before { Ended::Seen(seen) } else { Ended::Unseen(seen) }
}

async fn set_up_again(case: &Case<'_>, id: StoreId) {
    for _ in 0..100 {
        if case.cluster.pd.set_store_state(id, StoreState::Up).await.is_ok() {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
    case.cluster.timeline.wrong(format!("store {id} could not be taken back into service"));
}

/// A store and its disk are lost. It is drained, so that its replicas are replaced at once, another
/// store joins, and once all is whole the lost one is removed, if it may be.
pub async fn wipe(case: &mut Case<'_>) -> Ended {
    let all = case.cluster.store_names();
    let Some(_claim) = case.cluster.claim(&all) else {
        return Ended::Skipped("another fault has one of them".into());
    };
    // Nothing else may be missing: two lost replicas of three are lost data.
    if let Err(why) = case.cluster.is_healthy().await {
        return Ended::Skipped(why);
    }
    let name = case.some(all, 1).concat();
    let Some((id, held)) = held_by(case, &name).await else {
        return Ended::Skipped("the store is not known".into());
    };
    let (Some(lost), Some(spare)) = (case.cluster.server(&name), case.cluster.next_spare()) else {
        return Ended::Skipped("no store stands by any more".into());
    };
    lost.kill();
    if let Err(error) = lost.retire() {
        return Ended::Unseen(format!("{name}: {error}"));
    }
    start(case, spare);
    case.note(&format!("{name} is lost with {held:?} regions and leaders; {} joins", spare.name));
    let replaced = replace(case, id).await;
    match replaced {
        Ok(took) => Ended::Seen(format!("all replicas replaced after {took:?}")),
        Err(why) => {
            case.cluster.timeline.wrong(format!("{name} was lost, and not replaced: {why}"));
            Ended::Unseen(why)
        }
    }
}

async fn replace(case: &Case<'_>, id: StoreId) -> Result<Duration, String> {
    let began = Instant::now();
    loop {
        let drained = case.cluster.pd.set_store_state(id, StoreState::Draining).await;
        let left = case.cluster.regions().await.map(|regions| {
            let has = |route: &&Route| route.region.members.iter().any(|m| m.store_id == id);
            regions.iter().filter(has).count()
        });
        let why = match (drained, left) {
            (Ok(()), Ok(0)) => {
                let took = began.elapsed();
                // A lost store whose last heartbeat told of replicas cannot be removed before it
                // counts as down, which takes longer than a run.
                let _ = case.cluster.pd.set_store_state(id, StoreState::Removed).await;
                return Ok(took);
            }
            (Ok(()), Ok(left)) => format!("{left} regions have it still"),
            (Err(error), _) => error.to_string(),
            (_, Err(error)) => error,
        };
        if began.elapsed() > REPLACED_MAX {
            return Err(why);
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// The id of a store, and how many regions and leaders it has.
async fn held_by(case: &Case<'_>, name: &str) -> Option<(StoreId, (u64, u64))> {
    let known = case.cluster.known_stores().await.ok()?;
    let is_it = |server: &&Server| server.name == name;
    let (status, _) = known.into_iter().find(|(_, server)| is_it(server))?;
    Some((StoreId(status.store?.id), (status.region_count, status.leader_count)))
}

async fn regions_and_stores(case: &Case<'_>) -> Option<(Vec<Route>, Vec<StoreId>)> {
    let regions = case.cluster.regions().await.ok()?;
    let stores = case.cluster.known_stores().await.ok()?;
    let ids = stores.iter().filter(|(_, server)| !server.is_retired());
    let ids = ids.filter_map(|(status, _)| status.store.as_ref().map(|store| StoreId(store.id)));
    Some((regions, ids.collect()))
}

async fn order_is_taken(case: &Case<'_>, region: RegionId, order: OperatorRequest) -> bool {
    case.cluster.pd.add_operator(region, order).await.is_ok()
}

fn told(taken: usize, what: &str) -> Ended {
    if taken > 0 {
        Ended::Seen(format!("{taken} orders taken: {what}"))
    } else {
        Ended::Unseen(format!("no order was taken: {what}"))
    }
}
