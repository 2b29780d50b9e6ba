//! `weir query`: SQL over topics.
//!
//! The bucket is enough: the command opens it as a short-lived node, as others do, and answers the statement itself.
//! Ctrl-C stops a query; at the prompt it stops the query and not the prompt. What was written of the answer stays.

mod prompt;

use std::io::{self, IsTerminal, Read};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::context::Context;
use super::progress::Progress;
use super::{CliError, Output};
use crate::embedded::Client;
use crate::query::{
    Form, Queries, QueryError, QueryErrorKind, QueryMetrics, QueryOptions, Reading,
    complete_statements,
};

/// Query topics with SQL.
///
/// Each topic is a table: its name in lower case, with _ for "." and "-"; or the topic's own name in double quotes. The
/// columns are partition, offset, timestamp, timestamp_type, key, value, headers and error. A query is answered from
/// one moment, and sees every record that was acknowledged before it began. SHOW TABLES lists the tables, DESCRIBE
/// shows the columns of one, EXPLAIN what a query would read. Nothing can be changed.
///
/// Keys and values are binary: CAST(value AS VARCHAR) is text.
#[derive(Debug, Args)]
pub(super) struct Query {
    /// The statement. Without it, and without --file, statements are read from stdin; on a terminal at a prompt.
    #[arg(value_name = "SQL", conflicts_with = "file")]
    sql: Option<String>,

    /// A file of statements, each ended by a semicolon ("-" is stdin).
    #[arg(long, short, value_name = "FILE")]
    file: Option<String>,

    /// The form of the answer: a table for people; json, one array of objects; jsonl, an object a line; csv; parquet;
    /// arrow, a stream of Arrow's IPC format.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: AnswerForm,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum AnswerForm {
    /// Columns for people; long values are cut off.
    #[default]
    Table,
    /// One array of objects.
    Json,
    /// An object a line.
    Jsonl,
    /// Comma-separated values under a heading.
    Csv,
    /// A Parquet file.
    Parquet,
    /// A stream of Arrow's IPC format.
    Arrow,
}

impl AnswerForm {
    fn form(self) -> Form {
        match self {
            AnswerForm::Table => Form::Table,
            AnswerForm::Json => Form::Json,
            AnswerForm::Jsonl => Form::JsonLines,
            AnswerForm::Csv => Form::Csv,
            AnswerForm::Parquet => Form::Parquet,
            AnswerForm::Arrow => Form::Arrow,
        }
    }

    fn is_binary(self) -> bool {
        matches!(self, AnswerForm::Parquet | AnswerForm::Arrow)
    }
}

/// How often it is looked how far a query is.
const LOOK: Duration = Duration::from_millis(200);

/// The longest file of statements.
const MAX_FILE: u64 = 16 << 20;

pub(super) async fn run(command: &Query, context: &mut Context) -> Result<(), CliError> {
    let form = command.output;
    if form.is_binary() && io::stdout().is_terminal() {
        let message = "this form is not for a terminal";
        return Err(CliError::usage(message).hint("write it to a file: … > FILE"));
    }
    let at_prompt = command.sql.is_none() && command.file.is_none() && io::stdin().is_terminal();
    let statements = match (&command.sql, &command.file) {
        _ if at_prompt => Vec::new(),
        (Some(sql), _) => vec![sql.clone()],
        (None, file) => statements_of(file.as_deref().unwrap_or("-"))?,
    };
    if form.is_binary() && statements.len() > 1 {
        let message = format!(
            "these are {} statements; in this form there is one answer",
            statements.len()
        );
        return Err(CliError::usage(message));
    }
    let options = QueryOptions::from(&context.config.query);
    context
        .with_client(async |client, output| {
            let broker = client.broker().clone();
            let queries = Queries::new(broker, options, QueryMetrics::default())?;
            if at_prompt {
                return prompt::run(&queries, client, form.form(), output).await;
            }
            for statement in &statements {
                if !answer(&queries, client, statement, form.form(), output).await? {
                    return Err(CliError::failed("interrupted"));
                }
            }
            Ok(())
        })
        .await
}

/// The statements of a file; the last need not end with a semicolon.
fn statements_of(path: &str) -> Result<Vec<String>, CliError> {
    let unread = |error: io::Error| {
        let name = if path == "-" { "stdin" } else { path };
        CliError::usage(format!("{name} cannot be read: {error}"))
    };
    let mut text = String::new();
    let most = MAX_FILE + 1;
    let read = match path {
        "-" => io::stdin().take(most).read_to_string(&mut text),
        path => {
            std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text))
        }
    };
    read.map_err(unread)?;
    if text.len() as u64 > MAX_FILE {
        let message = format!("{path} has more than {MAX_FILE} bytes; give a part of it");
        return Err(CliError::usage(message));
    }
    let (mut statements, rest) = complete_statements(&text);
    if !rest.trim().is_empty() || statements.is_empty() {
        statements.push(rest);
    }
    Ok(statements)
}

/// Writes the answer to one statement. False if it was interrupted.
async fn answer(
    queries: &Queries,
    client: &Client,
    statement: &str,
    form: Form,
    output: &mut Output,
) -> Result<bool, CliError> {
    let interrupted = async {
        // Who cannot listen for it is ended by it.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        written = write(queries, client, statement, form, output) => written.map(|()| true),
        () = interrupted => Ok(false),
    }
}

async fn write(
    queries: &Queries,
    client: &Client,
    statement: &str,
    form: Form,
    output: &mut Output,
) -> Result<(), CliError> {
    let watch = Reading::default();
    let mut progress = Some(Progress::counting("records read"));
    let mut shown = 0;
    let mut look = tokio::time::interval(LOOK);
    let mut show = |progress: &mut Option<Progress>| {
        let read = watch.total_records();
        if let Some(progress) = progress {
            progress.add(read - shown);
        }
        shown = read;
    };
    let running = queries.run(client.session(), statement, form, &watch);
    let mut running = std::pin::pin!(running);
    let mut answer = loop {
        tokio::select! {
            answer = &mut running => break answer?,
            _ = look.tick() => show(&mut progress),
        }
    };
    loop {
        let part = {
            let next = answer.next();
            let mut next = std::pin::pin!(next);
            loop {
                tokio::select! {
                    part = &mut next => break part?,
                    _ = look.tick() => show(&mut progress),
                }
            }
        };
        let Some(part) = part else {
            return output.flush();
        };
        if io::stdout().is_terminal() {
            // The rows show that it goes on.
            progress = None;
        }
        output.bytes(&part)?;
        output.flush()?;
    }
}

impl From<QueryError> for CliError {
    fn from(error: QueryError) -> CliError {
        let message = error.to_string();
        match error.kind() {
            QueryErrorKind::Invalid | QueryErrorKind::Refused => CliError::usage(message),
            QueryErrorKind::UnknownTable => CliError::failed(message)
                .hint("`weir topic list` shows the topics; a table is a topic's name with _ for '.' and '-'"),
            QueryErrorKind::Memory => {
                CliError::failed(message).hint("set WEIR_QUERY_MEMORY to allow more")
            }
            QueryErrorKind::TimedOut => {
                CliError::failed(message).hint("set WEIR_QUERY_TIMEOUT to allow more")
            }
            _ => CliError::failed(message),
        }
    }
}
