//! Progress on a terminal, for what takes longer than two seconds. Nothing where stderr is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::context::PATIENCE;

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
        if !self.shown && self.since.elapsed() >= PATIENCE {
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
        if let Ok(done) = tokio::time::timeout(PATIENCE, &mut future).await {
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
