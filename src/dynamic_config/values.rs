//! Values of settings: which are allowed, and how they are read.

use std::collections::BTreeSet;

use super::definitions::Definition;
use super::{ConfigType, DynamicConfigError};
use crate::types::ByteCount;

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
    /// Milliseconds from here, also written as a duration: `5s`, `30min`. Stored as a number.
    Millis(i64),
    /// Bytes from here, also written as a size: `10GiB`. Stored as a number.
    Bytes(i64),
    /// A format of records. Not all that have a name are built.
    Format,
    /// Nothing, or a JSON object.
    JsonObject,
    /// False; what true would mean is not built.
    NotBuilt(&'static str),
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
            if let Check::NotBuilt(reason) = definition.check
                && lower == "true"
            {
                return Err(reason.to_owned());
            }
            return Ok(lower);
        }
        ConfigType::Short => integer(value, i16::MIN.into(), i16::MAX.into(), definition.check)?,
        ConfigType::Int => integer(value, i32::MIN.into(), i32::MAX.into(), definition.check)?,
        ConfigType::Long if matches!(definition.check, Check::Millis(_) | Check::Bytes(_)) => {
            return with_unit(value, definition.check);
        }
        ConfigType::Long => integer(value, i64::MIN, i64::MAX, definition.check)?,
        ConfigType::Double => ratio(value, definition.check)?,
        ConfigType::List => return list(value, definition.check),
        ConfigType::String | ConfigType::Class | ConfigType::Password => {
            if let Check::OneOf(words) = definition.check
                && !words.contains(&value)
            {
                return Err(format!("it must be one of {}", words.join(", ")));
            }
            match definition.check {
                Check::Format => format(value)?,
                Check::JsonObject => json_object(value)?,
                _ => {}
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

/// A number of milliseconds or of bytes, which may have a unit.
fn with_unit(value: &str, check: Check) -> Result<String, String> {
    let (read, example, least) = match check {
        Check::Bytes(least) => {
            let read: Result<ByteCount, _> = value.parse();
            (
                read.ok().map(|bytes| bytes.0),
                "a size such as 10GiB",
                least,
            )
        }
        Check::Millis(least) => {
            let read = humantime::parse_duration(value).ok();
            let millis = read.and_then(|read| u64::try_from(read.as_millis()).ok());
            (millis, "a duration such as 30min", least)
        }
        _ => (None, "a number", i64::MIN),
    };
    // A bare number is Kafka's: milliseconds, or bytes.
    let number = value.parse::<i64>().ok();
    let number = number.or_else(|| i64::try_from(read?).ok());
    match number.filter(|number| *number >= least) {
        Some(number) => Ok(number.to_string()),
        None => Err(format!(
            "it is neither an integer of {least} or more nor {example}"
        )),
    }
}

/// The formats of records that become columns, and those that will.
const FORMATS: &[&str] = &["bytes"];
const NOT_BUILT_FORMATS: &[&str] = &["string", "json", "avro", "protobuf"];

fn format(value: &str) -> Result<(), String> {
    if FORMATS.contains(&value) {
        return Ok(());
    }
    let known = FORMATS.join(", ");
    Err(match NOT_BUILT_FORMATS.contains(&value) {
        true => format!("this version of Weir cannot make columns of {value} yet; use {known}"),
        false => format!("it must be one of {known}"),
    })
}

fn json_object(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Ok(());
    }
    let read: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(value);
    match read {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("it is not a JSON object: {error}")),
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
