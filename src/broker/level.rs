//! The level of the cluster, raised by hand once all nodes are upgraded.

use super::access::{Action, Denied, Permit, Resource};
use super::{Broker, Home, Session, Unavailable};
use crate::state::Level;
use crate::state::op::{Op, Rejected};

/// Why the level was not raised.
#[derive(Debug, thiserror::Error)]
pub enum RaiseLevelError {
    /// A node does not know it.
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
    /// Raises the level of the cluster to the newest that this software knows. Returns what it was, and what it is.
    /// There is no way back: a node that does not know the new level stops, and none such starts.
    ///
    /// # Errors
    ///
    /// [`RaiseLevelError::Refused`] while a registered node does not know it, and [`RaiseLevelError::Denied`].
    pub async fn raise_level(&self, session: &Session) -> Result<(Level, Level), RaiseLevelError> {
        let permit = self.authorize(session, Action::Alter, Resource::Cluster)?;
        self.raise(permit).await
    }

    async fn raise(&self, _: Permit) -> Result<(Level, Level), RaiseLevelError> {
        let state = self.fresh(Home::Cluster).await?;
        let (before, to) = (state.level(), self.inner.logs.of(Home::Cluster).level());
        // Even refused, this op is one that an older node cannot read.
        state.check_raise(to)?;
        let committed = self
            .commit(Home::Cluster, vec![Op::RaiseLevel { to }])
            .await?;
        committed
            .outcomes
            .into_iter()
            .try_for_each(|outcome| outcome.map(drop))?;
        Ok((before, committed.state.level()))
    }
}
