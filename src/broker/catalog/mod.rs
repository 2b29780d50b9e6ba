//! Tables of archived topics, as a catalog shows them to engines, and their files.
//!
//! A table is shown as it is in a state that contains every commit acknowledged before the call, and its metadata is in
//! the store before anybody hears of it: the lists of manifests first, then what names them. All are derived from the
//! state, the same from every node, and created under names of their own; one that exists is what would have been
//! written. So it does not matter whether the node dies in between, or whether another publishes the same meanwhile.
//! The objects of a version that nobody asks for any more go with its snapshots.
//!
//! # Who may
//!
//! Whoever may read the topic may read its table; whoever may describe it is told that there is one, and nobody else
//! is. When the topic is gone, the name of the table stands for it.
//!
//! # How engines come to the files
//!
//! As [`CatalogAccess`] says: with rights of their own; with rights that the store gives for a while and for one table
//! (`sts`); or by way of the node, which serves the files itself (`proxy`, `files.rs`). What a node hands out for that
//! is signed with a key that stands in the bucket (`grants.rs`), so every node knows it again, and none has to tell
//! another. The node's own rights to the store are given to nobody.

mod files;
mod grants;
mod place;

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};

pub use files::{ArchivedFile, FileError, ListedFile, Listing, MAX_READ};
pub use grants::{BadToken, FileGrant, GrantError};
use grants::{CatalogKey, Purpose};
use place::served;

use super::access::{Action, Denied, Permit, Resource};
use super::{Broker, Home, LoggedIn, Session, Unavailable};
use crate::config::CatalogAccess;
use crate::state::State;
use crate::state::table::Table;
use crate::store::{ArchiveObject, Created, ObjectPath, RequestKind, StoreError, TemporaryAccess};
use crate::table::iceberg::{self, Location};
use crate::types::{Seq, Timestamp};

/// How the catalog behaves.
#[derive(Clone, Debug)]
pub struct CatalogOptions {
    /// How engines come to the files of tables.
    pub access: CatalogAccess,
    /// The role in whose name the store gives rights to them, for `sts`.
    pub role: Option<String>,
    /// For how long what is handed out is good.
    pub lifetime: Duration,
}

impl Default for CatalogOptions {
    fn default() -> CatalogOptions {
        CatalogOptions {
            access: CatalogAccess::Proxy,
            role: None,
            lifetime: Duration::from_secs(3600),
        }
    }
}

/// What a broker keeps for its catalog.
pub(super) struct Catalog {
    key: OnceCell<CatalogKey>,
    /// Turns to read from the store for engines.
    reads: Semaphore,
    /// Turns to have a whole object in memory.
    wholes: Semaphore,
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog {
            key: OnceCell::new(),
            reads: Semaphore::new(files::READS),
            wholes: Semaphore::new(files::WHOLES),
        }
    }
}

/// A table, as an engine opens it.
#[derive(Clone, Debug)]
pub struct LoadedTable {
    /// Its version: the commit that changed it last.
    pub version: Seq,
    /// Iceberg's metadata, in JSON.
    pub metadata: Bytes,
    /// The URL of the object that has it.
    pub metadata_location: String,
    /// With what the engine reads the files, if it asked for that.
    pub vended: Option<Vended>,
}

/// Rights to read the files of one table.
#[derive(Clone, Debug)]
pub struct Vended {
    /// The URL of the folder that they are for.
    pub prefix: String,
    /// The rights.
    pub access: VendedAccess,
    /// How long they are good at least.
    pub lifetime: Duration,
}

/// By which way.
#[derive(Clone, Debug)]
pub enum VendedAccess {
    /// By way of this node, or of any other.
    Node(FileGrant),
    /// From the store.
    Store(TemporaryAccess),
}

/// Why a table cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LoadTableError {
    /// There is none of this name, or the client may not know of it.
    #[error("there is no table '{name}': a topic has one when archive.enable is true for it")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The client may not read the topic.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The state or the store could not be asked.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Its metadata could not be stored.
    #[error("the metadata of table '{name}' cannot be stored now; try again: {reason}")]
    Unpublished {
        /// The table.
        name: String,
        /// What the store said.
        reason: String,
    },
    /// There are no rights to hand out.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

impl Broker {
    /// How the catalog behaves.
    pub fn catalog_options(&self) -> &CatalogOptions {
        &self.inner.settings.catalog
    }

    /// The names of the tables of which the client may know, in order: those after one, and no more than so many.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn table_names(
        &self,
        session: &Session,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>, Unavailable> {
        let state = self.fresh(Home::Cluster).await?;
        let tables = state.tables().filter(|table| !table.is_dropped());
        let tables = tables.filter(|table| table.name().as_str() > after);
        let mut shown: Vec<String> = tables
            .filter(|table| {
                self.may_with_table(session, Action::Describe, &state, table)
                    .is_ok()
            })
            .map(|table| table.name().to_string())
            .collect();
        shown.sort_unstable();
        shown.truncate(limit);
        Ok(shown)
    }

    /// Whether there is a table of which the client may know.
    ///
    /// # Errors
    ///
    /// [`LoadTableError`].
    pub async fn find_table(&self, session: &Session, name: &str) -> Result<(), LoadTableError> {
        let state = self.fresh(Home::Cluster).await?;
        self.known_table(session, &state, name).map(drop)
    }

    /// Opens a table: what it is now, with its metadata in the store.
    ///
    /// # Errors
    ///
    /// [`LoadTableError`].
    pub async fn load_table(
        &self,
        session: &Session,
        name: &str,
        asks_access: bool,
    ) -> Result<LoadedTable, LoadTableError> {
        let state = self.fresh(Home::Cluster).await?;
        let table = self.known_table(session, &state, name)?;
        let permit = self.may_with_table(session, Action::Read, &state, table)?;
        let mut loaded = self.published(permit, table).await?;
        if !asks_access {
            return Ok(loaded);
        }
        let Some(vended) = self.vend(permit, session, table).await? else {
            return Ok(loaded);
        };
        let own = self.folder_url(table);
        if vended.prefix != own {
            loaded.metadata = self.metadata_of(table, &vended.prefix).await?;
            let object = ArchiveObject::Metadata(table.version());
            let path = ObjectPath::archive(table.name(), object);
            loaded.metadata_location = served(&self.inner.store.url_of(path.as_str()));
        }
        loaded.vended = Some(vended);
        Ok(loaded)
    }

    /// New rights to read the files of a table; none, if this node gives none away.
    ///
    /// # Errors
    ///
    /// [`LoadTableError`].
    pub async fn vend_for(
        &self,
        session: &Session,
        name: &str,
    ) -> Result<Option<Vended>, LoadTableError> {
        let state = self.fresh(Home::Cluster).await?;
        let table = self.known_table(session, &state, name)?;
        let permit = self.may_with_table(session, Action::Read, &state, table)?;
        self.vend(permit, session, table).await
    }

    /// A token by which every node knows somebody again who has shown who it is, and how long it is good.
    ///
    /// # Errors
    ///
    /// [`GrantError`].
    pub async fn bearer_token(
        &self,
        identity: &LoggedIn,
    ) -> Result<(String, Duration), GrantError> {
        let key = self.catalog_key().await?;
        let lifetime = self.catalog_options().lifetime;
        let expires = self.catalog_time().after(lifetime);
        Ok((key.token(Purpose::Login, identity, None, expires), lifetime))
    }

    /// Who has such a token.
    ///
    /// # Errors
    ///
    /// [`GrantError`].
    pub async fn of_bearer_token(&self, token: &str) -> Result<LoggedIn, GrantError> {
        let key = self.catalog_key().await?;
        let claims = key.read(Purpose::Login, token, self.catalog_time())?;
        Ok(claims.identity)
    }

    /// The cluster's time.
    pub(in crate::broker) fn catalog_time(&self) -> Timestamp {
        self.inner.logs.of(Home::Cluster).time()
    }

    fn known_table<'a>(
        &self,
        session: &Session,
        state: &'a State,
        name: &str,
    ) -> Result<&'a Table, LoadTableError> {
        let table = state.table_by_name(name);
        let table = table.filter(|table| !table.is_dropped());
        let table = table.filter(|table| {
            self.may_with_table(session, Action::Describe, state, table)
                .is_ok()
        });
        table.ok_or_else(|| LoadTableError::Unknown {
            name: name.to_owned(),
        })
    }

    fn may_with_table(
        &self,
        session: &Session,
        action: Action,
        state: &State,
        table: &Table,
    ) -> Result<Permit, Denied> {
        let topic = table.topic().and_then(|id| state.topic(id));
        let name = topic.map_or(table.name().as_str(), |topic| topic.name().as_str());
        self.authorize(session, action, Resource::topic(name))
    }

    /// The URL of a table's folder in the store.
    fn folder_url(&self, table: &Table) -> String {
        self.inner
            .store
            .url_of(&ObjectPath::folder_of(table.name()))
    }

    async fn vend(
        &self,
        _: Permit,
        session: &Session,
        table: &Table,
    ) -> Result<Option<Vended>, LoadTableError> {
        let options = self.catalog_options();
        let folder = self.folder_url(table);
        match options.access {
            CatalogAccess::Off | CatalogAccess::None => Ok(None),
            CatalogAccess::Proxy => {
                let key = self.catalog_key().await?;
                let expires = self.catalog_time().after(options.lifetime);
                let identity = LoggedIn {
                    principal: session.principal.clone(),
                    user: session.user,
                };
                let token = key.token(Purpose::Files, &identity, Some(table.id()), expires);
                let grant = key.grant(token, self.catalog_time());
                let grant = grant.map_err(GrantError::Bad)?;
                Ok(Some(Vended {
                    prefix: served(&folder),
                    access: VendedAccess::Node(grant),
                    lifetime: options.lifetime,
                }))
            }
            CatalogAccess::Sts => {
                let role = options.role.as_deref().unwrap_or_default();
                let lent = self
                    .inner
                    .store
                    .lend(role, table.name(), options.lifetime)
                    .await
                    .map_err(GrantError::Store)?;
                Ok(Some(Vended {
                    prefix: folder,
                    access: VendedAccess::Store(lent),
                    // They may have been asked for a while ago.
                    lifetime: options.lifetime / 2,
                }))
            }
        }
    }

    /// The metadata of a table whose folder has that URL.
    async fn metadata_of(&self, table: &Table, folder: &str) -> Result<Bytes, LoadTableError> {
        let unpublished = |reason: String| LoadTableError::Unpublished {
            name: table.name().to_string(),
            reason,
        };
        let (of, location) = (table.clone(), Location::new(folder));
        let computed = move || iceberg::table_metadata(&of, &location);
        let metadata = self.inner.env.compute(computed).await;
        let metadata = metadata.map_err(|error| unpublished(error.to_string()))?;
        let metadata = metadata.map_err(|error| unpublished(error.to_string()))?;
        Ok(metadata.into())
    }

    async fn published(&self, _: Permit, table: &Table) -> Result<LoadedTable, LoadTableError> {
        let store = &self.inner.store;
        let folder = self.folder_url(table);
        let unpublished = |reason: String| LoadTableError::Unpublished {
            name: table.name().to_string(),
            reason,
        };
        let metadata = self.metadata_of(table, &folder).await?;
        let version = table.version();
        let path = ObjectPath::archive(table.name(), ArchiveObject::Metadata(version));
        match store.head(&path, RequestKind::ArchiveGet).await {
            Ok(_) => {}
            Err(StoreError::NotFound { .. }) => {
                for snapshot in table.snapshots() {
                    let list = ArchiveObject::List(snapshot.seq);
                    let list = ObjectPath::archive(table.name(), list);
                    let (of, at, place) = (table.clone(), *snapshot, Location::new(&folder));
                    let derived = move || iceberg::manifest_list(&of, &at, &place);
                    let bytes = self.inner.env.compute(derived).await;
                    let bytes = bytes.map_err(|error| unpublished(error.to_string()))?;
                    let stored = self.store_derived(&list, bytes.into()).await;
                    stored.map_err(unpublished)?;
                }
                let stored = self.store_derived(&path, metadata.clone()).await;
                stored.map_err(unpublished)?;
            }
            Err(error) => return Err(unpublished(error.to_string())),
        }
        Ok(LoadedTable {
            version,
            metadata,
            metadata_location: store.url_of(path.as_str()),
            vended: None,
        })
    }

    /// Stores what any node derives from the state.
    async fn store_derived(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), String> {
        let kind = RequestKind::ArchivePut;
        let create = self.inner.store.create(path, vec![bytes], kind);
        match create.await {
            Ok(Created::Created | Created::Exists) => Ok(()),
            Ok(Created::Unknown(cause)) => Err(cause.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}
