//! One attempt to read an object, or to learn how large it is.

use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt};

use super::backend::Nature;
use super::body::Cut;
use super::client::Store;
use super::error::{Cause, StoreError};
use super::failure::{Judged, Verdict};
use super::metrics::RequestKind;
use super::paths::{ArchiveObject, ObjectKind, ObjectPath};
use super::wire;
use crate::format::MAGIC;

/// What an attempt to read gave.
pub(super) enum Read {
    /// The bytes, cut as asked for, and the size of the whole object.
    Bytes(Vec<Bytes>, u64),
    TooLarge(u64),
}

impl Store {
    /// Counts what came.
    pub(super) fn received(
        &self,
        read: Read,
        path: &ObjectPath,
        kind: RequestKind,
        limit: u64,
    ) -> Result<(Vec<Bytes>, u64), StoreError> {
        match read {
            Read::Bytes(pieces, size) => {
                let received: usize = pieces.iter().map(Bytes::len).sum();
                self.metrics().add_received(kind, received as u64);
                Ok((pieces, size))
            }
            Read::TooLarge(size) => Err(StoreError::TooLarge {
                path: path.clone(),
                size,
                limit,
            }),
        }
    }

    /// Makes one attempt to read a range.
    pub(super) async fn read_range(
        &self,
        path: &ObjectPath,
        location: &Path,
        range: Range<u64>,
        cut: Cut<'_>,
    ) -> object_store::Result<Read> {
        if self.requests.backend.nature == Nature::Memory {
            return self.slice(location, range, cut).await;
        }
        let limit = range.end - range.start;
        let options = GetOptions::new().with_range(Some(GetRange::Bounded(range)));
        self.read(path, location, options, limit, cut).await
    }

    /// A store in memory gives a whole object for nothing, but tells a range after its end from other
    /// errors only in words.
    async fn slice(
        &self,
        location: &Path,
        range: Range<u64>,
        cut: Cut<'_>,
    ) -> object_store::Result<Read> {
        let result = self
            .objects()
            .get_opts(location, GetOptions::default())
            .await?;
        let whole = result.bytes().await?;
        let size = whole.len() as u64;
        if range.start >= size {
            let judged = Judged {
                verdict: Verdict::OutOfRange,
                cause: Cause::new("the range begins after the object's end"),
            };
            return Err(judged.wrap("memory"));
        }
        let end = range.end.min(size) as usize;
        let found = whole.slice(range.start as usize..end);
        Ok(Read::Bytes(cut.of(found), size))
    }

    /// Reads what the options ask for if that is not more than `limit` bytes.
    pub(super) async fn read(
        &self,
        path: &ObjectPath,
        location: &Path,
        options: GetOptions,
        limit: u64,
        cut: Cut<'_>,
    ) -> object_store::Result<Read> {
        let result = self.objects().get_opts(location, options).await?;
        let (size, start) = (result.meta.size, result.range.start);
        let length = result.range.end - start;
        if length > limit {
            return Ok(Read::TooLarge(length));
        }
        let pieces = cut.read(result).await?;
        let came: usize = pieces.iter().map(Bytes::len).sum();
        if came as u64 == length {
            if start == 0 {
                begins_well(path, &pieces, length.min(size))?;
            }
            return Ok(Read::Bytes(pieces, size));
        }
        // A file that is cut short while it is read, or an answer that broke off unnoticed.
        let judged = Judged {
            verdict: Verdict::Transient { reached: true },
            cause: Cause::new(&format!("{came} bytes came instead of {length}")),
        };
        Err(judged.wrap("store"))
    }

    /// Makes one attempt to learn size and time of an object. Not by a HEAD: nothing comes with a "not found" that is
    /// the answer to one, so that anybody could have given it.
    pub(super) async fn meta(
        &self,
        location: &Path,
    ) -> object_store::Result<object_store::ObjectMeta> {
        if !matches!(self.requests.backend.nature, Nature::Http(_)) {
            return self.objects().head(location).await;
        }
        let first = GetOptions::new().with_range(Some(GetRange::Bounded(0..1)));
        let result = self.objects().get_opts(location, first).await?;
        let meta = result.meta.clone();
        // To the end, so that the connection can be used again.
        result.bytes().await?;
        Ok(meta)
    }
}

/// Every object but those of checks begins in a way that is known. One that does not is damaged, or is none: if nothing
/// shows that the store answered, it is asked again.
fn begins_well(path: &ObjectPath, pieces: &[Bytes], length: u64) -> object_store::Result<()> {
    let begins: &[u8] = match path.kind() {
        ObjectKind::Cluster
        | ObjectKind::CatalogKey
        | ObjectKind::Archive(_, ArchiveObject::Metadata(_)) => b"{",
        ObjectKind::Archive(_, ArchiveObject::Data(_)) => b"PAR1",
        ObjectKind::Archive(_, ArchiveObject::Manifest(_) | ArchiveObject::List(_)) => b"Obj\x01",
        ObjectKind::Archive(_, ArchiveObject::Hint) | ObjectKind::Check { .. } => b"",
        _ => &MAGIC,
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let wanted = begins.iter().take(length.max(1));
    let begun = pieces.iter().flatten();
    match wire::seen() {
        Some(seen) if !seen.has_header_of_store && !wanted.clone().eq(begun.take(wanted.len())) => {
            let judged = Judged {
                verdict: Verdict::Transient { reached: true },
                cause: Cause::new(&seen.foreign()),
            };
            Err(judged.wrap("store"))
        }
        _ => Ok(()),
    }
}
