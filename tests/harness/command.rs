//! Runs a command of the binary to its end.

use std::time::Duration;

use serde_json::Value;

use crate::process::Process;

/// When a command that should end by itself is given up. Longer than any deadline of the client.
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);

/// What a command that has ended left behind.
#[derive(Debug)]
pub struct Finished {
    /// The arguments, for failure messages.
    pub args: Vec<String>,
    /// The exit status.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Finished {
    /// Fails unless the exit status is `code`; returns itself for more.
    pub fn expect_code(self, code: i32) -> Finished {
        assert!(!self.stderr.contains("panicked at"), "a panic: {self:?}");
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Fails unless the command succeeded.
    pub fn ok(self) -> Finished {
        self.expect_code(0)
    }

    /// Fails unless stderr contains every one of `words`.
    pub fn expect_stderr(self, words: &[&str]) -> Finished {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} on stderr: {self:?}");
        }
        self
    }

    /// Stdout as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// Stdout as text, without the last newline.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_string()
    }
}

/// Runs `flotilla ARGS` to its end, within a deadline.
pub fn run(args: &[&str]) -> Finished {
    let logs = tempfile::tempdir().expect("a temporary directory");
    let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
    let mut process = Process::start("command", logs.path(), &args);
    let Some(status) = process.wait(COMMAND_DEADLINE) else {
        panic!("flotilla {args:?} did not end within {COMMAND_DEADLINE:?}");
    };
    Finished {
        // None means killed by a signal, which no command expects.
        code: status.code().unwrap_or(-1),
        stdout: process.stdout(),
        stderr: process.stderr(),
        args,
    }
}
