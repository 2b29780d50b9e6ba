//! `weir topic delete`.

use clap::Args;

use super::{CliError, Context};
use crate::broker::{TopicError, TopicRef};

/// Delete topics with all their records and committed offsets. This cannot be undone.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Their names.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,

    /// Do not fail if a topic does not exist.
    #[arg(long)]
    if_exists: bool,
}

pub(super) async fn run(command: &Delete, context: &mut Context) -> Result<(), CliError> {
    let topics: Vec<TopicRef> = command.topics.iter().cloned().map(TopicRef::Name).collect();
    context
        .with_client(async |client, output| {
            let deleted = client
                .broker()
                .delete_topics(client.session(), &topics)
                .await?;
            let mut refused = None;
            for result in deleted {
                match result {
                    Ok(topic) => output.line(&format!("deleted {}", topic.name))?,
                    Err(TopicError::NotFound(_)) if command.if_exists => {}
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
            refused.map_or(Ok(()), |error| Err(error.into()))
        })
        .await
}
