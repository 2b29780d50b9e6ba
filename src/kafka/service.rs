//! From a frame to a call of a handler.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures::FutureExt;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

use crate::broker::Presence;
use crate::net::{BytePermit, Frame};

use super::call::{Call, Outcome, Overlap, Reply, Violation};
use super::client::{Client, Standing};
use super::codec::{self, Header, Opening};
use super::connection::Service;
use super::context::{Context, Shared};
use super::{guard, handlers};

/// The answer to an ApiVersions request of a version that is too new: in version 0, with the versions of ApiVersions
/// itself, so that the client can ask again (KIP-511).
fn unknown_api_versions(shared: &Shared, correlation: i32) -> Call {
    let code = ResponseError::UnsupportedVersion.code();
    shared
        .metrics
        .answered("ApiVersions", code, false, std::time::Duration::ZERO);
    let response: ApiVersionsResponse = handlers::api_versions::unsupported(code);
    let outcome = match codec::encode(correlation, 0, &response) {
        Ok(frame) => Outcome::Reply(Reply {
            chunks: VecDeque::from([frame]),
            permit: BytePermit::none(),
        }),
        Err(error) => Outcome::Close(error.into()),
    };
    Call {
        overlap: Overlap::Alone,
        run: std::future::ready(outcome).boxed(),
    }
}

/// The calls of one connection.
pub(crate) struct KafkaService {
    shared: Arc<Shared>,
    client: Client,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Tells the broker that a client is here, from its first request on: who only connects is none.
    presence: Option<Presence>,
}

impl KafkaService {
    pub(crate) fn new(shared: Arc<Shared>, client: Client) -> KafkaService {
        KafkaService {
            shared,
            client,
            turn: Arc::default(),
            presence: None,
        }
    }

    fn context(&self, header: &Header, frame: usize) -> Context {
        let session = self.client.session(header.client_id.clone());
        let session = match header.api.key {
            // They overwrite nothing, and are many.
            ApiKey::Produce | ApiKey::Fetch => session,
            _ => Arc::new(session.at(self.shared.broker.arrival())),
        };
        let (shared, client) = (Arc::clone(&self.shared), self.client.clone());
        Context::new(
            shared,
            session,
            client,
            Arc::clone(&self.turn),
            header,
            frame,
        )
    }
}

impl Service for KafkaService {
    fn accept(&mut self, frame: Frame) -> Result<Call, Violation> {
        let Frame { body, mut permit } = frame;
        let frame = body.len();
        self.shared.metrics.received(frame + 4);
        self.presence
            .get_or_insert_with(|| self.shared.broker.client_arrived());
        if self.client.sends_bare_tokens() {
            return Ok(handlers::sasl::bare_token(
                self.shared.clone(),
                self.client.clone(),
                body,
            ));
        }
        let (header, body) = match codec::open(&body)? {
            Opening::Request(header, body) => (header, body),
            Opening::UnknownApiVersions { correlation } => {
                return Ok(unknown_api_versions(&self.shared, correlation));
            }
        };
        let opens = matches!(
            header.api.key,
            ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate
        );
        match self.client.standing() {
            Standing::Unknown if !opens => return Err(Violation::NotLoggedIn),
            Standing::Expired if !opens => return Err(Violation::LoginExpired),
            _ => {}
        }
        let verdict = codec::check(&header, &body)?;
        let held = body.len() + verdict.memory;
        self.shared.requests.resize(&mut permit, held);
        let context = self.context(&header, frame);
        Ok(handlers::dispatch::call(context, &header, body, permit)?)
    }

    fn charge(head: &[u8], size: usize) -> usize {
        let key = head
            .first_chunk()
            .map_or(-1, |bytes| i16::from_be_bytes(*bytes));
        size.saturating_add(guard::memory_limit(key, size))
    }

    fn sent(&self, bytes: usize) {
        self.shared.metrics.sent(bytes);
    }

    fn stranger(&self) -> Option<Arc<AtomicBool>> {
        Some(self.client.stranger())
    }
}
