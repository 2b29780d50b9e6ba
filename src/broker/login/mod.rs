//! Logging in: whoever says who it is shows it here, whatever the protocol.
//!
//! A password is checked against the verifiers of its user in the state, in a time that does not tell whether there is
//! such a user, and beside the tasks that serve others. SCRAM never sees the password; a password that comes as it is
//! (PLAIN) is hashed like SCRAM's, and what was right is remembered for a minute, as a keyed hash of it that nobody
//! else can make.
//!
//! # Guessing
//!
//! A login that fails is answered late: after 0.1 s, and twice as late each time one from the same address has failed
//! shortly before, up to 5 s. No more than [`SLOTS`] logins of one address are under way, those that wait for their
//! delay among them: enough for all clients behind a load balancer to come at once, and no more than a dozen guesses a
//! second. Whoever finds no slot in time is sent away without a judgement, and may come again. Others are not delayed
//! by it, but for those whose address shares its place in a table of fixed size, which is keyed, so that nobody can
//! choose them.
//!
//! On this node no more than [`HASHING`] passwords are hashed at once, and of one address one after the other. So no
//! more than one of each address waits for its turn on the node, however many guesses it has under way and whether or
//! not it stays connected: whoever has a hundred addresses delays others by a hundred hashes. A login waits for no
//! longer than [`MAX_WAIT`], all in all, for its slot and its turns, and is then sent away without a judgement. While
//! it waits it keeps a password of no more than a kilobyte: a longer one is nobody's, and is dropped first.
//!
//! # What it goes by
//!
//! The store is asked for newer commits before a user is looked up, so who was just created can log in anywhere, and
//! whose password was just changed cannot log in with the old one: SCRAM looks again when the proof comes, for a client
//! may keep a challenge for as long as it likes. If the store does not answer, the newest state that is known counts.
//!
//! # Futures that are dropped, nodes that die
//!
//! Nothing is changed by a login but what this process remembers of it. A client whose node dies logs in elsewhere. A
//! client that hangs up gains nothing: its login goes on as a task, and keeps its slot until its answer would have been
//! due; a password that is being hashed keeps its turn until it is.

mod credentials;
mod scram;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub(in crate::broker) use credentials::of_salted;
use credentials::{ITERATIONS, MAX_PASSWORD, hash};
pub use credentials::{Secret, UnfitPassword};

use super::{Broker, Home, Session};
use crate::env::Env;
use crate::state::access::{ScramMechanism, Verifier, Verifiers};
use crate::types::{Principal, Seq, UserName};

/// How many logins of one address are under way at most.
const SLOTS: usize = 64;

/// How many passwords are hashed at once.
const HASHING: usize = 2;

/// How many places there are for addresses.
const ADDRESSES: usize = 1024;

/// How long a login waits for others, all in all.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// How late a failure is answered: the first, and at most.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// So many failures are answered as late as can be.
const MAX_COUNT: u32 = 6;

/// After how long a failure is forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// For how long, and how many, passwords are remembered that were right.
const REMEMBERED: Duration = Duration::from_secs(60);
const MAX_REMEMBERED: usize = 1000;

/// How long the store is waited for.
const STORE_WAIT: Duration = Duration::from_secs(2);

/// Who somebody is, as it has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// `User:alice`.
    pub principal: String,
    /// The commit that created the user.
    pub user: Option<Seq>,
}

/// Why somebody is not logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// There is no such user, it is disabled, or the password is wrong; which of these is told nobody.
    #[error("the user is unknown or disabled, or the password is wrong")]
    Wrong,
    /// What the client says is not what the mechanism has it say.
    #[error("the message is not one of the mechanism")]
    Malformed,
    /// Too many logins are under way, from this address or from others.
    #[error("too many logins are under way, or have failed from this address; try again later")]
    TooMany,
}

/// What the process remembers of logins.
pub(super) struct Logins {
    key: hmac::Key,
    addresses: Vec<Arc<Address>>,
    hashing: Arc<Semaphore>,
    /// Passwords that were right, by their keyed hash, and when that was.
    right: Mutex<HashMap<Vec<u8>, Instant>>,
}

struct Address {
    slots: Arc<Semaphore>,
    /// Whose password is hashed, or waits for its turn on the node.
    turn: Arc<Semaphore>,
    failed: Mutex<Failed>,
}

#[derive(Default)]
struct Failed {
    count: u32,
    last: Option<Instant>,
}

impl Failed {
    /// Notes a failure; how late it is to be answered.
    fn note(&mut self, now: Instant) -> Duration {
        if let Some(last) = self.last {
            let passed = now.duration_since(last).as_secs() / FORGIVEN_AFTER.as_secs();
            let forgiven = u32::try_from(passed).unwrap_or(u32::MAX);
            self.count = self.count.saturating_sub(forgiven);
        }
        let delay = FIRST_DELAY.saturating_mul(1 << self.count);
        // More would be as late, and be forgiven later.
        self.count = self.count.saturating_add(1).min(MAX_COUNT);
        self.last = Some(now);
        delay.min(MAX_DELAY)
    }
}

impl Logins {
    pub(super) fn new(env: &Env) -> Logins {
        let address = || {
            Arc::new(Address {
                slots: Arc::new(Semaphore::new(SLOTS)),
                turn: Arc::new(Semaphore::new(1)),
                failed: Mutex::default(),
            })
        };
        Logins {
            key: hmac::Key::new(hmac::HMAC_SHA256, &env.random_key()),
            addresses: (0..ADDRESSES).map(|_| address()).collect(),
            hashing: Arc::new(Semaphore::new(HASHING)),
            right: Mutex::default(),
        }
    }

    /// What nobody outside of this process can compute of these bytes.
    fn keyed(&self, what: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(what);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().to_vec()
    }

    fn address(&self, remote: Option<SocketAddr>) -> Option<&Arc<Address>> {
        let octets = match remote.map(|remote| remote.ip().to_canonical()) {
            Some(IpAddr::V4(address)) => address.octets().to_vec(),
            // Whoever has one address of a network has all of them.
            Some(IpAddr::V6(address)) => address.octets()[..8].to_vec(),
            None => Vec::new(),
        };
        let hashed = self.keyed(b"address", &[&octets]);
        let at = hashed
            .first_chunk()
            .map_or(0, |bytes| u16::from_be_bytes(*bytes));
        self.addresses.get(usize::from(at) % ADDRESSES)
    }

    fn is_remembered(&self, key: &[u8]) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right
            .get(key)
            .is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    fn remember(&self, key: Vec<u8>) {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= MAX_REMEMBERED {
            right.retain(|_, since| since.elapsed() < REMEMBERED);
        }
        if right.len() >= MAX_REMEMBERED {
            right.clear();
        }
        right.insert(key, Instant::now());
    }

    /// A verifier of no password, always the same for the same name, so that one cannot tell that there is no such
    /// user.
    fn decoy(&self, user: &str, mechanism: ScramMechanism) -> Verifier {
        let of = |what: &[u8]| self.keyed(what, &[user.as_bytes(), mechanism.name().as_bytes()]);
        let mut key = of(b"stored");
        key.extend(of(b"more"));
        key.truncate(mechanism.hash_len());
        let salt = of(b"salt").into_iter().take(SALT).collect();
        Verifier::new(ITERATIONS, salt, key.clone(), key)
    }
}

/// How many bytes of salt there are.
const SALT: usize = 16;

/// A login under way, which keeps its slot.
struct Attempt {
    broker: Broker,
    address: Option<Arc<Address>>,
    /// When it has waited for long enough.
    until: Instant,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Attempt {
    /// Goes through with a judgement, whether or not the client waits for it.
    async fn judged<T, J>(
        self,
        judge: impl FnOnce(Broker) -> J + Send + 'static,
    ) -> Result<T, LoginError>
    where
        T: Send + 'static,
        J: Future<Output = Result<T, LoginError>> + Send,
    {
        let env = self.broker.inner.env.clone();
        let judged = env.spawn(async move {
            let judged = judge(self.broker.clone()).await;
            if matches!(judged, Err(LoginError::Wrong | LoginError::Malformed)) {
                self.wait().await;
            }
            judged
        });
        // Only a node that is stopping drops its tasks.
        judged.await.unwrap_or(Err(LoginError::Wrong))
    }

    /// Waits for as long as a failure is answered late.
    async fn wait(&self) {
        if let Some(address) = &self.address {
            let delay = {
                let mut failed = address
                    .failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                failed.note(Instant::now())
            };
            sleep(self.broker.inner.env.jittered(delay)).await;
        }
    }
}

/// A turn, if it comes in time.
async fn turn(of: &Arc<Semaphore>, until: Instant) -> Result<OwnedSemaphorePermit, LoginError> {
    let turn = timeout_at(until, of.clone().acquire_owned()).await;
    turn.ok().and_then(Result::ok).ok_or(LoginError::TooMany)
}

/// A SCRAM login that waits for the client's proof.
pub struct ScramLogin {
    exchange: scram::Exchange,
    user: String,
    mechanism: ScramMechanism,
    /// What the proof is checked against.
    verifier: Verifier,
    /// Nobody, if the challenge is a decoy.
    identity: Option<LoggedIn>,
}

impl std::fmt::Debug for ScramLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramLogin(..)")
    }
}

impl ScramLogin {
    /// What the client is to answer.
    pub fn challenge(&self) -> &str {
        self.exchange.challenge()
    }
}

impl Broker {
    async fn attempt(&self, session: &Session) -> Result<Attempt, LoginError> {
        let address = self.inner.logins.address(session.remote).cloned();
        let until = Instant::now() + MAX_WAIT;
        let slot = match &address {
            Some(address) => Some(turn(&address.slots, until).await?),
            None => None,
        };
        Ok(Attempt {
            broker: self.clone(),
            address,
            until,
            _slot: slot,
        })
    }

    /// The verifiers of a user who may log in, and who that is.
    async fn verifiers_of(&self, name: &str) -> Option<(LoggedIn, Verifiers)> {
        let fresh = timeout(STORE_WAIT, self.fresh(Home::Cluster)).await;
        let state = match fresh {
            Ok(Ok(state)) => state,
            _ => self.inner.logs.of(Home::Cluster).state(),
        };
        let user = state.access().user(name).filter(|user| !user.disabled)?;
        let name = UserName::new(name).ok()?;
        let identity = LoggedIn {
            principal: Principal::of_user(&name).to_string(),
            user: Some(user.created),
        };
        Some((identity, user.verifiers.clone()))
    }

    /// Whether there is a user of that name with that password.
    ///
    /// # Errors
    /// [`LoginError`], late.
    pub async fn log_in(
        &self,
        session: &Session,
        name: &str,
        password: Secret,
    ) -> Result<LoggedIn, LoginError> {
        if name.len().max(password.expose().len()) > MAX_PASSWORD {
            // Nobody has it, and it would be kept for as long as the login waits.
            drop(password);
            let attempt = self.attempt(session).await?;
            return attempt.judged(|_| async { Err(LoginError::Wrong) }).await;
        }
        let attempt = self.attempt(session).await?;
        let (name, until) = (name.to_owned(), attempt.until);
        let address = attempt.address.clone();
        let judge = move |broker: Broker| async move {
            let turns = (address.as_deref(), until);
            broker.judge_password(&name, &password, turns).await
        };
        attempt.judged(judge).await
    }

    async fn judge_password(
        &self,
        name: &str,
        password: &Secret,
        (address, until): (Option<&Address>, Instant),
    ) -> Result<LoggedIn, LoginError> {
        let (identity, mut verifiers) = match self.verifiers_of(name).await {
            Some((identity, verifiers)) => (Some(identity), verifiers),
            None => (None, Verifiers::new()),
        };
        let logins = &self.inner.logins;
        let key = |verifier: &Verifier| {
            let parts = [name.as_bytes(), verifier.stored_key(), password.expose()];
            logins.keyed(b"password", &parts)
        };
        let is_remembered = |verifier: &Verifier| logins.is_remembered(&key(verifier));
        if let Some(identity) = &identity
            && verifiers.values().any(is_remembered)
        {
            return Ok(identity.clone());
        }
        let _turn = match address {
            Some(address) => Some(turn(&address.turn, until).await?),
            None => None,
        };
        // One is as good as the other: they were made of one password, or the client knows which it has. As many are
        // tried for a user that has none, or that there is not.
        for mechanism in ScramMechanism::ALL {
            let known = verifiers.remove(&mechanism);
            let is_known = known.is_some();
            let verifier = known.unwrap_or_else(|| logins.decoy(name, mechanism));
            let key = key(&verifier);
            let turn = turn(&logins.hashing, until).await?;
            let password = password.clone();
            let hashed = move || {
                let is_right = credentials::is_password(&password, mechanism, &verifier);
                drop(turn);
                is_right
            };
            let is_right = self.inner.env.compute(hashed).await.unwrap_or(false);
            if is_right
                && is_known
                && let Some(identity) = identity
            {
                logins.remember(key);
                return Ok(identity);
            }
        }
        Err(LoginError::Wrong)
    }

    /// Begins a login by SCRAM with the client's first message.
    ///
    /// # Errors
    /// [`LoginError`], late; not if there is no such user.
    pub async fn begin_scram(
        &self,
        session: &Session,
        mechanism: ScramMechanism,
        message: &[u8],
    ) -> Result<ScramLogin, LoginError> {
        let attempt = self.attempt(session).await?;
        let Ok(first) = scram::First::parse(message) else {
            return attempt
                .judged(|_| async { Err(LoginError::Malformed) })
                .await;
        };
        let found = self.verifiers_of(&first.user).await;
        let found = found
            .and_then(|(identity, mut verifiers)| Some((identity, verifiers.remove(&mechanism)?)));
        let (identity, verifier) = match found {
            Some((identity, verifier)) => (Some(identity), verifier),
            None => (None, self.inner.logins.decoy(&first.user, mechanism)),
        };
        let nonce = self.inner.env.random_key();
        let user = first.user.clone();
        let exchange = scram::Exchange::new(mechanism, first, &nonce[..18], verifier.clone());
        Ok(ScramLogin {
            exchange,
            user,
            mechanism,
            verifier,
            identity,
        })
    }

    /// Ends it with the client's proof: what the client is told, and who it is.
    ///
    /// # Errors
    /// [`LoginError`], late.
    pub async fn finish_scram(
        &self,
        session: &Session,
        login: ScramLogin,
        message: &[u8],
    ) -> Result<(String, LoggedIn), LoginError> {
        let attempt = self.attempt(session).await?;
        let ScramLogin {
            exchange,
            user,
            mechanism,
            verifier,
            identity,
        } = login;
        let proven = exchange.finish(message);
        let judge = move |broker: Broker| async move {
            let Ok(proven) = proven else {
                return Err(LoginError::Malformed);
            };
            // The password may have been changed since the challenge, and the user removed.
            let now = broker.verifiers_of(&user).await;
            let now = now.and_then(|(identity, mut now)| Some((identity, now.remove(&mechanism)?)));
            let known = identity.map(|identity| (identity, verifier));
            match (proven, known) {
                (Some(told), Some(known)) if now.as_ref() == Some(&known) => Ok((told, known.0)),
                _ => Err(LoginError::Wrong),
            }
        };
        attempt.judged(judge).await
    }

    /// The verifiers of a password, for every mechanism.
    ///
    /// # Errors
    /// The password is none that every client sends alike; or it could not be hashed, as the node is stopping.
    pub async fn verifiers(&self, password: &Secret) -> Result<Verifiers, UnfitPassword> {
        password.check_password()?;
        let mut verifiers = Verifiers::new();
        for mechanism in ScramMechanism::ALL {
            let (password, salt) = (password.clone(), self.inner.env.random_key());
            let hashed = move || hash(&password, mechanism, &salt[..SALT], ITERATIONS);
            let verifier = self.inner.env.compute(hashed).await;
            verifiers.insert(mechanism, verifier.map_err(|_| UnfitPassword::NotHashed)?);
        }
        Ok(verifiers)
    }
}

#[cfg(test)]
mod tests;
