//! What a check found.

use std::fmt;

use serde::Serialize;

use super::super::clock::ClockDifference;

/// How one promise was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The store kept it.
    Ok,
    /// The store broke it: Weir must not use this store.
    Failed,
    /// It could not be told, because the store did not answer. Try again later.
    Unclear,
}

/// One promise and how it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Property {
    /// The promise, in a few words.
    pub name: &'static str,
    /// Whether it was kept.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What it means for Weir when the promise is broken. Empty if the request itself was refused; then
    /// `seen` says what to do.
    pub meaning: &'static str,
}

/// What a check found. Its `Display` is the report for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The store's URL.
    pub store: String,
    /// Every promise that was checked.
    pub properties: Vec<Property>,
    /// The store's clock against ours; absent for a store without a clock, or if it could not be read.
    pub clock: Option<ClockDifference>,
    /// How many requests were made.
    pub requests: u64,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

impl CheckReport {
    /// Whether every promise was kept.
    pub fn passed(&self) -> bool {
        self.properties
            .iter()
            .all(|property| property.verdict == Verdict::Ok)
    }

    /// The first broken promise, or else the first that could not be told, in one sentence for the log of
    /// a node that refuses to start. `None` if the check passed.
    pub fn refusal(&self) -> Option<String> {
        let worst = |verdict| self.properties.iter().find(|p| p.verdict == verdict);
        let property = worst(Verdict::Failed).or_else(|| worst(Verdict::Unclear))?;
        Some(match property.verdict {
            Verdict::Failed if property.meaning.is_empty() => {
                format!("{} cannot be used: {}", self.store, property.seen)
            }
            Verdict::Failed => format!(
                "{} cannot be used: {}: {}. {}",
                self.store, property.name, property.seen, property.meaning
            ),
            _ => format!(
                "{} could not be checked yet: {}: {}",
                self.store, property.name, property.seen
            ),
        })
    }

    /// Whether a promise was broken. If not and the check did not pass either, try again later.
    pub fn failed(&self) -> bool {
        self.properties
            .iter()
            .any(|property| property.verdict == Verdict::Failed)
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.store)?;
        for property in &self.properties {
            let verdict = match property.verdict {
                Verdict::Ok => "ok",
                Verdict::Failed => "FAILED",
                Verdict::Unclear => "unclear",
            };
            writeln!(f, "  {verdict:<8}{}: {}", property.name, property.seen)?;
            if property.verdict == Verdict::Failed && !property.meaning.is_empty() {
                writeln!(f, "          {}", property.meaning)?;
            }
        }
        let outcome = match (self.passed(), self.failed()) {
            (true, _) => "Weir can use this store.",
            (_, true) => "Weir must not use this store.",
            _ => "The store did not answer well enough to tell. Try again later.",
        };
        write!(
            f,
            "{outcome} ({} requests, {} ms)",
            self.requests, self.millis
        )
    }
}
