//! Listing and deleting: what only start-up, maintenance, the check and fsck do.

use std::collections::{BinaryHeap, HashSet};
use std::sync::{Mutex, PoisonError};

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::types::Timestamp;

use super::attempt::{Asked, Ended, refused};
use super::client::{Store, plain, reading};
use super::error::{Cause, StoreError};
use super::metrics::RequestKind;
use super::paths::{ObjectPath, ObjectPrefix};

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its name.
    pub path: ObjectPath,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub last_modified: Timestamp,
}

/// Whatever lies under the store's URL, Weir's or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, relative to the prefix of the store's URL.
    pub name: String,
    /// The same, if Weir gives such names.
    pub path: Option<ObjectPath>,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub last_modified: Timestamp,
}

/// The largest number of names in one bulk delete or one page of a listing.
const PAGE: usize = 1000;

/// How many deletes are under way at once in a store that has no bulk delete.
const DELETES: usize = 16;

impl Store {
    /// The first `limit` objects of a folder after `start_after`, in the order of their names. Objects
    /// that are not Weir's are left out. Only start-up, the check and fsck list.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    pub async fn list(
        &self,
        prefix: ObjectPrefix,
        start_after: Option<&ObjectPath>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let name = prefix.name();
        let subject = if name.is_empty() {
            "all objects".to_owned()
        } else {
            format!("{name}/")
        };
        let asked = Asked {
            kind: RequestKind::List,
            subject: &subject,
            sent: 0,
            expected: 0,
        };
        let folder = self.under_prefix(&name);
        let folder = (!folder.as_ref().is_empty()).then_some(&folder);
        let mut after = start_after.map(|path| self.location(path));
        let mut found = Vec::new();
        if !self.requests.backend.nature.lists_in_pages() {
            let list = || self.smallest(folder, after.as_ref(), limit);
            return self
                .requests
                .repeat(asked, list)
                .await
                .map_err(|ended| listing(ended, asked));
        }
        while found.len() < limit {
            let list = || self.page(folder, after.as_ref());
            let page = self
                .requests
                .repeat(asked, list)
                .await
                .map_err(|e| listing(e, asked))?;
            let last = page.last().map(|meta| meta.location.clone());
            let ordered = page.is_sorted_by(|a, b| a.location < b.location);
            if !ordered || last.is_some() && last <= after {
                let cause = Cause::new("the names are not listed in order");
                let advice = "Weir needs a store that lists names in order";
                return Err(refused(asked, cause, advice));
            }
            let full = page.len() == PAGE;
            found.extend(page.into_iter().filter_map(|meta| self.known(&meta)));
            if !full {
                break;
            }
            after = last;
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Shows everything that lies under the store's URL, also what is not Weir's: for fsck. Stores that list
    /// names in order show the log before the segments, so that what a commit seen here refers to is seen too.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    pub async fn survey(&self, mut seen: impl FnMut(Listed)) -> Result<(), StoreError> {
        let asked = Asked {
            kind: RequestKind::List,
            subject: &"all objects",
            sent: 0,
            expected: 0,
        };
        let folder = self.under_prefix("");
        let folder = (!folder.as_ref().is_empty()).then_some(&folder);
        let paged = self.requests.backend.nature.lists_in_pages();
        let mut after: Option<Path> = None;
        loop {
            let list = || async {
                if paged {
                    return self.page(folder, after.as_ref()).await;
                }
                self.listed(folder, None).try_collect().await
            };
            let page: Vec<object_store::ObjectMeta> = self
                .requests
                .repeat(asked, list)
                .await
                .map_err(|ended| listing(ended, asked))?;
            let last = page.last().map(|meta| meta.location.clone());
            let is_last = !paged || page.len() < PAGE || last <= after;
            page.iter()
                .filter_map(|meta| self.shown(meta))
                .for_each(&mut seen);
            if is_last {
                return Ok(());
            }
            after = last;
        }
    }

    fn shown(&self, meta: &object_store::ObjectMeta) -> Option<Listed> {
        let rest = meta.location.prefix_match(&self.requests.backend.prefix)?;
        let relative: Path = rest.collect();
        Some(Listed {
            path: relative.as_ref().parse().ok(),
            name: relative.into(),
            size: meta.size,
            last_modified: Timestamp(meta.last_modified.timestamp_millis()),
        })
    }

    fn listed(
        &self,
        folder: Option<&Path>,
        after: Option<&Path>,
    ) -> BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        match after {
            Some(after) => self.objects().list_with_offset(folder, after),
            None => self.objects().list(folder),
        }
    }

    /// One page, as the store gives it.
    async fn page(
        &self,
        folder: Option<&Path>,
        after: Option<&Path>,
    ) -> object_store::Result<Vec<object_store::ObjectMeta>> {
        self.listed(folder, after).take(PAGE).try_collect().await
    }

    /// The objects with the smallest names, out of a listing in any order.
    async fn smallest(
        &self,
        folder: Option<&Path>,
        after: Option<&Path>,
        limit: usize,
    ) -> object_store::Result<Vec<ObjectMeta>> {
        let mut smallest = BinaryHeap::new();
        let mut listed = self.listed(folder, after);
        while let Some(meta) = listed.try_next().await? {
            if let Some(meta) = self.known(&meta) {
                smallest.push(ByPath(meta));
                if smallest.len() > limit {
                    smallest.pop();
                }
            }
        }
        Ok(smallest
            .into_sorted_vec()
            .into_iter()
            .map(|ByPath(meta)| meta)
            .collect())
    }

    /// The object under Weir's own name for it, if it has one.
    fn known(&self, meta: &object_store::ObjectMeta) -> Option<ObjectMeta> {
        let shown = self.shown(meta)?;
        Some(ObjectMeta {
            path: shown.path?,
            size: shown.size,
            last_modified: shown.last_modified,
        })
    }

    /// Deletes objects, with retries. One that does not exist counts as deleted. After an error any number
    /// of them may be gone.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    pub async fn delete(&self, paths: Vec<ObjectPath>) -> Result<(), StoreError> {
        if self.requests.backend.nature.deletes_in_bulk() {
            for chunk in paths.chunks(PAGE) {
                self.delete_bulk(chunk).await?;
            }
            return Ok(());
        }
        stream::iter(paths)
            .map(|path| self.delete_one(path))
            .buffer_unordered(DELETES)
            .try_collect()
            .await
    }

    async fn delete_one(&self, path: ObjectPath) -> Result<(), StoreError> {
        let location = self.location(&path);
        let delete = || self.objects().delete(&location);
        let asked = reading(&path, RequestKind::Delete);
        match self.requests.repeat(asked, delete).await {
            Ok(()) | Err(Ended::NotFound) => Ok(()),
            Err(ended) => Err(plain(ended, &path, &(0..0))),
        }
    }

    async fn delete_bulk(&self, paths: &[ObjectPath]) -> Result<(), StoreError> {
        let left: HashSet<Path> = paths.iter().map(|path| self.location(path)).collect();
        let subject = format!("{} objects", left.len());
        let asked = Asked {
            kind: RequestKind::Delete,
            subject: &subject,
            sent: 0,
            expected: 0,
        };
        let left = Mutex::new(left);
        let delete = || async {
            let names: Vec<_> = lock(&left).iter().cloned().map(Ok).collect();
            let mut answers = self.objects().delete_stream(stream::iter(names).boxed());
            let mut failed = None;
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(path) => {
                        lock(&left).remove(&path);
                    }
                    Err(error) => failed = Some(error),
                }
            }
            failed.map_or(Ok(()), Err)
        };
        self.requests
            .repeat(asked, delete)
            .await
            .map_err(|ended| listing(ended, asked))
    }
}

struct ByPath(ObjectMeta);

impl PartialEq for ByPath {
    fn eq(&self, other: &ByPath) -> bool {
        self.0.path == other.0.path
    }
}

impl Eq for ByPath {}

impl PartialOrd for ByPath {
    fn partial_cmp(&self, other: &ByPath) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByPath {
    fn cmp(&self, other: &ByPath) -> std::cmp::Ordering {
        self.0.path.cmp(&other.0.path)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listing(ended: Ended, asked: Asked<'_>) -> StoreError {
    match ended {
        Ended::Error(error) => error,
        Ended::NotFound | Ended::OutOfRange => {
            let cause = Cause::new("the store knows nothing under this name");
            refused(
                asked,
                cause,
                "Create the bucket, or correct the store's URL",
            )
        }
    }
}
