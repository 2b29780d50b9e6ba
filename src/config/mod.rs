//! What a person can set about a node: the settings, their sources and their validation.
//!
//! Every setting has one name, one documentation text, one default and one type, declared once in
//! [`groups`](self) and used everywhere: as the flag `--commit-interval`, the environment variable
//! `WEIR_COMMIT_INTERVAL`, the key `commit_interval` of the configuration file, and the line in
//! `docs/settings.md`. A flag wins over the environment, the environment over the file, the file over
//! the default.
//!
//! What it never does: read the environment, the command line or a file (the CLI hands it their
//! contents as [`Sources`]), print, or hold a secret. Credentials are no settings; they come from where
//! the cloud's own tools take them.
//!
//! Invariants: a [`ServeConfig`] or [`ClientConfig`] that was loaded is valid as a whole; an error
//! names the setting and the source of the bad value. There is no state here, so there is nothing to
//! do after a crash.

mod error;
mod groups;
mod listeners;
mod load;
mod page;
mod setting;
#[cfg(test)]
mod tests;
mod values;

pub use error::ConfigError;
pub use groups::{
    ListenConfig, LogConfig, MaintenanceConfig, NodeConfig, QueryConfig, StoreConfig,
};
pub use listeners::{KafkaListener, KafkaListeners, Security};
pub use load::{ClientConfig, ConfigFile, ServeConfig, Source, Sources};
pub use page::settings_page;
pub use setting::{Group, Setting, Value};
pub use values::{Advertise, CatalogAccess, HostPort, ListenAddress, LogFormat, Protocol};
