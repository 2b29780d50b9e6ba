//! Weir: a persistent message queue whose only durable part is a bucket.
//!
//! Every durable change is an *op* in one totally ordered log, the *manifest*, kept as numbered objects in the
//! bucket. The *state* of the cluster (topics, offsets, producers, groups, nodes) is a pure fold of that log, and
//! every node folds the same log to the same state. Record batches lie in the commits themselves or in immutable
//! *segments* that ops point to. There is no leader, no database and no traffic between nodes that anything depends on.
//! All that Weir needs of the store is: *create this object if it does not exist*.
//!
//! # The rooms
//!
//! A room uses only rooms further down, and none in its own row; `tests/layers.rs` has the rows and holds the
//! rule. To read the whole, begin at the bottom.
//!
//! | room | what it is |
//! |---|---|
//! | [`cli`] | the command line: one file per command; nothing else prints |
//! | [`server`] | `weir serve`: a node and its front ends, built, wired, run and shut down |
//! | [`embedded`] | the library: a program that produces and consumes with a node inside it and no server at all |
//! | [`fuzz`] | hostile bytes for everything that reads bytes; compiled for tests and fuzzers only |
//! | [`kafka`], [`http`] | the wire front ends: Kafka's protocol; health, metrics, the catalog of tables and their files |
//! | [`net`] | listeners, frames, and how much memory connections may hold |
//! | [`peer`] | what nodes say to each other, to race less; nothing depends on it |
//! | [`query`] | SQL over topics: parses, plans, reads by the broker, bounds what queries take; writes answers in several forms |
//! | [`node`] | a node without front ends: everything below, wired and running |
//! | [`broker`] | the operations of a broker, whatever the protocol; the front ends' only door down |
//! | [`maintain`] | work beside the traffic, on any node, without a leader: retention, compaction, deletion; `fsck`, what takes how much space |
//! | [`ingest`] | the write path: the buffer, and whether bytes travel in the commit or in segments |
//! | [`fetch`] | the read path: blocks of objects, cached; batches with their real offsets |
//! | [`manifest`] | the log: the one task that commits, follows and folds; snapshots; starting |
//! | [`store`] | the bucket: create-if-absent, reads, retries, credentials, and the check of its promises |
//! | [`invariants`] | what must always hold, I1 to I13: one predicate each, for the tests, the simulator and `fsck` |
//! | [`table`] | tables of archived topics: columns, records as rows, Parquet, Iceberg's manifests and metadata; bytes in, bytes out |
//! | [`state`] | the fold and its ops. Pure: no clock, no randomness, no I/O, no async |
//! | [`dynamic_config`] | the configuration of topics, groups and the cluster, which clients change: definitions, checks, what is in force. Pure |
//! | [`segment`] | record batches and the objects that hold them: bytes in, bytes out; just as pure |
//! | [`format`](mod@format) | the frame around every durable object: magic, version, checksums |
//! | [`config`], [`env`](mod@env), [`telemetry`], [`cost`] | the settings of a node; clocks and randomness; logs and metrics; what a workload costs |
//! | [`types`] | offsets, seqs, ids: newtypes for what must not be mixed up |
//!
//! And three that are seen from inside only: `sim`, at the very top, is the whole of this as a simulation, for tests;
//! `testing` has the test doubles that several rooms share; `rules`, at the very bottom, names the rules that protect
//! data, each one condition in the code that tests can break.
//!
//! # One produce
//!
//! 1. [`kafka::KafkaFrontEnd`] takes the connection. [`net::FrameReader`] reads one frame, after the node's
//!    [`net::MemoryBudget`] has space for it. The guard walks the bytes before the codec may believe any length
//!    in them; the handler turns the request into [`broker::ProducePartition`]s.
//! 2. [`Broker::begin_produce`](broker::Broker::begin_produce) finds the topics in the state. It opens each batch
//!    with [`segment::validate`], which checks checksum, counts and records, and changes nothing. Then it hands
//!    the batches to the write path, and waits there if the buffer is full: this is how backpressure reaches the
//!    socket.
//! 3. [`Ingest::append`](ingest::Ingest::append) admits them and wakes the manifest. The bytes that wait have no
//!    offsets yet.
//! 4. [`Tail::run`](manifest::Tail::run), the one task that owns the log, is free: it *takes* what is ready
//!    ([`CommitSource::take`](manifest::CommitSource::take)). A little becomes an inline append; much has been cut
//!    into segments, which were uploaded side by side meanwhile.
//! 5. It puts one commit at `seq + 1` with [`Store::create`](store::Store::create). Created: it is in the log.
//!    Exists: another node was faster; its commit is read and folded, and the same ops try the next seq. Unknown:
//!    the object is read, and its commit id tells whose it is. The next commits are on their way behind it meanwhile;
//!    each is void if the one before it is not in the log. A node that lost a race forwards its commits to the one
//!    that wins, which stores them with its own, and learns from the log what became of them.
//! 6. [`State::apply`](state::State::apply) folds the commit. Only now does a batch get its offset, a retry its
//!    original one, and a fenced producer its error. The bytes are in the cache before the state is published.
//! 7. Each waiter is handed the outcome of its own op, and the answer goes out in the order of the requests.
//!
//! # One fetch
//!
//! 1. The Fetch arrives as above. [`Broker::fetch_within`](broker::Broker::fetch_within) reserves memory
//!    for what it will read.
//! 2. It takes the node's present state, which is a few pointers and never changes under it, and asks
//!    [`Reader::read`](fetch::Reader::read) for batches from the offset on. The partition's slices say which
//!    bytes of which objects those are; [`fetch::Blocks`] has them cached, or loads each block once for all who
//!    wait.
//!    For a compacted slice an index says where to begin.
//! 3. Each batch is checked against its CRC, and [`segment::patch`] writes its real offset into the copy. Nothing
//!    else of it is touched.
//! 4. Too little? [`Manifest::fresh`](manifest::Manifest::fresh) asks the store once whether other nodes have
//!    committed. Still too little: the fetch holds a [`manifest::Following`], with which the node looks for commits on
//!    one timer for all fetches, and sleeps until the state changes or its time is over.
//! 5. Records are returned if the state is known to have been the newest within the last second; otherwise the store is
//!    asked first.
//! 6. The answer is sent as pieces; the records are not copied again.

#![forbid(unsafe_code)] // nothing here has been measured to need it

pub mod broker;
pub mod cli;
pub mod config;
pub mod cost;
pub mod dynamic_config;
pub mod embedded;
pub mod env;
pub mod fetch;
pub mod format;
#[cfg(any(test, doc, feature = "fuzzing"))]
pub mod fuzz;
pub mod http;
pub mod ingest;
pub mod invariants;
pub mod kafka;
pub mod maintain;
pub mod manifest;
pub mod net;
pub mod node;
pub mod peer;
pub mod query;
mod rules;
pub mod segment;
pub mod server;
#[cfg(test)]
mod sim;
pub mod state;
pub mod store;
pub mod table;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod types;
