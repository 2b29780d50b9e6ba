use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::types::ByteCount;

fn sources(flags: &[(&'static str, &str)], variables: &[(&str, &str)], file: &str) -> Sources {
    Sources {
        flags: flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(),
        environment: variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        file: Some(ConfigFile::parse("weir.toml", file).unwrap()),
    }
}

fn serve_error(flags: &[(&'static str, &str)]) -> String {
    ServeConfig::load(&sources(flags, &[], ""))
        .unwrap_err()
        .to_string()
}

#[test]
fn the_default_of_every_setting_can_be_read_and_the_defaults_are_valid_together() {
    let config = ServeConfig::load(&Sources::default()).unwrap();
    assert_eq!(config, ServeConfig::default());
    assert_eq!(config.store.store, "file://./weir-data");
    assert_eq!(config.node.inline_limit, ByteCount::kib(512));
    assert_eq!(config.node.segment_size, ByteCount::mib(8));
    assert_eq!(config.node.cache, ByteCount::mib(256));
    assert_eq!(config.node.commit_interval, None);
    assert_eq!(config.listen.kafka.to_string(), "127.0.0.1:9092");
}

#[test]
fn a_flag_wins_over_the_environment_the_environment_over_the_file_the_file_over_the_default() {
    let key = "cache";
    let variable = ("WEIR_CACHE", "2MiB");
    let load = |s| ServeConfig::load(&s).unwrap().node.cache;
    let file = "cache = \"3MiB\"";
    assert_eq!(
        load(sources(&[(key, "1MiB")], &[variable], file)),
        ByteCount::mib(1)
    );
    assert_eq!(load(sources(&[], &[variable], file)), ByteCount::mib(2));
    assert_eq!(load(sources(&[], &[], file)), ByteCount::mib(3));
    assert_eq!(load(sources(&[], &[], "")), ByteCount::mib(256));
}

#[test]
fn names_follow_from_the_field_for_every_setting() {
    let setting = |key: &str| *NodeConfig::SETTINGS.iter().find(|s| s.key == key).unwrap();
    let interval = setting("commit_interval");
    assert_eq!(interval.flag, "commit-interval");
    assert_eq!(interval.variable, "WEIR_COMMIT_INTERVAL");
    assert_eq!(interval.kind, "DURATION");
    assert!(interval.doc.contains("between two commits"));
}

#[test]
fn the_file_takes_texts_numbers_and_booleans() {
    let file =
        "cache = 1048576\ncommit_interval = \"250ms\"\nupload_parallelism = 8\nkafka = 'off'";
    let config = ServeConfig::load(&sources(&[], &[], file)).unwrap();
    assert_eq!(config.node.cache, ByteCount::mib(1));
    assert_eq!(
        config.node.commit_interval,
        Some(Duration::from_millis(250))
    );
    assert_eq!(config.node.upload_parallelism, 8);
    assert_eq!(config.listen.kafka.iter().count(), 0);
}

#[test]
fn a_bad_file_is_named_with_the_line_or_the_key() {
    for (contents, expected) in [
        ("cache = ", "weir.toml: line 1:"),
        ("store='memory://'\nkafka = = 1", "weir.toml: line 2:"),
        (
            "commit-intervall = '1s'",
            "weir.toml: there is no setting 'commit-intervall'; did you mean 'commit_interval'?",
        ),
        ("Kafka = 'off'", "did you mean 'kafka'?"),
        ("[kafka]\nx = 1", "the value of 'kafka' is a table"),
        ("[store]", "the value of 'store' is a table"),
        (
            "cache = 1.5",
            "the value of 'cache' is a number with a fraction",
        ),
        ("cache = [1]", "the value of 'cache' is a list"),
    ] {
        let error = ConfigFile::parse("weir.toml", contents)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{contents:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn an_error_names_the_setting_and_where_its_value_came_from() {
    let error = |s: Sources| ServeConfig::load(&s).unwrap_err().to_string();
    for (found, expected) in [
        (
            error(sources(&[("cache", "8 parsecs")], &[], "")),
            "cache (from --cache): '8 parsecs' is not allowed: it is not a size",
        ),
        (
            error(sources(&[], &[("WEIR_COMMIT_INTERVAL", "soon")], "")),
            "commit_interval (from WEIR_COMMIT_INTERVAL): 'soon' is not allowed: it is not a duration",
        ),
        (
            error(sources(&[], &[], "kafka = '9092'")),
            "kafka (from weir.toml): '9092' is not allowed: the port is missing",
        ),
        (
            error(sources(&[], &[], "request_memory = '1MiB'")),
            "request_memory (from weir.toml): 1MiB is less than max_request_size, which is 100MiB",
        ),
        (
            error(sources(&[("node_lease", "1ms")], &[], "")),
            "node_lease (from --node-lease): 1ms is not between 2s and 1h",
        ),
    ] {
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn an_environment_variable_that_is_no_setting_is_ignored() {
    let config = ServeConfig::load(&sources(&[], &[("WEIR_SERVICE_HOST", "10.0.0.1")], ""));
    assert_eq!(config, Ok(ServeConfig::default()));
}

#[test]
fn settings_of_listening_do_not_disturb_the_commands_that_do_not_listen() {
    let file = "kafka = '0.0.0.0:9092'\nstore = 's3://bucket/weir'";
    let config = ClientConfig::load(&sources(&[], &[], file)).unwrap();
    assert_eq!(config.store.store, "s3://bucket/weir");
    assert!(ServeConfig::load(&sources(&[], &[], file)).is_err());
}

#[test]
fn settings_out_of_their_range_are_refused() {
    for (key, value, expected) in [
        ("upload_parallelism", "0", "0 is not between 1 and 64"),
        (
            "segment_size",
            "1KiB",
            "1KiB is less than the minimum, 64KiB",
        ),
        (
            "segment_size",
            "1GiB",
            "1GiB is more than the maximum, 512MiB",
        ),
        (
            "ingest_buffer",
            "1MiB",
            "1MiB is less than segment_size, which is 8MiB",
        ),
        ("max_connections", "0", "0 would let nobody in"),
        ("store_max_requests", "1", "1 is not between 2 and 4096"),
        ("commits_in_flight", "0", "0 is not between 1 and 16"),
        ("commit_interval", "2h", "2h is not between 0s and 1m"),
        ("store", "", "it is empty"),
        ("log_format", "xml", "it must be text or json"),
    ] {
        let error = serve_error(&[(key, value)]);
        assert!(error.contains(expected), "{key}={value}: {error}");
    }
}

#[test]
fn listening_on_all_addresses_needs_an_address_to_tell_clients() {
    for all in ["0.0.0.0:9092", "[::]:9092"] {
        let error = serve_error(&[("kafka", all)]);
        assert!(error.contains("--advertise"), "{error}");
        for advertise in ["queue.example", "kafka=queue.example:19092"] {
            let flags = [("kafka", all), ("advertise", advertise)];
            assert!(ServeConfig::load(&sources(&flags, &[], "")).is_ok());
        }
        assert!(serve_error(&[("kafka", "ssl://127.0.0.1:1")]).contains("--tls-cert"));
        let sasl = format!("sasl_plaintext://{all}");
        let flags = [
            ("kafka", sasl.as_str()),
            ("advertise", "kafka-sasl=queue.example:1"),
        ];
        assert!(ServeConfig::load(&sources(&flags, &[], "")).is_ok());
        let error = serve_error(&[("kafka", all), ("advertise", "kafka-sasl=queue.example:1")]);
        assert!(error.contains("--advertise"), "{error}");
        let error = serve_error(&[("kafka", all), ("advertise", "http=queue.example")]);
        assert!(error.contains("--advertise"), "{error}");
    }
}

#[test]
fn addresses_are_read_and_shown() {
    for (text, host, port) in [
        ("127.0.0.1:9092", "127.0.0.1", 9092),
        ("localhost:0", "localhost", 0),
        ("[::1]:9092", "::1", 9092),
        ("weir_1.example:19092", "weir_1.example", 19092),
    ] {
        let read = ListenAddress::read(text).unwrap();
        let expected = HostPort {
            host: host.to_owned(),
            port,
        };
        assert_eq!(read, ListenAddress::At(expected));
        assert_eq!(read.to_string(), text);
    }
    for bad in [
        "",
        ":9092",
        "host",
        "host:",
        "host:x",
        "host:70000",
        "::1:9092",
        "[::1",
        "[x]:1",
        "a b:1",
    ] {
        assert!(ListenAddress::read(bad).is_err(), "{bad}");
    }
}

#[test]
fn clients_are_told_the_advertised_address_or_the_bound_one() {
    let bound = "127.0.0.1:49152".parse().unwrap();
    let told = |text: &str, protocol| {
        Advertise::read(text)
            .unwrap()
            .endpoint(protocol, bound)
            .to_string()
    };
    assert_eq!(told("lb.example", Protocol::Kafka), "lb.example:49152");
    assert_eq!(
        told("lb.example:19092", Protocol::Kafka),
        "lb.example:19092"
    );
    let each = "a.example, kafka=b.example:1,http=[::1]";
    assert_eq!(told(each, Protocol::Kafka), "b.example:1");
    assert_eq!(told(each, Protocol::Http), "[::1]:49152");
    assert_eq!(told(each, Protocol::Amqp), "a.example:49152");
    assert_eq!(
        Advertise::default()
            .endpoint(Protocol::Kafka, bound)
            .to_string(),
        "127.0.0.1:49152"
    );
    let of_sasl = |text: &str| {
        let advertise = Advertise::read(text).unwrap();
        advertise
            .endpoint_of("kafka-sasl", Protocol::Kafka, bound)
            .to_string()
    };
    for (text, expected) in [
        ("lb.example:1", "lb.example:49152"),
        ("kafka=lb.example:1", "lb.example:49152"),
        (
            "kafka=lb.example:1,kafka-sasl=sasl.example:2",
            "sasl.example:2",
        ),
        ("http=lb.example", "127.0.0.1:49152"),
    ] {
        assert_eq!(of_sasl(text), expected);
    }
    for bad in [
        "",
        "a,b",
        "kafka=a,kafka=b",
        "smtp=a",
        "0.0.0.0",
        "a:0",
        "kafka=",
    ] {
        assert!(Advertise::read(bad).is_err(), "{bad}");
    }
}

#[test]
fn no_two_settings_share_a_name() {
    let mut seen = BTreeMap::new();
    let all = [
        StoreConfig::SETTINGS,
        ListenConfig::SETTINGS,
        NodeConfig::SETTINGS,
        MaintenanceConfig::SETTINGS,
        QueryConfig::SETTINGS,
        LogConfig::SETTINGS,
    ];
    for setting in all.into_iter().flatten() {
        assert_eq!(seen.insert(setting.key, setting), None, "{}", setting.key);
        assert!(setting.doc.trim().ends_with('.'), "{}", setting.key);
    }
}

#[test]
fn the_page_of_settings_is_in_step_with_the_code() {
    let page = include_str!("../../docs/settings.md");
    assert!(
        page == settings_page(),
        "docs/settings.md is out of step; run: cargo run -- settings --markdown > docs/settings.md"
    );
}

#[test]
fn what_would_delete_what_is_still_in_use_is_refused() {
    assert!(serve_error(&[("deletion_grace", "5m 59s")]).contains("deletion_grace"));
    assert!(serve_error(&[("sweep_age", "299s")]).contains("sweep_age"));
    assert!(serve_error(&[("background_work", "maybe")]).contains("on nor off"));
    let config = ServeConfig::load(&sources(&[("background_work", "off")], &[], "")).unwrap();
    assert!(!config.maintenance.background_work);
}

#[test]
fn what_queries_may_take_is_bounded() {
    assert!(serve_error(&[("query_memory", "1MiB")]).contains("query_memory"));
    assert!(serve_error(&[("query_timeout", "0s")]).contains("query_timeout"));
    assert!(serve_error(&[("max_queries", "0")]).contains("max_queries"));
    let config = ServeConfig::load(&sources(&[("max_queries", "9")], &[], "")).unwrap();
    assert_eq!(config.query.max_queries, 9);
}
