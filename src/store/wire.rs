//! The HTTP client under the clouds' stores, with an ear on the wire.
//!
//! `object_store` tells a failed condition (412) and a conflict of two requests (409) apart only in
//! private types, and it cannot tell whether a request was sent at all. This connector notes what was
//! really sent and answered in the [`Trace`] of the attempt that the calling task is making.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

use crate::types::Timestamp;

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
    /// The store's code of the error, such as `NoSuchBucket`; empty if it gave none.
    pub(super) code: String,
    /// The store's words for the error; empty if it gave none.
    pub(super) message: String,
    /// The store's clock, to the second.
    pub(super) date: Option<Timestamp>,
}

impl Trace {
    /// Runs `work` so that its HTTP exchanges are noted in `trace`.
    pub(super) async fn noting<W: Future>(trace: Arc<Trace>, work: W) -> W::Output {
        CURRENT.scope(trace, work).await
    }

    /// Notes the store's clock in the answer to the request that the calling task makes.
    #[cfg(test)]
    pub(super) fn note_date(date: Timestamp) {
        let _ = CURRENT.try_with(|trace| trace.note(|t| t.date = Some(date)));
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
        let response = match self.0.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                // Without a connection nothing was sent. Every other failure may have come after.
                trace.note(|t| t.sent = error.kind() != HttpErrorKind::Connect);
                return Err(error);
            }
        };
        let status = response.status();
        let date = response
            .headers()
            .get("date")
            .and_then(|value| value.to_str().ok())
            .and_then(http_date);
        trace.note(|t| {
            t.status = Some(status.as_u16());
            t.date = date;
        });
        if status.is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        // The status decides; a body that breaks off only costs the store's words for it.
        let body = body.bytes().await.unwrap_or_default();
        let (code, message) = words(&body);
        trace.note(|t| {
            t.code = code;
            t.message = message;
        });
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

fn http_date(text: &str) -> Option<Timestamp> {
    let since = httpdate::parse_http_date(text)
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()?;
    Some(Timestamp(i64::try_from(since.as_millis()).ok()?))
}

/// The code and the message of an error's body: S3's, Azure's and Google's XML, or Google's JSON.
/// Everything else in it is left out, for S3 repeats the signed request there.
fn words(body: &Bytes) -> (String, String) {
    let text = String::from_utf8_lossy(body);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (inner, _) = rest.split_once(&format!("</{name}>"))?;
        Some(inner.trim().to_owned())
    };
    if let Some(code) = element("Code") {
        return (code, element("Message").unwrap_or_default());
    }
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let field = |name: &str| {
        let value = json.get("error").and_then(|error| error.get(name));
        value
            .and_then(|v| v.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    (field("status"), field("message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_and_the_message_of_an_error_are_kept() {
        let body = Bytes::from_static(
            b"<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code>\
              <Message>The signature does not match.</Message>\
              <CanonicalRequest>x-amz-security-token:SECRET</CanonicalRequest></Error>",
        );
        assert_eq!(
            words(&body),
            (
                "SignatureDoesNotMatch".to_owned(),
                "The signature does not match.".to_owned()
            )
        );
        let body = Bytes::from_static(b"{\"error\":{\"code\":403,\"message\":\"no\"}}");
        assert_eq!(words(&body), (String::new(), "no".to_owned()));
        assert_eq!(
            words(&Bytes::from_static(b"<Code>")),
            (String::new(), String::new())
        );
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
