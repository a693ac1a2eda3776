//! The time, in the forms in which API Gateway writes it.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_MS: i64 = 86_400_000;

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// `22/Feb/2022:19:07:37 +0000`.
pub(crate) fn log_form(at_ms: i64) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::at(at_ms);
    let month = usize::try_from(month - 1).ok().and_then(|index| MONTHS.get(index)).unwrap_or(&"???");
    format!("{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} +0000")
}

/// `2022-02-22T19:07:37.902Z`.
pub(crate) fn iso_form(at_ms: i64) -> String {
    let Civil { year, month, day, hour, minute, second, ms } = Civil::at(at_ms);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    ms: i64,
}

impl Civil {
    /// The proleptic Gregorian date, in UTC. Years are counted from March, so that a leap day is a year's last; 400 of
    /// them have always 146,097 days.
    fn at(at_ms: i64) -> Self {
        let in_day_ms = at_ms.rem_euclid(DAY_MS);
        let days = at_ms.div_euclid(DAY_MS) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let second = in_day_ms / 1000;
        Self {
            year,
            month,
            day,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            ms: at_ms.rem_euclid(1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_have_their_dates() {
        for (at_ms, log, iso) in [
            (0, "01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00.000Z"),
            (1_645_556_857_902, "22/Feb/2022:19:07:37 +0000", "2022-02-22T19:07:37.902Z"),
            (951_782_400_000, "29/Feb/2000:00:00:00 +0000", "2000-02-29T00:00:00.000Z"),
            (4_107_542_399_999, "28/Feb/2100:23:59:59 +0000", "2100-02-28T23:59:59.999Z"),
            (1_735_689_599_001, "31/Dec/2024:23:59:59 +0000", "2024-12-31T23:59:59.001Z"),
        ] {
            assert_eq!((log_form(at_ms).as_str(), iso_form(at_ms).as_str()), (log, iso));
        }
    }
}
