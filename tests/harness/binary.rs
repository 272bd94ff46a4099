//! Where the binary under test is.
//!
//! Cargo tells only the package of a binary where it was built, so the tests look for it beside
//! themselves: `target/<profile>/deps/<test>` and `target/<profile>/flotilla`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of an up-to-date `flotilla`. The first call of a process asks cargo to build it in the
/// profile of the running test, which does nothing if it is up to date. The environment variable
/// `FLOTILLA_BIN` names another binary instead.
pub fn flotilla() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match env::var_os("FLOTILLA_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

/// The workspace's root.
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests' package lies in the workspace")
}

fn build() -> PathBuf {
    let test = env::current_exe().expect("the path of the running test");
    let profile_dir = test.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The whole workspace is selected so that cargo unites the same features as it did for the
    // tests and finds every dependency built.
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bin", "flotilla", "--profile", profile])
        .current_dir(workspace())
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "cargo build of the binary under test failed: {status}");
    let path = profile_dir.join("flotilla");
    assert!(path.exists(), "{} is missing after cargo built it", path.display());
    path
}
