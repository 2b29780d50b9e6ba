//! Doing what was planned.

use bytes::Bytes;
use serde::Serialize;

use super::plan::Plan;
use super::{RepairError, seal};
use crate::manifest::encode_commit;
use crate::rules::{Rule, holds};
use crate::store::{Created, ObjectPath, RequestKind, Store, StoreError};
use crate::types::Seq;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Where the copies are of what was replaced or removed.
    pub copies: Vec<String>,
    /// The commits that were replaced.
    pub voided: Vec<Seq>,
    /// The snapshots that were removed.
    pub removed: Vec<Seq>,
    /// The seals that were put at the end of the log.
    pub seals: Vec<Seq>,
}

/// Does what the plan says: copies first, then voids, then the snapshots, then the seal.
///
/// # Errors
///
/// See [`RepairError`]. After an error any part may be done; planning and carrying out again does the rest.
pub async fn carry_out(store: &Store, plan: &Plan, force: bool) -> Result<Repaired, RepairError> {
    if let Some(node) = plan.live.first()
        && !force
        && holds(Rule::RepairNeedsStoppedNodes)
    {
        return Err(RepairError::Live(node.node));
    }
    let next = ObjectPath::commit(plan.log_end.next());
    if exists(store, &next).await? {
        return Err(RepairError::InUse(next.to_string()));
    }
    let mut done = Repaired::default();
    let commits = plan.commits.iter().filter(|commit| commit.exists);
    let commits = commits.map(|commit| ObjectPath::commit(commit.seq));
    let snapshots: Vec<ObjectPath> = plan
        .snapshots
        .iter()
        .map(|snapshot| ObjectPath::snapshot(snapshot.seq))
        .collect();
    let chunks = plan.snapshots.iter().flat_map(|snapshot| {
        let chunks = snapshot.chunks.iter();
        chunks.map(|index| ObjectPath::chunk(snapshot.seq, *index))
    });
    for path in commits.chain(snapshots.iter().cloned()).chain(chunks) {
        if holds(Rule::RepairCopiesFirst)
            && let Some(copy) = keep_copy(store, plan, &path).await?
        {
            done.copies.push(copy.to_string());
        }
    }
    for ((seq, void), damaged) in plan.voids.iter().zip(&plan.commits) {
        let path = ObjectPath::commit(*seq);
        let object = encode_commit(void, Bytes::new())?;
        match damaged.exists {
            true => replace(store, &path, object).await?,
            false => create(store, &path, object).await?,
        }
        done.voided.push(*seq);
    }
    if !snapshots.is_empty() {
        store.delete(snapshots).await?;
        done.removed = plan.snapshots.iter().map(|snapshot| snapshot.seq).collect();
    }
    done.seals = put_seals(store, plan).await?;
    Ok(done)
}

/// Puts a seal for each repair whose voids have none, at the first free places from the end of the log on. What a node
/// had under way behind the end is void behind the seal, as it says itself.
async fn put_seals(store: &Store, plan: &Plan) -> Result<Vec<Seq>, RepairError> {
    let mut seals = Vec::new();
    let mut at = plan.log_end;
    for after in plan.unsealed.iter().copied() {
        at = at.next();
        while plan.ahead > 0 && exists(store, &ObjectPath::commit(at)).await? {
            at = at.next();
        }
        let object = encode_commit(&seal(after), Bytes::new())?;
        create(store, &ObjectPath::commit(at), object).await?;
        seals.push(at);
    }
    Ok(seals)
}

/// Copies an object, and reads the copy back. Nothing if there is no such object any more.
async fn keep_copy(
    store: &Store,
    plan: &Plan,
    path: &ObjectPath,
) -> Result<Option<ObjectPath>, RepairError> {
    let bytes = match store.get(path, RequestKind::Repair).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let copy = ObjectPath::copy(plan.run, path);
    replace(store, &copy, bytes).await?;
    Ok(Some(copy))
}

/// Writes an object whether or not it exists, and reads it back.
async fn replace(store: &Store, path: &ObjectPath, object: Bytes) -> Result<(), RepairError> {
    store
        .put_unique(path, object.clone(), RequestKind::Repair)
        .await?;
    match is_there(store, path, &object).await? {
        true => Ok(()),
        false => Err(RepairError::NotStored(path.to_string())),
    }
}

/// Creates an object where there is none. If there is one by now it must be this one, of which the answer was lost.
async fn create(store: &Store, path: &ObjectPath, object: Bytes) -> Result<(), RepairError> {
    loop {
        let created = store
            .create(path, object.clone(), RequestKind::Repair)
            .await?;
        match (created, exists(store, path).await?) {
            (Created::Unknown(_), false) => continue,
            (_, true) if is_there(store, path, &object).await? => return Ok(()),
            (Created::Exists | Created::Unknown(_), true) => {
                return Err(RepairError::InUse(path.to_string()));
            }
            (Created::Created | Created::Exists, _) => {
                return Err(RepairError::NotStored(path.to_string()));
            }
        }
    }
}

async fn exists(store: &Store, path: &ObjectPath) -> Result<bool, StoreError> {
    match store.head(path, RequestKind::Repair).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn is_there(store: &Store, path: &ObjectPath, object: &Bytes) -> Result<bool, StoreError> {
    match store.get(path, RequestKind::Repair).await {
        Ok(read) => Ok(read == *object),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
