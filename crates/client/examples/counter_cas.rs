//! Several tasks increment one counter by compare-and-swap. A swap whose outcome is not known is
//! neither repeated nor dropped: it is counted, and the total must lie within that doubt.

use anyhow::{Context, Result, ensure};
use flotilla_client::{Client, Error};
use tokio::task::JoinSet;

const TASKS: u64 = 8;
const INCREMENTS: u64 = 100;
const KEY: &str = "example/counter";

/// Adds 1. False if that may or may not have happened.
async fn increment(client: &Client) -> Result<bool> {
    let mut known = client.get(KEY).await?;
    loop {
        let count: u64 = match &known {
            Some(value) => std::str::from_utf8(value)?.parse()?,
            None => 0,
        };
        let next = Some((count + 1).to_string().into());
        match client.compare_and_swap(KEY, known, next).await {
            Ok(outcome) if outcome.swapped => return Ok(true),
            Ok(outcome) => known = outcome.previous,
            Err(Error::Undetermined { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let pd = std::env::var("FLOTILLA_PD").unwrap_or_else(|_| "127.0.0.1:2379".into());
    let client = Client::connect(pd.split(',')).await?;
    client.delete(KEY).await?;

    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let client = client.clone();
        tasks.spawn(async move {
            let mut sure = 0;
            for _ in 0..INCREMENTS {
                sure += u64::from(increment(&client).await?);
            }
            anyhow::Ok(sure)
        });
    }
    let mut sure = 0;
    while let Some(task) = tasks.join_next().await {
        sure += task??;
    }
    let asked = TASKS * INCREMENTS;
    let value = client.get(KEY).await?.context("the counter is there")?;
    let count: u64 = std::str::from_utf8(&value)?.parse()?;
    println!("counted {count}: {sure} of {asked} increments were acknowledged");
    ensure!((sure..=asked).contains(&count), "{count} is not within {sure}..={asked}");
    Ok(())
}
