//! `weir fsck`: is everything in the bucket there, whole and consistent?

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::output::{OutputArgs, OutputFormat};
use super::progress::Steps;
use super::text::counted;
use super::{CliError, Output};
use crate::maintain::fsck::{Finding, FsckOptions, Kind, Report, Severity, fsck};
use crate::types::ByteCount;

/// Check that everything in the bucket is present, undamaged and consistent.
///
/// Walks the log, the snapshots and the objects that hold records, of a cluster that runs or of one that is stopped,
/// and reports what is missing, damaged, written by a newer version, or not referred to; for each finding, what it
/// means and what to do. Changes nothing.
///
/// Exit codes: 0 nothing is wrong (there may be warnings), 1 the bucket could not be read, 2 the command line is wrong,
/// 3 something is wrong with the bucket.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir fsck --store s3://bucket/weir            the log, and headers and indexes of all segments
  weir fsck --store s3://bucket/weir --deep     every byte")]
pub(super) struct Fsck {
    /// Read every byte: the checksum of every batch and of every object. Takes as long as reading the bucket.
    #[arg(long)]
    deep: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// How many findings of one kind are shown to people.
const SHOWN: usize = 10;

/// The report with its verdict.
#[derive(Serialize)]
struct Judged<'a> {
    sound: bool,
    errors: usize,
    warnings: usize,
    notes: usize,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) async fn run(command: &Fsck, context: &mut Context) -> Result<(), CliError> {
    let store = context.walk_through_store().await?;
    let options = FsckOptions {
        deep: command.deep,
        now: context.now(),
    };
    let steps = Steps::new();
    let report = fsck(&store, options, &steps).await?;
    drop(steps);
    match command.output.output {
        OutputFormat::Json => context.output.json(&Judged {
            sound: report.is_sound(),
            errors: report.count(Severity::Error),
            warnings: report.count(Severity::Warning),
            notes: report.count(Severity::Note),
            report: &report,
        })?,
        OutputFormat::Text => write(&report, &mut context.output)?,
    }
    context.output.flush()?;
    if report.is_sound() {
        return Ok(());
    }
    let errors = counted(report.count(Severity::Error) as u64, "error");
    Err(CliError::Unsound {
        message: format!("{}: {errors}", report.store),
    })
}

fn write(report: &Report, output: &mut Output) -> Result<(), CliError> {
    let checked = &report.checked;
    let size = |bytes| ByteCount(bytes).to_string();
    let cluster = report.cluster_id.map(|id| id.to_string());
    let judged = match report.state_seq {
        Some(seq) => format!(
            "commits to {}, judged by the state at {seq}",
            report.log_end
        ),
        None => format!(
            "commits to {}, from which no state can be built",
            report.log_end
        ),
    };
    let depth = if report.deep {
        "every byte read"
    } else {
        "the bytes of segments were not read (use --deep)"
    };
    for (name, value) in [
        ("store", report.store.clone()),
        ("cluster", cluster.unwrap_or_else(|| "-".to_owned())),
        ("log", judged),
        (
            "objects",
            format!("{}, {}", checked.objects, size(checked.bytes)),
        ),
        (
            "checked",
            format!(
                "{}, {} compared with the fold, {}, {}; {} read",
                counted(checked.commits, "commit"),
                counted(checked.snapshots_compared, "snapshot"),
                counted(checked.segments, "segment"),
                counted(checked.slices, "slice"),
                size(checked.bytes_read),
            ),
        ),
        ("depth", depth.to_owned()),
    ] {
        output.line(&format!("{name:<8} {value}"))?;
    }
    output.line("")?;
    let mut by_kind: BTreeMap<(Severity, Kind), Vec<&Finding>> = BTreeMap::new();
    for finding in &report.findings {
        let key = (finding.severity, finding.kind);
        by_kind.entry(key).or_default().push(finding);
    }
    for ((severity, kind), findings) in by_kind {
        write_kind(severity, kind, &findings, output)?;
    }
    let verdict = [
        (Severity::Error, "error"),
        (Severity::Warning, "warning"),
        (Severity::Note, "note"),
    ]
    .map(|(severity, name)| counted(report.count(severity) as u64, name))
    .join(", ");
    let sound = if report.is_sound() {
        "nothing is wrong"
    } else {
        "something is wrong"
    };
    output.line(&format!("{sound}: {verdict}"))
}

fn write_kind(
    severity: Severity,
    kind: Kind,
    findings: &[&Finding],
    output: &mut Output,
) -> Result<(), CliError> {
    let name = match severity {
        Severity::Error => "ERROR",
        Severity::Warning => "WARNING",
        Severity::Note => "NOTE",
    };
    output.line(&format!("{name} {} ({})", kind.id(), findings.len()))?;
    output.line(&format!("  means  {}", kind.meaning()))?;
    output.line(&format!("  do     {}", kind.action()))?;
    for finding in findings.iter().take(SHOWN) {
        output.line(&format!("  {}", finding.object))?;
        let invariant = finding.invariant.map(|id| format!("{id}: "));
        let detail = finding.detail.strip_prefix(&finding.object);
        let detail = detail.map_or(finding.detail.as_str(), |rest| {
            rest.trim_start_matches([':', ' '])
        });
        output.line(&format!("    {}{detail}", invariant.unwrap_or_default()))?;
        if let Some(object) = &finding.inspect {
            output.line(&format!("    look: weir inspect {object}"))?;
        }
    }
    if findings.len() > SHOWN {
        output.line(&format!(
            "  and {} more: --output json shows all",
            findings.len() - SHOWN
        ))?;
    }
    output.line("")
}
