//! `POST /v1/query`: one statement of SQL, answered as a stream.
//!
//! The body is `{"sql": "…"}` as `application/json`, or the statement itself as any other type. `Accept` says in which
//! form the answer is wanted. What goes wrong before there is anything to answer has a status of its own and is told as
//! `{"kind": "…", "error": "…"}`; what goes wrong later breaks the answer off, which clients notice, since it ends
//! without the last chunk.
//!
//! A client that closes its connection stops its query. Who it is, it says by basic authentication (`caller.rs`).

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};

use super::Seen;
use super::caller::{Unknown, caller, challenged};
use crate::query::{Answer, Form, QueryError, QueryErrorKind, Reading};

/// The largest body.
const MAX_BODY: usize = 1 << 20;

/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// After how many seconds a client that found the node busy is to try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

pub(super) fn router() -> Router<Seen> {
    Router::new().route("/v1/query", post(query))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    sql: String,
}

#[derive(Serialize)]
struct Told<'a> {
    kind: &'a str,
    error: &'a str,
}

fn told(status: StatusCode, kind: &str, error: &str) -> Response {
    (status, Json(Told { kind, error })).into_response()
}

/// The answer to who is not known.
fn nobody(unknown: &Unknown) -> Response {
    let (status, error) = unknown.told();
    match unknown {
        Unknown::Malformed(_) | Unknown::Wrong(_) => challenged(told(status, "denied", error)),
        Unknown::TooMany(_) => told(status, "busy", error),
        Unknown::Unavailable(_) => told(status, "unavailable", error),
    }
}

fn failed(error: &QueryError) -> Response {
    let status = match error.kind() {
        QueryErrorKind::Invalid => StatusCode::BAD_REQUEST,
        QueryErrorKind::Refused | QueryErrorKind::Denied => StatusCode::FORBIDDEN,
        QueryErrorKind::UnknownTable => StatusCode::NOT_FOUND,
        QueryErrorKind::Busy => StatusCode::TOO_MANY_REQUESTS,
        QueryErrorKind::Memory => StatusCode::UNPROCESSABLE_ENTITY,
        QueryErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        QueryErrorKind::Deleted => StatusCode::CONFLICT,
        QueryErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        QueryErrorKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = told(status, error.kind().name(), &error.to_string());
    if error.kind() == QueryErrorKind::Busy {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}

async fn query(State(seen): State<Seen>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let form = match form(&head.headers) {
        Ok(form) => form,
        Err(response) => return *response,
    };
    let body = match tokio::time::timeout(BODY_WITHIN, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let error = format!("the body has more than {MAX_BODY} bytes");
            return told(StatusCode::PAYLOAD_TOO_LARGE, "invalid", &error);
        }
        Err(_) => {
            let error = format!("the body did not arrive within {BODY_WITHIN:?}");
            return told(StatusCode::REQUEST_TIMEOUT, "invalid", &error);
        }
    };
    let sql = match statement(&head.headers, &body) {
        Ok(sql) => sql,
        Err(error) => return told(StatusCode::BAD_REQUEST, "invalid", &error),
    };
    let session = match caller(&seen, &head).await {
        Ok(session) => session,
        Err(unknown) => return nobody(&unknown),
    };
    if session.user.is_none() && !seen.broker.manifest().state().access().is_open() {
        return challenged(told(StatusCode::UNAUTHORIZED, "denied", "log in to query"));
    }
    let watch = Reading::default();
    let answer = seen.queries.run(&session, &sql, form, &watch);
    let answered = seen.stopping.run_until_cancelled(answer).await;
    match answered {
        Some(Ok(answer)) => {
            let kind = HeaderValue::from_static(form.media_type());
            ([(header::CONTENT_TYPE, kind)], stream(answer)).into_response()
        }
        Some(Err(error)) => failed(&error),
        None => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            told(status, "unavailable", "this node is stopping")
        }
    }
}

fn form(headers: &HeaderMap) -> Result<Form, Box<Response>> {
    let accept: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    Form::accepted(&accept.join(",")).ok_or_else(|| {
        let known: Vec<&str> = Form::media_types().collect();
        let error = format!(
            "none of what is accepted can be answered; choose of {}",
            known.join(", ")
        );
        Box::new(told(StatusCode::NOT_ACCEPTABLE, "invalid", &error))
    })
}

fn statement(headers: &HeaderMap, body: &[u8]) -> Result<String, String> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        let asked: Asked = serde_json::from_slice(body)
            .map_err(|error| format!("the body is not {{\"sql\": \"…\"}}: {error}"))?;
        return Ok(asked.sql);
    }
    let text = std::str::from_utf8(body);
    let text = text.map_err(|error| format!("the body is not UTF-8: {error}"))?;
    Ok(text.to_owned())
}

fn stream(answer: Answer) -> Body {
    let parts = futures::stream::try_unfold(answer, |mut answer| async move {
        match answer.next().await {
            Ok(part) => Ok(part.map(|part| (part, answer))),
            Err(error) => {
                tracing::info!(%error, "an answer to a query was broken off");
                Err(error)
            }
        }
    });
    Body::from_stream(parts)
}
