//! Who is calling.

use std::net::SocketAddr;

/// The client on whose behalf an operation is done.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who it is: `User:ANONYMOUS` until it has authenticated.
    pub principal: String,
    /// The name it gives itself (Kafka's `client.id`).
    pub client_id: Option<String>,
    /// Where it connects from; `None` inside this process.
    pub peer: Option<SocketAddr>,
}

/// The operation could not be carried out now; nothing is known to have changed, and the client
/// should try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The store did not answer in time. A change may still come about.
    #[error("the store did not answer within the time of the request")]
    TimedOut,
    /// The store cannot be reached.
    #[error("the store cannot be reached: {0}")]
    Store(String),
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopping,
}
