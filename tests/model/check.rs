//! Running a model to its end, and printing how it breaks.

use std::fmt::{Debug, Write};
use std::hash::Hash;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// The rules of a protocol, all of them or all but some.
///
/// A model lists its own with [`rules!`], at most 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    off: u32,
}

impl Rules {
    /// All rules hold.
    pub(crate) const ALL: Rules = Rules { off: 0 };

    /// All but these hold.
    pub(crate) fn without<R: Copy + Into<u32>>(rules: &[R]) -> Rules {
        let bits = rules.iter().map(|rule| 1 << (*rule).into());
        Rules {
            off: bits.fold(0, |off, bit: u32| off | bit),
        }
    }

    pub(crate) fn holds(self, rule: impl Into<u32>) -> bool {
        self.off & 1 << rule.into() == 0
    }
}

/// An enum of the rules of a model.
macro_rules! rules {
    ($($(#[$says:meta])+ $rule:ident,)+) => {
        /// What keeps it safe. Each is switched off by a test.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Rule {
            $($(#[$says])+ $rule,)+
        }

        impl Rule {
            const ALL: &'static [Rule] = &[$(Rule::$rule,)+];
        }

        impl From<Rule> for u32 {
            fn from(rule: Rule) -> u32 {
                rule as u32
            }
        }
    };
}
pub(crate) use rules;

/// What breaks without a rule.
#[derive(Debug)]
pub(crate) struct Needed<M, R: 'static> {
    /// The rule, with those that keep its absence from showing.
    pub(crate) without: &'static [R],
    /// The size at which it shows.
    pub(crate) at: fn(Rules) -> M,
    /// The property that does not hold then.
    pub(crate) breaks: &'static str,
}

/// Takes each rule away and looks for the shortest way in which that breaks the property.
///
/// # Panics
///
/// If a rule is not in the list, or its absence breaks nothing or something else.
pub(crate) fn assert_each_is_needed<M, R>(all: &[R], needed: &[Needed<M, R>])
where
    M: Model + Send + Sync + Clone + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: Clone + PartialEq + Debug,
    R: Copy + Into<u32> + PartialEq + Debug,
{
    for rule in all {
        let is_listed = needed.iter().any(|needed| needed.without[0] == *rule);
        assert!(is_listed, "no test without {rule:?}");
    }
    for Needed {
        without,
        at,
        breaks,
    } in needed
    {
        let Some(broken) = counterexample(at(Rules::without(without))) else {
            panic!("nothing breaks without {without:?}");
        };
        assert_eq!(
            broken.property, *breaks,
            "without {without:?}: {}",
            broken.trace
        );
        show(&format!("without {without:?} {}", broken.trace));
    }
}

/// Visits every state; asserts that there are as many as were counted when the size was chosen, so that a change that
/// makes the model do nothing is noticed.
#[track_caller]
pub(crate) fn assert_holds<M>(model: M, states: usize)
where
    M: Model + Send + Sync + Clone + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: Clone + PartialEq + Debug,
{
    let explored = exhaust(model);
    let Explored { states: all, depth } = explored;
    show(&format!("{all} states, at most {depth} steps"));
    assert!(all >= states, "{explored:?}");
}

#[expect(clippy::print_stdout, reason = "cargo test shows it only if asked to")]
fn show(text: &str) {
    println!("{text}");
}

/// How a model was explored to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
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
        depth: checker.max_depth() - 1,
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
    M: Model + Send + Sync + Clone + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: Clone + PartialEq + Debug,
{
    // The checker goes on for a while after it found one, and tells of the last: so it is asked for ever shorter ones.
    let mut shortest: Option<Counterexample> = None;
    loop {
        let most = shortest.as_ref().map(|broken| broken.steps);
        match search(model.clone(), most) {
            Some(shorter) => shortest = Some(shorter),
            None => return shortest,
        }
    }
}

/// Looks for a way that is shorter than `below`.
fn search<M>(model: M, below: Option<usize>) -> Option<Counterexample>
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: Clone + PartialEq + Debug,
{
    let properties = model.properties();
    // One thread: then it finds the same each time.
    let mut checker = model.checker().finish_when(HasDiscoveries::AnyFailures);
    if let Some(below) = below {
        // It counts states, the first with them, and leaves out those at this depth.
        checker = checker.target_max_depth(below + 1);
    }
    let checker = checker.spawn_bfs().join();
    let is_failure = |name: &str| {
        let mut properties = properties.iter();
        properties.any(|known| known.name == name && known.expectation == Expectation::Always)
    };
    let discoveries = checker.discoveries().into_iter();
    let failures = discoveries.filter(|(property, _)| is_failure(property));
    let found = failures.map(|(property, path)| {
        let end = format!("{:?}", path.last_state());
        let actions = path.into_actions();
        let mut trace = format!("not always: {property}\n");
        for (number, action) in (1..).zip(&actions) {
            let _ = writeln!(
                trace,
                "{number:3}. {}",
                checker.model().format_action(action)
            );
        }
        let _ = writeln!(trace, "     {end}");
        Counterexample {
            property,
            trace,
            steps: actions.len(),
        }
    });
    found.min_by_key(|broken| (broken.steps, broken.property))
}
