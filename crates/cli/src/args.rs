//! How arguments are read: keys, sizes, labels, addresses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use flotilla_client::{Client, PdClient, Tls, TlsFiles};
use flotilla_net::tls::Security;
use flotilla_types::keys::prefix_end;

use crate::failure::{Failure, Tried};

/// Which cluster to talk to, and how to print results.
#[derive(Args, Clone)]
pub struct ClusterArgs {
    /// Addresses of placement drivers; for kv commands of stores, too, which serve without one
    #[arg(long, global = true, env = "FLOTILLA_PD", default_value = "127.0.0.1:2379")]
    #[arg(value_name = "HOST:PORT[,...]", value_delimiter = ',', value_parser = address)]
    #[arg(help_heading = "Cluster")]
    pub pd: Vec<String>,
    /// Connect to VIA to reach the server that is known as ADDR, as behind a translation of
    /// addresses, and in tests over proxies
    #[arg(long, global = true, env = "FLOTILLA_DIAL", value_name = "ADDR=VIA[,...]")]
    #[arg(value_delimiter = ',', value_parser = dial, hide_short_help = true)]
    #[arg(help_heading = "Cluster")]
    pub dial: Vec<(String, String)>,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// How long a read or a write may take [default: 10s]
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    #[arg(hide_short_help = true, help_heading = "Cluster")]
    pub request_timeout: Option<Duration>,
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    #[arg(help_heading = "Cluster")]
    pub output: Format,
}

impl ClusterArgs {
    /// A client of the cluster; `what` is the command that needs it, for the error's text.
    pub async fn connect(&self, what: &str) -> Result<Client, Failure> {
        let mut client = Client::builder().endpoints(&self.pd);
        if let Some(timeout) = self.request_timeout {
            client = client.request_timeout(timeout);
        }
        if let Some(tls) = self.tls.load()? {
            client = client.tls(tls);
        }
        client.connect().await.tried(what)
    }

    /// A client of the placement driver alone; connects at its first call.
    pub fn pd_client(&self, what: &str) -> Result<PdClient, Failure> {
        PdClient::secured(&self.pd, self.tls.load()?).tried(what)
    }
}

/// The certificates of this process.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsArgs {
    /// Use TLS for all that is served and called, with tls.crt, tls.key and ca.crt in DIR, which
    /// are read again while they change; see `flotilla cert`
    #[arg(long, global = true, env = "FLOTILLA_TLS_DIR", value_name = "DIR")]
    #[arg(help_heading = "Cluster")]
    tls_dir: Option<PathBuf>,
    /// The certificate, if it is not in --tls-dir
    #[arg(long, global = true, env = "FLOTILLA_TLS_CERT", value_name = "FILE")]
    #[arg(hide_short_help = true, help_heading = "Cluster")]
    tls_cert: Option<PathBuf>,
    /// Its key, likewise
    #[arg(long, global = true, env = "FLOTILLA_TLS_KEY", value_name = "FILE")]
    #[arg(hide_short_help = true, help_heading = "Cluster")]
    tls_key: Option<PathBuf>,
    /// The certificate of the authority that others are checked by, likewise
    #[arg(long, global = true, env = "FLOTILLA_TLS_CA", value_name = "FILE")]
    #[arg(hide_short_help = true, help_heading = "Cluster")]
    tls_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// The certificates; None if none are named.
    pub fn load(&self) -> Result<Option<Tls>, Failure> {
        let Some(files) = self.files()? else { return Ok(None) };
        Tls::load(files).map(Some).map_err(|error| Failure::Usage(error.to_string()))
    }

    /// What a server asks of those who connect.
    pub fn security(&self, insecure: bool) -> Result<Security, Failure> {
        match (self.load()?, insecure) {
            (Some(_), true) => {
                Err(Failure::Usage("--insecure is for servers without certificates".into()))
            }
            (Some(tls), false) => Ok(Security::Tls(tls)),
            (None, true) => Ok(Security::Insecure),
            (None, false) => Ok(Security::LoopbackOnly),
        }
    }

    fn files(&self) -> Result<Option<TlsFiles>, Failure> {
        let in_dir = self.tls_dir.as_deref().map(TlsFiles::in_dir);
        let single = [&self.tls_cert, &self.tls_key, &self.tls_ca];
        let [cert, key, ca] = single.map(Clone::clone);
        match (in_dir, cert, key, ca) {
            (None, None, None, None) => Ok(None),
            (None, Some(cert), Some(key), Some(ca)) => Ok(Some(TlsFiles { cert, key, ca })),
            (None, ..) => Err(Failure::Usage(
                "TLS needs all of --tls-cert, --tls-key and --tls-ca, or --tls-dir".into(),
            )),
            (Some(dir), cert, key, ca) => Ok(Some(TlsFiles {
                cert: cert.unwrap_or(dir.cert),
                key: key.unwrap_or(dir.key),
                ca: ca.unwrap_or(dir.ca),
            })),
        }
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, and raw bytes for pipes
    Table,
    /// For scripts
    Json,
}

/// Whether keys and values on the command line are text or hex digits.
#[derive(Args, Clone, Copy, Debug)]
pub struct Encoding {
    /// Keys and values are hex digits, in arguments and in what is printed
    #[arg(long)]
    pub hex: bool,
}

impl Encoding {
    /// The bytes that `text`, the argument called `name`, stands for.
    pub fn decode(self, name: &str, text: &str) -> Result<Bytes, Failure> {
        if !self.hex {
            return Ok(Bytes::copy_from_slice(text.as_bytes()));
        }
        hex::decode(text)
            .map(Bytes::from)
            .map_err(|error| Failure::Usage(format!("{name} is not hex: {error}; see --hex")))
    }
}

/// The first key that begins with `prefix`, and the first that is greater than all that do; the
/// latter is empty if there is none.
pub fn prefix_range(prefix: Bytes) -> (Bytes, Bytes) {
    let end = prefix_end(&prefix);
    (prefix, end)
}

/// Where a server listens, and what others call.
#[derive(Args)]
pub struct ListenArgs {
    /// Address to listen on, and to be known by unless --advertise-addr is given
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub addr: String,
    /// Address that others are to call: needed if --addr stands for all addresses of the machine,
    /// as 0.0.0.0 does
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub advertise_addr: Option<String>,
    #[command(flatten)]
    pub insecure: InsecureArg,
}

/// Leave to listen without TLS.
#[derive(Args, Clone, Copy)]
pub struct InsecureArg {
    /// Listen on any address without TLS: whoever reaches it may read and change everything
    #[arg(long, env = "FLOTILLA_INSECURE")]
    pub insecure: bool,
}

/// Reads `HOST:PORT`.
pub fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_string())
        }
        _ => Err("expected HOST:PORT, such as 127.0.0.1:2379".into()),
    }
}

/// Reads `ADDR=VIA`, each `HOST:PORT`.
pub fn dial(text: &str) -> Result<(String, String), String> {
    let (addr, via) = text.split_once('=').ok_or("expected ADDR=VIA, each HOST:PORT")?;
    Ok((address(addr)?, address(via)?))
}

/// Reads a size such as `65536`, `64KiB`, `96MiB` or `1GiB`.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit: u64 = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("expected a number of bytes, or one with KiB, MiB or GiB".into()),
    };
    let number: u64 = text[..digits].parse().map_err(|_| "expected a number first".to_string())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_string())
}

/// Reads a time such as `500ms`, `60s` or `5m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit_ms: u64 = match text[digits..].trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err("expected a number with ms, s or m, such as 60s".into()),
    };
    let number: u64 = text[..digits].parse().map_err(|_| "expected a number first".to_string())?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| "too large".to_string())
}

/// The least split size: smaller regions would hold little more than one small row each.
const REGION_BYTES_MIN: u64 = 1024;

/// The least memory for pages or for one checkpoint: with less, redb evicts pages all the time.
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// Reads the size of a cache or a buffer.
pub fn memory_bytes(text: &str) -> Result<usize, String> {
    match size(text)? {
        bytes if bytes < MEMORY_BYTES_MIN => Err(format!("at least {MEMORY_BYTES_MIN} bytes")),
        bytes => usize::try_from(bytes).map_err(|_| "too large".to_string()),
    }
}

/// The least memory of a store: less leaves no room for a checkpoint of a MiB.
const STORE_MEMORY_BYTES_MIN: u64 = 16 * MEMORY_BYTES_MIN;

/// Reads the size of what a store may hold.
pub fn store_memory_bytes(text: &str) -> Result<usize, String> {
    match size(text)? {
        bytes if bytes < STORE_MEMORY_BYTES_MIN => {
            Err(format!("at least {STORE_MEMORY_BYTES_MIN} bytes"))
        }
        bytes => usize::try_from(bytes).map_err(|_| "too large".to_string()),
    }
}

/// Reads the size at which regions split.
pub fn region_bytes(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes < REGION_BYTES_MIN => Err(format!("at least {REGION_BYTES_MIN} bytes")),
        bytes => Ok(bytes),
    }
}

/// Reads how many replicas a region has.
pub fn replicas(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(count @ (1 | 3 | 5)) => Ok(count),
        _ => Err("expected 1, 3 or 5".into()),
    }
}

/// Reads `NAME=VALUE`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected NAME=VALUE, such as zone=a".into()),
    }
}

/// The labels as a map; one given twice is a mistake.
pub fn label_map(labels: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (name, value) in labels {
        if map.insert(name.clone(), value).is_some() {
            return Err(Failure::Usage(format!("--label {name} is given twice; give it once")));
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("96 MiB"), Ok(96 << 20));
        for bad in ["", "KiB", "-1", "1.5MiB", "1MB", "99999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(region_bytes("1000").is_err());
        assert_eq!(memory_bytes("1MiB"), Ok(1 << 20));
        assert!(memory_bytes("1023KiB").is_err());
        assert_eq!(store_memory_bytes("16MiB"), Ok(16 << 20));
        assert!(store_memory_bytes("15MiB").is_err());
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "60", "1h", "-1s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["127.0.0.1:0", "localhost:2379", "[::1]:2379"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["localhost", ":2379", "host:", "host:99999", ""] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_way_to_an_address_is_two_addresses() {
        assert_eq!(dial("s1:1=127.0.0.1:2"), Ok(("s1:1".into(), "127.0.0.1:2".into())));
        for bad in ["s1:1", "s1:1=", "s1=127.0.0.1:2"] {
            assert!(dial(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hex_is_asked_for() {
        assert_eq!(Encoding { hex: false }.decode("KEY", "6b").expect("text"), "6b");
        assert_eq!(Encoding { hex: true }.decode("KEY", "6b").expect("hex"), "k");
        assert!(Encoding { hex: true }.decode("KEY", "6").is_err());
    }

    #[test]
    fn replicas_are_an_odd_number_up_to_five() {
        assert_eq!(replicas("5"), Ok(5));
        for bad in ["0", "2", "4", "7", "three", ""] {
            assert!(replicas(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_label_given_twice_is_refused() {
        let twice = vec![("zone".into(), "a".into()), ("zone".into(), "b".into())];
        assert!(label_map(twice).is_err());
        assert!(label("=a").is_err());
    }
}
