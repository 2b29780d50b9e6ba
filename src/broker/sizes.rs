//! How much the partitions hold, told so that a sum over the nodes counts every byte once.

use std::collections::{BTreeMap, BTreeSet};

use super::access::{Action, Denied, Permit, Resource};
use super::{Broker, Home, Session, Unavailable};
use crate::state::Topic;
use crate::types::{ByteCount, PartitionIndex, TopicName};

/// The partitions whose sizes are wanted, by topic.
pub type WantedSizes = BTreeMap<String, BTreeSet<i32>>;

/// How many bytes of record batches partitions of a topic hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSizes {
    /// The topic.
    pub topic: TopicName,
    /// Its partitions, by index.
    pub partitions: Vec<(PartitionIndex, ByteCount)>,
}

/// Why sizes were not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizesError {
    /// The client may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Broker {
    /// The sizes of those partitions, or of all, that clients of `protocol` are told this node has: up to date. There
    /// is one copy of everything, in the store, and every node serves all of it. What clients are told is one node for
    /// each partition ([`ClusterView::leader`](super::ClusterView::leader)), and that node alone counts it. Topics and
    /// partitions that there are not are left out.
    pub async fn partition_sizes(
        &self,
        session: &Session,
        protocol: &str,
        wanted: Option<&WantedSizes>,
    ) -> Result<Vec<TopicSizes>, SizesError> {
        let permit = self.authorize(session, Action::Describe, Resource::Cluster)?;
        Ok(self.sizes(permit, protocol, wanted).await?)
    }

    async fn sizes(
        &self,
        permit: Permit,
        protocol: &str,
        wanted: Option<&WantedSizes>,
    ) -> Result<Vec<TopicSizes>, Unavailable> {
        let cluster = self.view(permit, protocol).await?;
        // Not older than the view, and it is the view that decides what is counted here.
        let state = self.inner.logs.of(Home::Partitions).state();
        let here = |partition| cluster.leader(partition).id == cluster.this;
        let sizes = |topic: &Topic, only: Option<&BTreeSet<i32>>| {
            let counted = topic.partitions().filter(|(id, _)| {
                only.is_none_or(|only| only.contains(&id.partition.0)) && here(*id)
            });
            TopicSizes {
                topic: topic.name().clone(),
                partitions: counted
                    .map(|(id, held)| (id.partition, held.bytes()))
                    .collect(),
            }
        };
        let mut all: Vec<TopicSizes> = match wanted {
            None => state.topics().map(|topic| sizes(topic, None)).collect(),
            Some(wanted) => wanted
                .iter()
                .filter_map(|(name, only)| Some(sizes(state.topic_by_name(name)?, Some(only))))
                .collect(),
        };
        all.retain(|topic| !topic.partitions.is_empty());
        Ok(all)
    }

    /// Where this node's records are: the store, as the node's settings name it.
    pub fn store_name(&self) -> String {
        let properties = self.inner.properties.get();
        let store = properties.and_then(|properties| properties.get("log.dirs"));
        store.unwrap_or("store").to_owned()
    }
}
