//! `flotilla cert`: an authority, and the certificates of a cluster's servers and callers.
//!
//! What a certificate says, and which files there are, is known to `flotilla_net::certs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use flotilla_net::certs::{self, CA_VALID_FOR, CertsError, NewCertificate, VALID_FOR};
use flotilla_net::principal::{CertRole, Principal};

use crate::args::duration;
use crate::failure::Failure;
use crate::output;

/// What to make.
#[derive(Subcommand)]
pub enum CertCommand {
    /// Make an authority: ca.crt, which every machine gets, and ca.key, which stays where
    /// certificates are made
    CreateCa(CreateCaArgs),
    /// Make a certificate for a server or a caller: tls.crt, tls.key and ca.crt, to be named with
    /// --tls-dir
    Create(CreateArgs),
}

/// Arguments of `flotilla cert create-ca`.
#[derive(Args)]
pub struct CreateCaArgs {
    /// Directory for ca.crt and ca.key; created if it does not exist
    #[arg(long)]
    dir: PathBuf,
    /// How long the authority is valid [default: 3650d]
    #[arg(long, value_name = "TIME", value_parser = validity)]
    valid_for: Option<Duration>,
}

/// Arguments of `flotilla cert create`.
#[derive(Args)]
pub struct CreateArgs {
    /// Directory of the authority
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Directory for the files; created if it does not exist
    #[arg(long)]
    dir: PathBuf,
    /// What its holder is: a store, a placement driver, a client (a gateway, too), or an admin, who
    /// changes the cluster
    #[arg(long, value_enum)]
    role: RoleArg,
    /// The store or the placement driver that it is made for; without it, any of the role may use
    /// it, and speak for any
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    id: Option<u64>,
    /// A name or an address by which others call its holder, beside localhost and the loopback
    /// addresses; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// How long it is valid [default: 365d]
    #[arg(long, value_name = "TIME", value_parser = validity)]
    valid_for: Option<Duration>,
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    Store,
    Pd,
    Client,
    Admin,
}

impl From<RoleArg> for CertRole {
    fn from(role: RoleArg) -> CertRole {
        match role {
            RoleArg::Store => CertRole::Store,
            RoleArg::Pd => CertRole::Pd,
            RoleArg::Client => CertRole::Client,
            RoleArg::Admin => CertRole::Admin,
        }
    }
}

/// Makes what was asked for, and says where it is.
pub fn run(command: CertCommand) -> Result<(), Failure> {
    match command {
        CertCommand::CreateCa(args) => {
            certs::create_ca(&args.dir, args.valid_for.unwrap_or(CA_VALID_FOR)).map_err(failed)?;
            output::line(&format!("made an authority in {}", args.dir.display()))?;
            output::line("keep ca.key secret: whoever has it can be anybody")
        }
        CertCommand::Create(args) => {
            let new = certificate(&args)?;
            certs::create(&args.ca, &args.dir, &new).map_err(failed)?;
            let (principal, dir) = (new.principal, args.dir.display());
            output::line(&format!("made a certificate of {principal} in {dir}"))
        }
    }
}

fn certificate(args: &CreateArgs) -> Result<NewCertificate, Failure> {
    let role = CertRole::from(args.role);
    if args.id.is_some() && !role.is_server() {
        return Err(Failure::Usage("--id: only stores and placement drivers have ids".into()));
    }
    let principal = Principal { role, id: args.id };
    let valid_for = args.valid_for.unwrap_or(VALID_FOR);
    Ok(NewCertificate { principal, hosts: args.hosts.clone(), valid_for })
}

fn failed(error: CertsError) -> Failure {
    let line = error.to_string();
    match error {
        CertsError::Exists { .. } | CertsError::NoAuthority { .. } | CertsError::Invalid { .. } => {
            Failure::Usage(line)
        }
        CertsError::Io { .. } => Failure::Server(line),
    }
}

/// Reads a time such as `12h` or `90d`, or one of [`duration`].
fn validity(text: &str) -> Result<Duration, String> {
    const HOUR_SECS: u64 = 60 * 60;
    let scaled = |number: &str, secs: u64| {
        let number: u64 = number.parse().ok()?;
        number.checked_mul(secs).filter(|secs| *secs <= VALID_SECS_MAX).map(Duration::from_secs)
    };
    let unit = text.strip_suffix('h').map(|number| (number, HOUR_SECS));
    match unit.or_else(|| text.strip_suffix('d').map(|number| (number, 24 * HOUR_SECS))) {
        Some((number, secs)) => {
            scaled(number, secs).ok_or_else(|| "expected a time such as 12h or 90d".into())
        }
        None => duration(text).map_err(|_| "expected a time such as 30m, 12h or 90d".into()),
    }
}

/// A century: what is valid for longer is a mistake.
const VALID_SECS_MAX: u64 = 100 * 366 * 24 * 60 * 60;

/// The directory of each server of a playground with TLS, and of its user. Made at its first start.
pub fn playground(dir: &Path, whom: &[(String, Principal)]) -> Result<(), Failure> {
    let (ca, now) = (dir.join("ca"), VALID_FOR);
    if !ca.exists() {
        certs::create_ca(&ca, CA_VALID_FOR).map_err(failed)?;
    }
    for (name, principal) in whom.iter().filter(|(name, _)| !dir.join(name).exists()) {
        let new = NewCertificate { principal: *principal, hosts: vec![], valid_for: now };
        certs::create(&ca, &dir.join(name), &new).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validity_is_in_days_hours_or_less() {
        assert_eq!(validity("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(validity("12h"), Ok(Duration::from_secs(43_200)));
        assert_eq!(validity("1s"), Ok(Duration::from_secs(1)));
        for bad in ["", "d", "1y", "-1d", "99999999d"] {
            assert!(validity(bad).is_err(), "{bad}");
        }
    }
}
