//! The tables: ratios first.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::many::{CLUSTERS, Cluster, NODES};
use crate::measure::{AT_ONCE, PRODUCERS, SIZES};
use crate::stats::Figures;
use crate::{clients, codecs, competitors, scale};

/// The figures of each setting that was measured, by its name.
pub(crate) type Columns<'a> = Vec<(&'static str, &'a Figures)>;

/// A row of a table.
pub(crate) struct Row {
    title: String,
    id: String,
    goal: &'static str,
    decimals: usize,
}

impl Row {
    pub(crate) fn new(title: impl Into<String>, id: impl Into<String>) -> Row {
        Row {
            title: title.into(),
            id: id.into(),
            goal: "",
            decimals: 2,
        }
    }

    pub(crate) fn goal(mut self, goal: &'static str) -> Row {
        self.goal = goal;
        self
    }

    pub(crate) fn whole(mut self) -> Row {
        self.decimals = 0;
        self
    }
}

fn to_the_store() -> Vec<Row> {
    let mut rows = vec![
        Row::new("ack p50 / one PUT p50", "ratio.ack.p50").goal("<= 1.3"),
        Row::new("ack p99 / one PUT p99", "ratio.ack.p99"),
        Row::new("end to end p50 / one PUT p50", "ratio.e2e.p50"),
        Row::new("end to end p99 / one PUT p99", "ratio.e2e.p99"),
        Row::new(
            "8 producers that wait: ack p50 / one PUT p50",
            "ratio.eight.p50",
        ),
        Row::new(
            "8 producers that wait: ack p99 / one PUT p50",
            "ratio.eight.p99",
        )
        .goal("<= 3"),
        Row::new(
            "produced on A, consumed on B: p50 / one PUT p50",
            "ratio.across.p50",
        ),
    ];
    let [one, several @ ..] = CLUSTERS;
    for cluster in several {
        let title = format!(
            "produce throughput, {} nodes with {} producers each / one with {}",
            cluster.nodes, cluster.producers, one.producers
        );
        rows.push(Row::new(title, cluster.figure("ratio")).goal(">= 1"));
    }
    for producers in PRODUCERS.into_iter().rev() {
        let title = format!("produce throughput, {producers} producer(s) / raw PUT");
        let row = Row::new(title, format!("ratio.produce.{producers}"));
        rows.push(row.goal(if producers > 1 { ">= 0.8" } else { "" }));
    }
    rows.push(Row::new("catch-up read, cold / raw GET", "ratio.catchup").goal(">= 0.6"));
    for (id, title) in OLD {
        let title = |what: &str| format!("catch-up read of {title}, {what}");
        let after = Row::new(
            title("compacted / raw GET"),
            format!("ratio.old.{id}.after"),
        );
        rows.push(after.goal(">= 0.6"));
        let before = title("not compacted / raw GET");
        rows.push(Row::new(before, format!("ratio.old.{id}.before")));
        let one = title("compacted / raw GET, 1 at once");
        rows.push(Row::new(one, format!("ratio.old.{id}.after.1")));
    }
    for (id, title) in [("ack", "ack"), ("e2e", "end to end")] {
        for quantile in ["p50", "p99"] {
            let title = format!("{title} {quantile}, with compaction / without");
            rows.push(Row::new(title, format!("ratio.compaction.{id}.{quantile}")));
        }
    }
    rows.push(
        Row::new(
            "bytes written per byte produced, with compaction",
            "compaction.amplification",
        )
        .goal("<= 2"),
    );
    rows.push(
        Row::new("store requests per 1,000 messages at 100/s", "requests")
            .goal("<= 1,020")
            .whole(),
    );
    let idle = Row::new("store requests of an idle node, per hour", "idle");
    rows.push(idle.goal("<= 60").whole());
    let start = Row::new("start with what was produced stored, s", "start.seconds");
    rows.push(start.goal("<= 0.5"));
    rows
}

fn node() -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, id) in [
        ("one PUT of 1 KiB", "put"),
        ("ack", "ack"),
        ("end to end", "e2e"),
    ] {
        for quantile in ["p50", "p99"] {
            let title = format!("{what} at 100/s, {quantile}, ms");
            rows.push(Row::new(title, format!("latency.{id}.{quantile}")));
        }
    }
    for kind in [
        "commit_put",
        "commit_probe",
        "commit_get",
        "segment_put",
        "segment_get",
        "snapshot_put",
        "delete",
    ] {
        let title = format!("requests per 1,000 messages: {kind}");
        rows.push(Row::new(title, format!("requests.{kind}")).whole());
    }
    rows.push(Row::new("raw PUT, 8 of 8 MiB at once, MB/s", "raw.put").whole());
    for producers in PRODUCERS {
        let id = |what: &str| format!("produce.{producers}.{what}");
        let title = |what: &str| format!("produce, {producers} producer(s), {what}");
        rows.push(Row::new(title("MB/s"), id("rate")).whole());
        rows.push(Row::new(title("CPU s per GB"), id("processor")).goal("<= 0.8"));
        let memory = Row::new(title("peak memory, MiB"), id("memory"));
        rows.push(memory.goal("<= 512").whole());
    }
    rows.push(Row::new("raw GET, 8 of 8 MiB at once, MB/s", "raw.get").whole());
    rows.push(Row::new("catch-up read, MB/s", "catchup.rate").whole());
    rows.push(Row::new("catch-up read, CPU s per GB", "catchup.processor").goal("<= 0.5"));
    rows.push(Row::new("catch-up read, peak memory, MiB", "catchup.memory").whole());
    rows.push(Row::new("stored at that start, GB", "start.stored"));
    rows.push(Row::new("read from memory, MB/s", "cached.rate").whole());
    rows.push(Row::new("read from memory, CPU s per GB", "cached.processor").goal("<= 0.5"));
    rows.push(Row::new(
        "read from memory, CPU s per GB of the client",
        "cached.client",
    ));
    rows.push(Row::new("8 producers that wait, messages/s", "eight.rate").whole());
    for (what, id) in [
        ("8 producers that wait: ack", "eight.ack"),
        ("A to B, end to end", "across.e2e"),
    ] {
        for quantile in ["p50", "p99"] {
            rows.push(Row::new(
                format!("{what}, {quantile}, ms"),
                format!("{id}.{quantile}"),
            ));
        }
    }
    for count in NODES {
        let row = |what: &str, id: &str| {
            Row::new(
                format!("{count} node(s) at 100/s each: {what}"),
                format!("nodes.{count}.{id}"),
            )
        };
        rows.push(row("ack p50, ms", "ack.p50"));
        rows.push(row("ack p99, ms", "ack.p99"));
        rows.push(row("end to end p50, ms", "e2e.p50"));
        rows.push(row("commit PUTs per 1,000 messages", "puts").whole());
    }
    for cluster in CLUSTERS {
        let Cluster { nodes, producers } = cluster;
        let row = |what: &str, id: &str| {
            let title = format!("{nodes} node(s) with {producers} producers each: {what}");
            Row::new(title, cluster.figure(id))
        };
        rows.push(row("MB/s", "rate").whole());
        rows.push(row("CPU s per GB of the node(s)", "processor"));
        rows.push(row("races lost", "lost").whole());
        rows.push(row("commit PUTs in vain, %", "vain"));
    }
    rows
}

/// What is read from the start before it is compacted and after.
const OLD: [(&str, &str); 3] = [
    ("bulk", "large batches"),
    ("single", "100,000 commits of one message"),
    ("tenfold", "100,000 commits of one message of 10 KiB"),
];

fn old() -> Vec<Row> {
    let mut rows = Vec::new();
    for (id, title) in [("ack", "ack"), ("e2e", "end to end")] {
        for quantile in ["p50", "p99"] {
            for (side, name) in [("off", "no compaction"), ("on", "compaction")] {
                let title = format!("{title} at 100/s beside 8 MB/s, {quantile}, ms: {name}");
                rows.push(Row::new(
                    title,
                    format!("compaction.{side}.{id}.{quantile}"),
                ));
            }
        }
    }
    let share = "bytes compacted per byte produced meanwhile";
    rows.push(Row::new(share, "compaction.share"));
    for at_once in AT_ONCE {
        let title = format!("raw GET, {at_once} of 8 MiB at once, MB/s");
        rows.push(Row::new(title, format!("old.raw.{at_once}")).whole());
    }
    for (id, topic) in OLD {
        for (what, figure) in [
            ("MB/s", "rate"),
            ("GETs per MB", "gets"),
            ("CPU s per GB", "processor"),
            ("peak memory, MiB", "memory"),
        ] {
            for (when, name) in [("before", "not compacted"), ("after", "compacted")] {
                let title = format!("{topic}, {name}: {what}");
                rows.push(Row::new(title, format!("old.{id}.{when}.{figure}")));
            }
        }
        let title = format!("{topic}: compacting, MB/s");
        rows.push(Row::new(title, format!("old.{id}.compacting")).whole());
        let title = format!("{topic}: slices in the state, compacted");
        rows.push(Row::new(title, format!("old.{id}.slices")).whole());
    }
    rows
}

fn store() -> Vec<Row> {
    let mut rows = Vec::new();
    for what in ["put", "get"] {
        for (name, _) in SIZES {
            for at_once in AT_ONCE {
                let id = |figure: &str| format!("{what}.{name}.{at_once}.{figure}");
                let title = |figure: &str| {
                    format!(
                        "{} {name}, {at_once} at once, {figure}",
                        what.to_uppercase()
                    )
                };
                rows.push(Row::new(title("p50, ms"), id("p50")));
                rows.push(Row::new(title("MB/s"), id("rate")).whole());
            }
        }
    }
    rows
}

/// What was not measured, and why.
pub(crate) fn notes(columns: &Columns<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    for (setting, figures) in columns {
        for note in figures.notes() {
            notes.push(format!("{setting}: {}", note.trim().replace('\n', " ")));
        }
    }
    notes
}

/// The table of the results, as Markdown that reads well as text too.
pub(crate) fn ratios(columns: &Columns<'_>) -> String {
    tables(vec![("Ratios to the store", to_the_store())], columns)
}

/// The tables of everything behind the results.
pub(crate) fn details(columns: &Columns<'_>) -> String {
    let parts = vec![
        ("The node", node()),
        ("Old data", old()),
        ("Limits", scale::rows()),
        ("Text", codecs::rows()),
        ("Clients", clients::rows()),
        ("Competitors", competitors::rows()),
        ("The store alone", store()),
    ];
    tables(parts, columns)
}

fn tables(parts: Vec<(&str, Vec<Row>)>, columns: &Columns<'_>) -> String {
    let mut text = String::new();
    for (title, rows) in parts {
        let table = table(&rows, columns);
        if !table.is_empty() {
            // Writing to a String does not fail.
            let _ = write!(text, "### {title}\n\n{table}\n");
        }
    }
    text
}

/// One table; empty if none of its rows was measured.
fn table(rows: &[Row], columns: &Columns<'_>) -> String {
    let has_goals = rows.iter().any(|row| !row.goal.is_empty());
    let mut lines: Vec<Vec<String>> = Vec::new();
    for row in rows {
        let cell = |(_, figures): &(&str, &Figures)| match figures.get(&row.id) {
            Some(value) => format!("{value:.*}", row.decimals),
            None => String::new(),
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        if cells.iter().all(String::is_empty) {
            continue;
        }
        let mut line = vec![row.title.clone()];
        line.extend(has_goals.then(|| row.goal.to_owned()));
        line.extend(cells);
        lines.push(line);
    }
    if lines.is_empty() {
        return String::new();
    }
    let mut head = vec![String::new()];
    head.extend(has_goals.then(|| "goal".to_owned()));
    head.extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    lines.insert(0, head);
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|at| {
            lines
                .iter()
                .map(|line| line[at].len())
                .max()
                .unwrap_or(0)
                .max(3)
        })
        .collect();
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        text.push('|');
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Writing to a String does not fail.
            let _ = match column {
                0 => write!(text, " {cell:width$} |"),
                _ => write!(text, " {cell:>width$} |"),
            };
        }
        text.push('\n');
        if at == 0 {
            text.push('|');
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                text.push_str(&match column {
                    0 => format!("{dashes}-|"),
                    _ => format!("{dashes}:|"),
                });
            }
            text.push('\n');
        }
    }
    text
}

const BEGIN: &str = "<!-- measured: `make bench` writes what is between these two lines -->";
const END: &str = "<!-- end of what was measured -->";

/// Puts `measured` in its place in the page; what people wrote around it stays.
pub(crate) fn write(page: &Path, measured: &str) -> Result<()> {
    let old = fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let (before, rest) = old
        .split_once(BEGIN)
        .context("the page has no place for figures")?;
    let (_, after) = rest
        .split_once(END)
        .context("the place for figures does not end")?;
    fs::write(
        page,
        format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", measured.trim()),
    )?;
    Ok(())
}
