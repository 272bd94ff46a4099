//! What happened and when, as a file that one can read: a line for each event, with the seconds
//! since the run began.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The file, and what was found wrong so far.
pub struct Timeline {
    began: Instant,
    file: Mutex<File>,
    wrong: Mutex<Vec<String>>,
}

impl Timeline {
    /// Begins now.
    pub fn begin(path: &Path) -> io::Result<Timeline> {
        let file = Mutex::new(File::create(path)?);
        Ok(Timeline { began: Instant::now(), file, wrong: Mutex::default() })
    }

    /// Notes an event.
    pub fn note(&self, event: impl AsRef<str>) {
        let at = self.began.elapsed().as_secs_f64();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not end the run that it is to be seen in.
        let _ = writeln!(file, "{at:9.3}  {}", event.as_ref());
    }

    /// Notes something that must not be.
    pub fn wrong(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format!("WRONG: {what}"));
        eprintln!("wrong, after {:.1} s: {what}", self.began.elapsed().as_secs_f64());
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// All that was found wrong.
    pub fn all_wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
