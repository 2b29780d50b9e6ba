//! Gives a target inputs for as long as it is to be given some, with a bound on memory and time for each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::chance::Chance;
use super::mutate::mutate;
use crate::fuzz::Target;

/// How many inputs a target gets where nobody says for how long it should go on.
const INPUTS: u64 = if cfg!(debug_assertions) {
    1_500
} else {
    20_000
};

/// The most processor time of one input.
const MAX_TIME: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 });

/// Where a run begins if nobody says where.
const SEED: u64 = 20_261_121;

/// What broke.
pub(super) struct Broken {
    pub(super) input: Vec<u8>,
    pub(super) why: String,
}

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) inputs: u64,
    pub(super) understood: u64,
    pub(super) memory: u64,
    pub(super) slowest: Duration,
    pub(super) took: Duration,
}

/// Gives one input to the target; an error if it panics or takes too much.
pub(super) fn give(target: &Target, input: &[u8], report: &mut Report) -> Result<bool, String> {
    let begun = processor_time();
    let mut outcome = Ok(false);
    let measured = allocation_counter::measure(|| {
        outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    });
    let took = processor_time().saturating_sub(begun);
    report.inputs += 1;
    report.memory = report.memory.max(measured.bytes_max);
    report.slowest = report.slowest.max(took);
    let understood = outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("it panics: {}", text.unwrap_or_default())
    })?;
    report.understood += u64::from(understood);
    let limit = (target.memory)(input.len()) as u64;
    if measured.bytes_max > limit {
        let (took, length) = (measured.bytes_max, input.len());
        return Err(format!(
            "{length} bytes of input take {took} of memory; the limit is {limit}"
        ));
    }
    if took > MAX_TIME {
        return Err(format!("it takes {took:?} of processor time"));
    }
    Ok(understood)
}

/// The whole corpus as it is, then mutations of it.
pub(super) fn run(target: &Target, corpus: &[Vec<u8>]) -> Result<Report, Broken> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seconds = number("WEIR_FUZZ_SECONDS").map(Duration::from_secs);
    let inputs = number("WEIR_FUZZ_INPUTS").unwrap_or(INPUTS);
    // For inputs that end the process: the last one is in the file.
    let keep = std::env::var_os("WEIR_FUZZ_KEEP").map(|_| broken_path(target.name, "last"));
    let mut chance = Chance::new(number("WEIR_FUZZ_SEED").unwrap_or(SEED));
    let begun = Instant::now();
    let mut report = Report::default();
    let more = |report: &Report| match seconds {
        Some(seconds) => begun.elapsed() < seconds,
        None => report.inputs < inputs,
    };
    let mut unchanged = corpus.iter();
    while let Some(input) = unchanged
        .next()
        .cloned()
        .or_else(|| more(&report).then(|| mutate(target.shape, corpus, &mut chance)))
    {
        if let Some(path) = &keep {
            std::fs::write(path, &input).unwrap();
        }
        if let Err(why) = give(target, &input, &mut report) {
            let input = smaller(target, input);
            return Err(Broken { input, why });
        }
    }
    report.took = begun.elapsed();
    Ok(report)
}

/// Takes out of an input what is not needed to break the target.
fn smaller(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let mut tries = 0;
    let mut chunk = input.len() / 2;
    while chunk > 0 && tries < 1000 {
        let mut at = 0;
        while at < input.len() && tries < 1000 {
            let mut shorter = input.clone();
            shorter.drain(at..(at + chunk).min(input.len()));
            tries += 1;
            if give(target, &shorter, &mut Report::default()).is_err() {
                input = shorter;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    input
}

/// Where an input that broke a target is put.
pub(super) fn broken_path(target: &str, name: &str) -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    let folder = folder.join("fuzz").join(target);
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// The processor time of this thread: other threads do not make an input slow.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}
