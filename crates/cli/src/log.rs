//! What is logged to stderr, and how: `FLOTILLA_LOG` and `FLOTILLA_LOG_FORMAT`.
//!
//! Keys and values are in no log: they are redacted by type.

use std::env::{self, VarError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::failure::Failure;
use crate::terminal;

/// What is logged, as directives such as `info` or `flotilla_store=debug`.
const FILTER: &str = "FLOTILLA_LOG";

/// How it is written: `text` or `json`.
const FORMAT: &str = "FLOTILLA_LOG_FORMAT";

/// Begins to log; `default` says what, unless the user does.
///
/// # Errors
/// [`Failure::Usage`] if a variable makes no sense.
pub fn start(default: &str) -> Result<(), Failure> {
    let filter = filter(&variable(FILTER)?.unwrap_or_else(|| default.to_string()))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match variable(FORMAT)?.as_deref() {
        None | Some("text") => log.with_ansi(terminal::has_colours(&std::io::stderr())).init(),
        Some("json") => log.json().init(),
        Some(other) => {
            return Err(Failure::Usage(format!("{FORMAT}={other}: give text or json")));
        }
    }
    Ok(())
}

/// The variable, if it is set to something.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Failure::Usage(format!("{name} is not UTF-8"))),
    }
}

fn filter(text: &str) -> Result<EnvFilter, Failure> {
    let wrong = |why: String| {
        let hint = "give a level (error, warn, info, debug, trace, off), or flotilla_store=debug";
        Failure::Usage(format!("{FILTER}={text}: {why}; {hint}"))
    };
    // A word that is no level would be taken as the name of a module, and nothing be logged.
    let is_known = |word: &str| {
        let is_named = word.contains(['=', '[']) || word.starts_with("flotilla");
        is_named || (!word.is_empty() && word.parse::<LevelFilter>().is_ok())
    };
    if let Some(word) = text.split(',').map(str::trim).find(|word| !is_known(word)) {
        return Err(wrong(format!("there is no level {word:?}")));
    }
    EnvFilter::builder().parse(text).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_that_make_no_sense_are_refused() {
        for good in ["info", "WARN", "off", "flotilla_store=debug,warn", "flotilla_pd", "h2=info"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["inof", "flotilla_store=loud", "info,,warn", "info;debug"] {
            let refused = filter(bad).expect_err(bad);
            assert!(matches!(&refused, Failure::Usage(why) if why.contains(bad)), "{refused:?}");
        }
    }
}
