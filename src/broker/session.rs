//! Who is calling.

use std::net::SocketAddr;
use std::time::Duration;

use super::access::Decisions;
use super::asked::Arrival;
use super::readings::Readings;
use crate::types::{Principal, Seq};

/// The client on whose behalf an operation is done.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who it is: `User:ANONYMOUS` until it has authenticated.
    pub principal: String,
    /// The commit that created its user, if it logged in as one: a session ends with its user.
    pub user: Option<Seq>,
    /// It is inside this process: it holds the bucket, and no rule is asked.
    pub trusted: bool,
    /// What was decided of what it may do.
    pub decisions: Decisions,
    /// The name it gives itself (Kafka's `client.id`).
    pub client_id: Option<String>,
    /// Where it connects from; `None` inside this process.
    pub remote: Option<SocketAddr>,
    /// How far it is in what it reads by name.
    pub readings: Readings,
    /// When the request arrived, of which this is the session; `None` if it begins when the broker is called.
    pub arrival: Option<Arrival>,
    /// For how long its client waits, if it said so.
    pub limit: Option<Duration>,
}

impl Session {
    /// The same for a request that arrived then.
    #[must_use]
    pub fn at(&self, arrival: Arrival) -> Session {
        Session {
            arrival: Some(arrival),
            ..self.clone()
        }
    }

    /// The same for a request whose client waits for so long.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Session {
        Session {
            limit: Some(limit),
            ..self.clone()
        }
    }

    /// Its address as access rules have it. A client that has none is inside this machine.
    pub(super) fn host(&self) -> String {
        let address = self.remote.map(|remote| remote.ip().to_canonical());
        address.map_or_else(|| "127.0.0.1".to_owned(), |address| address.to_string())
    }

    /// A client inside this process: the command line or the library.
    pub fn internal(client_id: &str) -> Session {
        Session {
            trusted: true,
            client_id: Some(client_id.to_owned()),
            ..Session::anonymous(None)
        }
    }

    /// A client that has not said who it is.
    pub fn anonymous(remote: Option<SocketAddr>) -> Session {
        Session {
            principal: Principal::ANONYMOUS.to_owned(),
            user: None,
            trusted: false,
            decisions: Decisions::default(),
            client_id: None,
            remote,
            readings: Readings::default(),
            arrival: None,
            limit: None,
        }
    }
}
