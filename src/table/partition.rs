//! Which files records belong to: Iceberg's transforms of their timestamps.

use crate::state::table::PartitionBy;
use crate::types::Timestamp;

use super::rows::micros;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The hour, day or month since 1970, in UTC, of a record. None where files are not divided, and for a timestamp that is
/// null in the table. Before 1970 it is negative: the last day of 1969 is −1.
pub fn partition_value(by: PartitionBy, timestamp: Timestamp) -> Option<i32> {
    micros(timestamp)?;
    let days = timestamp.0.div_euclid(DAY_MS);
    let value = match by {
        PartitionBy::None => return None,
        PartitionBy::Hour => timestamp.0.div_euclid(HOUR_MS),
        PartitionBy::Day => days,
        PartitionBy::Month => months(days),
    };
    // No year that a table can have is so far away.
    i32::try_from(value).ok()
}

/// The months since 1970 in which a day is, by the Gregorian calendar.
fn months(days: i64) -> i64 {
    // Eras of 400 years that begin on the first of March, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    (era * 400 + year - 1970) * 12 + month + 2
}
