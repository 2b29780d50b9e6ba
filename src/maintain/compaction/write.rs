//! Writing a compacted segment while its inputs come in.

use bytes::Bytes;

use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use crate::segment::{CompactedBuilder, Finished, Part};
use crate::state::SliceIndex;
use crate::state::op::CompactedSlice;
use crate::store::{ObjectPath, RequestKind, Upload};
use crate::types::{Offset, SegmentId, TopicPartition};

const KIND: RequestKind = RequestKind::CompactedPut;

/// A compacted segment that is being written.
pub(super) struct Writer<'a> {
    m: &'a Maintenance,
    builder: CompactedBuilder,
    /// Begun with the first part that is full: a short segment is put as a whole.
    upload: Option<Upload>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(m: &'a Maintenance) -> Writer<'a> {
        let id = m.inner.manifest.mint_segment();
        Writer {
            m,
            builder: CompactedBuilder::new(id, m.inner.store.options().part_len),
            upload: None,
        }
    }

    pub(super) fn id(&self) -> SegmentId {
        self.builder.id()
    }

    pub(super) fn begin(
        &mut self,
        partition: TopicPartition,
        base: Offset,
    ) -> Result<(), JobError> {
        Ok(self.builder.begin_slice(partition, base)?)
    }

    /// Appends a batch. Its checksum is checked.
    pub(super) async fn push(&mut self, offset: Offset, batch: &[u8]) -> Result<(), JobError> {
        self.builder.push(offset, batch)?;
        while let Some(part) = self.builder.next_part() {
            let path = ObjectPath::segment(self.builder.id());
            send(self.m, &path, &mut self.upload, part).await?;
            // Checksums take their time; others want the thread.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    pub(super) fn end(&mut self, end: Offset) -> Result<CompactedSlice, JobError> {
        let slice = self.builder.end_slice(end)?;
        let index_len = slice.index.end - slice.index.start;
        Ok(CompactedSlice {
            end: slice.offsets.end,
            segment: self.builder.id(),
            start: slice.range.start,
            len: slice.range.end - slice.range.start,
            max_timestamp: slice.max_timestamp,
            index: SliceIndex {
                start: slice.index.start,
                len: u32::try_from(index_len).unwrap_or(u32::MAX),
            },
        })
    }

    /// Uploads the rest. When this returns the segment is stored.
    pub(super) async fn finish(self) -> Result<(), JobError> {
        let Writer {
            m,
            builder,
            mut upload,
        } = self;
        let path = ObjectPath::segment(builder.id());
        let Finished { len, parts, .. } = builder.finish()?;
        if upload.is_none() && parts.len() == 1 {
            let whole: Vec<Bytes> = parts.into_iter().map(|part| part.bytes).collect();
            m.inner.store.put_unique(&path, whole, KIND).await?;
        } else {
            for part in parts {
                send(m, &path, &mut upload, part).await?;
            }
            if let Some(upload) = upload {
                upload.finish().await?;
            }
        }
        m.inner.metrics.moved(Task::Compaction, 0, len);
        Ok(())
    }
}

/// Hands a part to the upload, which is begun with the first.
async fn send(
    m: &Maintenance,
    path: &ObjectPath,
    upload: &mut Option<Upload>,
    part: Part,
) -> Result<(), JobError> {
    let upload = match upload {
        Some(upload) => upload,
        none => {
            let at_once = m.options().compaction.at_once();
            none.insert(m.inner.store.upload(path, at_once, KIND).await?)
        }
    };
    Ok(upload.part(part.number, part.bytes).await?)
}
