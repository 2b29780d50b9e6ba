//! The house rules that the compiler cannot hold.
//!
//! The first is the layer rule: a room of `src/` uses only rooms of rows below its own, so that there is always
//! a bottom to start reading from, and no two rooms need each other. The rows are [`ROWS`]; `src/lib.rs` and
//! `docs/architecture.md` show them to people. The others: who may name which crate, who may print, that every
//! room says what it is, that files fit in the head, and that in some rooms the files form no circle.

#![allow(
    clippy::unwrap_used,
    reason = "all of this file is a test; clippy sees only its functions as such"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, from the top down. A room uses rooms of lower rows, and no other room of its own row.
/// To add a room, put it in the lowest row that is above everything it uses, and into the map of `src/lib.rs`.
const ROWS: &[&[&str]] = &[
    &["main", "cli", "fuzz", "sim"],
    &["server", "embedded", "testing"],
    &["kafka", "amqp", "http"],
    &["net", "node", "peer", "query"],
    &["broker", "maintain", "archive"],
    &["ingest", "fetch"],
    &["manifest"],
    &["store"],
    &["invariants", "table"],
    &["state", "segment", "dynamic_config"],
    &["format"],
    &["telemetry", "config", "env", "cost"],
    &["types", "rules"],
];

/// The rooms in which no two files need each other, so that each has a bottom to start reading from.
const WITHOUT_CIRCLES: &[&str] = &["kafka", "manifest"];

/// A type whose methods are spread over the files of its room, and its own file: a file with methods of it may name it.
const SPREAD: &[(&str, &str)] = &[
    ("Tail", "manifest/tail.rs"),
    ("Forwarding", "manifest/forwarding/mod.rs"),
];

/// Which files of a room may not use which others of it, by what their names begin with.
const APART: &[(&str, &[&str])] = &[(
    "kafka/handlers/",
    &[
        "kafka/connection/mod.rs",
        "kafka/service.rs",
        "kafka/handlers/dispatch.rs",
    ],
)];

/// The one file in which the binary and the library meet.
const BINARY: &str = "main.rs";

/// Who alone may name a crate that has a room of its own.
const CRATES: &[(&str, &[&str])] = &[
    ("object_store", &["store", "testing", "query"]),
    ("kafka_protocol", &["kafka", "embedded"]),
    ("axum", &["http"]),
    ("reqwest", &["peer"]),
    ("clap", &["cli"]),
    ("aws_config", &["store"]),
    ("moka", &["fetch"]),
    ("datafusion", &["query"]),
    ("rustyline", &["cli"]),
];

/// The rooms of a node start tasks and long computations through `Env`, so that a simulation can pause and kill a node
/// as a whole. The store's are its own: what was sent goes on without its sender.
const NODE: &[&str] = &["node", "broker", "maintain", "ingest", "fetch", "manifest"];
const STARTING: &[&str] = &[
    "tokio::spawn",
    "spawn_blocking",
    "spawn_local",
    "tokio::sync::watch",
];

/// In the rooms of a node what waits goes by `Manifest::time`, and what destroys by `Manifest::passed`. Only these
/// files ask the machine's wall clock itself: for timestamps of metrics, and to make those two of it.
const WALL_CLOCK: &[&str] = &["maintain/runner.rs", "manifest/clock.rs"];

/// The rooms that compute and do nothing else: the same code runs in production, in the simulator and in property
/// tests.
const PURE: &[&str] = &[
    "state",
    "segment",
    "dynamic_config",
    "format",
    "invariants",
    "table",
    "types",
    "cost",
    "rules",
];
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
];

/// The one file of the broker that knows which log a thing is in, and how others of the room would come by a log without
/// asking it.
const LOGS: &str = "broker/logs.rs";
const A_LOG: &[&str] = &["Manifest", "manifest"];

/// How wide a comment may be, with its indentation. Code is formatted to less; a line of a table, and what stands
/// between fences, may be wider.
const COMMENT_WIDTH: usize = 120;

/// How the name of a type ends that says how a part of a node behaves, and how it does not end, with the rooms to which
/// those endings belong: a `Config` is what a process is started with, or what is in force for a topic or the cluster.
const OPTIONS: &str = "Options";
const NOT_OPTIONS: &[(&str, &[&str])] = &[
    ("Settings", &["sim", "cli", "cost"]),
    ("Config", &["config", "dynamic_config"]),
    ("Params", &[]),
];

/// How the name of a constant begins that bounds something is `MAX_` or `MIN_`, and not one of these.
const NOT_BOUNDS: &[&str] = &[
    "MOST_",
    "LEAST_",
    "LONGEST_",
    "SHORTEST_",
    "LARGEST_",
    "SMALLEST_",
    "FEWEST_",
];

/// The one item that is compiled for tests only in a file of production code is its module `tests`. Beside that there are
/// whole rooms of tests, which `lib.rs` declares, and the switch of the rules.
const TEST_MODULE: &str = "mod tests";
const TEST_ROOMS: &[&str] = &["sim", "testing"];
const SWITCH: &str = "rules.rs";

/// What prints, and the one room that may.
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];
const PRINTS: &str = "cli";

/// The most lines of a file that is not a test. Past about 500 lines of code there are two rooms in one.
const MAX_LINES: usize = 700;

#[test]
fn imports_point_downward_and_never_sideways() {
    assert_none(
        sources()
            .iter()
            .filter(|source| source.name != BINARY)
            .flat_map(upward_uses),
    );
}

#[test]
fn within_a_room_no_two_files_need_each_other() {
    let sources = sources();
    let rooms = WITHOUT_CIRCLES.iter();
    assert_none(rooms.flat_map(|room| circles(&sources, room)));
}

#[test]
fn files_that_are_to_stay_apart_do() {
    assert_none(uses_across(&sources()).into_iter());
}

#[test]
fn a_crate_with_a_room_of_its_own_is_named_nowhere_else() {
    assert_none(sources().iter().flat_map(strangers));
}

#[test]
fn nothing_but_the_command_line_prints() {
    assert_none(sources().iter().flat_map(printing));
}

#[test]
fn the_tasks_of_a_node_are_started_through_its_env() {
    assert_none(sources().iter().flat_map(starts));
}

#[test]
fn a_node_goes_by_no_wall_clock_alone() {
    assert_none(sources().iter().flat_map(wall_clocks));
}

#[test]
fn one_file_of_the_broker_knows_which_log_a_thing_is_in() {
    assert_none(sources().iter().flat_map(logs_reached));
}

#[test]
fn every_room_begins_by_saying_what_it_is() {
    let sources = sources();
    let silent = sources.iter().filter(|source| {
        let named = source.name.ends_with("mod.rs") || source.room_file();
        named && !source.text.starts_with("//!")
    });
    assert_none(silent.map(|source| {
        source.breach(1, "has no `//!` at its top: say what it does, what it never does, its invariants, what a crash leaves")
    }));
}

#[test]
fn a_file_fits_in_the_head() {
    let sources = sources();
    let long = sources
        .iter()
        .filter(|source| !source.is_test() && source.text.lines().count() > MAX_LINES);
    assert_none(long.map(|source| {
        source.breach(MAX_LINES, "is longer than this line: there are two rooms in it; move its tests to `tests.rs` or a part to a file of its own")
    }));
}

#[test]
fn what_only_computes_knows_no_runtime_and_no_files() {
    assert_none(sources().iter().flat_map(impurities));
}

#[test]
fn what_is_for_tests_only_is_in_tests() {
    assert_none(sources().iter().flat_map(tests_in_production));
}

#[test]
fn comments_are_as_wide_as_a_page() {
    assert_none(sources().iter().flat_map(wide_comments));
}

#[test]
fn a_room_of_several_files_is_a_folder_with_a_mod_file() {
    let sources = sources();
    let names: BTreeSet<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    assert_none(
        sources
            .iter()
            .filter_map(|source| beside_its_folder(source, &names)),
    );
}

/// So the least version is one that every test has run with.
#[test]
fn the_toolchain_is_the_least_version_that_works() {
    let read =
        |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let value = |text: &str, key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key).map(str::to_owned));
        line.unwrap().trim_matches([' ', '=', '"']).to_owned()
    };
    let pinned = value(&read("rust-toolchain.toml"), "channel");
    let least = value(&read("Cargo.toml"), "rust-version");
    assert_eq!(
        pinned,
        format!("{least}.0"),
        "rust-toolchain.toml and Cargo.toml differ"
    );
}

/// Else whoever builds after testing, or tests after building, compiles a hundred crates and Weir again.
#[test]
fn a_test_build_and_a_plain_one_share_every_dependency() {
    let crates = |edges: &str| -> BTreeSet<String> {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["tree", "--locked", "--prefix", "none"]);
        let output = cargo
            .args(["--format", "{p} {f}", "--edges", edges])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        // A star is on what is listed already.
        let lines = text.lines().map(|line| line.trim_end_matches(" (*)"));
        lines.map(str::to_owned).collect()
    };
    let (plain, tested) = (crates("normal,build"), crates("normal,build,dev"));
    let apart: Vec<&String> = plain.difference(&tested).collect();
    assert!(
        apart.is_empty(),
        "with other features in tests: {apart:?}. Ask for those in [dependencies] of Cargo.toml as well"
    );
}

#[test]
fn one_thing_has_one_kind_of_name() {
    assert_none(sources().iter().flat_map(misnomers));
}

#[test]
fn every_room_is_in_a_row_and_in_the_map() {
    let known: BTreeSet<&str> = ROWS.iter().copied().flatten().copied().collect();
    let rooms: BTreeSet<String> = sources().iter().map(|source| source.room.clone()).collect();
    for room in rooms {
        assert!(
            room == "lib" || known.contains(room.as_str()),
            "src/{room} is in no row of ROWS in tests/layers.rs: give it one, and add it to the map in src/lib.rs"
        );
    }
    let lib = fs::read_to_string(root().join("lib.rs")).unwrap();
    for line in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let room = line.trim_end_matches(';');
        assert!(
            lib.lines()
                .any(|line| line.starts_with("//! |") && line.contains(&format!("[`{room}`]"))),
            "src/lib.rs has a room that its map does not show: {room}"
        );
    }
}

// What the rules are held with. Its own tests are below: a test that finds nothing must be known to look.

/// A file of `src/`.
struct Source {
    /// Its path below `src/`.
    name: String,
    /// The room that it belongs to: its folder, or its own name.
    room: String,
    text: String,
    /// The text with blanks for comments, strings and tests; as long as the text, so that lines are the same.
    code: String,
}

/// A place that breaks a rule.
#[derive(Debug, PartialEq)]
struct Breach {
    place: String,
    says: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.says)
    }
}

impl Source {
    fn new(name: &str, text: String) -> Source {
        let room = name.split('/').next().unwrap_or(name);
        let mut code = blank_comments_and_strings(&text);
        blank_tests(&mut code);
        Source {
            name: name.to_owned(),
            room: room.trim_end_matches(".rs").to_owned(),
            text,
            code,
        }
    }

    /// A file whose whole content is compiled for tests only.
    fn is_test(&self) -> bool {
        self.name.ends_with("/tests.rs") || self.name.contains("/tests/")
    }

    /// How many times `super` leads from this file to the root.
    fn depth(&self) -> usize {
        let parts = self.name.split('/').count();
        if self.name.ends_with("/mod.rs") {
            parts - 1
        } else {
            parts
        }
    }

    /// A room that is one file.
    fn room_file(&self) -> bool {
        !self.name.contains('/')
    }

    /// Its module, as the names that lead to it from the root.
    fn module(&self) -> Vec<String> {
        let path = self.name.trim_end_matches(".rs");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        path.split('/').map(str::to_owned).collect()
    }

    fn breach(&self, line: usize, says: impl Into<String>) -> Breach {
        Breach {
            place: format!("src/{}:{line}", self.name),
            says: says.into(),
        }
    }

    fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let mut folders = vec![root()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
                let text = fs::read_to_string(&path).unwrap();
                sources.push(Source::new(&name.replace('\\', "/"), text));
            }
        }
    }
    assert!(
        sources.len() > 50,
        "only {} files were found",
        sources.len()
    );
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    sources
}

fn assert_none(breaches: impl Iterator<Item = Breach>) {
    let lines: Vec<String> = breaches.map(|breach| breach.to_string()).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

fn row(room: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&room))
}

/// The uses of rooms that are not below the file's own.
fn upward_uses(source: &Source) -> Vec<Breach> {
    if source.is_test() || source.room == "lib" {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    let mine = row(&source.room);
    let mut paths = crate_paths(&source.code);
    paths.extend(super_paths(&source.code, source.depth()));
    for (at, used) in paths {
        let says = match (mine, row(&used)) {
            _ if used == source.room => continue,
            (Some(mine), Some(theirs)) if mine < theirs => continue,
            (Some(mine), Some(theirs)) if mine == theirs => format!(
                "uses crate::{used}, which is beside {} and not below it: move what both need to a room below, or \
                 hand it in from above",
                source.room
            ),
            (Some(_), Some(_)) => format!(
                "uses crate::{used}, which is above {}: hand in what is needed from above (a value, a closure, a \
                 trait of this room), or move it down",
                source.room
            ),
            _ => format!(
                "uses crate::{used}, and one of the two rooms is in no row of tests/layers.rs"
            ),
        };
        breaches.push(source.breach(source.line_of(at), says));
    }
    breaches
}

/// A file that names another of the same room, with the place where it does.
struct FileUse<'a> {
    by: &'a Source,
    at: usize,
    of: &'a Source,
}

impl FileUse<'_> {
    fn breach(&self, says: &str) -> Breach {
        let line = self.by.line_of(self.at);
        self.by
            .breach(line, format!("uses src/{}: {says}", self.of.name))
    }
}

/// What the files of a room, but for tests, use of each other.
fn uses_within<'a>(sources: &'a [Source], room: &str) -> Vec<FileUse<'a>> {
    let files = || {
        let files = sources.iter();
        files.filter(|source| source.room == room && !source.is_test())
    };
    let modules: BTreeMap<Vec<String>, &Source> =
        files().map(|source| (source.module(), source)).collect();
    let mut uses = Vec::new();
    for by in files() {
        for (at, mut path) in own_paths(by, &modules) {
            // The item that is named is in the file of the longest part of the path that is a module.
            while !path.is_empty() && !modules.contains_key(&path) {
                path.pop();
            }
            let of = modules.get(&path).copied();
            uses.extend(
                of.filter(|of| of.name != by.name)
                    .map(|of| FileUse { by, at, of }),
            );
        }
    }
    uses
}

/// The uses that are part of a circle, or lead from one to another.
fn circles(sources: &[Source], room: &str) -> Vec<Breach> {
    let mut uses = uses_within(sources, room);
    let is_spread = |one: &FileUse| {
        SPREAD.iter().any(|(spread, home)| {
            one.of.name == *home && one.by.code.contains(&format!("impl {spread} {{"))
        })
    };
    uses.retain(|one| !is_spread(one));
    loop {
        let before = uses.len();
        // A file that uses none of those left, or is used by none, is in no circle.
        let using: BTreeSet<&str> = uses.iter().map(|one| one.by.name.as_str()).collect();
        let used: BTreeSet<&str> = uses.iter().map(|one| one.of.name.as_str()).collect();
        uses.retain(|one| {
            using.contains(one.of.name.as_str()) && used.contains(one.by.name.as_str())
        });
        if uses.len() == before {
            break;
        }
    }
    let says = "the two are in a circle of files that need each other: move what both need to a file of its own";
    uses.iter().map(|one| one.breach(says)).collect()
}

fn uses_across(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (of, others) in APART {
        let room = of.split('/').next().unwrap();
        let uses = uses_within(sources, room);
        let wrong = uses
            .iter()
            .filter(|one| one.by.name.starts_with(of) && others.contains(&one.of.name.as_str()));
        breaches.extend(wrong.map(|one| one.breach("tests/layers.rs keeps the two apart (APART)")));
    }
    breaches
}

/// The paths into this crate that a file names, from the root: those that begin with `crate`, `super`, `self`, or a
/// module that is the file's own.
fn own_paths(
    source: &Source,
    modules: &BTreeMap<Vec<String>, &Source>,
) -> Vec<(usize, Vec<String>)> {
    let code = &source.code;
    let module = source.module();
    let children = modules
        .keys()
        .filter(|path| path.len() == module.len() + 1 && path.starts_with(&module));
    let children = children.filter_map(|path| path.last()).map(String::as_str);
    let mut found = Vec::new();
    for head in ["crate", "super", "self"].into_iter().chain(children) {
        for at in words(code, head) {
            let before = code[..at].trim_end();
            // Not the rest of a path, nor who may see an item.
            let begins = !before.ends_with("::") && !before.ends_with("pub(in");
            if begins && after_colons(&code[at + head.len()..]).is_some() {
                follow(code, at, module.clone(), &mut found);
            }
        }
    }
    found
}

/// Follows a path, and every branch of a `use` tree, from its name at `at`, which is one in the module `base`.
fn follow(code: &str, at: usize, mut base: Vec<String>, found: &mut Vec<(usize, Vec<String>)>) {
    if let Some(tree) = code[at..].strip_prefix('{') {
        for (offset, _) in branches(tree) {
            follow(code, at + 1 + offset, base.clone(), found);
        }
        return;
    }
    let name = first_name(&code[at..]).unwrap_or_default();
    match name.as_str() {
        "crate" => base.clear(),
        "super" => drop(base.pop()),
        "self" | "" => {}
        _ => base.push(name.clone()),
    }
    match after_colons(&code[at + name.len()..]) {
        Some(rest) if !name.is_empty() => follow(code, code.len() - rest.len(), base, found),
        _ => found.push((at, base)),
    }
}

fn strangers(source: &Source) -> Vec<Breach> {
    if source.is_test() {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    for (krate, rooms) in CRATES {
        if rooms.contains(&source.room.as_str()) {
            continue;
        }
        for at in words(&source.code, krate) {
            let says = format!(
                "names {krate}, which belongs to {}: let that room say what is needed, in words of its own",
                rooms.join(" and ")
            );
            breaches.push(source.breach(source.line_of(at), says));
        }
    }
    breaches
}

fn printing(source: &Source) -> Vec<Breach> {
    if source.is_test() || source.room == PRINTS {
        return Vec::new();
    }
    let places = PRINTING.iter().flat_map(|name| {
        let is_call = |at: &usize| source.code[at + name.len()..].trim_start().starts_with('!');
        words(&source.code, name)
            .filter(is_call)
            .map(move |at| (at, name))
    });
    places
        .map(|(at, name)| {
            let says = format!("calls {name}!: log it with tracing, or return it to {PRINTS}/");
            source.breach(source.line_of(at), says)
        })
        .collect()
}

fn impurities(source: &Source) -> Vec<Breach> {
    if source.is_test() || !PURE.contains(&source.room.as_str()) {
        return Vec::new();
    }
    let found = IMPURE
        .iter()
        .flat_map(|name| words(&source.code, name).map(move |at| (at, name)));
    found
        .map(|(at, name)| {
            let says = format!(
                "names {name}, and src/{} only computes: hand in what it needs",
                source.room
            );
            source.breach(source.line_of(at), says)
        })
        .collect()
}

fn wide_comments(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut is_fenced = false;
    for (number, line) in (1..).zip(source.text.lines()) {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            is_fenced = false;
            continue;
        };
        let comment = comment.trim_start_matches(['/', '!']).trim_start();
        is_fenced ^= comment.starts_with("```");
        let may = is_fenced || comment.starts_with('|') || !comment.contains(' ');
        if !may && line.chars().count() > COMMENT_WIDTH {
            let says = format!("is wider than {COMMENT_WIDTH} columns: break the line");
            breaches.push(source.breach(number, says));
        }
    }
    breaches
}

/// `foo.rs` beside a folder `foo/`: it is `foo/mod.rs`.
fn beside_its_folder(source: &Source, names: &BTreeSet<&str>) -> Option<Breach> {
    let folder = format!("{}/", source.name.strip_suffix(".rs")?);
    let is_beside = names.iter().any(|name| name.starts_with(&folder));
    is_beside.then(|| {
        source.breach(
            1,
            format!("stands beside its folder: move it to src/{folder}mod.rs"),
        )
    })
}

fn misnomers(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for at in words(&source.code, "struct") {
        let name = first_name(source.code[at + "struct".len()..].trim_start()).unwrap_or_default();
        for (suffix, rooms) in NOT_OPTIONS {
            if name.ends_with(suffix) && !source.is_test() && !rooms.contains(&source.room.as_str())
            {
                let says = format!(
                    "says how something behaves and is called {name}: its name ends in {OPTIONS}"
                );
                breaches.push(source.breach(source.line_of(at), says));
            }
        }
    }
    for at in words(&source.code, "const").chain(words(&source.code, "static")) {
        let rest = source.code[at..].trim_start_matches(is_ident);
        let name = first_name(rest.trim_start()).unwrap_or_default();
        if NOT_BOUNDS.iter().any(|prefix| name.starts_with(prefix)) {
            let says =
                format!("bounds something and is called {name}: its name begins with MAX_ or MIN_");
            breaches.push(source.breach(source.line_of(at), says));
        }
    }
    breaches
}

fn wall_clocks(source: &Source) -> Vec<Breach> {
    let may = WALL_CLOCK.contains(&source.name.as_str());
    if source.is_test() || may || !NODE.contains(&source.room.as_str()) {
        return Vec::new();
    }
    let calls = words(&source.code, "wall").filter(|at| {
        let after = &source.code[at + "wall".len()..];
        source.code[..*at].ends_with('.') && after.starts_with("()")
    });
    calls
        .map(|at| {
            let says = "asks the machine's wall clock, which may be wrong and may jump: take Manifest::time for what waits, \
                        Manifest::passed for what destroys";
            source.breach(source.line_of(at), says)
        })
        .collect()
}

/// Where a file of the broker names the type of a log, or a field or method that gives one.
fn logs_reached(source: &Source) -> Vec<Breach> {
    if source.is_test() || source.room != "broker" || source.name == LOGS {
        return Vec::new();
    }
    let named = A_LOG.iter().flat_map(|name| words(&source.code, name));
    // The room of that name has other things, too.
    let reached = named.filter(|at| !source.code[*at..].starts_with("manifest::"));
    reached
        .map(|at| {
            let says =
                "comes by a log without saying what for: ask `Logs::of` for the log of a `Home`";
            source.breach(source.line_of(at), says)
        })
        .collect()
}

fn starts(source: &Source) -> Vec<Breach> {
    if source.is_test() || !NODE.contains(&source.room.as_str()) {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    for name in STARTING {
        for at in words(&source.code, name) {
            let says = format!(
                "names {name}: tasks and computations are started with Env::spawn and Env::compute, states are \
                 published with manifest::States, so that a simulation repeats itself"
            );
            breaches.push(source.breach(source.line_of(at), says));
        }
    }
    for at in words(&source.code, "select") {
        let rest = source.code[at + "select".len()..].trim_start();
        let body = rest.strip_prefix('!').map(str::trim_start);
        let branches = body.and_then(|body| body.strip_prefix('{'));
        if branches.is_some_and(|branches| !branches.trim_start().starts_with("biased;")) {
            let says = "has a select! that draws lots: begin it with `biased;`, most urgent first";
            breaches.push(source.breach(source.line_of(at), says));
        }
    }
    breaches
}

/// Where `word` stands by itself in `code`.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + use<'a> {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = code[..*at].chars().next_back();
            let after = code[at + word.len()..].chars().next();
            !before.is_some_and(is_ident) && !after.is_some_and(is_ident)
        })
}

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The rooms that `crate::...` paths name, with where: of single paths, and of every branch of a `crate::{...}`
/// tree. `$crate`, in macros, counts as well.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        let Some(rest) = after_colons(&code[at + "crate".len()..]) else {
            continue;
        };
        match rest.strip_prefix('{') {
            Some(tree) => {
                let start = code.len() - tree.len();
                found.extend(branches(tree).map(|(offset, room)| (start + offset, room)));
            }
            None => found.extend(first_name(rest).map(|room| (at, room))),
        }
    }
    // A macro that is exported names itself at the root: those are no rooms.
    found.retain(|(_, room)| room.chars().next().is_some_and(|c| c.is_ascii_lowercase()));
    found
}

/// The rooms that are named by as many `super::` as lead to the root.
fn super_paths(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut behind = 0;
    for at in words(code, "super") {
        if at < behind {
            continue;
        }
        let mut supers = 0;
        let mut rest = &code[at..];
        while let Some(next) = rest.strip_prefix("super").and_then(after_colons) {
            supers += 1;
            rest = next;
        }
        behind = code.len() - rest.len();
        if supers < depth {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(tree) => {
                let start = code.len() - tree.len();
                found.extend(branches(tree).map(|(offset, room)| (start + offset, room)));
            }
            None => found.extend(first_name(rest).map(|room| (at, room))),
        }
    }
    found.retain(|(_, room)| room.chars().next().is_some_and(|c| c.is_ascii_lowercase()));
    found
}

fn after_colons(text: &str) -> Option<&str> {
    Some(text.trim_start().strip_prefix("::")?.trim_start())
}

/// The first name of each branch of a `use` tree, of which the opening brace has been read.
fn branches(tree: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    let mut depth = 0;
    let mut begins = true;
    let starts = tree.char_indices().map_while(move |(at, c)| {
        let starts = begins && depth == 0 && is_ident(c);
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return None,
            '}' => depth -= 1,
            _ => {}
        }
        begins = match c {
            ',' => true,
            c => begins && c.is_whitespace(),
        };
        Some(starts.then_some(at))
    });
    starts
        .flatten()
        .filter_map(|at| first_name(&tree[at..]).map(|name| (at, name)))
}

fn first_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| is_ident(*c)).collect();
    (!name.is_empty()).then_some(name)
}

/// The text with blanks for what stands in comments, strings and characters; line ends stay.
fn blank_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => comment_end(&chars, at),
            '"' => string_end(&chars, at + 1),
            'r' if !code.chars().next_back().is_some_and(is_name_end) => {
                raw_string_end(&chars, at + 1).unwrap_or(at)
            }
            '\'' => char_end(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end > at {
            let blank = |c: &char| if *c == '\n' { '\n' } else { ' ' };
            code.extend(chars[at..end.min(chars.len())].iter().map(blank));
            at = end;
        } else {
            code.push(chars[at]);
            at += 1;
        }
    }
    code
}

/// Whether an `r` behind this goes on a name. The `b` of `br"..."` does not.
fn is_name_end(c: char) -> bool {
    is_ident(c) && c != 'b'
}

fn line_end(chars: &[char], from: usize) -> usize {
    let length = chars[from..].iter().position(|c| *c == '\n');
    length.map_or(chars.len(), |length| from + length)
}

fn comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of `r"..."` or `r#"..."#`, of which the `r` has been read.
fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from..].iter().take_while(|c| **c == '#').count();
    let open = from + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let mut at = open + 1;
    while at < chars.len() {
        let behind = &chars[at + 1..chars.len().min(at + 1 + hashes)];
        if chars[at] == '"' && behind.len() == hashes && behind.iter().all(|c| *c == '#') {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(chars.len())
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(chars: &[char], from: usize) -> Option<usize> {
    match chars.get(from + 1)? {
        '\\' => {
            let close = chars[from + 3..].iter().position(|c| *c == '\'')?;
            Some(from + 3 + close + 1)
        }
        _ => (chars.get(from + 2) == Some(&'\'')).then_some(from + 3),
    }
}

/// Blanks every `#[cfg(test)]` item with a body. Comments and strings are blanks already.
fn blank_tests(code: &mut String) {
    let mark = "#[cfg(test)]";
    let mut from = 0;
    while let Some(found) = code[from..].find(mark) {
        let at = from + found;
        let end = item_end(code, at + mark.len());
        let blank: String = code[at..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        from = at + blank.len();
        code.replace_range(at..end, &blank);
    }
}

/// What is compiled for tests only, and stands among production code.
fn tests_in_production(source: &Source) -> Vec<Breach> {
    if source.is_test() || source.name == SWITCH || TEST_ROOMS.contains(&source.room.as_str()) {
        return Vec::new();
    }
    let code = blank_comments_and_strings(&source.text);
    let mut breaches = Vec::new();
    for (at, mark) in code.match_indices("#[cfg(test)]") {
        let mut item = code[at + mark.len()..].trim_start();
        while let Some(attribute) = item.strip_prefix("#[") {
            item = attribute
                .split_once(']')
                .map_or("", |(_, rest)| rest.trim_start());
        }
        let line = item.lines().next().unwrap_or_default();
        let name = line.trim_end_matches([' ', '{', '}', ';']);
        let is_room = |room: &&str| source.name == "lib.rs" && name == format!("mod {room}");
        if !name.ends_with(TEST_MODULE) && !TEST_ROOMS.iter().any(is_room) {
            let says = format!(
                "`{line}` is for tests only: put it into a module `tests`, or into src/testing if several rooms use it"
            );
            breaches.push(source.breach(source.line_of(at), says));
        }
    }
    breaches
}

/// The end of an item: of its body, or its semicolon.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (offset, c) in code[from..].char_indices() {
        match c {
            ';' if depth == 0 => return from + offset + 1,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return from + offset + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

#[test]
fn what_is_for_tests_only_among_production_code_is_found() {
    let found =
        |name: &str, text: &str| tests_in_production(&Source::new(name, text.to_owned())).len();
    let double = "#[cfg(test)]\npub(crate) struct Fake;\n";
    assert_eq!(found("store/mod.rs", double), 1);
    assert_eq!(
        found(
            "store/mod.rs",
            "impl A {\n    #[cfg(test)]\n    fn f() {}\n}\n"
        ),
        1
    );
    assert_eq!(found("store/mod.rs", "// #[cfg(test)]\nfn f() {}\n"), 0);
    let module = "#[cfg(test)]\n#[allow(a, reason = \"b\")]\npub(crate) mod tests {}\n";
    assert_eq!(found("store/mod.rs", module), 0);
    assert_eq!(found("store/tests.rs", double), 0);
    assert_eq!(found("testing/mod.rs", double), 0);
    assert_eq!(
        found(
            "lib.rs",
            "#[cfg(test)]\nmod sim;\n#[cfg(test)]\nmod testing;\n"
        ),
        0
    );
    assert_eq!(found("node/mod.rs", "#[cfg(test)]\nmod sim;\n"), 1);
}

#[test]
fn an_import_from_above_or_beside_is_found_with_its_line() {
    let uses = |name: &str, text: &str| -> Vec<String> {
        let source = Source::new(name, text.to_owned());
        upward_uses(&source)
            .into_iter()
            .map(|breach| breach.place)
            .collect()
    };
    let bad = [
        ("state/mod.rs", "\nuse crate::store::Store;"),
        (
            "state/mod.rs",
            "\nuse crate::{types::Seq, store::{Store, StoreUrl}};",
        ),
        (
            "state/mod.rs",
            "\nfn f() -> crate :: broker :: Broker { todo() }",
        ),
        ("state/mod.rs", "\nuse crate::segment::Batch;"),
        (
            "state/mod.rs",
            "\nconst C: char = '\"'; use crate::net::X; // \"",
        ),
        (
            "state/mod.rs",
            "\nmacro_rules! m { () => { $crate::broker::f() } }",
        ),
        ("fetch/reader.rs", "\nuse crate::ingest::Ingest;"),
        ("kafka/a/b.rs", "\nuse crate::http;"),
        ("types/mod.rs", "\nuse crate::env::Env;"),
        ("server.rs", "\nuse crate::cli::Cli;"),
        (
            "format/mod.rs",
            "\n#[cfg(test)] mod t { use crate::store; } use crate::state::S;",
        ),
        (
            "format/mod.rs",
            "\n#[cfg(test)] mod t; use crate::state::S;",
        ),
        ("store/mod.rs", "\nuse crate::unheard_of::X;"),
        ("store/mod.rs", "\nuse super::broker::Broker;"),
        (
            "store/a.rs",
            "\nuse super::super::{types::Seq, broker::Broker};",
        ),
    ];
    for (name, text) in bad {
        assert_eq!(uses(name, text), [format!("src/{name}:2")], "{text}");
    }
    let good = [
        (
            "state/mod.rs",
            "use crate::{format::F, types::{Seq, Offset}};",
        ),
        ("state/a.rs", "use crate::state::State;"),
        ("state/a.rs", "// use crate::store::Store;"),
        ("state/a.rs", "/* /* */ use crate::store::Store; */"),
        ("state/a.rs", "//! [it](crate::store)"),
        (
            "state/a.rs",
            r####"const T: &str = "\"crate::store"; const R: &str = r#"" crate::store"#;"####,
        ),
        (
            "state/a.rs",
            "#[cfg(test)]\nmod tests { fn f() { { crate::store::x() } } }",
        ),
        ("state/tests.rs", "use crate::store::Store;"),
        ("fetch/reader.rs", "use crate::store::Store;"),
        (
            "store/a.rs",
            "use super::broker::Named; use super::super::types::Seq;",
        ),
        (
            "store/a/b.rs",
            "pub(super) fn f() { super::super::manifest() }",
        ),
        (
            "server.rs",
            "use crate::kafka; use crate::{net, node, broker};",
        ),
        ("state/a.rs", "use mycrate::store; fn f<'a>(x: &'a str) {}"),
    ];
    for (name, text) in good {
        assert!(uses(name, text).is_empty(), "{text}");
    }
}

#[test]
fn the_methods_of_a_spread_type_make_no_circle_and_another_file_does() {
    let found = |by: &str| {
        let source = |(name, text): (&str, &str)| Source::new(name, text.to_owned());
        let tail = source(("manifest/tail.rs", "use super::b::B;"));
        circles(&[tail, source(("manifest/b.rs", by))], "manifest").len()
    };
    assert_eq!(found("use super::tail::Tail; impl Tail { }"), 0);
    assert_eq!(found("use super::tail::Tail; impl Other { }"), 2);
    // Who may see an item is no use of where it is.
    assert_eq!(found("pub(in crate::manifest::tail) struct B;"), 0);
}

#[test]
fn files_that_need_each_other_are_found() {
    let found = |files: &[(&str, &str)]| -> Vec<String> {
        let source = |(name, text): &(&str, &str)| Source::new(name, (*text).to_owned());
        let sources: Vec<Source> = files.iter().map(source).collect();
        let breaches = circles(&sources, "net").into_iter();
        breaches.map(|breach| breach.place).collect()
    };
    let two = ["src/net/a.rs:1", "src/net/b.rs:1"];
    for (a, b) in [
        ("use super::b::B;", "use crate::net::a::A;"),
        ("use super::{b, c::C};", "fn f() { super::a::g() }"),
        (
            "use crate::{types::T, net::{c, b::{B}}};",
            "use super::a::*;",
        ),
    ] {
        let files = [("net/a.rs", a), ("net/b.rs", b), ("net/c.rs", "")];
        assert_eq!(found(&files), two, "{a} {b}");
    }
    // A folder's own file, what it exports, and the files in the folder.
    let files = [
        ("net/mod.rs", "mod a; pub use a::A;"),
        ("net/a.rs", "use super::b;"),
        ("net/b.rs", "use super::A;"),
    ];
    assert_eq!(found(&files).len(), 3);
    for files in [
        [
            ("net/a.rs", "use super::b::B;"),
            ("net/b.rs", "use super::c;"),
            ("net/c.rs", "use crate::types;"),
        ],
        [
            ("net/mod.rs", "mod a; use a::A;"),
            ("net/a.rs", "// use super::M;"),
            ("net/b.rs", "use self::a;"),
        ],
        [
            ("net/a.rs", "use super::b;"),
            ("net/b.rs", "#[cfg(test)] use super::a;"),
            ("net/b/tests.rs", "use super::super::a;"),
        ],
        [
            ("net/a.rs", "use super::b;"),
            ("net/a/b.rs", "use super::x;"),
            ("net/b.rs", ""),
        ],
    ] {
        assert_eq!(found(&files), [""; 0], "{files:?}");
    }
}

#[test]
fn a_use_of_a_file_that_is_kept_apart_is_found() {
    let source = |name: &str, text: &str| Source::new(name, text.to_owned());
    let sources = [
        source(
            "kafka/handlers/a.rs",
            "\nuse super::super::{codec, service::S};",
        ),
        source("kafka/service.rs", "use super::handlers::a;"),
        source("kafka/codec.rs", ""),
    ];
    let places: Vec<String> = uses_across(&sources)
        .into_iter()
        .map(|one| one.place)
        .collect();
    assert_eq!(places, ["src/kafka/handlers/a.rs:2"]);
}

#[test]
fn strangers_and_prints_are_found() {
    let source = |name: &str, text: &str| Source::new(name, text.to_owned());
    for text in [
        "use object_store::path::Path;",
        "fn f(_: &dyn object_store::ObjectStore) {}",
    ] {
        assert_eq!(strangers(&source("fetch/a.rs", text)).len(), 1, "{text}");
        assert_eq!(strangers(&source("store/a.rs", text)), [], "{text}");
    }
    assert_eq!(strangers(&source("broker/a.rs", "// kafka_protocol")), []);
    assert_eq!(
        strangers(&source("broker/a.rs", "fn from_object_store() {}")),
        []
    );
    for text in ["println!(\"x\")", "eprint ! (x)", "dbg!(x)"] {
        assert_eq!(printing(&source("broker/a.rs", text)).len(), 1, "{text}");
        assert_eq!(printing(&source("cli/a.rs", text)), [], "{text}");
    }
    assert_eq!(
        printing(&source("broker/a.rs", "fn print() {} // println!")),
        []
    );
}

#[test]
fn a_task_that_is_not_held_is_found() {
    let source = |name: &str, text: &str| Source::new(name, text.to_owned());
    for text in [
        "tokio::spawn(f())",
        "tokio::task::spawn_blocking(f)",
        "use tokio::sync::watch;",
        "tokio::select! {\n  a = b => {} }",
    ] {
        assert_eq!(starts(&source("fetch/a.rs", text)).len(), 1, "{text}");
        assert_eq!(starts(&source("kafka/a.rs", text)), [], "{text}");
    }
    for text in [
        "env.spawn(f())",
        "tokio::select! {\n biased;\n a = b => {} }",
    ] {
        assert_eq!(starts(&source("fetch/a.rs", text)), [], "{text}");
    }
}

#[test]
fn a_wall_clock_that_a_node_goes_by_is_found() {
    let source = |name: &str, text: &str| Source::new(name, text.to_owned());
    for text in ["env.wall()", "self.inner.env\n    .wall()"] {
        assert_eq!(
            wall_clocks(&source("maintain/a.rs", text)).len(),
            1,
            "{text}"
        );
        assert_eq!(
            wall_clocks(&source("manifest/clock.rs", text)),
            [],
            "{text}"
        );
        assert_eq!(wall_clocks(&source("store/a.rs", text)), [], "{text}");
    }
    for text in ["manifest.time()", "node.wall", "wall()"] {
        assert_eq!(wall_clocks(&source("maintain/a.rs", text)), [], "{text}");
    }
}

#[test]
fn a_room_stands_in_one_row_only() {
    let mut rows = BTreeMap::new();
    for room in ROWS.iter().copied().flatten() {
        *rows.entry(*room).or_insert(0) += 1;
    }
    assert!(rows.values().all(|times| *times == 1), "{rows:?}");
}

#[test]
fn what_is_impure_wide_misplaced_or_misnamed_is_found() {
    let at = |name: &str, text: &str| Source::new(name, text.to_owned());
    let places = |breaches: Vec<Breach>| -> Vec<String> {
        breaches.into_iter().map(|breach| breach.place).collect()
    };
    let pure = at(
        "state/a.rs",
        "use std::collections;\nuse std::fs;\nfn f() { tokio::spawn(g()) }\n",
    );
    assert_eq!(
        places(impurities(&pure)),
        ["src/state/a.rs:3", "src/state/a.rs:2"]
    );
    assert!(impurities(&at("store/a.rs", "use std::fs;")).is_empty());
    let long = "word ".repeat(30);
    let text = format!(
        "//! {long}\n//! | {long} |\nfn f() {{}}\n//! ```\n//! {long}\n//! ```\n    // {long}\n"
    );
    let wide = wide_comments(&at("state/a.rs", &text));
    assert_eq!(places(wide), ["src/state/a.rs:1", "src/state/a.rs:7"]);
    let names = BTreeSet::from(["a/b.rs", "a/b/c.rs", "a/d.rs"]);
    assert!(beside_its_folder(&at("a/b.rs", ""), &names).is_some());
    assert!(beside_its_folder(&at("a/d.rs", ""), &names).is_none());
    let named = "pub struct FooSettings {}\nstruct BarOptions;\nconst MOST_X: u8 = 1;\npub const MAX_Y: u8 = 1;\n";
    let found = misnomers(&at("node/a.rs", named));
    assert_eq!(places(found), ["src/node/a.rs:1", "src/node/a.rs:3"]);
    assert!(misnomers(&at("dynamic_config/a.rs", "pub struct FooConfig {}")).is_empty());
}
