//! The Kafka front end: Kafka's wire in front of the [`broker`](crate::broker).
//!
//! | file | what it does |
//! |---|---|
//! | `apis` | the table of the APIs that are served: versions, handlers, the shapes of requests |
//! | `guard` | refuses bodies that would make the codec reserve memory for what is not there |
//! | `codec` | frames as requests, responses as frames |
//! | `errors` | the broker's errors as Kafka's codes: the only file that chooses one |
//! | `metrics` | `weir_kafka_...` |
//! | `call` | what a connection runs: a request that is ready, and what comes of it |
//! | `connection` | order and overlap of requests, sending, the ends of a connection |
//! | `sasl` | what is said in SASL: mechanisms, tokens, how far a login is |
//! | `client` | what is known of the client at the other end |
//! | `context` | what a handler works with, and what it gives back |
//! | `handlers` | one file per API or family of APIs, and the dispatch to them |
//! | `service` | from a frame to a call of a handler |
//!
//! To read the whole, read them in this order: a file uses only those above it (and `apis` the notation of shapes,
//! which is in `guard::shape`), and no handler knows the connection. `tests/layers.rs` holds that no two files need
//! each other.
//!
//! The codec is the crate `kafka-protocol`, used for messages only: record batches are opaque bytes here,
//! on their way in and out, and a Fetch response is sent as the pieces that the broker gave.
//!
//! # What it never does
//!
//! It decides nothing about data: no offset, no membership, no retry is made up here. It advertises
//! nothing that it does not answer in full. It panics on no input, and reserves no memory because an
//! input says so.
//!
//! # Invariants
//!
//! * Answers of a connection are in the order of its requests; see `connection` for what may overlap.
//! * A frame that is malformed, too large, cut short, or of an unknown API or version ends its connection with one
//!   log line, as in Kafka; ApiVersions of an unknown version is answered (KIP-511).
//! * Requests in flight on the node hold no more memory than the request budget; records being sent to
//!   clients no more than the response budget.
//!
//! # Crashes and dropped futures
//!
//! Nothing here outlives a connection. Dropping a connection drops its calls, which abandons their answers; what they
//! were to change may still come about if it was sent to the log before, but undoes nothing newer (`broker/asked.rs`).

mod apis;
mod call;
mod client;
mod codec;
mod connection;
mod context;
mod errors;
#[cfg(any(test, doc, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod guard;
mod handlers;
mod metrics;
mod options;
mod sasl;
mod service;

pub use apis::served_apis;
pub use metrics::KafkaMetrics;
pub use options::KafkaOptions;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::net::{Closing, FrontEnd, Listener, Stream};

use call::Violation;
use client::Client;
use connection::Ended;
use context::Shared;
use service::KafkaService;

/// The Kafka front end of a node. All listeners that it serves share its memory and metrics.
pub struct KafkaFrontEnd {
    shared: Arc<Shared>,
}

impl KafkaFrontEnd {
    /// A front end of this broker.
    pub fn new(broker: Broker, options: KafkaOptions, metrics: KafkaMetrics) -> KafkaFrontEnd {
        KafkaFrontEnd {
            shared: Arc::new(Shared::new(broker, options, metrics)),
        }
    }
}

impl FrontEnd for KafkaFrontEnd {
    /// Serves Kafka clients until `shutdown`, then for up to [`KafkaOptions::drain`] more.
    fn serve(
        &self,
        listener: Listener,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Closing> {
        let (shared, stop) = (Arc::clone(&self.shared), shutdown.clone());
        let metrics = shared.metrics.clone();
        let drain = shared.options.drain;
        let (name, asks_login) = (Arc::clone(listener.name()), listener.asks_login());
        let handle = move |stream: Stream, remote| {
            let (shared, stop, name) = (Arc::clone(&shared), stop.clone(), Arc::clone(&name));
            async move {
                let (reader, writer) = stream.into_split();
                let client = Client::new(&name, asks_login, Some(remote));
                converse(reader, writer, client, shared, stop).await;
            }
        };
        let observe = move |event| metrics.connection(event);
        async move {
            let closing = listener.serve(shutdown, drain, observe, handle).await;
            if closing.dropped > 0 {
                tracing::warn!(
                    connections = closing.dropped,
                    "closed connections before they were done"
                );
            }
            closing
        }
        .boxed()
    }
}

/// Serves one connection and says how it ended, in one log line at most.
async fn converse<R, W>(
    reader: R,
    writer: W,
    client: Client,
    shared: Arc<Shared>,
    stop: CancellationToken,
) where
    R: tokio::io::AsyncRead + Unpin,
    W: connection::Line,
{
    let service = KafkaService::new(Arc::clone(&shared), client.clone());
    let limits = shared.options.connection();
    let budget = shared.requests.clone();
    let ended = connection::run((reader, writer), service, limits, budget, stop).await;
    let reason = match &ended {
        Ended::ByClient => return,
        Ended::Idle => "idle",
        Ended::Stopped => "stopping",
        Ended::Violation(Violation::LoginFailed | Violation::TooManyLogins) => "login",
        Ended::Violation(_) => "violation",
    };
    shared.metrics.ended(reason);
    if let Ended::Violation(why) = ended
        && !matches!(why, Violation::LoginFailed | Violation::TooManyLogins)
    {
        let remote = client.remote().map(|remote| remote.to_string());
        let about = client.describe();
        tracing::warn!(remote, client = about, %why, "closed a Kafka connection");
    }
}

#[cfg(test)]
pub(crate) mod tests;
