//! The files of tables, as a node serves them to engines that have no rights to the store.
//!
//! Only what a table consists of is served: its data files, manifests, lists of manifests and metadata, under the names
//! that Weir gives them, and only to whoever may read the topic, by a state that was the newest a second ago or later.
//! Where the store is no bucket of S3, metadata has the paths under which the node serves them ([`Relocation`]).
//!
//! # Bounds
//!
//! No more than [`READS`] reads of the store are under way for engines, each of [`MAX_READ`] bytes at most, so that
//! they leave places for consumers, and consumers' requests are not held up. Metadata whose paths are replaced is read
//! whole, up to [`MAX_WHOLE`] bytes and [`WHOLES`] at a time.

use std::net::SocketAddr;
use std::ops::Range;

use bytes::Bytes;

use super::super::access::{Action, Denied};
use super::super::{Broker, Home, MAX_STALENESS, Unavailable};
use super::grants::FileGrant;
use super::place::served;
use crate::state::State;
use crate::state::table::Table;
use crate::store::{ArchiveObject, ObjectPath, RequestKind, StoreError};
use crate::table::iceberg::{Relocation, Unreadable};
use crate::types::{FileId, Timestamp};

/// How many reads of the store are under way at once for engines.
pub(super) const READS: usize = 16;

/// How many objects are in memory as a whole.
pub(super) const WHOLES: usize = 4;

/// How many bytes are read at once at most.
pub const MAX_READ: u64 = 1 << 20;

/// The largest object that is read as a whole.
const MAX_WHOLE: u64 = 64 << 20;

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none of this name, or it is none of a table.
    #[error("there is no such file")]
    NotFound,
    /// It is not of the table for which the right is.
    #[error(
        "the credentials are for the files of another table; open this one to be given some for it"
    )]
    OtherTable,
    /// The client may not read the topic, or no longer.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The state could not be asked.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The store could not be asked.
    #[error("the store did not give the file: {0}")]
    Store(StoreError),
    /// Its paths cannot be replaced.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It is too large for that.
    #[error("the metadata has {0} bytes, more than a node serves with other paths ({MAX_WHOLE})")]
    TooLarge(u64),
}

impl From<StoreError> for FileError {
    fn from(error: StoreError) -> FileError {
        match error {
            StoreError::NotFound { .. } => FileError::NotFound,
            error => FileError::Store(error),
        }
    }
}

/// A file of a table that a client may read.
#[derive(Clone)]
pub struct ArchivedFile {
    broker: Broker,
    path: ObjectPath,
    object: ArchiveObject,
    /// Its length, if the state has it.
    size: Option<u64>,
    /// If it has paths that are to be others.
    relocation: Option<Relocation>,
}

/// What a listing shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// The URL by which it is served.
    pub url: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written.
    pub modified: Timestamp,
}

/// Some of the files of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The files, in the order of their names.
    pub files: Vec<ListedFile>,
    /// After which to ask for more, if there may be more.
    pub next: Option<String>,
}

impl Broker {
    /// The file that a node serves under that URL.
    ///
    /// # Errors
    ///
    /// [`FileError`].
    pub async fn archived_file(
        &self,
        grant: &FileGrant,
        remote: Option<SocketAddr>,
        url: &str,
    ) -> Result<ArchivedFile, FileError> {
        let of_table = |_: &State, table: &Table, own: &str, served: &str| {
            let rest = url.strip_prefix(served)?.strip_prefix('/')?;
            let path = format!("{}/{rest}", ObjectPath::folder_of(table.name()));
            let path: ObjectPath = path.parse().ok()?;
            let crate::store::ObjectKind::Archive(_, object) = path.kind() else {
                return None;
            };
            Some(ArchivedFile {
                broker: self.clone(),
                size: object.id().and_then(|id| table.size_of(id)),
                relocation: match object {
                    ArchiveObject::Data(_) | ArchiveObject::Hint => None,
                    _ if own == served => None,
                    _ => Relocation::new(own, served),
                },
                path,
                object,
            })
        };
        let found = self.of_granted(grant, remote, url, of_table).await?;
        found.ok_or(FileError::NotFound)
    }

    /// The files of the table whose URLs begin like this, after one of them, and no more than so many.
    ///
    /// # Errors
    ///
    /// [`FileError`].
    pub async fn archived_files(
        &self,
        grant: &FileGrant,
        remote: Option<SocketAddr>,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Listing, FileError> {
        let of_table = |_: &State, table: &Table, _: &str, served: &str| {
            Some((table.name().clone(), format!("{served}/")))
        };
        let found = self.of_granted(grant, remote, prefix, of_table).await?;
        let (table, folder) = found.ok_or(FileError::NotFound)?;
        let own = format!("{}/", ObjectPath::folder_of(&table));
        // The first name that any of its objects could have, unless the client has seen some.
        let first = ArchiveObject::Data(FileId(uuid::Uuid::nil()));
        let first = ObjectPath::archive(&table, first);
        let seen = after
            .strip_prefix(&folder)
            .and_then(|rest| format!("{own}{rest}").parse::<ObjectPath>().ok());
        let after = seen.map_or(first.clone(), |seen| seen.max(first));
        let _turn = self.inner.catalog.reads.acquire().await;
        let listed = self
            .inner
            .store
            .list(crate::store::ObjectPrefix::Archive, Some(&after), limit)
            .await?;
        let listed_all = listed.len();
        let mut files: Vec<ListedFile> = listed
            .into_iter()
            .map_while(|meta| {
                let rest = meta.path.as_str().strip_prefix(&own)?.to_owned();
                Some(ListedFile {
                    url: format!("{folder}{rest}"),
                    size: meta.size,
                    modified: meta.last_modified,
                })
            })
            .collect();
        let is_cut = files.len() == listed_all && listed_all == limit;
        let last = files.last().map(|file| file.url.clone());
        let next = last.filter(|_| is_cut);
        files.retain(|file| file.url.starts_with(prefix));
        Ok(Listing { files, next })
    }

    /// Finds something of the table for which the grant is, if its holder may read it still and the URL is below its
    /// folder.
    async fn of_granted<T>(
        &self,
        grant: &FileGrant,
        remote: Option<SocketAddr>,
        url: &str,
        find: impl Fn(&State, &Table, &str, &str) -> Option<T>,
    ) -> Result<Option<T>, FileError> {
        // A right may have been taken away through another node, and this one need not follow the log.
        let log = self.inner.logs.of(Home::Cluster);
        let known = log.fresh_within(MAX_STALENESS, &self.inner.env);
        let mut state = match tokio::time::timeout(self.inner.settings.request_timeout, known).await
        {
            Ok(known) => known.map_err(Unavailable::from)?,
            Err(_) => return Err(Unavailable::TimedOut.into()),
        };
        if state.table(grant.table()).is_none() {
            // The node that handed it out may be ahead of this one.
            state = self.fresh(Home::Cluster).await?;
        }
        let table = state.table(grant.table());
        let table = table
            .filter(|table| !table.is_dropped())
            .ok_or(FileError::NotFound)?;
        let _permit = self.may_with_table(&grant.session(remote), Action::Read, &state, table)?;
        let own = self.folder_url(table);
        let served = served(&own);
        let is_below = url
            .strip_prefix(served.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !is_below {
            return Err(FileError::OtherTable);
        }
        Ok(find(&state, table, &own, &served))
    }
}

/// When a file was named, which is as it was written.
fn named_at(id: FileId) -> Option<Timestamp> {
    let (seconds, nanos) = id.0.get_timestamp()?.to_unix();
    let millis = i64::try_from(seconds).ok()?.checked_mul(1000)?;
    Some(Timestamp(millis + i64::from(nanos / 1_000_000)))
}

impl ArchivedFile {
    /// Its name within the store: no other object ever has it, and what it names never changes.
    pub fn name(&self) -> &str {
        self.path.as_str()
    }

    /// Whether it has to be read as a whole.
    pub fn is_whole(&self) -> bool {
        self.relocation.is_some()
    }

    /// Its size and when it was written.
    ///
    /// # Errors
    ///
    /// [`FileError`].
    pub async fn meta(&self) -> Result<(u64, Timestamp), FileError> {
        let named = self.object.id().and_then(named_at);
        if let (Some(size), Some(time)) = (self.size, named) {
            return Ok((size, time));
        }
        let _turn = self.broker.inner.catalog.reads.acquire().await;
        let (store, kind) = (&self.broker.inner.store, RequestKind::ArchiveGet);
        let meta = store.head(&self.path, kind).await?;
        Ok((meta.size, meta.last_modified))
    }

    /// All of it, with its paths as they are served.
    ///
    /// # Errors
    ///
    /// [`FileError`].
    pub async fn whole(&self) -> Result<Bytes, FileError> {
        let catalog = &self.broker.inner.catalog;
        let _whole = catalog.wholes.acquire().await;
        let _turn = catalog.reads.acquire().await;
        let (store, kind) = (&self.broker.inner.store, RequestKind::ArchiveGet);
        let (bytes, size) = store.get_range(&self.path, 0..MAX_WHOLE, kind).await?;
        if size > MAX_WHOLE {
            return Err(FileError::TooLarge(size));
        }
        let Some(relocation) = self.relocation.clone() else {
            return Ok(bytes);
        };
        let is_metadata = matches!(self.object, ArchiveObject::Metadata(_));
        let computed = move || match is_metadata {
            true => relocation.metadata(&bytes),
            false => relocation.avro(bytes.to_vec()),
        };
        let computed = self.broker.inner.env.compute(computed).await;
        let computed = computed.map_err(|_| Unavailable::Internal("metadata was not computed"))?;
        Ok(computed?.into())
    }

    /// Some of it: [`MAX_READ`] bytes at most. It must not be one that is read as a whole.
    ///
    /// # Errors
    ///
    /// [`FileError`].
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, FileError> {
        let end = range.end.min(range.start.saturating_add(MAX_READ));
        let _turn = self.broker.inner.catalog.reads.acquire().await;
        let (store, kind) = (&self.broker.inner.store, RequestKind::ArchiveGet);
        let (bytes, _) = store.get_range(&self.path, range.start..end, kind).await?;
        Ok(bytes)
    }
}
