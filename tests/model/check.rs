//! Running a model to its end, and printing how it breaks.

use std::fmt::{Debug, Write};
use std::hash::Hash;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// The rules of a protocol, all of them or all but some.
///
/// `R` is an enum of at most 32 rules without fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    off: u32,
}

impl Rules {
    /// All rules hold.
    pub(crate) const ALL: Rules = Rules { off: 0 };

    /// These rules, given by their numbers, with one less.
    pub(crate) const fn without(self, rule: u32) -> Rules {
        Rules {
            off: self.off | 1 << rule,
        }
    }

    pub(crate) const fn holds(self, rule: u32) -> bool {
        self.off & 1 << rule == 0
    }
}

/// How a model was explored to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    #[allow(dead_code, reason = "shown when a test fails")]
    pub(crate) depth: usize,
}

/// Visits every state that the model can reach. Every `always` must hold in all of them, and every `sometimes` in one:
/// those say that what is interesting did happen.
///
/// # Panics
///
/// With the shortest way there, if an `always` does not hold.
pub(crate) fn exhaust<M>(model: M) -> Explored
where
    M: Model + Send + Sync + Clone + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: Clone + PartialEq + Debug,
{
    let properties = model.properties();
    let checker = model
        .clone()
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let discoveries = checker.discoveries();
    for property in properties {
        let found = discoveries.get(property.name);
        match property.expectation {
            Expectation::Always => assert!(
                found.is_none(),
                "{}",
                counterexample(model).map_or(String::new(), |broken| broken.trace)
            ),
            _ => assert!(found.is_some(), "never happened: {}", property.name),
        }
    }
    Explored {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
    }
}

/// A property that does not hold, and the shortest way to a state in which it does not.
#[derive(Clone, Debug)]
pub(crate) struct Counterexample {
    pub(crate) property: &'static str,
    pub(crate) trace: String,
    pub(crate) steps: usize,
}

/// Looks for the shortest way to break a property.
pub(crate) fn counterexample<M>(model: M) -> Option<Counterexample>
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: Clone + PartialEq + Debug,
{
    let properties = model.properties();
    // One thread: then the search is in order of length, and the same each time.
    let checker = model
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let mut found: Vec<Counterexample> = Vec::new();
    for (property, path) in checker.discoveries() {
        let is_failure = properties
            .iter()
            .any(|known| known.name == property && known.expectation == Expectation::Always);
        if !is_failure {
            continue;
        }
        let end = format!("{:?}", path.last_state());
        let actions = path.into_actions();
        let mut trace = format!("not always: {property}\n");
        for (number, action) in actions.iter().enumerate() {
            let _ = writeln!(
                trace,
                "{:3}. {}",
                number + 1,
                checker.model().format_action(action)
            );
        }
        let _ = writeln!(trace, "     {end}");
        found.push(Counterexample {
            property,
            trace,
            steps: actions.len(),
        });
    }
    found.sort_by_key(|broken| (broken.steps, broken.property));
    found.into_iter().next()
}
