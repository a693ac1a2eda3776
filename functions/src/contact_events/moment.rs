//! Moments as text: RFC 3339, which is what scripts write.

/// Milliseconds since the Unix epoch of a moment such as `2026-01-31T12:00:00.5+01:00`.
pub(crate) fn parse_ms(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let days = days_since_epoch(date)?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(zone_at)?;
    let local_ms = days * 86_400_000 + ms_of_day(time)?;
    Some(local_ms - offset_ms(zone)?)
}

fn days_since_epoch(date: &str) -> Option<i64> {
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if is_leap { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month).ok()?.checked_sub(1)?;
    if !(1..=*months.get(month)?).contains(&day) {
        return None;
    }
    let leap_days_before = |year: i64| {
        let past = year - 1;
        past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400)
    };
    let leap_days = leap_days_before(year) - leap_days_before(1970);
    Some((year - 1970) * 365 + leap_days + months[..month].iter().sum::<i64>() + day - 1)
}

fn ms_of_day(time: &str) -> Option<i64> {
    let (whole, fraction) = time.split_once('.').map_or((time, None), |(whole, fraction)| (whole, Some(fraction)));
    let [hour, minute, second] = numbers(whole, ':', [2, 2, 2])?;
    // 60 is a leap second.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(((hour * 60 + minute) * 60 + second) * 1000 + fraction.map_or(Some(0), fraction_ms)?)
}

fn fraction_ms(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let padded: String = digits.chars().chain("000".chars()).take(3).collect();
    padded.parse().ok()
}

fn offset_ms(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = zone.split_at_checked(1)?;
    let [hour, minute] = numbers(rest, ':', [2, 2])?;
    let ahead_ms = (hour * 60 + minute) * 60_000;
    (hour <= 23 && minute <= 59).then_some(if sign == "-" { -ahead_ms } else { ahead_ms })
}

/// So many numbers, each of exactly so many digits.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        let is_right = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = is_right.then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::parse_ms;

    #[test]
    fn known_moments_are_read() {
        for (text, expected_ms) in [
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("1969-12-31T23:59:59.999Z", -1),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2026-01-31T12:00:00Z", 1_769_860_800_000),
            ("2026-01-31T13:00:00.25+01:00", 1_769_860_800_250),
            ("2026-01-31 07:30:00-04:30", 1_769_860_800_000),
            ("2026-01-31t12:00:00.123456789z", 1_769_860_800_123),
        ] {
            assert_eq!(parse_ms(text), Some(expected_ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_not_read_as_one() {
        for text in [
            "",
            "now",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-01-00T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:60:00Z",
            "2026-01-31T12:00Z",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00.xZ",
            "2026-01-31T12:00:00+1",
            "2026-01-31T12:00:00+25:00",
            "2026-01-31T12:00:00Z+",
            "é-01-31T12:00:00Z",
        ] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_ms(&text);
        }

        #[test]
        fn days_follow_each_other(day in 0_i64..60_000) {
            // Civil from days, the other way round.
            let (mut year, mut left) = (1970, day);
            let length = |year: i64| if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 };
            while left >= length(year) {
                left -= length(year);
                year += 1;
            }
            prop_assert_eq!(parse_ms(&format!("{year:04}-01-01T00:00:00Z")), Some((day - left) * 86_400_000));
        }
    }
}
