//! How a command ends when it does not end well.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::broker::{GroupOpError, ListOffsetsError, TopicError, Unavailable, UsersError};
use crate::config::ConfigError;
use crate::embedded::ClientError;
use crate::maintain::usage::UsageError;
use crate::manifest::OpenError;
use crate::node::NodeError;
use crate::store::{InvalidStoreUrl, StoreError};

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
    /// It did what it was asked, and what it looked at is not as it should be.
    Unsound {
        /// What is wrong, on one line.
        message: String,
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
            CliError::Unsound { .. } | CliError::BrokenPipe => {}
        }
        self
    }

    /// Writes it for people and says how the process should exit.
    pub(super) fn report(&self, stderr: &mut dyn Write) -> ExitCode {
        let (code, message, hint) = match self {
            CliError::Failed { message, hint } => (1, message, hint),
            CliError::Usage { message, hint } => (2, message, hint),
            CliError::Unsound { message } => (3, message, &None),
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

const NO_TOPIC: &str = "`weir topic list` shows the topics, `weir topic create NAME` creates one";
const NO_STORE: &str = "run `weir store check` to see whether the store can be reached and used";
const DAMAGED: &str = "`weir fsck` says what is damaged; if nobody has a copy of it, `weir store repair` says what is \
                       lost without it, and lets nodes start again";

impl From<Unavailable> for CliError {
    fn from(error: Unavailable) -> CliError {
        let failed = CliError::failed(error.to_string());
        match error {
            Unavailable::TimedOut | Unavailable::Store(_) => failed.hint(NO_STORE),
            _ => failed,
        }
    }
}

impl From<TopicError> for CliError {
    fn from(error: TopicError) -> CliError {
        match error {
            TopicError::Unavailable(error) => error.into(),
            TopicError::NotFound(_) => CliError::failed(error.to_string()).hint(NO_TOPIC),
            TopicError::Exists(_) => CliError::failed(error.to_string())
                .hint("use `weir topic alter` to change the topic, or --if-not-exists to leave it as it is"),
            error => CliError::failed(error.to_string()),
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        match error {
            ClientError::Url(error) => error.into(),
            ClientError::Open(error) => error.into(),
            ClientError::Topic(error) => error.into(),
            ClientError::Unavailable(error) => error.into(),
            error => CliError::failed(error.to_string()),
        }
    }
}

impl From<InvalidStoreUrl> for CliError {
    fn from(error: InvalidStoreUrl) -> CliError {
        CliError::usage(format!("--store (WEIR_STORE): {error}"))
    }
}

impl From<NodeError> for CliError {
    fn from(error: NodeError) -> CliError {
        match error {
            NodeError::Store(error) => error.into(),
            NodeError::Manifest(OpenError::Object(error)) if !error.is_of_newer_software() => {
                CliError::failed(error.to_string()).hint(DAMAGED)
            }
            error => CliError::failed(error.to_string()),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> CliError {
        let retriable = error.is_retriable();
        let failed = CliError::failed(error.to_string());
        if retriable {
            failed.hint(NO_STORE)
        } else {
            failed
        }
    }
}

impl From<UsageError> for CliError {
    fn from(error: UsageError) -> CliError {
        match error {
            UsageError::Store(error) => error.into(),
            UsageError::NoCluster(_) => {
                CliError::failed(error.to_string()).hint("check the URL and its prefix")
            }
            UsageError::Broken { .. } => {
                CliError::failed(error.to_string()).hint("run `weir fsck` to see what is wrong")
            }
        }
    }
}

impl From<GroupOpError> for CliError {
    fn from(error: GroupOpError) -> CliError {
        match error {
            GroupOpError::Unavailable(error) => error.into(),
            error => CliError::failed(error.to_string()),
        }
    }
}

impl From<UsersError> for CliError {
    fn from(error: UsersError) -> CliError {
        match error {
            UsersError::Unavailable(error) => error.into(),
            error => CliError::failed(error.to_string()),
        }
    }
}

impl From<ListOffsetsError> for CliError {
    fn from(error: ListOffsetsError) -> CliError {
        match error {
            ListOffsetsError::Unavailable(error) => error.into(),
            error => CliError::failed(error.to_string()),
        }
    }
}
