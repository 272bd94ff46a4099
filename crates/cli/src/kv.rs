//! `flotilla kv`: rows. `put` and `delete` ([`crate::change`]), `scan`, `load` and `dump` have
//! files of their own.

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::args::{ClusterArgs, Encoding, Format};
use crate::change::{self, DeleteArgs, PutArgs};
use crate::dump::{self, DumpArgs};
use crate::failure::{Failure, Tried};
use crate::load::{self, LoadArgs};
use crate::output;
use crate::scan::{self, ScanArgs};

/// The commands of `flotilla kv`.
#[derive(Subcommand)]
pub enum KvCommand {
    /// Print a key's value; status 1 if the key is absent
    Get {
        /// The key
        key: String,
        /// Print the value's bytes alone, without a newline after them
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        encoding: Encoding,
    },
    /// Set a key's value
    Put(PutArgs),
    /// Delete a key, or all keys of a range; what is absent stays absent
    Delete(DeleteArgs),
    /// Print the rows of a range of keys, in key order
    Scan(ScanArgs),
    /// Set a key to NEW if its value is OLD; else print the value found, and status 1
    Cas(CasArgs),
    /// Put the rows of a TSV file
    Load(LoadArgs),
    /// Print all rows in key order, as `load` reads them
    Dump(DumpArgs),
}

/// Arguments of `flotilla kv cas`.
#[derive(Args)]
#[command(override_usage = "flotilla kv cas [OPTIONS] KEY OLD NEW\n       \
                            flotilla kv cas --absent KEY NEW\n       \
                            flotilla kv cas --delete KEY OLD")]
pub struct CasArgs {
    /// The key
    key: String,
    /// OLD and NEW; leave out OLD with --absent, and NEW with --delete
    #[arg(value_name = "VALUE", num_args = 0..=2)]
    values: Vec<String>,
    /// Stands for OLD: the key must be absent
    #[arg(long)]
    absent: bool,
    /// Stands for NEW: the key is deleted
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    encoding: Encoding,
}

/// Carries a `kv` command out.
pub async fn run(command: KvCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        KvCommand::Get { key, raw, encoding } => get(key, raw, encoding, cluster).await,
        KvCommand::Put(args) => change::put(args, cluster).await,
        KvCommand::Delete(args) => change::delete(args, cluster).await,
        KvCommand::Scan(args) => scan::run(args, cluster).await,
        KvCommand::Cas(args) => compare_and_swap(args, cluster).await,
        KvCommand::Load(args) => load::run(args, cluster).await,
        KvCommand::Dump(args) => dump::run(args, cluster).await,
    }
}

async fn get(
    key: String,
    raw: bool,
    encoding: Encoding,
    cluster: &ClusterArgs,
) -> Result<(), Failure> {
    let key = encoding.decode("KEY", &key)?;
    let found = cluster.connect("kv get").await?.get(key.clone()).await.tried("kv get")?;
    if cluster.output == Format::Json {
        let mut object = Map::new();
        output::insert_bytes(&mut object, "key", &key, encoding.hex);
        insert_slot(&mut object, "value", found.as_deref(), encoding.hex);
        output::json(&object)?;
    }
    match found {
        None => Err(Failure::Absent("kv get: the key is absent".into())),
        Some(value) if cluster.output == Format::Table && raw => {
            output::raw_bytes(&value, encoding.hex)
        }
        Some(value) if cluster.output == Format::Table => output::bytes(&value, encoding.hex),
        Some(_) => Ok(()),
    }
}

async fn compare_and_swap(args: CasArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let hex = args.encoding.hex;
    let (key, expected, new) = cas_operands(args)?;
    let client = cluster.connect("kv cas").await?;
    let outcome = client.compare_and_swap(key.clone(), expected, new).await.tried("kv cas")?;
    if cluster.output == Format::Json {
        let mut object = Map::new();
        output::insert_bytes(&mut object, "key", &key, hex);
        object.insert("swapped".into(), json!(outcome.swapped));
        insert_slot(&mut object, "previous", outcome.previous.as_deref(), hex);
        output::json(&object)?;
    }
    if outcome.swapped {
        return Ok(());
    }
    if let (Format::Table, Some(previous)) = (cluster.output, &outcome.previous) {
        output::bytes(previous, hex)?;
    }
    Err(Failure::Absent(match outcome.previous {
        Some(_) => "kv cas: not swapped: the key has another value, printed on stdout".into(),
        None => "kv cas: not swapped: the key is absent; to create it, use --absent".into(),
    }))
}

/// The key, the value it must have, and the value it gets; none for an absent key.
type CasOperands = (Bytes, Option<Bytes>, Option<Bytes>);

fn cas_operands(args: CasArgs) -> Result<CasOperands, Failure> {
    let wanted = 2 - usize::from(args.absent) - usize::from(args.delete);
    if args.values.len() != wanted {
        return Err(Failure::Usage(format!(
            "kv cas: {} values given, {wanted} expected: KEY OLD NEW, with --absent in place of \
             OLD and --delete in place of NEW",
            args.values.len()
        )));
    }
    let key = args.encoding.decode("KEY", &args.key)?;
    let mut values = args.values.iter();
    let mut next = |name: &str, stood_for: bool| match values.next() {
        Some(text) if !stood_for => args.encoding.decode(name, text).map(Some),
        _ => Ok(None),
    };
    let expected = if args.absent { None } else { next("OLD", false)? };
    let new = next("NEW", args.delete)?;
    Ok((key, expected, new))
}

fn insert_slot(object: &mut Map<String, Value>, name: &str, value: Option<&[u8]>, hex: bool) {
    match value {
        Some(value) => output::insert_bytes(object, name, value, hex),
        None => {
            object.insert(name.into(), Value::Null);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operands(values: &[&str], absent: bool, delete: bool) -> Result<CasOperands, Failure> {
        cas_operands(CasArgs {
            key: "k".into(),
            values: values.iter().map(|value| value.to_string()).collect(),
            absent,
            delete,
            encoding: Encoding { hex: false },
        })
    }

    #[test]
    fn an_absent_side_of_a_swap_has_a_flag_and_no_value() {
        let key = Bytes::from("k");
        let (old, new) = (Some(Bytes::from("a")), Some(Bytes::from("b")));
        let both = operands(&["a", "b"], false, false).expect("both");
        assert_eq!(both, (key.clone(), old.clone(), new.clone()));
        let created = operands(&["b"], true, false).expect("absent");
        assert_eq!(created, (key.clone(), None, new));
        let deleted = operands(&["a"], false, true).expect("delete");
        assert_eq!(deleted, (key.clone(), old, None));
        assert_eq!(operands(&[], true, true).expect("neither"), (key, None, None));
        assert!(operands(&["a"], false, false).is_err());
        assert!(operands(&["a", "b"], true, false).is_err());
    }
}
