//! Does a store keep the promises that correctness rests on? Asked in short at every start of a node, and
//! at length by `weir store check`.
//!
//! A store is judged by what it did, never by what it is called: the objects are written, raced for, read
//! back, listed and deleted under `check/{run}/`, and removed at the end. A check that is abandoned leaves
//! objects there, which harm nothing; a full check removes those older than a day.

mod parts;
mod report;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use uuid::Uuid;

use crate::types::Timestamp;

use super::client::{Created, Store};
use super::clock::ClockDifference;
use super::error::StoreError;
use super::metrics::RequestKind;
use super::paths::{ObjectPath, ObjectPrefix};
use super::watch::MAX_CLOCK_DIFFERENCE;

pub use report::{CheckReport, Property, Verdict};

const KIND: RequestKind = RequestKind::Check;

/// How old an object of an abandoned check must be before a full check removes it.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a request that the store did not answer is made again before its promise is unclear, where one attempt
/// is one request.
const ATTEMPTS: u32 = 10;

/// How long the check cleans up after itself.
const CLEAN_UP: Duration = Duration::from_secs(5);

/// How thoroughly to check.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// How many creates race for one name. At least 2.
    pub racers: usize,
    /// How many names are raced for.
    pub rounds: usize,
    /// How long is waited for the others once one has won and one was refused. Stores that put creates of one name in
    /// order (SeaweedFS) may hold one of them back for a second.
    pub stragglers: Duration,
    /// The size of the racing objects: the larger, the wider a gap in a store that has one.
    pub race_bytes: usize,
    /// Whether ranges past the end, listings and deletes are checked too.
    pub thorough: bool,
    /// The largest difference of the clocks, beyond its uncertainty, that is accepted.
    pub clock_limit: Duration,
    /// How long each property may take to show.
    pub timeout: Duration,
}

impl CheckOptions {
    /// For the start of a node: 10 requests.
    pub fn quick() -> CheckOptions {
        CheckOptions {
            racers: 3,
            rounds: 1,
            stragglers: Duration::from_millis(250),
            race_bytes: 1024,
            thorough: false,
            clock_limit: MAX_CLOCK_DIFFERENCE,
            timeout: Duration::from_secs(60),
        }
    }

    /// For `weir store check`: about 300 requests.
    pub fn full() -> CheckOptions {
        CheckOptions {
            racers: 12,
            rounds: 20,
            stragglers: Duration::from_secs(60),
            race_bytes: 64 * 1024,
            thorough: true,
            clock_limit: MAX_CLOCK_DIFFERENCE,
            timeout: Duration::from_secs(60),
        }
    }
}

/// Why a promise could not be said to be kept.
enum Doubt {
    Broken(String),
    /// The request itself was refused, and the error says what to do.
    Refused(String),
    Unclear(String),
}

impl From<StoreError> for Doubt {
    fn from(error: StoreError) -> Doubt {
        match &error {
            StoreError::Unavailable { .. } => Doubt::Unclear(error.to_string()),
            StoreError::Refused { .. } | StoreError::Setup { .. } => {
                Doubt::Refused(error.to_string())
            }
            _ => Doubt::Broken(error.to_string()),
        }
    }
}

type Seen = Result<String, Doubt>;

/// Checks the store.
pub async fn check(store: &Store, options: &CheckOptions) -> CheckReport {
    let (began, before) = (Instant::now(), store.metrics().total());
    let checker = Checker {
        store,
        options,
        run: store.options().env.uuid_at(store.options().env.wall()),
        written: Mutex::default(),
        clock: Mutex::default(),
    };
    let mut properties = Vec::new();
    let mut add = |name, meaning, seen: Seen| {
        let (verdict, seen, meaning) = match seen {
            Ok(seen) => (Verdict::Ok, seen, meaning),
            Err(Doubt::Broken(seen)) => (Verdict::Failed, seen, meaning),
            Err(Doubt::Refused(seen)) => (Verdict::Failed, seen, ""),
            Err(Doubt::Unclear(seen)) => (Verdict::Unclear, seen, meaning),
        };
        let usable = verdict == Verdict::Ok;
        properties.push(Property {
            name,
            verdict,
            seen,
            meaning,
        });
        usable
    };
    let timeout = options.timeout;
    let readable = add(
        "read after write",
        "A node would miss commits that were acknowledged",
        within(timeout, checker.read_after_write()).await,
    );
    // What cannot even be written and read has nothing more to tell.
    if readable {
        // Side by side: a store that takes seconds for a request is not to hold up a node's start for a minute.
        let (clock, refused, race, ranges) = futures::join!(
            within(timeout, checker.clock()),
            within(timeout, checker.refused_when_it_exists()),
            within(timeout, checker.one_winner()),
            within(timeout, checker.ranges()),
        );
        let twice = "Two nodes could write the same commit, and one of them would lose acknowledged messages";
        let promises = [
            (
                "clock",
                "Expiry, retention and signatures depend on the time; synchronise this machine's clock with NTP",
                clock,
            ),
            ("create refused when the object exists", twice, refused),
            ("one winner of a race", twice, race),
            (
                "ranged reads",
                "Messages are read by ranges of objects and would be wrong",
                ranges,
            ),
        ];
        for (name, meaning, seen) in promises {
            // A node that starts need not know everything that is wrong.
            if !add(name, meaning, seen) && !options.thorough {
                break;
            }
        }
    }
    if readable && options.thorough {
        add(
            "list after write",
            "A node would start from an old state, and fsck would miss objects",
            within(timeout, checker.listing()).await,
        );
        add(
            "delete",
            "Deleted data would come back, or storage would never be freed",
            within(timeout, checker.deleting()).await,
        );
    }
    if readable && options.thorough {
        add(
            "upload in parts",
            "Old data could not be compacted, and the state would grow for ever",
            within(timeout, checker.upload_in_parts()).await,
        );
    }
    // What is left over costs a few bytes.
    let _ = tokio::time::timeout(CLEAN_UP, checker.clean_up()).await;
    let clock = *lock(&checker.clock);
    CheckReport {
        store: store.name().to_owned(),
        properties,
        clock,
        requests: store.metrics().total().saturating_sub(before),
        millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// A property of a store that goes on giving answers that cannot be used is unclear, not waited for.
async fn within(timeout: Duration, property: impl Future<Output = Seen>) -> Seen {
    let late = || Doubt::Unclear(format!("no usable answer within {timeout:?}"));
    tokio::time::timeout(timeout, property)
        .await
        .unwrap_or_else(|_| Err(late()))
}

struct Checker<'a> {
    store: &'a Store,
    options: &'a CheckOptions,
    run: Uuid,
    written: Mutex<Vec<ObjectPath>>,
    clock: Mutex<Option<ClockDifference>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The two bodies of the plain checks.
const FIRST: &[u8] = b"the first body, which stands";
const SECOND: &[u8] = b"the second body, which must be refused";

impl Checker<'_> {
    fn path(&self, name: &str) -> ObjectPath {
        let path = ObjectPath::check(self.run, name);
        lock(&self.written).push(path.clone());
        path
    }

    fn plain(&self) -> ObjectPath {
        ObjectPath::check(self.run, "plain")
    }

    /// Creates an object, as often as it takes until it is known to stand.
    async fn settle(&self, path: &ObjectPath, body: &[u8]) -> Result<(), Doubt> {
        let policy = self.store.options().retry;
        let deadline = Instant::now() + policy.deadline;
        let mut failures = 0;
        loop {
            let body_bytes = Bytes::copy_from_slice(body);
            let doubt = match self.store.create(path, body_bytes, KIND).await {
                Ok(Created::Created) => return Ok(()),
                Ok(Created::Exists) if failures == 0 => {
                    return Err(Doubt::Broken(format!(
                        "{path} should not exist yet, but does"
                    )));
                }
                // From here on an attempt before may have been applied.
                Ok(Created::Exists) => "the outcome is not known".to_owned(),
                Ok(Created::Unknown(cause)) => cause.to_string(),
                Err(error) if error.is_retriable() => error.to_string(),
                Err(error) => return Err(error.into()),
            };
            match self.store.get(path, KIND).await {
                Ok(stands) if stands == body => return Ok(()),
                Ok(_) => {
                    return Err(Doubt::Broken(format!(
                        "{path} has a body that nobody wrote"
                    )));
                }
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            failures += 1;
            let pause = policy.pause(failures, &self.store.options().env);
            if Instant::now() + pause >= deadline {
                return Err(Doubt::Unclear(doubt));
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn read_after_write(&self) -> Seen {
        let path = self.path("plain");
        self.settle(&path, FIRST).await?;
        match self.store.get(&path, KIND).await {
            Ok(body) if body == FIRST => Ok("an object is readable once it is written".to_owned()),
            Ok(_) => Err(Doubt::Broken(
                "an object has other bytes than were written".to_owned(),
            )),
            Err(StoreError::NotFound { .. }) => Err(Doubt::Broken(
                "an object that was just written is not found".to_owned(),
            )),
            Err(error) => Err(error.into()),
        }
    }

    async fn clock(&self) -> Seen {
        let path = if self.store.has_file_clock() {
            self.path("clock")
        } else {
            self.plain()
        };
        let written = self.store.options().env.wall();
        if self.store.has_file_clock() {
            self.settle(&path, FIRST).await?;
        }
        let Some(clock) = self.store.clock_difference(&path, written, KIND).await? else {
            return Ok("the store has no clock of its own".to_owned());
        };
        *lock(&self.clock) = Some(clock);
        let seconds = |millis: u64| Duration::from_millis(millis).as_secs_f64();
        let side = if clock.ahead_millis < 0 {
            "behind"
        } else {
            "ahead of"
        };
        let seen = format!(
            "the store's clock is {:.1} s {side} this machine's (give or take {:.1} s)",
            seconds(clock.ahead_millis.unsigned_abs()),
            seconds(clock.uncertainty_millis)
        );
        if clock.exceeds(self.options.clock_limit) {
            Err(Doubt::Broken(seen))
        } else {
            Ok(seen)
        }
    }

    async fn refused_when_it_exists(&self) -> Seen {
        let path = self.plain();
        let (mut refused, mut doubt) = (false, None);
        for attempt in 1..=ATTEMPTS {
            let body = Bytes::from_static(SECOND);
            match self.store.create(&path, body, KIND).await {
                Ok(Created::Exists) => {
                    refused = true;
                    break;
                }
                Ok(Created::Created) => {
                    let seen = "a create of an object that exists succeeded".to_owned();
                    return Err(Doubt::Broken(seen));
                }
                Ok(Created::Unknown(cause)) => doubt = Some(cause.to_string()),
                Err(error) if error.is_retriable() => doubt = Some(error.to_string()),
                Err(error) => return Err(error.into()),
            }
            self.pause(attempt).await;
        }
        // What was not answered may have been applied.
        if doubt.is_some() || self.options.thorough {
            let stands = self.store.get(&path, KIND).await?;
            if stands != FIRST {
                return Err(Doubt::Broken(
                    "a create replaced an object that exists".to_owned(),
                ));
            }
        }
        match doubt {
            Some(cause) if !refused => Err(Doubt::Unclear(cause)),
            _ => Ok("a create of an object that exists is refused".to_owned()),
        }
    }

    async fn pause(&self, failures: u32) {
        let options = self.store.options();
        tokio::time::sleep(options.retry.pause(failures, &options.env)).await;
    }

    async fn one_winner(&self) -> Seen {
        let mut rounds = 0;
        let mut unclear = None;
        // Rounds that a store in trouble leaves open are repeated.
        for number in 0..self.options.rounds.saturating_mul(2).max(ATTEMPTS as usize) {
            if rounds == self.options.rounds.max(1) {
                break;
            }
            let path = self.path(&format!("race-{number}"));
            match self.race(&path).await {
                Ok(()) => rounds += 1,
                Err(Doubt::Unclear(cause)) => {
                    unclear = Some(cause);
                    self.pause(1).await;
                }
                Err(broken) => return Err(broken),
            }
        }
        match unclear {
            Some(cause) if rounds < self.options.rounds => Err(Doubt::Unclear(cause)),
            _ => Ok(format!(
                "in each of {rounds} races of {} creates exactly one won, and its bytes were kept",
                self.racers()
            )),
        }
    }

    fn racers(&self) -> usize {
        self.options.racers.max(2)
    }

    fn racer(&self, number: usize) -> Bytes {
        let name = format!("racer {number} of {}\n", self.run);
        let mut body = vec![b'.'; self.options.race_bytes.max(name.len())];
        body[..name.len()].copy_from_slice(name.as_bytes());
        body.into()
    }

    /// One race. Fine if exactly one create was told that it won and its body stands.
    async fn race(&self, path: &ObjectPath) -> Result<(), Doubt> {
        let bodies: Vec<Bytes> = (0..self.racers())
            .map(|number| self.racer(number))
            .collect();
        let creates = bodies.iter().map(|body| async move {
            let answer = self.store.create(path, body.clone(), KIND).await;
            (body, answer)
        });
        let mut answers: FuturesUnordered<_> = creates.collect();
        let (mut won, mut open, mut refused) = (Vec::new(), Vec::new(), 0);
        let mut trouble = String::new();
        loop {
            let timeout = match won.is_empty() || refused == 0 {
                true => self.options.timeout,
                false => self.options.stragglers,
            };
            let Ok(Some((body, answer))) = tokio::time::timeout(timeout, answers.next()).await
            else {
                break;
            };
            match answer {
                Ok(Created::Created) => won.push(body),
                Ok(Created::Exists) => refused += 1,
                Ok(Created::Unknown(cause)) => {
                    open.push(body);
                    trouble = cause.to_string();
                }
                Err(error) if error.is_retriable() => trouble = error.to_string(),
                Err(error) => return Err(error.into()),
            }
        }
        if won.len() > 1 {
            return Err(Doubt::Broken(format!(
                "{} of {} creates of one name were told that they won",
                won.len(),
                bodies.len()
            )));
        }
        let stands = match self.store.get(path, KIND).await {
            Ok(body) => Some(body),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match (won.first(), stands) {
            (Some(winner), Some(stands)) if **winner == stands => Ok(()),
            (Some(_), _) => {
                let seen = "a create was told that it won, but its bytes were not kept".to_owned();
                Err(Doubt::Broken(seen))
            }
            (None, Some(stands)) if open.contains(&&stands) => Err(Doubt::Unclear(trouble)),
            (None, None) if refused == 0 => Err(Doubt::Unclear(trouble)),
            // What is open may yet be applied, so that a refusal says nothing without it.
            (None, None) if !open.is_empty() => Err(Doubt::Unclear(trouble)),
            (None, _) => {
                let seen = "all creates of a new name were refused".to_owned();
                Err(Doubt::Broken(seen))
            }
        }
    }

    async fn ranges(&self) -> Seen {
        let path = self.plain();
        let wrong = |what: &str| Err(Doubt::Broken(format!("{what} gave other bytes")));
        let (bytes, size) = self.store.get_range(&path, 4..9, KIND).await?;
        // A store that lets a create replace an object has been found out already, and may still read well.
        let body = if size == FIRST.len() as u64 {
            FIRST
        } else {
            SECOND
        };
        if bytes != body[4..9] || size != body.len() as u64 {
            return wrong("a range of an object");
        }
        if self.options.thorough {
            let (bytes, whole) = self.store.get_range(&path, 4..size + 1000, KIND).await?;
            if bytes != body[4..] || whole != size {
                return wrong("a range that ends after the object's end");
            }
            match self.store.get_range(&path, size + 1..size + 2, KIND).await {
                Err(StoreError::OutOfRange { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return wrong("a range after the object's end"),
            }
        }
        Ok("a range gives its bytes and the size of the object".to_owned())
    }

    async fn listing(&self) -> Seen {
        let prefix = ObjectPrefix::Check(self.run);
        let mut expected = lock(&self.written).clone();
        for number in 0..5 {
            let path = self.path(&format!("list-{number}"));
            self.settle(&path, FIRST).await?;
            expected.push(path);
        }
        expected.sort();
        let listed = self.store.list(prefix, None, expected.len() + 100).await?;
        let listed: Vec<_> = listed.into_iter().map(|object| object.path).collect();
        // A race that stayed open may have left no object.
        let missing = expected
            .iter()
            .filter(|path| !is_race(path) && !listed.contains(path))
            .count();
        if missing > 0 {
            let seen = format!("{missing} of {} objects are not listed", expected.len());
            return Err(Doubt::Broken(seen));
        }
        let middle = listed.len() / 2;
        let rest = self
            .store
            .list(prefix, Some(&listed[middle]), listed.len())
            .await?;
        let rest: Vec<_> = rest.into_iter().map(|object| object.path).collect();
        if rest != listed[middle + 1..] {
            return Err(Doubt::Broken(
                "a listing after a name shows other names".to_owned(),
            ));
        }
        Ok(format!(
            "all of {} objects are listed, in order",
            expected.len()
        ))
    }

    async fn deleting(&self) -> Seen {
        let path = self.path("deleted");
        self.settle(&path, FIRST).await?;
        self.store.delete(vec![path.clone()]).await?;
        match self.store.get(&path, KIND).await {
            Err(StoreError::NotFound { .. }) => {}
            Ok(_) => {
                return Err(Doubt::Broken(
                    "a deleted object can still be read".to_owned(),
                ));
            }
            Err(error) => return Err(error.into()),
        }
        self.store.delete(vec![path]).await?;
        Ok("a deleted object is gone, and deleting it again is no error".to_owned())
    }

    /// Removes what this check wrote and, if it is thorough, what others left long ago. What cannot be
    /// removed stays: it says nothing about the store's promises and harms nothing.
    async fn clean_up(&self) {
        let mut gone = std::mem::take(&mut *lock(&self.written));
        if self.options.thorough {
            let now = self.store.options().env.wall();
            let old = |written: Timestamp| now.since(written) > ABANDONED;
            let found = self.store.list(ObjectPrefix::Checks, None, 10_000).await;
            let abandoned = found.unwrap_or_default().into_iter();
            gone.extend(
                abandoned
                    .filter(|o| old(o.last_modified))
                    .map(|object| object.path),
            );
        }
        if let Err(error) = self.store.delete(gone).await {
            tracing::warn!(%error, "the objects of a store check could not be deleted");
        }
    }
}

fn is_race(path: &ObjectPath) -> bool {
    path.as_str()
        .rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("race-"))
}

#[cfg(test)]
mod tests;
