//! What a data directory says about itself: whose it is, and the format of what is in it.
//!
//! The label is the text of the directory's lock file:
//!
//! ```text
//!   flotilla pd 1               or "flotilla store"
//!   format 1                    missing in directories of the first versions, which wrote format 1
//!   created by flotilla 0.1.0   for people
//! ```
//!
//! A store's id is not in its label, because the placement driver gives it out after the directory
//! was opened; it stands in the store's own records.

use std::fmt;

/// The format of the directories that this version writes, and the only one that it reads.
const FORMAT: u64 = 1;

/// Characters of another program's lock file that a refusal repeats.
const FOUND_CHARS_MAX: usize = 40;

/// Who uses a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A store.
    Store,
    /// The member of the placement driver with this id.
    Pd {
        /// Never 0.
        id: u64,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Store => f.write_str("flotilla store"),
            Owner::Pd { id } => write!(f, "flotilla pd {id}"),
        }
    }
}

/// The text of a new directory's label.
pub(super) fn write(owner: Owner) -> String {
    format!("{owner}\nformat {FORMAT}\ncreated by flotilla {}\n", env!("CARGO_PKG_VERSION"))
}

/// Checks that `text` is a label of `owner` in a format that can be read. The error says what does
/// not fit.
pub(super) fn check(text: &str, owner: Owner) -> Result<(), String> {
    let found = text.lines().next().unwrap_or_default();
    if !found.starts_with("flotilla ") {
        return Err(format!(
            "its lock file says '{}', so it is another program's; nothing in it was changed. Name \
             an empty directory or a new one",
            found.chars().take(FOUND_CHARS_MAX).collect::<String>()
        ));
    }
    if found != owner.to_string() {
        return Err(refusal(found, owner));
    }
    let format = text.lines().find_map(|line| line.strip_prefix("format "));
    match format.map_or(Ok(FORMAT), str::parse) {
        Ok(FORMAT) => Ok(()),
        _ => Err(format!(
            "its format is {}, and this version reads format {FORMAT} only; use the version that \
             wrote it, or a later one",
            format.unwrap_or_default()
        )),
    }
}

/// Says that a directory is another owner's.
pub(super) fn refusal(found: &str, owner: Owner) -> String {
    format!(
        "it belongs to '{found}', not to '{owner}'; nothing in it was changed. Each server needs a \
         directory of its own: see --dir and --id"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PD: Owner = Owner::Pd { id: 1 };

    #[test]
    fn a_label_fits_its_owner_and_nobody_else() {
        for owner in [Owner::Store, PD] {
            assert_eq!(check(&write(owner), owner), Ok(()));
        }
        for (theirs, ours) in [(PD, Owner::Store), (Owner::Store, PD), (Owner::Pd { id: 12 }, PD)] {
            let error = check(&write(theirs), ours).expect_err("another owner");
            let expected = format!("it belongs to '{theirs}', not to '{ours}'; nothing");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn the_first_versions_label_is_read_and_a_later_format_is_refused() {
        assert_eq!(check("flotilla pd 1\n", PD), Ok(()));
        for format in ["2", "one", ""] {
            let error = check(&format!("flotilla pd 1\nformat {format}\n"), PD);
            assert!(error.expect_err("unknown").contains("this version reads format 1 only"));
        }
    }
}
