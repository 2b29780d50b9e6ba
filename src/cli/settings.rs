//! `weir settings`: what can be set, what is in force, and where it comes from.

use clap::Args;
use serde::Serialize;

use super::output::{Output, OutputArgs, OutputFormat};
use super::{CliError, FileFlag, Sources};
use crate::config::{
    Group, ListenConfig, LogConfig, MaintenanceConfig, NodeConfig, QueryConfig, Setting, Source,
    StoreConfig, settings_page,
};

/// Show all settings of a node, the values in force and where they come from.
#[derive(Debug, Args)]
pub(super) struct Settings {
    #[command(flatten)]
    pub(super) file: FileFlag,

    /// Write the page docs/settings.md instead.
    #[arg(long)]
    markdown: bool,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Row {
    setting: &'static str,
    value: Option<String>,
    source: String,
    environment: &'static str,
    kind: &'static str,
    default: Option<&'static str>,
    meaning: String,
}

pub(super) fn run(
    command: &Settings,
    sources: &Sources,
    output: &mut Output,
) -> Result<(), CliError> {
    if command.markdown {
        output.text(&settings_page())?;
        return output.flush();
    }
    let groups: [&[Setting]; 6] = [
        StoreConfig::SETTINGS,
        ListenConfig::SETTINGS,
        NodeConfig::SETTINGS,
        MaintenanceConfig::SETTINGS,
        QueryConfig::SETTINGS,
        LogConfig::SETTINGS,
    ];
    let rows: Vec<Row> = groups
        .into_iter()
        .flatten()
        .map(|setting| row(setting, sources))
        .collect();
    match command.output.output {
        OutputFormat::Json => output.json(&rows)?,
        OutputFormat::Text => {
            let cells: Vec<Vec<String>> = rows
                .iter()
                .map(|row| {
                    vec![
                        row.setting.to_owned(),
                        row.value.clone().unwrap_or_else(|| "-".to_owned()),
                        row.source.clone(),
                    ]
                })
                .collect();
            output.table(&["SETTING", "VALUE", "FROM"], &cells)?;
        }
    }
    output.flush()
}

fn row(setting: &Setting, sources: &Sources) -> Row {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (value, source) = sources.find(setting);
    Row {
        setting: setting.key,
        value: some(value),
        source: match source {
            Source::Default => "default".to_owned(),
            other => other.to_string(),
        },
        environment: setting.variable,
        kind: setting.kind,
        default: (!setting.default.is_empty()).then_some(setting.default),
        meaning: setting.doc.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}
