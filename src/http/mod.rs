//! The HTTP front end: health, readiness and metrics.
//!
//! * `GET /healthz`: 200 while the process does its work, 503 once it can follow the log no further.
//! * `GET /readyz`: 200 if the node can serve clients now, which it shows by asking the store; 503 with the reason
//!   otherwise. For load balancers.
//! * `GET /metrics`: Prometheus text.
//!
//! It changes nothing and holds nothing. A request that is dropped leaves nothing behind.

mod groups;

pub use groups::GroupMetrics;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::telemetry::Telemetry;

/// How long the store may take to answer for the node to count as ready.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// What the handlers look at.
#[derive(Clone)]
struct Seen {
    broker: Broker,
    telemetry: Arc<Telemetry>,
    stopping: CancellationToken,
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    broker: Broker,
    telemetry: Arc<Telemetry>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let seen = Seen {
        broker,
        telemetry,
        stopping: shutdown.clone(),
    };
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(seen);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
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
    match tokio::time::timeout(READY_WITHIN, seen.broker.manifest().fresh()).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Err(why)) => unready(why.to_string()),
        Err(_) => unready(format!("the store did not answer within {READY_WITHIN:?}")),
    }
}

async fn metrics(State(seen): State<Seen>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], seen.telemetry.encode())
}
