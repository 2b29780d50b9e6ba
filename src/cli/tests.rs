use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Cli {
    Cli::try_parse_from(line.split_whitespace()).unwrap()
}

fn usage_error(line: &str) -> String {
    Cli::try_parse_from(line.split_whitespace())
        .unwrap_err()
        .to_string()
}

fn world(variables: &[(&str, &str)]) -> World {
    World {
        environment: variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn settings_are_taken_before_and_after_the_command() {
    for line in [
        "weir --store memory:// settings",
        "weir settings --store memory://",
    ] {
        assert_eq!(
            parse(line).flags.0.get("store").unwrap(),
            "memory://",
            "{line}"
        );
    }
}

#[test]
fn serve_has_a_flag_for_every_setting() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for setting in flags_of_all_settings() {
        let own = serve.get_arguments().any(|a| a.get_long() == Some(setting));
        let global = command
            .get_arguments()
            .any(|a| a.get_long() == Some(setting));
        assert!(own || global, "{setting}");
    }
}

fn flags_of_all_settings() -> Vec<&'static str> {
    use crate::config::{Group, ListenConfig, LogConfig, NodeConfig, StoreConfig};
    [
        StoreConfig::SETTINGS,
        ListenConfig::SETTINGS,
        NodeConfig::SETTINGS,
        LogConfig::SETTINGS,
    ]
    .into_iter()
    .flatten()
    .map(|s| s.flag)
    .collect()
}

#[test]
fn a_flag_of_serve_wins_over_the_environment_and_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.toml");
    std::fs::write(&path, "cache = '3MiB'\nrack = 'c'\nkafka = '127.0.0.1:3'").unwrap();
    let line = format!("weir serve --config {} --cache 1MiB", path.display());
    let cli = parse(&line);
    let world = world(&[("WEIR_CACHE", "2MiB"), ("WEIR_RACK", "b")]);
    let sources = sources(cli.flags, cli.config, &world).unwrap();
    let Command::Serve(serve) = cli.command else {
        panic!("serve");
    };
    let config = ServeConfig::load(&with_flags(sources, &serve.flags)).unwrap();
    assert_eq!(config.node.cache, crate::types::ByteCount::mib(1));
    assert_eq!(config.node.rack.as_deref(), Some("b"));
    assert_eq!(config.listen.kafka.to_string(), "127.0.0.1:3");
}

#[test]
fn the_file_may_be_named_by_the_environment_and_must_be_there() {
    let cli = parse("weir settings");
    let world = world(&[("WEIR_CONFIG", "/nowhere/weir.toml")]);
    let error = sources(cli.flags, cli.config, &world).unwrap_err();
    let mut stderr = Vec::new();
    error.report(&mut stderr);
    let text = String::from_utf8(stderr).unwrap();
    assert!(
        text.starts_with("error: the configuration file /nowhere/weir.toml"),
        "{text}"
    );
}

#[test]
fn help_teaches_with_examples_and_unknown_flags_are_errors_of_usage() {
    let help = usage_error("weir --help");
    assert!(help.contains("weir topic create orders"), "{help}");
    let error = Cli::try_parse_from(["weir", "serve", "--kafak", "x"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("--kafka"), "{error}");
}

#[test]
fn an_error_is_one_line_and_a_hint() {
    let mut stderr = Vec::new();
    CliError::failed("first\nsecond")
        .hint("do this")
        .report(&mut stderr);
    assert_eq!(stderr, b"error: first; second\nhint: do this\n");
    let mut stderr = Vec::new();
    CliError::BrokenPipe.report(&mut stderr);
    assert!(stderr.is_empty());
}
