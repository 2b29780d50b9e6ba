//! Who is calling, and what nobody can be told now.

use std::net::SocketAddr;

use std::time::Duration;

use super::asked::Arrival;
use super::readings::Readings;
use crate::manifest::Stopped;
use crate::store::ClockOff;

/// The client on whose behalf an operation is done.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who it is: `User:ANONYMOUS` until it has authenticated.
    pub principal: String,
    /// The name it gives itself (Kafka's `client.id`).
    pub client_id: Option<String>,
    /// Where it connects from; `None` inside this process.
    pub peer: Option<SocketAddr>,
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
            peer: None,
            readings: Readings::default(),
            arrival: None,
            limit: None,
        }
    }
}

/// The operation could not be carried out now, and the client should try again. A change that was asked for
/// may still come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The store did not answer in time.
    #[error("the store did not answer within the time of the request")]
    TimedOut,
    /// What the request was to change was changed after it had arrived, by another. Nothing was done.
    #[error("what the request changes was changed by another meanwhile; try again")]
    Overtaken,
    /// The store cannot be reached.
    #[error("the store cannot be reached: {0}")]
    Store(String),
    /// The wall clock of this machine is off, so this node makes no changes.
    #[error(transparent)]
    Clock(ClockOff),
    /// This node is stopping, or can follow the log no further.
    #[error(transparent)]
    Stopped(Stopped),
}

impl From<Stopped> for Unavailable {
    fn from(stopped: Stopped) -> Unavailable {
        match stopped {
            // The node goes on. As after any answer that did not come in time, the client cannot know either.
            Stopped::OutcomeUnknown => Unavailable::TimedOut,
            Stopped::ClockOff(off) => Unavailable::Clock(off),
            stopped => Unavailable::Stopped(stopped),
        }
    }
}
