//! What can go wrong in a command, and the exit status of each.
//!
//! Every failure becomes one line on stderr that names what was tried, what happened and what to
//! do. A closed stdout is a success: its reader has read enough.

use std::io;
use std::process::ExitCode;

use flotilla_client::Error as ClientError;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The key or object does not exist, or was not what it was expected to be. Status 1.
    Absent(String),
    /// What was asked has been printed, and the answer is no. Status 1, without an error line.
    AnswerIsNo,
    /// A safety check refuses it; says what to do. Status 5.
    Unsafe(String),
    /// The arguments or the input are wrong. Status 2.
    Usage(String),
    /// A server could not start, or died. Status 3.
    Server(String),
    /// The client's error. Status 1 to 4, depending on the error.
    Client {
        /// The command that was tried.
        what: String,
        /// How it ended.
        error: ClientError,
    },
    /// The operating system refused. Status 3, or 0 for a closed stdout.
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
}

impl Failure {
    /// Writes the failure's line to stderr and returns its exit status.
    pub fn report(&self) -> ExitCode {
        if let Some(line) = self.line() {
            eprintln!("error: {line}");
        }
        ExitCode::from(self.status())
    }

    fn status(&self) -> u8 {
        match self {
            Failure::Absent(_) | Failure::AnswerIsNo => 1,
            Failure::Unsafe(_) => 5,
            Failure::Usage(_) => 2,
            Failure::Server(_) => 3,
            Failure::Client { error, .. } => client_status(error),
            Failure::Io { error, .. } if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Failure::Io { .. } => 3,
        }
    }

    fn line(&self) -> Option<String> {
        let line = match self {
            Failure::AnswerIsNo => return None,
            Failure::Absent(line)
            | Failure::Unsafe(line)
            | Failure::Usage(line)
            | Failure::Server(line) => line.clone(),
            Failure::Client { what, error } => format!("{what}: {error}"),
            Failure::Io { error, .. } if error.kind() == io::ErrorKind::BrokenPipe => return None,
            Failure::Io { what, error } => format!("{what}: {error}"),
        };
        // One failure is one line, whatever a server put into its reason.
        Some(line.replace('\n', " "))
    }
}

fn client_status(error: &ClientError) -> u8 {
    match error {
        ClientError::NotFound { .. } => 1,
        ClientError::LimitExceeded { .. } | ClientError::InvalidArgument { .. } => 2,
        ClientError::DeadlineExceeded { .. }
        | ClientError::ServerBusy { .. }
        | ClientError::PdUnreachable { .. }
        | ClientError::Refused { .. }
        | ClientError::Protocol { .. } => 3,
        ClientError::Undetermined { .. } => 4,
    }
}

/// Names what was tried, on the way from the client's error to a [`Failure`].
pub trait Tried<T> {
    /// The success, or the failure of the command `what`.
    fn tried(self, what: &str) -> Result<T, Failure>;
}

impl<T> Tried<T> for Result<T, ClientError> {
    fn tried(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Client { what: what.to_string(), error })
    }
}

impl<T> Tried<T> for io::Result<T> {
    fn tried(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Io { what: what.to_string(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_stdout_is_no_failure() {
        let error = io::Error::from(io::ErrorKind::BrokenPipe);
        let failure = Failure::Io { what: "write".into(), error };
        assert_eq!((failure.status(), failure.line()), (0, None));
    }

    #[test]
    fn no_is_an_answer_and_no_error() {
        assert_eq!((Failure::AnswerIsNo.status(), Failure::AnswerIsNo.line()), (1, None));
    }

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::Server("cannot start:\nthe disk is full".into());
        assert_eq!(failure.line().as_deref(), Some("cannot start: the disk is full"));
    }

    #[test]
    fn an_unknown_outcome_has_a_status_of_its_own() {
        let error = ClientError::Undetermined { what: "put".into(), reason: "timeout".into() };
        assert_eq!(Failure::Client { what: "kv put".into(), error }.status(), 4);
    }
}
