//! Following: finding out what other nodes committed.

use futures::StreamExt;
use tokio::time::{Duration, Instant};

use super::error::OpenError;
use super::freshness::Moment;
use super::handle::Stopped;
use super::log::{self, LogError};
use super::tail::{LogEnd, Tail};
use crate::rules::{Rule, holds};
use crate::state::Level;
use crate::store::{ObjectKind, ObjectPath, ObjectPrefix, RequestKind, Store, StoreError};
use crate::types::{MAX_COMMITS_IN_FLIGHT, Seq};

/// How much of a commit is read when nobody here is waiting for its records: the ops, mostly.
const HEAD: u64 = 64 << 10;

/// How much is read when somebody is: nearly always the whole object, so that the records come with it.
const WHOLE: u64 = 1 << 20;

/// The longest pause between two attempts to reach a store that is gone, before jitter.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The most commits that a look at the log begins with. Each beyond the end is a request in vain.
const MAX_FIRST: u64 = 8;

/// The most commits that are read at once when this node is behind. As many as there are places for requests by
/// default: a store that takes seconds for each still gives them faster than others write them.
const MAX_WINDOW: u64 = 64;

/// The same at a start, which has more places.
const MAX_START_WINDOW: u64 = 256;

/// How many commits a start begins with.
const FIRST_START_WINDOW: u64 = 8;

/// What there is beyond what seemed to be the end of the log.
enum Beyond {
    /// It was the end when it was read.
    End,
    /// A commit that was sent when the next one stood, which does not.
    Missing(OpenError),
    /// The log was truncated beyond the next commit.
    Truncated,
}

/// How often a start tries to read a commit before it begins again with what it has. One of many that are read at once
/// nearly always fails while a part of all requests does, and those behind it would be read in vain.
const START_ATTEMPTS: u32 = 8;

/// The first of these commits that was sent when all before it stood.
async fn that_follows_nothing(
    store: &Store,
    known: Level,
    seqs: &[Seq],
) -> Result<Option<Seq>, LogError> {
    let reads = seqs.iter().map(|seq| {
        let probe = RequestKind::CommitProbe;
        log::read_repeatedly(store, known, *seq, HEAD, probe, START_ATTEMPTS)
    });
    let found = futures::future::try_join_all(reads).await?;
    let mut found = found.into_iter().flatten();
    let proof = found.find(|logged| logged.commit.follows.is_none());
    Ok(proof.map(|logged| logged.seq))
}

impl Tail {
    /// How much of a commit to ask for.
    pub(super) fn read_limit(&self) -> u64 {
        if self.is_followed() { WHOLE } else { HEAD }
    }

    /// Reads and folds until nothing stands at the next seq. Begins with one request more than the last look found
    /// commits, and, while it finds as many, reads ever more of them at once. A store that cannot be asked is asked
    /// again later, unless nobody waits for the answer: then whoever called looks again in its own time.
    pub(super) async fn catch_up(&mut self) -> Result<(), Stopped> {
        let mut window = (self.freshness.last_found() + 1).min(MAX_FIRST);
        let mut found = 0u64;
        let mut failures = self.end.failures();
        loop {
            let sent = Moment::now(&self.env);
            let mut read = self.read_window(window, 1).await;
            self.check_diverged()?;
            if self.end.is_unseen() && matches!(read, Ok(Some(read)) if read < window) {
                match self.look_beyond_the_end().await {
                    Ok(Beyond::End) => {
                        self.check_diverged()?;
                        self.end = LogEnd::Seen;
                    }
                    Ok(Beyond::Missing(error)) => return Err(self.halt(&error)),
                    Ok(Beyond::Truncated) => read = Ok(None),
                    Err(error) => read = Err(error),
                }
            }
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
                Err(LogError::Store(_)) if !holds(Rule::FailedProbesAreNoEnd) => {
                    self.end = LogEnd::Seen;
                    self.note_proof(sent);
                    break;
                }
                Err(LogError::Store(error)) => {
                    self.pause_after(&error, &mut failures, "follow the log")
                        .await;
                    if self.end.is_unseen() {
                        self.end = LogEnd::Unseen { failures };
                    }
                    self.freshness.drop_abandoned();
                    if !self.freshness.is_asked(Instant::now()) {
                        // The timer wanted to know, or the task itself: it calls again.
                        self.freshness.note_failed_look(sent);
                        break;
                    }
                    window = 1;
                }
            }
        }
        self.metrics
            .lag
            .set(i64::try_from(found).unwrap_or(i64::MAX));
        self.freshness.note_look(found);
        Ok(())
    }

    /// Folds the log to its end, before the task runs. The log after the newest snapshot is usually long, so this reads
    /// many commits at once from the beginning: what takes seconds must not be done one after the other, and others go
    /// on writing meanwhile.
    ///
    /// # Errors
    ///
    /// The store's, when nothing more of the log could be read for the time that requests are repeated: a node that is
    /// starting says so instead of waiting for ever. However many requests fail, what has been read counts.
    pub(super) async fn read_to_the_end(&mut self) -> Result<(), OpenError> {
        let _places = self.store.more_places();
        let mut window = FIRST_START_WINDOW;
        let (mut failures, mut progress) = (0, Instant::now());
        loop {
            let (sent, before) = (Moment::now(&self.env), self.state.seq());
            let read = self.read_window(window, START_ATTEMPTS).await;
            self.check_diverged()?;
            if self.state.seq() > before {
                (failures, progress) = (0, Instant::now());
            }
            match read {
                Ok(Some(read)) if read == window => {
                    window = (window * 4).min(MAX_START_WINDOW);
                }
                Ok(Some(_)) => match self.look_beyond_the_end().await {
                    Ok(Beyond::End) => {
                        self.check_diverged()?;
                        self.end = LogEnd::Seen;
                        self.note_proof(sent);
                        return Ok(());
                    }
                    Ok(Beyond::Missing(error)) => return Err(error),
                    Ok(Beyond::Truncated) => self.start_over().await?,
                    Err(error) => self.wait_or_fail(error, progress, &mut failures).await?,
                },
                Ok(None) => self.start_over().await?,
                Err(LogError::Object(error)) => return Err(error.into()),
                Err(error) => self.wait_or_fail(error, progress, &mut failures).await?,
            }
        }
    }

    /// Waits before the log is read again after an error of the store; gives up if there was no `progress` for as long
    /// as requests are repeated.
    async fn wait_or_fail(
        &mut self,
        error: LogError,
        progress: Instant,
        failures: &mut u32,
    ) -> Result<(), OpenError> {
        let error = match error {
            LogError::Object(error) => return Err(error.into()),
            LogError::Store(error) => error,
        };
        let timeout = self.store.options().retry.deadline;
        if !error.is_retriable() || progress.elapsed() >= timeout {
            return Err(error.into());
        }
        self.pause_after(&error, failures, "read the log").await;
        Ok(())
    }

    /// Looks whether what seemed to be the end of the log was a commit that is missing. For a node that has the state
    /// of a snapshot: one that follows the log has proof that it is whole.
    ///
    /// Commits are sent behind one another before the first of them stands, and each of those says what it
    /// [follows](crate::state::op::Commit::follows). One that follows nothing was sent by a node that had read, or
    /// written, the one before it; and so was each that stands [farther](MAX_COMMITS_IN_FLIGHT) behind than any node
    /// sends. Then the next commit has come since it was asked for, or is missing, or the log was truncated beyond it.
    /// If it has come, the log did end here when it was read: others go on writing, and a start that went after them
    /// would never be over while they write faster than a request takes.
    ///
    /// Not to be told from the end is a commit that is missing with a few behind it, all of which were sent before the
    /// first of them stood.
    async fn look_beyond_the_end(&mut self) -> Result<Beyond, LogError> {
        if !holds(Rule::MissingCommitsStopStarts) {
            return Ok(Beyond::End);
        }
        let next = self.state.seq().next();
        let (after, limit) = (ObjectPath::commit(next), MAX_COMMITS_IN_FLIGHT as usize);
        // With so many behind it, the last stands farther behind than any node sends.
        let listed = self
            .store
            .list(ObjectPrefix::Log, Some(&after), limit)
            .await?;
        let beyond: Vec<Seq> = listed
            .iter()
            .filter_map(|object| match object.path.kind() {
                ObjectKind::Commit(seq) => Some(seq),
                _ => None,
            })
            .collect();
        let far = beyond.iter().copied().find(|seq| seq.proves(next));
        let Some(beyond) = (match far {
            Some(far) => Some(far),
            None => that_follows_nothing(&self.store, self.options.level, &beyond).await?,
        }) else {
            return Ok(Beyond::End);
        };
        Ok(match self.read_window(1, START_ATTEMPTS).await? {
            Some(0) => Beyond::Missing(OpenError::MissingCommit {
                missing: after,
                beyond: ObjectPath::commit(beyond),
            }),
            Some(_) => Beyond::End,
            None => Beyond::Truncated,
        })
    }

    /// Reads the next `window` commits at once, each with so many attempts, and folds those that are there; returns how
    /// many. `None` if the log was truncated beyond the next one: then nothing that was read can be believed, and
    /// nothing is folded.
    async fn read_window(&mut self, window: u64, attempts: u32) -> Result<Option<u64>, LogError> {
        let first = self.state.seq().0 + 1;
        let (store, limit) = (self.store.clone(), self.read_limit());
        let known = self.options.level;
        let mut reads = futures::stream::iter(first..first + window)
            .map(|seq| {
                let store = store.clone();
                async move {
                    let (seq, probe) = (Seq(seq), RequestKind::CommitProbe);
                    log::read_repeatedly(&store, known, seq, limit, probe, attempts).await
                }
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
            if self.divergence.reason().is_some() {
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
        policy.cap = policy.cap.min(MAX_PAUSE);
        policy.pause(failures, &self.env)
    }

    /// Logs a failure of the store and waits before the next attempt, longer with each.
    pub(super) async fn pause_after(
        &mut self,
        error: &StoreError,
        failures: &mut u32,
        purpose: &str,
    ) {
        let pause = self.note_failure(error, failures, purpose);
        tokio::time::sleep(pause).await;
    }

    /// Logs a failure of the store; says how long to wait before the next attempt.
    pub(super) fn note_failure(
        &mut self,
        error: &StoreError,
        failures: &mut u32,
        purpose: &str,
    ) -> Duration {
        let pause = self.pause(*failures);
        *failures = failures.saturating_add(1);
        if !error.is_retriable() {
            self.manifest.shared.refuse(error.to_string());
        }
        self.look_at_cluster();
        if failures.is_power_of_two() {
            tracing::warn!(%error, failures, "cannot {purpose}; trying again");
        }
        pause
    }
}
