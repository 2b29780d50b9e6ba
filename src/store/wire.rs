//! The HTTP client under the clouds' stores, with an ear on the wire.
//!
//! `object_store` tells a failed condition (412) and a conflict of two requests (409) apart only in
//! private types, and it cannot tell whether a request was sent at all. This connector notes what was
//! really sent and answered in the [`Trace`] of the attempt that the calling task is making, and passes on as a
//! success only what can be the store's: `answers.rs` says what that is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use hyper::http::HeaderMap;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

use crate::types::Timestamp;

use super::answers::{self, Expected, Said};

tokio::task_local! {
    static CURRENT: Arc<Trace>;
}

/// What one attempt saw of the wire.
#[derive(Debug, Default)]
pub(super) struct Trace(Mutex<Traced>);

/// The last HTTP exchange of an attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct Traced {
    /// A request was handed to a connection, or may have been.
    pub(super) sent: bool,
    /// The answer's status, if there was an answer.
    pub(super) status: Option<u16>,
    /// What the store said of an error, such as `NoSuchBucket`. Without a code it was not the store that answered.
    pub(super) said: Said,
    /// The answer says that the object ends before the range that was asked for.
    pub(super) ended: bool,
    /// It says that it is a success, and is not one of the store's.
    pub(super) misfits: bool,
    /// The answer has a header that only a store gives.
    pub(super) has_header_of_store: bool,
    /// What kind of answer it is, and from whom.
    pub(super) described: String,
    /// The store's clock, to the second.
    pub(super) date: Option<Timestamp>,
}

impl Trace {
    /// Runs `work` so that its HTTP exchanges are noted in `trace`.
    pub(super) async fn noting<W: Future>(trace: Arc<Trace>, work: W) -> W::Output {
        CURRENT.scope(trace, work).await
    }

    /// What has been noted so far.
    pub(super) fn read(&self) -> Traced {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, change: impl FnOnce(&mut Traced)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Makes clients that note their exchanges.
#[derive(Debug, Default)]
pub(super) struct TracingConnector;

impl HttpConnector for TracingConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(TracingClient(client)))
    }
}

#[derive(Debug)]
struct TracingClient(HttpClient);

#[async_trait]
impl HttpService for TracingClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Ok(trace) = CURRENT.try_with(Arc::clone) else {
            return self.0.execute(request).await;
        };
        trace.note(|t| {
            *t = Traced {
                sent: true,
                ..Traced::default()
            };
        });
        let expected = Expected::of(
            request.method().as_str(),
            request.uri().query().unwrap_or_default(),
        );
        let response = match self.0.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                // Without a connection nothing was sent. Every other failure may have come after.
                trace.note(|t| t.sent = error.kind() != HttpErrorKind::Connect);
                return Err(error);
            }
        };
        let status = response.status();
        trace.note(|t| t.head(status.as_u16(), response.headers()));
        if status.is_success() && !expected.needs_body() {
            return match expected.fits(response.headers(), &[]) {
                true => Ok(response),
                false => Err(foreign(&trace)),
            };
        }
        let (parts, body) = response.into_parts();
        if status.is_success() {
            let body = body.bytes().await?;
            return match expected.fits(&parts.headers, &body) {
                true => Ok(HttpResponse::from_parts(parts, body.into())),
                false => Err(foreign(&trace)),
            };
        }
        // Without the store's words, also if they broke off, it is an answer that proves nothing.
        let body = body.bytes().await.unwrap_or_default();
        let said = answers::said(&parts.headers, &body);
        trace.note(|t| t.said = said);
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

impl Traced {
    /// Notes the head of an answer.
    fn head(&mut self, status: u16, headers: &HeaderMap) {
        let date = headers.get("date").and_then(|value| value.to_str().ok());
        self.status = Some(status);
        self.date = date.and_then(http_date);
        self.ended = answers::ends_before_range(headers);
        self.has_header_of_store = answers::has_header_of_store(headers);
        self.described = answers::described(headers);
    }

    /// Whether something other than the store answered with an error. That a store is overloaded its own proxies say as
    /// well, without its words.
    pub(super) fn is_foreign(&self) -> bool {
        let overloaded = |status| matches!(status, 200..=299 | 408 | 429 | 500..);
        self.said.code.is_empty() && !self.status.is_none_or(overloaded)
    }

    /// The store's clock, if this is surely the store's answer: whatever else answers may have any clock.
    pub(super) fn date_of_store(&self) -> Option<Timestamp> {
        let succeeded = self
            .status
            .is_none_or(|status| matches!(status, 200..=299) && !self.misfits);
        let is_store = succeeded || !self.said.code.is_empty() || self.has_header_of_store;
        self.date.filter(|_| is_store)
    }

    /// That something other than the store answered, in words for a log.
    pub(super) fn foreign(&self) -> String {
        format!(
            "something other than the store answered {} ({}): see what is between this machine and the store's endpoint",
            self.status.unwrap_or_default(),
            self.described
        )
    }
}

/// A success that is not the store's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Foreign(String);

fn foreign(trace: &Trace) -> HttpError {
    trace.note(|t| t.misfits = true);
    HttpError::new(HttpErrorKind::Unknown, Foreign(trace.read().foreign()))
}

/// What the attempt that the calling task is making has seen of the wire; nothing if the store is not reached by HTTP.
pub(super) fn seen() -> Option<Traced> {
    let traced = CURRENT.try_with(|trace| trace.read()).ok()?;
    traced.status.is_some().then_some(traced)
}

fn http_date(text: &str) -> Option<Timestamp> {
    let since = httpdate::parse_http_date(text)
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()?;
    Some(Timestamp(i64::try_from(since.as_millis()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Trace {
        /// Notes the store's clock in the answer to the request that the calling task makes.
        pub(in crate::store) fn note_date(date: Timestamp) {
            let _ = CURRENT.try_with(|trace| trace.note(|t| t.date = Some(date)));
        }
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Timestamp(784_111_777_000))
        );
        assert_eq!(http_date("yesterday"), None);
    }
}
