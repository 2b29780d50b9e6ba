//! What goes: snapshots, files by time and by size, and the objects of what no snapshot names any more.
//!
//! An object goes when no snapshot has named it for the grace period, by what has passed by every clock and by how long
//! this node has itself known of it, as dead objects do (`deletion.rs`): an engine that opened the table before may still
//! be reading it. What is deleted is then struck off by an op; to delete what is gone is no error.

use super::super::deletion::BATCH;
use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::policy;
use crate::rules::{Rule, holds};
use crate::state::State;
use crate::state::op::Op;
use crate::state::table::{RetiredManifest, Table};
use crate::store::{ArchiveObject, ObjectPath};
use crate::types::FileId;

/// What is to go of a table now: an op, if anything is.
pub(super) fn expiry(m: &Maintenance, state: &State, table: &Table) -> Option<Op> {
    if table.is_dropped() {
        return None;
    }
    let now = m.passed();
    let settings = policy::settings(state, table);
    if let Some(through) = policy::expired(table, &settings, now) {
        return Some(Op::ExpireFiles {
            table: table.id(),
            through,
            as_of: state.seq(),
        });
    }
    let before = policy::snapshots(table, &m.options().archive, now)?;
    Some(Op::ExpireSnapshots {
        table: table.id(),
        before,
    })
}

/// The manifests whose objects may be deleted.
pub(super) fn deletable<'a>(
    m: &'a Maintenance,
    table: &'a Table,
) -> impl Iterator<Item = &'a RetiredManifest> {
    let grace = m.options().deletion_grace;
    let known = m.inner.manifest.known_for(grace, &m.inner.env);
    let now = m.passed();
    table.retired().filter(move |retired| {
        retired.unnamed.is_some_and(|unnamed| {
            let is_young = unnamed.since.after(grace) > now || unnamed.seq > known.seq;
            !(is_young && holds(Rule::UnnamedManifestsWaitForGrace))
        })
    })
}

/// Deletes a batch of what may be deleted of a table. Returns whether there was anything.
///
/// # Errors
///
/// Those of the store, after which any number may be gone; [`JobError::Stopped`].
pub(super) async fn delete(m: &Maintenance, table: &Table) -> Result<bool, JobError> {
    let (mut manifests, mut paths): (Vec<FileId>, Vec<ObjectPath>) = (Vec::new(), Vec::new());
    let path = |object| ObjectPath::archive(table.name(), object);
    for retired in deletable(m, table) {
        if paths.len() >= BATCH {
            break;
        }
        manifests.push(retired.manifest.id);
        let files = retired.files.iter().copied();
        paths.extend(files.map(|file| path(ArchiveObject::Data(file))));
        paths.push(path(ArchiveObject::Manifest(retired.manifest.id)));
    }
    if manifests.is_empty() {
        return Ok(false);
    }
    let objects = paths.len();
    for batch in paths.chunks(BATCH) {
        m.delete("archive", batch.to_vec()).await?;
    }
    m.must_commit(vec![Op::ManifestsDeleted {
        table: table.id(),
        manifests,
    }])
    .await?;
    tracing::info!(table = %table.name(), objects, "deleted what no snapshot of a table names any more");
    Ok(true)
}
