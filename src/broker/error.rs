//! What several operations answer: there is no such topic or partition.

use super::topics::TopicRef;
use crate::types::PartitionIndex;

/// There is no such topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TopicNotFound(pub TopicRef);

impl std::fmt::Display for TopicNotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TopicNotFound(topic) = self;
        match topic {
            TopicRef::Name(_) => write!(f, "there is no topic named {topic}"),
            TopicRef::Id(_) => write!(f, "there is no topic with id {topic}"),
        }
    }
}

/// There is no such partition of a topic that there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("topic {topic} has no partition {partition}")]
pub struct PartitionNotFound {
    /// The topic, as it was named.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
}
