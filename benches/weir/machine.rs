//! On what the figures were taken.

use std::fs;
use std::process::Command;

use crate::stores::Programs;

/// One run: its date, its command, and what disturbed it.
pub(crate) fn run(command: &str) -> String {
    let date = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
    let revision = said(
        "git",
        &["describe", "--always", "--dirty", "--exclude", "*"],
    );
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}: `{command}`, Weir {} at {}, load of the machine before it {}",
        date.unwrap_or_else(unknown),
        env!("CARGO_PKG_VERSION"),
        revision.unwrap_or_else(unknown),
        load.split_whitespace().next().unwrap_or("unknown"),
    )
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

/// The machine.
pub(crate) fn describe() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_else(unknown);
    let kernel = said("uname", &["-sr"]).unwrap_or_else(unknown);
    format!("Machine: {cores} cores of {cpu}, {memory} of memory, {kernel}")
}

/// What the node was compiled with, and what it was measured on.
pub(crate) fn versions(programs: &Programs) -> Vec<String> {
    let mut versions = vec![said("rustc", &["--version"]).unwrap_or_else(unknown)];
    versions.extend(programs.versions());
    versions
}
