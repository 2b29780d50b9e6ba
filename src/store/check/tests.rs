use std::time::Duration;

use super::*;
use crate::store::{StoreMetrics, StoreOptions};
use crate::testing::{Fault, Faulty};

async fn file_store(directory: &tempfile::TempDir) -> Store {
    let url = format!("file://{}", directory.path().display())
        .parse()
        .unwrap();
    Store::open(&url, StoreOptions::default(), StoreMetrics::default())
        .await
        .unwrap()
}

fn failed(report: &CheckReport) -> Vec<&'static str> {
    let failed = report
        .properties
        .iter()
        .filter(|p| p.verdict == Verdict::Failed);
    failed.map(|p| p.name).collect()
}

#[tokio::test]
async fn good_stores_pass_and_keep_nothing_of_the_check() {
    let directory = tempfile::tempdir().unwrap();
    for store in [Store::memory(), file_store(&directory).await] {
        for options in [CheckOptions::quick(), CheckOptions::full()] {
            let report = check(&store, &options).await;
            assert!(report.passed(), "{report}");
            assert_eq!(report.refusal(), None);
        }
        assert_eq!(store.list(ObjectPrefix::All, None, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn the_bucket_of_the_environment_passes() {
    let Ok(url) = std::env::var("WEIR_TEST_S3_URL") else {
        return;
    };
    let url = url.parse().unwrap();
    let store = Store::open(&url, StoreOptions::default(), StoreMetrics::default())
        .await
        .unwrap();
    for options in [CheckOptions::quick(), CheckOptions::full()] {
        let report = check(&store, &options).await;
        assert!(report.passed(), "{report}");
        assert!(report.clock.is_some());
    }
}

#[tokio::test]
async fn the_quick_check_makes_about_ten_requests() {
    let report = check(&Store::memory(), &CheckOptions::quick()).await;
    assert!(report.requests <= 11, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_ignores_the_condition_is_refused_with_a_sentence() {
    for options in [CheckOptions::quick(), CheckOptions::full()] {
        let (store, _) = Faulty::store(|_| Fault::IgnoresCondition);
        let report = check(&store, &options).await;
        // A start ends with the first promise that is broken; the full check tells all.
        let broken = [
            "create refused when the object exists",
            "one winner of a race",
        ];
        let told = if options.thorough { 2 } else { 1 };
        assert_eq!(failed(&report), broken[..told]);
        let refusal = report.refusal().unwrap();
        assert!(
            refusal.contains("a create of an object that exists succeeded"),
            "{refusal}"
        );
        assert!(report.to_string().contains("FAILED"), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_checks_and_then_writes_is_refused_for_its_races() {
    let (store, _) = Faulty::store(|_| Fault::ChecksThenWrites);
    let report = check(&store, &CheckOptions::quick()).await;
    assert_eq!(failed(&report), ["one winner of a race"]);
}

#[tokio::test(start_paused = true)]
async fn a_racer_that_is_held_back_does_not_hold_up_the_start_of_a_node() {
    let slow = Duration::from_secs(2);
    // How many of the requests may be that slow, one at a time, and the check is not.
    let without_effect = async |stragglers| {
        let quick = CheckOptions::quick();
        let options = CheckOptions {
            stragglers,
            ..quick
        };
        let mut count = 0;
        for number in 0..10 {
            let delay = move |n| match n == number {
                true => Fault::Slow(slow),
                false => Fault::None,
            };
            let begun = Instant::now();
            let report = check(&Faulty::store(delay).0, &options).await;
            assert!(report.passed(), "{report}");
            count += usize::from(begun.elapsed() < slow);
        }
        count
    };
    let quick = CheckOptions::quick();
    let more = without_effect(quick.stragglers).await - without_effect(quick.timeout).await;
    assert_eq!(more, quick.racers);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_overloaded_at_the_start_passes_when_it_recovers() {
    // Answers are lost and requests fail in turn for a while.
    let (store, _) = Faulty::store(|n| match n {
        0..4 => Fault::AnswerLost,
        4..8 => Fault::Fails,
        _ => Fault::None,
    });
    let report = check(&store, &CheckOptions::quick()).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_unclear_and_not_broken() {
    let (store, _) = Faulty::store(|_| Fault::Fails);
    let report = check(&store, &CheckOptions::quick()).await;
    assert!(!report.passed() && !report.failed(), "{report}");
    assert!(
        report
            .refusal()
            .unwrap()
            .contains("could not be checked yet")
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_without_rights_says_what_to_do() {
    let (store, _) = Faulty::store(|_| Fault::Denied);
    let refusal = check(&store, &CheckOptions::quick())
        .await
        .refusal()
        .unwrap();
    assert!(
        refusal.contains("Give these credentials the rights"),
        "{refusal}"
    );
}

#[test]
fn clocks_differ_only_beyond_the_uncertainty() {
    let clock = |ahead_millis| ClockDifference {
        ahead_millis,
        uncertainty_millis: 600,
    };
    let limit = Duration::from_secs(5);
    assert!(!clock(5_500).exceeds(limit));
    assert!(!clock(-5_600).exceeds(limit));
    assert!(clock(5_700).exceeds(limit));
    assert!(clock(-5_700).exceeds(limit));
}
