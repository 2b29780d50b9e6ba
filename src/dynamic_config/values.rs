//! Values of settings: which are allowed, and how they are read.

use std::collections::BTreeSet;

use super::definitions::Definition;
use super::{ConfigType, DynamicConfigError};

/// Which values of its type a setting takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check {
    /// All.
    Any,
    /// Numbers from here.
    AtLeast(i64),
    /// Numbers from the first to the second.
    Between(i64, i64),
    /// The first, or numbers from the second to the third.
    OneOfOr(i64, i64, i64),
    /// 0 to 1.
    Ratio,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of these words, each once.
    ListOf(&'static [&'static str]),
    /// `*`, or a list of `partition:broker`.
    Replicas,
}

/// The longest value that is stored.
const MAX_LENGTH: usize = 32 << 10;

/// Checks a value and answers with it as it is stored: without blanks around it, booleans in lower case,
/// lists without blanks between.
pub(super) fn check(definition: &Definition, value: &str) -> Result<String, DynamicConfigError> {
    checked(definition, value).map_err(|reason| DynamicConfigError::Invalid {
        name: definition.name.to_owned(),
        value: one_line(value),
        reason,
    })
}

fn checked(definition: &Definition, value: &str) -> Result<String, String> {
    if value.len() > MAX_LENGTH {
        return Err(format!("it is longer than {MAX_LENGTH} bytes"));
    }
    let value = value.trim();
    match definition.kind {
        ConfigType::Boolean => {
            let lower = value.to_ascii_lowercase();
            if lower != "true" && lower != "false" {
                return Err("it must be true or false".to_owned());
            }
            return Ok(lower);
        }
        ConfigType::Short => integer(value, i16::MIN.into(), i16::MAX.into(), definition.check)?,
        ConfigType::Int => integer(value, i32::MIN.into(), i32::MAX.into(), definition.check)?,
        ConfigType::Long => integer(value, i64::MIN, i64::MAX, definition.check)?,
        ConfigType::Double => ratio(value, definition.check)?,
        ConfigType::List => return list(value, definition.check),
        ConfigType::String | ConfigType::Class | ConfigType::Password => {
            if let Check::OneOf(words) = definition.check
                && !words.contains(&value)
            {
                return Err(format!("it must be one of {}", words.join(", ")));
            }
        }
    }
    Ok(value.to_owned())
}

/// The head of a text that may be anything, on one line.
fn one_line(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

fn integer(value: &str, least: i64, most: i64, check: Check) -> Result<(), String> {
    let (least, most, besides) = match check {
        Check::AtLeast(low) => (least.max(low), most, None),
        Check::Between(low, high) => (least.max(low), most.min(high), None),
        Check::OneOfOr(other, low, high) => (least.max(low), most.min(high), Some(other)),
        _ => (least, most, None),
    };
    match value.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) || besides == Some(number) => Ok(()),
        _ => Err(match besides {
            None => format!("it is not an integer between {least} and {most}"),
            Some(other) => {
                format!("it is neither {other} nor an integer between {least} and {most}")
            }
        }),
    }
}

fn ratio(value: &str, check: Check) -> Result<(), String> {
    let number: f64 = value.parse().map_err(|_| "it is not a number")?;
    let allowed = match check {
        Check::Ratio => (0.0..=1.0).contains(&number),
        _ => number.is_finite(),
    };
    if allowed {
        Ok(())
    } else {
        Err("it is not between 0 and 1".to_owned())
    }
}

fn list(value: &str, check: Check) -> Result<String, String> {
    let items = items(value);
    let mut seen = BTreeSet::new();
    for item in &items {
        let allowed = match check {
            _ if !seen.insert(item) => Err(format!("'{item}' is in it twice")),
            Check::ListOf(words) if !words.contains(item) => {
                Err(format!("'{item}' is none of {}", words.join(", ")))
            }
            Check::Replicas => replica(item, items.len()),
            _ if item.is_empty() => Err("one of its items is empty".to_owned()),
            _ => Ok(()),
        };
        allowed.map_err(|reason| one_line(&reason))?;
    }
    Ok(items.join(","))
}

fn replica(item: &str, of: usize) -> Result<(), String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let pair = item
        .split_once(':')
        .is_some_and(|(a, b)| digits(a) && digits(b));
    if pair || (item == "*" && of == 1) {
        return Ok(());
    }
    Err("it is neither '*' nor a list of partition:broker pairs".to_owned())
}

/// The items of a list as it is written; none of an empty text.
pub(super) fn items(value: &str) -> Vec<&str> {
    if value.trim().is_empty() {
        return Vec::new();
    }
    value.split(',').map(str::trim).collect()
}
