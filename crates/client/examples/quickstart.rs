//! Every kind of call once. Needs a running cluster: `flotilla playground`, then
//! `cargo run -p flotilla-client --example quickstart`.

use anyhow::Result;
use flotilla_client::Client;

#[tokio::main]
async fn main() -> Result<()> {
    let pd = std::env::var("FLOTILLA_PD").unwrap_or_else(|_| "127.0.0.1:2379".into());
    let client = Client::connect(pd.split(',')).await?;

    client.put("fruit/apple", "red").await?;
    client.batch_put([("fruit/banana", "yellow"), ("fruit/cherry", "black")]).await?;
    println!("apple: {:?}", client.get("fruit/apple").await?);

    for (key, value) in client.scan("fruit/".."fruit0", 10).await? {
        println!("{} = {}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
    }

    let outcome = client.compare_and_swap("fruit/apple", Some("red"), Some("green")).await?;
    println!("apple swapped: {} (it was {:?})", outcome.swapped, outcome.previous);

    client.delete("fruit/apple").await?;
    client.delete_range("fruit/", "fruit0").await?;
    println!("left: {}", client.scan("fruit/".."fruit0", 10).await?.len());
    Ok(())
}
