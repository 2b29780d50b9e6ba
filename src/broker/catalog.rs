//! Tables of archived topics, as a catalog shows them.
//!
//! A table is shown as it is in a state that contains every commit acknowledged before the call, and its metadata is in
//! the store before anybody hears of it: the lists of manifests first, then what names them. All are derived from the
//! state, the same from every node, and created under names of their own; one that exists is what would have been
//! written. So it does not matter whether the node dies in between, or whether another publishes the same meanwhile. The
//! objects of a version that nobody asks for any more go with its snapshots.
//!
//! Whoever reads the topic may read its table. When the topic is gone, its name stays that of the table.

use bytes::Bytes;

use super::access::{Action, Denied, Permit, Resource};
use super::{Broker, Home, Session, Unavailable};
use crate::state::State;
use crate::state::table::Table;
use crate::store::{ArchiveObject, Created, ObjectPath, RequestKind, StoreError};
use crate::table::iceberg::{self, Location};
use crate::types::Seq;

/// A table, as an engine opens it.
#[derive(Clone, Debug)]
pub struct LoadedTable {
    /// Its version: the commit that changed it last.
    pub version: Seq,
    /// Iceberg's metadata, in JSON.
    pub metadata: Bytes,
    /// The URL of the object that has it.
    pub metadata_location: String,
}

/// Why a table cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LoadTableError {
    /// There is none of this name.
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
}

impl Broker {
    /// The names of all tables whose topics the client may read, in order.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn table_names(&self, session: &Session) -> Result<Vec<String>, Unavailable> {
        let state = self.fresh(Home::Cluster).await?;
        let tables = state.tables().filter(|table| !table.is_dropped());
        let shown = tables.filter(|table| self.may_read(session, &state, table).is_ok());
        Ok(shown.map(|table| table.name().to_string()).collect())
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
    ) -> Result<LoadedTable, LoadTableError> {
        let state = self.fresh(Home::Cluster).await?;
        let known = state.table_by_name(name);
        let unknown = || LoadTableError::Unknown {
            name: name.to_owned(),
        };
        let table = known.filter(|table| !table.is_dropped());
        let table = table.ok_or_else(unknown)?;
        let permit = self.may_read(session, &state, table)?;
        self.published(table, permit).await
    }

    fn may_read(&self, session: &Session, state: &State, table: &Table) -> Result<Permit, Denied> {
        let topic = table.topic().and_then(|id| state.topic(id));
        let name = topic.map_or(table.name().as_str(), |topic| topic.name().as_str());
        self.authorize(session, Action::Read, Resource::topic(name))
    }

    async fn published(&self, table: &Table, _: Permit) -> Result<LoadedTable, LoadTableError> {
        let store = &self.inner.store;
        let location = Location::new(&store.url_of(&ObjectPath::folder_of(table.name())));
        let unpublished = |reason: String| LoadTableError::Unpublished {
            name: table.name().to_string(),
            reason,
        };
        let metadata = iceberg::table_metadata(table, &location);
        let metadata = Bytes::from(metadata.map_err(|error| unpublished(error.to_string()))?);
        let version = table.version();
        let path = ObjectPath::archive(table.name(), ArchiveObject::Metadata(version));
        match store.head(&path, RequestKind::ArchiveGet).await {
            Ok(_) => {}
            Err(StoreError::NotFound { .. }) => {
                for snapshot in table.snapshots() {
                    let list = ArchiveObject::List(snapshot.seq);
                    let list = ObjectPath::archive(table.name(), list);
                    let bytes = iceberg::manifest_list(table, snapshot, &location);
                    self.store_derived(&list, bytes.into())
                        .await
                        .map_err(unpublished)?;
                }
                self.store_derived(&path, metadata.clone())
                    .await
                    .map_err(unpublished)?;
            }
            Err(error) => return Err(unpublished(error.to_string())),
        }
        Ok(LoadedTable {
            version,
            metadata,
            metadata_location: store.url_of(path.as_str()),
        })
    }

    /// Stores what any node derives from the state.
    async fn store_derived(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), String> {
        let create = self
            .inner
            .store
            .create(path, vec![bytes], RequestKind::ArchivePut);
        match create.await {
            Ok(Created::Created | Created::Exists) => Ok(()),
            Ok(Created::Unknown(cause)) => Err(cause.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}
