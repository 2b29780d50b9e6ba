//! Figures out of samples.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Times that were measured.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn extend(&mut self, other: Samples) {
        self.0.extend(other.0);
    }

    /// The sample that `share` of them (0 to 1) do not exceed, in milliseconds; none without samples.
    pub(crate) fn quantile(&mut self, share: f64) -> Option<f64> {
        self.0.sort_unstable();
        let last = self.0.len().checked_sub(1)?;
        // Shares are in 0..=1, so the index is in range.
        let index = (last as f64 * share).round() as usize;
        self.0.get(index).map(|sample| sample.as_secs_f64() * 1e3)
    }
}

/// What was measured in one setting, by the id of the row it goes to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    of: BTreeMap<String, f64>,
    /// What else must be said: above all what was not measured, and why.
    notes: Vec<String>,
}

impl Figures {
    /// What is no number was not measured: nothing came to be divided by.
    pub(crate) fn set(&mut self, id: impl Into<String>, value: f64) {
        if value.is_finite() {
            self.of.insert(id.into(), value);
        }
    }

    pub(crate) fn note(&mut self, note: String) {
        eprintln!("  {note}");
        self.notes.push(note);
    }

    /// What another run found goes in the place of what is here.
    pub(crate) fn take(&mut self, other: Figures) {
        self.of.extend(other.of);
        self.notes.retain(|note| !other.notes.contains(note));
        self.notes.extend(other.notes);
    }

    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(crate) fn set_some(&mut self, id: impl Into<String>, value: Option<f64>) {
        if let Some(value) = value {
            self.set(id, value);
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<f64> {
        self.of.get(id).copied()
    }

    /// Sets `id` to one figure over another, if both are there.
    pub(crate) fn set_ratio(&mut self, id: &str, of: &str, to: &str) {
        if let (Some(of), Some(to)) = (self.get(of), self.get(to))
            && to > 0.0
        {
            self.set(id, of / to);
        }
    }
}
