//! What this node does for its peers: [`crate::peer`] is the side that asks.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Seen;
use crate::manifest::Declined;
use crate::net::Slot;
use crate::peer::{NEWS_WITHIN, wire};
use crate::types::PeerKey;
use wire::{LogQuery, Seal};

/// The largest body: more than the largest commit that is forwarded.
const MAX_BODY: usize = 7 << 20;

/// How many bodies are read at once: so many are in memory before it is known who sent them.
const AT_ONCE: usize = 8;

/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(2);

/// The questions of peers.
pub(super) fn router() -> Router<Seen> {
    Router::new()
        .route(wire::FORWARD, post(forwarded))
        .route(wire::LOG, get(log))
}

/// Turns to read a body.
pub(super) fn turns() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(AT_ONCE))
}

/// The seal of a question, with the key that it shows; `None` if it is not of this node's key: then nothing is said,
/// not even why.
fn sealed<'a>(seen: &'a Seen, head: &Parts, body: &[u8]) -> Option<(&'a PeerKey, Seal)> {
    let key = seen.broker.peer_key()?;
    let path = head.uri.path_and_query()?;
    let seal = Seal::question(key, &format!("{} {path}", head.method), body);
    let sent = head.headers.get(wire::SEAL)?;
    seal.is(sent.as_bytes()).then_some((key, seal))
}

/// Counts the connection of a sealed question among those of nodes. The answer that it is to have if there are too
/// many.
fn turned_away(head: &Parts, key: &PeerKey, question: &Seal) -> Option<Response> {
    let slot = head.extensions.get::<Arc<Slot>>()?;
    if slot.become_known() {
        return None;
    }
    let mut answer = answer(key, question, Err(Declined::Full));
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(header::CONNECTION, close);
    Some(answer)
}

fn answer(key: &PeerKey, question: &Seal, said: Result<Bytes, Declined>) -> Response {
    let (status, body) = match said {
        Ok(body) => (StatusCode::OK, body),
        Err(why) => (StatusCode::CONFLICT, wire::word(why).into()),
    };
    let seal = Seal::answer(key, question, status.as_u16(), &body);
    (status, [(wire::SEAL, seal.as_str())], body).into_response()
}

async fn forwarded(State(seen): State<Seen>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = {
        let _turn = seen.turns.acquire().await;
        match timeout(BODY_WITHIN, to_bytes(body, MAX_BODY)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
        }
    };
    let Some((key, question)) = sealed(&seen, &head, &body) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    if let Some(answer) = turned_away(&head, key, &question) {
        return answer;
    }
    let stored = seen.broker.manifest().admit(body).await;
    answer(key, &question, stored.map(|seq| seq.0.to_string().into()))
}

async fn log(State(seen): State<Seen>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let Some((key, question)) = sealed(&seen, &head, b"") else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    if let Some(answer) = turned_away(&head, key, &question) {
        return answer;
    }
    let Some(LogQuery { log, after }) = head.uri.query().and_then(LogQuery::parse) else {
        return answer(key, &question, Err(Declined::Unfit));
    };
    let manifest = seen.broker.manifest();
    let news = manifest.log_after(log, after, NEWS_WITHIN);
    let news = seen.stopping.run_until_cancelled(news).await;
    let news = news.unwrap_or(Err(Declined::Stopping));
    answer(key, &question, news.map(|objects| wire::frames(&objects)))
}
