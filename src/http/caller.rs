//! Who calls: basic authentication (RFC 7617) by the users and passwords of all front ends, or a token that was given
//! for them (RFC 6750; `catalog.rs` gives them).
//!
//! A request that says nothing is of `User:ANONYMOUS`; what it may do is judged where it is done, or it is asked for a
//! login (401). A login is judged for each request, by [`Broker::log_in`](crate::broker::Broker::log_in), which
//! remembers for a minute what was right, and answers late what was wrong. A password that comes over HTTP is as safe
//! as the way it comes.

use std::net::SocketAddr;
use std::sync::PoisonError;

use axum::http::request::Parts;
use axum::http::{Extensions, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Seen;
use crate::broker::{GrantError, LoggedIn, LoginError, Secret, Session};

/// What is asked of who has to log in.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"weir\", charset=\"UTF-8\"");

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(pub(super) SocketAddr);

/// Where a request comes from, if that is known.
pub(super) fn remote_of(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<Remote>().map(|Remote(remote)| *remote)
}

/// Why a request is of nobody.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// What it says of who it is cannot be read.
    Malformed(&'static str),
    /// It is not who it says; why, for its client.
    Wrong(String),
    /// Too many logins from its address are under way.
    TooMany(String),
    /// It cannot be told.
    Unavailable(String),
}

impl Unknown {
    /// The status of the answer, and a sentence for it.
    pub(super) fn told(&self) -> (StatusCode, &str) {
        match self {
            Unknown::Malformed(why) => (StatusCode::UNAUTHORIZED, why),
            Unknown::Wrong(why) => (StatusCode::UNAUTHORIZED, why),
            Unknown::TooMany(why) => (StatusCode::TOO_MANY_REQUESTS, why),
            Unknown::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        }
    }
}

impl From<GrantError> for Unknown {
    fn from(error: GrantError) -> Unknown {
        match error {
            GrantError::Bad(bad) => Unknown::Wrong(bad.to_string()),
            error => Unknown::Unavailable(error.to_string()),
        }
    }
}

/// The session of a request.
pub(super) async fn caller(seen: &Seen, head: &Parts) -> Result<Session, Unknown> {
    let remote = remote_of(&head.extensions);
    let anonymous = Session {
        client_id: Some("http".to_owned()),
        ..Session::anonymous(remote)
    };
    let Some(said) = head.headers.get(header::AUTHORIZATION) else {
        return Ok(anonymous);
    };
    let said = said.to_str().unwrap_or_default();
    let (scheme, said) = said.split_once(' ').unwrap_or((said, ""));
    let LoggedIn { principal, user } = match scheme.to_ascii_lowercase().as_str() {
        // What pyiceberg says that has no token.
        "bearer" if said == "None" => return Ok(anonymous),
        "bearer" => seen.broker.of_bearer_token(said.trim()).await?,
        "basic" => {
            let (user, password) = basic(said).map_err(Unknown::Malformed)?;
            by_password(seen, remote, &user, password).await?
        }
        _ => {
            let other = "the Authorization header is neither Bearer nor Basic";
            return Err(Unknown::Malformed(other));
        }
    };
    Ok(Session {
        principal,
        user,
        ..anonymous
    })
}

/// Who has this password.
pub(super) async fn by_password(
    seen: &Seen,
    remote: Option<SocketAddr>,
    user: &str,
    password: Secret,
) -> Result<LoggedIn, Unknown> {
    let session = Session::anonymous(remote);
    let logged_in = seen.broker.log_in(&session, user, password).await;
    logged_in.map_err(|why| {
        let log = seen.failed_logins.lock();
        let passed = log.unwrap_or_else(PoisonError::into_inner).pass();
        if let Some(more) = passed {
            let remote = remote.map(|remote| remote.to_string());
            tracing::warn!(remote, %why, more, "a login over HTTP failed");
        }
        match why {
            LoginError::Wrong | LoginError::Malformed => Unknown::Wrong(why.to_string()),
            LoginError::TooMany => Unknown::TooMany(why.to_string()),
        }
    })
}

/// The user and the password that basic authentication says.
pub(super) fn basic(said: &str) -> Result<(String, Secret), &'static str> {
    const BROKEN: &str = "the credentials are not 'user:password' in base64";
    let decoded = STANDARD.decode(said.trim()).map_err(|_| BROKEN)?;
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
    fn credentials_are_read_or_refused() {
        let read = |said: &[u8]| basic(&STANDARD.encode(said));
        let expected = ("alice".to_owned(), Secret::new("with:colons"));
        assert_eq!(read(b"alice:with:colons"), Ok(expected));
        assert_eq!(read(b"alice:"), Ok(("alice".to_owned(), Secret::new(""))));
        assert!(read(b"alice").is_err() && read(b"\xff:x").is_err() && basic("!!").is_err());
    }
}
