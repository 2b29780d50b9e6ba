//! `weir user`: users, their passwords, and the groups they are in.
//!
//! Whoever can write to the bucket may do all of this: no rule is asked.

mod alter;
mod create;
mod delete;
mod list;
mod passwd;

use std::io::Read;

use clap::{Args, Subcommand};

use super::context::Context;
use super::{CliError, output};
use crate::broker::Secret;
use crate::types::{UserGroup, UserName};

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Create a user. The first must be a superuser; it ends that everybody may do everything.
    Create(create::Create),
    /// List the users.
    List(list::List),
    /// Make a user a superuser or none, disable or enable it, change the groups it is in.
    Alter(alter::Alter),
    /// Set the password of a user.
    Passwd(passwd::Passwd),
    /// Delete users, with their passwords and memberships.
    Delete(delete::Delete),
}

pub(super) async fn run(command: &User, context: &mut Context) -> Result<(), CliError> {
    match command {
        User::Create(command) => create::run(command, context).await,
        User::List(command) => list::run(command, context).await,
        User::Alter(command) => alter::run(command, context).await,
        User::Passwd(command) => passwd::run(command, context).await,
        User::Delete(command) => delete::run(command, context).await,
    }
}

/// Where a password comes from. It is no argument: others on the machine see those.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct PasswordArgs {
    /// Read the password from stdin, up to the end of the first line.
    #[arg(long)]
    password_stdin: bool,

    /// Read the password from a file; the end of its line does not count.
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
}

impl PasswordArgs {
    /// The password, if one is given.
    fn read(&self) -> Result<Option<Secret>, CliError> {
        let (from, read) = match &self.password_file {
            Some(path) => (path.as_str(), std::fs::File::open(path).and_then(line)),
            None if self.password_stdin => ("stdin", line(std::io::stdin())),
            None => return Ok(None),
        };
        let password = read.map_err(|error| {
            CliError::usage(format!("the password cannot be read from {from}: {error}"))
        })?;
        let password = Secret::new(password);
        let checked = password.check_password();
        checked.map_err(|error| CliError::usage(format!("{error} (from {from})")))?;
        Ok(Some(password))
    }
}

/// The first line, without its end. What is longer than any password is read no further.
fn line(from: impl Read) -> std::io::Result<Vec<u8>> {
    const MAX: u64 = 4096;
    let mut read = Vec::new();
    from.take(MAX).read_to_end(&mut read)?;
    let end = read.iter().position(|byte| *byte == b'\n');
    read.truncate(end.unwrap_or(read.len()));
    if read.last() == Some(&b'\r') {
        read.pop();
    }
    Ok(read)
}

fn user_name(name: &str) -> Result<UserName, CliError> {
    UserName::new(name).map_err(|error| CliError::usage(error.to_string()))
}

fn group_name(name: &str) -> Result<UserGroup, CliError> {
    UserGroup::new(name).map_err(|error| CliError::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_and_never_in_an_error() {
        let read = |text: &str| String::from_utf8(line(text.as_bytes()).unwrap()).unwrap();
        for text in ["pencil", "pencil\n", "pencil\r\n", "pencil\nmore\n"] {
            assert_eq!(read(text), "pencil", "{text:?}");
        }
        assert_eq!(read(" with space \n"), " with space ");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "geheim\u{7}\n").unwrap();
        let args = PasswordArgs {
            password_stdin: false,
            password_file: Some(file.path().display().to_string()),
        };
        let error = format!("{:?}", args.read().unwrap_err());
        assert!(
            error.contains("control characters") && !error.contains("geheim"),
            "{error}"
        );
    }
}
