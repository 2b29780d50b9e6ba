//! The items of a request: which are named twice, which are refused before the broker is asked, and the outcomes of all
//! in the order of the request.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;

use super::super::errors::Fault;

/// The items without those whose name came before: a request cannot make its answer large by asking again and
/// again for the same.
pub(super) fn once<T, N: Ord>(mut items: Vec<T>, name: impl Fn(&T) -> N) -> Vec<T> {
    let mut seen = BTreeSet::new();
    items.retain(|item| seen.insert(name(item)));
    items
}

/// Those of `names` that occur more than once. Kafka refuses what a request names twice.
pub(super) fn repeated<T: Ord>(names: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for name in names {
        if let Some(name) = seen.replace(name) {
            twice.insert(name);
        }
    }
    twice
}

/// What is said of an item that the request names more than once.
pub(super) fn occurs_twice(what: &str) -> Fault {
    let what = format!("{what} occurs more than once in the request");
    Fault::new(ResponseError::InvalidRequest, what)
}

/// What is said of an item of which the broker said nothing: a defect of this node.
pub(super) fn unanswered() -> Fault {
    Fault::new(ResponseError::UnknownServerError, "the outcome is unknown")
}

/// Runs an operation on those items that are not refused beforehand, and puts all outcomes in the order of the request.
pub(super) async fn each<T, O, E>(
    items: Vec<Result<T, Fault>>,
    run: impl AsyncFnOnce(Vec<T>) -> Result<Vec<Result<O, E>>, Fault>,
    fault: impl Fn(&E) -> Fault,
) -> Vec<Result<O, Fault>> {
    let mut wanted = Vec::with_capacity(items.len());
    let places: Vec<Option<Fault>> = items
        .into_iter()
        .map(|item| match item {
            Ok(item) => {
                wanted.push(item);
                None
            }
            Err(fault) => Some(fault),
        })
        .collect();
    let outcomes = if wanted.is_empty() {
        Ok(Vec::new())
    } else {
        run(wanted).await
    };
    let mut outcomes = outcomes.map(Vec::into_iter);
    places
        .into_iter()
        .map(|refused| match (refused, &mut outcomes) {
            (Some(fault), _) => Err(fault),
            (None, Ok(outcomes)) => match outcomes.next() {
                Some(Ok(outcome)) => Ok(outcome),
                Some(Err(error)) => Err(fault(&error)),
                None => Err(unanswered()),
            },
            (None, Err(fault)) => Err(fault.clone()),
        })
        .collect()
}
