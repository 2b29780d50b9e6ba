//! What a command writes: tables for people, JSON for machines.

use std::io::{self, BufWriter, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::CliError;

/// The form of what is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// A table.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// The flag of all commands that list something.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct OutputArgs {
    /// The form of what is listed.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub(super) output: OutputFormat,
}

/// Where a command writes: stdout, buffered.
pub(super) struct Output {
    to: BufWriter<Box<dyn Write + Send>>,
}

impl Output {
    /// The process's stdout.
    pub(super) fn stdout() -> Output {
        Output::to(Box::new(io::stdout()))
    }

    /// Anything.
    pub(super) fn to(to: Box<dyn Write + Send>) -> Output {
        Output {
            to: BufWriter::new(to),
        }
    }

    /// Writes a text as it is.
    pub(super) fn text(&mut self, text: &str) -> Result<(), CliError> {
        Ok(self.to.write_all(text.as_bytes())?)
    }

    /// Writes a line.
    pub(super) fn line(&mut self, line: &str) -> Result<(), CliError> {
        self.bytes(line.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        Ok(self.to.write_all(bytes)?)
    }

    /// Writes a value as a JSON document of several lines.
    pub(super) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| CliError::failed(format!("writing JSON: {error}")))?;
        self.line(&text)
    }

    /// Writes rows in columns under a heading; the last column is not padded.
    pub(super) fn table(&mut self, heading: &[&str], rows: &[Vec<String>]) -> Result<(), CliError> {
        let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let heading: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
        for row in std::iter::once(&heading).chain(rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Hands on everything that was written. Call it before the command ends and before it waits.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        Ok(self.to.flush()?)
    }
}
