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
    use crate::config::{
        Group, ListenConfig, LogConfig, MaintenanceConfig, NodeConfig, StoreConfig,
    };
    [
        StoreConfig::SETTINGS,
        ListenConfig::SETTINGS,
        NodeConfig::SETTINGS,
        MaintenanceConfig::SETTINGS,
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
    let Command::Serve(serve) = cli.command else {
        panic!("serve");
    };
    let world = world(&[("WEIR_CACHE", "2MiB"), ("WEIR_RACK", "b")]);
    let sources = sources(cli.flags, serve.file.path, &world).unwrap();
    let config = ServeConfig::load(&with_flags(sources, &serve.flags)).unwrap();
    assert_eq!(config.node.cache, crate::types::ByteCount::mib(1));
    assert_eq!(config.node.rack.as_deref(), Some("b"));
    assert_eq!(config.listen.kafka.to_string(), "127.0.0.1:3");
}

#[test]
fn the_file_may_be_named_by_the_environment_and_must_be_there() {
    let cli = parse("weir settings");
    let world = world(&[("WEIR_CONFIG", "/nowhere/weir.toml")]);
    let error = sources(cli.flags, cli.file.path, &world).unwrap_err();
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

/// Every command below `command` with its whole name.
fn all_commands(command: &clap::Command, name: String) -> Vec<(String, &clap::Command)> {
    let below = command
        .get_subcommands()
        .flat_map(|sub| all_commands(sub, format!("{name} {}", sub.get_name())));
    below.chain([(name.clone(), command)]).collect()
}

#[test]
fn no_command_has_an_argument_that_hides_one_of_all_commands() {
    let cli = Cli::command();
    let global: Vec<_> = cli.get_arguments().filter(|a| a.is_global_set()).collect();
    assert_eq!(global.len(), 3);
    for (name, command) in all_commands(&cli, "weir".to_owned()) {
        for argument in command.get_arguments().filter(|a| !a.is_global_set()) {
            let id = argument.get_id();
            assert!(global.iter().all(|g| g.get_id() != id), "{name}: {id}");
            let long = argument.get_long();
            assert!(
                global.iter().all(|g| g.get_long() != long),
                "{name}: {long:?}"
            );
        }
    }
}

#[test]
fn every_command_says_what_it_does_and_every_argument_what_it_is() {
    let cli = Cli::command();
    for (name, command) in all_commands(&cli, "weir".to_owned()) {
        assert!(command.get_about().is_some(), "{name}");
        for argument in command.get_arguments() {
            let id = argument.get_id();
            let help = argument.get_help().map(ToString::to_string);
            assert!(help.is_some_and(|help| help.len() > 5), "{name}: {id}");
        }
    }
}

#[test]
fn command_lines_that_people_write_are_understood() {
    for line in [
        "weir serve --store s3://bucket/weir --kafka 0.0.0.0:9092 --advertise host --commit-interval 50ms",
        "weir --config weir.toml serve",
        "weir topic create a b --partitions 6 --config retention.ms=1 --config cleanup.policy=compact",
        "weir topic list --output json --internal",
        "weir topic describe a --all",
        "weir topic alter a --config x=1 --unset y --append z=1 --subtract w=2 --partitions 9",
        "weir topic delete a --if-exists",
        "weir produce a --file x --file - --key-separator : --header h=1 --partition 0 --compression zstd",
        "weir produce a --format json --no-idempotence",
        "weir consume a b --from-beginning --follow --print-key --print-headers --print-offsets",
        "weir consume a --offset 5 --partition 0 --partition 1 -n 10 --output json",
        "weir consume a --from-time 2026-01-31T12:00:00Z --group g --max 5 --format json",
        "weir group list --output json",
        "weir group describe g h",
        "weir group reset g --topic a:0,1 --topic b --to 15min --dry-run",
        "weir group delete g",
        "weir node list --all",
        "weir cluster describe",
        "weir cluster describe num.partitions log.retention.ms --changed --output json",
        "weir cluster set num.partitions=6 log.cleanup.policy=compact,delete --output json",
        "weir cluster unset num.partitions log.retention.ms",
        "weir store check --quick --store memory://",
        "weir store usage --output json",
        "weir fsck",
        "weir fsck --deep --output json --store memory://",
        "weir inspect 12",
        "weir settings --output json --config weir.toml",
    ] {
        let parsed = Cli::try_parse_from(line.split_whitespace());
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
    for line in [
        "weir",
        "weir topic",
        "weir topic create",
        "weir topic alter a",
        "weir topic create a --config retention.ms",
        "weir consume a --from-beginning --offset 1",
        "weir consume a --group g --partition 1",
        "weir consume a --from-time yesterday",
        "weir produce a --key k --key-separator :",
        "weir group reset g",
        "weir group reset g --to somewhere",
        "weir node",
        "weir cluster set num.partitions",
        "weir cluster set",
        "weir cluster unset",
    ] {
        let error = Cli::try_parse_from(line.split_whitespace()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}
