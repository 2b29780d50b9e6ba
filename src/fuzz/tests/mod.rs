//! The bounded run of every target, and what shows that the runner finds what it looks for.

#![allow(
    clippy::print_stdout,
    reason = "a run says what it did, to those who ask with --nocapture"
)]

mod cbor;
mod chance;
pub(crate) mod corpus;
mod mutate;
mod runner;

use super::*;
pub(crate) use chance::Chance;
pub(crate) use mutate::HOSTILE;
use runner::{Report, broken_path, give, run};

/// Runs a target over its corpus and mutations of it. An input that breaks it is put into a file, whose name the
/// failure tells: it belongs into `tests/fixtures/fuzz/TARGET/` with the mend.
fn holds(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = corpus::of(name);
    match run(target, &corpus) {
        Ok(report) => {
            let Report {
                inputs,
                understood,
                memory,
                slowest,
                took,
            } = report;
            let rate = inputs as f64 / took.as_secs_f64();
            let percent = 100 * understood / inputs;
            println!(
                "fuzz {name}: {inputs} inputs in {took:.1?}, {rate:.0}/s, {percent} % understood, at most {} KiB and \
                 {slowest:.1?} for one",
                memory >> 10
            );
            // A run in which nothing gets through, or nothing is refused, tests nothing.
            assert!(
                understood * 100 > inputs,
                "only {understood} of {inputs} are understood"
            );
            assert!(
                (inputs - understood) * 100 > inputs,
                "only {understood} of {inputs} are understood"
            );
        }
        Err(broken) => {
            let mut hash = 0xcbf2_9ce4_8422_2325u64;
            for byte in &broken.input {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
            let path = broken_path(name, &format!("{hash:016x}"));
            std::fs::write(&path, &broken.input).unwrap();
            panic!("{name}: {}\ninput: {}", broken.why, path.display());
        }
    }
}

macro_rules! holds {
    ($($test:ident: $target:literal;)*) => {
        $(#[test]
        fn $test() {
            holds($target);
        })*

        #[test]
        fn every_target_has_a_test() {
            let tested = [$($target),*];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), tested);
        }
    };
}

holds! {
    hostile_objects_are_refused: "object";
    hostile_commits_fold_without_a_panic: "commit";
    hostile_snapshots_are_refused_or_usable: "snapshot";
    hostile_indexes_of_segments_are_refused: "segment_index";
    hostile_indexes_of_compacted_segments_are_refused: "compacted";
    hostile_batches_are_refused: "batch";
    hostile_records_are_refused: "records";
    hostile_requests_are_refused: "kafka_request";
    hostile_streams_of_frames_are_refused: "kafka_stream";
    hostile_members_of_groups_are_refused: "group_metadata";
    hostile_metadata_of_tables_is_refused: "metadata";
    hostile_texts_are_refused: "text";
}

/// A target that panics on one bit, takes memory for another, and time for a third.
fn brittle(input: &[u8]) -> bool {
    match input.first() {
        Some(1) => panic!("one"),
        Some(2) => std::hint::black_box(vec![0u8; 1 << 20]).len() > 1,
        _ => true,
    }
}

#[test]
fn the_runner_finds_panics_and_memory_and_makes_the_input_small() {
    let target = Target {
        name: "brittle",
        run: brittle,
        shape: Shape::Bytes,
        memory: |len| 1000 + len,
    };
    let corpus = [vec![0, 9, 9, 9, 9, 9]];
    let broken = run(&target, &corpus).err().unwrap();
    assert_eq!(broken.input.len(), 1, "{:?}", broken.input);
    let mut report = Report::default();
    assert_eq!(give(&target, &[0], &mut report), Ok(true));
    assert_eq!(
        give(&target, &[1], &mut report),
        Err("it panics: one".to_owned())
    );
    let too_much = give(&target, &[2], &mut report).unwrap_err();
    assert!(too_much.contains("of memory"), "{too_much}");
    assert!(report.memory >= 1 << 20);
}

#[test]
fn the_same_seed_makes_the_same_inputs() {
    let corpus = corpus::of("commit");
    let make = |seed| {
        let mut chance = chance::Chance::new(seed);
        (0..50)
            .map(|_| mutate::mutate(Shape::Cbor, &corpus, &mut chance))
            .collect::<Vec<_>>()
    };
    assert_eq!(make(1), make(1));
    assert_ne!(make(1), make(2));
}

/// The corpora as files, for the fuzzers of `fuzz/`.
#[test]
fn corpora_are_written_where_somebody_asks_for_them() {
    let Some(folder) = std::env::var_os("WEIR_FUZZ_CORPUS") else {
        return;
    };
    for target in TARGETS {
        let folder = std::path::Path::new(&folder).join(target.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (n, input) in corpus::of(target.name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{n:04}")), input).unwrap();
        }
    }
}
