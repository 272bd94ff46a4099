//! `flotilla completions` and `flotilla man`: what shells and `man` know of the commands, made from
//! the same definitions that read the arguments.

use std::io;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::{Shell, generate};
use clap_mangen::{Man, generate_to};

use crate::failure::{Failure, Tried};

/// Arguments of `flotilla completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell that the script is for
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `flotilla man`.
#[derive(Args)]
pub struct ManArgs {
    /// Write a page for each command into this directory [default: one page, to stdout]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the completion script.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> Result<(), Failure> {
    let mut script = vec![];
    generate(args.shell, &mut command, "flotilla", &mut script);
    print(&script)
}

/// Prints or writes the manual pages.
pub fn man(args: &ManArgs, command: Command) -> Result<(), Failure> {
    match &args.dir {
        None => {
            let mut page = vec![];
            Man::new(command).render(&mut page).tried("man")?;
            print(&page)
        }
        Some(dir) => {
            let what = format!("man: write pages into {}", dir.display());
            std::fs::create_dir_all(dir).tried(&what)?;
            generate_to(command, dir).tried(&what)
        }
    }
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    use io::Write;
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).tried("write to stdout")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, ValueEnum};

    use super::*;

    #[derive(clap::Parser)]
    #[command(name = "flotilla")]
    struct Line {
        #[command(subcommand)]
        command: crate::ctl::CtlCommand,
    }

    #[test]
    fn each_shell_completes_commands_of_commands() {
        for shell in Shell::value_variants() {
            let mut script = vec![];
            generate(*shell, &mut Line::command(), "flotilla", &mut script);
            let script = String::from_utf8(script).expect("text");
            assert!(script.contains("transfer-leader"), "{shell}");
        }
    }

    #[test]
    fn each_command_has_a_manual_page() {
        let dir = tempfile::tempdir().expect("a directory");
        man(&ManArgs { dir: Some(dir.path().into()) }, Line::command()).expect("is written");
        let page = std::fs::read_to_string(dir.path().join("flotilla-store-drain.1"));
        assert!(page.expect("a page").contains("Wait until the store has no peers left"));
    }
}
