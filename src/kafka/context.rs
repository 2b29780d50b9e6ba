//! What a handler works with, and what it gives back. This file knows no handler and no connection.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::broker::{Broker, Session};
use crate::net::{BytePermit, MemoryBudget, RateLimitedLog};

use super::call::{Outcome, Overlap, Reply, Violation};
use super::client::Client;
use super::codec::{self, Header};
use super::errors::Fault;
use super::metrics::KafkaMetrics;
use super::options::KafkaOptions;

/// What all connections of a front end share.
pub(crate) struct Shared {
    pub(crate) broker: Broker,
    pub(crate) options: KafkaOptions,
    pub(crate) metrics: KafkaMetrics,
    /// Memory of requests.
    pub(crate) requests: MemoryBudget,
    /// Memory of responses.
    pub(crate) responses: MemoryBudget,
    /// Logins that failed, in the log.
    pub(crate) failed_logins: Mutex<RateLimitedLog>,
}

impl Shared {
    pub(crate) fn new(broker: Broker, options: KafkaOptions, metrics: KafkaMetrics) -> Shared {
        Shared {
            broker,
            requests: MemoryBudget::new(options.request_memory),
            responses: MemoryBudget::new(options.response_memory),
            options,
            metrics,
            failed_logins: Mutex::default(),
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
    /// Whether the connection ends with the answer.
    is_last: AtomicBool,
    /// Memory that is kept for the answer.
    reserved: Mutex<BytePermit>,
    kept: Mutex<Option<OwnedMutexGuard<()>>>,
}

impl Context {
    /// The context of a request with this header, in a frame of so many bytes. `turn` is the connection's.
    pub(crate) fn new(
        shared: Arc<Shared>,
        session: Arc<Session>,
        client: Client,
        turn: Arc<tokio::sync::Mutex<()>>,
        header: &Header,
        frame: usize,
    ) -> Context {
        Context {
            shared,
            session,
            client,
            turn,
            version: header.version,
            correlation: header.correlation,
            frame,
            first_error: AtomicI16::new(0),
            is_last: AtomicBool::new(false),
            reserved: Mutex::new(BytePermit::none()),
            kept: Mutex::default(),
        }
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.shared.broker
    }

    /// The turn of this request among those of its connection that overlap, in the order in which they were first
    /// polled.
    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        // The lock is fair, but Tokio's cooperative budget would let a later request overtake one that it sends away
        // before it is queued.
        tokio::task::unconstrained(Arc::clone(&self.turn).lock_owned()).await
    }

    /// Waits for the turn and keeps it until the answer is made. Answers are sent in order, so none that has memory for
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

    /// The connection ends with the answer, because the client could not log in.
    pub(crate) fn is_last(&self) {
        self.is_last.store(true, Ordering::Relaxed);
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
            match context.is_last.load(Ordering::Relaxed) {
                true => Outcome::Last(reply, Violation::LoginFailed),
                false => Outcome::Reply(reply),
            }
        }
        Ok(None) => Outcome::Silent,
        Err(violation) => Outcome::Close(violation),
    }
}
