//! What only a person at a terminal sees: colours, progress bars, a picture that is drawn anew.
//!
//! Nothing of it goes into a pipe or a file. A variable `NO_COLOR` that is not empty turns colours
//! off on a terminal, too (<https://no-color.org>).

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use clap::builder::styling::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::{Failure, Tried};

/// Whether `stream` gets colours.
pub fn has_colours(stream: &impl IsTerminal) -> bool {
    colours_are_wanted(stream.is_terminal(), std::env::var_os("NO_COLOR").as_deref())
}

fn colours_are_wanted(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// What a coloured word says. The word says the same without the colour.
#[derive(Clone, Copy)]
pub enum Tone {
    /// As it should be
    Good,
    /// Not as it should be
    Bad,
}

/// `text`, coloured if stdout gets colours.
pub fn paint(text: &str, tone: Tone) -> String {
    if !has_colours(&io::stdout()) {
        return text.to_string();
    }
    let colour = match tone {
        Tone::Good => AnsiColor::Green,
        Tone::Bad => AnsiColor::Red,
    };
    let style = Style::new().fg_color(Some(colour.into())).bold();
    format!("{style}{text}{style:#}")
}

/// A bar of `length` steps on a terminal's stderr, or without one a line that counts; nothing
/// elsewhere, for indicatif draws on terminals only.
pub fn progress_bar(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{bar:30} {percent}% {msg} {elapsed}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Draws `lines` from the upper left corner of the terminal on stdout, in place of what is there.
pub fn draw(lines: &[String]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(picture(lines).as_bytes()).and_then(|()| out.flush()).tried("write to stdout")
}

/// The escape sequences of ECMA-48 that draw `lines` without a flicker: to the corner, each line
/// with what is right of it cleared, then what is below cleared.
fn picture(lines: &[String]) -> String {
    let mut picture = String::from("\x1b[H");
    for line in lines {
        // A String takes all.
        let _ = write!(picture, "{line}\x1b[K\r\n");
    }
    picture.push_str("\x1b[J");
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_of_people_who_want_them() {
        assert!(colours_are_wanted(true, None));
        assert!(colours_are_wanted(true, Some(OsStr::new(""))));
        assert!(!colours_are_wanted(true, Some(OsStr::new("1"))));
        assert!(!colours_are_wanted(false, None));
    }

    #[test]
    fn a_picture_replaces_the_one_before() {
        let lines = ["healthy  yes".to_string(), "stores   3".to_string()];
        assert_eq!(picture(&lines), "\x1b[Hhealthy  yes\x1b[K\r\nstores   3\x1b[K\r\n\x1b[J");
    }
}
