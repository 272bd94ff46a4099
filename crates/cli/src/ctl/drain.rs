//! `flotilla ctl store drain`: a store is emptied, unless the placement driver finds that this
//! could not end.

use std::time::Duration;

use clap::Args;
use flotilla_gateway::views;
use flotilla_types::StoreId;
use flotilla_types::explain::DrainForecast;
use flotilla_types::proto::StoreState;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::forecast::{blocked_json, forecast, print_blocked};
use super::human_bytes;
use super::stores::{find, print_table, tell_state};
use crate::args::{ClusterArgs, Format, duration};
use crate::failure::{Failure, Tried};
use crate::output;
use crate::terminal::progress_bar;

/// How often a drain that is waited for is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Arguments of `flotilla ctl store drain`.
#[derive(Args)]
pub struct DrainArgs {
    /// The store's id
    id: u64,
    /// Change nothing; print what would move, and what could not; status 5 if something could not
    #[arg(long, conflicts_with_all = ["wait", "cancel", "force"])]
    check: bool,
    /// Take the store into service again; what has left it does not come back by that
    #[arg(long, conflicts_with_all = ["wait", "force"])]
    cancel: bool,
    /// Order it although it cannot end as things stand
    #[arg(long)]
    force: bool,
    /// Wait until the store has no peers left; status 1 if it still has some in time
    #[arg(long)]
    wait: bool,
    /// With --wait, how long, such as 60s or 30m
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
    timeout: Duration,
}

/// Carries `ctl store drain` out.
pub async fn run(args: DrainArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let id = args.id;
    let what = format!("ctl store drain {id}");
    let client = cluster.pd_client(&what)?;
    if args.cancel {
        client.set_store_state(StoreId(id), StoreState::Up).await.tried(&what)?;
        return tell_state(id, StoreState::Up, cluster);
    }
    if !args.force {
        let told = forecast(StoreId(id), &client, &what).await?;
        if args.check {
            print_forecast(id, &told, cluster.output)?;
        }
        if told.blocked_count > 0 {
            return Err(refusal(&what, &told));
        }
        if args.check {
            return Ok(());
        }
    }
    client.set_store_state(StoreId(id), StoreState::Draining).await.tried(&what)?;
    if args.wait {
        return wait(id, args.timeout, cluster).await;
    }
    tell_state(id, StoreState::Draining, cluster)
}

fn refusal(what: &str, told: &DrainForecast) -> Failure {
    let first = told.blocked.first();
    let first = first.map_or(String::new(), |r| format!(" region {}: {}.", r.region_id, r.why));
    Failure::Unsafe(format!(
        "{what}: {} of {} regions could not leave the store, so it would not become empty;{first} \
         Add a store or take one into service, or order it all the same with --force",
        told.blocked_count, told.region_count
    ))
}

fn print_forecast(id: u64, told: &DrainForecast, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(&forecast_json(id, told));
    }
    let DrainForecast { region_count, bytes, blocked_count, blocked } = told;
    let bytes = human_bytes(*bytes);
    output::line(&format!("{region_count} regions with {bytes} to move, {blocked_count} blocked"))?;
    print_blocked(blocked)
}

fn forecast_json(id: u64, told: &DrainForecast) -> Value {
    json!({
        "id": id, "regions": told.region_count, "bytes": told.bytes,
        "blocked_count": told.blocked_count,
        "blocked": told.blocked.iter().map(blocked_json).collect::<Vec<_>>(),
    })
}

/// Shows how many peers are left until there are none, or the time is over. A placement driver that
/// does not answer for a while ends nothing.
async fn wait(id: u64, timeout: Duration, cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = format!("ctl store drain {id}");
    let client = cluster.pd_client(&what)?;
    let until = Instant::now() + timeout;
    let mut left = find(id, &client, &what).await?;
    let bar = progress_bar(Some(left.region_count));
    while left.region_count > 0 && Instant::now() < until {
        tokio::time::sleep_until(until.min(Instant::now() + POLL_INTERVAL)).await;
        if let Ok(seen) = find(id, &client, &what).await {
            left = seen;
        }
        let length = bar.length().unwrap_or_default().max(left.region_count);
        bar.set_length(length);
        bar.set_position(length - left.region_count);
        bar.set_message(format!("{} peers left on store {id}", left.region_count));
    }
    bar.finish_and_clear();
    match cluster.output {
        Format::Json => output::json(&views::store(&left))?,
        Format::Table => print_table(std::slice::from_ref(&left))?,
    }
    if left.region_count == 0 { Ok(()) } else { Err(Failure::AnswerIsNo) }
}

#[cfg(test)]
mod tests {
    use flotilla_types::RegionId;
    use flotilla_types::explain::BlockedRegion;

    use super::*;

    #[test]
    fn scripts_find_the_agreed_fields() {
        let blocked = vec![BlockedRegion { region_id: RegionId(7), why: "no store".into() }];
        let told = DrainForecast { region_count: 3, bytes: 9, blocked_count: 1, blocked };
        let expected = json!({
            "id": 4, "regions": 3, "bytes": 9, "blocked_count": 1,
            "blocked": [{ "region_id": 7, "why": "no store" }],
        });
        assert_eq!(forecast_json(4, &told), expected);
        let Failure::Unsafe(line) = refusal("drain", &told) else { panic!("another failure") };
        assert!(line.contains("1 of 3 regions") && line.contains("region 7: no store"), "{line}");
    }
}
