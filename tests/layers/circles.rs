//! In some rooms the files use each other in one direction only, so that there is always a file to begin reading with.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breach, Source, assert_none, sources, words};

/// Those rooms. Each may have one type whose methods are spread over its files: the type's name, and the file that it is in. A
/// file with methods of it may name it, and is used by that file for what else it has.
const ROOMS: &[(&str, &str, &str)] = &[("manifest", "Tail", "tail.rs")];

#[test]
fn the_files_of_a_room_use_each_other_in_one_direction() {
    let sources = sources();
    let breaches = ROOMS
        .iter()
        .flat_map(|(room, spread, home)| circles(&sources, room, spread, home));
    assert_none(breaches);
}

/// The files of a room that use each other in a circle, and those between two circles. Its own `mod.rs` shows the room to
/// others and does not count; nor does that a file uses the module that it is a part of.
fn circles(sources: &[Source], room: &str, spread: &str, home: &str) -> Vec<Breach> {
    let facade = format!("{room}/mod.rs");
    let is_of_room = |source: &&Source| {
        source.room == room
            && !source.is_test()
            && source.name != facade
            && source.name.contains('/')
    };
    let files: BTreeMap<Vec<&str>, &Source> = sources
        .iter()
        .filter(is_of_room)
        .map(|source| (module_of(source), source))
        .collect();
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, source) in &files {
        let home = format!("{room}/{home}");
        let has_methods = source.code.contains(&format!("impl {spread} {{"));
        let named = used_modules(source, room);
        let used = named
            .iter()
            .filter_map(|path| file_of(&files, path))
            .filter(|(part, _)| !module.starts_with(part))
            .map(|(_, source)| source.name.as_str())
            .filter(|used| !(has_methods && *used == home));
        uses.insert(&source.name, used.collect());
    }
    // Whatever uses nothing that is left, or is used by nothing that is left, is in no circle.
    loop {
        let left: BTreeSet<&str> = uses.keys().copied().collect();
        uses.values_mut()
            .for_each(|used| used.retain(|file| left.contains(file)));
        let used: BTreeSet<&str> = uses.values().flatten().copied().collect();
        uses.retain(|file, uses| !uses.is_empty() && used.contains(file));
        if uses.len() == left.len() {
            break;
        }
    }
    let of = |name: &str| sources.iter().find(|source| source.name == name);
    uses.iter()
        .filter_map(|(file, used)| {
            let used: Vec<&str> = used.iter().copied().collect();
            let says = format!(
                "is in a circle: it uses {}. Move what both need to a file of its own, or hand it in",
                used.join(", ")
            );
            Some(of(file)?.breach(1, says))
        })
        .collect()
}

/// The file that a path leads to, with the part of the path that is its module.
fn file_of<'a, 'b>(
    files: &'b BTreeMap<Vec<&'a str>, &'a Source>,
    path: &[String],
) -> Option<(&'b Vec<&'a str>, &'a Source)> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let parts = (1..=path.len()).rev().map(|len| &path[..len]);
    let found = |part: &[&str]| files.iter().find(|(module, _)| module.as_slice() == part);
    parts
        .filter_map(found)
        .next()
        .map(|(module, source)| (module, *source))
}

/// The path of a file's module below its room.
fn module_of(source: &Source) -> Vec<&str> {
    let path = source.name.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').skip(1).collect()
}

/// The paths below the room that the file's `use` declarations name.
fn used_modules(source: &Source, room: &str) -> Vec<Vec<String>> {
    let code = &source.code;
    let declarations = words(code, "use").filter_map(|at| code[at + 3..].split(';').next());
    let module = module_of(source);
    let mut used = Vec::new();
    for path in declarations.flat_map(branches) {
        let mut path = path.split("::").map(str::trim).peekable();
        let mut base: Vec<String> = module.iter().map(ToString::to_string).collect();
        match path.peek().copied() {
            Some("crate") => {
                path.next();
                if path.next() != Some(room) {
                    continue;
                }
                base.clear();
            }
            Some("self") => drop(path.next()),
            _ => {}
        }
        while path.next_if(|name| *name == "super").is_some() {
            base.pop();
        }
        base.extend(path.map(str::to_owned));
        used.push(base);
    }
    used
}

/// Each path of a `use` tree.
fn branches(tree: &str) -> Vec<String> {
    let Some((prefix, inner)) = tree.split_once('{') else {
        return vec![tree.trim().to_owned()];
    };
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let mut depth = 0;
    let parts = inner.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts
        .filter(|part| !part.trim().is_empty())
        .flat_map(branches)
        .map(|branch| format!("{}{branch}", prefix.trim()))
        .collect()
}

#[test]
fn a_circle_is_found_and_the_methods_of_a_spread_type_are_none() {
    let found = |files: &[(&str, &str)]| -> Vec<String> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(name, text)| Source::new(name, (*text).to_owned()))
            .collect();
        let breaches = circles(&sources, "log", "Tail", "tail.rs").into_iter();
        breaches.map(|breach| breach.place).collect()
    };
    let tail = ("log/tail.rs", "use super::{a::A, b::{self, B}};");
    let a = ("log/a.rs", "use super::b::B; use crate::types::Seq;");
    assert_eq!(found(&[tail, a, ("log/b.rs", "struct B;")]), [""; 0]);
    let circle = ("log/b.rs", "use crate::log::{c::C, a::A};");
    assert_eq!(
        found(&[tail, a, circle, ("log/c.rs", "")]),
        ["src/log/a.rs:1", "src/log/b.rs:1"]
    );
    // One that has methods of the type that is spread may name it; another may not.
    let part = ("log/b.rs", "use super::tail::Tail; impl Tail { }");
    assert_eq!(found(&[tail, a, part]), [""; 0]);
    let stranger = ("log/b.rs", "use super::tail::Tail; impl Other { }");
    assert_eq!(found(&[tail, a, stranger]).len(), 3);
    // A folder's files may name what they are part of.
    let parent = ("log/d/mod.rs", "use e::E; use super::a::A;");
    let child = ("log/d/e.rs", "use super::D;");
    assert_eq!(found(&[parent, child, ("log/a.rs", "")]), [""; 0]);
    assert_eq!(
        found(&[parent, child, ("log/a.rs", "use super::d::e::E;")]),
        [""; 0],
        "the file, not the folder"
    );
    assert_eq!(
        found(&[parent, child, ("log/a.rs", "use super::d::D;")]).len(),
        2
    );
}
