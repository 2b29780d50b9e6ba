//! What nodes log, in the trace. An error in it is a finding, since what a simulation does to a node is nothing that
//! somebody must be called for, but for a clock that is set wrong.

use std::io;

use tracing::subscriber::DefaultGuard;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::world::{Finding, World};

/// The part of a node that says that its clock is wrong.
const CLOCK_WATCH: &str = "weir::store::watch";

/// From now on, the warnings and errors of this thread are noted in the trace, until the guard is dropped.
pub(super) fn note_logs(world: &World) -> DefaultGuard {
    let logs = tracing_subscriber::fmt()
        .with_writer(Logs(world.clone()))
        .with_max_level(Level::WARN)
        .with_ansi(false)
        .without_time()
        .finish();
    tracing::subscriber::set_default(logs)
}

struct Logs(World);

/// Each write is one line.
struct Lines<'a> {
    world: &'a World,
    is_finding: bool,
}

impl io::Write for Lines<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        self.world.note(format_args!("log: {text}"));
        if self.is_finding {
            let what = format!("a node logged: {text}");
            self.world.found(Finding::Wrong(what));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logs {
    type Writer = Lines<'a>;

    fn make_writer(&'a self) -> Lines<'a> {
        Lines {
            world: &self.0,
            is_finding: false,
        }
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Lines<'a> {
        Lines {
            world: &self.0,
            is_finding: *of.level() == Level::ERROR && of.target() != CLOCK_WATCH,
        }
    }
}
