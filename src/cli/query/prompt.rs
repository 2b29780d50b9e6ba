//! The prompt: statements are read until a semicolon, and remembered from one time to the next.
//!
//! What was typed is remembered in a file of the user (`$XDG_STATE_HOME/weir/query-history`). If it cannot be written,
//! nothing is remembered.

use std::io::{self, Write};
use std::path::PathBuf;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::{CliError, Output, answer};
use crate::embedded::Client;
use crate::query::{Form, Queries, complete_statements};

const PROMPT: &str = "weir> ";
const GOES_ON: &str = "  ... ";

/// How many lines are remembered.
const MAX_HISTORY: usize = 1_000;

const HELP: &str = "\
A statement ends with a semicolon. Ctrl-C stops a query or clears what was typed; Ctrl-D ends the prompt.
  \\d         the tables: SHOW TABLES
  \\d TABLE   the columns of one: DESCRIBE TABLE
  \\q         end
";

/// Reads and answers statements until the end.
pub(super) async fn run(
    queries: &Queries,
    client: &Client,
    form: Form,
    output: &mut Output,
) -> Result<(), CliError> {
    let failed = |error: ReadlineError| CliError::failed(format!("the prompt: {error}"));
    let config = rustyline::Config::builder()
        .max_history_size(MAX_HISTORY)
        .map_err(failed)?
        .build();
    let mut editor = DefaultEditor::with_config(config).map_err(failed)?;
    let history = history_file();
    if let Some(path) = &history {
        // There is none the first time.
        let _ = editor.load_history(path);
    }
    tell("SQL over topics; \\? for help\n");
    let mut typed = String::new();
    loop {
        let prompt = if typed.is_empty() { PROMPT } else { GOES_ON };
        // Reading a line waits in a thread of its own, so that the node behind this goes on.
        let read = tokio::task::spawn_blocking(move || {
            let line = editor.readline(prompt);
            (editor, line)
        });
        let (back, line) = read
            .await
            .map_err(|error| CliError::failed(format!("the prompt: {error}")))?;
        editor = back;
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                typed.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(failed(error)),
        };
        let asked = match typed.is_empty().then(|| short_form(&line)).flatten() {
            Some(Short::End) => break,
            Some(Short::Help) => {
                tell(HELP);
                continue;
            }
            Some(Short::Statement(statement)) => vec![statement],
            None => {
                typed.push_str(&line);
                typed.push('\n');
                let (complete, rest) = complete_statements(&typed);
                typed = if rest.trim().is_empty() {
                    String::new()
                } else {
                    rest
                };
                complete
            }
        };
        if !line.trim().is_empty() {
            let _ = editor.add_history_entry(line.trim_end());
            if let Some(path) = &history {
                let _ = editor.append_history(path);
            }
        }
        for statement in asked {
            match answer(queries, client, &statement, form, output).await {
                Ok(true) => {}
                Ok(false) => tell("interrupted\n"),
                Err(CliError::BrokenPipe) => return Err(CliError::BrokenPipe),
                Err(error) => {
                    error.report(&mut io::stderr());
                }
            }
        }
    }
    Ok(())
}

/// What is typed for people rather than for the engine.
enum Short {
    End,
    Help,
    Statement(String),
}

fn short_form(line: &str) -> Option<Short> {
    let line = line.trim();
    match line.trim_end_matches(';').trim_end() {
        "\\q" | "exit" | "quit" => Some(Short::End),
        "\\?" | "\\h" | "help" => Some(Short::Help),
        "\\d" => Some(Short::Statement("SHOW TABLES".to_owned())),
        other => {
            let table = other.strip_prefix("\\d ")?.trim();
            Some(Short::Statement(format!("DESCRIBE {table}")))
        }
    }
}

/// Says something that is no part of an answer.
fn tell(text: &str) {
    // There is nobody to tell if stderr is gone.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Where what was typed is remembered.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let folder = state.filter(|path| path.is_absolute()).or_else(home)?;
    let folder = folder.join("weir");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("query-history"))
}
