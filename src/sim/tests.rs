//! Seeds that must find nothing, one seed twice, and broken rules that must be found.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::*;
use crate::env::Env;
use crate::rules::{Broken, Rule};

/// How many seeds every change is tried with.
const SEEDS: u64 = if cfg!(debug_assertions) { 4 } else { 200 };

/// The lines of the trace that a failure shows.
const SHOWN: usize = 60;

/// The tests that run one seed again, alone.
const ANY: &str = "no_seed_breaks_an_invariant";
const CALM: &str = "where_puts_of_segments_are_swallowed_no_producer_waits_for_long";

fn from_env(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    let parsed = value.parse();
    Some(parsed.unwrap_or_else(|_| panic!("{name} is a number, not '{value}'")))
}

/// What a failure says: what was found, what came before it, and how to see it again with which test.
fn failure(report: &Report, test: &str) -> String {
    let mut text = format!("seed {} breaks:\n", report.seed);
    for finding in &report.findings {
        let _ = writeln!(text, "  {finding}");
    }
    let first = report.trace.iter().position(|line| line.contains("FOUND"));
    let end = first.map_or(report.trace.len(), |first| first + 1);
    for line in &report.trace[end.saturating_sub(SHOWN)..end] {
        let _ = writeln!(text, "    {line}");
    }
    let _ = write!(
        text,
        "To run it again, with the whole trace in a file:\n  WEIR_SIM_SEED={} WEIR_SIM_TRACE=trace.txt \
         cargo test --release --lib sim::tests::{test}",
        report.seed
    );
    text
}

/// Runs seeds, or calm seeds, side by side until one breaks or `more` says that it is enough. Returns how many ran, and
/// what happened in them.
fn run_seeds(
    calm: bool,
    first: u64,
    more: impl Fn(u64) -> bool + Sync,
) -> Result<(u64, Tally), String> {
    let (next, broken) = (AtomicU64::new(first), AtomicBool::new(false));
    let (failures, tally) = (Mutex::new(Vec::new()), Mutex::new(Tally::new()));
    let work = || {
        while !broken.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !more(seed - first) {
                next.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            let report = run_so(seed, calm);
            let mut sum = tally.lock().unwrap_or_else(PoisonError::into_inner);
            for (what, times) in &report.tally {
                *sum.entry(*what).or_default() += times;
            }
            drop(sum);
            if !report.findings.is_empty() {
                broken.store(true, Ordering::Relaxed);
                let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.push(failure(&report, if calm { CALM } else { ANY }));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    match failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => {
            let tally = tally.into_inner().unwrap_or_default();
            Ok((next.into_inner() - first, tally))
        }
    }
}

/// What must have happened in the seeds that every change is tried with: a simulation in which a background job has
/// nothing to do shows nothing about it.
const HAPPENS: [&str; 24] = [
    "clocks set wrong",
    "retention",
    "producers",
    "deletion",
    "truncation",
    "sweep",
    "compaction",
    "log_compaction",
    "archive",
    "rows archived",
    "records deleted",
    "topics deleted",
    "topics deleted while written",
    "names given anew",
    "partitions emptied",
    "levels raised",
    "parts of uploads",
    "uploads completed",
    "uploads aborted",
    "commits forwarded",
    "forwarded commits stored",
    "first commits forwarded",
    "forwarded in vain",
    "requests given up",
    "puts of segments swallowed",
    "started over",
];

#[test]
#[expect(
    clippy::print_stdout,
    reason = "how much happened, for who wants to see it"
)]
fn no_seed_breaks_an_invariant() {
    let Some(seed) = from_env("WEIR_SIM_SEED") else {
        let ran = run_seeds(false, 0, |done| done < SEEDS);
        let (ran, tally) = ran.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(ran, SEEDS);
        println!("{ran} seeds: {tally:?}");
        for what in HAPPENS {
            // A few seeds cannot have everything in them.
            let happened = tally.get(what).is_some_and(|times| *times > 0);
            assert!(happened || SEEDS < 100, "no seed has {what}: {tally:?}");
        }
        return;
    };
    let report = run(seed);
    write_trace(&report);
    assert!(report.findings.is_empty(), "{}", failure(&report, ANY));
}

/// Writes the whole trace to the file that `WEIR_SIM_TRACE` names, if it does.
fn write_trace(report: &Report) {
    if let Ok(path) = env::var("WEIR_SIM_TRACE") {
        std::fs::write(&path, report.trace.join("\n")).unwrap();
    }
}

/// `make soak MINUTES=30`
#[test]
#[ignore = "runs for as long as WEIR_SIM_MINUTES says"]
#[expect(clippy::print_stdout, reason = "somebody waits and wants to see it")]
fn no_seed_breaks_an_invariant_for_as_long_as_asked() {
    let minutes = from_env("WEIR_SIM_MINUTES").unwrap_or(10);
    let clock = Env::system();
    // Other seeds each time: those that are always tried are near zero.
    let random = clock.random_uuid().as_u64_pair().0 >> 16;
    let first = from_env("WEIR_SIM_FROM").unwrap_or(random);
    println!("from seed {first} for {minutes} min");
    let (began, told) = (clock.boot(), AtomicU64::new(0));
    let ran = run_seeds(false, first, |done| {
        let spent = clock.boot() - began;
        let minute = spent.as_secs() / 60;
        if told.fetch_max(minute, Ordering::Relaxed) < minute {
            println!("{minute} min: {done} seeds");
        }
        spent < Duration::from_secs(60 * minutes)
    });
    let (ran, tally) = ran.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{ran} seeds broke nothing: {tally:?}");
}

#[test]
fn one_seed_run_twice_is_the_same_run() {
    for seed in [1, 2, 3, 5] {
        let (one, other) = thread::scope(|scope| {
            let one = scope.spawn(|| run(seed));
            let other = scope.spawn(|| run(seed));
            (one.join().unwrap(), other.join().unwrap())
        });
        let differs = one.trace.iter().zip(&other.trace).position(|(a, b)| a != b);
        if let Some(line) = differs {
            let from = line.saturating_sub(10);
            panic!(
                "seed {seed} differs from line {line} on:\n{}\nand:\n{}",
                one.trace[from..=line].join("\n"),
                other.trace[from..=line].join("\n")
            );
        }
        assert_eq!(one.trace.len(), other.trace.len(), "seed {seed}");
        assert!(one.trace.len() > 1000, "seed {seed} does next to nothing");
    }
}

#[test]
fn where_puts_of_segments_are_swallowed_no_producer_waits_for_long() {
    if let Some(seed) = from_env("WEIR_SIM_SEED") {
        let report = run_so(seed, true);
        write_trace(&report);
        assert!(report.findings.is_empty(), "{}", failure(&report, CALM));
        return;
    }
    let seeds = if cfg!(debug_assertions) { 4 } else { 60 };
    let ran = run_seeds(true, 0, |done| done < seeds);
    let (ran, tally) = ran.unwrap_or_else(|failure| panic!("calm {failure}"));
    assert_eq!(ran, seeds);
    assert!(tally["puts of segments swallowed"] > 0);
}

/// The most seeds that a broken rule may take to be found.
const MAX_SEEDS: u64 = 100;

/// Runs seeds with these rules broken until one finds that they are; says which seed, and what it found.
fn find(rules: &[Rule]) -> Option<(u64, Vec<Finding>)> {
    let _broken = Broken::new(rules);
    let limit = from_env("WEIR_SIM_SEEDS").unwrap_or(MAX_SEEDS);
    (0..limit)
        .map(|seed| (seed, run(seed).findings))
        .find(|(_, findings)| !findings.is_empty())
}

#[expect(clippy::print_stdout, reason = "for the table in docs/simulator.md")]
fn finds(rules: &[Rule]) {
    let (seed, findings) = find(rules).unwrap_or_else(|| panic!("{rules:?} was not found"));
    let kinds: BTreeSet<String> = findings.iter().map(kind).collect();
    println!("{rules:?}: seed {seed}: {kinds:?}; {}", findings[0]);
}

fn kind(finding: &Finding) -> String {
    match finding {
        Finding::Broken(violation) => violation.invariant.id().to_owned(),
        Finding::Panicked(_) => "panic".to_owned(),
        Finding::NodeFailed(_) => "node failed".to_owned(),
        Finding::Wrong(_) => "wrong answer".to_owned(),
        Finding::Stuck(_) => "stuck".to_owned(),
    }
}

/// One test for each rule, or for several that are broken together.
macro_rules! found {
    ($($name:ident: $(Rule::$rule:ident)+;)+) => {
        $(
            #[test]
            fn $name() {
                finds(&[$(Rule::$rule),+]);
            }
        )+
    };
}

mod the_simulator_finds {
    use super::*;

    #[test]
    #[expect(clippy::print_stdout, reason = "for the table in docs/simulator.md")]
    fn a_put_of_a_segment_that_is_waited_for_to_its_time_out() {
        let _broken = Broken::new(&[Rule::SlowPutsAreHedged]);
        let mut reports = (0..MAX_SEEDS).map(|seed| run_so(seed, true));
        let found = reports
            .find(|report| !report.findings.is_empty())
            .expect("nobody waited for long");
        assert!(matches!(found.findings[0], Finding::Stuck(_)));
        println!("{}", found.findings[0]);
    }

    found! {
        a_lost_answer_that_is_taken_for_a_conflict: Rule::OwnCommitsAreFound;
        a_lost_answer_that_is_taken_for_a_conflict_without_the_second_guard:
            Rule::OwnCommitsAreFound Rule::CommitsFoldOnce;
        another_commit_at_a_seq_that_is_not_settled: Rule::UnsettledSeqsAreNotReused;
        a_lost_race_that_is_taken_for_a_lost_answer: Rule::ExistingCommitsAreIdentified;
        an_acknowledgement_before_the_fold: Rule::AcknowledgementsFollowFold;
        a_commit_folded_behind_one_that_is_not_there: Rule::CommitsFoldInChain;
        a_commit_that_is_recalled_and_sent_as_another: Rule::RecalledCommitsKeepTheirId;
        an_offset_that_is_used_again: Rule::OffsetsAreUnique;
        a_producer_check_that_is_dropped_after_a_conflict: Rule::RetriedCommitsKeepSequences;
        a_retry_that_is_appended_again: Rule::RetriesAreDeduplicated;
        a_stale_generation_that_is_accepted: Rule::StaleGenerationsAreRefused;
        a_request_that_was_given_up_and_undoes_what_is_newer: Rule::LateOpsAreRefused;
        waiters_that_are_told_each_others_outcomes: Rule::WaitersGetTheirOwnOutcomes;
        batches_without_their_real_offsets: Rule::RealOffsetsAreServed;
        a_fresh_state_that_is_the_one_at_hand: Rule::FreshStatesAreProbed;
        an_upload_that_is_committed_before_an_earlier_one_of_its_partition: Rule::UploadsCommitInOrder;
        a_failed_upload_that_is_committed: Rule::FailedUploadsAreNotCommitted;
        a_failed_probe_that_is_taken_for_the_end: Rule::FailedProbesAreNoEnd;
        a_not_found_that_is_believed_whoever_says_it: Rule::OnlyStoreSaysNotFound;
        a_fetch_that_does_not_ask: Rule::EmptyFetchesProbe;
        a_snapshot_that_forgets: Rule::SnapshotsAreReadWhole;
        a_pipeline_that_is_begun_in_the_middle: Rule::PipelinesBeginWithFirstBatch;
        a_sleeper_that_does_not_look_for_a_boundary: Rule::SleepersLookForBoundary;
        a_sweep_without_a_boundary: Rule::SweptSegmentsAreRefused;
        a_commit_that_stays_dead_though_records_are_put_into_it: Rule::AppendsReviveCommits;
        a_wall_clock_that_moves_time_as_far_as_it_likes: Rule::TimeIsBounded;
        a_wall_clock_that_destroys: Rule::DestructionDistrustsWallClock;
        a_fetch_by_a_state_of_whatever_age: Rule::FetchesConfirmTheirState;
    }
}
