//! The settings of the Kafka front end.

use std::time::Duration;

use crate::net::FrameLimits;
use crate::types::ByteCount;

use super::connection::ConnectionLimits;

/// How the front end is bounded. Names in brackets are Kafka's.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// The largest request (`socket.request.max.bytes`).
    pub max_request_size: ByteCount,
    /// The most bytes of records in one Fetch response, whatever the client asks for (`fetch.max.bytes`).
    pub max_fetch_size: ByteCount,
    /// Memory of all requests in flight on the node (`queued.max.request.bytes`).
    pub request_memory: ByteCount,
    /// Memory of all records being sent to clients.
    pub response_memory: ByteCount,
    /// How many requests of one connection may be started and unanswered.
    pub max_in_flight: usize,
    /// A connection without requests for so long is closed (`connections.max.idle.ms`).
    pub max_idle: Duration,
    /// How long a client may make no headway within a message; large messages have more time.
    pub max_stall: Duration,
    /// For how long a login holds; then the client has to log in again (`connections.max.reauth.ms`).
    pub max_login: Option<Duration>,
    /// How long connections have to finish what they have begun when the node stops.
    pub drain: Duration,
}

impl Default for KafkaOptions {
    /// Kafka's defaults where it has the setting.
    fn default() -> KafkaOptions {
        KafkaOptions {
            max_request_size: ByteCount::mib(100),
            max_fetch_size: ByteCount::mib(55),
            request_memory: ByteCount::mib(128),
            response_memory: ByteCount::mib(128),
            max_in_flight: 1000,
            max_idle: Duration::from_secs(600),
            max_stall: Duration::from_secs(30),
            max_login: None,
            drain: Duration::from_secs(10),
        }
    }
}

impl KafkaOptions {
    pub(crate) fn connection(&self) -> ConnectionLimits {
        ConnectionLimits {
            frames: FrameLimits {
                max_size: self.max_request_size,
                stall: self.max_stall,
            },
            max_in_flight: self.max_in_flight.max(1),
            idle: self.max_idle,
        }
    }
}
