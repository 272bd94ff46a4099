//! `flotilla bench bars`: arguments and output; `flotilla_bench::bars` describes the method.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use flotilla_bench::bars::row::Row;
use flotilla_bench::bars::{self, Bar, BarsConfig, Extremes, Shape};
use flotilla_bench::compare::cluster::Programs;

use super::{DataDir, LoadShape, show_progress};
use crate::args::Format;
use crate::failure::{Failure, Tried};
use crate::output;

/// Arguments of `flotilla bench bars`.
#[derive(Args)]
pub struct BarsArgs {
    /// Measure these alone: cost, overwrites, many-clients, split-regions, transfer-leader,
    /// kill-leader, kill-all, idle-regions, loaded
    #[arg(long, value_name = "NAME[,...]", value_delimiter = ',')]
    only: Vec<Bar>,
    /// Regions of split-regions
    #[arg(long, default_value_t = 1_000)]
    regions: usize,
    /// Regions of idle-regions
    #[arg(long, default_value_t = 10_000)]
    idle_regions: usize,
    /// Keys of loaded; at 256-byte values ten million take about 9 GB of disk in three stores
    #[arg(long, default_value_t = 10_000_000)]
    loaded_keys: u64,
    /// Clients of many-clients
    #[arg(long, default_value_t = 4_096)]
    many_clients: usize,
    /// Kills of kill-leader, and transfers of transfer-leader
    #[arg(long, default_value_t = 5)]
    kills: usize,
    /// Rounds of kill-all
    #[arg(long, default_value_t = 3)]
    kill_rounds: usize,
    #[command(flatten)]
    data: DataDir,
    /// Write bars.json into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    shape: LoadShape,
}

/// Measures the bars and prints them.
pub async fn run(args: BarsArgs, format: Format) -> Result<(), Failure> {
    let config = config(&args)?;
    if let Some(out) = &args.out {
        fs::create_dir_all(out).tried(&format!("create {}", out.display()))?;
    }
    let measured = bars::measure(&config, &mut show_progress).await?;
    if let Some(out) = &args.out {
        let json = serde_json::to_string_pretty(&measured).map_err(std::io::Error::other);
        let path = out.join("bars.json");
        fs::write(&path, json.tried("write JSON")?).tried(&format!("write {}", path.display()))?;
    }
    match format {
        Format::Json => output::json(&measured),
        Format::Table => {
            let rows: Vec<Vec<String>> = measured.rows.iter().map(Row::cells).collect();
            output::table(&Row::header(), &rows)
        }
    }
}

fn config(args: &BarsArgs) -> Result<BarsConfig, Failure> {
    let flotilla = std::env::current_exe().tried("find this program's own path")?;
    let bars = if args.only.is_empty() { Bar::ALL.to_vec() } else { args.only.clone() };
    Ok(BarsConfig {
        programs: Programs { flotilla, etcd: None },
        dir: args.data.path(),
        bars,
        shape: Shape {
            warmup: Duration::from_secs_f64(args.shape.warmup),
            window: Duration::from_secs_f64(args.shape.seconds),
            value_bytes: args.shape.value_bytes,
            keys: args.shape.keys,
            seed: args.shape.seed,
        },
        extremes: Extremes {
            regions: args.regions,
            idle_regions: args.idle_regions,
            loaded_keys: args.loaded_keys,
            many_clients: args.many_clients,
            kills: args.kills,
            kill_rounds: args.kill_rounds,
        },
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BarsArgs,
    }

    #[test]
    fn all_bars_are_measured_unless_some_are_named() {
        let line = Line::try_parse_from(["bars"]).expect("parses");
        let all = config(&line.args).expect("this program has a path");
        assert_eq!(all.bars, Bar::ALL);
        all.check().expect("the defaults can be measured");
        let line = ["bars", "--only", "loaded,cost", "--loaded-keys", "1000"];
        let some = config(&Line::try_parse_from(line).expect("parses").args);
        let some = some.expect("this program has a path");
        assert_eq!((some.bars, some.extremes.loaded_keys), (vec![Bar::Loaded, Bar::Cost], 1000));
        assert!(Line::try_parse_from(["bars", "--only", "no-bar"]).is_err());
    }
}
