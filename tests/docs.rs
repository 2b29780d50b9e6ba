//! What the documentation says about things that can be looked up is true.

#![allow(
    clippy::unwrap_used,
    reason = "all of this file is a test; clippy sees only its functions as such"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir::env::Env;
use weir::kafka::{KafkaMetrics, served_apis};
use weir::maintain::fsck::{Kind, Severity};
use weir::node::{NodeMetrics, NodeOptions};
use weir::telemetry::Telemetry;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every page: those at the top, and those below `docs`.
fn pages() -> Vec<PathBuf> {
    let mut folders = vec![root().join("docs")];
    let top = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let mut pages: Vec<PathBuf> = top.iter().map(|name| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The targets of a page's links that are files: with the line of each.
fn links(page: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    for (number, line) in (1..).zip(page.lines()) {
        for part in line.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                links.push((number, target));
            }
        }
    }
    links
}

#[test]
fn every_link_leads_to_a_file() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (line, target) in links(&text) {
            if !page.parent().unwrap().join(target).exists() {
                broken.push(format!("{}:{line}: {target}", page.display()));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "links to nothing:\n{}",
        broken.join("\n")
    );
    assert_eq!(
        links("[a](b.md), [c](d/e.md#f)\n[g](https://h) [i](#j)"),
        [(1, "b.md"), (1, "d/e.md")]
    );
}

#[test]
fn every_decision_is_in_the_list_and_has_its_four_parts() {
    let list = read("docs/decisions/README.md");
    for entry in fs::read_dir(root().join("docs/decisions")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        assert!(
            list.contains(&format!("({name})")),
            "{name} is not in the list"
        );
        let text = read(&format!("docs/decisions/{name}"));
        for part in ["Context", "Decision", "Alternatives", "Consequences"] {
            assert!(
                text.contains(&format!("**{part}.**")),
                "{name} has no {part}"
            );
        }
    }
}

#[test]
fn the_readme_leads_to_every_page() {
    let readme = read("README.md");
    let of_files = |folder: &str, extension: &str| -> Vec<String> {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(extension)).collect()
    };
    for page in of_files("docs", ".md") {
        assert!(readme.contains(&format!("(docs/{page})")), "docs/{page}");
    }
    assert!(readme.contains("(CONTRIBUTING.md)"));
    // As do the tests.
    let listed = read("tests/README.md");
    for test in of_files("tests", ".py") {
        let is_test = test.starts_with("test_");
        assert!(!is_test || listed.contains(&format!("`{test}`")), "{test}");
    }
}

#[test]
fn the_results_of_measuring_fit_on_a_page() {
    let lines = read("docs/performance.md").lines().count();
    assert!(
        lines < 100,
        "docs/performance.md has {lines} lines: how it was measured is for docs/benchmarks.md, what was tried for \
         docs/performance-log.md"
    );
}

#[test]
fn every_room_is_on_the_map_of_the_architecture() {
    let page = read("docs/architecture.md");
    let map = page.split("```").nth(1).unwrap();
    let on_map: BTreeSet<&str> = map.split([' ', '\n', ',']).collect();
    let library = read("src/lib.rs");
    let modules = library
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "))
        .map(|name| name.trim_end_matches(';'));
    let missing: Vec<&str> = modules.filter(|name| !on_map.contains(name)).collect();
    assert!(missing.is_empty(), "not on the map: {missing:?}");
}

#[test]
fn the_two_commands_of_the_readme_are_there() {
    let readme = read("README.md");
    for command in ["    cargo run --release -- serve\n", "    make test\n"] {
        assert!(readme.contains(command), "{command}");
    }
    assert!(read("Makefile").contains("\ntest: "));
}

#[test]
fn every_metric_that_operations_names_exists() {
    let mut telemetry = Telemetry::new(Env::system().wall());
    NodeMetrics::register(telemetry.registry());
    KafkaMetrics::register(telemetry.registry());
    weir::query::QueryMetrics::register(telemetry.registry());
    let shown = telemetry.encode();
    // A family is shown once it has a member, and the state's metrics once there is a state: look for those where
    // they are made.
    let made: String = [
        "http/state_metrics.rs",
        "kafka/metrics.rs",
        "query/metrics.rs",
        "store/metrics.rs",
    ]
    .map(|file| read(&format!("src/{file}")))
    .concat();
    let page = read("docs/operations.md");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: BTreeSet<&str> = page
        .split(|c| !is_name(c))
        .filter(|word| word.starts_with("weir_") || word.starts_with("process_"))
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let plain = name.trim_end_matches("_total");
        let without_unit = plain
            .trim_end_matches("_records")
            .trim_end_matches("_seconds");
        let known = shown.lines().any(|line| {
            let described = line.strip_prefix("# TYPE ");
            described.is_some_and(|line| line.split(' ').next() == Some(plain))
        });
        assert!(
            known
                || [plain, without_unit]
                    .iter()
                    .any(|name| made.contains(&format!("\"{name}\""))),
            "docs/operations.md names {name}, which no node shows"
        );
    }
}

/// A seq is a position in a log, so what counts commits says of which.
#[test]
fn the_metrics_of_the_manifest_say_of_which_log_they_are() {
    let mut telemetry = Telemetry::new(Env::system().wall());
    NodeMetrics::register(telemetry.registry());
    let shown = telemetry.encode();
    let of_manifest = shown
        .lines()
        .filter(|line| line.starts_with("weir_manifest_"));
    let of_manifest: Vec<&str> = of_manifest.collect();
    assert!(of_manifest.len() > 20, "{shown}");
    for line in of_manifest {
        assert!(line.contains("log=\"0\""), "{line}");
    }
}

#[test]
fn the_apis_that_the_compatibility_page_lists_are_those_that_are_served() {
    const PAGE: &str = "docs/compatibility.md";
    const BEGIN: &str =
        "<!-- Made from the table in src/kafka/apis.rs; tests/docs.rs holds it in step. -->\n\n";
    const END: &str = "\n<!-- The end of what is made. -->";
    let page = read(PAGE);
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    let served = served_apis();
    if table != served && std::env::var_os("WEIR_WRITE_DOCS").is_some() {
        let page = [before, BEGIN, &served, END, after].concat();
        return fs::write(root().join(PAGE), page).unwrap();
    }
    assert!(
        table == served,
        "{PAGE} is out of step; run: WEIR_WRITE_DOCS=1 cargo test --test docs"
    );
}

/// A rule of `src/rules.rs`: its name, and the sentence that is its comment.
struct Rule {
    name: String,
    sentence: String,
}

/// The rules in the order of the code, by group.
fn rules() -> Vec<(String, Vec<Rule>)> {
    let source = read("src/rules.rs");
    let (_, body) = source.split_once("enum Rule {\n").unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let mut groups: Vec<(String, Vec<Rule>)> = Vec::new();
    let mut sentence: Vec<&str> = Vec::new();
    for line in body.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("/// ") {
            sentence.push(words);
        } else if let Some(title) = line.strip_prefix("// ") {
            groups.push((title.to_owned(), Vec::new()));
        } else if let Some(name) = line.strip_suffix(',') {
            let rule = Rule {
                name: name.to_owned(),
                sentence: std::mem::take(&mut sentence).join(" "),
            };
            groups.last_mut().unwrap().1.push(rule);
        }
    }
    groups
}

/// The row of a table that begins with this name in code: its cells.
fn row<'a>(page: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let begin = format!("| `{name}` |");
    let line = page.lines().find(|line| line.starts_with(&begin))?;
    Some(line.trim_matches('|').split('|').map(str::trim).collect())
}

/// The page of rules with the tables that the code calls for. What is beside a rule on it by hand stays: the tests that
/// need it, and what it is called in a model.
fn page_of_rules(page: &str) -> String {
    const HEAD: &str =
        "| rule | what holds | the test that fails without it | in a model |\n|---|---|---|---|\n";
    let mut sections = page.split("\n## ");
    let mut made = sections.next().unwrap().to_owned();
    let old: Vec<&str> = sections.collect();
    for (title, rules) in rules() {
        made.push_str(&format!("\n## {title}\n\n{HEAD}"));
        for Rule { name, sentence } in rules {
            let cells = row(page, &name).unwrap_or_default();
            let by_hand = |at: usize| match cells.get(at) {
                Some(cell) if !cell.is_empty() => format!(" {cell} |"),
                _ => " |".to_owned(),
            };
            let (tests, model) = (by_hand(2), by_hand(3));
            made.push_str(&format!("| `{name}` | {sentence} |{tests}{model}\n"));
        }
        let section = old
            .iter()
            .find_map(|text| text.strip_prefix(&format!("{title}\n")));
        let lines = section.unwrap_or_default().lines();
        let prose: Vec<&str> = lines
            .skip_while(|line| line.is_empty() || line.starts_with('|'))
            .collect();
        if !prose.is_empty() {
            made.push_str(&format!("\n{}\n", prose.join("\n")));
        }
    }
    made
}

#[test]
fn the_page_of_rules_has_each_rule_of_the_code_once_with_its_sentence() {
    const PAGE: &str = "docs/rules.md";
    let page = read(PAGE);
    let made = page_of_rules(&page);
    if page != made && std::env::var_os("WEIR_WRITE_DOCS").is_some() {
        return fs::write(root().join(PAGE), made).unwrap();
    }
    assert!(
        page == made,
        "{PAGE} is out of step with src/rules.rs; run: WEIR_WRITE_DOCS=1 cargo test --test docs"
    );
    assert!(rules().iter().flat_map(|(_, rules)| rules).count() > 100);
}

/// The texts of all files below a folder that are Rust.
fn rust_files(folder: &str) -> Vec<String> {
    let mut folders = vec![root().join(folder)];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

/// The words of a cell between such marks.
fn marked(cell: &str, mark: char) -> Vec<&str> {
    cell.split(mark).skip(1).step_by(2).collect()
}

/// What a file of Rust says of rules and tests.
struct Named<'a> {
    /// The rules of which it asks whether they hold.
    asked: BTreeSet<&'a str>,
    /// The rules that it names otherwise: to break them.
    broken: BTreeSet<&'a str>,
    /// Its functions, and what stands before a colon: so a macro names the tests that it makes.
    tests: BTreeSet<&'a str>,
    /// All of its words, if it names rules so.
    words: BTreeSet<&'a str>,
}

impl<'a> Named<'a> {
    fn new(text: &'a str) -> Named<'a> {
        let no_word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let word = |from: usize| text[from..].split(no_word).next().unwrap_or_default();
        let (asked, broken) = text
            .match_indices("Rule::")
            .partition::<Vec<_>, _>(|(at, _)| text[..*at].ends_with("holds("));
        let rules = |places: Vec<(usize, &str)>| {
            let names = places.into_iter().map(|(at, mark)| word(at + mark.len()));
            names.collect()
        };
        let functions = text
            .match_indices("fn ")
            .map(|(at, mark)| word(at + mark.len()));
        let made = text
            .lines()
            .filter_map(|line| line.trim().split_once(':'))
            .map(|(name, _)| name);
        let broken: BTreeSet<&str> = rules(broken);
        let words = text.split(no_word).filter(|_| !broken.is_empty());
        Named {
            words: words.collect(),
            asked: rules(asked),
            broken,
            tests: functions.chain(made).collect(),
        }
    }
}

#[test]
fn each_rule_is_kept_by_the_code_and_needed_by_the_tests_on_its_page() {
    let page = read("docs/rules.md");
    let (sources, models) = (rust_files("src"), rust_files("tests/model"));
    let sources: Vec<Named<'_>> = sources.iter().map(|text| Named::new(text)).collect();
    let models: Vec<Named<'_>> = models.iter().map(|text| Named::new(text)).collect();
    let mut wrong = Vec::new();
    for Rule { name, .. } in rules().into_iter().flat_map(|(_, rules)| rules) {
        let name = name.as_str();
        if !sources.iter().any(|file| file.asked.contains(name)) {
            wrong.push(format!("nothing in src asks whether {name} holds"));
        }
        let cells = row(&page, name).unwrap_or_default();
        let tests = marked(cells.get(2).unwrap_or(&""), '`');
        if tests.is_empty() {
            wrong.push(format!("{name} has no test in docs/rules.md"));
        }
        for test in tests {
            if !sources.iter().any(|file| file.tests.contains(test)) {
                wrong.push(format!("docs/rules.md: there is no test {test}"));
            }
            let mut breaking = sources.iter().filter(|file| file.broken.contains(name));
            if !breaking.any(|file| file.words.contains(test)) {
                wrong.push(format!("no file that names {test} breaks {name}"));
            }
        }
        for model in marked(cells.get(3).unwrap_or(&""), '*') {
            if !models.iter().any(|file| file.words.contains(model)) {
                wrong.push(format!("docs/rules.md: no model has a rule {model}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Flags of single commands, which are no settings.
const OF_COMMANDS: &[&str] = &[
    "--changed",
    "--deep",
    "--output",
    "--bucket",
    "--lifecycle-configuration",
    "--rate",
    "--nodes",
    "--retention",
    "--prices",
    "--yes",
    "--force",
    "--void",
];

#[test]
fn every_finding_of_fsck_is_in_the_table_with_its_severity_and_no_other() {
    let page = read("docs/operations.md");
    let section = page.split("## Checking a bucket").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<(&str, &str)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| {
            let (id, rest) = line.split_once("` | ")?;
            Some((id, rest.split(" | ").next()?))
        })
        .collect();
    let known: Vec<(&str, &str)> = Kind::ALL
        .iter()
        .map(|kind| {
            let severity = match kind.severity() {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            (kind.id(), severity)
        })
        .collect();
    assert_eq!(rows, known);
}

#[test]
fn every_setting_that_the_documentation_names_exists() {
    let settings = read("docs/settings.md");
    for page in ["docs/operations.md", "docs/cost.md"] {
        let text = read(page);
        for word in text.split('`').flat_map(|code| code.split([' ', '\n'])) {
            // Not of a table's rule, and not of another program.
            if word.starts_with("--")
                && !OF_COMMANDS.contains(&word)
                && word.len() > 2
                && word.as_bytes()[2].is_ascii_lowercase()
            {
                assert!(
                    settings.contains(&format!("`{word}`")),
                    "{page} names {word}, which is no setting"
                );
            }
        }
    }
}

#[test]
fn the_intervals_that_the_cost_page_defends_are_those_of_a_bucket() {
    let of = |url: &str| NodeOptions::new(url.parse().unwrap(), Env::system()).manifest;
    let (bucket, file) = (of("s3://bucket/prefix"), of("file://./folder"));
    assert_eq!(bucket.commit_interval, Duration::from_millis(100));
    assert_eq!(bucket.follow_interval, Duration::from_millis(50));
    assert_eq!(file.commit_interval, Duration::ZERO);
    assert_eq!(file.follow_interval, Duration::from_millis(10));
    let page = read("docs/cost.md");
    assert!(
        page.contains("## Why 100 ms between commits")
            && page.contains("## Why 50 ms between looks")
    );
}
