//! Whose answer is this: the store's own, or that of something in between?
//!
//! A gateway without a backend answers 404 to everything, a portal 403 or 200 with a page, a proxy 412 or 304 from its
//! cache. Taken for the store's, such an answer certifies an end of the log that is none, an object that was never
//! written, an empty listing. So a status alone proves nothing:
//!
//! * **An error** means what its status says only if the store's error document came with it, whole: S3's, Google's and
//!   Azure's XML, Google's JSON, or Azure's `x-ms-error-code`. A range behind an object's end is also shown by
//!   `content-range: bytes */length`. Every other error is temporary, and a create that got it is unknown.
//! * **The success of a put or a delete** has no body. **A listing**, the answer to a bulk delete and those to the
//!   steps of an upload are documents of a known name, whole: a page that happens to be XML reads as an empty listing.
//! * **An object** is never a web page. Whoever reads one from its beginning knows how it begins; if it begins
//!   otherwise, it is damaged if the answer has a header that only the store's API gives, and else it is not the
//!   store's.
//! * **The answer to a HEAD** has no body, so that a "not found" proves nothing. This room makes none: who wants to
//!   know the size of an object reads its first byte.
//!
//! A redirect is followed by the HTTP client, and what is at its end is judged like everything else.

use hyper::http::HeaderMap;

/// What a store says in an error's document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Such as `NoSuchKey`; empty if it is not the store that says it.
    pub(super) code: String,
    /// Its words.
    pub(super) message: String,
}

/// What the body of a success looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is empty.
    Nothing,
    /// It is a document with this root.
    Document(&'static str),
    /// It is an object.
    Object,
    /// Not known here: requests for credentials and the like.
    Anything,
}

impl Expected {
    /// What the store's success of this request looks like.
    pub(super) fn of(method: &str, query: &str) -> Expected {
        let has = |name: &str| {
            query
                .split('&')
                .any(|pair| pair.split('=').next() == Some(name))
        };
        let is = |wanted: &str| query.split('&').any(|pair| pair == wanted);
        match method {
            "GET" if is("list-type=2") => Expected::Document("ListBucketResult"),
            "GET" if is("comp=list") => Expected::Document("EnumerationResults"),
            "GET" => Expected::Object,
            "POST" if has("delete") => Expected::Document("DeleteResult"),
            "POST" if has("uploads") => Expected::Document("InitiateMultipartUploadResult"),
            "POST" if has("uploadId") => Expected::Document("CompleteMultipartUploadResult"),
            "PUT" | "DELETE" => Expected::Nothing,
            _ => Expected::Anything,
        }
    }

    /// Whether the body has to be seen before the answer is believed.
    pub(super) fn needs_body(self) -> bool {
        matches!(self, Expected::Nothing | Expected::Document(_))
    }

    /// Whether an answer with these headers, and this body if it is needed, can be the store's.
    pub(super) fn fits(self, headers: &HeaderMap, body: &[u8]) -> bool {
        match self {
            Expected::Nothing => body.is_empty(),
            // An error in the place of a success is the store's as well, and judged as an error.
            Expected::Document(root) => is_document(body, root) || is_document(body, "Error"),
            Expected::Object => !is_page(headers),
            Expected::Anything => true,
        }
    }
}

/// What the store says in an error, if it is the store that says it. Everything but the code and the message is left
/// out, for S3 repeats the signed request there.
pub(super) fn said(headers: &HeaderMap, body: &[u8]) -> Said {
    let text = String::from_utf8_lossy(body);
    if is_document(body, "Error")
        && let Some(code) = element(&text, "Code")
    {
        let message = element(&text, "Message").unwrap_or_default();
        return Said { code, message };
    }
    // Azure says it in a header as well, and Google in JSON.
    if let Some(code) = header(headers, "x-ms-error-code") {
        let code = code.to_owned();
        return Said {
            code,
            message: String::new(),
        };
    }
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: Option<&serde_json::Value>| {
        value.and_then(|value| value.as_str()).map(str::to_owned)
    };
    match json.get("error") {
        // Of a service that gives tokens (RFC 6749).
        Some(serde_json::Value::String(code)) => Said {
            code: code.clone(),
            message: text(json.get("error_description")).unwrap_or_default(),
        },
        Some(error) => {
            let first = error.get("errors").and_then(|errors| errors.get(0));
            let reason = first.and_then(|first| first.get("reason"));
            Said {
                code: text(error.get("status"))
                    .or_else(|| text(reason))
                    .unwrap_or_default(),
                message: text(error.get("message")).unwrap_or_default(),
            }
        }
        None => Said::default(),
    }
}

/// Whether the answer has a header that only the API of a store gives. Most stores give one with each answer, not all.
pub(super) fn has_header_of_store(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        ["x-amz-", "x-ms-", "x-goog-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    })
}

/// Whether the answer says that the object ends before the range that was asked for.
pub(super) fn ends_before_range(headers: &HeaderMap) -> bool {
    let length = header(headers, "content-range").and_then(|range| range.strip_prefix("bytes */"));
    length.is_some_and(|length| length.trim().parse::<u64>().is_ok())
}

/// What kind of answer it is and who says that it gave it, in words for a log.
pub(super) fn described(headers: &HeaderMap) -> String {
    let kind = header(headers, "content-type").unwrap_or("of no type");
    match header(headers, "server") {
        Some(server) => format!("{kind}, from {server}"),
        None => kind.to_owned(),
    }
}

/// Whether the answer is a page for a browser. No object of Weir is.
fn is_page(headers: &HeaderMap) -> bool {
    let kind = header(headers, "content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether the body is an XML document with this root, from its beginning to its end.
fn is_document(body: &[u8], root: &str) -> bool {
    let Ok(text) = std::str::from_utf8(body) else {
        return false;
    };
    let mut rest = text.trim_start_matches('\u{feff}').trim();
    for (opens, closes) in [("<?", "?>"), ("<!--", "-->")] {
        if rest.starts_with(opens) {
            rest = rest.split_once(closes).map_or("", |(_, rest)| rest.trim());
        }
    }
    let Some(rest) = rest
        .strip_prefix('<')
        .and_then(|rest| rest.strip_prefix(root))
    else {
        return false;
    };
    let Some((attributes, content)) = rest.split_once('>') else {
        return false;
    };
    let named = attributes.is_empty()
        || attributes.starts_with(|c: char| c == '/' || c.is_ascii_whitespace());
    let empty = attributes.ends_with('/') && content.is_empty();
    named && (empty || content.ends_with(&format!("</{root}>")))
}

fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inner.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use hyper::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().cloned();
        pairs
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    fn code(body: &str) -> String {
        said(&HeaderMap::new(), body.as_bytes()).code
    }

    #[test]
    fn only_the_code_and_the_message_of_an_error_are_kept() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code>\
            <Message>The signature does not match.</Message>\
            <CanonicalRequest>x-amz-security-token:SECRET</CanonicalRequest></Error>";
        let expected = Said {
            code: "SignatureDoesNotMatch".to_owned(),
            message: "The signature does not match.".to_owned(),
        };
        assert_eq!(said(&HeaderMap::new(), body), expected);
    }

    #[test]
    fn every_store_s_own_error_is_known_as_such() {
        for body in [
            // S3, MinIO, LocalStack (with a line after the declaration), SeaweedFS, Google, and Azure, which begins
            // with a mark.
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Key>a</Key></Error>",
            "<?xml version='1.0' encoding='utf-8'?>\n<Error>\n<Code>NoSuchKey</Code>\n</Error>\n",
            "<Error xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Code>NoSuchKey</Code></Error>",
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>NoSuchKey</Code></Error>",
            "{\"error\": {\"code\": 404, \"status\": \"NoSuchKey\", \"message\": \"no\"}}",
            "{\"error\": {\"code\": 404, \"errors\": [{\"reason\": \"NoSuchKey\"}]}}",
        ] {
            assert_eq!(code(body), "NoSuchKey", "{body}");
        }
        let azure = headers(&[(HeaderName::from_static("x-ms-error-code"), "BlobNotFound")]);
        assert_eq!(said(&azure, b"").code, "BlobNotFound");
        assert_eq!(
            code("{\"error\":\"invalid_grant\",\"error_description\":\"no\"}"),
            "invalid_grant"
        );
    }

    #[test]
    fn what_a_gateway_says_is_not_a_store_s_error() {
        for body in [
            "",
            "default backend - 404",
            "<html><body><Code>NoSuchKey</Code></body></html>",
            "<!DOCTYPE html><html><Error><Code>NoSuchKey</Code></Error></html>",
            // It broke off.
            "<Error><Code>NoSuchKey</Code><Message>The spec",
            "<Errors><Code>NoSuchKey</Code></Errors>",
            "<Error><Code>NoSuchKey</Code></Error><p>",
            "{\"message\": \"no Route matched with those values\"}",
            "\u{0}\u{1}",
        ] {
            assert_eq!(code(body), "", "{body}");
        }
    }

    #[test]
    fn a_success_looks_as_the_store_s_api_says() {
        let none = HeaderMap::new();
        let page = b"<html><head/><body>Sign in</body></html>";
        let list = Expected::of("GET", "list-type=2&prefix=manifest%2F");
        assert_eq!(list, Expected::Document("ListBucketResult"));
        assert!(list.fits(&none, b"<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"a\"><Name>b</Name></ListBucketResult>"));
        assert!(list.fits(&none, b"<ListBucketResult/>"));
        for other in [
            &page[..],
            b"",
            b"<ListBucketResult><Name>b</Name>",
            b"<ListBucketResults></ListBucketResults>",
        ] {
            assert!(!list.fits(&none, other), "{other:?}");
        }
        for (method, query) in [
            ("PUT", ""),
            ("PUT", "partNumber=1&uploadId=a"),
            ("DELETE", "uploadId=a"),
        ] {
            let nothing = Expected::of(method, query);
            assert!(nothing.fits(&none, b"") && !nothing.fits(&none, page));
        }
        for (query, root) in [
            ("delete", "DeleteResult"),
            ("delete=", "DeleteResult"),
            ("uploads=", "InitiateMultipartUploadResult"),
            ("uploadId=a", "CompleteMultipartUploadResult"),
        ] {
            assert_eq!(Expected::of("POST", query), Expected::Document(root));
        }
        let object = Expected::of("GET", "");
        assert!(object.fits(&headers(&[(CONTENT_TYPE, "application/octet-stream")]), b""));
        assert!(object.fits(&none, b""));
        assert!(!object.fits(&headers(&[(CONTENT_TYPE, "text/html; charset=utf-8")]), b""));
    }
}
