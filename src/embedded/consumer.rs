//! Consuming: partitions chosen or handed out by a group, read in order, committed when asked.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::membership::Membership;
use super::{Client, ClientError, ConsumedRecord};
use crate::broker::{CommitOffset, GroupOpError};
use crate::types::{GroupId, Offset, PartitionIndex, Timestamp, TopicName, TopicPartition};

/// Where a consumer begins in a partition for which its group has no committed offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record there is.
    #[default]
    Earliest,
    /// After the last record there is.
    Latest,
    /// At the first record that is not older than this; after the last one if all are.
    Time(Timestamp),
    /// At this offset.
    Offset(Offset),
}

/// What a consumer shall read, and how.
#[must_use = "it does nothing until it is started"]
pub struct ConsumerBuilder {
    pub(super) client: Client,
    pub(super) topics: Vec<String>,
    pub(super) only: Vec<PartitionIndex>,
    group: Option<String>,
    instance: Option<String>,
    pub(super) start: StartAt,
    pub(super) until_end: bool,
    pub(super) auto_commit: Option<Duration>,
    session_timeout: Duration,
    pub(super) read_committed: bool,
}

/// How often the leader of a group looks whether topics have grown.
const TOPICS_CHECK: Duration = Duration::from_secs(60);

impl ConsumerBuilder {
    pub(super) fn new(client: Client) -> ConsumerBuilder {
        ConsumerBuilder {
            client,
            topics: Vec::new(),
            only: Vec::new(),
            group: None,
            instance: None,
            start: StartAt::Earliest,
            until_end: false,
            auto_commit: None,
            session_timeout: Duration::from_secs(45),
            read_committed: false,
        }
    }

    /// Reads these topics.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// Reads only these partitions of the topics. Not in a group, which decides that itself.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = PartitionIndex>) -> Self {
        self.only = partitions.into_iter().collect();
        self
    }

    /// Reads as a member of this group: its members share the partitions, and what it commits is where
    /// they go on. Kafka clients that know the `range` assignor may be in the same group.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Is a static member of that name: its partitions are kept for it while it restarts (KIP-345).
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// Begins there, in partitions without a committed offset. Default: at the first record.
    pub fn start_at(mut self, start: StartAt) -> Self {
        self.start = start;
        self
    }

    /// Ends (`None`) when it has read everything that was there when it began; else it waits for more.
    pub fn until_end(mut self, until_end: bool) -> Self {
        self.until_end = until_end;
        self
    }

    /// Commits by itself that often, before a rebalance and at [`Consumer::close`]: every record that was
    /// handed out before the last call of [`Consumer::next`] counts as done.
    pub fn auto_commit(mut self, every: Duration) -> Self {
        self.auto_commit = Some(every);
        self
    }

    /// A member that is not heard of for this long loses its partitions. Default 45 s.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// Reads only records of decided transactions.
    pub fn read_committed(mut self, read_committed: bool) -> Self {
        self.read_committed = read_committed;
        self
    }

    /// Joins the group, or finds the partitions and where to begin.
    ///
    /// # Errors
    /// A topic does not exist, a partition does not exist, the group refused, or nothing was asked for.
    pub async fn start(self) -> Result<Consumer, ClientError> {
        if self.topics.is_empty() {
            return Err(ClientError::Consumer("a consumer needs at least one topic"));
        }
        let membership = match &self.group {
            None => None,
            Some(_) if !self.only.is_empty() => {
                let reason = "a member of a group cannot choose its partitions";
                return Err(ClientError::Consumer(reason));
            }
            Some(group) => Some(Membership::new(
                self.client.clone(),
                GroupId::new(group)?,
                self.instance.clone(),
                self.session_timeout,
            )),
        };
        if membership.is_some() {
            self.client.vouch().await?;
        }
        let now = Instant::now();
        let mut consumer = Consumer {
            want: self,
            membership,
            positions: BTreeMap::new(),
            order: VecDeque::new(),
            batches: VecDeque::new(),
            records: VecDeque::new(),
            done: BTreeMap::new(),
            handed_out: None,
            committed_at: now,
            topics_checked: now,
        };
        match consumer.membership {
            Some(_) => consumer.rejoin().await?,
            None => consumer.assign_all().await?,
        }
        Ok(consumer)
    }
}

/// Where a partition is being read.
#[derive(Clone, Debug)]
pub(super) struct Position {
    pub(super) topic: TopicName,
    /// The next offset to fetch.
    pub(super) next: Offset,
    /// The offset at which to stop, for a consumer that ends.
    pub(super) stop: Option<Offset>,
}

/// Reads records, of each partition in order.
///
/// Its futures may be dropped: no record is lost or handed out twice by it.
pub struct Consumer {
    pub(super) want: ConsumerBuilder,
    pub(super) membership: Option<Membership>,
    pub(super) positions: BTreeMap<TopicPartition, Position>,
    /// The partitions in the order in which they are fetched; who got something goes to the end.
    pub(super) order: VecDeque<TopicPartition>,
    /// Batches that were fetched and not opened, and from which offset on they were wanted.
    pub(super) batches: VecDeque<(TopicPartition, Offset, Bytes)>,
    /// Records of the batch that was opened last, and the partition they are of.
    pub(super) records: VecDeque<(TopicPartition, ConsumedRecord)>,
    /// Where the group goes on, of partitions in which records were done.
    pub(super) done: BTreeMap<TopicPartition, Offset>,
    /// The record that was handed out last: it counts as done when the next one is asked for.
    pub(super) handed_out: Option<(TopicPartition, Offset)>,
    pub(super) committed_at: Instant,
    pub(super) topics_checked: Instant,
}

impl Consumer {
    /// The next record. Waits for one; `None` only from a consumer that ends
    /// ([`ConsumerBuilder::until_end`]) and has read everything.
    ///
    /// # Errors
    /// It may be called again: after an error the consumer is where it was.
    pub async fn next(&mut self) -> Result<Option<ConsumedRecord>, ClientError> {
        self.finish_handed_out();
        loop {
            self.keep_membership().await?;
            if let Some((partition, record)) = self.records.pop_front() {
                self.handed_out = Some((partition, record.offset));
                return Ok(Some(record));
            }
            if let Some((partition, from, batch)) = self.batches.pop_front() {
                self.open_batch(partition, from, &batch)?;
                continue;
            }
            if self.want.until_end && self.wanted().is_empty() {
                return Ok(None);
            }
            self.fetch().await?;
        }
    }

    /// Commits for the group every record handed out so far, the last one included.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        self.finish_handed_out();
        self.commit_done().await
    }

    /// Whether the next record is here already, so that [`Consumer::next`] does not wait for the store.
    pub fn is_ahead(&self) -> bool {
        !self.records.is_empty() || !self.batches.is_empty()
    }

    /// The partitions that are read, with the topics' names.
    pub fn assignment(&self) -> Vec<(TopicName, PartitionIndex)> {
        self.positions
            .iter()
            .map(|(partition, position)| (position.topic.clone(), partition.partition))
            .collect()
    }

    /// Commits, if that is automatic, and leaves the group. A consumer that is dropped instead is missed
    /// by its group when its session is over.
    pub async fn close(mut self) -> Result<(), ClientError> {
        if self.want.auto_commit.is_some() {
            self.commit().await?;
        }
        match &mut self.membership {
            Some(membership) => membership.leave().await,
            None => Ok(()),
        }
    }

    fn finish_handed_out(&mut self) {
        if let Some((partition, offset)) = self.handed_out.take()
            && self.positions.contains_key(&partition)
        {
            self.done.insert(partition, offset.advance(1));
        }
    }

    async fn commit_done(&mut self) -> Result<(), ClientError> {
        let Some(membership) = &self.membership else {
            return Err(ClientError::Consumer("only a member of a group can commit"));
        };
        self.committed_at = Instant::now();
        if self.done.is_empty() {
            return Ok(());
        }
        let offsets: Vec<CommitOffset> = self
            .done
            .iter()
            .map(|(partition, offset)| CommitOffset {
                partition: *partition,
                offset: *offset,
                leader_epoch: None,
                metadata: None,
            })
            .collect();
        let client = &self.want.client;
        let refused = |source| ClientError::Group {
            group: membership.group().to_string(),
            source,
        };
        let results = client
            .broker()
            .commit_offsets(client.session(), &membership.identity(), offsets)
            .await
            .map_err(refused)?;
        for result in results {
            match result {
                // The topic was deleted while it was read.
                Ok(()) | Err(GroupOpError::UnknownPartition) => {}
                Err(error) => return Err(refused(error)),
            }
        }
        self.done.clear();
        Ok(())
    }

    /// Does what a member owes its group: joins again when asked to, commits when it is time.
    async fn keep_membership(&mut self) -> Result<(), ClientError> {
        let Some(membership) = &mut self.membership else {
            return Ok(());
        };
        if membership.leads() && self.topics_checked.elapsed() > TOPICS_CHECK {
            self.topics_checked = Instant::now();
            membership.rejoin_if_topics_grew().await?;
        }
        if self.membership.as_ref().is_some_and(Membership::must_join) {
            return self.rejoin().await;
        }
        if let Some(every) = self.want.auto_commit
            && self.committed_at.elapsed() >= every
            && let Err(error) = self.commit_done().await
        {
            // The next one covers it; a group that has moved on asks to join again by itself.
            tracing::debug!(%error, "an automatic commit failed");
        }
        Ok(())
    }
}
