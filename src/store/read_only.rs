//! A store that only looks: whatever would change something is refused before it is sent.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::error::Cause;
use super::failure::{Judged, Verdict};

/// What to do about a change that was asked of a store that is opened for looking.
const ADVICE: &str = "This command only looks at the store";

/// See the module.
#[derive(Debug)]
pub(super) struct ReadOnly {
    inner: Arc<dyn ObjectStore>,
}

impl ReadOnly {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> ReadOnly {
        ReadOnly { inner }
    }
}

impl fmt::Display for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadOnly({})", self.inner)
    }
}

fn refused(change: &str) -> object_store::Error {
    Judged {
        verdict: Verdict::Permanent { advice: ADVICE },
        cause: Cause::new(&format!("opened for reading, and asked to {change}")),
    }
    .wrap("read-only")
}

#[async_trait]
impl ObjectStore for ReadOnly {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(refused("write"))
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(refused("write"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        stream::iter([Err(refused("delete"))]).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused("copy"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::backend::{Backend, Nature};
    use super::super::{
        Created, ObjectPath, ObjectPrefix, RequestKind, Store, StoreError, StoreMetrics,
        StoreOptions,
    };
    use super::*;
    use crate::types::Seq;

    #[tokio::test]
    async fn a_store_opened_for_reading_shows_everything_and_changes_nothing() {
        let objects: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let open = |objects: Arc<dyn ObjectStore>| {
            let backend = Backend::plain(objects, Nature::Memory, "memory://".to_owned());
            Store::of(backend, StoreOptions::default(), StoreMetrics::default())
        };
        let (first, second) = (ObjectPath::commit(Seq(1)), ObjectPath::commit(Seq(2)));
        let writer = open(Arc::clone(&objects));
        let made = writer.create(&first, b"one".to_vec(), RequestKind::CommitPut);
        assert!(matches!(made.await, Ok(Created::Created)));
        let reader = open(Arc::new(ReadOnly::new(objects)));
        assert_eq!(
            reader.get(&first, RequestKind::CommitGet).await.unwrap(),
            "one"
        );
        let refusals = [
            reader
                .create(&second, b"two".to_vec(), RequestKind::CommitPut)
                .await
                .map(|_| ()),
            reader
                .put_unique(&second, b"two".to_vec(), RequestKind::CommitPut)
                .await,
            reader.delete(vec![first.clone()]).await,
        ];
        for refusal in refusals {
            assert!(
                matches!(refusal, Err(StoreError::Refused { .. })),
                "{refusal:?}"
            );
        }
        let listed = reader.list(ObjectPrefix::All, None, 10).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].path, first);
    }
}
