//! Reading the log.

use crate::format::FormatError;
use crate::state::Level;
use crate::store::{ObjectPath, RequestKind, Store, StoreError};
use crate::types::Seq;

use super::object::{LoggedCommit, ObjectError};

/// Why a commit could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// Reading it again may succeed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Reading it again gives the same: the fold cannot go on.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// Reads the commit at `seq`, if there is one: its first `limit` bytes, or as many as its ops take.
/// Makes one attempt. A commit above the level `known` cannot be folded, so it is an error.
pub(super) async fn read(
    store: &Store,
    known: Level,
    seq: Seq,
    limit: u64,
    kind: RequestKind,
) -> Result<Option<LoggedCommit>, LogError> {
    let path = ObjectPath::commit(seq);
    let Some((prefix, object_len)) = store.probe(&path, limit, kind).await? else {
        return Ok(None);
    };
    let needed = match LoggedCommit::decode(path.as_str(), seq, &prefix, object_len) {
        Err(ObjectError::Format(FormatError::Truncated { needed, .. }))
            if (prefix.len() as u64) < object_len =>
        {
            needed
        }
        decoded => return Ok(Some(decoded?.at_level(path.as_str(), known)?)),
    };
    let (prefix, object_len) = store
        .get_range(&path, 0..needed, RequestKind::CommitGet)
        .await?;
    let logged = LoggedCommit::decode(path.as_str(), seq, &prefix, object_len)?;
    Ok(Some(logged.at_level(path.as_str(), known)?))
}

/// The same with so many attempts, if the store does not answer.
pub(super) async fn read_repeatedly(
    store: &Store,
    known: Level,
    seq: Seq,
    limit: u64,
    kind: RequestKind,
    attempts: u32,
) -> Result<Option<LoggedCommit>, LogError> {
    let (policy, env) = (store.options().retry, &store.options().env);
    let mut failures = 0;
    loop {
        match read(store, known, seq, limit, kind).await {
            Err(LogError::Store(error)) if error.is_retriable() => {
                failures += 1;
                if failures >= attempts {
                    return Err(error.into());
                }
            }
            read => return read,
        }
        tokio::time::sleep(policy.pause(failures, env)).await;
    }
}
