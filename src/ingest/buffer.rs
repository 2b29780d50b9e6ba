//! The buffer, and what the commit loop takes from it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::metrics::IngestMetrics;
use super::ops::{Ops, in_partition_order};
use super::pipelines::Pipelines;
use super::uploads::Uploads;
use crate::env::Env;
use crate::manifest::{CommitSource, Manifest, Stopped, Submission};
use crate::rules::{Rule, holds};
use crate::segment::SegmentError;
use crate::state::ObjectRef;
use crate::state::op::{AppendRejected, AppendSource, Appended, ProducerBatch};
use crate::store::{Store, StoreError};
use crate::types::{ByteCount, Timestamp, TopicPartition};

/// Is handed the parts of every segment before it is uploaded, of which those of [`LONG_BATCH`] bytes and more
/// are nearly all of the memory that they keep; puts them in the cache and returns what lies there: it is what is
/// uploaded.
pub type SegmentSink =
    Arc<dyn Fn(ObjectRef, Vec<Bytes>) -> BoxFuture<'static, Vec<Bytes>> + Send + Sync>;

/// How the write path behaves.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// The most bytes admitted and not yet answered.
    pub buffer: ByteCount,
    /// Up to so many bytes travel in the commit.
    pub inline_limit: ByteCount,
    /// A segment is cut when so many bytes wait.
    pub segment_size: ByteCount,
    /// Segments uploaded at once.
    pub uploads: usize,
    /// How long it is remembered at most where an idempotent producer began. Well below the time after which
    /// producers are forgotten: they may then begin anywhere.
    pub producer_memory: Duration,
}

impl Default for IngestOptions {
    fn default() -> IngestOptions {
        IngestOptions {
            buffer: ByteCount::mib(64),
            inline_limit: ByteCount::kib(512),
            segment_size: ByteCount::mib(8),
            uploads: 8,
            producer_memory: Duration::from_secs(15 * 60),
        }
    }
}

/// While other nodes win races, so much less travels in the commit: it may have to be sent again.
const CONTENDED_INLINE_SHARE: u64 = 4;

/// A batch of so many bytes is not moved on its way from the request to the store and the cache, if it is nearly all of
/// its request.
pub const LONG_BATCH: usize = 512 << 10;

/// The most batches in one commit.
const MAX_ENTRIES: usize = 16_384;

/// One validated record batch.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its partition.
    pub partition: TopicPartition,
    /// The batch, as it is to be stored.
    pub bytes: Bytes,
    /// How much memory is kept at most as long as the bytes are: that of the request they came in.
    pub memory: usize,
    /// How many offsets it takes.
    pub records: u32,
    /// The largest timestamp of its records.
    pub max_timestamp: Timestamp,
    /// Its producer, if that is idempotent.
    pub producer: Option<ProducerBatch>,
}

impl Batch {
    /// Its bytes as a part of a segment: a long batch in memory of which it is nearly all.
    pub(super) fn part(&self) -> Bytes {
        let among_others = self.bytes.len() < self.memory / 8 * 7;
        if self.bytes.len() >= LONG_BATCH && among_others {
            Bytes::copy_from_slice(&self.bytes)
        } else {
            self.bytes.clone()
        }
    }
}

/// Why a batch was not appended, or is not known to be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The fold refused it.
    #[error(transparent)]
    Rejected(#[from] AppendRejected),
    /// Its bytes could not be stored. It was not appended.
    #[error("the segment could not be stored: {0}")]
    Upload(#[source] Arc<StoreError>),
    /// A segment could not be made of it and its like. It was not appended.
    #[error("the segment could not be made: {0}")]
    Build(#[source] SegmentError),
    /// The node is stopping. It may or may not have been appended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A batch that was admitted: resolves to its outcome.
pub type Append = oneshot::Receiver<Result<Appended, AppendError>>;

/// The write path of a node.
pub struct Ingest {
    pub(super) store: Store,
    pub(super) env: Env,
    pub(super) options: IngestOptions,
    pub(super) metrics: IngestMetrics,
    pub(super) sink: SegmentSink,
    pub(super) manifest: Manifest,
    space: Arc<Semaphore>,
    buffer: Mutex<Buffer>,
    pipelines: Mutex<Pipelines>,
    /// For the uploads, which outlive the call that begins them.
    this: std::sync::Weak<Ingest>,
}

#[derive(Default)]
struct Buffer {
    pending: Vec<Entry>,
    pending_bytes: u64,
    uploads: Uploads,
}

impl Buffer {
    /// Whether of what waits there is something that need not wait for an upload, and no more than `limit` bytes of it.
    fn is_little_free(&self, limit: u64) -> bool {
        let mut free = 0;
        for entry in &self.pending {
            if !self.uploads.hold(&entry.batch.partition) {
                free += entry.batch.bytes.len() as u64;
            }
            if free > limit {
                return false;
            }
        }
        free > 0
    }
}

/// A batch in the buffer.
pub(super) struct Entry {
    pub(super) batch: Batch,
    pub(super) reply: oneshot::Sender<Result<Appended, AppendError>>,
    pub(super) space: Arc<Space>,
}

/// Space in the buffer, given back when the last batch of an append is answered.
pub(super) struct Space {
    permit: OwnedSemaphorePermit,
    metrics: IngestMetrics,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.metrics
            .buffered
            .dec_by(self.permit.num_permits() as i64);
    }
}

impl Ingest {
    /// The write path, attached to `manifest`.
    pub fn new(
        manifest: Manifest,
        store: Store,
        env: Env,
        options: IngestOptions,
        metrics: IngestMetrics,
        sink: SegmentSink,
    ) -> Arc<Ingest> {
        let size = options.buffer.as_usize().clamp(1, Semaphore::MAX_PERMITS);
        metrics
            .buffer_size
            .set(i64::try_from(size).unwrap_or(i64::MAX));
        let pipelines = Mutex::new(Pipelines::new(options.producer_memory));
        let ingest = Arc::new_cyclic(|this| Ingest {
            store,
            env,
            options,
            metrics,
            sink,
            manifest: manifest.clone(),
            space: Arc::new(Semaphore::new(size)),
            buffer: Mutex::default(),
            pipelines,
            this: this.clone(),
        });
        manifest.attach(ingest.this.clone());
        ingest
    }

    /// Admits batches, in order, and returns a receiver of the outcome of each. Waits for space; waiters are
    /// served in order.
    pub async fn append(&self, mut batches: Vec<Batch>) -> Result<Vec<Append>, AppendError> {
        // Before there is space: a batch for which there never is any may have others behind it.
        self.note_pipelines(&mut batches);
        let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        let permits = u32::try_from(bytes.min(self.options.buffer.as_usize())).unwrap_or(u32::MAX);
        if self.space.available_permits() < permits as usize {
            self.metrics.waits.inc();
        }
        // Tokio's cooperative budget would let a later caller overtake one that it sends away.
        let space =
            tokio::task::unconstrained(self.space.clone().acquire_many_owned(permits)).await;
        // The semaphore is never closed.
        let permit = space.map_err(|_| AppendError::Stopped(Stopped::Stopping))?;
        self.metrics.buffered.inc_by(i64::from(permits));
        let space = Arc::new(Space {
            permit,
            metrics: self.metrics.clone(),
        });
        let mut waiting = Vec::with_capacity(batches.len());
        let mut cuts = Vec::new();
        {
            let mut buffer = self.buffer();
            for batch in batches {
                let (reply, outcome) = oneshot::channel();
                buffer.pending_bytes += batch.bytes.len() as u64;
                self.metrics.records.inc_by(batch.records.into());
                self.metrics.bytes.inc_by(batch.bytes.len() as u64);
                buffer.pending.push(Entry {
                    batch,
                    reply,
                    space: space.clone(),
                });
                waiting.push(outcome);
            }
            while buffer.pending_bytes >= self.options.segment_size.0
                && buffer.uploads.under_way() < self.options.uploads
            {
                cuts.push(self.cut(&mut buffer));
            }
        }
        self.begin(cuts);
        if let Some(stopped) = self.manifest.stopped() {
            // The commit loop has ended and will take nothing any more.
            self.ended(&stopped);
            return Err(stopped.into());
        }
        self.manifest.nudge();
        Ok(waiting)
    }

    /// Says of each batch whether it comes behind another of its producer.
    fn note_pipelines(&self, batches: &mut [Batch]) {
        let now = self.env.boot();
        // Nothing in the critical section panics.
        let mut pipelines = self
            .pipelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for batch in batches {
            if let Some(producer) = &mut batch.producer {
                producer.continues = pipelines.continues(batch.partition, producer, now)
                    && holds(Rule::PipelinesBeginWithFirstBatch);
            }
        }
    }

    /// Whether more than half of the buffer is taken: producers come faster than the store.
    pub fn is_filling(&self) -> bool {
        self.space.available_permits() < self.options.buffer.as_usize() / 2
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // Nothing in a critical section panics half-way through a change.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what waits should be uploaded now, though it is no whole segment. The more uploads are under way, the
    /// more it must be: stores take large objects faster than many small ones, and when an upload ends this is
    /// asked again. One that is overdue does not count, for nobody knows when it ends.
    fn is_worth_an_upload(&self, buffer: &Buffer) -> bool {
        let (in_time, most) = (buffer.uploads.in_time() as u64, self.options.uploads as u64);
        let share = self.options.segment_size.0 / most.max(1);
        (buffer.uploads.under_way() as u64) < most && buffer.pending_bytes >= in_time * share
    }

    /// Takes up to a segment's worth of the oldest batches, which are to be uploaded.
    fn cut(&self, buffer: &mut Buffer) -> Cut {
        let limit = self.options.segment_size.0;
        let mut bytes = 0;
        let mut count = 0;
        for entry in buffer.pending.iter().take(MAX_ENTRIES) {
            let len = entry.batch.bytes.len() as u64;
            if count > 0 && bytes + len > limit {
                break;
            }
            bytes += len;
            count += 1;
        }
        let rest = buffer.pending.split_off(count);
        let entries = std::mem::replace(&mut buffer.pending, rest);
        buffer.pending_bytes -= bytes;
        let partitions = entries.iter().map(|entry| entry.batch.partition).collect();
        let number = buffer.uploads.begin(partitions);
        Cut {
            number,
            entries,
            bytes,
        }
    }

    /// Begins to upload what was cut. Not while the buffer is held: a runtime that shuts down drops a task at once, and
    /// with it ends the upload.
    fn begin(&self, cuts: impl IntoIterator<Item = Cut>) {
        for cut in cuts {
            let Some(ingest) = self.this.upgrade() else {
                return;
            };
            let mut under_way = UnderWay {
                ingest,
                number: cut.number,
                stored: None,
            };
            self.env.spawn(async move { under_way.run(cut).await });
        }
    }

    /// Notes that an upload takes long.
    fn note_overdue(&self, number: u64) {
        self.buffer().uploads.is_overdue(number);
        self.manifest.nudge();
    }

    /// Notes that an upload has ended.
    fn finish(&self, number: u64, stored: Option<Ops>) {
        self.buffer().uploads.end(number, stored);
        self.manifest.nudge();
        // It is said before `ended` is called. So either that finds this, or it is seen here.
        if let Some(stopped) = self.manifest.stopped() {
            self.ended(&stopped);
        }
    }

    /// What may travel in a commit now: the pending batches, unless an earlier one of their partition is
    /// being uploaded.
    fn take_inline(&self, buffer: &mut Buffer) -> Vec<Entry> {
        let pending = std::mem::take(&mut buffer.pending);
        let mut taken = Vec::new();
        let mut kept = Vec::new();
        for entry in pending {
            let is_held = buffer.uploads.hold(&entry.batch.partition);
            if taken.len() >= MAX_ENTRIES || is_held {
                kept.push(entry);
            } else {
                buffer.pending_bytes -= entry.batch.bytes.len() as u64;
                taken.push(entry);
            }
        }
        buffer.pending = kept;
        taken
    }
}

impl CommitSource for Ingest {
    fn take(&self) -> Vec<Submission> {
        let share = if self.manifest.contended() {
            CONTENDED_INLINE_SHARE
        } else {
            1
        };
        let limit = self.options.inline_limit.0 / share;
        let (stored, inline, cut) = {
            let mut buffer = self.buffer();
            let stored = buffer.uploads.take_ready();
            let is_little = buffer.pending_bytes <= limit;
            // While an upload is overdue, what is not of its partitions does not wait for company.
            let is_stuck = || buffer.uploads.is_any_overdue() && buffer.is_little_free(limit);
            let inline = match is_little || is_stuck() {
                true => self.take_inline(&mut buffer),
                false => Vec::new(),
            };
            let is_worth_it = buffer.pending_bytes > limit && self.is_worth_an_upload(&buffer);
            (stored, inline, is_worth_it.then(|| self.cut(&mut buffer)))
        };
        self.begin(cut);
        let stored = stored.into_iter();
        let mut ready: Vec<Submission> = stored
            .map(|ops| ops.into_submission(Bytes::new()))
            .collect();
        if !inline.is_empty() {
            ready.push(self.inline(inline));
        }
        ready
    }

    /// What is being uploaded comes here as well when it has ended.
    fn ended(&self, why: &Stopped) {
        let why = AppendError::Stopped(why.clone());
        let (stored, pending) = {
            let mut buffer = self.buffer();
            buffer.pending_bytes = 0;
            let pending = std::mem::take(&mut buffer.pending);
            (buffer.uploads.take_stored(), pending)
        };
        stored.into_iter().for_each(|ops| ops.refuse(&why));
        for entry in pending {
            // The client may be gone.
            let _ = entry.reply.send(Err(why.clone()));
        }
    }
}

/// Batches that are to be uploaded.
struct Cut {
    number: u64,
    entries: Vec<Entry>,
    bytes: u64,
}

/// An upload is overdue when it has taken half as long again as uploads of its size do, and not before `SOONEST`: then
/// what need not wait for it goes another way.
const OVERDUE: f64 = 1.5;
const SOONEST: Duration = Duration::from_millis(300);

/// An upload under way. However its task ends, by a panic too, it is noted that it has: else all that comes behind it
/// would wait for ever. Who waits for what is lost so sees that there will be no answer.
struct UnderWay {
    ingest: Arc<Ingest>,
    number: u64,
    stored: Option<Ops>,
}

impl UnderWay {
    async fn run(&mut self, cut: Cut) {
        let ingest = self.ingest.clone();
        let expected = ingest.store.expected_put(cut.bytes).mul_f64(OVERDUE);
        let mut upload = std::pin::pin!(ingest.upload(cut.entries));
        let in_time = tokio::time::timeout(expected.max(SOONEST), upload.as_mut());
        self.stored = match in_time.await {
            Ok(stored) => stored,
            Err(_) => {
                ingest.note_overdue(self.number);
                upload.await
            }
        };
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the upload of a segment panicked; its records are not appended");
            self.ingest.metrics.failures.inc();
        }
        self.ingest.finish(self.number, self.stored.take());
    }
}

impl Ingest {
    /// A submission whose bytes travel in the commit.
    fn inline(&self, entries: Vec<Entry>) -> Submission {
        let mut data = BytesMut::new();
        let mut ops = Ops::new(AppendSource::Inline);
        for entry in in_partition_order(entries) {
            let start = data.len() as u64;
            data.extend_from_slice(&entry.batch.bytes);
            ops.push(entry, start);
        }
        self.metrics.inline.inc_by(data.len() as u64);
        ops.into_submission(data.freeze())
    }
}
