//! Tables of the archive, as far as people change them: they are dropped by hand. All else follows from the settings of
//! topics.

use super::access::{Action, Denied, Permit, Resource};
use super::{Broker, Home, Session, Unavailable};
use crate::state::op::{Op, Rejected};
use crate::types::TableName;

/// Why a table was not dropped.
#[derive(Debug, thiserror::Error)]
pub enum DropTableError {
    /// There is none of that name.
    #[error("there is no table '{0}'")]
    NotFound(String),
    /// The fold refused.
    #[error(transparent)]
    Refused(#[from] Rejected),
    /// The client may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The bucket could not be asked.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Broker {
    /// Drops a table: engines find it no more, and its objects are deleted after the grace period. Refused while its
    /// topic is archived.
    ///
    /// # Errors
    ///
    /// [`DropTableError`].
    pub async fn drop_table(
        &self,
        session: &Session,
        name: &str,
    ) -> Result<TableName, DropTableError> {
        let permit = self.authorize(session, Action::Alter, Resource::Cluster)?;
        self.drop(permit, session, name).await
    }

    async fn drop(
        &self,
        _: Permit,
        session: &Session,
        name: &str,
    ) -> Result<TableName, DropTableError> {
        let mut asking = self.asks(session, Home::Cluster).await?;
        loop {
            let table = asking.state().table_by_name(name);
            let table = table.filter(|table| !table.is_dropped());
            let table = table.ok_or_else(|| DropTableError::NotFound(name.to_owned()))?;
            let (id, name) = (table.id(), table.name().clone());
            let drops = vec![Op::DropTable { table: id }];
            let Some(committed) = asking.commit(drops).await? else {
                continue;
            };
            let mut outcomes = committed.outcomes.into_iter();
            outcomes.try_for_each(|outcome| outcome.map(drop))?;
            return Ok(name);
        }
    }
}
