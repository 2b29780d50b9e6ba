//! How people write and read times, pairs and texts on the command line.

use std::time::{Duration, SystemTime};

use crate::types::Timestamp;

/// `NAME=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// A moment as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// That one.
    At(Timestamp),
    /// That long ago.
    Ago(Duration),
}

impl Moment {
    /// When it is, if it is `now`.
    pub(super) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Moment::At(time) => time,
            Moment::Ago(by) => {
                let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
                Timestamp(now.0.saturating_sub(millis).max(0))
            }
        }
    }
}

const MOMENT_RULE: &str = "write a time such as 2026-01-31T12:00:00Z, milliseconds since 1970 after an @ \
                           (@1767225600000), or how long ago (15min)";

/// `2026-01-31T12:00:00Z`, `2026-01-31`, `@1767225600000`, `15min`.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Some(millis) = text.strip_prefix('@') {
        let millis: i64 = millis.parse().map_err(|_| MOMENT_RULE.to_owned())?;
        return Ok(Moment::At(Timestamp(millis)));
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Moment::Ago(ago));
    }
    let midnight = format!("{text}T00:00:00Z");
    let time = humantime::parse_rfc3339_weak(text)
        .or_else(|_| humantime::parse_rfc3339_weak(&midnight))
        .map_err(|_| MOMENT_RULE.to_owned())?;
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| MOMENT_RULE.to_owned())?;
    let millis = i64::try_from(since.as_millis()).map_err(|_| MOMENT_RULE.to_owned())?;
    Ok(Moment::At(Timestamp(millis)))
}

/// A time as people read it; `-` for none.
pub(super) fn shown(time: Timestamp) -> String {
    let millis = u64::try_from(time.0).ok();
    let time = millis.and_then(|m| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(m)));
    match time {
        // The year 9999 is the last that can be written.
        Some(time) if millis < Some(253_402_300_800_000) => {
            humantime::format_rfc3339_millis(time).to_string()
        }
        _ => "-".to_owned(),
    }
}

/// `1 record`, `2 records`.
pub(super) fn counted(count: u64, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        for (text, expected) in [
            ("@1767225600000", Moment::At(Timestamp(1_767_225_600_000))),
            (
                "2026-01-01T00:00:00Z",
                Moment::At(Timestamp(1_767_225_600_000)),
            ),
            (
                "2026-01-01 00:00:00",
                Moment::At(Timestamp(1_767_225_600_000)),
            ),
            ("2026-01-01", Moment::At(Timestamp(1_767_225_600_000))),
            ("15min", Moment::Ago(Duration::from_secs(900))),
        ] {
            assert_eq!(moment(text), Ok(expected), "{text}");
        }
        for bad in ["", "yesterday", "@", "@x", "5", "2026-13-01", "1960-01-01"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
        let ago = Moment::Ago(Duration::from_secs(1)).resolve(Timestamp(5000));
        assert_eq!(ago, Timestamp(4000));
    }

    #[test]
    fn times_are_shown() {
        assert_eq!(
            shown(Timestamp(1_767_225_600_123)),
            "2026-01-01T00:00:00.123Z"
        );
        for none in [-1, i64::MAX, i64::MIN] {
            assert_eq!(shown(Timestamp(none)), "-");
        }
    }

    #[test]
    fn pairs_are_read() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("a").is_err() && pair("=b").is_err());
    }
}
