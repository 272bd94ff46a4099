//! Makes an authority and certificates: for `flotilla cert`, the playground with TLS, and tests.
//!
//! In: directories, and whom a certificate is to name. Out: files in PEM. Keys are of ECDSA on
//! P-256, in files that only their owner reads. No file is written over.
//!
//! Not here: how certificates are used (`tls/`), or replaced.

use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use webpki::anchor_from_trusted_cert;

use crate::principal::Principal;
use crate::tls::files::{CA_FILE, CERT_FILE, KEY_FILE};

/// The authority's key in its directory.
pub const CA_KEY_FILE: &str = "ca.key";

/// How long an authority is valid unless said otherwise: replacing it touches every machine.
pub const CA_VALID_FOR: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// How long a certificate is valid unless said otherwise.
pub const VALID_FOR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A certificate is valid from so long before it is made, for clocks differ.
const CLOCKS_DIFFER_BY_MAX: Duration = Duration::from_secs(5 * 60);

/// What stands before the digits in an authority's name.
const CA_NAME: &str = "Flotilla CA ";

/// Digits that tell two authorities apart.
const CA_DIGITS: usize = 16;

/// A server is called by this machine itself, too: by the commands run there, and by the HTTP API
/// beside it.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate to be made.
#[derive(Clone, Debug)]
pub struct NewCertificate {
    /// Whom it names.
    pub principal: Principal,
    /// Names and addresses by which others call its holder, beside those of loopback.
    pub hosts: Vec<String>,
    /// How long it is valid.
    pub valid_for: Duration,
}

/// Why no certificate was made. Files that were there are as they were.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// The file is there, and is not written over.
    #[error("{} exists, and is not written over; choose another directory", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The directory has no authority that was made here.
    #[error("{}: {reason}; make one with `flotilla cert create-ca`", .path.display())]
    NoAuthority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate cannot say that.
    #[error("no certificate can be made for this: {reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
}

impl From<rcgen::Error> for CertsError {
    fn from(error: rcgen::Error) -> CertsError {
        CertsError::Invalid { reason: error.to_string() }
    }
}

/// Makes an authority: `ca.crt`, which everybody gets, and `ca.key`, which nobody gets.
///
/// # Errors
/// One of the files exists, or cannot be written.
pub fn create_ca(dir: &Path, valid_for: Duration) -> Result<(), CertsError> {
    let (cert_path, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
    check_absent(&[&cert_path, &key_path])?;
    let number = RandomState::new().hash_one(SystemTime::now());
    let mut params = authority(&format!("{CA_NAME}{number:0CA_DIGITS$x}"));
    let now = SystemTime::now();
    params.not_before = (now - CLOCKS_DIFFER_BY_MAX).into();
    params.not_after = (now + valid_for).into();
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    create_dir(dir)?;
    write_key(&key_path, &key)?;
    write(&cert_path, certificate.pem().as_bytes(), 0o644)
}

/// Makes a certificate of the authority in `ca`: `tls.crt`, `tls.key`, and a copy of `ca.crt`.
///
/// # Errors
/// One of the files exists or cannot be written; the authority cannot be read; a host is no name
/// or address.
pub fn create(ca: &Path, dir: &Path, new: &NewCertificate) -> Result<(), CertsError> {
    let paths = [CERT_FILE, KEY_FILE, CA_FILE].map(|name| dir.join(name));
    let [cert_path, key_path, ca_path] = &paths;
    check_absent(&[cert_path, key_path, ca_path])?;
    let (issuer, ca_pem) = read_authority(ca)?;
    let mut params = params(new)?;
    let now = SystemTime::now();
    params.not_before = (now - CLOCKS_DIFFER_BY_MAX).into();
    params.not_after = (now + new.valid_for).into();
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    create_dir(dir)?;
    write_key(key_path, &key)?;
    write(cert_path, certificate.pem().as_bytes(), 0o644)?;
    write(ca_path, ca_pem.as_bytes(), 0o644)
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(new: &NewCertificate) -> Result<CertificateParams, CertsError> {
    let role = new.principal.role;
    let own = new.hosts.iter().map(String::as_str);
    let mut hosts: Vec<String> = vec![];
    for host in own.chain(LOOPBACK) {
        if !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_string());
        }
    }
    let mut params = CertificateParams::new(hosts)?;
    let uri = Ia5String::try_from(new.principal.uri())?;
    params.subject_alt_names.push(SanType::URI(uri));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Flotilla");
    params.distinguished_name.push(DnType::CommonName, format!("flotilla {}", role.name()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The authority as it signs, and its certificate in PEM. Its name is all that is read from the
/// certificate, so only those that [`create_ca`] has made are taken.
fn read_authority(dir: &Path) -> Result<(Issuer<'static, KeyPair>, String), CertsError> {
    let (cert_path, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
    let read = |path: &Path| {
        let reason = |error: io::Error| no_authority(path, &error.to_string());
        fs::read_to_string(path).map_err(reason)
    };
    let (pem, key) = (read(&cert_path)?, read(&key_path)?);
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
    let certificate =
        certificate.map_err(|error| no_authority(&cert_path, &format!("not PEM: {error}")))?;
    let anchor = anchor_from_trusted_cert(&certificate)
        .map_err(|error| no_authority(&cert_path, &error.to_string()))?;
    let name = ca_name(anchor.subject.as_ref());
    let name = name.ok_or_else(|| no_authority(&cert_path, "it was made by another program"))?;
    let key = KeyPair::from_pem(&key)
        .map_err(|error| no_authority(&key_path, &format!("not a key: {error}")))?;
    if !anchor.subject_public_key_info.as_ref().ends_with(key.public_key_raw()) {
        return Err(no_authority(&key_path, "not the key of the authority beside it"));
    }
    Ok((Issuer::new(authority(&name), key), pem))
}

/// The name is the last of the subject's bytes.
fn ca_name(subject: &[u8]) -> Option<String> {
    let bytes = subject.get(subject.len().checked_sub(CA_NAME.len() + CA_DIGITS)?..)?;
    let name = std::str::from_utf8(bytes).ok()?;
    name.starts_with(CA_NAME).then(|| name.to_string())
}

fn no_authority(path: &Path, reason: &str) -> CertsError {
    CertsError::NoAuthority { path: path.to_path_buf(), reason: reason.to_string() }
}

fn check_absent(paths: &[&PathBuf]) -> Result<(), CertsError> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(CertsError::Exists { path: path.to_path_buf() }),
        None => Ok(()),
    }
}

fn create_dir(dir: &Path) -> Result<(), CertsError> {
    fs::create_dir_all(dir).map_err(|error| CertsError::Io { path: dir.to_path_buf(), error })
}

fn write_key(path: &Path, key: &KeyPair) -> Result<(), CertsError> {
    write(path, key.serialize_pem().as_bytes(), 0o600)
}

/// Writes a file that must not exist.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertsError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| CertsError::Io { path: path.to_path_buf(), error })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::principal::CertRole;
    use crate::tls::Tls;

    fn new(role: CertRole, id: Option<u64>, valid_secs: u64) -> NewCertificate {
        let (principal, hosts) = (Principal { role, id }, vec!["db-1".to_string()]);
        NewCertificate { principal, hosts, valid_for: Duration::from_secs(valid_secs) }
    }

    #[test]
    fn two_commands_make_a_set_that_works_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ca, store) = (dir.path().join("ca"), dir.path().join("store"));
        create_ca(&ca, CA_VALID_FOR).expect("an authority");
        create(&ca, &store, &new(CertRole::Store, Some(3), 60)).expect("a certificate");
        let tls = Tls::from_dir(&store).expect("usable");
        let principal = Principal { role: CertRole::Store, id: Some(3) };
        assert_eq!(tls.principal(), principal);
        for host in ["db-1:20161", "127.0.0.1:1", "[::1]:1", "localhost:1"] {
            assert_eq!(tls.check_server(CertRole::Store, Some(3), host), Ok(()), "{host}");
        }
        assert!(tls.check_server(CertRole::Store, Some(3), "db-2:20161").is_err());
        assert!(tls.check_server(CertRole::Store, Some(4), "db-1:20161").is_err());
        assert!(tls.check_server(CertRole::Pd, Some(3), "db-1:20161").is_err());
        for key in [ca.join(CA_KEY_FILE), store.join(KEY_FILE)] {
            let mode = fs::metadata(key).expect("the key").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let exists = |error| matches!(error, CertsError::Exists { .. });
        assert!(exists(create_ca(&ca, CA_VALID_FOR).expect_err("it is there")));
        let again = create(&ca, &store, &new(CertRole::Pd, None, 60));
        assert!(exists(again.expect_err("it is there")));
        assert_eq!(Tls::from_dir(&store).expect("as before").principal(), principal);
    }

    #[test]
    fn what_others_would_refuse_is_refused_with_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        create_ca(&at("ca"), CA_VALID_FOR).expect("an authority");
        create_ca(&at("other"), CA_VALID_FOR).expect("an authority");
        create(&at("ca"), &at("late"), &new(CertRole::Client, None, 0)).expect("a certificate");
        create(&at("ca"), &at("good"), &new(CertRole::Client, None, 60)).expect("a certificate");
        create(&at("other"), &at("else"), &new(CertRole::Pd, None, 60)).expect("a certificate");
        std::thread::sleep(Duration::from_millis(1_100));
        let fault = |dir: PathBuf| Tls::from_dir(dir).expect_err("refused").to_string();
        assert!(fault(at("late")).contains("tls.crt: the certificate has expired"));
        fs::copy(at("ca").join(CA_FILE), at("else").join(CA_FILE)).expect("copy");
        assert!(fault(at("else")).contains("was not made by the authority in"));
        fs::copy(at("late").join(KEY_FILE), at("good").join(KEY_FILE)).expect("copy");
        let words = fault(at("good"));
        assert!(words.contains("tls.key: not the key of"), "{words}");
        fs::write(at("good").join(CERT_FILE), "nothing").expect("write");
        assert!(fault(at("good")).contains("tls.crt: holds no certificate"));
        assert!(fault(at("none")).contains("none/tls.crt: No such file"));
        // An authority whose key is another's signs nothing.
        fs::copy(at("other").join(CA_KEY_FILE), at("ca").join(CA_KEY_FILE)).expect("copy");
        let refused = create(&at("ca"), &at("new"), &new(CertRole::Client, None, 60));
        assert!(matches!(refused, Err(CertsError::NoAuthority { .. })));
        assert!(!at("new").exists());
    }
}
