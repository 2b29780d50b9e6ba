//! The client at the other end of a connection.
//!
//! Who it is, and what it calls itself, may change while it is connected: each request has the session as it was when
//! the request was read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::{Decisions, LoggedIn, Session};

use super::sasl::{Exchange, Mechanism};

/// What is known of the client at the other end. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    listener: Arc<str>,
    asks_login: bool,
    is_stranger: Arc<AtomicBool>,
    remote: Option<SocketAddr>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug)]
struct Known {
    session: Arc<Session>,
    /// What the client says it is, in ApiVersions (KIP-511).
    software: Option<(String, String)>,
    /// The login that is under way.
    exchange: Option<Exchange>,
    /// How it has logged in, and until when that holds.
    logged_in: Option<(Mechanism, Option<Instant>)>,
}

/// Whether a client may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It need not log in, or has done so.
    Good,
    /// It has to log in first.
    Unknown,
    /// It has to log in again.
    Expired,
}

impl Client {
    /// One that has connected to the listener of this name.
    pub(crate) fn new(listener: &Arc<str>, asks_login: bool, remote: Option<SocketAddr>) -> Client {
        let session = Arc::new(Session::anonymous(remote));
        let known = Known {
            session,
            software: None,
            exchange: None,
            logged_in: None,
        };
        Client {
            listener: Arc::clone(listener),
            asks_login,
            is_stranger: Arc::new(AtomicBool::new(asks_login)),
            remote,
            known: Arc::new(Mutex::new(known)),
        }
    }

    /// The name of the listener that it is connected to: the nodes that it is told of are told with their addresses for
    /// that one.
    pub(crate) fn listener(&self) -> &str {
        &self.listener
    }

    /// Its address.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// The session, under the name the client gives itself now.
    pub(crate) fn session(&self, client_id: Option<String>) -> Arc<Session> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.session.client_id != client_id {
            let mut session = Session::clone(&known.session);
            session.client_id = client_id;
            known.session = Arc::new(session);
        }
        Arc::clone(&known.session)
    }

    /// Whether its listener has clients log in.
    pub(crate) fn asks_login(&self) -> bool {
        self.asks_login
    }

    /// Set until it has logged in, where it has to.
    pub(crate) fn stranger(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_stranger)
    }

    /// Whether it may go on.
    pub(crate) fn standing(&self) -> Standing {
        if !self.asks_login {
            return Standing::Good;
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.logged_in {
            None => Standing::Unknown,
            Some((_, Some(until))) if until <= Instant::now() => Standing::Expired,
            Some(_) => Standing::Good,
        }
    }

    /// How it logged in before, if it did.
    pub(crate) fn mechanism(&self) -> Option<Mechanism> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.logged_in.map(|(mechanism, _)| mechanism)
    }

    /// The login that is under way, which the caller goes on with.
    pub(crate) fn take_exchange(&self) -> Option<Exchange> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.exchange.take()
    }

    /// Keeps a login that is under way.
    pub(crate) fn keep_exchange(&self, exchange: Exchange) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.exchange = Some(exchange);
    }

    /// Whether its next frame is a token of SASL and no request (version 0 of SaslHandshake).
    pub(crate) fn sends_bare_tokens(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let exchange = known.exchange.as_ref();
        exchange.is_some_and(|exchange| exchange.bare)
    }

    /// It has shown who it is, for `lifetime` if that is bounded. False if it was somebody else before: a connection
    /// stays with who began it.
    pub(crate) fn is_now(
        &self,
        identity: LoggedIn,
        mechanism: Mechanism,
        lifetime: Option<Duration>,
    ) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.logged_in.is_some() && known.session.principal != identity.principal {
            return false;
        }
        let mut session = Session::clone(&known.session);
        session.principal = identity.principal;
        session.user = identity.user;
        session.decisions = Decisions::default();
        known.session = Arc::new(session);
        self.is_stranger.store(false, Ordering::Release);
        known.logged_in = Some((
            mechanism,
            lifetime.map(|lifetime| Instant::now() + lifetime),
        ));
        true
    }

    /// Keeps what the client says it is. The caller has validated it.
    pub(crate) fn is_software(&self, name: &str, version: &str) {
        const MAX_LEN: usize = 64;
        let short = |text: &str| text.chars().take(MAX_LEN).collect::<String>();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.software = Some((short(name), short(version)));
    }

    /// The client in a few words, for a log line.
    pub(crate) fn describe(&self) -> String {
        const MAX_LEN: usize = 128;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let id: String = known
            .session
            .client_id
            .as_deref()
            .unwrap_or("-")
            .chars()
            .take(MAX_LEN)
            .flat_map(char::escape_debug)
            .collect();
        match &known.software {
            Some((name, version)) => format!("{id} ({name} {version})"),
            None => id,
        }
    }
}
