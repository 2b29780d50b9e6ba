//! Iceberg's metadata, derived from the state.
//!
//! The lists of manifests of all snapshots come first, then the metadata that names them, then the hint that names the
//! metadata. All but the hint are created under names that contain a commit's number, and are the same bytes from every
//! node: where one exists, it is read, and if it is another, which only damage can bring about, it is put right.
//!
//! The hint is overwritten. Two nodes that publish at once may leave one that names the older of two versions: engines then
//! see that until the next version is published. Weir never reads it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use super::policy;
use super::write::{Writing, compute};
use crate::state::State;
use crate::state::table::Table;
use crate::store::{ArchiveObject, Created, ObjectPath, RequestKind};
use crate::table::iceberg;
use crate::types::{Seq, TableId};

/// What this node knows to be published.
#[derive(Default)]
pub(super) struct Published {
    tables: BTreeMap<TableId, OfTable>,
}

#[derive(Default)]
struct OfTable {
    version: Option<Seq>,
    lists: BTreeSet<Seq>,
}

impl Published {
    /// Whether a version of a table is not published, as far as this node knows.
    pub(super) fn lacks(&self, table: &Table) -> bool {
        let known = self.tables.get(&table.id());
        !table.is_dropped() && known.and_then(|known| known.version) != Some(table.version())
    }

    /// Forgets the tables that are no more.
    pub(super) fn retain(&mut self, state: &State) {
        self.tables.retain(|id, _| state.table(*id).is_some());
    }

    /// Publishes a version of a table.
    ///
    /// # Errors
    ///
    /// Those of the store. What was published stands.
    pub(super) async fn publish(
        &mut self,
        m: &Maintenance,
        state: &State,
        table: &Table,
    ) -> Result<(), JobError> {
        let known = self.tables.entry(table.id()).or_default();
        let location = Writing::location(m, table.name());
        for snapshot in table.snapshots() {
            if known.lists.contains(&snapshot.seq) {
                continue;
            }
            let (of, at, place) = (table.clone(), *snapshot, location.clone());
            let list = compute(m, move || iceberg::manifest_list(&of, &at, &place)).await?;
            store(m, table, ArchiveObject::List(snapshot.seq), list.into()).await?;
            known.lists.insert(snapshot.seq);
        }
        let named: BTreeSet<Seq> = table.snapshots().iter().map(|s| s.seq).collect();
        known.lists.retain(|seq| named.contains(seq));
        let of = table.clone();
        let metadata = compute(m, move || iceberg::table_metadata(&of, &location)).await?;
        let metadata = metadata.map_err(|error| JobError::Table {
            table: table.name().clone(),
            reason: error.to_string(),
        })?;
        let version = table.version();
        store(m, table, ArchiveObject::Metadata(version), metadata.into()).await?;
        if policy::settings(state, table).hint {
            let path = ObjectPath::archive(table.name(), ArchiveObject::Hint);
            let hint = Bytes::from(version.to_string());
            let kind = RequestKind::ArchivePut;
            m.inner.store.put_unique(&path, vec![hint], kind).await?;
        }
        known.version = Some(version);
        tracing::debug!(table = %table.name(), %version, "published a version of a table");
        Ok(())
    }
}

/// Creates an object that is derived from the state. One that is there is the same, or is put right.
async fn store(
    m: &Maintenance,
    table: &Table,
    object: ArchiveObject,
    bytes: Bytes,
) -> Result<(), JobError> {
    let path = ObjectPath::archive(table.name(), object);
    let (store, kind) = (&m.inner.store, RequestKind::ArchivePut);
    let len = bytes.len() as u64;
    match store.create(&path, vec![bytes.clone()], kind).await? {
        Created::Created => {}
        Created::Exists => {
            let found = store.get(&path, RequestKind::ArchiveGet).await?;
            if found != bytes {
                tracing::warn!(
                    object = %path,
                    "what was derived from the state before is not what is derived from it now; it is written again. If \
                     nodes name the store by different URLs, give all of them the same"
                );
                store.put_unique(&path, vec![bytes], kind).await?;
            }
        }
        Created::Unknown(cause) => {
            return Err(JobError::Unsettled {
                object: path.to_string(),
                cause,
            });
        }
    }
    m.inner.metrics.moved(Task::Archive, 0, len);
    Ok(())
}
