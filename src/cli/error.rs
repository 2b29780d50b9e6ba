//! How a command ends when it does not end well.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::ConfigError;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) enum CliError {
    /// It could not.
    Failed {
        /// What happened, on one line.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// It was asked wrongly.
    Usage {
        /// What is wrong, on one line.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// The reader of stdout went away, which is its right.
    BrokenPipe,
}

impl CliError {
    /// The command could not do it.
    pub(super) fn failed(message: impl Into<String>) -> CliError {
        CliError::Failed {
            message: message.into(),
            hint: None,
        }
    }

    /// The command was asked wrongly.
    pub(super) fn usage(message: impl Into<String>) -> CliError {
        CliError::Usage {
            message: message.into(),
            hint: None,
        }
    }

    /// The same with what to do next.
    pub(super) fn hint(mut self, advice: impl Into<String>) -> CliError {
        match &mut self {
            CliError::Failed { hint, .. } | CliError::Usage { hint, .. } => {
                *hint = Some(advice.into());
            }
            CliError::BrokenPipe => {}
        }
        self
    }

    /// Writes it for people and says how the process should exit.
    pub(super) fn report(&self, stderr: &mut dyn Write) -> ExitCode {
        let (code, message, hint) = match self {
            CliError::Failed { message, hint } => (1, message, hint),
            CliError::Usage { message, hint } => (2, message, hint),
            CliError::BrokenPipe => return ExitCode::SUCCESS,
        };
        let one_line = |text: &str| text.trim_end().replace('\n', "; ");
        // There is nobody to tell if stderr is gone too.
        let _ = writeln!(stderr, "error: {}", one_line(message));
        if let Some(hint) = hint {
            let _ = writeln!(stderr, "hint: {}", one_line(hint));
        }
        ExitCode::from(code)
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> CliError {
        CliError::usage(error.to_string())
    }
}

/// Errors of writing to stdout.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> CliError {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return CliError::BrokenPipe;
        }
        CliError::failed(format!("stdout: {error}"))
    }
}
