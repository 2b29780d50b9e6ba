//! Groups across nodes that share a memory store, in one process, on simulated time.

mod chaos;
mod committed_offsets;
mod rebalance;
mod refusals;
mod settings;
mod times;

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::broker::{
    BrokerOptions, BrokerParts, ConfigEdit, ConfigResource, Endpoints, Logs, NewTopic, Presence,
    TopicError,
};
use crate::env::Env;
use crate::fetch::{Blocks, CacheOptions, FetchMetrics, Reader};
use crate::ingest::{Ingest, IngestMetrics, IngestOptions};
use crate::manifest::{self, ManifestMetrics, ManifestOptions};
use crate::store::Store;
use crate::types::{Incarnation, LogId, PartitionIndex};

const START: Timestamp = Timestamp(1_700_000_000_000);
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);
const GROUP: &str = "g";

/// A node whose process can be killed.
struct TestNode {
    broker: Broker,
    tasks: Vec<JoinHandle<()>>,
}

async fn node(store: &Store, seed: u64) -> TestNode {
    let env = Env::simulated(seed, START);
    let incarnation = Incarnation(env.random_uuid());
    let (manifest, tail, cluster) = manifest::open(
        store.clone(),
        env.clone(),
        ManifestOptions::default(),
        ManifestMetrics::default(),
        Arc::new(|_, _| {}),
        incarnation,
    )
    .await
    .unwrap();
    let blocks = Blocks::new(
        store.clone(),
        LogId::ZERO,
        &CacheOptions::default(),
        FetchMetrics::default(),
    );
    let ingest = Ingest::new(
        manifest.clone(),
        store.clone(),
        env.clone(),
        IngestOptions::default(),
        IngestMetrics::default(),
        Arc::new(|_, parts| Box::pin(async move { parts })),
    );
    let broker = Broker::new(BrokerParts {
        peer_key: None,
        logs: Logs::one(manifest),
        ingest,
        reader: Reader::new(blocks),
        store: store.clone(),
        env,
        incarnation,
        cluster_id: cluster.cluster_id,
        settings: BrokerOptions::default(),
    });
    let (lease, reaper) = (broker.clone(), broker.clone());
    let tasks = vec![
        tokio::spawn(async move {
            let _ = tail.run(CancellationToken::new()).await;
        }),
        tokio::spawn(async move { lease.keep_lease(CancellationToken::new()).await }),
        tokio::spawn(async move { reaper.reap_groups(CancellationToken::new()).await }),
    ];
    broker.register(Endpoints::new(), None).await.unwrap();
    TestNode { broker, tasks }
}

impl TestNode {
    fn kill(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Sets settings of the cluster.
async fn set(node: &TestNode, settings: &[(&str, &str)]) -> Result<(), TopicError> {
    set_for(ConfigResource::Cluster, node, settings).await
}

/// The same for whom it says.
async fn set_for(
    whom: ConfigResource,
    node: &TestNode,
    settings: &[(&str, &str)],
) -> Result<(), TopicError> {
    let edit =
        |(name, value): &(&str, &str)| ((*name).to_owned(), ConfigEdit::Set((*value).to_owned()));
    let edits = settings.iter().map(edit).collect();
    let session = Session::internal("admin");
    node.broker
        .alter_configs(&session, &whom, edits, false)
        .await
}

fn group() -> GroupId {
    GroupId::new(GROUP).unwrap()
}

/// A client of a group, which talks to one node at a time.
struct Client {
    broker: Broker,
    _presence: Presence,
    session: Session,
    instance: Option<String>,
    member: Option<MemberId>,
    generation: Generation,
}

impl Client {
    fn of(node: &TestNode, name: &str) -> Client {
        Client {
            broker: node.broker.clone(),
            _presence: node.broker.client_arrived(),
            session: Session::internal(name),
            instance: None,
            member: None,
            generation: Generation::NONE,
        }
    }

    fn of_instance(node: &TestNode, name: &str) -> Client {
        Client {
            instance: Some(name.into()),
            ..Client::of(node, name)
        }
    }

    fn move_to(&mut self, node: &TestNode) {
        self.broker = node.broker.clone();
        self._presence = node.broker.client_arrived();
    }

    fn request(&self) -> JoinRequest {
        JoinRequest {
            group: group(),
            member: self.member.clone(),
            instance: self.instance.clone(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::from_static(b"m"))],
            require_known_member: true,
            supports_skip_assignment: true,
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            group: group(),
            member: self.member.clone().unwrap_or(MemberId::from("")),
            instance: self.instance.clone(),
            generation: self.generation,
        }
    }

    /// Joins as clients do: once more with the id that it is given.
    async fn join(&mut self) -> Result<Joined, GroupOpError> {
        let mut joined = self.broker.join_group(&self.session, self.request()).await;
        if let Err(GroupOpError::MemberIdRequired(id)) = joined {
            self.member = Some(id);
            joined = self.broker.join_group(&self.session, self.request()).await;
        }
        let joined = joined?;
        self.member = Some(joined.member.clone());
        self.generation = joined.generation;
        Ok(joined)
    }

    /// Syncs; the leader deals `partitions` out.
    async fn sync(&mut self, joined: &Joined, partitions: u8) -> Result<Vec<u8>, GroupOpError> {
        let mut assignments = Vec::new();
        if joined.leader == joined.member && !joined.skip_assignment {
            let members = joined.members.iter().map(|m| m.member.clone());
            let mut hands: Vec<(MemberId, Vec<u8>)> = members.map(|m| (m, Vec::new())).collect();
            let count = hands.len();
            (0..partitions).for_each(|p| hands[usize::from(p) % count].1.push(p));
            assignments = hands
                .into_iter()
                .map(|(m, hand)| (m, Bytes::from(hand)))
                .collect();
        }
        let request = SyncRequest {
            identity: self.identity(),
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignments,
        };
        let synced = self.broker.sync_group(&self.session, request).await?;
        Ok(synced.assignment.to_vec())
    }

    /// Joins and syncs until both succeed.
    async fn rejoin(&mut self, partitions: u8) -> Vec<u8> {
        for _ in 0..20 {
            let joined = match self.join().await {
                Ok(joined) => joined,
                Err(GroupOpError::RebalanceInProgress) => continue,
                Err(GroupOpError::UnknownMember(_)) => {
                    self.member = None;
                    continue;
                }
                Err(error) => panic!("{:?} cannot join: {error}", self.member),
            };
            match self.sync(&joined, partitions).await {
                Ok(assignment) => return assignment,
                Err(GroupOpError::RebalanceInProgress | GroupOpError::IllegalGeneration { .. }) => {
                }
                Err(error) => panic!("{:?} cannot sync: {error}", self.member),
            }
        }
        panic!("{:?} does not get into the group", self.member);
    }

    async fn heartbeat(&self) -> Result<(), GroupOpError> {
        self.broker.heartbeat(&self.session, &self.identity()).await
    }

    /// Heartbeats for `time`; the error that ends them, if one does.
    async fn live(&self, time: Duration) -> Result<(), GroupOpError> {
        let every = Duration::from_secs(3);
        let mut left = time;
        while !left.is_zero() {
            let pause = left.min(every);
            sleep(pause).await;
            left -= pause;
            self.heartbeat().await?;
        }
        Ok(())
    }

    async fn leave(&self) -> Result<(), GroupOpError> {
        let leaving = LeavingMember {
            member: self.member.clone(),
            instance: None,
        };
        let mut outcomes = self
            .broker
            .leave_group(&self.session, &group(), vec![leaving])
            .await
            .unwrap();
        outcomes.remove(0)
    }

    async fn commit(&self, partition: TopicPartition, offset: i64) -> Result<(), GroupOpError> {
        let commit = CommitOffset {
            partition,
            offset: Offset(offset),
            leader_epoch: None,
            metadata: None,
        };
        let outcomes = self
            .broker
            .commit_offsets(&self.session, &self.identity(), vec![commit])
            .await;
        outcomes?.remove(0)
    }
}

/// Creates a topic of four partitions; its first.
async fn topic(node: &TestNode) -> TopicPartition {
    let new = NewTopic {
        name: "t".into(),
        partitions: Some(4),
        ..NewTopic::default()
    };
    let session = Session::internal("admin");
    node.broker
        .create_topics(&session, vec![new], false)
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    let topic = node
        .broker
        .manifest()
        .state()
        .topic_by_name("t")
        .unwrap()
        .id();
    TopicPartition {
        topic,
        partition: PartitionIndex(0),
    }
}

async fn describe(node: &TestNode) -> GroupDescription {
    node.broker
        .describe_group(&Session::internal("admin"), &group())
        .await
        .unwrap()
}

async fn offset(node: &TestNode, partition: TopicPartition) -> Option<i64> {
    let session = Session::internal("admin");
    let all = node
        .broker
        .committed_offsets(&session, &group(), None)
        .await
        .unwrap();
    all.get(&partition).map(|committed| committed.offset.0)
}
