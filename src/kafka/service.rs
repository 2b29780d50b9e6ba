//! From a frame to a call of a handler.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::broker::{Broker, Presence, Readings, Session};
use crate::net::{BytePermit, Frame, MemoryBudget};

use super::codec::{self, Header, Opening};
use super::connection::{Call, Outcome, Overlap, Reply, Service, Violation};
use super::errors::Fault;
use super::{KafkaMetrics, KafkaOptions, guard, handlers};

/// What all connections of a front end share.
pub(crate) struct Shared {
    pub(crate) broker: Broker,
    pub(crate) options: KafkaOptions,
    pub(crate) metrics: KafkaMetrics,
    /// Memory of requests.
    pub(crate) requests: MemoryBudget,
    /// Memory of responses.
    pub(crate) responses: MemoryBudget,
}

impl Shared {
    pub(crate) fn new(broker: Broker, options: KafkaOptions, metrics: KafkaMetrics) -> Shared {
        Shared {
            broker,
            requests: MemoryBudget::new(options.request_memory),
            responses: MemoryBudget::new(options.response_memory),
            options,
            metrics,
        }
    }
}

/// What is known of the client at the other end. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug)]
struct Known {
    session: Arc<Session>,
    /// What the client says it is, in ApiVersions (KIP-511).
    software: Option<(String, String)>,
}

impl Client {
    pub(crate) fn new(peer: Option<SocketAddr>) -> Client {
        let session = Arc::new(Session {
            principal: "User:ANONYMOUS".to_owned(),
            client_id: None,
            peer,
            readings: Readings::default(),
            arrival: None,
            limit: None,
        });
        let known = Known {
            session,
            software: None,
        };
        Client {
            known: Arc::new(Mutex::new(known)),
        }
    }

    /// The session, under the name the client gives itself now.
    fn session(&self, client_id: Option<String>) -> Arc<Session> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.session.client_id != client_id {
            let mut session = Session::clone(&known.session);
            session.client_id = client_id;
            known.session = Arc::new(session);
        }
        Arc::clone(&known.session)
    }

    /// Keeps what the client says it is. The caller has validated it.
    pub(crate) fn is_software(&self, name: &str, version: &str) {
        const LONGEST: usize = 64;
        let short = |text: &str| text.chars().take(LONGEST).collect::<String>();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.software = Some((short(name), short(version)));
    }

    /// The client in a few words, for a log line.
    pub(crate) fn describe(&self) -> String {
        const LONGEST: usize = 128;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let id: String = known
            .session
            .client_id
            .as_deref()
            .unwrap_or("-")
            .chars()
            .take(LONGEST)
            .flat_map(char::escape_debug)
            .collect();
        match &known.software {
            Some((name, version)) => format!("{id} ({name} {version})"),
            None => id,
        }
    }
}

/// What a handler works with: one request of one client.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Session>,
    pub(crate) client: Client,
    turn: Arc<tokio::sync::Mutex<()>>,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    /// The bytes of the request's frame.
    pub(crate) frame: usize,
    /// The first error of the answer, for metrics.
    first_error: AtomicI16,
    /// Memory that is kept for the answer.
    reserved: Mutex<BytePermit>,
    kept: Mutex<Option<OwnedMutexGuard<()>>>,
}

impl Context {
    pub(crate) fn broker(&self) -> &Broker {
        &self.shared.broker
    }

    /// The turn of this request among those of its connection that overlap, in the order in which they were first polled.
    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        // The lock is fair, but Tokio's cooperative budget would let a later request overtake one that it sends away
        // before it is queued.
        tokio::task::unconstrained(Arc::clone(&self.turn).lock_owned()).await
    }

    /// Waits for the turn and keeps it until the answer is made. Answers are sent in order, so none that has room for
    /// itself may be behind one that still waits for some.
    pub(crate) async fn keep_turn(&self) {
        let turn = self.turn().await;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn);
    }

    /// Waits until an answer of about so many bytes may be made. For handlers whose answers can be large: made
    /// first, many of them would wait in memory for their turn to be sent.
    pub(crate) async fn reserve(&self, bytes: usize) {
        if bytes > SMALL {
            let permit = self.shared.responses.acquire(bytes).await;
            *self.reserved() = permit;
        }
    }

    fn reserved(&self) -> std::sync::MutexGuard<'_, BytePermit> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The code of an error that goes into the answer.
    pub(crate) fn code(&self, code: ResponseError) -> i16 {
        let _ =
            self.first_error
                .compare_exchange(0, code.code(), Ordering::Relaxed, Ordering::Relaxed);
        code.code()
    }

    /// The code and the sentence of an error that goes into the answer.
    pub(crate) fn fault(&self, fault: &Fault) -> (i16, Option<StrBytes>) {
        tracing::debug!(code = %fault.code, message = fault.message, "answering with an error");
        (self.code(fault.code), fault.text())
    }
}

/// A handler's answer, if there is one to give.
pub(crate) type Answer<T> = Result<T, Violation>;

/// A response that can be sent.
pub(crate) trait Response {
    /// The frame; `None` if the client expects none.
    fn into_reply(self, context: &Context) -> Result<Option<Reply>, Violation>;
}

impl<R: Encodable + HeaderVersion> Response for R {
    fn into_reply(self, context: &Context) -> Result<Option<Reply>, Violation> {
        let frame = codec::encode(context.correlation, context.version, &self)?;
        Ok(Some(Reply {
            chunks: VecDeque::from([frame]),
            permit: BytePermit::none(),
        }))
    }
}

/// Responses smaller than this are not worth counting: a connection has few of them.
const SMALL: usize = 64 * 1024;

/// Runs a handler and makes a frame of its answer. `permit` is held until then.
pub(crate) async fn answer<R: Response>(
    context: &Context,
    overlap: Overlap,
    name: &'static str,
    permit: BytePermit,
    handler: impl Future<Output = Answer<R>>,
) -> Outcome {
    let started = Instant::now();
    let answered = match handler.await {
        Ok(response) => response.into_reply(context),
        Err(violation) => Err(violation),
    };
    drop(permit);
    let error = context.first_error.load(Ordering::Relaxed);
    let waits = matches!(overlap, Overlap::LongRead | Overlap::LongWait);
    context
        .shared
        .metrics
        .answered(name, error, waits, started.elapsed());
    match answered {
        Ok(Some(mut reply)) => {
            let size = reply.chunks.iter().map(Bytes::len).sum::<usize>();
            let mut reserved = std::mem::replace(&mut *context.reserved(), BytePermit::none());
            if reserved.bytes() > 0 {
                reserved.shrink_to(size);
                reply.permit = reserved;
            }
            if size > SMALL && reply.permit.bytes() == 0 {
                reply.permit = context.shared.responses.acquire(size).await;
            }
            Outcome::Reply(reply)
        }
        Ok(None) => Outcome::Silent,
        Err(violation) => Outcome::Close(violation),
    }
}

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
        Context {
            shared: Arc::clone(&self.shared),
            session,
            client: self.client.clone(),
            turn: Arc::clone(&self.turn),
            version: header.version,
            correlation: header.correlation,
            frame,
            first_error: AtomicI16::new(0),
            reserved: Mutex::new(BytePermit::none()),
            kept: Mutex::default(),
        }
    }
}

impl Service for KafkaService {
    fn accept(&mut self, frame: Frame) -> Result<Call, Violation> {
        let Frame { body, mut permit } = frame;
        let frame = body.len();
        self.shared.metrics.received(frame + 4);
        self.presence
            .get_or_insert_with(|| self.shared.broker.client_arrived());
        let (header, body) = match codec::open(&body)? {
            Opening::Request(header, body) => (header, body),
            Opening::UnknownApiVersions { correlation } => {
                return Ok(unknown_api_versions(&self.shared, correlation));
            }
        };
        let verdict = codec::check(&header, &body)?;
        let held = body.len() + verdict.memory;
        self.shared.requests.settle(&mut permit, held);
        let context = self.context(&header, frame);
        Ok(handlers::call(context, &header, body, permit)?)
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
}
