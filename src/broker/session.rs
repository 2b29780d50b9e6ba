//! Who is calling.

use std::net::SocketAddr;
use std::time::Duration;

use super::asked::Arrival;
use super::readings::Readings;

/// The client on whose behalf an operation is done.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who it is: `User:ANONYMOUS` until it has authenticated.
    pub principal: String,
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

    /// A client inside this process: the command line or the library.
    pub fn internal(client_id: &str) -> Session {
        Session {
            principal: "User:ANONYMOUS".to_owned(),
            client_id: Some(client_id.to_owned()),
            remote: None,
            readings: Readings::default(),
            arrival: None,
            limit: None,
        }
    }
}
