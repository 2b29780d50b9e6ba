//! A stream cut into frames: a four-byte length, big-endian, and that many bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use crate::types::ByteCount;

use super::{BytePermit, MemoryBudget};

/// The bytes of the length.
const LENGTH: usize = 4;

/// How much the buffer grows by at least where so much is missing. What a client declares is not believed until it
/// arrives.
const READ_AT_ONCE: usize = 64 * 1024;

/// The least there is to read into when a frame begins, or has nearly arrived: small requests come several at a time.
const MIN_READ: usize = 4096;

/// The buffer grows to so many times what has arrived.
const GROWTH: usize = 16;

/// The slowest rate at which a client may send or take a message, beyond the stall time.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;

/// The stall time while others wait for memory that this message holds.
const WANTED_STALL: Duration = Duration::from_secs(5);

/// How often is looked whether others wait.
pub const LOOK: Duration = Duration::from_millis(500);

/// Bodies up to this size are read before memory is reserved for them: a client that never sends what it announced is
/// then in nobody's way. There are at most as many as connections.
const TINY: usize = 16 * 1024;

/// What takes up to so much memory is a small frame. What producers send mostly is.
const SMALL: usize = 3 << 20;

/// How large frames may be and how long they may take.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    /// The largest body (Kafka's `socket.request.max.bytes`).
    pub max_size: ByteCount,
    /// How long a frame that has begun may make no headway; see [`transfer_time`].
    pub stall: Duration,
}

/// One frame's body, and its place in the budget.
#[derive(Debug)]
pub struct Frame {
    /// The bytes after the length.
    pub body: Bytes,
    /// Held until the request is done with.
    pub permit: BytePermit,
}

/// Why a stream could not be read on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is negative.
    #[error("it declares a frame of {0} bytes")]
    Negative(i32),
    /// The length is over the limit.
    #[error("it declares a frame of {size} bytes; the limit is {limit}")]
    TooLarge {
        /// What was declared.
        size: u64,
        /// The limit.
        limit: ByteCount,
    },
    /// The stream ended within a frame.
    #[error("the connection ended {got} bytes into a frame of {size}")]
    Truncated {
        /// How many bytes of the body had come.
        got: usize,
        /// How many were declared.
        size: usize,
    },
    /// The frame took too long.
    #[error("{got} bytes of a frame of {size} came within {after:?}")]
    TooSlow {
        /// How many bytes of the body had come.
        got: usize,
        /// How many were declared.
        size: usize,
        /// The time it had.
        after: Duration,
    },
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FrameError {
    /// Whether the client broke the rules (and not just the connection).
    pub fn is_violation(&self) -> bool {
        !matches!(self, FrameError::Io(_))
    }
}

/// How long a message may have been on its way in or out when `moved` bytes of it have arrived: `stall`, and more
/// for what a client at 256 KiB/s needs. If others wait for the memory, it is 5 s instead of a longer `stall`.
pub fn transfer_time(stall: Duration, is_wanted: bool, moved: usize) -> Duration {
    let stall = if is_wanted {
        stall.min(WANTED_STALL)
    } else {
        stall
    };
    let millis = (moved as u64).saturating_mul(1000) / SLOWEST_BYTES_PER_SECOND;
    stall.saturating_add(Duration::from_millis(millis))
}

/// Reads frames from a stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    limits: FrameLimits,
    budget: MemoryBudget,
    /// Set while nobody knows who sends them.
    is_stranger: Option<Arc<AtomicBool>>,
}

/// The largest frame of a client that has not logged in (Kafka's `sasl.server.max.receive.size`).
const MAX_STRANGER_SIZE: ByteCount = ByteCount(512 * 1024);

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads `stream` within `limits`, and `budget`.
    pub fn new(stream: R, limits: FrameLimits, budget: MemoryBudget) -> FrameReader<R> {
        FrameReader {
            stream,
            buffer: BytesMut::new(),
            limits,
            budget,
            is_stranger: None,
        }
    }

    /// The same, with less space for frames while the flag is set.
    pub fn of_stranger(self, is_stranger: Option<Arc<AtomicBool>>) -> FrameReader<R> {
        FrameReader {
            is_stranger,
            ..self
        }
    }

    fn max_size(&self) -> ByteCount {
        let flag = self.is_stranger.as_ref();
        match flag.is_some_and(|flag| flag.load(Ordering::Acquire)) {
            true => self.limits.max_size.min(MAX_STRANGER_SIZE),
            false => self.limits.max_size,
        }
    }

    /// The next frame; `None` when the stream ends between two frames. `charge` says how much memory a
    /// frame of a size takes at most, given the first bytes of its body (up to eight).
    pub async fn next(
        &mut self,
        charge: impl Fn(&[u8], usize) -> usize,
    ) -> Result<Option<Frame>, FrameError> {
        // The wait for the first byte has no end here: an idle connection is its owner's affair.
        if self.buffer.is_empty() && self.read_some(0).await? == 0 {
            return Ok(None);
        }
        let begun = Instant::now();
        self.fill(LENGTH, LENGTH, begun, None).await?;
        let mut length = [0; LENGTH];
        length.copy_from_slice(&self.buffer[..LENGTH]);
        let declared = i32::from_be_bytes(length);
        let size = usize::try_from(declared).map_err(|_| FrameError::Negative(declared))?;
        let limit = self.max_size();
        if size > limit.as_usize() {
            return Err(FrameError::TooLarge {
                size: size as u64,
                limit,
            });
        }
        let head = LENGTH + size.min(8);
        self.fill(head, size, begun, None).await?;
        let charge = charge(&self.buffer[LENGTH..head], size);
        let permit = if size <= TINY {
            self.fill(LENGTH + size, size, begun, None).await?;
            self.budget.acquire_brief(charge).await
        } else {
            let permit = match charge <= SMALL {
                true => self.budget.acquire_small(charge).await,
                false => self.budget.acquire(charge).await,
            };
            // The wait for the budget was not the client's fault.
            let begun = Instant::now();
            let waits = Some(&permit);
            self.fill(LENGTH + size, size, begun, waits).await?;
            permit
        };
        self.buffer.advance(LENGTH);
        let body = self.buffer.split_to(size).freeze();
        if self.buffer.is_empty() {
            // An idle connection does not hold on to the memory of a large frame.
            self.buffer = BytesMut::new();
        }
        Ok(Some(Frame { body, permit }))
    }

    /// Reads until `upto` bytes are in the buffer, of a frame of `size` that began at `begun`.
    /// Everything stays in the buffer until the frame is whole, so a dropped call loses nothing.
    async fn fill(
        &mut self,
        upto: usize,
        size: usize,
        begun: Instant,
        held: Option<&BytePermit>,
    ) -> Result<(), FrameError> {
        let had = self.buffer.len();
        while self.buffer.len() < upto {
            let missing = upto - self.buffer.len();
            let is_wanted = held.is_some_and(BytePermit::is_wanted);
            let after = transfer_time(self.limits.stall, is_wanted, self.buffer.len() - had);
            let until = (begun + after).min(Instant::now() + LOOK);
            let got = match timeout_at(until, self.read_some(missing)).await {
                Ok(read) => read?,
                Err(_) if Instant::now() < begun + after => continue,
                Err(_) => {
                    let got = self.buffer.len().saturating_sub(LENGTH);
                    return Err(FrameError::TooSlow { got, size, after });
                }
            };
            if got == 0 {
                let got = self.buffer.len().saturating_sub(LENGTH);
                return Err(FrameError::Truncated { got, size });
            }
        }
        Ok(())
    }

    async fn read_some(&mut self, missing: usize) -> io::Result<usize> {
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < missing.max(1) {
            // Grows with what has arrived, and a large frame to what it needs and no more, so that nothing of the next
            // one comes with it. By so many times as much that a frame as producers send them is moved once, while it
            // is small.
            let believed = self.buffer.len().saturating_mul(GROWTH);
            let grow = missing.min(believed.max(READ_AT_ONCE)).max(MIN_READ);
            // `reserve` would double memory that frames before this one have left.
            let mut larger = BytesMut::with_capacity(self.buffer.len() + grow);
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
        self.stream.read_buf(&mut self.buffer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const LIMITS: FrameLimits = FrameLimits {
        max_size: ByteCount::mib(1),
        stall: Duration::from_secs(30),
    };

    fn charge(_: &[u8], size: usize) -> usize {
        size
    }

    fn pair() -> (
        tokio::io::DuplexStream,
        FrameReader<tokio::io::DuplexStream>,
    ) {
        let (client, stream) = tokio::io::duplex(1 << 16);
        let budget = MemoryBudget::new(ByteCount::mib(2));
        (client, FrameReader::new(stream, LIMITS, budget))
    }

    /// Who keeps a part of a frame keeps the memory that it was read into, and counts the frame.
    #[tokio::test]
    async fn a_large_frame_has_memory_of_its_own_and_no_more_than_it_needs() {
        const SIZE: usize = 500_000;
        let (mut client, mut reader) = pair();
        let writer = tokio::spawn(async move {
            let mut frame = (SIZE as i32).to_be_bytes().to_vec();
            frame.resize(LENGTH + SIZE, 7);
            let stream = frame.repeat(20);
            for piece in stream.chunks(LENGTH + SIZE - 1000) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        for _ in 0..20 {
            let frame = reader.next(charge).await.unwrap().unwrap();
            let Ok(own) = frame.body.try_into_mut() else {
                panic!("a frame shares its memory");
            };
            let held = own.capacity();
            assert!(held <= SIZE, "{held} bytes are held for {SIZE}");
        }
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn frames_are_cut_wherever_the_bytes_are_split() {
        let (mut client, mut reader) = pair();
        let writer = tokio::spawn(async move {
            for byte in [0, 0, 0, 3, b'a', b'b', b'c', 0, 0, 0, 0, 0, 0, 0, 1, b'd'] {
                client.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        for expected in [&b"abc"[..], b"", b"d"] {
            let frame = reader.next(charge).await.unwrap().unwrap();
            assert_eq!(&frame.body[..], expected);
        }
        writer.await.unwrap();
        assert!(reader.next(charge).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_length_beyond_the_limit_or_below_zero_is_refused_before_any_memory_is_taken() {
        for length in [i32::MAX, (1 << 20) + 1, -1, i32::MIN] {
            let (mut client, mut reader) = pair();
            client.write_all(&length.to_be_bytes()).await.unwrap();
            let error = reader.next(charge).await.unwrap_err();
            assert!(error.is_violation(), "{error}");
            assert!(reader.buffer.capacity() < 1 << 17);
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_frame_is_an_error() {
        for part in [&[0, 0][..], &[0, 0, 0, 9], &[0, 0, 0, 9, 1, 2]] {
            let (mut client, mut reader) = pair();
            client.write_all(part).await.unwrap();
            drop(client);
            let error = reader.next(charge).await.unwrap_err();
            assert!(matches!(error, FrameError::Truncated { .. }), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_never_comes_takes_no_memory_and_times_out() {
        let (mut client, mut reader) = pair();
        let budget = reader.budget.clone();
        client
            .write_all(&(1_000_000i32).to_be_bytes())
            .await
            .unwrap();
        client.write_all(&[0; 16]).await.unwrap();
        let error = reader.next(charge).await.unwrap_err();
        assert!(matches!(error, FrameError::TooSlow { .. }), "{error}");
        assert!(
            reader.buffer.capacity() < 1 << 17,
            "{}",
            reader.buffer.capacity()
        );
        assert_eq!(budget.available(), budget.capacity());
    }

    #[tokio::test]
    async fn memory_is_taken_for_a_small_part_of_a_frame_more_than_has_come() {
        let (mut client, mut reader) = pair();
        let size = 1_000_000;
        client.write_all(&i32::to_be_bytes(size)).await.unwrap();
        client.write_all(&vec![0; 10_000]).await.unwrap();
        let mut next = Box::pin(reader.next(charge));
        assert!(futures::poll!(next.as_mut()).is_pending());
        drop(next);
        let capacity = reader.buffer.capacity();
        assert!(reader.buffer.len() > 10_000, "{}", reader.buffer.len());
        assert!(capacity < 20 * 10_000, "{capacity}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_nothing_loses_the_memory_soon_when_others_want_it() {
        for (wanted, seconds) in [(false, 30), (true, 5)] {
            let (mut client, mut reader) = pair();
            let budget = reader.budget.clone();
            client
                .write_all(&(1_000_000i32).to_be_bytes())
                .await
                .unwrap();
            client.write_all(&[0; 16]).await.unwrap();
            let began = Instant::now();
            let mut waiter = Box::pin(budget.acquire(2 << 20));
            let (failed, ()) = tokio::join!(reader.next(charge), async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                if wanted {
                    assert!(futures::poll!(waiter.as_mut()).is_pending());
                }
            });
            assert!(matches!(failed, Err(FrameError::TooSlow { .. })));
            assert_eq!(began.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test]
    async fn a_tiny_frame_waits_for_no_memory_that_peers_hold() {
        let (mut client, mut reader) = pair();
        let budget = reader.budget.clone();
        let _all = (
            budget.acquire(2 << 20).await,
            budget.acquire_small(2 << 20).await,
        );
        client.write_all(&[0, 0, 0, 2, b'o', b'k']).await.unwrap();
        assert_eq!(&reader.next(charge).await.unwrap().unwrap().body[..], b"ok");
    }

    #[tokio::test]
    async fn the_body_is_not_read_before_there_is_memory() {
        let (mut client, mut reader) = pair();
        let budget = reader.budget.clone();
        let held = (
            budget.acquire(2 << 20).await,
            budget.acquire_small(2 << 20).await,
        );
        let large = vec![7; 300_000];
        let length = i32::try_from(large.len()).unwrap();
        client.write_all(&length.to_be_bytes()).await.unwrap();
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = sent.clone();
        let writer = tokio::spawn(async move {
            for piece in large.chunks(1000) {
                client.write_all(piece).await.unwrap();
                counted.fetch_add(piece.len(), std::sync::atomic::Ordering::SeqCst);
            }
            client
        });
        let mut next = Box::pin(reader.next(charge));
        for _ in 0..100 {
            assert!(futures::poll!(next.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        let before = sent.load(std::sync::atomic::Ordering::SeqCst);
        assert!(before < 200_000, "{before} bytes were taken off the socket");
        drop(held);
        assert_eq!(next.await.unwrap().unwrap().body.len(), 300_000);
        writer.await.unwrap();
    }
}
