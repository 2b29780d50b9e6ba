//! The bucket of the tests: in memory, refusing writes while it is checked, and able to change under the walk.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::env::Env;
use crate::maintain::fsck::{FsckOptions, Report, fsck};
use crate::manifest::{
    Caller, CommitSource, Committed, Manifest, ManifestMetrics, ManifestOptions, Submission, open,
};
use crate::segment::{BatchBuilder, Codec, SegmentBuilder};
use crate::state::State;
use crate::state::op::{Append, AppendEntry, AppendSource, CreateTopic, Op};
use crate::store::{ObjectPath, RequestKind, Store, StoreMetrics, StoreOptions};
use crate::testing::empty_commit;
use crate::types::{
    Incarnation, PartitionIndex, SegmentId, Seq, Timestamp, TopicId, TopicName, TopicPartition,
};

pub(super) const ORDERS: TopicId = TopicId(Uuid::from_u128(7));

pub(super) fn partition(index: i32) -> TopicPartition {
    TopicPartition {
        topic: ORDERS,
        partition: PartitionIndex(index),
    }
}

pub(super) fn batch(records: usize) -> Bytes {
    let mut batch = BatchBuilder::new(Codec::None);
    for n in 0..records {
        let value = [n as u8; 30];
        batch.push(Timestamp(5), None, Some(&value), &[]).unwrap();
    }
    batch.finish().unwrap()
}

/// Hands submissions with bytes to the log.
#[derive(Default)]
struct Queue(Mutex<Vec<Submission>>);

impl CommitSource for Queue {
    fn take(&self) -> Vec<Submission> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn ended(&self, _: &crate::manifest::Stopped) {}
}

/// A node that writes to a bucket.
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) env: Env,
    pub(super) manifest: Manifest,
    queue: Arc<Queue>,
    _stop: DropGuard,
}

impl Writer {
    pub(super) async fn open(objects: &Arc<InMemory>, snapshot_every: u64) -> Writer {
        let options = ManifestOptions {
            snapshot_every,
            ..ManifestOptions::default()
        };
        Writer::open_with(objects, options).await
    }

    pub(super) async fn open_with(objects: &Arc<InMemory>, options: ManifestOptions) -> Writer {
        let env = Env::simulated(1, Env::system().wall());
        let store = Store::from_object_store(
            Arc::clone(objects) as Arc<dyn ObjectStore>,
            StoreOptions::new(env.clone()),
            StoreMetrics::default(),
        );
        let (manifest, tail, _) = open(
            store.clone(),
            env.clone(),
            options,
            ManifestMetrics::default(),
            Arc::new(|_, _| {}),
            Incarnation(env.random_uuid()),
        )
        .await
        .unwrap();
        let queue = Arc::new(Queue::default());
        let source: Arc<dyn CommitSource> = queue.clone();
        assert!(manifest.attach(Arc::downgrade(&source)));
        let stop = CancellationToken::new();
        tokio::spawn(tail.run(stop.clone()));
        Writer {
            store,
            env,
            manifest,
            queue,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) async fn commit(&self, op: Op) -> Committed {
        let committed = self.manifest.commit(vec![op]).await.unwrap();
        assert!(committed.outcomes[0].is_ok(), "{:?}", committed.outcomes);
        committed
    }

    pub(super) async fn create_orders(&self) {
        self.commit(Op::CreateTopic(CreateTopic {
            id: ORDERS,
            name: TopicName::new("orders").unwrap(),
            partitions: 2,
            configs: BTreeMap::new(),
            replicas: None,
        }))
        .await;
    }

    /// Appends a batch whose bytes travel in the commit.
    pub(super) async fn append_inline(&self, index: i32, records: usize) -> Seq {
        let data = batch(records);
        let op = append(index, AppendSource::Inline, 0, data.len(), records);
        let (sender, committed) = tokio::sync::oneshot::channel();
        self.queue.0.lock().unwrap().push(Submission {
            ops: vec![op],
            data,
            caller: Caller::insists(),
            done: Box::new(move |result| drop(sender.send(result))),
        });
        self.manifest.nudge();
        committed.await.unwrap().unwrap().seq
    }

    /// Uploads a segment with a batch of each partition, and does not commit it.
    pub(super) async fn upload(&self, records: usize) -> (SegmentId, Vec<Op>) {
        let id = SegmentId(self.env.uuid_at(self.env.wall()));
        let mut segment = SegmentBuilder::new(id);
        let mut ops = Vec::new();
        for index in 0..2 {
            let data = batch(records);
            let len = data.len();
            let slice = segment.push(partition(index), vec![data]).unwrap();
            let source = AppendSource::Segment(id);
            ops.push(append(index, source, slice.range.start, len, records));
        }
        let path = ObjectPath::segment(id);
        let body = segment.finish().unwrap();
        self.store
            .put_unique(&path, body, RequestKind::SegmentPut)
            .await
            .unwrap();
        (id, ops)
    }

    pub(super) async fn append_segment(&self, records: usize) -> SegmentId {
        let (id, ops) = self.upload(records).await;
        self.manifest.commit(ops).await.unwrap();
        id
    }

    /// Lets background tasks, such as taking a snapshot, come to their end.
    pub(super) async fn catch_up(&self) -> Arc<State> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.manifest.fresh().await.unwrap()
    }
}

fn append(index: i32, source: AppendSource, start: u64, len: usize, records: usize) -> Op {
    Op::Append(Append {
        partition: partition(index),
        source,
        entries: vec![AppendEntry {
            start,
            len: len as u32,
            records: records as u32,
            max_timestamp: Timestamp(5),
            producer: None,
        }],
    })
}

/// When the bucket changes under the walk.
type Trigger = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// A bucket to check.
pub(super) struct Bucket {
    pub(super) objects: Arc<InMemory>,
    pub(super) now: Timestamp,
    /// What it becomes at the first request that the trigger says yes to.
    pub(super) then: Option<(Trigger, Arc<InMemory>)>,
    /// The name of an object that the store does not hand out.
    pub(super) withheld: Option<String>,
    /// Whether nothing can be read.
    pub(super) is_away: bool,
    pub(super) last_segment: Option<SegmentId>,
}

impl Bucket {
    pub(super) fn of(objects: Arc<InMemory>, now: Timestamp) -> Bucket {
        Bucket {
            objects,
            now,
            then: None,
            withheld: None,
            is_away: false,
            last_segment: None,
        }
    }

    pub(super) fn empty() -> Bucket {
        Bucket::of(Arc::new(InMemory::new()), Env::system().wall())
    }

    /// Puts so many commits behind the end of the log, with one missing before them.
    pub(super) async fn put_ahead(&mut self, follows: Option<u64>, count: u64) {
        let end = self.log_end().await;
        for ahead in 0..count {
            let path = ObjectPath::commit(Seq(end + 2 + ahead));
            let commit = empty_commit(7 + ahead, follows);
            self.put(path.as_str(), commit.to_vec()).await;
        }
    }

    /// A stopped cluster: commits with and without records in them, segments, several snapshots, and a few commits
    /// after the last one.
    pub(super) async fn healthy() -> Bucket {
        let objects = Arc::new(InMemory::new());
        let writer = Writer::open(&objects, 6).await;
        writer.create_orders().await;
        let mut last_segment = None;
        for n in 0..16 {
            writer.append_inline(n % 2, 1 + (n as usize) % 3).await;
            if n % 5 == 0 {
                last_segment = Some(writer.append_segment(4).await);
            }
            writer.catch_up().await;
        }
        writer.append_inline(0, 2).await;
        writer.append_inline(1, 2).await;
        let now = writer.env.wall();
        drop(writer);
        Bucket {
            last_segment,
            ..Bucket::of(objects, now)
        }
    }

    pub(super) async fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.listed().await.into_keys().collect();
        names.sort();
        names
    }

    async fn listed(&self) -> BTreeMap<String, Bytes> {
        let listed: Vec<ObjectMeta> = self.objects.list(None).try_collect().await.unwrap();
        let mut all = BTreeMap::new();
        for meta in listed {
            let body = self.objects.get(&meta.location).await.unwrap();
            all.insert(meta.location.to_string(), body.bytes().await.unwrap());
        }
        all
    }

    pub(super) async fn get(&self, name: &str) -> Bytes {
        let path = Path::from(name);
        let found = self.objects.get(&path).await.unwrap();
        found.bytes().await.unwrap()
    }

    pub(super) async fn put(&self, name: &str, body: impl Into<Bytes>) {
        let path = Path::from(name);
        let body: Bytes = body.into();
        self.objects.put(&path, body.into()).await.unwrap();
    }

    pub(super) async fn delete(&self, name: &str) {
        self.objects.delete(&Path::from(name)).await.unwrap();
    }

    pub(super) async fn newest(&self, folder: &str) -> String {
        let names = self.names().await;
        names
            .into_iter()
            .rfind(|name| name.starts_with(folder))
            .unwrap()
    }

    /// The last commit.
    pub(super) async fn log_end(&self) -> u64 {
        let newest = self.newest("manifest/log").await;
        number(&newest)
    }

    /// Checks it on a store that counts writes and refuses them; nothing in the bucket may have changed.
    pub(super) async fn check(&mut self, deep: bool) -> Report {
        self.try_check(deep).await.unwrap()
    }

    pub(super) async fn try_check(
        &mut self,
        deep: bool,
    ) -> std::result::Result<Report, crate::store::StoreError> {
        let before = self.listed().await;
        let scene = Arc::new(Scene {
            objects: Mutex::new(Arc::clone(&self.objects)),
            then: Mutex::new(self.then.take()),
            withheld: self.withheld.clone(),
            is_away: self.is_away,
            writes: AtomicUsize::new(0),
        });
        let env = Env::simulated(3, self.now);
        let mut options = StoreOptions::new(env);
        options.retry.deadline = Duration::from_secs(5);
        let store = Store::from_object_store(
            Arc::clone(&scene) as Arc<dyn ObjectStore>,
            options,
            StoreMetrics::default(),
        );
        let options = FsckOptions {
            deep,
            now: self.now,
        };
        let report = fsck(&store, options, &()).await;
        assert_eq!(
            scene.writes.load(Ordering::SeqCst),
            0,
            "fsck tried to write"
        );
        assert_eq!(self.listed().await, before, "the bucket changed");
        report
    }

    /// The kinds of what is found, each once, by name.
    pub(super) async fn kinds(&mut self, deep: bool) -> Vec<&'static str> {
        let report = self.check(deep).await;
        kinds(&report)
    }
}

pub(super) fn kinds(report: &Report) -> Vec<&'static str> {
    let mut kinds: Vec<&str> = report.findings.iter().map(|f| f.kind.id()).collect();
    kinds.dedup();
    kinds
}

/// The number in the name of a commit or snapshot.
pub(super) fn number(name: &str) -> u64 {
    let file = name.rsplit('/').next().unwrap();
    file.split('.').next().unwrap().parse().unwrap()
}

/// A store that refuses writes, and changes at some moment.
struct Scene {
    objects: Mutex<Arc<InMemory>>,
    then: Mutex<Option<(Trigger, Arc<InMemory>)>>,
    withheld: Option<String>,
    is_away: bool,
    writes: AtomicUsize,
}

impl Scene {
    fn at(&self, request: &str) -> Arc<InMemory> {
        let mut then = self.then.lock().unwrap();
        let mut objects = self.objects.lock().unwrap();
        if let Some((trigger, next)) = then.take() {
            if trigger(request) {
                *objects = next;
            } else {
                *then = Some((trigger, next));
            }
        }
        Arc::clone(&objects)
    }

    fn refuse(&self) -> Error {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Error::NotImplemented {
            operation: "write".to_owned(),
            implementer: "scene".to_owned(),
        }
    }
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scene")
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scene")
    }
}

#[async_trait]
impl ObjectStore for Scene {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(self.refuse())
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(self.refuse())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.withheld.as_deref() == Some(location.as_ref()) {
            return Err(Error::PermissionDenied {
                path: location.to_string(),
                source: "archived".into(),
            });
        }
        if self.is_away {
            return Err(Error::Generic {
                store: "scene",
                source: "503 SlowDown".into(),
            });
        }
        let objects = self.at(&format!("get {location}"));
        objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        stream::iter([Err(self.refuse())]).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.at("list").list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.at("list").list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(self.refuse())
    }
}
