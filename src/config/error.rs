//! What can be wrong with settings.

use super::Source;

/// Why the settings cannot be used. Each message names the setting and where its value came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("{path}: {reason}")]
    NotToml {
        /// The file.
        path: String,
        /// Where and why, on one line.
        reason: String,
    },
    /// A key of the file is not a setting.
    #[error("{path}: there is no setting '{key}'; did you mean '{nearest}'?")]
    UnknownKey {
        /// The file.
        path: String,
        /// The key, shortened.
        key: String,
        /// The setting whose name is nearest.
        nearest: &'static str,
    },
    /// A key of the file has a value that no setting has.
    #[error(
        "{path}: the value of '{key}' is {found}; it must be a string, an integer or true/false"
    )]
    NotScalar {
        /// The file.
        path: String,
        /// The key.
        key: &'static str,
        /// What it is: `a table`.
        found: &'static str,
    },
    /// A setting has a value that it does not take.
    #[error("{key} (from {source_of_value}): '{value}' is not allowed: {reason}")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// Where the value came from.
        source_of_value: Source,
        /// The value, shortened.
        value: String,
        /// What it takes.
        reason: String,
    },
    /// A setting does not go with another.
    #[error("{key} (from {source_of_value}): {reason}")]
    Conflict {
        /// The setting to change.
        key: &'static str,
        /// Where its value came from.
        source_of_value: Source,
        /// The rule, with the other setting's name and value.
        reason: String,
    },
}
