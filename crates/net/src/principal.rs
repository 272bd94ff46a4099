//! Whom a certificate names: a role and, where the certificate says so, which store or which member
//! of the placement driver.
//!
//! In: a certificate that was verified. Out: a [`Principal`]. It stands among the certificate's
//! subject alternative names as one URI, `flotilla://ROLE` or `flotilla://ROLE/ID`.
//!
//! Not here: what a role may do (`access.rs`).

use std::fmt;
use std::io;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

const SCHEME: &str = "flotilla://";

/// What the holder of a certificate is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertRole {
    /// A store.
    Store,
    /// A member of the placement driver.
    Pd,
    /// A program that reads and writes rows, a gateway among them.
    Client,
    /// A person or a program that changes the cluster itself.
    Admin,
}

/// The certificate says of no role, or of more than one thing, that its holder has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("names no role of Flotilla's (such as flotilla://store)")]
pub struct NamesNoRole;

/// The holder of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its role.
    pub role: CertRole,
    /// The store or the member; None if the certificate holds for any of the role.
    pub id: Option<u64>,
}

impl CertRole {
    /// Each once, in the order of the table in `access.rs`.
    pub const ALL: [CertRole; 4] =
        [CertRole::Store, CertRole::Pd, CertRole::Client, CertRole::Admin];

    /// As on the command line and in certificates.
    pub fn name(self) -> &'static str {
        match self {
            CertRole::Store => "store",
            CertRole::Pd => "pd",
            CertRole::Client => "client",
            CertRole::Admin => "admin",
        }
    }

    /// True for those that others call, and that have ids.
    pub fn is_server(self) -> bool {
        match self {
            CertRole::Store | CertRole::Pd => true,
            CertRole::Client | CertRole::Admin => false,
        }
    }
}

impl FromStr for CertRole {
    type Err = NamesNoRole;

    fn from_str(text: &str) -> Result<CertRole, NamesNoRole> {
        CertRole::ALL.into_iter().find(|role| role.name() == text).ok_or(NamesNoRole)
    }
}

impl Principal {
    /// Whom a certificate names.
    ///
    /// # Errors
    /// It names no role, or several.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Principal, NamesNoRole> {
        let certificate = EndEntityCert::try_from(certificate).map_err(|_| NamesNoRole)?;
        let mut named = certificate.valid_uri_names().filter(|name| name.starts_with(SCHEME));
        match (named.next(), named.next()) {
            (Some(name), None) => Principal::of_uri(name),
            _ => Err(NamesNoRole),
        }
    }

    /// Whom the certificate names that the other side of a connection has shown, the first of its
    /// chain.
    ///
    /// # Errors
    /// It has shown none, or one that names no role.
    pub(crate) fn of_chain(chain: Option<&[CertificateDer<'_>]>) -> io::Result<Principal> {
        match chain.and_then(<[_]>::first).map(Principal::of_certificate) {
            Some(Ok(principal)) => Ok(principal),
            Some(Err(error)) => Err(io::Error::other(format!("its certificate {error}"))),
            None => Err(io::Error::other("it shows no certificate")),
        }
    }

    fn of_uri(uri: &str) -> Result<Principal, NamesNoRole> {
        let name = uri.strip_prefix(SCHEME).ok_or(NamesNoRole)?;
        let Some((role, id)) = name.split_once('/') else {
            return Ok(Principal { role: name.parse()?, id: None });
        };
        let role = role.parse::<CertRole>()?;
        let id = id.parse::<u64>().ok().filter(|id| *id != 0 && role.is_server());
        id.map(|id| Principal { role, id: Some(id) }).ok_or(NamesNoRole)
    }

    /// The name in a certificate.
    pub fn uri(self) -> String {
        let role = self.role.name();
        match self.id {
            Some(id) => format!("{SCHEME}{role}/{id}"),
            None => format!("{SCHEME}{role}"),
        }
    }

    /// True if the holder may speak as `claimed`: as itself, or as any of its role if the
    /// certificate has no id. An id that is not known yet is nobody's.
    pub fn speaks_for(self, claimed: Principal) -> bool {
        let is_own = |own| claimed.id.is_none_or(|claimed| claimed == own);
        self.role == claimed.role && self.id.is_none_or(is_own)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.role.name(), self.id) {
            (role, Some(id)) => write!(f, "{role} {id}"),
            ("admin", None) => f.write_str("an admin"),
            (role, None) => write!(f, "a {role}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_others_are_none() {
        for role in CertRole::ALL {
            let any = Principal { role, id: None };
            assert_eq!(Principal::of_uri(&any.uri()), Ok(any));
            let one = Principal { role, id: Some(7) };
            assert_eq!(Principal::of_uri(&one.uri()).is_ok(), role.is_server(), "{one}");
        }
        for bad in ["", "flotilla://", "flotilla://stores", "flotilla://store/", "http://store/1"] {
            assert_eq!(Principal::of_uri(bad), Err(NamesNoRole), "{bad}");
        }
        assert_eq!(Principal::of_uri("flotilla://store/0"), Err(NamesNoRole));
        assert_eq!(Principal::of_uri("flotilla://store/1/2"), Err(NamesNoRole));
    }

    #[test]
    fn a_store_speaks_for_itself_only() {
        let store = |id| Principal { role: CertRole::Store, id };
        let pd = Principal { role: CertRole::Pd, id: Some(1) };
        assert!(store(Some(1)).speaks_for(store(Some(1))));
        assert!(!store(Some(1)).speaks_for(store(Some(2))));
        assert!(!store(Some(1)).speaks_for(pd));
        assert!(store(None).speaks_for(store(Some(2))), "it names no store");
        assert!(!store(None).speaks_for(pd));
        assert!(store(Some(1)).speaks_for(store(None)), "a new store has no id yet");
    }
}
