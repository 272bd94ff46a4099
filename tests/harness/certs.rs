//! Certificates for the processes of a test, made by `flotilla cert`.

use std::path::{Path, PathBuf};

use crate::command::{self, Finished};

/// An authority and what it has made, in a directory.
pub struct Certs {
    dir: PathBuf,
}

impl Certs {
    /// A new authority.
    pub fn new(dir: PathBuf) -> Certs {
        let certs = Certs { dir };
        command::run(&["cert", "create-ca", "--dir", &certs.path("ca")]).ok();
        certs
    }

    /// Makes a certificate, with these options of `flotilla cert create` beside the directories.
    pub fn create(&self, name: &str, options: &[&str]) -> String {
        self.try_create(name, options).ok();
        self.path(name)
    }

    /// [`Certs::create`], however it ends.
    pub fn try_create(&self, name: &str, options: &[&str]) -> Finished {
        let (ca, dir) = (self.path("ca"), self.path(name));
        command::run(&[&["cert", "create", "--ca", &ca, "--dir", &dir], options].concat())
    }

    /// The directory of a certificate, for `--tls-dir`.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Puts the files of one certificate in the place of another's.
    pub fn replace(&self, name: &str, by: &str) {
        for file in ["tls.key", "tls.crt", "ca.crt"] {
            let (from, to) = (self.dir.join(by).join(file), self.dir.join(name).join(file));
            replace_file(&from, &to);
        }
    }
}

fn replace_file(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    std::fs::copy(from, &beside).expect("a file can be copied");
    std::fs::rename(&beside, to).expect("a file can be renamed");
}
