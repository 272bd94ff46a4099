//! `flotilla kv put` and `flotilla kv delete`.
//!
//! Whatever removes more than one key asks on a terminal, and elsewhere needs `--yes`.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use serde_json::{Map, json};

use crate::args::{ClusterArgs, Encoding, Format, prefix_range};
use crate::failure::{Failure, Tried};
use crate::output;

/// Arguments of `flotilla kv put`.
#[derive(Args)]
pub struct PutArgs {
    /// The key
    key: String,
    /// The value; - reads it from stdin, as the bytes are
    #[arg(required_unless_present = "file")]
    value: Option<String>,
    /// Read the value from a file, as the bytes are
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,
    #[command(flatten)]
    encoding: Encoding,
}

/// Arguments of `flotilla kv delete`.
#[derive(Args)]
#[command(override_usage = "flotilla kv delete [OPTIONS] KEY\n       \
                            flotilla kv delete [OPTIONS] --prefix PREFIX\n       \
                            flotilla kv delete [OPTIONS] --range START END")]
pub struct DeleteArgs {
    /// The key
    #[arg(required_unless_present_any = ["prefix", "range"])]
    #[arg(conflicts_with_all = ["prefix", "range"])]
    key: Option<String>,
    /// Delete all keys that begin with this; an empty one deletes everything
    #[arg(long, conflicts_with = "range")]
    prefix: Option<String>,
    /// Delete the keys from START on, up to but not including END; an empty END is the end of all
    /// keys. Atomic within a region, not across regions
    #[arg(long, num_args = 2, value_names = ["START", "END"])]
    range: Option<Vec<String>>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    encoding: Encoding,
}

/// Sets a key's value.
pub async fn put(args: PutArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let key = args.encoding.decode("KEY", &args.key)?;
    let value = value(&args)?;
    cluster.connect("kv put").await?.put(key.clone(), value).await.tried("kv put")?;
    answer(cluster.output, "stored", &key, args.encoding)
}

fn value(args: &PutArgs) -> Result<Bytes, Failure> {
    let unreadable = |name: &str, error: io::Error| {
        Failure::Usage(format!("kv put: {name}: {error}; name a file that can be read, or -"))
    };
    if let Some(path) = &args.file {
        let read = std::fs::read(path).map(Bytes::from);
        return read.map_err(|error| unreadable(&path.display().to_string(), error));
    }
    match args.value.as_deref().unwrap_or_default() {
        "-" => {
            let mut bytes = vec![];
            let read = io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|error| unreadable("stdin", error))?;
            Ok(bytes.into())
        }
        text => args.encoding.decode("VALUE", text),
    }
}

/// What `kv delete` is to delete.
#[derive(Debug, PartialEq, Eq)]
enum Doomed {
    Key(Bytes),
    /// An empty end is the end of all keys.
    Range {
        start: Bytes,
        end: Bytes,
    },
}

/// Deletes a key or a range of keys.
pub async fn delete(args: DeleteArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let hex = args.encoding.hex;
    match doomed(&args)? {
        Doomed::Key(key) => {
            cluster.connect("kv delete").await?.delete(key.clone()).await.tried("kv delete")?;
            answer(cluster.output, "deleted", &key, args.encoding)
        }
        Doomed::Range { start, end } => {
            if !args.yes {
                confirm(&described(&args))?;
            }
            let client = cluster.connect("kv delete").await?;
            client.delete_range(&start, &end).await.tried("kv delete")?;
            if cluster.output == Format::Table {
                return Ok(());
            }
            let mut object = Map::new();
            output::insert_bytes(&mut object, "start", &start, hex);
            output::insert_bytes(&mut object, "end", &end, hex);
            object.insert("deleted".into(), json!(true));
            output::json(&object)
        }
    }
}

fn doomed(args: &DeleteArgs) -> Result<Doomed, Failure> {
    if let Some(prefix) = &args.prefix {
        let (start, end) = prefix_range(args.encoding.decode("--prefix", prefix)?);
        return Ok(Doomed::Range { start, end });
    }
    if let Some([start, end]) = args.range.as_deref() {
        let start = args.encoding.decode("START", start)?;
        let end = args.encoding.decode("END", end)?;
        return Ok(Doomed::Range { start, end });
    }
    args.encoding.decode("KEY", args.key.as_deref().unwrap_or_default()).map(Doomed::Key)
}

/// What a person is asked about.
fn described(args: &DeleteArgs) -> String {
    match (args.prefix.as_deref(), args.range.as_deref()) {
        (Some(""), _) => "all keys".into(),
        (Some(prefix), _) => format!("all keys that begin with {prefix}"),
        (None, Some([start, end])) if end.is_empty() => format!("all keys from {start} on"),
        (None, Some([start, end])) => format!("all keys from {start} up to {end}"),
        (None, _) => "the key".into(),
    }
}

/// Asks on the terminal; without one, refuses.
fn confirm(what: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "kv delete: this deletes {what} and nobody can be asked; say --yes"
        )));
    }
    let mut asked = io::stderr().lock();
    write!(asked, "Delete {what}? [y/N] ").and_then(|()| asked.flush()).tried("ask")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).tried("read the answer")?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Absent("kv delete: nothing was deleted".into())),
    }
}

/// What a change answers: nothing to people, an object to scripts.
fn answer(format: Format, done: &str, key: &[u8], encoding: Encoding) -> Result<(), Failure> {
    if format == Format::Table {
        return Ok(());
    }
    let mut object = Map::new();
    output::insert_bytes(&mut object, "key", key, encoding.hex);
    object.insert(done.into(), json!(true));
    output::json(&object)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DeleteArgs,
    }

    fn args(line: &[&str]) -> Option<DeleteArgs> {
        Line::try_parse_from(["delete"].iter().chain(line)).ok().map(|line| line.args)
    }

    #[test]
    fn one_of_key_prefix_and_range_is_deleted() {
        let range = |start: &'static str, end: &'static str| Doomed::Range {
            start: start.into(),
            end: end.into(),
        };
        for (line, expected, says) in [
            (&["k"][..], Doomed::Key("k".into()), "the key"),
            (&["--prefix", "a"], range("a", "b"), "all keys that begin with a"),
            (&["--prefix", ""], range("", ""), "all keys"),
            (&["--range", "a", "c"], range("a", "c"), "all keys from a up to c"),
            (&["--range", "a", ""], range("a", ""), "all keys from a on"),
        ] {
            let args = args(line).expect("parses");
            assert_eq!(doomed(&args).expect("text"), expected, "{line:?}");
            assert_eq!(described(&args), says);
        }
        for bad in [&[][..], &["k", "--prefix", "a"], &["--range", "a"], &["--yes"]] {
            assert!(args(bad).is_none(), "{bad:?}");
        }
    }
}
