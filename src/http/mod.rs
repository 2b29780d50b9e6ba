//! The HTTP front end: health, readiness, metrics, and the catalog of tables.
//!
//! * `GET /healthz`: 200 while the process does its work, 503 once it can follow the log no further.
//! * `GET /readyz`: 200 if the node can serve clients now, which it shows by asking the store; 503 with the reason
//!   otherwise. For load balancers.
//! * `GET /metrics`: Prometheus text.
//! * `POST /v1/query`: SQL ([`crate::query`]).
//! * `/iceberg/v1/…`: the read side of Iceberg's REST catalog, by which engines find the tables of archived topics.
//! * Everything else: the files of those tables in S3's protocol, for engines to which the catalog gave credentials.
//! * `/peer/…`: what nodes ask each other, sealed with a key that stands in the bucket ([`crate::peer`]).
//!
//! It holds nothing. A request that is dropped leaves nothing behind, but a commit that a peer forwarded is stored.
//!
//! Whoever reaches the port may be hostile: connections are counted as those of other front ends are, a request must
//! arrive within `HEAD_WITHIN`, and after `MAX_LIFETIME` a connection ends with the answer under way. A node that shows
//! that it is one has its connection counted among those of nodes from then on, of which there may be many: so nodes,
//! however many, take no slots from others, and nobody else takes theirs.

mod caller;
mod catalog;
mod peers;
mod query;
mod s3;
mod state_metrics;
#[cfg(test)]
mod tests;

pub use state_metrics::StateMetrics;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::caller::Remote;
use crate::broker::Broker;
use crate::net::{Closing, FrontEnd, Listener, RateLimitedLog, Slot, Stream};
use crate::query::Queries;
use crate::telemetry::Telemetry;

/// How long the store may take to answer for the node to count as ready.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// How long a client may take to send a request, from the start of the connection or the end of the answer before.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// How long a connection may live, but for the answer under way. Clients that come again make a new one.
const MAX_LIFETIME: Duration = Duration::from_secs(300);

/// How long the last answer of a connection may take from then on, if queries may take no longer.
const LAST_ANSWER: Duration = Duration::from_secs(300);

/// What is left of a connection's time when the node stops.
const DRAIN: Duration = Duration::from_secs(1);

/// What the handlers look at.
#[derive(Clone)]
struct Seen {
    broker: Broker,
    telemetry: Arc<Telemetry>,
    stopping: CancellationToken,
    turns: Arc<Semaphore>,
    queries: Queries,
    failed_logins: Arc<Mutex<RateLimitedLog>>,
}

/// The HTTP front end of a node. All listeners that it serves share what it has.
pub struct HttpFrontEnd {
    broker: Broker,
    telemetry: Arc<Telemetry>,
    turns: Arc<Semaphore>,
    queries: Queries,
}

impl HttpFrontEnd {
    /// A front end of this broker, which shows these metrics and has queries answered.
    pub fn new(broker: Broker, telemetry: Telemetry, queries: Queries) -> HttpFrontEnd {
        HttpFrontEnd {
            broker,
            telemetry: Arc::new(telemetry),
            turns: peers::turns(),
            queries,
        }
    }
}

impl FrontEnd for HttpFrontEnd {
    fn serve(
        &self,
        listener: Listener,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Closing> {
        let seen = Seen {
            broker: self.broker.clone(),
            telemetry: Arc::clone(&self.telemetry),
            stopping: shutdown.clone(),
            turns: Arc::clone(&self.turns),
            queries: self.queries.clone(),
            failed_logins: Arc::default(),
        };
        serve(listener, seen, shutdown).boxed()
    }
}

async fn serve(listener: Listener, seen: Seen, shutdown: CancellationToken) -> Closing {
    let longest_answer = seen.queries.options().timeout.max(LAST_ANSWER) + DRAIN;
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(query::router())
        .merge(catalog::router())
        .merge(peers::router())
        .fallback(s3::serve)
        .with_state(seen);
    let stop = shutdown.clone();
    let handle = move |stream: Stream, remote: SocketAddr, slot: Arc<Slot>| {
        let (router, stop) = (TowerToHyperService::new(router.clone()), stop.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(slot.clone());
            request.extensions_mut().insert(Remote(remote));
            router.call(request)
        });
        async move {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new());
            builder.header_read_timeout(HEAD_WITHIN);
            let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
                () = tokio::time::sleep(MAX_LIFETIME) => {
                    // What it is being answered may take as long as a query may.
                    connection.as_mut().graceful_shutdown();
                    match tokio::time::timeout(longest_answer, connection).await {
                        Ok(ended) => ended,
                        Err(_) => return,
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP connection ended with an error");
            }
        }
    };
    let closing = listener.serve_in_places(shutdown, DRAIN, |_| {}, handle);
    let closing = closing.await;
    tracing::debug!(dropped = closing.dropped, "the HTTP front end has stopped");
    closing
}

async fn healthz(State(seen): State<Seen>) -> (StatusCode, String) {
    match seen.broker.manifest().stopped() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn readyz(State(seen): State<Seen>) -> (StatusCode, String) {
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    if seen.stopping.is_cancelled() {
        return unready("this node is stopping".to_owned());
    }
    let manifest = seen.broker.manifest();
    // Known already, and nothing would come of asking.
    if let Some(why) = manifest.refusal() {
        return unready(why);
    }
    // To ask has the node look whether its store is still its own, and brings an answer that tells the store's clock.
    let fresh = tokio::time::timeout(READY_WITHIN, manifest.fresh()).await;
    if let Some(why) = manifest.refusal() {
        return unready(why);
    }
    match fresh {
        Ok(Ok(_)) => match manifest.judge_clock() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
            Err(off) => unready(off.to_string()),
        },
        Ok(Err(why)) => unready(why.to_string()),
        Err(_) => unready(format!("the store did not answer within {READY_WITHIN:?}")),
    }
}

async fn metrics(State(seen): State<Seen>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], seen.telemetry.encode())
}
