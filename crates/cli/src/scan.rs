//! `flotilla kv scan`: the rows of a range of keys, printed as they arrive.
//!
//! A scan is not one snapshot: it may or may not show rows that are written meanwhile.

use bytes::Bytes;
use clap::Args;
use flotilla_client::{Client, ScanOptions};

use crate::args::{ClusterArgs, Encoding, Format, prefix_range};
use crate::failure::{Failure, Tried};
use crate::output::{RowStyle, RowWriter};

/// Arguments of `flotilla kv scan`.
#[derive(Args)]
pub struct ScanArgs {
    /// The first key [default: the least]
    start: Option<String>,
    /// The key to stop before [default: none]
    end: Option<String>,
    /// Only keys that begin with this, in place of START and END
    #[arg(long, conflicts_with = "start")]
    prefix: Option<String>,
    /// The most rows to print
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// From the end of the range downwards
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    encoding: Encoding,
}

/// Prints the rows: TSV, or with `-o json` one array.
pub async fn run(args: ScanArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let hex = args.encoding.hex;
    let decode = |name, text: Option<String>| match text {
        Some(text) => args.encoding.decode(name, &text),
        None => Ok(Bytes::new()),
    };
    let (start, end) = match args.prefix {
        Some(prefix) => prefix_range(args.encoding.decode("--prefix", &prefix)?),
        None => (decode("START", args.start)?, decode("END", args.end)?),
    };
    if !end.is_empty() && start > end {
        return Err(Failure::Usage(
            "kv scan: START is after END, so no key lies between them; swap them (--reverse only \
             changes the order of the rows)"
                .into(),
        ));
    }
    let client = cluster.connect("kv scan").await?;
    let (limit, reverse) = (args.limit, args.reverse);
    let scan = ScanOptions { start, end, limit, reverse, keys_only: false };
    let style = match cluster.output {
        Format::Table => RowStyle::Tsv,
        Format::Json => RowStyle::JsonArray,
    };
    print_rows(&client, scan, RowWriter::stdout(style, hex), "kv scan").await.map(|_| ())
}

/// Prints the rows of a scan as they arrive. Returns how many rows a TSV file cannot hold.
pub async fn print_rows(
    client: &Client,
    scan: ScanOptions,
    mut writer: RowWriter,
    what: &str,
) -> Result<u64, Failure> {
    let mut rows = client.scan_stream(scan).tried(what)?;
    while let Some(row) = rows.next().await {
        let (key, value) = row.tried(what)?;
        writer.row(&key, &value)?;
    }
    writer.finish()
}
