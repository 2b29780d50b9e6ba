//! One connection: requests in, answers out in the order of the requests.
//!
//! # What may overlap
//!
//! Kafka handles one request of a connection at a time; the next is not even looked at before the
//! answer is sent. Clients rely on that order, but a store with a latency of tens of milliseconds
//! would make such a connection slow. So requests may overlap exactly where no client can tell:
//!
//! * An [`Append`](Overlap::Append) (Produce) starts although earlier appends, or an earlier long-polling
//!   read, are unfinished. Each future is polled at once when it is started, in the order of arrival,
//!   which is the order of appending that the broker promises. It neither waits for a Fetch before
//!   it nor disturbs it: that Fetch may or may not see the records, as if the two had been sent on two connections.
//! * A [`Look`](Overlap::Look) (Metadata, FindCoordinator) starts although earlier looks, up to [`MAX_LOOKS`], are
//!   unfinished: each wants a proof from the store that what it says is up to date, and one proof does for all who
//!   wait. Clients ask again every second while they hear nothing; one after the other, what they asked while the store
//!   was away kept their connections busy for half a minute after it was back.
//! * Everything else starts only when all answers before it have been sent: a Fetch after a Produce
//!   sees its records, two OffsetCommits keep their order, and at most one response of unbounded size
//!   exists per connection.
//!
//! Answers wait for the answers before them, so a long-polling Fetch delays what comes behind it, as in Kafka.
//!
//! # Bounds
//!
//! At most `max_in_flight` requests are started; two more may have been read. Each holds its part of
//! the node's budget. A request that is not read off the socket is the client's memory.
//! An answer of which the client does not take its part in time ([`transfer_time`]) ends the connection.
//!
//! # Ends
//!
//! When the client closes its side, or the socket fails, appends that have been read are finished (a
//! producer with `acks=0` sends and leaves); other requests are dropped, as nobody waits for their answers. A client
//! that gives up leaves requests behind which this node has not even read, and then the end of the stream is behind
//! them. So whether the client has [hung up](Line::is_hung_up) is asked before a request starts alone, and while one is
//! under way: what it asked for before it went elsewhere is not done afterwards. When the node stops, no more requests
//! are read, what has started is finished and answered, and calls that only wait for something to happen are dropped,
//! so that the client goes to another node at once. A frame that breaks the rules ends the connection after the answers
//! before it. Dropping the connection's future drops all of its calls.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::net::{
    Frame, FrameError, FrameLimits, FrameReader, LOOK, MemoryBudget, StreamWriter, transfer_time,
};

use super::call::{Call, Outcome, Overlap, Reply, Violation};

/// How many looks of a connection are started at most. Their answers are small or counted, as those of the others.
const MAX_LOOKS: usize = 32;

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client closed it, or it broke.
    ByClient,
    /// Nothing came for too long.
    Idle,
    /// The node stops.
    Stopped,
    /// The client, or this node, broke a rule.
    Violation(Violation),
}

/// Makes calls of frames.
pub(crate) trait Service {
    /// Judges and decodes a frame. Nothing of it runs yet.
    fn accept(&mut self, frame: Frame) -> Result<Call, Violation>;
    /// How much memory to reserve for a frame, by its first bytes and its size.
    fn charge(head: &[u8], size: usize) -> usize;
    /// So many bytes were sent.
    fn sent(&self, bytes: usize);
    /// What is set while the client has to log in first.
    fn stranger(&self) -> Option<Arc<AtomicBool>> {
        None
    }
}

/// The bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    pub(crate) frames: FrameLimits,
    pub(crate) max_in_flight: usize,
    pub(crate) idle: Duration,
}

/// The way to the client.
pub(crate) trait Line: AsyncWrite + Unpin {
    /// Whether the client has closed its side, though there may be requests that have not been read.
    fn is_hung_up(&self) -> bool {
        false
    }
}

impl Line for StreamWriter {
    fn is_hung_up(&self) -> bool {
        StreamWriter::is_hung_up(self)
    }
}

#[cfg(any(test, doc, feature = "fuzzing"))]
impl Line for tokio::io::WriteHalf<tokio::io::DuplexStream> {}

/// How often it is asked whether the client has hung up, while a request is under way that is worth nothing then.
const HANG_UP_LOOK: Duration = Duration::from_secs(1);

/// Serves a connection to its end.
pub(crate) async fn run<R, W, S>(
    (reader, writer): (R, W),
    service: S,
    limits: ConnectionLimits,
    budget: MemoryBudget,
    shutdown: CancellationToken,
) -> Ended
where
    R: AsyncRead + Unpin,
    W: Line,
    S: Service,
{
    let (frames, received) = mpsc::channel(1);
    let reader = FrameReader::new(reader, limits.frames, budget);
    let mut reader = reader.of_stranger(service.stranger());
    // A future of its own, so that waiting for the budget keeps its place in the queue whatever else happens.
    let reading = async move {
        loop {
            let frame = reader.next(S::charge).await.transpose();
            let Some(frame) = frame else { break };
            let failed = frame.is_err();
            if frames.send(frame).await.is_err() || failed {
                break;
            }
        }
        drop(frames);
        std::future::pending().await
    };
    let serving = Serving {
        writer,
        service,
        limits,
        in_flight: FuturesOrdered::new(),
        last: Overlap::Alone,
        waiting: None,
        ready: VecDeque::new(),
        writing: None,
        gone: CancellationToken::new(),
        stopping: shutdown.child_token(),
        broken: false,
        active: Instant::now(),
    };
    tokio::select! {
        ended = serving.run(received) => ended,
        never = reading => never,
    }
}

struct Serving<W, S> {
    writer: W,
    service: S,
    limits: ConnectionLimits,
    in_flight: FuturesOrdered<BoxFuture<'static, Outcome>>,
    /// What was started last.
    last: Overlap,
    /// Read, but not to be started yet.
    waiting: Option<Call>,
    /// Finished, not yet being sent.
    ready: VecDeque<Reply>,
    writing: Option<Writing>,
    /// The client is gone.
    gone: CancellationToken,
    stopping: CancellationToken,
    /// Nothing can be sent any more.
    broken: bool,
    active: Instant,
}

struct Writing {
    reply: Reply,
    size: usize,
    sent: usize,
    begun: Instant,
    stall: Duration,
}

impl Writing {
    /// When the client has taken too little.
    fn deadline(&self) -> Instant {
        self.begun + transfer_time(self.stall, self.reply.permit.is_wanted(), self.sent)
    }
}

impl<W: Line, S: Service> Serving<W, S> {
    async fn run(mut self, mut received: mpsc::Receiver<Result<Frame, FrameError>>) -> Ended {
        let mut end: Option<Ended> = None;
        let stopping = self.stopping.clone();
        loop {
            self.start_waiting().await;
            self.begin_writing();
            if let Some(ended) = end.take_if(|_| self.is_quiet()) {
                return ended;
            }
            let reading = end.is_none() && self.waiting.is_none() && self.may_start_more();
            let idle_until = self.active + self.limits.idle;
            tokio::select! {
                biased;
                Some(outcome) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    if let Some(violation) = self.finished(outcome) {
                        // Calls behind this one are dropped; answers before it are still sent.
                        self.in_flight.clear();
                        self.waiting = None;
                        end = Some(Ended::Violation(violation));
                    }
                }
                sent = send_some(&mut self.writer, &mut self.writing), if self.writing.is_some() => {
                    match sent {
                        Ok(Sent::Part) => {}
                        Ok(Sent::All(size)) => {
                            self.service.sent(size);
                            self.active = Instant::now();
                            self.writing = None;
                        }
                        Ok(Sent::TooSlow(size)) => {
                            return Ended::Violation(Violation::SlowReader(size));
                        }
                        Err(_) => {
                            self.lose_client();
                            end.get_or_insert(Ended::ByClient);
                        }
                    }
                }
                frame = received.recv(), if reading => {
                    self.active = Instant::now();
                    match frame {
                        Some(Ok(frame)) => match self.service.accept(frame) {
                            Ok(call) => self.waiting = Some(call),
                            Err(violation) => end = Some(Ended::Violation(violation)),
                        },
                        Some(Err(error)) if error.is_violation() => {
                            end = Some(Ended::Violation(Violation::Frame(error)));
                        }
                        Some(Err(_)) | None => {
                            self.gone.cancel();
                            end = Some(Ended::ByClient);
                        }
                    }
                }
                () = stopping.cancelled(), if end.is_none() => {
                    self.waiting = None;
                    end = Some(Ended::Stopped);
                }
                () = sleep(HANG_UP_LOOK), if self.is_alone() && !self.in_flight.is_empty() => {
                    self.look_for_hang_up();
                }
                () = sleep_until(idle_until), if end.is_none() && self.is_quiet() => {
                    return Ended::Idle;
                }
            }
        }
    }

    /// Nothing is under way.
    fn is_quiet(&self) -> bool {
        self.in_flight.is_empty()
            && self.waiting.is_none()
            && self.ready.is_empty()
            && self.writing.is_none()
    }

    fn may_start_more(&self) -> bool {
        self.in_flight.len() + self.ready.len() < self.limits.max_in_flight
    }

    fn may_start(&self, overlap: Overlap) -> bool {
        let unsent = self.in_flight.len() + self.ready.len();
        if unsent == 0 && self.writing.is_none() {
            return true;
        }
        match (self.last, overlap) {
            (Overlap::Append | Overlap::LongRead, Overlap::Append) => self.may_start_more(),
            (Overlap::Look, Overlap::Look) => unsent < MAX_LOOKS,
            _ => false,
        }
    }

    /// Starts the call that waits, if it may start: polls it once, so that calls run to their first wait in order.
    async fn start_waiting(&mut self) {
        let Some(call) = self.waiting.take() else {
            return;
        };
        if !self.may_start(call.overlap) {
            self.waiting = Some(call);
            return;
        }
        self.last = call.overlap;
        self.look_for_hang_up();
        let (gone, stopping) = (self.gone.clone(), self.stopping.clone());
        let mut run = match call.overlap {
            Overlap::Append => call.run,
            // Not even begun.
            Overlap::Alone | Overlap::LongWait if gone.is_cancelled() => return,
            Overlap::Look | Overlap::Alone => unless(gone, call.run),
            Overlap::LongRead | Overlap::LongWait => unless(gone, unless(stopping, call.run)),
        };
        match futures::poll!(Pin::new(&mut run)) {
            std::task::Poll::Ready(outcome) => {
                self.in_flight
                    .push_back(std::future::ready(outcome).boxed());
            }
            std::task::Poll::Pending => self.in_flight.push_back(run),
        }
    }

    /// Lets go of what is under way alone if the client has hung up.
    fn look_for_hang_up(&self) {
        if self.is_alone() && self.writer.is_hung_up() {
            self.gone.cancel();
        }
    }

    fn is_alone(&self) -> bool {
        matches!(self.last, Overlap::Alone | Overlap::LongWait)
    }

    fn finished(&mut self, outcome: Outcome) -> Option<Violation> {
        match outcome {
            Outcome::Reply(reply) if !self.broken => self.ready.push_back(reply),
            Outcome::Reply(_) | Outcome::Silent => {}
            Outcome::Last(reply, violation) => {
                if !self.broken {
                    self.ready.push_back(reply);
                }
                return Some(violation);
            }
            Outcome::Close(violation) => return Some(violation),
        }
        None
    }

    fn begin_writing(&mut self) {
        if self.writing.is_none()
            && let Some(reply) = self.ready.pop_front()
        {
            let size = reply.chunks.iter().map(Bytes::len).sum();
            self.writing = Some(Writing {
                reply,
                size,
                sent: 0,
                begun: Instant::now(),
                stall: self.limits.frames.stall,
            });
        }
    }

    fn lose_client(&mut self) {
        self.gone.cancel();
        self.broken = true;
        self.ready.clear();
        self.writing = None;
    }
}

/// Runs a call unless something else happens first.
fn unless(
    token: CancellationToken,
    run: BoxFuture<'static, Outcome>,
) -> BoxFuture<'static, Outcome> {
    async move {
        tokio::select! {
            biased;
            outcome = run => outcome,
            () = token.cancelled() => Outcome::Silent,
        }
    }
    .boxed()
}

enum Sent {
    Part,
    All(usize),
    TooSlow(usize),
}

/// Sends what the socket takes at once. May be dropped at any time: what was sent is gone from `writing`.
async fn send_some<W: AsyncWrite + Unpin>(
    writer: &mut W,
    writing: &mut Option<Writing>,
) -> io::Result<Sent> {
    const SLICES: usize = 64;
    let Some(this) = writing else {
        return Ok(Sent::Part);
    };
    let (deadline, size) = (this.deadline(), this.size);
    // Whether others wait for the memory is looked at now and then.
    let until = deadline.min(Instant::now() + LOOK);
    let late = || match Instant::now() < deadline {
        true => Sent::Part,
        false => Sent::TooSlow(size),
    };
    let chunks = &mut this.reply.chunks;
    while chunks.front().is_some_and(Bytes::is_empty) {
        chunks.pop_front();
    }
    if chunks.is_empty() {
        return match timeout_at(until, writer.flush()).await {
            Ok(flushed) => flushed.map(|()| Sent::All(size)),
            Err(_) => Ok(late()),
        };
    }
    let sent = {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks.iter()) {
            *slice = IoSlice::new(chunk);
            used += 1;
        }
        match timeout_at(until, writer.write_vectored(&slices[..used])).await {
            Ok(sent) => sent?,
            Err(_) => return Ok(late()),
        }
    };
    if sent == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    this.sent += sent;
    let mut left = sent;
    while let Some(chunk) = chunks.front_mut() {
        let part = left.min(chunk.len());
        chunk.advance(part);
        left -= part;
        if !chunk.is_empty() {
            break;
        }
        chunks.pop_front();
    }
    Ok(Sent::Part)
}

#[cfg(test)]
mod tests;
