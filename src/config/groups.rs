//! The settings. The documentation of a field is its help text and its line in `docs/settings.md`.

use std::time::Duration;

use super::setting::settings;
use super::{Advertise, CatalogAccess, KafkaListeners, ListenAddress, LogFormat};
use crate::types::ByteCount;

settings! {
    #[title = "Store"]
    /// Where everything durable is, and how requests to it are made.
    pub struct StoreConfig {
        /// Where everything durable is: `file://./path`, `file:///path`, `memory://`, `s3://bucket/prefix`,
        /// `gs://bucket/prefix` or `az://container/prefix`. Credentials come from where the cloud's own tools find
        /// them; they are never part of the URL.
        store: String = "file://./weir-data",
        /// How long connecting to the store may take.
        store_connect_timeout: Duration = "5s",
        /// How long one attempt of a request to the store may take, from sending it to the last byte of the
        /// answer.
        store_request_timeout: Duration = "30s",
        /// How long one attempt of a request about the log may take, with two seconds more for each MiB. Clients
        /// wait for these, and they can be made again without harm. If one takes longer, the next has twice the
        /// time, but never more than `store_request_timeout`.
        store_log_timeout: Duration = "5s",
        /// How long a request to the store is retried before it counts as failed. Pauses between attempts
        /// grow up to three seconds.
        store_retry_deadline: Duration = "3min",
        /// How many requests to the store may be under way at once. A quarter is kept for the manifest.
        store_max_requests: u32 = "64",
    }
}

settings! {
    #[title = "Logging"]
    /// What is logged, and how. The log goes to stderr.
    pub struct LogConfig {
        /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or by module, such as
        /// `info,weir::manifest=debug`. If it is not set, `serve` logs at `info` and all other commands at `warn`.
        log: Option<String> = "",
        /// How log lines are written: `text` for people, `json` for machines.
        log_format: LogFormat = "text",
    }
}

settings! {
    #[title = "Node"]
    /// How a node writes, reads and lives.
    pub struct NodeConfig {
        /// Where the node is, so that clients may prefer what is near (Kafka's `broker.rack`).
        rack: Option<String> = "",
        /// The minimum time between two commits of this node: more means higher latency and fewer PUT requests. A
        /// message after a pause is committed at once in any case. If it is not set it depends on the store: 0 for file
        /// and memory, more for a bucket.
        commit_interval: Option<Duration> = "",
        /// How many commits of this node may be on their way to the store at once, while no other node commits: a
        /// message then waits for its own PUT only, and not for the one before it.
        commits_in_flight: u32 = "4",
        /// Whether nodes forward commits to the node that wins the race for the log, and tell each other of new ones,
        /// over their HTTP addresses (`--advertise http=HOST:PORT` if it is not the one listened on), so that several
        /// nodes that write do not wait for each other. Nothing depends on it. Their messages are authenticated with
        /// keys from the bucket, but not encrypted.
        peer_traffic: bool = "on",
        /// How often the node looks for other nodes' commits while consumers wait. If it is not set it depends on
        /// the store. Requests that must be fresh look by themselves.
        follow_interval: Option<Duration> = "",
        /// How long after its last sign of life a node counts as alive. When it lapses, other nodes take over or expire
        /// the members of consumer groups that it looked after.
        node_lease: Duration = "5s",
        /// How many partitions all topics together may have. Requests for more are refused by this node; those
        /// that exist stay. Every node holds all of them in memory.
        max_partitions: u32 = "200000",
        /// How many bytes of messages may wait for their commit. When it is full the node stops reading from
        /// producers.
        ingest_buffer: ByteCount = "64MiB",
        /// Up to how many bytes of messages are stored inside a commit; more go to segments.
        inline_limit: ByteCount = "512KiB",
        /// How large a segment grows before the next is begun.
        segment_size: ByteCount = "8MiB",
        /// How many segments are uploaded at once.
        upload_parallelism: u32 = "8",
        /// How many bytes of messages are kept in memory for consumers.
        cache: ByteCount = "256MiB",
        /// The most bytes of messages in the answer to one fetch, whatever the client asks for.
        fetch_max_bytes: ByteCount = "55MiB",
        /// The catalog of the tables of archived topics, at `/iceberg` of the HTTP address, and how engines that ask it
        /// for credentials come to the files: `proxy` (the node serves them, in S3's protocol), `sts` (credentials of
        /// the store, for a while and for one table; only for `s3://`), `none` (engines need their own). `off` means
        /// that there is no catalog.
        catalog: CatalogAccess = "proxy",
        /// The role that the node assumes to give such credentials to engines, as its ARN. Needed for `catalog=sts`.
        catalog_role: Option<String> = "",
        /// For how long credentials and logins that the catalog gives out are good.
        catalog_lifetime: Duration = "1h",
        /// The highest level of the log that this node takes part in, as if its software were older: for tests of
        /// upgrades. If it is not set it is the newest that the software knows.
        max_level: Option<u32> = "",
    }
}

settings! {
    #[title = "Listening"]
    /// Where a node listens, which addresses it gives to clients, and what it accepts from them.
    pub struct ListenConfig {
        /// Where Kafka clients connect: `HOST:PORT` or `SECURITY://HOST:PORT`, several with commas between them, each
        /// of another of Kafka's security protocols: `plaintext`, `sasl_plaintext` (clients log in with PLAIN,
        /// SCRAM-SHA-256 or SCRAM-SHA-512), `ssl` (TLS), `sasl_ssl` (both).
        kafka: KafkaListeners = "127.0.0.1:9092",
        /// Where AMQP clients connect. The AMQP front end is not in this version: nothing listens.
        amqp: ListenAddress = "127.0.0.1:5672",
        /// Where `/healthz`, `/readyz`, `/metrics` and the catalog of archived topics are.
        http: ListenAddress = "127.0.0.1:8080",
        /// The address that clients are told to connect to, where it differs from the one listened on: the node's own
        /// or a load balancer's. Per front end: `kafka=HOST:PORT,http=HOST:PORT`; `kafka-sasl=HOST:PORT`, `kafka-ssl`
        /// and `kafka-sasl-ssl` are of the listeners with another security protocol, which otherwise are told with the
        /// host of `kafka` and their own port. Needed when a front end listens on all addresses (0.0.0.0).
        advertise: Option<Advertise> = "",
        /// How many connections of clients may be open. More are closed at once. Fewer where the limit of open
        /// files of the process does not allow as many.
        max_connections: u32 = "8192",
        /// How many of them may come from one address.
        max_connections_per_ip: u32 = "8192",
        /// How many connections to the HTTP front end may be open, half of them from one address. More are closed at
        /// once. Those of other nodes do not count.
        max_http_connections: u32 = "64",
        /// How many connections of other nodes may be open. Each node that is not winning races has up to five to the
        /// one that is. Fewer where the limit of open files of the process does not allow as many.
        max_peer_connections: u32 = "2048",
        /// A file with the certificate of the node and those between it and the authority that clients trust, in PEM.
        /// Needed for `ssl` and `sasl_ssl`. It is read again when it changes.
        tls_cert: Option<String> = "",
        /// A file with the key of the certificate, in PEM.
        tls_key: Option<String> = "",
        /// For how long a login with SASL holds; then the client has to log in again on its connection, as clients of
        /// Kafka do by themselves, or it is closed (Kafka's `connections.max.reauth.ms`). If it is not set it holds as
        /// long as the connection.
        max_login: Option<Duration> = "",
        /// How long a connection may be idle before it is closed.
        idle_timeout: Duration = "10min",
        /// The largest request. A larger one closes its connection.
        max_request_size: ByteCount = "100MiB",
        /// How many bytes of requests and answers may be in memory. When it is full the node stops reading
        /// from clients.
        request_memory: ByteCount = "256MiB",
        /// How long a node that is told to stop goes on answering what it has begun.
        shutdown_grace: Duration = "10s",
    }
}

settings! {
    #[title = "Background work"]
    /// What nodes do about old data: expire, compact, delete.
    pub struct MaintenanceConfig {
        /// Whether this node does background work: retention, compaction, deletion. `off` on a node leaves it to the
        /// others; if it is off on all nodes, nothing is ever deleted.
        background_work: bool = "on",
        /// How often the node checks for such work. The check makes no request to the store.
        maintenance_interval: Duration = "10s",
        /// How long an object stays in the store after the last record in it was deleted or compacted elsewhere. Longer
        /// than any read of it takes.
        deletion_grace: Duration = "15min",
        /// How often segments that nothing refers to are looked for: one listing of the bucket.
        sweep_interval: Duration = "1h",
        /// How old a segment that nothing refers to must be to count as an orphan. A commit with an older one is
        /// refused, so an upload and its commit must not take longer.
        sweep_age: Duration = "3h",
        /// The target size of a compacted slice, if the partition has that much data. A topic's `segment.bytes` makes
        /// it shorter.
        compaction_target: ByteCount = "256MiB",
        /// Messages younger than this are not compacted: consumers read them from the cache.
        compaction_min_age: Duration = "1min",
        /// Messages older than this are compacted even if there are few, unless they are about to expire.
        compaction_max_wait: Duration = "30min",
        /// While the cluster has more slices than this, compaction does not wait.
        compaction_state_slices: u32 = "65536",
        /// How many bytes per second this node reads, and writes, for compaction. 0 means no limit.
        compaction_bandwidth: ByteCount = "64MiB",
    }
}

settings! {
    #[title = "Queries"]
    /// What queries (SQL) may take.
    pub struct QueryConfig {
        /// How many bytes of memory all queries of the node together may take for what they read, sort, group and join.
        /// A query that needs more than is left fails; nothing is written to disk.
        query_memory: ByteCount = "256MiB",
        /// How long a query may take, until its client has all of the answer.
        query_timeout: Duration = "5min",
        /// How many queries may run at once. More are refused.
        max_queries: u32 = "4",
    }
}
