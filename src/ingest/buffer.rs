//! The buffer, and what the commit loop takes from it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::metrics::IngestMetrics;
use super::pipelines::Pipelines;
use crate::env::Env;
use crate::manifest::{CommitSource, Committed, Manifest, Stopped, Submission};
use crate::mutants::{self, Mutant};
use crate::state::ObjectRef;
use crate::state::op::{
    self, AppendEntry, AppendRejected, AppendSource, Appended, Applied, Op, ProducerBatch,
};
use crate::store::Store;
use crate::types::{ByteCount, Timestamp, TopicPartition};

/// Is handed the parts of every segment before it is uploaded, of which those of [`LONG_BATCH`] bytes and more
/// are nearly all of the memory that they keep; puts them in the cache and returns what lies there: it is what is uploaded.
pub type SegmentSink =
    Arc<dyn Fn(ObjectRef, Vec<Bytes>) -> BoxFuture<'static, Vec<Bytes>> + Send + Sync>;

/// How the write path behaves.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// The most bytes admitted and not yet settled.
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
    Upload(Arc<str>),
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
    room: Arc<Semaphore>,
    buffer: Mutex<Buffer>,
    pipelines: Mutex<Pipelines>,
    /// For the uploads, which outlive the call that begins them.
    this: std::sync::Weak<Ingest>,
}

#[derive(Default)]
struct Buffer {
    pending: Vec<Entry>,
    pending_bytes: u64,
    /// In the order in which they were cut, which is the order in which they are committed.
    uploads: VecDeque<Upload>,
    /// The number of the first of `uploads`.
    first_upload: u64,
}

struct Upload {
    partitions: HashSet<TopicPartition>,
    /// `None` while it is under way. An upload that failed has nothing to commit.
    done: Option<Option<Submission>>,
}

impl Buffer {
    fn uploading(&self) -> usize {
        self.uploads
            .iter()
            .filter(|upload| upload.done.is_none())
            .count()
    }
}

/// A batch in the buffer.
pub(super) struct Entry {
    pub(super) batch: Batch,
    pub(super) reply: oneshot::Sender<Result<Appended, AppendError>>,
    room: Arc<Room>,
}

/// Room in the buffer, given back when the last batch of an append is settled.
struct Room {
    permit: OwnedSemaphorePermit,
    metrics: IngestMetrics,
}

impl Drop for Room {
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
            room: Arc::new(Semaphore::new(size)),
            buffer: Mutex::default(),
            pipelines,
            this: this.clone(),
        });
        manifest.attach(ingest.this.clone());
        ingest
    }

    /// Admits batches, in order, and returns a receiver of the outcome of each. Waits for room; waiters are
    /// served in order.
    pub async fn append(&self, mut batches: Vec<Batch>) -> Result<Vec<Append>, AppendError> {
        // Before there is room: a batch for which there never is any may have others behind it.
        self.note_pipelines(&mut batches);
        let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        let permits = u32::try_from(bytes.min(self.options.buffer.as_usize())).unwrap_or(u32::MAX);
        if self.room.available_permits() < permits as usize {
            self.metrics.waits.inc();
        }
        // Tokio's cooperative budget would let a later caller overtake one that it sends away.
        let room = tokio::task::unconstrained(self.room.clone().acquire_many_owned(permits)).await;
        // The semaphore is never closed.
        let permit = room.map_err(|_| AppendError::Stopped(Stopped::Stopping))?;
        self.metrics.buffered.inc_by(i64::from(permits));
        let room = Arc::new(Room {
            permit,
            metrics: self.metrics.clone(),
        });
        let mut waiting = Vec::with_capacity(batches.len());
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
                    room: room.clone(),
                });
                waiting.push(outcome);
            }
            while buffer.pending_bytes >= self.options.segment_size.0
                && buffer.uploading() < self.options.uploads
            {
                self.cut(&mut buffer);
            }
        }
        if let Some(stopped) = self.manifest.stopped() {
            // The commit loop has ended and will take nothing any more.
            self.buffer().pending.clear();
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
                    && !mutants::on(Mutant::BegunInTheMiddle);
            }
        }
    }

    /// Whether more than half of the buffer is taken: producers come faster than the store.
    pub fn is_filling(&self) -> bool {
        self.room.available_permits() < self.options.buffer.as_usize() / 2
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // Nothing in a critical section panics half-way through a change.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what waits should be uploaded now, though it is no whole segment. The more uploads are under way, the
    /// more it must be: stores take large objects faster than many small ones, and when an upload ends this is
    /// asked again.
    fn is_worth_an_upload(&self, buffer: &Buffer) -> bool {
        let (under_way, most) = (buffer.uploading() as u64, self.options.uploads as u64);
        let share = self.options.segment_size.0 / most.max(1);
        under_way < most && buffer.pending_bytes >= under_way * share
    }

    /// Takes up to a segment's worth of the oldest batches and begins their upload.
    fn cut(&self, buffer: &mut Buffer) {
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
        let number = buffer.first_upload + buffer.uploads.len() as u64;
        let partitions = entries.iter().map(|entry| entry.batch.partition).collect();
        buffer.uploads.push_back(Upload {
            partitions,
            done: None,
        });
        if let Some(this) = self.this.upgrade() {
            self.env.spawn(async move {
                let submission = this.upload(entries).await;
                this.finish(number, submission);
            });
        }
    }

    /// Notes that an upload has ended.
    fn finish(&self, number: u64, submission: Option<Submission>) {
        {
            let mut buffer = self.buffer();
            let index = usize::try_from(number - buffer.first_upload).unwrap_or(usize::MAX);
            if let Some(upload) = buffer.uploads.get_mut(index) {
                upload.done = Some(submission);
            }
        }
        self.manifest.nudge();
    }

    /// What may travel in a commit now: the pending batches, unless an earlier one of their partition is
    /// being uploaded.
    fn take_inline(&self, buffer: &mut Buffer) -> Vec<Entry> {
        let held = |entry: &Entry| {
            buffer
                .uploads
                .iter()
                .any(|upload| upload.partitions.contains(&entry.batch.partition))
        };
        let pending = std::mem::take(&mut buffer.pending);
        let mut taken = Vec::new();
        let mut kept = Vec::new();
        for entry in pending {
            if taken.len() >= MAX_ENTRIES || held(&entry) {
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
        let mut ready = Vec::new();
        let share = if self.manifest.contended() {
            CONTENDED_INLINE_SHARE
        } else {
            1
        };
        let inline_limit = self.options.inline_limit.0 / share;
        let inline = {
            let mut buffer = self.buffer();
            while let Some(Upload { done: Some(_), .. }) = buffer.uploads.front() {
                let upload = buffer.uploads.pop_front();
                buffer.first_upload += 1;
                ready.extend(upload.and_then(|upload| upload.done.flatten()));
            }
            if buffer.pending_bytes <= inline_limit {
                self.take_inline(&mut buffer)
            } else {
                if self.is_worth_an_upload(&buffer) {
                    self.cut(&mut buffer);
                }
                Vec::new()
            }
        };
        if !inline.is_empty() {
            ready.push(self.inline(inline));
        }
        ready
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

/// The batches with those of one partition together, each partition's in their order.
pub(super) fn in_partition_order(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| entry.batch.partition);
    entries
}

/// Appends of several partitions from one object, with those who wait for them.
pub(super) struct Ops {
    source: AppendSource,
    appends: Vec<op::Append>,
    waiters: Vec<Vec<Waiter>>,
}

struct Waiter {
    reply: oneshot::Sender<Result<Appended, AppendError>>,
    /// Held until the batch is settled.
    _room: Arc<Room>,
}

impl Ops {
    pub(super) fn new(source: AppendSource) -> Ops {
        Ops {
            source,
            appends: Vec::new(),
            waiters: Vec::new(),
        }
    }

    /// Adds a batch that begins at `start` of the source. Batches of one partition must follow each other.
    pub(super) fn push(&mut self, entry: Entry, start: u64) {
        let Entry { batch, reply, room } = entry;
        let append_entry = AppendEntry {
            start,
            // A batch's own length field has 32 bits.
            len: u32::try_from(batch.bytes.len()).unwrap_or(u32::MAX),
            records: batch.records,
            max_timestamp: batch.max_timestamp,
            producer: batch.producer,
        };
        let waiter = Waiter { reply, _room: room };
        match (self.appends.last_mut(), self.waiters.last_mut()) {
            (Some(append), Some(waiters)) if append.partition == batch.partition => {
                append.entries.push(append_entry);
                waiters.push(waiter);
            }
            _ => {
                self.appends.push(op::Append {
                    partition: batch.partition,
                    source: self.source,
                    entries: vec![append_entry],
                });
                self.waiters.push(vec![waiter]);
            }
        }
    }

    /// Tells all who wait that nothing was appended.
    pub(super) fn refuse(self, why: &AppendError) {
        for waiter in self.waiters.into_iter().flatten() {
            // The client may be gone.
            let _ = waiter.reply.send(Err(why.clone()));
        }
    }

    pub(super) fn into_submission(self, data: Bytes) -> Submission {
        let waiters = self.waiters;
        Submission {
            ops: self.appends.into_iter().map(Op::Append).collect(),
            data,
            done: Box::new(move |result| tell(waiters, result)),
        }
    }
}

/// Tells every waiter the outcome of its own batch.
fn tell(waiters: Vec<Vec<Waiter>>, result: Result<Committed, Stopped>) {
    let mut outcomes = match result {
        Ok(committed) => Ok(committed.outcomes.into_iter()),
        Err(stopped) => Err(stopped),
    };
    for mut waiters in waiters {
        if mutants::on(Mutant::WaitersCrossed) {
            waiters.reverse();
        }
        let mut entries = match &mut outcomes {
            Ok(outcomes) => match outcomes.next() {
                Some(Ok(Applied::Appended(entries))) => Ok(entries.into_iter()),
                _ => Err(Stopped::Stopping),
            },
            Err(stopped) => Err(stopped.clone()),
        };
        for waiter in waiters {
            let outcome = match &mut entries {
                Ok(entries) => match entries.next() {
                    Some(outcome) => outcome.map_err(AppendError::Rejected),
                    None => Err(AppendError::Stopped(Stopped::Stopping)),
                },
                Err(stopped) => Err(AppendError::Stopped(stopped.clone())),
            };
            // The client may be gone; its batch stands all the same.
            let _ = waiter.reply.send(outcome);
        }
    }
}
