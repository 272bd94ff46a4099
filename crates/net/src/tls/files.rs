//! The three files of TLS: a certificate, its key, and the authority that others are checked by.
//!
//! In: paths. Out: configurations of rustls, or what is wrong with which file. A certificate that
//! others would refuse is refused here, where its file can be named.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::principal::Principal;

/// The authority's certificate in a directory: the names of a Kubernetes secret of type TLS.
pub const CA_FILE: &str = "ca.crt";

/// The certificate in a directory.
pub const CERT_FILE: &str = "tls.crt";

/// The certificate's key in a directory.
pub const KEY_FILE: &str = "tls.key";

/// Where the files are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate that this process shows, and those between it and the authority's.
    pub cert: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// The authority's certificate, by which others are checked; several while it is replaced.
    pub ca: PathBuf,
}

impl TlsFiles {
    /// `tls.crt`, `tls.key` and `ca.crt` of a directory.
    pub fn in_dir(dir: &Path) -> TlsFiles {
        TlsFiles { cert: dir.join(CERT_FILE), key: dir.join(KEY_FILE), ca: dir.join(CA_FILE) }
    }

    /// The bytes of the files.
    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        let read = |path: &Path| {
            let what = |error: std::io::Error| TlsError::of(path, error.to_string());
            fs::read(path).map_err(what)
        };
        Ok(Contents { cert: read(&self.cert)?, key: read(&self.key)?, ca: read(&self.ca)? })
    }
}

/// What is wrong with a file, or with what it says. Nothing was opened or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or says nothing that TLS can use.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate is another role's, or another store's or member's.
    #[error("certificate {} names {names}, and this is {wanted}", .path.display())]
    Role {
        /// The certificate's file.
        path: PathBuf,
        /// Whom it names.
        names: Principal,
        /// Whom it should name.
        wanted: Principal,
    },
    /// The certificate does not name the address that others call this process by.
    #[error(
        "certificate {} is not valid for {host:?}, by which others call this process",
        .path.display()
    )]
    Host {
        /// The certificate's file.
        path: PathBuf,
        /// The name or address.
        host: String,
    },
}

impl TlsError {
    pub(super) fn of(path: &Path, reason: impl Into<String>) -> TlsError {
        TlsError::File { path: path.to_path_buf(), reason: reason.into() }
    }
}

/// The bytes of the files.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

/// What the files say.
pub(crate) struct Loaded {
    /// Whom the certificate names.
    pub(crate) principal: Principal,
    /// To be called by our own protocol.
    pub(crate) calls: Arc<ServerConfig>,
    /// To be called by HTTP/1.1.
    pub(crate) http: Arc<ServerConfig>,
    /// To call others.
    pub(crate) client: Arc<ClientConfig>,
    certificate: CertificateDer<'static>,
}

impl Loaded {
    /// Checks what the files say as others would, now.
    pub(super) fn of(files: &TlsFiles, contents: &Contents) -> Result<Loaded, TlsError> {
        let chain = certificates(&files.cert, &contents.cert)?;
        let certificate = chain[0].clone();
        let authorities = certificates(&files.ca, &contents.ca)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key);
        let key =
            key.map_err(|error| TlsError::of(&files.key, format!("not a key in PEM: {error}")))?;
        let provider = Arc::new(ring::default_provider());
        check_chain(files, &provider, &chain, &authorities)?;
        let certified = CertifiedKey::from_der(chain, key, &provider);
        let certified = certified.map_err(|error| {
            let cert = files.cert.display();
            TlsError::of(&files.key, format!("not the key of {cert}: {error}"))
        })?;
        let principal = Principal::of_certificate(&certificate)
            .map_err(|error| TlsError::of(&files.cert, format!("the certificate {error}")))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities);
        let key = Arc::new(SingleCertAndKey::from(certified));
        let configs = configs(&provider, Arc::new(roots), key);
        let (client, calls) =
            configs.map_err(|error| TlsError::of(&files.ca, error.to_string()))?;
        let mut http = calls.clone();
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (client, calls, http) = (Arc::new(client), Arc::new(calls), Arc::new(http));
        Ok(Loaded { principal, calls, http, client, certificate })
    }

    /// True if the certificate is valid for this name or address.
    pub(super) fn names_host(&self, host: &str) -> bool {
        let name = ServerName::try_from(host);
        let certificate = EndEntityCert::try_from(&self.certificate);
        match (name, certificate) {
            (Ok(name), Ok(certificate)) => {
                certificate.verify_is_valid_for_subject_name(&name).is_ok()
            }
            _ => false,
        }
    }
}

fn configs(
    provider: &Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    key: Arc<SingleCertAndKey>,
) -> Result<(ClientConfig, ServerConfig), Box<dyn std::error::Error>> {
    let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(servers.build()?)
        .with_client_cert_resolver(key.clone());
    client.alpn_protocols = vec![b"h2".to_vec()];
    client.resumption = Resumption::disabled();
    let callers = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let mut calls = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(callers.build()?)
        .with_cert_resolver(key);
    calls.alpn_protocols = vec![b"h2".to_vec()];
    calls.session_storage = Arc::new(NoServerSessionStorage {});
    calls.send_tls13_tickets = 0;
    Ok((client, calls))
}

/// At least one certificate.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| TlsError::of(path, format!("not PEM: {error}")))?;
    if read.is_empty() {
        return Err(TlsError::of(path, "holds no certificate in PEM"));
    }
    Ok(read)
}

/// Checks the certificate against the authority, as those who are called and who call do.
fn check_chain(
    files: &TlsFiles,
    provider: &CryptoProvider,
    chain: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'_>],
) -> Result<(), TlsError> {
    let anchors: Result<Vec<_>, _> = authorities.iter().map(anchor_from_trusted_cert).collect();
    let anchors = anchors.map_err(|error| TlsError::of(&files.ca, fault(&error, &files.ca)))?;
    let wrong = |error: webpki::Error| TlsError::of(&files.cert, fault(&error, &files.ca));
    let certificate = EndEntityCert::try_from(&chain[0]).map_err(wrong)?;
    let algorithms = provider.signature_verification_algorithms.all;
    let (now, rest) = (UnixTime::now(), &chain[1..]);
    let usage = KeyUsage::client_auth();
    let path = certificate.verify_for_usage(algorithms, &anchors, rest, now, usage, None, None);
    path.map(drop).map_err(wrong)
}

/// What is wrong with a certificate that is checked against the authority in `ca`.
fn fault(error: &webpki::Error, ca: &Path) -> String {
    let day = |time: &UnixTime| {
        let secs = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(secs).map_or("?".into(), |at| at.to_string())
    };
    match error {
        webpki::Error::CertExpired { not_after, .. } => {
            format!("the certificate has expired: it was valid until {}", day(not_after))
        }
        webpki::Error::CertNotValidYet { not_before, .. } => {
            format!("the certificate is not valid yet: it will be from {} on", day(not_before))
        }
        webpki::Error::UnknownIssuer
        | webpki::Error::InvalidSignatureForPublicKey
        | webpki::Error::CaUsedAsEndEntity => {
            format!("the certificate was not made by the authority in {}", ca.display())
        }
        other => format!("the certificate is not valid: {other}"),
    }
}
