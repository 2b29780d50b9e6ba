//! The operations of a message broker, independent of any protocol. The front ends' only door down.
//!
//! One file per capability. Each takes the [`Session`] of the client and asks the gate (`access.rs`), which gives the
//! permit without which the work cannot be done; each answers with its own error, which a front end turns into codes of
//! its wire in one file.
//! This room knows neither Kafka's nor AMQP's requests; it knows record batches, which are the form in
//! which records are stored.
//!
//! # Futures that are dropped, nodes that die
//!
//! An operation that changes something hands ops to the commit loop and awaits their outcome. Dropping the
//! future abandons the change, too, unless a commit has left already: then it may still come about, as when
//! a response is lost on the way to the client, and clients have the same means against it (idempotent
//! producers, generations, absolute offsets). Whatever comes about so late undoes nothing that was acknowledged
//! meanwhile: `asked.rs`. Nothing here is remembered that the state does not hold, but for
//! hints (who was heard from lately, which producer ids of a block are left), so a node that dies takes
//! nothing with it.
//!
//! # Time
//!
//! Every operation is bounded in time by the client's own timeout or by [`BrokerOptions::request_timeout`];
//! when it is over the client is told to try again, and nothing more is sent for it.

mod access;
mod asked;
mod catalog;
mod cluster;
mod configs;
mod confirm;
mod error;
mod fetch;
mod groups;
mod lease;
mod level;
mod login;
mod logs;
mod offsets_topic;
mod partition_offsets;
mod produce;
mod producers;
mod reachability;
mod readings;
mod record_rules;
mod resolve;
mod session;
mod sizes;
mod snapshot;
mod tables;
mod topic_error;
mod topics;
mod users;

#[cfg(test)]
mod tests;

pub use access::{Action, ByRules, Decisions, Denied, Policy, Resource, may_everyone};
pub use asked::Arrival;
pub use catalog::{
    ArchivedFile, BadToken, CatalogOptions, FileError, FileGrant, GrantError, ListedFile, Listing,
    LoadTableError, LoadedTable, MAX_READ, Vended, VendedAccess,
};
pub use cluster::{ClusterView, NodeView};
pub use configs::ConfigResource;
pub use confirm::MAX_STALENESS;
// The front ends' only door down is this room.
pub use crate::dynamic_config::{
    CleanupPolicy, ClusterConfig, Compression, ConfigEdit, ConfigEntry, ConfigSource, ConfigType,
    DynamicConfigError, GroupConfig, ListenerAddresses, NodeProperties, TopicConfig,
};
pub use error::{Origin, PartitionNotFound, TopicNotFound, Unavailable};
pub use fetch::{FetchError, FetchLimits, FetchPartition, FetchedPartition, ReadBudget, Unbounded};
pub use groups::{
    CommitOffset, CommittedOffset, GroupDescription, GroupListing, GroupOpError, Identity,
    JoinRequest, Joined, JoinedMember, LeavingMember, MemberDescription, SyncRequest, Synced,
};
pub use lease::{Endpoints, Presence};
pub use level::RaiseLevelError;
pub use login::{LoggedIn, LoginError, ScramLogin, Secret, UnfitPassword};
pub use logs::{Home, Logs};
pub use partition_offsets::{DeleteRecordsError, FoundOffset, ListOffsetsError, OffsetSpec};
pub use produce::{ProduceError, ProducePartition, Produced, Producing};
pub use producers::NewProducerError;
pub use reachability::{Look, Neighbour};
pub use readings::Readings;
pub use record_rules::{RecordRefusal, RefusedRecord};
pub use session::Session;
pub use sizes::{SizesError, TopicSizes, WantedSizes};
pub use snapshot::{Snapshot, TopicArchive};
pub use tables::DropTableError;
pub use topic_error::{InvalidRequest, TopicError};
pub use topics::{
    KnownSize, MAX_CREATED, MAX_REPLICAS, MorePartitions, NewTopic, TopicRef, TopicView,
};

pub use users::{AlterPassword, UsersError};

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use uuid::Uuid;

use tokio::time::Instant;

use asked::Asking;

use crate::env::Env;
use crate::fetch::Reader;
use crate::ingest::Ingest;
use crate::manifest::Committed;
use crate::state::State;
use crate::state::op::Op;
use crate::store::Store;
use crate::types::{Incarnation, PeerKey};

/// A client that waits for less time than this gets as much all the same: a commit takes its time.
const MIN_LIMIT: Duration = Duration::from_secs(1);

/// A node's broker. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

/// How a broker behaves.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// How long an operation may take whose request brings no timeout of its own. Less than the 30 s after which
    /// most clients give a request up: an error that says "try again" tells them more than silence.
    pub request_timeout: Duration,
    /// How long a node that serves clients counts as alive after its last commit.
    pub node_lease: Duration,
    /// How many partitions the cluster may have for this node to create more.
    pub max_partitions: u64,
    /// Who may do what.
    pub policy: Arc<dyn Policy>,
    /// How the catalog of tables behaves.
    pub catalog: CatalogOptions,
}

impl Default for BrokerOptions {
    fn default() -> BrokerOptions {
        BrokerOptions {
            request_timeout: Duration::from_secs(20),
            node_lease: Duration::from_secs(5),
            max_partitions: 200_000,
            policy: Arc::new(ByRules),
            catalog: CatalogOptions::default(),
        }
    }
}

/// What a broker is made of.
pub struct BrokerParts {
    /// The logs and their folds.
    pub logs: Logs,
    /// The write path.
    pub ingest: Arc<Ingest>,
    /// The read path.
    pub reader: Reader,
    /// The bucket, for the metadata of tables.
    pub store: Store,
    /// Clocks and randomness.
    pub env: Env,
    /// Which incarnation of a node this is.
    pub incarnation: Incarnation,
    /// The cluster's id.
    pub cluster_id: Uuid,
    /// With what its peers show that they read the same bucket, if it speaks to any.
    pub peer_key: Option<PeerKey>,
    /// How it behaves.
    pub settings: BrokerOptions,
}

struct Inner {
    logs: Logs,
    ingest: Arc<Ingest>,
    reader: Reader,
    store: Store,
    env: Env,
    incarnation: Incarnation,
    cluster_id: Uuid,
    peer_key: Option<PeerKey>,
    settings: BrokerOptions,
    presence: lease::Registration,
    producer_ids: producers::Block,
    topic_configs: resolve::TopicConfigCache,
    /// Partitions that are being created by requests of this node.
    promised: Mutex<u64>,
    groups: groups::Groups,
    logins: login::Logins,
    catalog: catalog::Catalog,
    /// What this node says of itself, once it listens.
    properties: OnceLock<NodeProperties>,
}

impl Broker {
    /// A broker of these parts. It is not registered yet: see [`Broker::register`].
    pub fn new(parts: BrokerParts) -> Broker {
        let BrokerParts {
            logs,
            ingest,
            reader,
            store,
            env,
            incarnation,
            cluster_id,
            peer_key,
            settings,
        } = parts;
        let groups = groups::Groups::new(groups::Parts {
            logs: logs.clone(),
            env: env.clone(),
            incarnation,
            timeout: settings.request_timeout,
        });
        let logins = login::Logins::new(&env);
        let inner = Inner {
            logs,
            ingest,
            reader,
            store,
            env,
            incarnation,
            cluster_id,
            peer_key,
            settings,
            presence: lease::Registration::default(),
            producer_ids: producers::Block::default(),
            topic_configs: resolve::TopicConfigCache::default(),
            promised: Mutex::new(0),
            groups,
            logins,
            catalog: catalog::Catalog::default(),
            properties: OnceLock::new(),
        };
        Broker {
            inner: Arc::new(inner),
        }
    }

    /// Sets what this node says of its own settings; once, when it listens and before it registers.
    pub fn describe_self(&self, properties: NodeProperties) {
        // Whoever comes second says the same.
        let _ = self.inner.properties.set(properties);
    }

    /// A state of that log that contains every commit acknowledged anywhere before the call.
    async fn fresh(&self, home: Home<'_>) -> Result<Arc<State>, Unavailable> {
        self.fresh_by(home, Instant::now()).await
    }

    /// The same for a call that has time until `due`.
    async fn fresh_by(&self, home: Home<'_>, due: Instant) -> Result<Arc<State>, Unavailable> {
        let fresh = self.inner.logs.of(home).fresh_by(due);
        let timeout = due.max(Instant::now()) + self.inner.settings.request_timeout;
        match tokio::time::timeout_at(timeout, fresh).await {
            Ok(state) => Ok(state?),
            Err(_) => Err(Unavailable::TimedOut),
        }
    }

    /// The moment at which a request arrives.
    pub fn arrival(&self) -> Arrival {
        Arrival::now(&self.inner.logs)
    }

    /// A change that a client asks for, to be judged by a state that contains every commit acknowledged anywhere before
    /// the call.
    async fn asks<'a>(
        &'a self,
        session: &Session,
        home: Home<'a>,
    ) -> Result<Asking<'a>, Unavailable> {
        let arrival = session.arrival.unwrap_or_else(|| self.arrival());
        self.inner.groups.check_not_resumed()?;
        let state = self.fresh(home).await?;
        Ok(self.asks_in(session, home, arrival, state))
    }

    /// The same, to be judged by `state`.
    fn asks_in<'a>(
        &'a self,
        session: &Session,
        home: Home<'a>,
        arrival: Arrival,
        state: Arc<State>,
    ) -> Asking<'a> {
        let Inner { logs, settings, .. } = &*self.inner;
        let limit = session.limit.unwrap_or(settings.request_timeout);
        let limit = limit.clamp(MIN_LIMIT, settings.request_timeout);
        Asking::new((logs, home), arrival, limit, state)
    }

    /// Commits ops of this node's own and waits for their outcomes.
    async fn commit(&self, home: Home<'_>, ops: Vec<Op>) -> Result<Committed, Unavailable> {
        let commit = self.inner.logs.of(home).commit(ops);
        match tokio::time::timeout(self.inner.settings.request_timeout, commit).await {
            Ok(committed) => Ok(committed?),
            Err(_) => Err(Unavailable::TimedOut),
        }
    }
}
