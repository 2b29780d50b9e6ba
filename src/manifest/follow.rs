//! Following: finding out what other nodes committed.

use futures::StreamExt;
use tokio::time::{Duration, Instant};

use super::handle::Stopped;
use super::log::{self, LogError};
use super::open::OpenError;
use super::tail::Tail;
use crate::mutants::{self, Mutant};
use crate::store::{RequestKind, StoreError};
use crate::types::Seq;

/// How much of a commit is read when nobody here is waiting for its records: the ops, mostly.
const HEAD: u64 = 64 << 10;

/// How much is read when somebody is: nearly always the whole object, so that the records come with it.
const WHOLE: u64 = 1 << 20;

/// The longest pause between two attempts to reach a store that is gone, before jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The most commits that a look at the log begins with. Each beyond the end is a request in vain.
const MAX_FIRST: u64 = 8;

/// The most commits that are read at once when this node is behind.
const MAX_WINDOW: u64 = 32;

impl Tail {
    /// How much of a commit to ask for.
    pub(super) fn read_limit(&self) -> u64 {
        if self.is_followed() { WHOLE } else { HEAD }
    }

    /// Reads and folds until nothing stands at the next seq. Begins with one request more than the last look found commits,
    /// and, while it finds as many, reads ever more of them at once. A store that cannot be asked is asked again later, unless
    /// only the timer wanted to know.
    pub(super) async fn catch_up(&mut self) -> Result<(), Stopped> {
        let mut window = (self.last_found + 1).min(MAX_FIRST);
        let mut found = 0u64;
        let mut failures = 0;
        loop {
            let sent = self.moment();
            let read = self.read_window(window).await;
            self.check_diverged()?;
            match read {
                Ok(Some(read)) => {
                    found += read;
                    failures = 0;
                    if read < window {
                        self.note_proof(sent);
                        break;
                    }
                    window = (window * 2).min(MAX_WINDOW);
                }
                Ok(None) => {
                    self.start_over().await?;
                    window = MAX_WINDOW;
                }
                Err(LogError::Object(error)) => return Err(self.halt(&error)),
                Err(LogError::Store(_)) if mutants::on(Mutant::FailedProbeIsEnd) => {
                    self.note_proof(sent);
                    break;
                }
                Err(LogError::Store(error)) => {
                    self.pause_after(&error, &mut failures, "follow the log")
                        .await;
                    self.asking.retain(|question| !question.reply.is_closed());
                    if !self.is_asked(Instant::now()) {
                        // Only the timer wanted to know; let it ask again.
                        self.looked = sent.at;
                        break;
                    }
                    window = 1;
                }
            }
        }
        self.last_found = found;
        self.metrics
            .lag
            .set(i64::try_from(found).unwrap_or(i64::MAX));
        self.rest = if found > 0 {
            self.options.follow_interval
        } else {
            (self.rest * 2).min(self.longest_rest())
        };
        Ok(())
    }

    /// Folds the log to its end, before the task runs. The log after the newest snapshot is usually long, so
    /// this soon reads many commits at once.
    ///
    /// # Errors
    ///
    /// The store's, when it cannot be read: a node that is starting says so instead of waiting for ever.
    pub(super) async fn read_to_the_end(&mut self) -> Result<(), OpenError> {
        let mut failures = 0;
        let mut window = 2;
        loop {
            let sent = self.moment();
            let read = self.read_window(window).await;
            self.check_diverged()?;
            match read {
                Ok(Some(read)) if read == window => {
                    failures = 0;
                    window = (window * 4).min(MAX_WINDOW);
                }
                Ok(Some(_)) => {
                    self.note_proof(sent);
                    return Ok(());
                }
                Ok(None) => self.start_over().await?,
                Err(LogError::Object(error)) => return Err(error.into()),
                Err(LogError::Store(error)) if !error.is_retriable() || failures > 8 => {
                    return Err(error.into());
                }
                Err(LogError::Store(error)) => {
                    self.pause_after(&error, &mut failures, "read the log")
                        .await;
                }
            }
        }
    }

    /// Reads the next `window` commits at once and folds those that are there; returns how many. `None` if the log was
    /// truncated beyond the next one: then nothing that was read can be believed, and nothing is folded.
    async fn read_window(&mut self, window: u64) -> Result<Option<u64>, LogError> {
        let first = self.state.seq().0 + 1;
        let (store, limit) = (self.store.clone(), self.read_limit());
        let known = self.options.level;
        let mut reads = futures::stream::iter(first..first + window)
            .map(|seq| {
                let store = store.clone();
                let kind = RequestKind::CommitProbe;
                async move { log::read(&store, known, Seq(seq), limit, kind).await }
            })
            .buffered(usize::try_from(window).unwrap_or(1));
        let mut found = Vec::new();
        let mut ended = Ok(());
        while let Some(read) = reads.next().await {
            match read {
                Ok(Some(logged)) => found.push(logged),
                Ok(None) => break,
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            }
        }
        drop(reads);
        if self.is_left_behind().await? {
            return Ok(None);
        }
        // What came before a failure is folded all the same.
        for logged in &found {
            self.fold(logged);
            self.metrics.followed.inc();
            if self.diverged.is_some() {
                break;
            }
        }
        ended.map(|()| Some(found.len() as u64))
    }

    /// How long to wait after so many failures in a row: longer with each, as the store's policy says. But all
    /// clients of a node wait for this one task, whose one request every few seconds is no burden to a store that
    /// comes back.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        let mut policy = self.store.options().retry;
        policy.cap = policy.cap.min(LONGEST_PAUSE);
        policy.pause(failures, &self.env)
    }

    /// Logs a failure of the store and waits before the next attempt, longer with each.
    pub(super) async fn pause_after(
        &mut self,
        error: &StoreError,
        failures: &mut u32,
        purpose: &str,
    ) {
        let pause = self.pause(*failures);
        *failures = failures.saturating_add(1);
        if failures.is_power_of_two() {
            tracing::warn!(%error, failures, "cannot {purpose}; trying again");
        }
        tokio::time::sleep(pause).await;
    }
}
