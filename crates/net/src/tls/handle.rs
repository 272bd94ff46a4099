//! The configuration of the moment. The files are read again all the time: what changed is taken
//! for the connections that follow, and what cannot be used is logged and left, with the files of
//! before in use.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use super::files::{Contents, Loaded, TlsError, TlsFiles};
use crate::principal::{CertRole, Principal};

/// How often the files are read. Files that are replaced one by one do not fit together for a
/// moment, so only what is the same twice is complained of.
const READ_INTERVAL: Duration = Duration::from_millis(400);

/// What a process shows to others and checks them by. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    files: TlsFiles,
    loaded: RwLock<Arc<Loaded>>,
}

impl Tls {
    /// Reads and checks the files, and goes on reading them while this or a clone lives.
    ///
    /// # Errors
    /// A file cannot be read, or others would refuse what it says.
    pub fn load(files: TlsFiles) -> Result<Tls, TlsError> {
        let contents = files.read()?;
        let loaded = RwLock::new(Arc::new(Loaded::of(&files, &contents)?));
        let shared = Arc::new(Shared { files, loaded });
        let watched = Arc::downgrade(&shared);
        let watching = thread::Builder::new().name("tls-files".into());
        if let Err(error) = watching.spawn(move || watch(&watched, contents)) {
            warn!(%error, "certificates are not read again: a thread cannot be started");
        }
        Ok(Tls(shared))
    }

    /// The same of `tls.crt`, `tls.key` and `ca.crt` in a directory.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Tls, TlsError> {
        Tls::load(TlsFiles::in_dir(dir.as_ref()))
    }

    /// Whom the certificate names.
    pub fn principal(&self) -> Principal {
        self.current().principal
    }

    /// Checks that the certificate is one of this role that others may meet at `addr`,
    /// `HOST:PORT`, and, if it names an id, of this one. An id that is not known yet is None.
    ///
    /// # Errors
    /// [`TlsError::Role`] or [`TlsError::Host`].
    pub fn check_server(
        &self,
        role: CertRole,
        id: Option<u64>,
        addr: &str,
    ) -> Result<(), TlsError> {
        let (loaded, path) = (self.current(), self.0.files.cert.clone());
        let wanted = Principal { role, id };
        if !loaded.principal.speaks_for(wanted) {
            return Err(TlsError::Role { path, names: loaded.principal, wanted });
        }
        let host = host(addr);
        if !loaded.names_host(host) {
            return Err(TlsError::Host { path, host: host.to_string() });
        }
        Ok(())
    }

    /// What the files say at this moment.
    pub(crate) fn current(&self) -> Arc<Loaded> {
        self.0.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The host of `HOST:PORT`, an IPv6 address without its brackets.
pub(crate) fn host(addr: &str) -> &str {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Reads the files again and again until nobody uses them.
fn watch(shared: &Weak<Shared>, mut used: Contents) {
    let mut refused: Option<(Result<Contents, TlsError>, Told)> = None;
    loop {
        thread::sleep(READ_INTERVAL);
        let Some(shared) = shared.upgrade() else { return };
        let read = shared.files.read();
        if read.as_ref().is_ok_and(|read| *read == used) {
            refused = None;
            continue;
        }
        let told = match refused.take() {
            Some((last, told)) if last == read => told,
            _ => Told::No,
        };
        let loaded = match &read {
            Ok(contents) => Loaded::of(&shared.files, contents),
            Err(error) => Err(error.clone()),
        };
        match (loaded, read) {
            (Ok(loaded), Ok(contents)) => {
                info!(names = %loaded.principal, "the certificates changed, and are used from now");
                *shared.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                used = contents;
            }
            (Ok(_), Err(_)) => {}
            (Err(error), read) => {
                if told == Told::Once {
                    warn!(%error, "the new certificates are refused; those of before stay in use");
                }
                refused = Some((read, told.next()));
            }
        }
    }
}

/// Whether the log knows that files are refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// They were seen for the first time.
    No,
    /// They are the same as the last time, and worth a line.
    Once,
    /// The line is written.
    Yes,
}

impl Told {
    fn next(self) -> Told {
        match self {
            Told::No => Told::Once,
            Told::Once | Told::Yes => Told::Yes,
        }
    }
}

/// Of a process there is one, and two of the same files are the same.
impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        self.0.files == other.0.files
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.0.files).finish_non_exhaustive()
    }
}
