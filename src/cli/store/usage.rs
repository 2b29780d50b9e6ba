//! `weir store usage`.

use clap::Args;

use super::output::{OutputArgs, OutputFormat};
use super::{CliError, Context, Steps};
use crate::maintain::usage::usage;
use crate::types::ByteCount;

/// Show what takes how much space in the store, and why; by topic too.
///
/// Lists the bucket and reads the log, as a node that starts does. Needs no node and changes nothing.
#[derive(Debug, Args)]
pub(crate) struct Usage {
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(command: &Usage, context: &mut Context) -> Result<(), CliError> {
    let store = context.walk_through_store().await?;
    let steps = Steps::new();
    let usage = usage(&store, context.now(), &steps).await?;
    drop(steps);
    let output = &mut context.output;
    if command.output.output == OutputFormat::Json {
        output.json(&usage)?;
        return output.flush();
    }
    let size = |bytes: u64| ByteCount(bytes).to_string();
    let mut rows: Vec<Vec<String>> = usage
        .reasons
        .iter()
        .filter(|share| share.objects > 0)
        .map(|share| {
            vec![
                share.reason.id().to_owned(),
                size(share.bytes),
                share.objects.to_string(),
                share.reason.meaning().to_owned(),
            ]
        })
        .collect();
    rows.push(vec![
        "all".to_owned(),
        size(usage.bytes),
        usage.objects.to_string(),
        format!("as of commit {}", usage.state_seq),
    ]);
    output.table(&["WHY", "SIZE", "OBJECTS", "MEANING"], &rows)?;
    let rows: Vec<Vec<String>> = usage
        .topics
        .iter()
        .map(|topic| {
            vec![
                topic.topic.clone(),
                topic.partitions.to_string(),
                topic.records.to_string(),
                size(topic.bytes),
                size(topic.in_commits),
                size(topic.in_segments),
                size(topic.compacted),
                topic.objects.to_string(),
                topic.slices.to_string(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        output.line("")?;
        let heading = [
            "TOPIC",
            "PARTITIONS",
            "RECORDS",
            "SIZE",
            "IN COMMITS",
            "IN SEGMENTS",
            "COMPACTED",
            "OBJECTS",
            "SLICES",
        ];
        output.table(&heading, &rows)?;
    }
    output.flush()
}
