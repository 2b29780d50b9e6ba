//! How a consumer finds its partitions, fetches batches and opens them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::consumer::{Consumer, Position, StartAt};
use super::{ClientError, ConsumedRecord};
use crate::broker::{
    FetchError, FetchLimits, FetchPartition, GroupOpError, OffsetSpec, TopicError, TopicRef,
};
use crate::segment::{BatchError, Batches, Limits, MAX_HEADERS, RecordFault, decode_records};
use crate::types::{Offset, PartitionIndex, TopicName, TopicPartition};

/// How many bytes one fetch brings, and how many of them of one partition.
const FETCH_BYTES: usize = 16 << 20;
const PARTITION_BYTES: usize = 4 << 20;

/// How long one fetch waits for records.
const FETCH_WAIT: Duration = Duration::from_millis(500);

/// The most bytes that one batch may decompress to.
const BATCH_BYTES: usize = 256 << 20;

impl Consumer {
    /// Takes all partitions of the topics, or those that were asked for.
    pub(super) async fn assign_all(&mut self) -> Result<(), ClientError> {
        let mut partitions = Vec::new();
        for topic in &self.want.topics {
            let view = self.want.client.topic(topic).await?;
            let all: Vec<PartitionIndex> = view.indexes().collect();
            if let Some(bad) = self.want.only.iter().find(|p| !all.contains(p)) {
                return Err(ClientError::NoPartition {
                    topic: topic.clone(),
                    partition: *bad,
                    last: view.partitions - 1,
                });
            }
            let wanted = if self.want.only.is_empty() {
                &all
            } else {
                &self.want.only
            };
            partitions.extend(wanted.iter().map(|partition| {
                let partition = TopicPartition {
                    topic: view.id,
                    partition: *partition,
                };
                (partition, view.name.clone())
            }));
        }
        self.take_over(partitions).await
    }

    /// Joins the group (again) and takes the partitions that it hands out. Those that the member keeps go
    /// on where they are; of those that it loses nothing more is handed out.
    pub(super) async fn rejoin(&mut self) -> Result<(), ClientError> {
        if self.want.auto_commit.is_some()
            && let Err(error) = self.commit().await
        {
            tracing::debug!(%error, "a commit before a rebalance failed");
        }
        let Some(membership) = &mut self.membership else {
            return Ok(());
        };
        let share = membership.join(&self.want.topics).await?;
        let names: Vec<String> = share.partitions.keys().cloned().collect();
        let taken: Result<(), ClientError> = async {
            let views = self.want.client.existing_topics(&names).await?;
            let mut partitions = Vec::new();
            for view in views {
                let indexes = share.partitions.get(view.name.as_str());
                partitions.extend(indexes.into_iter().flatten().map(|index| {
                    let partition = PartitionIndex(*index);
                    (
                        TopicPartition {
                            topic: view.id,
                            partition,
                        },
                        view.name.clone(),
                    )
                }));
            }
            if !share.continuous {
                self.forget_except(&BTreeSet::new());
            }
            self.take_over(partitions).await
        }
        .await;
        if taken.is_err()
            && let Some(membership) = &mut self.membership
        {
            // Joined, but without positions: the next attempt begins with joining.
            membership.rejoin_later();
        }
        taken
    }

    /// Reads exactly these partitions from now on.
    async fn take_over(
        &mut self,
        partitions: Vec<(TopicPartition, TopicName)>,
    ) -> Result<(), ClientError> {
        self.forget_except(&partitions.iter().map(|(partition, _)| *partition).collect());
        let new: Vec<_> = partitions
            .into_iter()
            .filter(|(partition, _)| !self.positions.contains_key(partition))
            .collect();
        let ids: Vec<TopicPartition> = new.iter().map(|(partition, _)| *partition).collect();
        let committed = self.committed(&ids).await?;
        let starts = self.starts(&ids).await?;
        let ends = if self.want.until_end {
            self.offsets(&ids, OffsetSpec::Latest).await?
        } else {
            Vec::new()
        };
        for (i, (partition, topic)) in new.into_iter().enumerate() {
            let started = starts.get(i).copied().unwrap_or(Offset::ZERO);
            let next = committed.get(&partition).copied().unwrap_or(started);
            let stop = ends.get(i).copied();
            self.positions
                .insert(partition, Position { topic, next, stop });
            self.order.push_back(partition);
        }
        Ok(())
    }

    fn forget_except(&mut self, kept: &BTreeSet<TopicPartition>) {
        self.positions
            .retain(|partition, _| kept.contains(partition));
        self.order.retain(|partition| kept.contains(partition));
        self.batches
            .retain(|(partition, ..)| kept.contains(partition));
        self.records
            .retain(|(partition, _)| kept.contains(partition));
        self.done.retain(|partition, _| kept.contains(partition));
        self.handed_out = self
            .handed_out
            .filter(|(partition, _)| kept.contains(partition));
    }

    /// Where the group goes on, of the partitions that have a committed offset.
    async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, ClientError> {
        let Some(membership) = &self.membership else {
            return Ok(Default::default());
        };
        let client = &self.want.client;
        match client
            .broker()
            .committed_offsets(client.session(), membership.group(), Some(partitions))
            .await
        {
            Ok(committed) => Ok(committed.into_iter().map(|(p, c)| (p, c.offset)).collect()),
            Err(GroupOpError::GroupIdNotFound) => Ok(Default::default()),
            Err(source) => Err(ClientError::Group {
                group: membership.group().to_string(),
                source,
            }),
        }
    }

    async fn starts(&self, partitions: &[TopicPartition]) -> Result<Vec<Offset>, ClientError> {
        match self.want.start {
            StartAt::Offset(offset) => Ok(vec![offset; partitions.len()]),
            StartAt::Earliest => self.offsets(partitions, OffsetSpec::Earliest).await,
            StartAt::Latest => self.offsets(partitions, OffsetSpec::Latest).await,
            StartAt::Time(time) => self.offsets(partitions, OffsetSpec::At(time)).await,
        }
    }

    /// An offset of each partition; the end where no record answers.
    async fn offsets(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<Vec<Offset>, ClientError> {
        let found = self.list_offsets(partitions, spec).await?;
        if found.iter().all(Option::is_some) {
            return Ok(found.into_iter().flatten().collect());
        }
        let ends = self.list_offsets(partitions, OffsetSpec::Latest).await?;
        let or_end = found
            .into_iter()
            .zip(ends)
            .map(|(offset, end)| offset.or(end));
        Ok(or_end.map(Option::unwrap_or_default).collect())
    }

    async fn list_offsets(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<Vec<Option<Offset>>, ClientError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let client = &self.want.client;
        let asked: Vec<_> = partitions
            .iter()
            .map(|p| (TopicRef::Id(p.topic), p.partition, None, spec))
            .collect();
        let found = client
            .broker()
            .list_offsets(client.session(), &asked, self.want.read_committed)
            .await;
        let offsets: Result<Vec<_>, _> = found.into_iter().map(|r| r.map(|f| f.offset)).collect();
        Ok(offsets?)
    }

    /// The partitions of which more is wanted, in the order in which they should be fetched.
    pub(super) fn wanted(&self) -> Vec<(TopicPartition, Offset)> {
        self.order
            .iter()
            .filter_map(|partition| {
                let position = self.positions.get(partition)?;
                let more = position.stop.is_none_or(|stop| position.next < stop);
                more.then_some((*partition, position.next))
            })
            .collect()
    }

    /// Fetches batches, and waits a while for them if there are none. Ends early when the group rebalances.
    pub(super) async fn fetch(&mut self) -> Result<(), ClientError> {
        let wanted = self.wanted();
        if wanted.is_empty() {
            // A member without partitions waits until it is given some.
            self.idle().await;
            return Ok(());
        }
        let asked: Vec<FetchPartition> = wanted
            .iter()
            .map(|(partition, offset)| FetchPartition {
                topic: TopicRef::Id(partition.topic),
                partition: partition.partition,
                offset: *offset,
                max_bytes: PARTITION_BYTES,
                current_leader_epoch: None,
            })
            .collect();
        let limits = FetchLimits {
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            max_wait: FETCH_WAIT,
            read_committed: self.want.read_committed,
        };
        let client = &self.want.client;
        let fetch = client.broker().fetch(client.session(), &asked, limits);
        let fetched = match &self.membership {
            None => fetch.await,
            Some(membership) => tokio::select! {
                fetched = fetch => fetched,
                () = membership.rebalancing() => return Ok(()),
            },
        };
        for ((partition, offset), result) in wanted.into_iter().zip(fetched) {
            match result {
                Ok(fetched) => {
                    self.queue(partition, offset, &fetched.joined())?;
                }
                Err(FetchError::OffsetOutOfRange {
                    log_start,
                    high_watermark,
                    ..
                }) => {
                    let latest = self.want.start == StartAt::Latest || offset > high_watermark;
                    let reset = if latest { high_watermark } else { log_start };
                    tracing::debug!(%partition, %offset, %reset, "the offset is not in the log");
                    if let Some(position) = self.positions.get_mut(&partition) {
                        position.next = reset;
                    }
                }
                Err(source) => return Err(ClientError::Fetch { partition, source }),
            }
        }
        Ok(())
    }

    async fn idle(&self) {
        match &self.membership {
            None => tokio::time::sleep(FETCH_WAIT).await,
            Some(membership) => tokio::select! {
                () = tokio::time::sleep(FETCH_WAIT) => {}
                () = membership.rebalancing() => {}
            },
        }
    }

    /// Queues the batches of a run, and moves the partition's position past them and the partition to the
    /// end of the order.
    fn queue(
        &mut self,
        partition: TopicPartition,
        asked: Offset,
        run: &Bytes,
    ) -> Result<(), ClientError> {
        for batch in Batches::new(run) {
            let batch = batch.map_err(|source| ClientError::Batch { partition, source })?;
            let end = batch.header.next_offset();
            let Some(position) = self.positions.get_mut(&partition) else {
                return Ok(());
            };
            if end <= position.next {
                continue;
            }
            if !batch.header.attributes.is_control() {
                // Cut here what was not asked for, since the position moves on now.
                let from = position.next.max(asked);
                self.batches.push_back((partition, from, batch.slice(run)));
            }
            position.next = end;
        }
        if let Some(at) = self.order.iter().position(|p| *p == partition) {
            self.order.remove(at);
            self.order.push_back(partition);
        }
        Ok(())
    }

    /// Opens a batch: its records from `from` on are the next to be handed out. After an error the
    /// partition is where it was before the batch, so that nothing is skipped.
    pub(super) fn open_batch(
        &mut self,
        partition: TopicPartition,
        from: Offset,
        batch: &Bytes,
    ) -> Result<(), ClientError> {
        let opened = self.open(partition, from, batch);
        if opened.is_err() {
            self.records.clear();
            self.batches.retain(|(queued, ..)| *queued != partition);
            if let Some(position) = self.positions.get_mut(&partition) {
                position.next = from;
            }
        }
        opened
    }

    fn open(
        &mut self,
        partition: TopicPartition,
        from: Offset,
        batch: &Bytes,
    ) -> Result<(), ClientError> {
        let limits = Limits {
            max_uncompressed: BATCH_BYTES,
        };
        let failed = |source| ClientError::Batch { partition, source };
        let Some(position) = self.positions.get(&partition) else {
            return Ok(());
        };
        let records = decode_records(batch, limits).map_err(failed)?;
        let base = records.header().base_offset;
        for record in records {
            let record = record.map_err(failed)?;
            if let Some(found) = record.too_many_headers() {
                let (index, limit) = (record.offset_delta, MAX_HEADERS);
                let fault = RecordFault::TooManyHeaders { found, limit };
                return Err(failed(BatchError::Record { index, fault }));
            }
            let offset = base.advance(u64::try_from(record.offset_delta).unwrap_or(0));
            if offset < from || position.stop.is_some_and(|stop| offset >= stop) {
                continue;
            }
            let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let consumed = ConsumedRecord {
                topic: position.topic.clone(),
                partition: partition.partition,
                offset,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: record
                    .headers
                    .into_iter()
                    .map(|header| (name(&header.key), header.value))
                    .collect(),
            };
            self.records.push_back((partition, consumed));
        }
        Ok(())
    }
}

/// A topic that does not exist is no error where existing ones are asked for.
pub(super) fn is_unknown(error: &TopicError) -> bool {
    matches!(error, TopicError::NotFound(_))
}
