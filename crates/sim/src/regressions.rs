//! What once failed: scenarios in the files of `regressions/`, each shrunk to what the failure
//! needs.
//!
//! A file is JSON: `found` says what went wrong, `scenario` is the [`Scenario`], and `mutant` names
//! the planted bug that brings the fault back, if there is one. A file lists its acts, so a change
//! of what seeds draw leaves it alone. A file whose mutant is not caught any more has outlived the
//! world in which it found its fault, and is to be shrunk anew from a seed that catches the mutant.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::scenario::Scenario;

/// A scenario that once failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regression {
    /// What went wrong.
    pub found: String,
    /// The planted bug that brings the fault back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    /// The scenario.
    pub scenario: Scenario,
}

impl Regression {
    /// Reads a file. The error names the file and says what is wrong with it.
    pub fn read(path: &Path) -> Result<Regression, String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
        serde_json::from_str(&text).map_err(|error| named(&error))
    }

    /// The text of the regression's file.
    pub fn as_text(&self) -> String {
        serde_json::to_string_pretty(self)
            .map_or_else(|error| error.to_string(), |text| text + "\n")
    }
}

/// All regressions of a directory with their files' names, in the order of the names.
pub fn all(directory: &Path) -> Result<Vec<(String, Regression)>, String> {
    let named = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut found = vec![];
    for entry in std::fs::read_dir(directory).map_err(named)? {
        let path = entry.map_err(named)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, Regression::read(&path)?));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}
