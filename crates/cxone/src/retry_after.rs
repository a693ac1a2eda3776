//! `Retry-After`: seconds, or an instant of HTTP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

/// What holds where CXone says 429 and not for how long.
pub(crate) const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);
/// No pause is longer, whatever CXone says: it would outlive everybody who could ask why.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// The pause that an answer asks for, if it does so in a way that can be read. An instant is measured from the answer's
/// own `Date`, so that our clock need not agree with theirs; `now` stands in where there is none.
pub(crate) fn read(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
        // A number too large to be one is still a long pause.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let until = seconds_of(text)?;
    let date = headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(seconds_of);
    let from = date.unwrap_or_else(|| now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    Some(Duration::from_secs(until.saturating_sub(from)).min(RETRY_AFTER_MAX))
}

/// Seconds since the Unix epoch of an instant such as `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that HTTP lets a
/// server send (RFC 9110, 5.6.7).
fn seconds_of(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day = number(words.next()?, 1..=31)?;
    let month_name = words.next()?;
    let month = (1_u64..).zip(MONTHS).find(|(_, name)| *name == month_name)?.0;
    let year = number(words.next()?, 1970..=9999)?;
    let mut clock = words.next()?.split(':');
    let (hour, minute, second) =
        (number(clock.next()?, 0..=23)?, number(clock.next()?, 0..=59)?, number(clock.next()?, 0..=60)?);
    let is_whole = words.next() == Some("GMT") && words.next().is_none() && clock.next().is_none();
    is_whole.then(|| days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    text.parse().ok().filter(|value| range.contains(value))
}

/// Days since 1 January 1970, in the Gregorian calendar, for years from then on. Years are counted from March, so that
/// the day that leap years add is the last of its year.
const fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    const DAYS_BEFORE_EPOCH: u64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - DAYS_BEFORE_EPOCH
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn pause_s(retry_after: &str, date: Option<&str>, now_s: u64) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap());
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_str(date).unwrap());
        }
        read(&headers, UNIX_EPOCH + Duration::from_secs(now_s)).map(|pause| pause.as_secs())
    }

    #[test]
    fn seconds_and_instants_are_understood_and_capped_at_an_hour() {
        assert_eq!(pause_s("7", None, 0), Some(7));
        assert_eq!(pause_s("999999999999999999999999", None, 0), Some(3_600));
        assert_eq!(pause_s("Sun, 06 Nov 1994 08:49:37 GMT", None, 784_111_770), Some(7));
        assert_eq!(pause_s("Sun, 06 Nov 1994 08:49:37 GMT", None, 784_111_999), Some(0));
        assert_eq!(pause_s("Wed, 06 Nov 2199 08:49:37 GMT", None, 0), Some(3_600));
        assert_eq!(pause_s("Thu, 29 Feb 2024 00:00:09 GMT", None, 1_709_164_800), Some(9));
    }

    #[test]
    fn an_instant_is_measured_by_the_clock_of_who_sent_it() {
        let date = Some("Sun, 06 Nov 1994 08:49:30 GMT");
        assert_eq!(pause_s("Sun, 06 Nov 1994 08:49:37 GMT", date, 1_900_000_000), Some(7));
    }

    #[test]
    fn what_cannot_be_read_asks_for_nothing() {
        for text in ["", "soon", "-1", "1.5", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Foo 1994 08:49:37 GMT"] {
            assert_eq!(pause_s(text, None, 0), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~]{0,40}") {
            let _ = pause_s(&text, Some(&text), 0);
        }
    }
}
