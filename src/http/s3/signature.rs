//! AWS's Signature Version 4, as requests to S3 carry it in their headers: taken apart and checked. Pure.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::{constant_time, digest, hmac};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use url::form_urlencoded;

use crate::types::Timestamp;

/// How far the clock of a client may be off.
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

/// How many headers may be signed.
const MAX_SIGNED: usize = 64;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TOKEN: &str = "x-amz-security-token";
const DATE: &str = "x-amz-date";
const BODY: &str = "x-amz-content-sha256";

/// What SHA-256 makes of nothing.
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Why a request is not taken for one of whom it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadSignature {
    /// There is none, or it is none that can be read.
    Missing(&'static str),
    /// The client's clock is too far off.
    Skewed,
    /// It is another than the request should have.
    Wrong,
}

/// What a request says of who signed it.
#[derive(Debug)]
pub(super) struct Signed {
    /// The access key id.
    pub(super) key_id: String,
    /// The session's token.
    pub(super) token: String,
    date: String,
    scope: [String; 3],
    headers: Vec<String>,
    signature: String,
}

impl Signed {
    /// Takes the headers of a request apart.
    pub(super) fn of(headers: &HeaderMap) -> Result<Signed, BadSignature> {
        let missing = BadSignature::Missing;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let authorization = text(AUTHORIZATION.as_str());
        let authorization = authorization.ok_or(missing("the request is not signed"))?;
        let parts = authorization.strip_prefix(ALGORITHM);
        let parts = parts.ok_or(missing("requests are signed with AWS4-HMAC-SHA256"))?;
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in parts.split(',') {
            match part.trim().split_once('=') {
                Some(("Credential", value)) => credential = Some(value),
                Some(("SignedHeaders", value)) => signed = Some(value),
                Some(("Signature", value)) => signature = Some(value),
                _ => return Err(missing("the Authorization header has an unknown part")),
            }
        }
        let (Some(credential), Some(signed), Some(signature)) = (credential, signed, signature)
        else {
            return Err(missing("the Authorization header lacks a part"));
        };
        let mut scope = credential.split('/');
        let (Some(key_id), Some(day), Some(region), Some("s3"), Some("aws4_request"), None) = (
            scope.next(),
            scope.next(),
            scope.next(),
            scope.next(),
            scope.next(),
            scope.next(),
        ) else {
            return Err(missing("the credential is not one for S3"));
        };
        let date = text(DATE).ok_or(missing("there is no x-amz-date"))?;
        if !date.starts_with(day) {
            return Err(missing("the credential is of another day than x-amz-date"));
        }
        let headers: Vec<String> = signed.split(';').map(str::to_owned).collect();
        let signs = |name: &str| headers.iter().any(|signed| signed == name);
        if headers.len() > MAX_SIGNED || !signs("host") || !signs(DATE) {
            return Err(missing("host and x-amz-date have to be signed"));
        }
        let token = text(TOKEN).ok_or(missing(
            "there is no x-amz-security-token: a session token comes with the credentials",
        ))?;
        Ok(Signed {
            key_id: key_id.to_owned(),
            token: token.to_owned(),
            date: date.to_owned(),
            scope: [day, region, "s3"].map(str::to_owned),
            headers,
            signature: signature.to_owned(),
        })
    }

    /// Checks the signature of a request, which is to have been made with this secret at about that time.
    pub(super) fn check(
        &self,
        head: &Parts,
        secret: &[u8],
        now: Timestamp,
    ) -> Result<(), BadSignature> {
        let at = read_date(&self.date).ok_or(BadSignature::Missing("x-amz-date is no date"))?;
        if now.since(at).max(at.since(now)) > MAX_SKEW {
            return Err(BadSignature::Skewed);
        }
        let own = self.signature_of(head, secret);
        let own = own.ok_or(BadSignature::Missing("a signed header is not there"))?;
        constant_time::verify_slices_are_equal(own.as_bytes(), self.signature.as_bytes())
            .map_err(|_| BadSignature::Wrong)
    }

    /// The signature that the request should have; `None` if a header is not there that is said to be signed.
    fn signature_of(&self, head: &Parts, secret: &[u8]) -> Option<String> {
        let request = self.canonical(head)?;
        let request = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let scope = format!("{}/aws4_request", self.scope.join("/"));
        let text = format!("{ALGORITHM}\n{}\n{scope}\n{request}", self.date);
        let mut key = [b"AWS4", secret].concat();
        for part in self
            .scope
            .iter()
            .map(String::as_str)
            .chain(["aws4_request"])
        {
            key = sign(&key, part);
        }
        Some(hex(&sign(&key, &text)))
    }

    /// The request as it is signed; `None` if a header is not there that is said to be.
    fn canonical(&self, head: &Parts) -> Option<String> {
        let mut query: Vec<(String, String)> =
            form_urlencoded::parse(plain_plus(head.uri.query().unwrap_or_default()).as_bytes())
                .map(|(name, value)| (encode(name.as_bytes(), ""), encode(value.as_bytes(), "")))
                .collect();
        query.sort_unstable();
        let query: Vec<String> = query
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let path = encode(&decode(head.uri.path())?, "/");
        let mut request = format!("{}\n{path}\n{}\n", head.method, query.join("&"));
        for name in &self.headers {
            let values = head.headers.get_all(name).iter();
            let values: Option<Vec<String>> = values
                .map(|value| {
                    let words = value.to_str().ok()?.split_ascii_whitespace();
                    Some(words.collect::<Vec<_>>().join(" "))
                })
                .collect();
            let values = values.filter(|values| !values.is_empty())?;
            writeln!(request, "{name}:{}", values.join(",")).ok()?;
        }
        let body = head.headers.get(BODY).map(|value| value.to_str());
        let body = body.unwrap_or(Ok(OF_NOTHING)).ok()?;
        write!(request, "\n{}\n{body}", self.headers.join(";")).ok()?;
        Some(request)
    }
}

/// In a query of S3 a plus is a plus.
fn plain_plus(query: &str) -> String {
    query.replace('+', "%2B")
}

/// The parameters of a query.
pub(super) fn parameters(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(plain_plus(query).as_bytes())
        .into_owned()
        .collect()
}

/// What stands in a path, with nothing in percent signs; `None` if those are not what they should be.
pub(super) fn decode(path: &str) -> Option<Vec<u8>> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(bytes.next()?)? * 16 + digit(bytes.next()?)?;
                u8::try_from(value).ok()?
            }
            byte => byte,
        });
    }
    Some(decoded)
}

/// As AWS has it in what is signed: all but letters, digits and four others in percent signs, and `also`.
pub(super) fn encode(bytes: &[u8], also: &str) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for byte in bytes {
        let is_plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'~')
            || also.as_bytes().contains(byte);
        if is_plain {
            encoded.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// `20130524T000000Z`.
fn read_date(text: &str) -> Option<Timestamp> {
    let is_plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let (day, time) = is_plain.then(|| text.split_once('T')).flatten()?;
    let (year, month, date) = (day.get(..4)?, day.get(4..6)?, day.get(6..)?);
    let (hour, minute, second) = (time.get(..2)?, time.get(2..4)?, time.get(4..)?);
    let text = format!("{year}-{month}-{date}T{hour}:{minute}:{second}");
    let at = humantime::parse_rfc3339(&text).ok()?;
    let millis = at.duration_since(UNIX_EPOCH).ok()?.as_millis();
    i64::try_from(millis).ok().map(Timestamp)
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(in crate::http) mod tests {
    use super::*;
    use axum::http::Request;

    const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    /// 2013-05-24, the day of the examples in AWS's documentation.
    const THEN: Timestamp = Timestamp(1_369_353_600_000);

    fn request(uri: &str, signed: &str, signature: &str, more: &[(&str, &str)]) -> Parts {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders={signed},Signature={signature}"
        );
        let mut request = Request::builder()
            .uri(uri)
            .header("host", "examplebucket.s3.amazonaws.com")
            .header("x-amz-content-sha256", OF_NOTHING)
            .header("x-amz-date", "20130524T000000Z")
            .header("authorization", authorization);
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// The examples have no session token, so it is not among what is signed.
    fn check(head: &Parts, now: Timestamp) -> Result<(), BadSignature> {
        let mut headers = head.headers.clone();
        headers.insert(TOKEN, "token".parse().unwrap());
        Signed::of(&headers)?.check(head, SECRET, now)
    }

    const OBJECT: (&str, &str) = (
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );

    fn object(range: &str) -> Parts {
        request("/test.txt", OBJECT.0, OBJECT.1, &[("range", range)])
    }

    /// Signs a request as engines do, for tests of what is behind the signature.
    pub(in crate::http) fn sign_request(
        head: &mut Parts,
        (key_id, secret, token): (&str, &str, &str),
        now: Timestamp,
    ) {
        let at = UNIX_EPOCH + Duration::from_millis(now.0.unsigned_abs());
        let date = humantime::format_rfc3339_seconds(at)
            .to_string()
            .replace(['-', ':'], "");
        let signed = "host;x-amz-content-sha256;x-amz-date;x-amz-security-token";
        let authorization = |signature: &str| {
            let day = &date[..8];
            let credential = format!("{key_id}/{day}/us-east-1/s3/aws4_request");
            let text = format!(
                "{ALGORITHM} Credential={credential}, SignedHeaders={signed}, Signature={signature}"
            );
            text.parse().unwrap()
        };
        head.headers.insert(DATE, date.parse().unwrap());
        head.headers.insert(TOKEN, token.parse().unwrap());
        head.headers
            .insert(BODY, "UNSIGNED-PAYLOAD".parse().unwrap());
        head.headers.insert(AUTHORIZATION, authorization("none"));
        let unsigned = Signed::of(&head.headers).unwrap();
        let signature = unsigned.signature_of(head, secret.as_bytes()).unwrap();
        head.headers
            .insert(AUTHORIZATION, authorization(&signature));
    }

    #[test]
    fn the_examples_of_the_documentation_are_taken() {
        assert_eq!(check(&object("bytes=0-9"), THEN), Ok(()));
        let listing = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
        let signed = "host;x-amz-content-sha256;x-amz-date";
        for uri in ["/?max-keys=2&prefix=J", "/?prefix=J&max-keys=2"] {
            assert_eq!(
                check(&request(uri, signed, listing, &[]), THEN),
                Ok(()),
                "{uri}"
            );
        }
    }

    #[test]
    fn what_differs_from_what_was_signed_is_refused() {
        assert_eq!(check(&object("bytes=0-10"), THEN), Err(BadSignature::Wrong));
        let mut other = object("bytes=0-9");
        other.uri = "/test2.txt".parse().unwrap();
        assert_eq!(check(&other, THEN), Err(BadSignature::Wrong));
        other.uri = "/test.txt?versionId=1".parse().unwrap();
        assert_eq!(check(&other, THEN), Err(BadSignature::Wrong));
        let mut head = object("bytes=0-9");
        head.headers.remove("range");
        assert!(matches!(check(&head, THEN), Err(BadSignature::Missing(_))));
        let good = object("bytes=0-9");
        let late = Timestamp(THEN.0 + 16 * 60 * 1000);
        let early = Timestamp(THEN.0 - 16 * 60 * 1000);
        assert_eq!(check(&good, late), Err(BadSignature::Skewed));
        assert_eq!(check(&good, early), Err(BadSignature::Skewed));
    }

    #[test]
    fn what_is_no_signature_says_why() {
        let of = |change: &dyn Fn(&mut HeaderMap)| {
            let mut head = object("bytes=0-9");
            head.headers.insert(TOKEN, "token".parse().unwrap());
            change(&mut head.headers);
            let signed = Signed::of(&head.headers);
            matches!(signed, Err(BadSignature::Missing(_)))
        };
        assert!(!of(&|_| {}));
        assert!(of(&|headers| drop(headers.remove("authorization"))));
        assert!(of(&|headers| drop(headers.remove(TOKEN))));
        assert!(of(&|headers| drop(headers.remove("x-amz-date"))));
        let authorization = object("x").headers["authorization"]
            .to_str()
            .unwrap()
            .to_owned();
        for (from, to) in [
            ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
            ("/s3/", "/sts/"),
            ("20130524", "20130525"),
            ("host;", ""),
            (";x-amz-date", ""),
            ("Signature=", "Sig="),
            ("SignedHeaders=", ""),
        ] {
            let bad = authorization.replace(from, to);
            let bad = || bad.parse().unwrap();
            assert!(
                of(&|headers| drop(headers.insert("authorization", bad()))),
                "{from}"
            );
        }
    }

    #[test]
    fn paths_are_written_as_they_are_signed() {
        let decoded = decode("/a%20b/c%2Bd=e/%C3%A9").unwrap();
        assert_eq!(decoded, "/a b/c+d=e/é".as_bytes());
        assert_eq!(encode(&decoded, "/"), "/a%20b/c%2Bd%3De/%C3%A9");
        for bad in ["%", "%2", "%zz"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(parameters("prefix=a+b%20c&list-type=2")[0].1, "a+b c");
    }
}
