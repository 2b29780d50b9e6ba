//! On what the figures were taken.

use std::fs;
use std::process::Command;

use crate::stores::Programs;

/// The machine, the versions, the command and the date, as a list.
pub(crate) fn describe(programs: &Programs, command: &str) -> String {
    let unknown = || "unknown".to_owned();
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
    };
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_else(unknown);
    let kernel = said("uname", &["-sr"]).unwrap_or_else(unknown);
    let rustc = said("rustc", &["--version"]).unwrap_or_else(unknown);
    let date = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_else(unknown);
    let arguments = ["rev-parse", "--short", "HEAD"];
    let revision = said("git", &arguments).unwrap_or_else(unknown);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    let mut lines = vec![
        format!("Date: {date}, command: `{command}`"),
        format!("Machine: {cores} cores of {cpu}, {memory} of memory, {kernel}"),
        format!("Load of the machine when the run began: {load}"),
        format!("Weir {} at {revision}, {rustc}", env!("CARGO_PKG_VERSION")),
    ];
    lines.extend(programs.versions());
    lines.iter().map(|line| format!("- {line}\n")).collect()
}
