//! Every setting of topics and of the cluster: type, default, what it falls back to, meaning.
//!
//! Names, types, defaults and ranges are Apache Kafka's (4.x), so that its tools and clients find what
//! they know. A setting that has nothing to act on here (there are no replicas, no index files, no
//! local log) is taken, checked, stored and shown, and its documentation says so.

use super::ConfigType;
use super::values::Check;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Definition {
    /// Kafka's name of it.
    pub(super) name: &'static str,
    /// Its type.
    pub(super) kind: ConfigType,
    /// Its default, as Kafka writes it; `None` if it has no value until it is set.
    pub(super) default: Option<&'static str>,
    /// Which values of the type it takes.
    pub(super) check: Check,
    /// Settings of the cluster that count where this one is not set, strongest first.
    pub(super) falls_back_to: &'static [Fallback],
    /// What it means.
    pub(super) documentation: &'static str,
}

/// A setting of the cluster that another falls back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fallback {
    /// Its name.
    pub(super) name: &'static str,
    /// How many of the other's units one of its units is: 3,600,000 from hours to milliseconds.
    pub(super) factor: i64,
}

const fn same(name: &'static str) -> Fallback {
    Fallback { name, factor: 1 }
}

const fn minutes(name: &'static str) -> Fallback {
    Fallback {
        name,
        factor: 60_000,
    }
}

const fn hours(name: &'static str) -> Fallback {
    Fallback {
        name,
        factor: 3_600_000,
    }
}

/// Declares a table of definitions.
macro_rules! definitions {
    (
        $(#[$about:meta])*
        $table:ident:
        $(
            $name:literal: $kind:ident = $default:expr, $check:expr
            $(, from [$($fallback:expr),+])?;
            $doc:literal
        )+
    ) => {
        $(#[$about])*
        pub(super) static $table: &[Definition] = &[$(
            Definition {
                name: $name,
                kind: ConfigType::$kind,
                default: $default,
                check: $check,
                falls_back_to: &[$($($fallback),+)?],
                documentation: $doc,
            },
        )+];
    };
}

const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const POLICIES: &[&str] = &["compact", "delete"];
const TIMES: &[&str] = &["CreateTime", "LogAppendTime"];
const PARTITIONS: &[&str] = &["none", "hour", "day", "month"];
const NO_SERVE: &str = "this version of Weir cannot serve consumers from the archive yet";
const ANY: Check = Check::Any;
const ZERO_UP: Check = Check::AtLeast(0);
const ONE_UP: Check = Check::AtLeast(1);
const FOREVER: Option<&str> = Some("9223372036854775807");
const FALSE: Option<&str> = Some("false");
const TRUE: Option<&str> = Some("true");

definitions! {
    /// The settings of a topic, by name.
    TOPIC:
    "archive.enable": Boolean = FALSE, ANY, from [same("archive.enable")];
    "Whether the records of the topic are archived: as Parquet files and an Apache Iceberg table below archive/ in the \
     bucket. Those that are there already are archived, too. Records then stay in the topic until they are archived, \
     whatever its retention says."
    "archive.hint": Boolean = TRUE, ANY, from [same("archive.hint")];
    "Whether the file version-hint.text of the table is kept up to date, for engines that open a table by its path. It is \
     the one object that Weir overwrites."
    "archive.key.format": String = Some("bytes"), Check::Format, from [same("archive.key.format")];
    "What the keys of the records are. With bytes they are stored as they are; other formats will make columns of their \
     fields, and are refused by this version."
    "archive.key.schema": String = Some(""), Check::JsonObject, from [same("archive.key.schema")];
    "The schema of keys, a JSON object, for formats whose fields become columns."
    "archive.lag": Long = Some("1800000"), Check::Millis(0), from [same("archive.lag")];
    "How long records wait before they are archived, in milliseconds or with a unit (5s, 30min). Short waits make many small \
     files, which are merged later. 256 MiB do not wait."
    "archive.partition": String = Some("day"), Check::OneOf(PARTITIONS), from [same("archive.partition")];
    "By what of their timestamps records are divided into files: none, hour, day or month, in UTC."
    "archive.retention.bytes": Long = Some("-1"), Check::Bytes(-1), from [same("archive.retention.bytes")];
    "How large the table may grow before its oldest files are removed, in bytes or with a unit (10GiB). -1 is without \
     bound."
    "archive.retention.ms": Long = Some("-1"), Check::Millis(-1), from [same("archive.retention.ms")];
    "How long records stay in the table, in milliseconds or with a unit (365d). -1 is for ever."
    "archive.serve": Boolean = FALSE, Check::NotBuilt(NO_SERVE), from [same("archive.serve")];
    "Whether consumers are served from the archive what is no longer in the topic."
    "archive.value.format": String = Some("bytes"), Check::Format, from [same("archive.value.format")];
    "What the values of the records are. With bytes they are stored as they are; other formats will make columns of their \
     fields, and are refused by this version."
    "archive.value.schema": String = Some(""), Check::JsonObject, from [same("archive.value.schema")];
    "The schema of values, a JSON object, for formats whose fields become columns."
    "cleanup.policy": List = Some("delete"), Check::ListOf(POLICIES), from [same("log.cleanup.policy")];
    "What happens to old records: 'delete' removes them by retention.ms and retention.bytes, 'compact' \
     keeps the last record of each key, both may be given; an empty list keeps everything."
    "compression.gzip.level": Int = Some("-1"), Check::OneOfOr(-1, 1, 9), from [same("compression.gzip.level")];
    "The level of gzip if compression.type is gzip: 1 to 9, or -1 for the codec's own default."
    "compression.lz4.level": Int = Some("9"), Check::Between(1, 17), from [same("compression.lz4.level")];
    "The level of lz4 if compression.type is lz4: 1 to 17. Weir's lz4 has one level; no effect."
    "compression.type": String = Some("producer"), Check::OneOf(CODECS), from [same("compression.type")];
    "How batches are compressed at rest. 'producer' keeps each as it was sent; with any other, a batch in another \
     codec is compressed anew before it is stored."
    "compression.zstd.level": Int = Some("3"), Check::Between(-131_072, 22), from [same("compression.zstd.level")];
    "The level of zstd if compression.type is zstd: -131072 to 22."
    "delete.retention.ms": Long = Some("86400000"), ZERO_UP, from [same("log.cleaner.delete.retention.ms")];
    "How long a compacted topic keeps the tombstone of a deleted key: a consumer that reads from the \
     start has this long to see it."
    "file.delete.delay.ms": Long = Some("60000"), ZERO_UP, from [same("log.segment.delete.delay.ms")];
    "Kafka's delay before a segment file is removed. Objects here have a grace period of their own; no effect."
    "flush.messages": Long = FOREVER, ONE_UP, from [same("log.flush.interval.messages")];
    "After how many records Kafka calls fsync. Here every acknowledged record is in the store; no effect."
    "flush.ms": Long = FOREVER, ZERO_UP, from [same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")];
    "After how many milliseconds Kafka calls fsync. Here every acknowledged record is in the store; no effect."
    "follower.replication.throttled.replicas": List = Some(""), Check::Replicas;
    "Replicas whose replication is throttled on the receiving side: partition:broker pairs or '*'. The \
     store replicates; no effect."
    "index.interval.bytes": Int = Some("4096"), ZERO_UP, from [same("log.index.interval.bytes")];
    "How often Kafka adds an entry to its offset index. There are no index files; no effect."
    "leader.replication.throttled.replicas": List = Some(""), Check::Replicas;
    "Replicas whose replication is throttled on the sending side: partition:broker pairs or '*'. The \
     store replicates; no effect."
    "local.retention.bytes": Long = Some("-2"), Check::AtLeast(-2), from [same("log.local.retention.bytes")];
    "How much of a tiered partition Kafka keeps on local disks. Nothing is on local disks; no effect."
    "local.retention.ms": Long = Some("-2"), Check::AtLeast(-2), from [same("log.local.retention.ms")];
    "How long Kafka keeps a tiered segment on local disks. Nothing is on local disks; no effect."
    "max.compaction.lag.ms": Long = FOREVER, ONE_UP, from [same("log.cleaner.max.compaction.lag.ms")];
    "How long a record of a compacted topic may stay uncompacted."
    "max.message.bytes": Int = Some("1048588"), ZERO_UP, from [same("message.max.bytes")];
    "The largest record batch, as it is sent (after compression). A larger one is refused."
    "message.timestamp.after.max.ms": Long = Some("3600000"), ZERO_UP, from [same("log.message.timestamp.after.max.ms")];
    "How far a record's timestamp may be ahead of the broker's clock, with CreateTime. A batch with a \
     later one is refused."
    "message.timestamp.before.max.ms": Long = FOREVER, ZERO_UP, from [same("log.message.timestamp.before.max.ms")];
    "How far a record's timestamp may be behind the broker's clock, with CreateTime. A batch with an \
     earlier one is refused."
    "message.timestamp.type": String = Some("CreateTime"), Check::OneOf(TIMES), from [same("log.message.timestamp.type")];
    "Whether a record carries the time its producer gave it (CreateTime) or the time it was appended \
     (LogAppendTime)."
    "min.cleanable.dirty.ratio": Double = Some("0.5"), Check::Ratio, from [same("log.cleaner.min.cleanable.ratio")];
    "Which part of a compacted log must be uncompacted before it is compacted again: 0 to 1."
    "min.compaction.lag.ms": Long = Some("0"), ZERO_UP, from [same("log.cleaner.min.compaction.lag.ms")];
    "How long a record of a compacted topic stays uncompacted at least."
    "min.insync.replicas": Int = Some("1"), ONE_UP, from [same("min.insync.replicas")];
    "How many replicas must have a record before acks=all is answered. The store replicates, and every \
     answer waits for it; no effect."
    "preallocate": Boolean = FALSE, ANY, from [same("log.preallocate")];
    "Whether Kafka reserves the space of a segment file. There are no segment files; no effect."
    "remote.copy.lag.bytes": Long = Some("0"), Check::AtLeast(-1);
    "How many bytes Kafka holds back from the remote tier. Everything is in the store at once; no effect."
    "remote.copy.lag.ms": Long = Some("0"), Check::AtLeast(-1);
    "How long Kafka holds segments back from the remote tier. Everything is in the store at once; no effect."
    "remote.log.copy.disable": Boolean = FALSE, ANY;
    "Whether Kafka stops copying to the remote tier. Everything is in the store at once; no effect."
    "remote.log.delete.on.disable": Boolean = FALSE, ANY;
    "Whether Kafka deletes the remote tier when it is disabled. There is one tier; no effect."
    "remote.storage.enable": Boolean = FALSE, ANY;
    "Whether Kafka tiers the topic to remote storage. Everything is in the store anyway; no effect."
    "retention.bytes": Long = Some("-1"), ANY, from [same("log.retention.bytes")];
    "How large a partition may grow before its oldest records are removed, with cleanup.policy=delete. \
     Negative is without bound."
    "retention.ms": Long = Some("604800000"), Check::AtLeast(-1),
        from [same("log.retention.ms"), minutes("log.retention.minutes"), hours("log.retention.hours")];
    "How long records are kept, with cleanup.policy=delete. -1 is for ever."
    "segment.bytes": Int = Some("1073741824"), Check::AtLeast(1_048_576), from [same("log.segment.bytes")];
    "How long a compacted segment becomes at most; the node's compaction_target may make it shorter. When so much of a \
     partition of a compacted topic is uncompacted, it does not wait for segment.ms."
    "segment.index.bytes": Int = Some("10485760"), Check::AtLeast(4), from [same("log.index.size.max.bytes")];
    "How large an index file of Kafka grows. There are no index files; no effect."
    "segment.jitter.ms": Long = Some("0"), ZERO_UP, from [same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")];
    "By how much Kafka varies segment.ms. Objects here are not rolled by time; no effect."
    "segment.ms": Long = Some("604800000"), ONE_UP, from [same("log.roll.ms"), hours("log.roll.hours")];
    "How much time a compacted segment covers at most, in milliseconds, where records expire. In a compacted topic, how \
     long the oldest uncompacted record waits for compaction; after 10 minutes it does not wait any longer."
    "unclean.leader.election.enable": Boolean = FALSE, ANY, from [same("unclean.leader.election.enable")];
    "Whether a replica that lags may become leader. There are no leaders that could lose data; no effect."
}

definitions! {
    /// The settings of the cluster that clients may change; they hold for all nodes. By name.
    CLUSTER:
    "archive.enable": Boolean = FALSE, ANY;
    "The default of the topic setting of the same name."
    "archive.hint": Boolean = TRUE, ANY;
    "The default of the topic setting of the same name."
    "archive.key.format": String = Some("bytes"), Check::Format;
    "The default of the topic setting of the same name."
    "archive.key.schema": String = Some(""), Check::JsonObject;
    "The default of the topic setting of the same name."
    "archive.lag": Long = Some("1800000"), Check::Millis(0);
    "The default of the topic setting of the same name."
    "archive.partition": String = Some("day"), Check::OneOf(PARTITIONS);
    "The default of the topic setting of the same name."
    "archive.retention.bytes": Long = Some("-1"), Check::Bytes(-1);
    "The default of the topic setting of the same name."
    "archive.retention.ms": Long = Some("-1"), Check::Millis(-1);
    "The default of the topic setting of the same name."
    "archive.serve": Boolean = FALSE, Check::NotBuilt(NO_SERVE);
    "The default of the topic setting of the same name."
    "archive.value.format": String = Some("bytes"), Check::Format;
    "The default of the topic setting of the same name."
    "archive.value.schema": String = Some(""), Check::JsonObject;
    "The default of the topic setting of the same name."
    "auto.create.topics.enable": Boolean = TRUE, ANY;
    "Whether asking for the metadata of a topic that does not exist creates it."
    "compression.gzip.level": Int = Some("-1"), Check::OneOfOr(-1, 1, 9);
    "The default of the topic setting of the same name."
    "compression.lz4.level": Int = Some("9"), Check::Between(1, 17);
    "The default of the topic setting of the same name."
    "compression.type": String = Some("producer"), Check::OneOf(CODECS);
    "The default of the topic setting of the same name."
    "compression.zstd.level": Int = Some("3"), Check::Between(-131_072, 22);
    "The default of the topic setting of the same name."
    "default.replication.factor": Int = Some("1"), Check::Between(1, 32);
    "The replication factor of new topics that ask for none. It is shown for them; the store replicates, as often as it does."
    "group.initial.rebalance.delay.ms": Int = Some("500"), ZERO_UP;
    "How long the first rebalance of an empty group waits for more members; each that comes prolongs it, up to the \
     rebalance timeout."
    "group.max.session.timeout.ms": Int = Some("1800000"), ONE_UP;
    "The longest session timeout that a member of a group may ask for."
    "group.max.size": Int = Some("10000"), ONE_UP;
    "How many members a group may have. More than 10000 are never admitted."
    "group.min.session.timeout.ms": Int = Some("6000"), ONE_UP;
    "The shortest session timeout that a member of a group may ask for."
    "log.cleaner.dedupe.buffer.size": Long = Some("134217728"), Check::AtLeast(1_048_576);
    "How much memory a node uses to compact a log: 32 bytes for each key that occurs in the part to be compacted. \
     If there are more keys than fit, that part is compacted in several goes."
    "log.cleaner.delete.retention.ms": Long = Some("86400000"), ZERO_UP;
    "The default of delete.retention.ms."
    "log.cleaner.max.compaction.lag.ms": Long = FOREVER, ONE_UP;
    "The default of max.compaction.lag.ms."
    "log.cleaner.min.cleanable.ratio": Double = Some("0.5"), Check::Ratio;
    "The default of min.cleanable.dirty.ratio."
    "log.cleaner.min.compaction.lag.ms": Long = Some("0"), ZERO_UP;
    "The default of min.compaction.lag.ms."
    "log.cleanup.policy": List = Some("delete"), Check::ListOf(POLICIES);
    "The default of cleanup.policy."
    "log.flush.interval.messages": Long = FOREVER, ONE_UP;
    "The default of flush.messages."
    "log.flush.interval.ms": Long = None, ZERO_UP, from [same("log.flush.scheduler.interval.ms")];
    "The default of flush.ms."
    "log.flush.scheduler.interval.ms": Long = FOREVER, ANY;
    "How often Kafka looks whether to call fsync. No effect."
    "log.index.interval.bytes": Int = Some("4096"), ZERO_UP;
    "The default of index.interval.bytes."
    "log.index.size.max.bytes": Int = Some("10485760"), Check::AtLeast(4);
    "The default of segment.index.bytes."
    "log.local.retention.bytes": Long = Some("-2"), Check::AtLeast(-2);
    "The default of local.retention.bytes."
    "log.local.retention.ms": Long = Some("-2"), Check::AtLeast(-2);
    "The default of local.retention.ms."
    "log.message.timestamp.after.max.ms": Long = Some("3600000"), ZERO_UP;
    "The default of message.timestamp.after.max.ms."
    "log.message.timestamp.before.max.ms": Long = FOREVER, ZERO_UP;
    "The default of message.timestamp.before.max.ms."
    "log.message.timestamp.type": String = Some("CreateTime"), Check::OneOf(TIMES);
    "The default of message.timestamp.type."
    "log.preallocate": Boolean = FALSE, ANY;
    "The default of preallocate."
    "log.retention.bytes": Long = Some("-1"), ANY;
    "The default of retention.bytes."
    "log.retention.hours": Int = Some("168"), ANY;
    "The default of retention.ms, in hours; log.retention.minutes and log.retention.ms count before it."
    "log.retention.minutes": Int = None, ANY, from [Fallback { name: "log.retention.hours", factor: 60 }];
    "The default of retention.ms, in minutes; log.retention.ms counts before it."
    "log.retention.ms": Long = None, ANY, from [minutes("log.retention.minutes"), hours("log.retention.hours")];
    "The default of retention.ms."
    "log.roll.hours": Int = Some("168"), ONE_UP;
    "The default of segment.ms, in hours; log.roll.ms counts before it."
    "log.roll.jitter.hours": Int = Some("0"), ZERO_UP;
    "The default of segment.jitter.ms, in hours; log.roll.jitter.ms counts before it."
    "log.roll.jitter.ms": Long = None, ZERO_UP, from [hours("log.roll.jitter.hours")];
    "The default of segment.jitter.ms."
    "log.roll.ms": Long = None, ONE_UP, from [hours("log.roll.hours")];
    "The default of segment.ms."
    "log.segment.bytes": Int = Some("1073741824"), Check::AtLeast(1_048_576);
    "The default of segment.bytes."
    "log.segment.delete.delay.ms": Long = Some("60000"), ZERO_UP;
    "The default of file.delete.delay.ms."
    "message.max.bytes": Int = Some("1048588"), ZERO_UP;
    "The default of max.message.bytes."
    "min.insync.replicas": Int = Some("1"), ONE_UP;
    "The default of the topic setting of the same name."
    "num.partitions": Int = Some("1"), ONE_UP;
    "How many partitions a new topic has that does not ask for a number."
    "offset.metadata.max.bytes": Int = Some("4096"), ZERO_UP;
    "The longest text that may be committed with an offset, in characters (as Kafka counts, whatever the name says). \
     More than 32767 bytes are never kept."
    "offsets.retention.minutes": Int = Some("10080"), ONE_UP;
    "How long the offsets of a group are kept after its last member has left; of a group that never had members, after \
     their commit."
    "unclean.leader.election.enable": Boolean = FALSE, ANY;
    "The default of the topic setting of the same name."
}

definitions! {
    /// The settings of a node that clients may read and not change. Where the default is `None` the value
    /// comes from the node's own settings. By name.
    NODE:
    "advertised.listeners": String = None, ANY;
    "What clients are told to connect to (the node's setting 'advertise')."
    "broker.id": Int = None, ANY;
    "The node's number, handed out when it registers."
    "broker.rack": String = None, ANY;
    "Where the node is (the node's setting 'rack')."
    "connections.max.idle.ms": Long = None, ANY;
    "How long a connection may say nothing before it is closed (the node's setting 'idle_timeout')."
    "delete.topic.enable": Boolean = TRUE, ANY;
    "Whether topics can be deleted."
    "fetch.max.bytes": Int = None, ANY;
    "The most bytes of records in the answer to one fetch (the node's setting 'fetch_max_bytes')."
    "listeners": String = None, ANY;
    "Where the node listens (the node's settings 'kafka' and 'http')."
    "log.dirs": String = None, ANY;
    "The store (the node's setting 'store')."
    "max.connections": Int = None, ANY;
    "How many connections of clients may be open (the node's setting 'max_connections')."
    "max.connections.per.ip": Int = None, ANY;
    "How many connections may be open from one address (the node's setting 'max_connections_per_ip')."
    "node.id": Int = None, ANY;
    "The node's number, handed out when it registers."
    "socket.request.max.bytes": Int = None, ANY;
    "The largest request (the node's setting 'max_request_size')."
}

/// The settings of the cluster that decide what becomes of records and committed offsets that are stored, whichever
/// node does it.
pub(super) const OF_RECORDS: [&str; 24] = [
    "archive.enable",
    "archive.hint",
    "archive.key.format",
    "archive.key.schema",
    "archive.lag",
    "archive.partition",
    "archive.retention.bytes",
    "archive.retention.ms",
    "archive.serve",
    "archive.value.format",
    "archive.value.schema",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleanup.policy",
    "log.retention.bytes",
    "log.retention.hours",
    "log.retention.minutes",
    "log.retention.ms",
    "log.roll.hours",
    "log.roll.ms",
    "log.segment.bytes",
    "offsets.retention.minutes",
];

/// Whether a setting of the cluster decides what becomes of records or committed offsets.
pub(super) fn is_of_records(name: &str) -> bool {
    OF_RECORDS.contains(&name)
}

/// The definition named `name` in a table that is ordered by name.
pub(super) fn find(table: &'static [Definition], name: &str) -> Option<&'static Definition> {
    let at = table.binary_search_by(|d| d.name.cmp(name)).ok()?;
    table.get(at)
}
