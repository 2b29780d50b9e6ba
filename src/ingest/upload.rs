//! Segments: built, put in the cache, uploaded.

use std::sync::Arc;

use bytes::Bytes;

use super::buffer::{AppendError, Entry, Ingest};
use super::ops::{Ops, in_partition_order};
use crate::rules::{Rule, holds};
use crate::segment::{SegmentBuilder, SegmentError};
use crate::state::ObjectRef;
use crate::state::op::AppendSource;
use crate::store::{ObjectPath, RequestKind};
use crate::types::SegmentId;

impl Ingest {
    /// Uploads the batches as one segment; returns the ops that append them, or, if it could not be stored,
    /// tells those who wait and returns nothing.
    pub(super) async fn upload(&self, entries: Vec<Entry>) -> Option<Ops> {
        let id = self.manifest.mint_segment();
        let mut ops = Ops::new(AppendSource::Segment(id));
        let stored = match build(id, entries, &mut ops) {
            Ok(parts) => self.store_segment(id, parts).await,
            Err(error) => Err(AppendError::Build(error)),
        };
        match stored {
            Ok(()) => Some(ops),
            Err(_) if !holds(Rule::FailedUploadsAreNotCommitted) => Some(ops),
            Err(why) => {
                tracing::warn!(segment = %id, %why, "a segment could not be stored");
                self.metrics.failures.inc();
                ops.refuse(&why);
                None
            }
        }
    }

    async fn store_segment(&self, id: SegmentId, parts: Vec<Bytes>) -> Result<(), AppendError> {
        // From here on of the requests it came in only those are kept that are long batches.
        let pieces = (self.sink)(ObjectRef::Segment(id), parts).await;
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let path = ObjectPath::segment(id);
        let put = self
            .store
            .put_hedged(&path, pieces, RequestKind::SegmentPut)
            .await;
        put.map_err(|error| AppendError::Upload(Arc::new(error)))?;
        self.metrics.segments.inc();
        self.metrics.uploaded.inc_by(bytes);
        Ok(())
    }
}

/// The object's parts. The batches, with where they begin in it, go to `ops`.
fn build(id: SegmentId, entries: Vec<Entry>, ops: &mut Ops) -> Result<Vec<Bytes>, SegmentError> {
    let mut segment = SegmentBuilder::new(id);
    let mut entries = in_partition_order(entries).into_iter().peekable();
    while let Some(first) = entries.next() {
        let partition = first.batch.partition;
        let mut group = vec![first];
        while let Some(next) = entries.next_if(|next| next.batch.partition == partition) {
            group.push(next);
        }
        let parts = group.iter().map(|entry| entry.batch.part()).collect();
        let pushed = segment.push(partition, parts);
        let mut start = pushed.as_ref().map_or(0, |slice| slice.range.start);
        for entry in group {
            let len = entry.batch.bytes.len() as u64;
            ops.push(entry, start);
            start += len;
        }
        pushed?;
    }
    segment.finish()
}
