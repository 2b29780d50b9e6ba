//! SaslHandshake and SaslAuthenticate (KIP-43, KIP-152, KIP-368): how a client says who it is.
//!
//! What fails is answered in Kafka's words, late ([`LoginError`]), and ends the connection. A client that logs in again
//! on its connection stays who it was.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};

use super::super::call::{Call, Outcome, Overlap, Reply, Violation};
use super::super::client::Client;
use super::super::context::{Answer, Context, Shared};
use super::super::errors::Fault;
use super::super::sasl::{Exchange, MAX_TOKEN, Mechanism, Plain};
use super::text;
use crate::broker::{LoggedIn, LoginError, Session};
use crate::net::BytePermit;

pub(super) async fn handshake(
    context: &Context,
    request: SaslHandshakeRequest,
) -> Answer<SaslHandshakeResponse> {
    let client = &context.client;
    let offered = Mechanism::ALL.map(|mechanism| text(mechanism.name()));
    let response = SaslHandshakeResponse::default().with_mechanisms(offered.to_vec());
    if !client.asks_login() {
        let code = context.code(ResponseError::IllegalSaslState);
        return Ok(response.with_error_code(code).with_mechanisms(Vec::new()));
    }
    let before = client.mechanism();
    let Some(mechanism) = Mechanism::named(&request.mechanism) else {
        context.is_last();
        return Ok(response.with_error_code(context.code(ResponseError::UnsupportedSaslMechanism)));
    };
    if before.is_some_and(|before| before != mechanism) {
        context.is_last();
        return Ok(response.with_error_code(context.code(ResponseError::IllegalSaslState)));
    }
    client.keep_exchange(Exchange {
        mechanism,
        bare: context.version == 0,
        challenge: None,
    });
    Ok(response)
}

pub(super) async fn authenticate(
    context: &Context,
    request: SaslAuthenticateRequest,
) -> Answer<SaslAuthenticateResponse> {
    let client = &context.client;
    let refused = |fault: &Fault| {
        let (code, message) = context.fault(fault);
        SaslAuthenticateResponse::default()
            .with_error_code(code)
            .with_error_message(message)
    };
    let Some(exchange) = client.take_exchange() else {
        let why = match client.mechanism() {
            Some(_) => "SaslAuthenticate request received after successful authentication",
            None => "SaslAuthenticate request received without a SaslHandshake before it",
        };
        return Ok(refused(&Fault::new(ResponseError::IllegalSaslState, why)));
    };
    match step(
        &context.shared,
        client,
        &context.session,
        exchange,
        &request.auth_bytes,
    )
    .await
    {
        Ok((token, is_over)) => {
            let lifetime = context.shared.options.max_login.filter(|_| is_over);
            let millis = lifetime.map_or(0, |lifetime| lifetime.as_millis());
            Ok(SaslAuthenticateResponse::default()
                .with_auth_bytes(token)
                .with_session_lifetime_ms(i64::try_from(millis).unwrap_or(i64::MAX)))
        }
        Err(Failure::TooMany) => Err(Violation::TooManyLogins),
        Err(Failure::Said(why)) => {
            context.is_last();
            Ok(refused(&Fault::new(
                ResponseError::SaslAuthenticationFailed,
                why,
            )))
        }
    }
}

/// The call for a token that is not in a request: the answer is one, too, and a login that fails has none.
pub(crate) fn bare_token(shared: Arc<Shared>, client: Client, token: Bytes) -> Call {
    let run = async move {
        let Some(exchange) = client.take_exchange() else {
            return Outcome::Close(Violation::NotLoggedIn);
        };
        let session = client.session(None).at(shared.broker.arrival());
        match step(&shared, &client, &session, exchange, &token).await {
            Ok((token, _)) => {
                let mut frame = BytesMut::with_capacity(4 + token.len());
                frame.put_i32(i32::try_from(token.len()).unwrap_or(i32::MAX));
                frame.put_slice(&token);
                Outcome::Reply(Reply {
                    chunks: VecDeque::from([frame.freeze()]),
                    permit: BytePermit::none(),
                })
            }
            Err(Failure::TooMany) => Outcome::Close(Violation::TooManyLogins),
            Err(Failure::Said(_)) => Outcome::Close(Violation::LoginFailed),
        }
    };
    Call {
        overlap: Overlap::Alone,
        run: run.boxed(),
    }
}

/// Goes on with a login: what the client is told, and whether it is over; or why it failed, in Kafka's words.
async fn step(
    shared: &Shared,
    client: &Client,
    session: &Session,
    exchange: Exchange,
    token: &[u8],
) -> Result<(Bytes, bool), Failure> {
    let mechanism = exchange.mechanism;
    let is_bare = exchange.bare;
    let stepped = match mechanism {
        _ if token.len() > MAX_TOKEN => Err(Failure::Said("the token is too long".to_owned())),
        Mechanism::Plain => plain(shared, session, token)
            .await
            .map(|identity| (Bytes::new(), Some(identity))),
        Mechanism::Scram(scram) => {
            let broker = &shared.broker;
            let failed = |why| scram_failed(why, mechanism);
            match exchange.challenge {
                None => match broker.begin_scram(session, scram, token).await {
                    Ok(login) => {
                        let asked = Bytes::copy_from_slice(login.challenge().as_bytes());
                        client.keep_exchange(Exchange {
                            mechanism,
                            bare: is_bare,
                            challenge: Some(login),
                        });
                        Ok((asked, None))
                    }
                    Err(why) => Err(failed(why)),
                },
                Some(login) => broker
                    .finish_scram(session, login, token)
                    .await
                    .map(|(told, identity)| (Bytes::from(told), Some(identity)))
                    .map_err(failed),
            }
        }
    };
    let finished = stepped.and_then(|(token, identity)| {
        let Some(identity) = identity else {
            return Ok((token, false));
        };
        let principal = identity.principal.clone();
        if !client.is_now(identity, mechanism, shared.options.max_login) {
            return Err(Failure::Said(format!(
                "Cannot change principals during re-authentication to {principal}"
            )));
        }
        tracing::debug!(principal, mechanism = mechanism.name(), "logged in");
        shared.metrics.login(mechanism.name(), true);
        Ok((token, true))
    });
    if let Err(Failure::Said(why)) = &finished {
        shared.metrics.login(mechanism.name(), false);
        let passed = {
            let log = shared.failed_logins.lock();
            log.unwrap_or_else(PoisonError::into_inner).pass()
        };
        if let Some(more) = passed {
            let remote = client.remote().map(|remote| remote.to_string());
            let about = client.describe();
            let mechanism = mechanism.name();
            tracing::warn!(
                remote,
                client = about,
                mechanism,
                why,
                more,
                "a login failed"
            );
        }
    }
    finished
}

/// Why a login failed.
enum Failure {
    /// In Kafka's words, for the client.
    Said(String),
    /// It was not judged.
    TooMany,
}

async fn plain(shared: &Shared, session: &Session, token: &[u8]) -> Result<LoggedIn, Failure> {
    let said = Plain::parse(token).map_err(|why| Failure::Said(why.to_owned()))?;
    let Plain { user, password } = said;
    let logged_in = shared.broker.log_in(session, &user, password).await;
    logged_in.map_err(|why| match why {
        LoginError::Wrong | LoginError::Malformed => {
            Failure::Said("Authentication failed: Invalid username or password".to_owned())
        }
        LoginError::TooMany => Failure::TooMany,
    })
}

fn scram_failed(why: LoginError, mechanism: Mechanism) -> Failure {
    match why {
        LoginError::Wrong | LoginError::Malformed => Failure::Said(format!(
            "Authentication failed during authentication due to invalid credentials with SASL mechanism {}",
            mechanism.name()
        )),
        LoginError::TooMany => Failure::TooMany,
    }
}
