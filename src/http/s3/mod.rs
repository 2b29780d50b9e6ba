//! The files of archived topics in S3's protocol, read-only: for engines that have no rights to the store, or whose
//! store is a directory of this machine.
//!
//! What is there is `GET` and `HEAD` of an object, with a range, and ListObjectsV2, of paths `/bucket/key`. Requests
//! are signed ([`signature`]) with credentials that the catalog gives out; their session token says whose they are, for
//! which table and until when, so any node serves them. Nothing can be changed, and nothing is shown of what is not a
//! table's.
//!
//! An object is read and sent in pieces; a client that reads slowly holds two of them. If the store fails when some of
//! it is sent, the connection is closed before the announced length, and the client asks for the rest.

pub(super) mod signature;

use std::fmt::Write;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::Seen;
use super::caller::remote_of;
use crate::broker::{ArchivedFile, BadToken, FileError, FileGrant, GrantError, MAX_READ};
use crate::config::CatalogAccess;
use crate::types::Timestamp;
use signature::{BadSignature, Signed};

/// How many pieces of an object are read ahead.
const AHEAD: usize = 2;

/// The most keys in an answer.
const MAX_KEYS: usize = 1000;

/// An error, as S3 has them.
struct S3Error {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl S3Error {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> S3Error {
        S3Error {
            status,
            code,
            message: message.into(),
        }
    }

    fn answer(&self, path: &str, with_body: bool) -> Response {
        if !with_body {
            return self.status.into_response();
        }
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message>\
             <Resource>{}</Resource></Error>",
            self.code,
            text(&self.message),
            text(path),
        );
        (
            self.status,
            [(header::CONTENT_TYPE, "application/xml")],
            body,
        )
            .into_response()
    }
}

impl From<BadSignature> for S3Error {
    fn from(bad: BadSignature) -> S3Error {
        let denied = StatusCode::FORBIDDEN;
        match bad {
            BadSignature::Missing(why) => S3Error::new(denied, "AccessDenied", why),
            BadSignature::Skewed => S3Error::new(
                denied,
                "RequestTimeTooSkewed",
                "the time of the request differs from that of the cluster by more than 15 minutes",
            ),
            BadSignature::Wrong => S3Error::new(
                denied,
                "SignatureDoesNotMatch",
                "the signature is not that of this request with these credentials",
            ),
        }
    }
}

impl From<GrantError> for S3Error {
    fn from(error: GrantError) -> S3Error {
        let message = error.to_string();
        match error {
            GrantError::Bad(BadToken::Expired) => {
                S3Error::new(StatusCode::BAD_REQUEST, "ExpiredToken", message)
            }
            GrantError::Bad(BadToken::Foreign) => {
                S3Error::new(StatusCode::FORBIDDEN, "InvalidAccessKeyId", message)
            }
            GrantError::Key(_) | GrantError::Store(_) => S3Error::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                message,
            ),
        }
    }
}

impl From<FileError> for S3Error {
    fn from(error: FileError) -> S3Error {
        let message = error.to_string();
        let (status, code) = match error {
            FileError::NotFound => (StatusCode::NOT_FOUND, "NoSuchKey"),
            FileError::OtherTable | FileError::Denied(_) => (StatusCode::FORBIDDEN, "AccessDenied"),
            FileError::Unavailable(_) | FileError::Store(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
            }
            FileError::Unreadable(_) | FileError::TooLarge(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
            }
        };
        S3Error::new(status, code, message)
    }
}

/// Whatever no other route takes.
pub(super) async fn serve(State(seen): State<Seen>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let is_on = seen.broker.catalog_options().access == CatalogAccess::Proxy;
    if !is_on || !head.headers.contains_key(header::AUTHORIZATION) {
        return (StatusCode::NOT_FOUND, "there is nothing at this path\n").into_response();
    }
    let with_body = head.method != Method::HEAD;
    match answer(&seen, &head).await {
        Ok(answer) => answer,
        Err(error) => {
            let (path, code, why) = (head.uri.path(), error.code, &error.message);
            tracing::debug!(path, code, why, "an engine was refused a file");
            error.answer(path, with_body)
        }
    }
}

async fn answer(seen: &Seen, head: &Parts) -> Result<Response, S3Error> {
    if head.method != Method::GET && head.method != Method::HEAD {
        return Err(S3Error::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "files of the archive can only be read: tables are written by Weir alone",
        ));
    }
    let signed = Signed::of(&head.headers)?;
    let grant = seen.broker.file_grant(&signed.token).await?;
    if grant.key_id() != signed.key_id {
        return Err(GrantError::Bad(BadToken::Foreign).into());
    }
    signed.check(head, grant.secret(), seen.broker.manifest().time())?;
    let path = signature::decode(head.uri.path());
    let path = path.and_then(|path| String::from_utf8(path).ok());
    let path = path.ok_or_else(|| {
        S3Error::new(
            StatusCode::BAD_REQUEST,
            "InvalidURI",
            "the path is not text",
        )
    })?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    match path.split_once('/') {
        None | Some((_, "")) => of_bucket(seen, head, &grant, path.trim_end_matches('/')).await,
        Some(_) => {
            let url = format!("s3://{path}");
            let remote = remote_of(&head.extensions);
            let file = seen.broker.archived_file(&grant, remote, &url).await?;
            object(file, head).await
        }
    }
}

async fn object(file: ArchivedFile, head: &Parts) -> Result<Response, S3Error> {
    let asked = head
        .headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    let (size, modified) = file.meta().await?;
    let whole = match file.is_whole() {
        true => Some(file.whole().await?),
        false => None,
    };
    let size = whole.as_ref().map_or(size, |whole| whole.len() as u64);
    let range = match asked.map(|asked| range_of(asked, size)) {
        None | Some(Asked::All) => None,
        Some(Asked::Range(range)) => Some(range),
        Some(Asked::Outside) => {
            return Err(S3Error::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "InvalidRange",
                format!("the object has {size} bytes"),
            ));
        }
    };
    let (start, end) = range
        .as_ref()
        .map_or((0, size), |range| (range.start, range.end));
    let mut headers = HeaderMap::new();
    let mut say = |name: HeaderName, value: String| {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    };
    // Each object is written once, so its name says which it is.
    let name = file
        .name()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    say(header::ETAG, format!("\"{name}\""));
    say(
        header::LAST_MODIFIED,
        httpdate::fmt_http_date(time(modified)),
    );
    say(header::ACCEPT_RANGES, "bytes".to_owned());
    say(header::CONTENT_TYPE, "application/octet-stream".to_owned());
    say(header::CONTENT_LENGTH, (end - start).to_string());
    let mut status = StatusCode::OK;
    if range.is_some() {
        status = StatusCode::PARTIAL_CONTENT;
        say(
            header::CONTENT_RANGE,
            format!("bytes {start}-{}/{size}", end - 1),
        );
    }
    let body = if head.method == Method::HEAD {
        Body::empty()
    } else {
        match whole {
            Some(whole) => Body::from(slice(&whole, start..end)),
            None => body(file, start..end).await?,
        }
    };
    Ok((status, headers, body).into_response())
}

/// A part of what is in memory.
fn slice(whole: &Bytes, range: Range<u64>) -> Bytes {
    let at = |offset: u64| {
        usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(whole.len())
    };
    whole.slice(at(range.start)..at(range.end))
}

/// A range of an object, read as it is sent. The first piece is read before the answer begins, so that a store that
/// fails is told in it.
async fn body(file: ArchivedFile, range: Range<u64>) -> Result<Body, S3Error> {
    let first = file.read(range.clone()).await?;
    let mut at = range.start + first.len() as u64;
    if at >= range.end {
        return Ok(Body::from(first));
    }
    let mut pieces = Vec::new();
    while at < range.end {
        let end = range.end.min(at + MAX_READ);
        pieces.push(at..end);
        at = end;
    }
    let rest = stream::iter(pieces.into_iter().map(move |piece| {
        let file = file.clone();
        async move { file.read(piece).await }
    }));
    let rest = rest.buffered(AHEAD).inspect_err(|error| {
        tracing::debug!(%error, "an object could not be served to its end");
    });
    Ok(Body::from_stream(stream::iter([Ok(first)]).chain(rest)))
}

/// What a client asks for of an object.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// All of it, or what cannot be read as a range: as S3 has it.
    All,
    Range(Range<u64>),
    /// Nothing that there is.
    Outside,
}

/// Reads a `Range` header, for an object of that size.
fn range_of(asked: &str, size: u64) -> Asked {
    let Some((first, last)) = asked
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Asked::All;
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let range = match (first, last) {
        ("", last) => match number(last) {
            Some(count) => size.saturating_sub(count)..size,
            None => return Asked::All,
        },
        (first, "") => match number(first) {
            Some(first) => first..size,
            None => return Asked::All,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..size.min(last.saturating_add(1)),
            _ => return Asked::All,
        },
    };
    match range.is_empty() {
        true => Asked::Outside,
        false => Asked::Range(range),
    }
}

async fn of_bucket(
    seen: &Seen,
    head: &Parts,
    grant: &FileGrant,
    bucket: &str,
) -> Result<Response, S3Error> {
    let mut asked = signature::parameters(head.uri.query().unwrap_or_default());
    let mut take = |name: &str| {
        let at = asked.iter().position(|(asked, _)| asked == name);
        at.map(|at| asked.swap_remove(at).1)
    };
    if take("list-type").as_deref() != Some("2") {
        return Err(S3Error::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            "of a bucket only ListObjectsV2 is served",
        ));
    }
    let prefix = take("prefix").unwrap_or_default();
    let delimiter = take("delimiter").unwrap_or_default();
    let token = take("continuation-token");
    let after = token
        .clone()
        .or_else(|| take("start-after"))
        .unwrap_or_default();
    let limit = take("max-keys").map_or(Some(MAX_KEYS), |keys| keys.parse().ok());
    let limit = limit.ok_or_else(|| {
        S3Error::new(
            StatusCode::BAD_REQUEST,
            "InvalidArgument",
            "max-keys is no number",
        )
    })?;
    let limit = limit.min(MAX_KEYS);
    let encodes = take("encoding-type").as_deref() == Some("url");
    let own = format!("s3://{bucket}/");
    let remote = remote_of(&head.extensions);
    // With none to show, nothing need be looked for.
    let (files, next) = if limit == 0 {
        (Vec::new(), None)
    } else {
        let (prefix, after) = (format!("{own}{prefix}"), format!("{own}{after}"));
        let listing = seen
            .broker
            .archived_files(grant, remote, &prefix, &after, limit);
        let listing = listing.await?;
        (listing.files, listing.next)
    };
    let shown = |key: &str| match encodes {
        true => signature::encode(key.as_bytes(), "/"),
        false => text(key),
    };
    let (mut keys, mut folders) = (String::new(), Vec::<String>::new());
    let mut count = 0;
    for file in &files {
        let key = file.url.strip_prefix(&own).unwrap_or_default();
        let rest = key.strip_prefix(&prefix).unwrap_or_default();
        if !delimiter.is_empty()
            && let Some(end) = rest.find(&delimiter)
        {
            let folder = format!("{prefix}{}", &rest[..end + delimiter.len()]);
            if folders.last() != Some(&folder) {
                folders.push(folder);
                count += 1;
            }
            continue;
        }
        count += 1;
        let modified = humantime::format_rfc3339_millis(time(file.modified));
        let name = key.rsplit('/').next().unwrap_or_default();
        // Writing to a string does not fail.
        let _ = write!(
            keys,
            "<Contents><Key>{}</Key><LastModified>{modified}</LastModified><ETag>&quot;{}&quot;</ETag>\
             <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            shown(key),
            text(name),
            file.size,
        );
    }
    let folders: String = folders
        .iter()
        .map(|folder| {
            format!(
                "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
                shown(folder)
            )
        })
        .collect();
    let mut body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name>\
         <Prefix>{}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>{limit}</MaxKeys>\
         <IsTruncated>{}</IsTruncated>",
        text(bucket),
        shown(&prefix),
        next.is_some(),
    );
    if !delimiter.is_empty() {
        let _ = write!(body, "<Delimiter>{}</Delimiter>", shown(&delimiter));
    }
    if encodes {
        body.push_str("<EncodingType>url</EncodingType>");
    }
    if let Some(token) = token {
        let _ = write!(
            body,
            "<ContinuationToken>{}</ContinuationToken>",
            text(&token)
        );
    }
    if let Some(next) = next {
        let next = text(next.strip_prefix(&own).unwrap_or_default());
        let _ = write!(
            body,
            "<NextContinuationToken>{next}</NextContinuationToken>"
        );
    }
    let _ = write!(body, "{keys}{folders}</ListBucketResult>");
    Ok(([(header::CONTENT_TYPE, "application/xml")], body).into_response())
}

/// As it stands in XML.
fn text(plain: &str) -> String {
    let mut escaped = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no others.
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn time(of: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(of.0).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_s3_reads_them() {
        for (asked, expected) in [
            ("bytes=0-9", Asked::Range(0..10)),
            ("bytes=5-", Asked::Range(5..20)),
            ("bytes=-5", Asked::Range(15..20)),
            ("bytes=-50", Asked::Range(0..20)),
            ("bytes=10-500", Asked::Range(10..20)),
            ("bytes=0-18446744073709551615", Asked::Range(0..20)),
            ("bytes=20-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=20-30", Asked::Outside),
            ("bytes=9-5", Asked::All),
            ("bytes=a-b", Asked::All),
            ("bytes=+1-2", Asked::All),
            ("bytes=0-1,3-4", Asked::All),
            ("items=0-1", Asked::All),
        ] {
            assert_eq!(range_of(asked, 20), expected, "{asked}");
        }
        assert_eq!(range_of("bytes=0-", 0), Asked::Outside);
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(text("a<b>&\"\u{1}"), "a&lt;b&gt;&amp;&quot;\u{fffd}");
    }
}
