//! What nodes log, in the trace. An error in it is a finding, since what a simulation does to a node is nothing that
//! somebody must be called for, but for a clock that is set wrong.

use std::io;

use tracing::Level;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::world::{Finding, World};

/// The part of a node that says that its clock is wrong.
const CLOCK_WATCH: &str = "weir::store::watch";

/// From now on, the warnings and errors of this thread are noted in the trace, until the guard is dropped.
pub(super) fn note_logs(world: &World) -> DefaultGuard {
    let logs = tracing_subscriber::fmt()
        .with_writer(Lines(world.clone()))
        .with_max_level(Level::WARN)
        .with_ansi(false)
        .without_time()
        .finish();
    tracing::subscriber::set_default(logs)
}

/// Each write is one line.
#[derive(Clone)]
struct Lines(World);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        self.0.note(format_args!("log: {text}"));
        if text.starts_with("ERROR") && !text.contains(CLOCK_WATCH) {
            self.0
                .found(Finding::Wrong(format!("a node logged: {text}")));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}
