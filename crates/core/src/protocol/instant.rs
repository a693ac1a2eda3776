//! Points in time as CXone's platform writes them: RFC 3339 text outside, milliseconds since the Unix epoch inside.
//!
//! Years 0 to 9999, with any offset; what is written is always UTC with three decimals, as JavaScript's `toISOString`
//! writes it. Fractions below a millisecond are cut off.

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const DAYS_PER_ERA: i64 = 146_097;

/// The first instant that has an RFC 3339 form: `0000-01-01T00:00:00.000Z`.
pub const EARLIEST_MS: i64 = -62_167_219_200_000;
/// The last one: `9999-12-31T23:59:59.999Z`.
pub const LATEST_MS: i64 = 253_402_300_799_999;

/// Reads an RFC 3339 time (`2025-01-31T09:30:00.250+01:00`; `T` may be `t` or a blank, `Z` may be `z`, the fraction may
/// have any number of digits up to [`FRACTION_DIGITS_MAX`]) into milliseconds since the Unix epoch. A leap second counts
/// as the last millisecond before it ends. `None` for anything else, a time without an offset and a day that no calendar
/// has included.
#[must_use]
pub fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    literal(&mut rest, b"-")?;
    let month = digits(&mut rest, 2)?;
    literal(&mut rest, b"-")?;
    let day = digits(&mut rest, 2)?;
    literal(&mut rest, b"Tt ")?;
    let hour = digits(&mut rest, 2)?;
    literal(&mut rest, b":")?;
    let minute = digits(&mut rest, 2)?;
    literal(&mut rest, b":")?;
    let second = digits(&mut rest, 2)?;
    let fraction_ms = fraction_ms(&mut rest)?;
    let offset_ms = offset_ms(&mut rest)?;

    let is_date = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 || !rest.is_empty() {
        return None;
    }
    let within_minute_ms = (second * SECOND_MS + fraction_ms).min(MINUTE_MS - 1);
    let local_ms = days_since_epoch(year, month, day) * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS + within_minute_ms;
    let utc_ms = local_ms - offset_ms;
    (EARLIEST_MS..=LATEST_MS).contains(&utc_ms).then_some(utc_ms)
}

/// The longest fraction of a second that is read.
pub const FRACTION_DIGITS_MAX: usize = 12;

/// Writes milliseconds since the Unix epoch as `2025-01-31T08:30:00.250Z`. What lies outside of [`EARLIEST_MS`] to
/// [`LATEST_MS`] has no such form and is written as the nearest instant that has.
#[must_use]
pub fn format_rfc3339_ms(at_ms: i64) -> String {
    let at_ms = at_ms.clamp(EARLIEST_MS, LATEST_MS);
    let (year, month, day) = date_of(at_ms.div_euclid(DAY_MS));
    let within_day_ms = at_ms.rem_euclid(DAY_MS);
    let (hour, minute) = (within_day_ms / HOUR_MS, within_day_ms % HOUR_MS / MINUTE_MS);
    let (second, ms) = (within_day_ms % MINUTE_MS / SECOND_MS, within_day_ms % SECOND_MS);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (number, after) = rest.split_at_checked(count)?;
    *rest = after;
    number.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn literal(rest: &mut &[u8], one_of: &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    one_of.contains(first).then_some(*first)
}

fn fraction_ms(rest: &mut &[u8]) -> Option<i64> {
    let Some(after_point) = rest.strip_prefix(b".") else { return Some(0) };
    let length = after_point.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 || length > FRACTION_DIGITS_MAX {
        return None;
    }
    let (fraction, after) = after_point.split_at(length);
    *rest = after;
    let thousandths = fraction.iter().chain([b'0'; 3].iter()).take(3);
    Some(thousandths.fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0')))
}

fn offset_ms(rest: &mut &[u8]) -> Option<i64> {
    let sign = match literal(rest, b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(0),
    };
    let hours = digits(rest, 2)?;
    literal(rest, b":")?;
    let minutes = digits(rest, 2)?;
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * HOUR_MS + minutes * MINUTE_MS))
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, extended backwards. Years begin in March here, so that the
/// leap day is the last of its year; an era is the 400 years after which the calendar repeats.
const fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - EPOCH_DAY
}

/// 1970-01-01, in days since 0000-03-01.
const EPOCH_DAY: i64 = 719_468;

/// The inverse of [`days_since_epoch`].
const fn date_of(days_since_epoch: i64) -> (i64, i64, i64) {
    let days = days_since_epoch + EPOCH_DAY;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    // The leap days before this day are taken out before it is divided by the length of a common year.
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_of_rfc_3339_are_read() {
        let half_past_eight_ms = 1_738_312_200_000;
        for (text, expected_ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2025-01-31T08:30:00Z", half_past_eight_ms),
            ("2025-01-31t08:30:00z", half_past_eight_ms),
            ("2025-01-31 08:30:00.000Z", half_past_eight_ms),
            ("2025-01-31T09:30:00+01:00", half_past_eight_ms),
            ("2025-01-31T00:00:00-08:30", half_past_eight_ms),
            ("2025-02-01T08:29:00+23:59", half_past_eight_ms),
            ("2025-01-31T08:30:00.2Z", half_past_eight_ms + 200),
            ("2025-01-31T08:30:00.250Z", half_past_eight_ms + 250),
            ("2025-01-31T08:30:00.250999999Z", half_past_eight_ms + 250),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2016-12-31T23:59:60Z", 1_483_228_799_999),
            ("0000-01-01T00:00:00Z", EARLIEST_MS),
            ("9999-12-31T23:59:59.999Z", LATEST_MS),
        ] {
            assert_eq!(parse_rfc3339_ms(text), Some(expected_ms), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_time() {
        for text in [
            "",
            "2025-01-31",
            "2025-01-31T08:30:00",
            "2025-01-31T08:30Z",
            "2025-1-31T08:30:00Z",
            "2025-00-31T08:30:00Z",
            "2025-13-31T08:30:00Z",
            "2025-01-00T08:30:00Z",
            "2025-04-31T08:30:00Z",
            "2025-02-29T08:30:00Z",
            "1900-02-29T08:30:00Z",
            "2025-01-31T24:00:00Z",
            "2025-01-31T08:60:00Z",
            "2025-01-31T08:30:61Z",
            "2025-01-31T08:30:00.Z",
            "2025-01-31T08:30:00.1234567890123Z",
            "2025-01-31T08:30:00,5Z",
            "2025-01-31T08:30:00+0100",
            "2025-01-31T08:30:00+01",
            "2025-01-31T08:30:00+24:00",
            "2025-01-31T08:30:00+01:60",
            "2025-01-31T08:30:00Z ",
            " 2025-01-31T08:30:00Z",
            "+025-01-31T08:30:00Z",
            "2025-01-31T08:30:-1Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "1738312200000",
            "２025-01-31T08:30:00Z",
        ] {
            assert_eq!(parse_rfc3339_ms(text), None, "{text}");
        }
    }

    #[test]
    fn what_has_no_form_is_written_as_the_nearest_that_has() {
        assert_eq!(format_rfc3339_ms(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(format_rfc3339_ms(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(at_ms in EARLIEST_MS..=LATEST_MS) {
            prop_assert_eq!(parse_rfc3339_ms(&format_rfc3339_ms(at_ms)), Some(at_ms));
        }

        #[test]
        fn since_1970_it_is_written_as_another_library_writes_it(at_ms in 0..=LATEST_MS) {
            let at = UNIX_EPOCH + Duration::from_millis(at_ms.unsigned_abs());
            prop_assert_eq!(format_rfc3339_ms(at_ms), humantime::format_rfc3339_millis(at).to_string());
        }

        #[test]
        fn an_offset_moves_the_instant_and_nothing_else(at_ms in 0..LATEST_MS / 2, hours in 0..24_i64, minutes in 0..60_i64) {
            let local = format_rfc3339_ms(at_ms);
            let local = local.trim_end_matches('Z');
            let shift_ms = hours * HOUR_MS + minutes * MINUTE_MS;
            prop_assert_eq!(parse_rfc3339_ms(&format!("{local}+{hours:02}:{minutes:02}")), Some(at_ms - shift_ms));
            prop_assert_eq!(parse_rfc3339_ms(&format!("{local}-{hours:02}:{minutes:02}")), Some(at_ms + shift_ms));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = parse_rfc3339_ms(&text);
        }
    }
}
