//! The settings as the rest of the broker uses them: read once, typed.

use std::time::Duration;

use super::resolve::{Overrides, cluster_value, topic_value};
use super::values::items;
use crate::types::ByteCount;

/// The settings of a topic in force. Cheap to clone; keep it as long as neither the topic's nor the
/// cluster's settings change.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// The largest record batch (`max.message.bytes`).
    pub max_message_bytes: ByteCount,
    /// Records carry the time of their append (`message.timestamp.type=LogAppendTime`).
    pub log_append_time: bool,
    /// How far a timestamp may be behind the clock; `None` is without bound.
    pub timestamp_before_max: Option<Duration>,
    /// How far a timestamp may be ahead of the clock; `None` is without bound.
    pub timestamp_after_max: Option<Duration>,
    /// What happens to old records (`cleanup.policy`).
    pub cleanup: CleanupPolicy,
    /// How long records are kept; `None` is for ever. Counts if `cleanup.delete`.
    pub retention: Option<Duration>,
    /// How large a partition may grow; `None` is without bound. Counts if `cleanup.delete`.
    pub retention_bytes: Option<ByteCount>,
    /// How long a compacted segment becomes at most (`segment.bytes`).
    pub segment_bytes: ByteCount,
    /// How much time one compacted segment covers at most where records expire (`segment.ms`).
    pub segment_time: Duration,
    /// How long tombstones are kept. This and those below count if `cleanup.compact`.
    pub delete_retention: Duration,
    /// How long a record stays uncompacted at least.
    pub min_compaction_lag: Duration,
    /// How long a record stays uncompacted at most; `None` is without bound.
    pub max_compaction_lag: Option<Duration>,
    /// Which part must be uncompacted before it is compacted again, 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// How batches are compressed at rest.
    pub compression: Compression,
}

/// What the settings of a topic say of its archive, or what they said when it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// Whether the topic is archived (`archive.enable`).
    pub enable: bool,
    /// Whether the hint for engines is kept up to date (`archive.hint`).
    pub hint: bool,
    /// How long records wait (`archive.lag`).
    pub lag: Duration,
    /// By what of their timestamps records are divided into files (`archive.partition`): `none`, `hour`, `day` or
    /// `month`.
    pub partition: String,
    /// How long records stay in the table (`archive.retention.ms`); `None` is for ever.
    pub retention: Option<Duration>,
    /// How large the table may grow (`archive.retention.bytes`); `None` is without bound.
    pub retention_bytes: Option<ByteCount>,
    /// What keys are (`archive.key.format`).
    pub key: ArchiveFormat,
    /// What values are (`archive.value.format`).
    pub value: ArchiveFormat,
}

/// What keys or values are that are archived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveFormat {
    /// `bytes`, `string` or `json`.
    pub name: String,
    /// A JSON Schema, or nothing.
    pub schema: String,
}

impl ArchiveConfig {
    /// The settings in force of a topic with these settings in a cluster with those; as
    /// [`TopicConfig::effective`].
    pub fn effective(topic: &Overrides, cluster: &Overrides) -> ArchiveConfig {
        let read = Reader { topic, cluster };
        let format = |name, schema| ArchiveFormat {
            name: read.text(name),
            schema: read.text(schema),
        };
        ArchiveConfig {
            enable: read.text("archive.enable") == "true",
            hint: read.text("archive.hint") == "true",
            lag: millis(read.number("archive.lag")),
            partition: read.text("archive.partition"),
            retention: bounded(read.number("archive.retention.ms")),
            retention_bytes: u64::try_from(read.number("archive.retention.bytes"))
                .ok()
                .map(ByteCount),
            key: format("archive.key.format", "archive.key.schema"),
            value: format("archive.value.format", "archive.value.schema"),
        }
    }
}

/// `cleanup.policy`. Neither of both keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old records are removed by time and size.
    pub delete: bool,
    /// The last record of each key is kept.
    pub compact: bool,
}

/// `compression.type` with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent it.
    Producer,
    /// Not compressed.
    None,
    /// gzip; `None` is the codec's own default level.
    Gzip(Option<u32>),
    /// snappy.
    Snappy,
    /// lz4.
    Lz4(i32),
    /// zstd.
    Zstd(i32),
}

impl TopicConfig {
    /// The settings in force of a topic with these settings in a cluster with those. Values were checked
    /// when they were set; one that cannot be read (of another version) counts as not set.
    pub fn effective(topic: &Overrides, cluster: &Overrides) -> TopicConfig {
        let read = Reader { topic, cluster };
        let policies = read.text("cleanup.policy");
        let policies = items(&policies);
        TopicConfig {
            max_message_bytes: ByteCount(
                u64::try_from(read.number("max.message.bytes")).unwrap_or(0),
            ),
            log_append_time: read.text("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max: bounded(read.number("message.timestamp.before.max.ms")),
            timestamp_after_max: bounded(read.number("message.timestamp.after.max.ms")),
            cleanup: CleanupPolicy {
                delete: policies.contains(&"delete"),
                compact: policies.contains(&"compact"),
            },
            retention: bounded(read.number("retention.ms")),
            retention_bytes: u64::try_from(read.number("retention.bytes"))
                .ok()
                .map(ByteCount),
            segment_bytes: ByteCount(u64::try_from(read.number("segment.bytes")).unwrap_or(0)),
            segment_time: millis(read.number("segment.ms")),
            delete_retention: millis(read.number("delete.retention.ms")),
            min_compaction_lag: millis(read.number("min.compaction.lag.ms")),
            max_compaction_lag: bounded(read.number("max.compaction.lag.ms")),
            min_cleanable_dirty_ratio: read.ratio("min.cleanable.dirty.ratio"),
            compression: read.compression(),
        }
    }
}

/// Reads a topic's values; one that cannot be read is taken for not set.
struct Reader<'a> {
    topic: &'a Overrides,
    cluster: &'a Overrides,
}

impl Reader<'_> {
    /// The strongest value that `read` can make sense of. Every setting has a default that it can.
    fn value<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let empty = Overrides::new();
        [
            (self.topic, self.cluster),
            (&empty, self.cluster),
            (&empty, &empty),
        ]
        .into_iter()
        .find_map(|(topic, cluster)| read(&topic_value(name, topic, cluster)?))
    }

    fn text(&self, name: &str) -> String {
        self.value(name, |text| Some(text.to_owned()))
            .unwrap_or_default()
    }

    fn number(&self, name: &str) -> i64 {
        self.value(name, |text| text.parse().ok())
            .unwrap_or_default()
    }

    fn ratio(&self, name: &str) -> f64 {
        self.value(name, |text| text.parse().ok())
            .unwrap_or_default()
    }

    fn compression(&self) -> Compression {
        let level = |name| i32::try_from(self.number(name)).unwrap_or(0);
        match self.text("compression.type").as_str() {
            "uncompressed" => Compression::None,
            "gzip" => Compression::Gzip(u32::try_from(level("compression.gzip.level")).ok()),
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4(level("compression.lz4.level")),
            "zstd" => Compression::Zstd(level("compression.zstd.level")),
            _ => Compression::Producer,
        }
    }
}

/// Milliseconds; negative is zero.
fn millis(number: i64) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}

/// Milliseconds where negative and the largest number mean "without bound".
fn bounded(number: i64) -> Option<Duration> {
    (0..i64::MAX).contains(&number).then(|| millis(number))
}

/// The bounds of consumer groups. Defaults are Kafka's but for the two that say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: Duration,
    /// `group.max.size`. Kafka has no limit; here the state has one.
    pub max_size: u32,
    /// `group.initial.rebalance.delay.ms` (KIP-134): how long the first rebalance of a group waits for more
    /// members. Kafka's is 3 s in the broker and 0 in the file that it ships. Consumers that are started together
    /// by a script or a deployment arrive within a fraction of a second, and a person who starts one wants to
    /// see records at once: 500 ms.
    pub initial_rebalance_delay: Duration,
    /// `offset.metadata.max.bytes`, which Kafka counts in characters.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`: offsets of a group without members are forgotten after this.
    pub offsets_retention: Duration,
}

impl GroupConfig {
    /// The settings in force in a cluster with these settings.
    pub fn effective(cluster: &Overrides) -> GroupConfig {
        let empty = Overrides::new();
        let number = |name| {
            let values = [cluster, &empty].into_iter();
            let mut read = values.filter_map(|set| cluster_value(name, set)?.parse::<u32>().ok());
            read.next().unwrap_or_default()
        };
        let duration = |name| Duration::from_millis(number(name).into());
        let minutes = u64::from(number("offsets.retention.minutes"));
        GroupConfig {
            min_session_timeout: duration("group.min.session.timeout.ms"),
            max_session_timeout: duration("group.max.session.timeout.ms"),
            max_size: number("group.max.size"),
            initial_rebalance_delay: duration("group.initial.rebalance.delay.ms"),
            offset_metadata_max: number("offset.metadata.max.bytes") as usize,
            offsets_retention: Duration::from_secs(minutes * 60),
        }
    }
}

/// The settings of the cluster that are not defaults of topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How many partitions a topic has that asks for no number (`num.partitions`).
    pub num_partitions: i32,
    /// The replication factor shown for topics that ask for none (`default.replication.factor`).
    pub default_replication_factor: i16,
    /// Whether asking for a topic creates it (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// How much memory a node uses to find the last record of each key (`log.cleaner.dedupe.buffer.size`).
    pub dedupe_buffer: ByteCount,
}

impl ClusterConfig {
    /// The settings in force of a cluster with these settings.
    pub fn effective(cluster: &Overrides) -> ClusterConfig {
        let number = |name| cluster_value(name, cluster).and_then(|text| text.parse().ok());
        ClusterConfig {
            num_partitions: number("num.partitions").unwrap_or(1),
            default_replication_factor: number("default.replication.factor")
                .and_then(|n| i16::try_from(n).ok())
                .unwrap_or(1),
            auto_create_topics: cluster_value("auto.create.topics.enable", cluster)
                .is_none_or(|text| text == "true"),
            dedupe_buffer: cluster_value("log.cleaner.dedupe.buffer.size", cluster)
                .and_then(|text| text.parse().ok())
                .map_or(ByteCount::mib(128), ByteCount),
        }
    }
}
