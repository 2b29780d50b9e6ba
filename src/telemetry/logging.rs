//! The log of the process.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not of the form `level` or `module=level`, separated by commas.
    #[error("'{filter}' is not a log filter: {reason}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process has a log already.
    #[error("logging is already set up in this process: {0}")]
    Twice(#[from] TryInitError),
}

/// Sends the log of the process to stderr: what `filter` lets through (`info`,
/// `warn,weir::manifest=debug`), as lines for people or as JSON objects. Once per process.
pub fn start_logging(filter: &str, json: bool) -> Result<(), LoggingError> {
    let filter = read_filter(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if json {
        registry
            .with(layer.json().flatten_event(true).with_current_span(true))
            .try_init()?;
    } else {
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        registry.with(layer.with_ansi(colours)).try_init()?;
    }
    Ok(())
}

/// Outside AWS its SDK says in pages of warnings that there is no instance metadata. What it means for the command is
/// told by its one error.
const QUIET: &str = "aws_config=error";

/// The filter, with what is quiet unless it is named.
fn read_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|error| LoggingError::Filter {
        filter: filter.chars().take(80).collect(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_by_level_and_module_are_understood_and_others_refused() {
        for good in ["info", "warn,weir::manifest=debug", "off"] {
            assert!(read_filter(good).is_ok(), "{good}");
        }
        let named = read_filter("warn,aws_config=debug").unwrap().to_string();
        assert!(
            named.contains("aws_config=debug") && !named.contains("=error"),
            "{named}"
        );
        let error = read_filter("weir=loud").unwrap_err().to_string();
        assert!(
            error.starts_with("'weir=loud' is not a log filter"),
            "{error}"
        );
    }
}
