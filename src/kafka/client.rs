//! The client at the other end of a connection.
//!
//! Who it is, and what it calls itself, may change while it is connected: each request has the session as it was when
//! the request was read.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::broker::{Readings, Session};

/// What is known of the client at the other end. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    listener: Arc<str>,
    remote: Option<SocketAddr>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug)]
struct Known {
    session: Arc<Session>,
    /// What the client says it is, in ApiVersions (KIP-511).
    software: Option<(String, String)>,
}

impl Client {
    /// One that has connected to the listener of this name.
    pub(crate) fn new(listener: &Arc<str>, remote: Option<SocketAddr>) -> Client {
        let session = Arc::new(Session {
            principal: "User:ANONYMOUS".to_owned(),
            client_id: None,
            remote,
            readings: Readings::default(),
            arrival: None,
            limit: None,
        });
        let known = Known {
            session,
            software: None,
        };
        Client {
            listener: Arc::clone(listener),
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
