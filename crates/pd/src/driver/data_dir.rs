//! The data directory of one member of the placement driver.
//!
//! Stands on [`flotilla_host::driver::dir`]. A member's directory has always had a label, written
//! when log and state exist. So a directory without a label was never used for anything: both are
//! empty in it, or it is refused.

use std::path::Path;

use flotilla_host::driver::dir::{DataDir, DirError, DirOptions};
use flotilla_host::driver::label::Owner;

/// Opens the directory of member `id`, creating it if it is not there.
pub(crate) fn open(path: &Path, id: u64) -> Result<DataDir, DirError> {
    let mut dir = DataDir::open(path, Owner::Pd { id }, DirOptions::default())?;
    dir.check_labelled_or_unused()?;
    dir.claim()?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn claim_error(dir: &Path, id: u64) -> String {
        open(dir, id).err().expect("refused").to_string()
    }

    #[test]
    fn a_directory_is_one_members_and_one_processs() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = open(dir.path(), 1).expect("new");
        assert!(claim_error(dir.path(), 1).contains("in use"));
        drop(first);
        assert!(claim_error(dir.path(), 2).contains("belongs to 'flotilla pd 1'"));
        drop(open(dir.path(), 1).expect("the same member again"));
    }

    #[test]
    fn a_directory_that_is_not_whole_is_refused() {
        for (missing, is_dir) in [("state.redb", false), ("log", true)] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            drop(open(dir.path(), 1).expect("new"));
            let path = dir.path().join(missing);
            let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.expect("removed");
            assert!(claim_error(dir.path(), 1).contains(missing));
        }
    }

    #[test]
    fn data_of_nobody_is_refused_and_an_interrupted_creation_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = open(dir.path(), 1).expect("new");
        let mut batch = flotilla_engine::StateBatch::default();
        batch.put("a", "1");
        first.state.write(batch).expect("written");
        drop(first);
        fs::write(dir.path().join("LOCK"), "").expect("the name is gone");
        let first = open(dir.path(), 1).expect("nothing was flushed, so it is unused");
        let mut batch = flotilla_engine::StateBatch::default();
        batch.put("a", "1");
        first.state.write(batch).expect("written");
        assert!(first.state.freeze());
        first.state.flush().expect("flushed");
        drop(first);
        fs::write(dir.path().join("LOCK"), "").expect("the name is gone");
        assert!(claim_error(dir.path(), 1).contains("does not say whose"));
    }
}
