//! `weir topic create`.

use clap::Args;

use super::text::{counted, pair};
use super::{CliError, Context};
use crate::broker::{NewTopic, TopicError};

/// Create topics.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Their names.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,

    /// How many partitions each has; the cluster's num.partitions if it is not given.
    #[arg(long, short, value_name = "NUMBER")]
    partitions: Option<i32>,

    /// A setting, by Kafka's name of it: retention.ms=86400000. May be repeated.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,

    /// Leave a topic that exists as it is, instead of failing.
    #[arg(long)]
    if_not_exists: bool,
}

pub(super) async fn run(command: &Create, context: &mut Context) -> Result<(), CliError> {
    let configs = command.config.iter().cloned();
    let configs: std::collections::BTreeMap<_, _> =
        configs.map(|(name, value)| (name, Some(value))).collect();
    let topics: Vec<NewTopic> = command
        .topics
        .iter()
        .map(|name| NewTopic {
            name: name.clone(),
            partitions: command.partitions,
            configs: configs.clone(),
            ..NewTopic::default()
        })
        .collect();
    context
        .with_client(async |client, output| {
            let created = client
                .broker()
                .create_topics(client.session(), topics, false)
                .await?;
            // What was created is told even if another was refused.
            let mut refused = None;
            for result in created {
                match result {
                    Ok(topic) => {
                        let partitions =
                            counted(u64::from(topic.partitions.unsigned_abs()), "partition");
                        output.line(&format!("created {} with {partitions}", topic.name))?;
                    }
                    Err(TopicError::Exists(name)) if command.if_not_exists => {
                        output.line(&format!("{name} exists"))?;
                    }
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
            refused.map_or(Ok(()), |error| Err(error.into()))
        })
        .await
}
