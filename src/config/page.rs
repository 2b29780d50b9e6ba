//! The page of settings in the documentation.

use std::fmt::Write;

use super::{
    Group, ListenConfig, LogConfig, MaintenanceConfig, NodeConfig, QueryConfig, StoreConfig,
};

/// `docs/settings.md`, made from the settings themselves.
pub fn settings_page() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         Made by `weir settings --markdown`; a test holds it in step with the code.\n\n\
         A setting is a flag (`--commit-interval 50ms`), an environment variable\n\
         (`WEIR_COMMIT_INTERVAL=50ms`) or a key of one TOML file named by `--config` or `WEIR_CONFIG`\n\
         (`commit_interval = \"50ms\"`). A flag wins over the environment, the environment over the file,\n\
         the file over the default. Sizes are written `8MiB`, `512KiB`, `100MB`; durations `250ms`,\n\
         `10s`, `5min`. An unknown key in the file is an error. Commands other than `serve` have flags only\n\
         for the store and logging, and take the others from the environment and the file.\n\n\
         Credentials are no settings: they come from where the cloud's own tools take them.\n\n\
         What clients see and change as Kafka's settings of topics and brokers is in the bucket, not here.\n",
    );
    group::<StoreConfig>(&mut page);
    group::<ListenConfig>(&mut page);
    group::<NodeConfig>(&mut page);
    group::<MaintenanceConfig>(&mut page);
    group::<QueryConfig>(&mut page);
    group::<LogConfig>(&mut page);
    page
}

fn group<G: Group>(page: &mut String) {
    let heading = format!(
        "\n## {}\n\n| setting | environment | default | meaning |\n|---|---|---|---|\n",
        G::TITLE
    );
    page.push_str(&heading);
    for setting in G::SETTINGS {
        let doc: Vec<&str> = setting.doc.split_whitespace().collect();
        let default = match setting.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `--{}` {} | `{}` | {default} | {} |",
            setting.flag,
            setting.kind.replace('|', " or "),
            setting.variable,
            doc.join(" ").replace('|', "\\|"),
        );
    }
}
