//! Progress on a terminal, for what takes longer than two seconds. Where stderr is no terminal there is none, but that
//! work in several steps says how far it is every ten seconds, on a line.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::context::SHOW_AFTER;
use crate::maintain::fsck::{Step, Watch};

/// How often work in steps says how far it is where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// A count of something that goes on, shown once it has taken a while.
pub(super) struct Progress {
    bar: ProgressBar,
    since: Instant,
    shown: bool,
}

impl Progress {
    /// Counts things called `what` (`records`).
    pub(super) fn counting(what: &str) -> Progress {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        // A template that cannot be read leaves the plain one.
        let template = format!("{{spinner}} {{human_pos}} {what}, {{per_sec}}, {{elapsed}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Progress {
            bar,
            since: Instant::now(),
            shown: false,
        }
    }

    /// Counts some more.
    pub(super) fn add(&mut self, more: u64) {
        self.bar.inc(more);
        if !self.shown && self.since.elapsed() >= SHOW_AFTER {
            self.shown = true;
            // Draws nothing where stderr is no terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Takes it off the terminal.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Awaits a future, and says what is being done if that takes long.
    pub(super) async fn during<T>(what: &str, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        if let Ok(done) = tokio::time::timeout(SHOW_AFTER, &mut future).await {
            return done;
        }
        let bar = ProgressBar::new_spinner();
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        let done = future.await;
        bar.finish_and_clear();
        done
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// How far a walk through a bucket is.
pub(super) struct Steps {
    current: Mutex<Current>,
    is_terminal: bool,
}

struct Current {
    bar: ProgressBar,
    doing: &'static str,
    total: Option<u64>,
    done: u64,
    shown: bool,
    /// When the step began, or a line was last written.
    since: Instant,
}

impl Steps {
    /// Before the first step.
    pub(super) fn new() -> Steps {
        Steps {
            current: Mutex::new(Current {
                bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
                doing: "",
                total: None,
                done: 0,
                shown: false,
                since: Instant::now(),
            }),
            is_terminal: io::stderr().is_terminal(),
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    /// `reading the log: 1200 of 5000`.
    fn line(&self) -> String {
        match self.total {
            Some(total) => format!("{}: {} of {total}", self.doing, self.done),
            None => format!("{}: {}", self.doing, self.done),
        }
    }
}

impl Watch for Steps {
    fn begin(&self, step: Step, total: Option<u64>) {
        let mut current = self.current();
        current.bar.finish_and_clear();
        current.doing = match step {
            Step::Listing => "listing objects",
            Step::Log => "reading the log",
            Step::Objects => "reading objects",
            Step::Again => "looking again at what was found",
        };
        (current.total, current.done) = (total, 0);
        (current.shown, current.since) = (false, Instant::now());
        current.bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let doing = current.doing;
        let template = match total {
            Some(_) => format!("{doing} {{wide_bar}} {{human_pos}}/{{human_len}} {{eta}}"),
            None => format!("{{spinner}} {doing} {{human_pos}}, {{per_sec}}, {{elapsed}}"),
        };
        // A template that cannot be read leaves the plain one.
        if let Ok(style) = ProgressStyle::with_template(&template) {
            current.bar.set_style(style);
        }
    }

    fn advance(&self, objects: u64) {
        let mut current = self.current();
        current.done += objects;
        current.bar.inc(objects);
        if self.is_terminal {
            if !current.shown && current.since.elapsed() >= SHOW_AFTER {
                current.shown = true;
                current.bar.set_draw_target(ProgressDrawTarget::stderr());
            }
        } else if current.since.elapsed() >= BETWEEN_LINES {
            current.since = Instant::now();
            // There is nobody to tell if stderr is gone.
            let _ = writeln!(io::stderr(), "{}", current.line());
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.current().bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_how_far_it_is() {
        let steps = Steps::new();
        steps.begin(Step::Listing, None);
        steps.advance(3);
        assert_eq!(steps.current().line(), "listing objects: 3");
        steps.begin(Step::Log, Some(9));
        steps.advance(2);
        steps.advance(2);
        assert_eq!(steps.current().line(), "reading the log: 4 of 9");
    }
}
