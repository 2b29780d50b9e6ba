//! Files of tables, read in parts.
//!
//! A file never changes and its length and checksum are in the state. A small one is read whole by one request and
//! checked; of a large one parts are read, which its format's own structure checks, and `weir fsck --deep` all of it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::Reader;
use crate::store::{ObjectPath, RequestKind, Store, StoreError};

/// Up to how many bytes a file is read whole.
const WHOLE: u64 = 4 << 20;

/// A file of a table. Cheap to clone; clones share what was read whole, and it is in memory as long as one of them is.
#[derive(Clone)]
pub struct TableFile {
    store: Store,
    path: ObjectPath,
    bytes: u64,
    crc32c: u32,
    whole: Arc<OnceCell<Bytes>>,
}

/// Why a part of a file could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileReadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// The bytes are not those that were written.
    #[error("{path} is damaged: its checksum does not hold")]
    Damaged {
        /// The file.
        path: ObjectPath,
    },
}

impl Reader {
    /// The file at `path`, which has so many bytes with this CRC-32C.
    pub fn file(&self, path: ObjectPath, bytes: u64, crc32c: u32) -> TableFile {
        TableFile {
            store: self.store().clone(),
            path,
            bytes,
            crc32c,
            whole: Arc::default(),
        }
    }
}

impl TableFile {
    /// Its name.
    pub fn path(&self) -> &ObjectPath {
        &self.path
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.bytes
    }

    /// Whether it is read by one request, and then held.
    pub fn is_read_whole(&self) -> bool {
        self.bytes <= WHOLE
    }

    /// A part of it.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, FileReadError> {
        let range = range.start.min(self.bytes)..range.end.min(self.bytes);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if !self.is_read_whole() {
            return self.get(range).await;
        }
        let whole = self.whole.get_or_try_init(|| self.read_whole()).await?;
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(whole.len());
        Ok(whole.slice(place(range.start)..place(range.end)))
    }

    /// The same file, of which nothing is in memory: what is read goes with who reads it.
    #[must_use]
    pub fn afresh(&self) -> TableFile {
        TableFile {
            whole: Arc::default(),
            ..self.clone()
        }
    }

    async fn read_whole(&self) -> Result<Bytes, FileReadError> {
        let whole = self.get(0..self.bytes).await?;
        if whole.len() as u64 != self.bytes || crc32c::crc32c(&whole) != self.crc32c {
            return Err(FileReadError::Damaged {
                path: self.path.clone(),
            });
        }
        Ok(whole)
    }

    async fn get(&self, range: Range<u64>) -> Result<Bytes, FileReadError> {
        let kind = RequestKind::ArchiveGet;
        let read = self.store.get_range(&self.path, range, kind).await;
        Ok(read.map_err(Arc::new)?.0)
    }
}
