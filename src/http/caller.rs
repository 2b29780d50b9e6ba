//! Who calls: basic authentication (RFC 7617), by the users and passwords of all front ends.
//!
//! A request that says nothing is of `User:ANONYMOUS`; what it may do is judged where it is done, or it is asked for a login
//! (401). A login is judged for each request, by [`Broker::log_in`](crate::broker::Broker::log_in),
//! which remembers for a minute what was right, and answers late what was wrong. A password that comes over HTTP is as safe
//! as the way it comes.

use std::net::SocketAddr;
use std::sync::PoisonError;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Seen;
use crate::broker::{LoggedIn, LoginError, Secret, Session};

/// What is asked of who has to log in.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"weir\", charset=\"UTF-8\"");

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(pub(super) SocketAddr);

/// Why a request is of nobody.
pub(super) enum Unknown {
    /// What it says of who it is cannot be read.
    Malformed(&'static str),
    /// There is no such user, or the password is wrong.
    Wrong,
    /// Too many logins from its address are under way.
    TooMany,
}

impl Unknown {
    /// The status of the answer, and a sentence for it.
    pub(super) fn told(&self) -> (StatusCode, &'static str) {
        match self {
            Unknown::Malformed(why) => (StatusCode::BAD_REQUEST, why),
            Unknown::Wrong => (
                StatusCode::UNAUTHORIZED,
                "the user is unknown or disabled, or the password is wrong",
            ),
            Unknown::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "too many logins from this address have failed; try again later",
            ),
        }
    }
}

/// The session of a request.
pub(super) async fn caller(
    seen: &Seen,
    remote: Option<Remote>,
    headers: &HeaderMap,
) -> Result<Session, Unknown> {
    let anonymous = Session {
        client_id: Some("http".to_owned()),
        ..Session::anonymous(remote.map(|Remote(address)| address))
    };
    let Some(said) = headers.get(header::AUTHORIZATION) else {
        return Ok(anonymous);
    };
    let (user, password) = basic(said).map_err(Unknown::Malformed)?;
    match seen.broker.log_in(&anonymous, &user, password).await {
        Ok(LoggedIn { principal, user }) => Ok(Session {
            principal,
            user,
            ..anonymous
        }),
        Err(why) => {
            let log = seen.failed_logins.lock();
            let passed = log.unwrap_or_else(PoisonError::into_inner).pass();
            if let Some(more) = passed {
                let remote = anonymous.remote.map(|remote| remote.to_string());
                tracing::warn!(remote, %why, more, "a login over HTTP failed");
            }
            Err(match why {
                LoginError::Wrong | LoginError::Malformed => Unknown::Wrong,
                LoginError::TooMany => Unknown::TooMany,
            })
        }
    }
}

/// The user and the password of an `Authorization` header.
fn basic(said: &HeaderValue) -> Result<(String, Secret), &'static str> {
    const OTHER: &str = "only basic authentication is understood: send 'Authorization: Basic …'";
    const BROKEN: &str = "the credentials are not 'user:password' in base64";
    let (scheme, credentials) = said
        .to_str()
        .ok()
        .and_then(|said| said.split_once(' '))
        .ok_or(OTHER)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(OTHER);
    }
    let decoded = STANDARD.decode(credentials.trim()).map_err(|_| BROKEN)?;
    let colon = decoded.iter().position(|byte| *byte == b':');
    let (user, password) = decoded.split_at(colon.ok_or(BROKEN)?);
    let user = std::str::from_utf8(user).map_err(|_| BROKEN)?;
    Ok((user.to_owned(), Secret::new(&password[1..])))
}

/// This answer as one that asks for a login (401).
pub(super) fn challenged(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
    response.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_or_refused_by_name() {
        let read = |said: &str| basic(&HeaderValue::from_str(said).unwrap());
        let encoded = STANDARD.encode("alice:with:colons");
        let expected = ("alice".to_owned(), Secret::new("with:colons"));
        assert_eq!(read(&format!("basic {encoded}")), Ok(expected));
        assert_eq!(
            read(&format!("Basic {}", STANDARD.encode("alice:"))),
            Ok(("alice".to_owned(), Secret::new("")))
        );
        for broken in ["Bearer x", "Basic", "x"] {
            assert!(read(broken).unwrap_err().contains("Authorization: Basic"));
        }
        for broken in [
            "Basic !!",
            "Basic eA==",
            &format!("Basic {}", STANDARD.encode(b"\xff:x")),
        ] {
            assert!(read(broken).unwrap_err().contains("user:password"));
        }
    }
}
