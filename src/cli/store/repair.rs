//! `weir store repair`.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal};

use clap::Args;

use super::{CliError, Context, Steps};
use crate::cli::output::Output;
use crate::cli::text::{counted, shown};
use crate::maintain::repair::{Lost, Plan, PlanOptions, Repaired, carry_out, plan};
use crate::store::{ObjectPath, ObjectPrefix};
use crate::types::Seq;

/// Give up what is damaged or missing in the log, so that nodes can start again. All nodes must be stopped.
///
/// For a bucket on which no node starts, when nobody has a copy of the damaged objects. Commits that nodes must fold
/// and cannot are replaced by empty ones, snapshots that cannot be read are removed. What was in them is lost: the
/// command says what that is, as far as it can be known, and asks before it changes anything. It keeps a copy of
/// everything that it replaces or removes, below repair/ in the store. Killed at any moment, it can be run again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir fsck --store s3://bucket/weir            what is damaged?
  weir store repair --store s3://bucket/weir    what would be lost? asks before it changes anything
  weir store repair --yes                       does not ask")]
pub(crate) struct Repair {
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,

    /// Continue although a node's lease has not ended, because the node is known to be gone.
    #[arg(long)]
    force: bool,

    /// Also replace this commit, which can be read but not applied by nodes. May be repeated.
    #[arg(long, value_name = "SEQ")]
    void: Vec<u64>,
}

pub(super) async fn run(command: &Repair, context: &mut Context) -> Result<(), CliError> {
    let store = context.walk_through_store().await?;
    let options = PlanOptions {
        now: context.now(),
        run: context.env.random_uuid(),
        void: command
            .void
            .iter()
            .copied()
            .map(Seq)
            .collect::<BTreeSet<_>>(),
    };
    let steps = Steps::new();
    let planned = plan(&store, &options, &steps).await;
    drop(steps);
    let plan = planned.map_err(|error| CliError::failed(error.to_string()))?;
    show(&plan, &mut context.output)?;
    context.output.flush()?;
    if plan.is_empty() {
        return Ok(());
    }
    if !command.yes && !is_confirmed()? {
        return Err(CliError::failed("nothing was changed").hint(
            "look for a copy or an old version of the objects first; --yes repairs without asking",
        ));
    }
    let store = context.open_store().await?;
    let done = carry_out(&store, &plan, command.force).await;
    let done = done.map_err(|error| CliError::failed(error.to_string()))?;
    show_done(&plan, &done, &mut context.output)?;
    context.output.flush()
}

/// Whether a person says yes. Where nobody can be asked it is no.
fn is_confirmed() -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut stderr = io::stderr();
    io::Write::write_all(&mut stderr, b"Type \"repair\" to go on: ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "repair")
}

fn show(plan: &Plan, output: &mut Output) -> Result<(), CliError> {
    output.line(&format!("store    {}", plan.store))?;
    let start = match plan.start {
        Seq::ZERO => "the beginning of the log".to_owned(),
        seq => format!("the snapshot of commit {seq}"),
    };
    output.line(&format!(
        "log      commits to {}; nodes start from {start}",
        plan.log_end
    ))?;
    if plan.is_empty() {
        return output.line("nodes can start: there is nothing to repair");
    }
    for node in &plan.live {
        output.line(&format!(
            "WARNING  node {} may be running: its lease lasts until {}. All nodes must be stopped",
            node.node,
            shown(node.lease_until)
        ))?;
    }
    for snapshot in &plan.snapshots {
        output.line("")?;
        output.line(&format!("REMOVE   {}", ObjectPath::snapshot(snapshot.seq)))?;
        output.line(&format!("  why    {}", snapshot.reason))?;
        output.line("  lost   nothing: nodes start from another state")?;
    }
    for commit in &plan.commits {
        output.line("")?;
        output.line(&format!("REPLACE  {}", ObjectPath::commit(commit.seq)))?;
        output.line(&format!("  why    {}", commit.reason))?;
        match &commit.lost {
            Some(lost) => show_lost("  lost   ", lost, output)?,
            None => output.line("  lost   everything in it; what that was is unknown")?,
        }
    }
    if !plan.refused.is_empty() {
        output.line("")?;
        output
            .line("These later changes are refused as a result. Some of them may have been refused before:")?;
        show_lost("         ", &plan.refused, output)?;
    }
    if !plan.commits.is_empty() {
        output.line("")?;
        output.line(
            "Records that were appended after lost ones get lower offsets than their producers were told. So committed \
             offsets of groups may be beyond the end of a partition, and what was deleted up to an offset reaches that \
             much further.",
        )?;
    }
    Ok(())
}

fn show_lost(indent: &str, lost: &Lost, output: &mut Output) -> Result<(), CliError> {
    if lost.is_empty() {
        return output.line(&format!("{indent}nothing"));
    }
    for (partition, records) in &lost.records {
        output.line(&format!(
            "{indent}{} of {partition}",
            counted(*records, "record")
        ))?;
    }
    for (op, count) in &lost.ops {
        output.line(&format!("{indent}{count} x {op}"))?;
    }
    Ok(())
}

fn show_done(plan: &Plan, done: &Repaired, output: &mut Output) -> Result<(), CliError> {
    output.line("")?;
    output.line(&format!(
        "repaired: {} replaced, {} removed, {} kept below {}/{}/",
        counted(done.voided.len() as u64, "commit"),
        counted(done.removed.len() as u64, "snapshot"),
        counted(done.copies.len() as u64, "object"),
        ObjectPrefix::Repairs.name(),
        plan.run,
    ))?;
    output.line("next: weir fsck, then start the nodes")
}
