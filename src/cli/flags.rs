//! Settings as flags: clap's arguments are made from the tables of [`crate::config`], so that help,
//! environment, file and documentation cannot disagree.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{
    Group, ListenConfig, LogConfig, MaintenanceConfig, NodeConfig, QueryConfig, Setting,
    StoreConfig,
};

/// The settings that every command has flags for: where the store is, and logging.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientFlags(pub(super) BTreeMap<&'static str, String>);

/// The settings that only `serve` has flags for.
#[derive(Clone, Debug, Default)]
pub(super) struct ServeFlags(pub(super) BTreeMap<&'static str, String>);

fn client_settings() -> impl Iterator<Item = &'static Setting> {
    let store = StoreConfig::SETTINGS.iter().filter(|s| s.key == "store");
    store.chain(LogConfig::SETTINGS)
}

fn serve_settings() -> impl Iterator<Item = (&'static str, &'static Setting)> {
    let listen = ListenConfig::SETTINGS
        .iter()
        .map(|s| (ListenConfig::TITLE, s));
    let node = NodeConfig::SETTINGS.iter().map(|s| (NodeConfig::TITLE, s));
    let maintenance = MaintenanceConfig::SETTINGS
        .iter()
        .map(|s| (MaintenanceConfig::TITLE, s));
    let query = QueryConfig::SETTINGS
        .iter()
        .map(|s| (QueryConfig::TITLE, s));
    let store = StoreConfig::SETTINGS
        .iter()
        .map(|s| (StoreConfig::TITLE, s));
    listen
        .chain(node)
        .chain(maintenance)
        .chain(query)
        .chain(store.filter(|(_, s)| s.key != "store"))
}

fn argument(setting: &'static Setting, heading: &'static str) -> Arg {
    let doc = setting.doc.split_whitespace().collect::<Vec<_>>().join(" ");
    let doc = doc.replace('`', "");
    let short = doc.split_inclusive(". ").next().unwrap_or(&doc).trim_end();
    let mut about = format!("[env: {}]", setting.variable);
    if !setting.default.is_empty() {
        about.push_str(&format!(" [default: {}]", setting.default));
    }
    Arg::new(setting.key)
        .long(setting.flag)
        .value_name(if setting.key == "store" {
            "URL"
        } else {
            setting.kind
        })
        .help(format!("{short} {about}"))
        .long_help(format!("{doc}\n{about}"))
        .help_heading(heading)
        .allow_hyphen_values(false)
}

fn collect(
    settings: impl Iterator<Item = &'static Setting>,
    matches: &ArgMatches,
) -> BTreeMap<&'static str, String> {
    settings
        .filter_map(|s| Some((s.key, matches.get_one::<String>(s.key)?.clone())))
        .collect()
}

impl Args for ClientFlags {
    fn augment_args(command: Command) -> Command {
        client_settings().fold(command, |command, setting| {
            command.arg(argument(setting, "Settings").global(true))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        ClientFlags::augment_args(command)
    }
}

impl FromArgMatches for ClientFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<ClientFlags, clap::Error> {
        Ok(ClientFlags(collect(client_settings(), matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(collect(client_settings(), matches));
        Ok(())
    }
}

impl Args for ServeFlags {
    fn augment_args(command: Command) -> Command {
        serve_settings().fold(command, |command, (heading, setting)| {
            command.arg(argument(setting, heading))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        ServeFlags::augment_args(command)
    }
}

impl FromArgMatches for ServeFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<ServeFlags, clap::Error> {
        let settings = serve_settings().map(|(_, setting)| setting);
        Ok(ServeFlags(collect(settings, matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let settings = serve_settings().map(|(_, setting)| setting);
        self.0.extend(collect(settings, matches));
        Ok(())
    }
}
