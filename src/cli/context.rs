//! What every command is given, and how it opens the bucket.

use std::time::Duration;

use super::progress::Progress;
use super::{CliError, Output};
use crate::client::Client;
use crate::config::ClientConfig;
use crate::env::Env;
use crate::node::NodeOptions;
use crate::store::{Store, StoreMetrics, StoreUrl};

/// What a command works with.
pub(super) struct Context {
    /// The settings.
    pub(super) config: ClientConfig,
    /// Where it writes.
    pub(super) output: Output,
    /// Clocks and randomness.
    pub(super) env: Env,
}

impl Context {
    /// Opens the bucket as a short-lived node, does the work, closes it, and hands on what was written.
    pub(super) async fn with_client<T>(
        &mut self,
        work: impl AsyncFnOnce(&Client, &mut Output) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let store = &self.config.store.store;
        let opening = Client::open_with(&self.config, self.env.clone(), "weir-cli");
        let client = Progress::during(&format!("opening {store}"), opening).await?;
        let done = work(&client, &mut self.output).await;
        Progress::during("closing", client.close()).await;
        let flushed = self.output.flush();
        let done = done?;
        flushed.map(|()| done)
    }

    /// Opens the store alone, for what looks at objects and not at the cluster. A person waits for the
    /// answer, so a request that fails is not repeated for as long as a node would.
    pub(super) async fn open_store(&self) -> Result<Store, CliError> {
        let settings = &self.config.store;
        let url: StoreUrl = settings.store.parse()?;
        let options = NodeOptions::from_config(settings, &self.config.node, self.env.clone())?;
        let mut options = options.store;
        options.retry.deadline = options.retry.deadline.min(LOOKING);
        Ok(Store::open(&url, options, StoreMetrics::default()).await?)
    }

    /// The wall time, for judging what is alive and reading "15min ago".
    pub(super) fn now(&self) -> crate::types::Timestamp {
        self.env.now()
    }
}

/// How long a request of a command that only looks is repeated.
const LOOKING: Duration = Duration::from_secs(10);

/// How long something may take before a person is shown that it goes on.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
