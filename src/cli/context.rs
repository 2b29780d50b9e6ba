//! What every command is given, and how it opens the bucket.

use std::time::Duration;

use super::progress::Progress;
use super::{CliError, Output};
use crate::config::ClientConfig;
use crate::embedded::Client;
use crate::env::Env;
use crate::node::NodeOptions;
use crate::store::{Store, StoreMetrics, StoreOptions, StoreUrl};

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
        // On the heap: one of these futures is large, and an unoptimised build has space on the stack for that of each
        // command at once.
        let opening = Box::pin(Client::open_with(
            &self.config,
            self.env.clone(),
            "weir-cli",
        ));
        let client = Progress::during(&format!("opening {store}"), opening).await?;
        let done = Box::pin(work(&client, &mut self.output)).await;
        Progress::during("closing", Box::pin(client.close())).await;
        let flushed = self.output.flush();
        let done = done?;
        flushed.map(|()| done)
    }

    /// Opens the store alone, for the check that writes to it. A person waits for the answer, so a request that
    /// fails is not repeated for as long as a node would.
    pub(super) async fn open_store(&self) -> Result<Store, CliError> {
        let (url, mut options) = self.store_options()?;
        options.retry.deadline = options.retry.deadline.min(LOOKING);
        Ok(Store::open(&url, options, StoreMetrics::default()).await?)
    }

    /// Opens the store alone for what looks at one object and not at the cluster. Nothing can be changed through it,
    /// and nothing is made that is not there.
    pub(super) async fn look_at_store(&self) -> Result<Store, CliError> {
        let (url, mut options) = self.store_options()?;
        options.retry.deadline = options.retry.deadline.min(LOOKING);
        Ok(Store::open_read_only(&url, options, StoreMetrics::default()).await?)
    }

    /// The same for what walks through all of it, which may take hours: requests are repeated for as long as a node
    /// would.
    pub(super) async fn walk_through_store(&self) -> Result<Store, CliError> {
        let (url, options) = self.store_options()?;
        Ok(Store::open_read_only(&url, options, StoreMetrics::default()).await?)
    }

    fn store_options(&self) -> Result<(StoreUrl, StoreOptions), CliError> {
        let settings = &self.config.store;
        let options = NodeOptions::from_config(settings, &self.config.node, self.env.clone())?;
        Ok((options.url, options.store))
    }

    /// The wall time, for judging what is alive and reading "15min ago".
    pub(super) fn now(&self) -> crate::types::Timestamp {
        self.env.wall()
    }
}

/// How long a request of a command that only looks is repeated.
const LOOKING: Duration = Duration::from_secs(10);

/// How long something may take before a person is shown that it goes on.
pub(super) const SHOW_AFTER: Duration = Duration::from_secs(2);
