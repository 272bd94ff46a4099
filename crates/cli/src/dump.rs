//! `flotilla kv dump`: all rows in key order, as `kv load` reads them.
//!
//! Rows are printed as they arrive. A dump is not one snapshot: it may or may not hold rows that
//! are written meanwhile. Loading a dump gives the same rows back, unless a key holds a tab or a
//! newline or a value a newline; `--hex` on both sides has no such limit.

use clap::Args;
use flotilla_client::ScanOptions;

use crate::args::{ClusterArgs, Encoding, Format, prefix_range};
use crate::failure::Failure;
use crate::output::{RowStyle, RowWriter};
use crate::scan::print_rows;

/// Arguments of `flotilla kv dump`.
#[derive(Args)]
pub struct DumpArgs {
    /// Only keys that begin with this
    #[arg(long)]
    prefix: Option<String>,
    #[command(flatten)]
    encoding: Encoding,
}

/// Prints the rows: TSV, or with `-o json` one object on each line.
pub async fn run(args: DumpArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let prefix = args.encoding.decode("--prefix", args.prefix.as_deref().unwrap_or_default())?;
    let (start, end) = prefix_range(prefix);
    let scan = ScanOptions { start, end, ..ScanOptions::default() };
    let style = match cluster.output {
        Format::Table => RowStyle::Tsv,
        Format::Json => RowStyle::JsonLines,
    };
    let client = cluster.connect("kv dump").await?;
    let writer = RowWriter::stdout(style, args.encoding.hex);
    let unloadable = print_rows(&client, scan, writer.with_progress(), "kv dump").await?;
    if unloadable > 0 {
        eprintln!(
            "warning: kv dump: {unloadable} rows have a tab in the key or a newline, so this dump \
             does not load back; use --hex for both"
        );
    }
    Ok(())
}
