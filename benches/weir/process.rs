//! A server as a process of its own, so that its processor time and its memory are its own.

use std::fs;
use std::process::{Child, ChildStdout, Command};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// How often the kernel counts processor time, per second: 100 on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// A running process; killed (SIGKILL) when it is dropped.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Result<Process> {
        let program = command.get_program().to_owned();
        let child = command.spawn();
        child
            .map(Process)
            .with_context(|| format!("cannot run {}", program.display()))
    }

    /// Its standard output, if that is a pipe and nobody has it yet.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn pause(&self, pause: bool) -> Result<()> {
        let id = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let signal = if pause { Signal::STOP } else { Signal::CONT };
        kill_process(id.context("a process without an id")?, signal)?;
        Ok(())
    }

    /// The processor time that it has used, in seconds.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        processor_seconds(&self.0.id().to_string())
    }

    /// The most memory that it has had, in MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    /// The memory that it has, in MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line
            .and_then(|line| line.split_whitespace().next())
            .context("a strange /proc")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }
}

/// The processor time that this process has used, in seconds.
pub(crate) fn own_processor_seconds() -> Result<f64> {
    processor_seconds("self")
}

fn processor_seconds(process: &str) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program, in brackets, may contain anything.
    let (_, fields) = stat.rsplit_once(')').context("a strange /proc")?;
    let field = |at: usize| -> Result<f64> {
        let field = fields.split_whitespace().nth(at);
        Ok(field.context("a strange /proc")?.parse()?)
    };
    Ok((field(11)? + field(12)?) / TICKS)
}
