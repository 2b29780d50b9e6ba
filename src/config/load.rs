//! From sources to a valid configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{
    CatalogAccess, ConfigError, Group, KafkaListener, ListenConfig, LogConfig, MaintenanceConfig,
    NodeConfig, Protocol, QueryConfig, Setting, StoreConfig,
};
use crate::types::{ByteCount, MAX_COMMITS_IN_FLIGHT};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// The configuration file.
    File(String),
    /// Nowhere.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(flag) => write!(f, "--{flag}"),
            Source::Environment(variable) => f.write_str(variable),
            Source::File(path) => f.write_str(path),
            Source::Default => f.write_str("the default"),
        }
    }
}

/// The settings of a configuration file: one TOML file of keys without tables, for every command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    path: String,
    values: BTreeMap<&'static str, String>,
}

impl ConfigFile {
    /// Reads the contents of the file at `path` (which is only named in errors).
    pub fn parse(path: &str, contents: &str) -> Result<ConfigFile, ConfigError> {
        let table: toml::Table = contents.parse().map_err(|error: toml::de::Error| {
            let line = error
                .span()
                .and_then(|span| contents.get(..span.start))
                .map(|before| before.matches('\n').count() + 1);
            let reason = error.message().replace('\n', "; ");
            ConfigError::NotToml {
                path: path.to_owned(),
                reason: match line {
                    Some(line) => format!("line {line}: {reason}"),
                    None => reason,
                },
            }
        })?;
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let setting = all_settings()
                .find(|s| s.key == key)
                .ok_or_else(|| unknown_key(path, &key))?;
            let found = match value {
                toml::Value::String(text) => Ok(text),
                toml::Value::Integer(number) => Ok(number.to_string()),
                toml::Value::Boolean(yes) => Ok(yes.to_string()),
                toml::Value::Float(_) => Err("a number with a fraction"),
                toml::Value::Datetime(_) => Err("a date"),
                toml::Value::Array(_) => Err("a list"),
                toml::Value::Table(_) => Err("a table"),
            };
            let text = found.map_err(|found| ConfigError::NotScalar {
                path: path.to_owned(),
                key: setting.key,
                found,
            })?;
            values.insert(setting.key, text);
        }
        Ok(ConfigFile {
            path: path.to_owned(),
            values,
        })
    }
}

/// Every setting there is.
fn all_settings() -> impl Iterator<Item = &'static Setting> {
    [
        StoreConfig::SETTINGS,
        ListenConfig::SETTINGS,
        NodeConfig::SETTINGS,
        MaintenanceConfig::SETTINGS,
        QueryConfig::SETTINGS,
        LogConfig::SETTINGS,
    ]
    .into_iter()
    .flatten()
}

fn unknown_key(path: &str, key: &str) -> ConfigError {
    let asked = key.to_ascii_lowercase().replace('-', "_");
    let nearest = all_settings().min_by_key(|s| edits_between(&asked, s.key));
    ConfigError::UnknownKey {
        path: path.to_owned(),
        key: shortened(key),
        nearest: nearest.map_or("store", |s| s.key),
    }
}

/// How many insertions, deletions and replacements lead from one text to the other (Levenshtein). The
/// cost is bounded by looking at the first 64 characters.
fn edits_between(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = *above;
            left = replaced.min(diagonal + 1).min(left + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The head of a value that may be anything, on one line.
fn shortened(value: &str) -> String {
    value
        .chars()
        .take(80)
        .flat_map(char::escape_debug)
        .collect()
}

/// The contents of everything that settings are taken from, strongest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The flags given, by the setting's key.
    pub flags: BTreeMap<&'static str, String>,
    /// The environment variables whose names begin with `WEIR_`. Those that are no settings are
    /// ignored: orchestrators put such names there by themselves.
    pub environment: BTreeMap<String, String>,
    /// The configuration file, if there is one.
    pub file: Option<ConfigFile>,
}

impl Sources {
    /// The value of `setting` as it is written, and where.
    pub fn find(&self, setting: &Setting) -> (&str, Source) {
        if let Some(text) = self.flags.get(setting.key) {
            return (text, Source::Flag(setting.flag));
        }
        if let Some(text) = self.environment.get(setting.variable) {
            return (text, Source::Environment(setting.variable));
        }
        if let Some(file) = &self.file
            && let Some(text) = file.values.get(setting.key)
        {
            return (text, Source::File(file.path.clone()));
        }
        (setting.default, Source::Default)
    }

    fn load<G: Group>(&self) -> Result<G, ConfigError> {
        let mut group = G::default();
        for setting in G::SETTINGS {
            let (text, source_of_value) = self.find(setting);
            if source_of_value == Source::Default {
                continue;
            }
            if let Some(Err(reason)) = group.set(setting.key, text) {
                return Err(ConfigError::Invalid {
                    key: setting.key,
                    source_of_value,
                    value: shortened(text),
                    reason,
                });
            }
        }
        Ok(group)
    }

    /// The error that `key` breaks a rule with another setting.
    fn conflict(&self, key: &'static str, reason: String) -> ConfigError {
        let setting = all_settings().find(|s| s.key == key);
        ConfigError::Conflict {
            key,
            source_of_value: setting.map_or(Source::Default, |s| self.find(s).1),
            reason,
        }
    }
}

/// The settings of `weir serve`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeConfig {
    /// Where everything durable is.
    pub store: StoreConfig,
    /// Where the node listens.
    pub listen: ListenConfig,
    /// How the node writes, reads and lives.
    pub node: NodeConfig,
    /// What it does about old data.
    pub maintenance: MaintenanceConfig,
    /// What queries may take.
    pub query: QueryConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// The settings of the commands that open the bucket themselves, and of the library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientConfig {
    /// Where everything durable is.
    pub store: StoreConfig,
    /// How the short-lived node writes, reads and lives.
    pub node: NodeConfig,
    /// What queries may take.
    pub query: QueryConfig,
    /// What is logged.
    pub log: LogConfig,
}

impl ServeConfig {
    /// Reads and checks the settings.
    pub fn load(sources: &Sources) -> Result<ServeConfig, ConfigError> {
        let config = ServeConfig {
            store: sources.load()?,
            listen: sources.load()?,
            node: sources.load()?,
            maintenance: sources.load()?,
            query: sources.load()?,
            log: sources.load()?,
        };
        check_store(&config.store, sources)?;
        check_node(&config.node, sources)?;
        if config.node.catalog == CatalogAccess::Sts && !config.store.store.starts_with("s3://") {
            let reason =
                "with sts the store gives out the credentials, which only s3:// can; use proxy";
            return Err(sources.conflict("catalog", reason.to_owned()));
        }
        check_maintenance(&config.maintenance, sources)?;
        check_listen(&config.listen, sources)?;
        check_query(&config.query, sources)?;
        Ok(config)
    }
}

impl ClientConfig {
    /// Reads and checks the settings. Those of listening may be there (one file serves all) and are not
    /// looked at.
    pub fn load(sources: &Sources) -> Result<ClientConfig, ConfigError> {
        let config = ClientConfig {
            store: sources.load()?,
            node: sources.load()?,
            query: sources.load()?,
            log: sources.load()?,
        };
        check_store(&config.store, sources)?;
        check_node(&config.node, sources)?;
        check_query(&config.query, sources)?;
        Ok(config)
    }
}

fn check_store(store: &StoreConfig, sources: &Sources) -> Result<(), ConfigError> {
    let positive = [
        ("store_connect_timeout", store.store_connect_timeout),
        ("store_request_timeout", store.store_request_timeout),
        ("store_log_timeout", store.store_log_timeout),
        ("store_retry_deadline", store.store_retry_deadline),
    ];
    for (key, duration) in positive {
        within(sources, key, duration, Duration::from_millis(1), HOUR)?;
    }
    if !(2..=4096).contains(&store.store_max_requests) {
        return Err(sources.conflict(
            "store_max_requests",
            format!("{} is not between 2 and 4096", store.store_max_requests),
        ));
    }
    Ok(())
}

const HOUR: Duration = Duration::from_secs(3600);

fn check_node(node: &NodeConfig, sources: &Sources) -> Result<(), ConfigError> {
    let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
    if let Some(interval) = node.commit_interval {
        within(sources, "commit_interval", interval, zero, 60 * second)?;
    }
    if !(1..=MAX_COMMITS_IN_FLIGHT).contains(&node.commits_in_flight) {
        let reason = format!(
            "{} is not between 1 and {MAX_COMMITS_IN_FLIGHT}",
            node.commits_in_flight
        );
        return Err(sources.conflict("commits_in_flight", reason));
    }
    if let Some(interval) = node.follow_interval {
        let least = Duration::from_millis(1);
        within(sources, "follow_interval", interval, least, 60 * second)?;
    }
    within(sources, "node_lease", node.node_lease, 2 * second, HOUR)?;
    // What AWS gives a role for, so that one setting fits all.
    let (least, most) = (900 * second, 12 * HOUR);
    within(
        sources,
        "catalog_lifetime",
        node.catalog_lifetime,
        least,
        most,
    )?;
    if node.catalog == CatalogAccess::Sts && node.catalog_role.is_none() {
        let reason = "with sts a role is needed that the node assumes: set --catalog-role ARN";
        return Err(sources.conflict("catalog", reason.to_owned()));
    }
    at_least(
        sources,
        "segment_size",
        node.segment_size,
        ByteCount::kib(64),
    )?;
    at_most(
        sources,
        "segment_size",
        node.segment_size,
        ByteCount::mib(512),
    )?;
    at_most(
        sources,
        "inline_limit",
        node.inline_limit,
        ByteCount::mib(16),
    )?;
    at_least(
        sources,
        "fetch_max_bytes",
        node.fetch_max_bytes,
        ByteCount::kib(64),
    )?;
    at_most(
        sources,
        "fetch_max_bytes",
        node.fetch_max_bytes,
        ByteCount::mib(1024),
    )?;
    for (key, other) in [
        ("inline_limit", node.inline_limit),
        ("segment_size", node.segment_size),
    ] {
        if node.ingest_buffer < other {
            return Err(sources.conflict(
                "ingest_buffer",
                format!(
                    "{} is less than {key}, which is {other}",
                    node.ingest_buffer
                ),
            ));
        }
    }
    if node.max_partitions == 0 {
        let reason = "0 would not allow a single topic".to_owned();
        return Err(sources.conflict("max_partitions", reason));
    }
    if !(1..=64).contains(&node.upload_parallelism) {
        return Err(sources.conflict(
            "upload_parallelism",
            format!("{} is not between 1 and 64", node.upload_parallelism),
        ));
    }
    Ok(())
}

/// Longer than a read that began by a state whose proof was five minutes old, and no older, takes
/// (`state::TAIL_PROOF_LIFE`).
const MIN_GRACE: Duration = Duration::from_secs(360);

/// Longer than an upload is tried (`store_retry_deadline`, three minutes) and the commit behind it.
const MIN_SWEEP_AGE: Duration = Duration::from_secs(5 * 60);

fn check_maintenance(config: &MaintenanceConfig, sources: &Sources) -> Result<(), ConfigError> {
    let second = Duration::from_secs(1);
    let durations = [
        (
            "maintenance_interval",
            config.maintenance_interval,
            second / 10,
            HOUR,
        ),
        (
            "deletion_grace",
            config.deletion_grace,
            MIN_GRACE,
            30 * 24 * HOUR,
        ),
        (
            "sweep_interval",
            config.sweep_interval,
            10 * second,
            30 * 24 * HOUR,
        ),
        ("sweep_age", config.sweep_age, MIN_SWEEP_AGE, 30 * 24 * HOUR),
        (
            "compaction_min_age",
            config.compaction_min_age,
            Duration::ZERO,
            24 * HOUR,
        ),
        (
            "compaction_max_wait",
            config.compaction_max_wait,
            second,
            30 * 24 * HOUR,
        ),
    ];
    for (key, found, least, most) in durations {
        within(sources, key, found, least, most)?;
    }
    let target = config.compaction_target;
    at_least(sources, "compaction_target", target, ByteCount::mib(1))?;
    at_most(sources, "compaction_target", target, ByteCount::mib(1024))?;
    if config.compaction_bandwidth.0 > 0 {
        let bandwidth = config.compaction_bandwidth;
        at_least(
            sources,
            "compaction_bandwidth",
            bandwidth,
            ByteCount::kib(64),
        )?;
    }
    Ok(())
}

fn check_query(query: &QueryConfig, sources: &Sources) -> Result<(), ConfigError> {
    at_least(
        sources,
        "query_memory",
        query.query_memory,
        ByteCount::mib(16),
    )?;
    let second = Duration::from_secs(1);
    within(
        sources,
        "query_timeout",
        query.query_timeout,
        second,
        24 * HOUR,
    )?;
    if !(1..=256).contains(&query.max_queries) {
        let reason = format!("{} is not between 1 and 256", query.max_queries);
        return Err(sources.conflict("max_queries", reason));
    }
    Ok(())
}

fn check_listen(listen: &ListenConfig, sources: &Sources) -> Result<(), ConfigError> {
    at_least(
        sources,
        "max_request_size",
        listen.max_request_size,
        ByteCount::kib(64),
    )?;
    at_most(
        sources,
        "max_request_size",
        listen.max_request_size,
        ByteCount::mib(1024),
    )?;
    if listen.request_memory < listen.max_request_size {
        return Err(sources.conflict(
            "request_memory",
            format!(
                "{} is less than max_request_size, which is {}: such a request could never be read",
                listen.request_memory, listen.max_request_size
            ),
        ));
    }
    for (key, number) in [
        ("max_connections", listen.max_connections),
        ("max_connections_per_ip", listen.max_connections_per_ip),
        ("max_http_connections", listen.max_http_connections),
        ("max_peer_connections", listen.max_peer_connections),
    ] {
        if number == 0 {
            return Err(sources.conflict(key, "0 would let nobody in".to_owned()));
        }
    }
    within(
        sources,
        "idle_timeout",
        listen.idle_timeout,
        Duration::from_secs(1),
        24 * HOUR,
    )?;
    within(
        sources,
        "shutdown_grace",
        listen.shutdown_grace,
        Duration::ZERO,
        HOUR,
    )?;
    let encrypted = listen.kafka.iter().find(|one| one.security.is_encrypted());
    if let Some(one) = encrypted
        && (listen.tls_cert.is_none() || listen.tls_key.is_none())
    {
        let scheme = one.security.scheme();
        return Err(sources.conflict(
            "kafka",
            format!(
                "{scheme} needs a certificate and its key: set --tls-cert FILE and --tls-key FILE"
            ),
        ));
    }
    // AMQP is not listened to in this version; HTTP has no clients that are told where to connect.
    let advertised = listen.advertise.as_ref();
    let is_told = advertised.is_some_and(|a| a.names(Protocol::Kafka));
    let mut untold = listen.kafka.iter().filter(|one| {
        let named = advertised.is_some_and(|a| a.names_listener(one.security.listener()));
        one.address.is_unspecified() && !named && !is_told
    });
    if let Some(KafkaListener { address, .. }) = untold.next() {
        return Err(sources.conflict(
            "kafka",
            format!(
                "{address} means all addresses of this machine, but clients need one of them: \
                 set --advertise HOST[:PORT] (WEIR_ADVERTISE) to what clients connect to, for \
                 example this machine's name"
            ),
        ));
    }
    Ok(())
}

fn within(
    sources: &Sources,
    key: &'static str,
    found: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), ConfigError> {
    if found >= least && found <= most {
        return Ok(());
    }
    let human = humantime::format_duration;
    let reason = format!(
        "{} is not between {} and {}",
        human(found),
        human(least),
        human(most)
    );
    Err(sources.conflict(key, reason))
}

fn at_least(
    sources: &Sources,
    key: &'static str,
    found: ByteCount,
    least: ByteCount,
) -> Result<(), ConfigError> {
    if found >= least {
        return Ok(());
    }
    Err(sources.conflict(key, format!("{found} is less than the minimum, {least}")))
}

fn at_most(
    sources: &Sources,
    key: &'static str,
    found: ByteCount,
    most: ByteCount,
) -> Result<(), ConfigError> {
    if found <= most {
        return Ok(());
    }
    Err(sources.conflict(key, format!("{found} is more than the maximum, {most}")))
}
