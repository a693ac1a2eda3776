//! What the assist app's answer means: taken, with events; not now; never (pure).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use serde_json::Value;

use super::Undelivered;

/// Events taken from one answer; the rest is dropped.
pub const EVENTS_MAX: usize = 100;
/// The longest pause that the app can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Judges an answer that came at `now_s`, in seconds since the Unix epoch.
pub(super) fn read(answer: &Response<Bytes>, now_s: i64) -> Result<Vec<Value>, Undelivered> {
    let status = answer.status();
    if status.is_success() {
        Ok(events(answer.body()))
    } else if is_final(status) {
        Err(Undelivered::Refused { status: status.as_u16() })
    } else {
        Err(Undelivered::Again { after: retry_after(answer.headers(), now_s) })
    }
}

/// Whether the app speaks of this utterance and will say the same of it tomorrow. Every other status is about the way to
/// the app, its state or our credential, and would hit each utterance alike: one expired token must not make dead
/// letters of them all.
const fn is_final(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::GONE
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// Whether somebody has to correct the address or the credential before the app can take anything.
pub(super) fn is_misdirected(status: StatusCode) -> bool {
    let may_pass =
        matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    status.is_redirection() || (status.is_client_error() && !may_pass && !is_final(status))
}

/// The utterance has arrived whatever the body is: one without events that can be used has none.
fn events(body: &[u8]) -> Vec<Value> {
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(body) else { return Vec::new() };
    let Some(Value::Array(events)) = answer.remove("events") else { return Vec::new() };
    let came = events.len();
    let is_event = |event: &Value| event.get("type").is_some_and(Value::is_string);
    let taken: Vec<_> = events.into_iter().filter(is_event).take(EVENTS_MAX).collect();
    if taken.len() < came {
        tracing::debug!(dropped = came - taken.len(), "events in the assist app's answer were dropped");
    }
    taken
}

fn retry_after(headers: &HeaderMap, now_s: i64) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // More digits than fit are a long time.
        text.parse().unwrap_or(u64::MAX)
    } else {
        u64::try_from(http_date_s(text)?.saturating_sub(now_s)).unwrap_or(0)
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7) as seconds since the Unix epoch. The two obsolete forms are
/// not read.
fn http_date_s(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split(' ');
    let _weekday = words.next()?.strip_suffix(',')?;
    let day = number(words.next()?, 1..=31)?;
    let month_word = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|month| *month == month_word)?).ok()? + 1;
    let year = number(words.next()?, 1970..=9999)?;
    let mut clock = words.next()?.split(':');
    let hour = number(clock.next()?, 0..=23)?;
    let minute = number(clock.next()?, 0..=59)?;
    let second = number(clock.next()?, 0..=60)?;
    if words.next() != Some("GMT") || words.next().is_some() || clock.next().is_some() {
        return None;
    }
    Some(days_from_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn number(text: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    text.parse().ok().filter(|number| range.contains(number))
}

/// Years are counted from March, so that a leap day is a year's last.
const fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month_from_march + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const THEN_S: i64 = 784_111_777;

    fn answer(status: u16, body: &str) -> Result<Vec<Value>, Undelivered> {
        read(&Response::builder().status(status).body(Bytes::from(body.to_owned())).unwrap(), THEN_S)
    }

    fn asked_to_wait(retry_after: &str) -> Option<Duration> {
        let answer = Response::builder().status(503).header("retry-after", retry_after).body(Bytes::new()).unwrap();
        match read(&answer, THEN_S) {
            Err(Undelivered::Again { after }) => after,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_status_has_its_meaning() {
        for status in [200, 201, 202, 204] {
            assert_eq!(answer(status, ""), Ok(Vec::new()), "{status}");
        }
        for status in [400, 409, 410, 413, 415, 422] {
            assert_eq!(answer(status, ""), Err(Undelivered::Refused { status }), "{status}");
        }
        for status in [301, 304, 307, 308, 401, 402, 403, 404, 405, 407, 408, 421, 425, 429, 500, 502, 503, 504, 799] {
            assert_eq!(answer(status, ""), Err(Undelivered::Again { after: None }), "{status}");
        }
    }

    #[test]
    fn an_address_or_a_credential_to_be_corrected_is_told_apart_from_an_app_that_is_busy_or_refuses() {
        let misdirected = |status: &u16| is_misdirected(StatusCode::from_u16(*status).unwrap());
        assert!([301, 308, 401, 403, 404, 405, 407].iter().all(misdirected));
        assert!(![200, 400, 408, 410, 422, 425, 429, 500, 503].iter().any(misdirected));
    }

    #[test]
    fn events_are_objects_with_a_type_and_a_bounded_number() {
        let body =
            json!({ "events": [{ "type": "card" }, { "text": "no type" }, 7, { "type": 7 }, { "type": "hint" }] });
        assert_eq!(answer(200, &body.to_string()), Ok(vec![json!({ "type": "card" }), json!({ "type": "hint" })]));
        let many = json!({ "events": vec![json!({ "type": "card" }); EVENTS_MAX + 1] });
        assert_eq!(answer(200, &many.to_string()).unwrap().len(), EVENTS_MAX);
    }

    #[test]
    fn what_has_arrived_has_arrived_whatever_the_body_says() {
        for body in ["", "thanks", "[]", "{}", r#"{"events":{}}"#, r#"{"events":null}"#, "\u{1}"] {
            assert_eq!(answer(200, body), Ok(Vec::new()), "{body}");
        }
    }

    #[test]
    fn a_pause_is_read_as_seconds_or_as_a_date() {
        for (text, expected_s) in [
            ("0", Some(0)),
            (" 30 ", Some(30)),
            ("99999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2000 00:00:00 GMT", Some(3600)),
            ("-5", None),
            ("soon", None),
            ("1.5", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 32 Nov 1994 08:49:37 GMT", None),
            ("", None),
        ] {
            assert_eq!(asked_to_wait(text), expected_s.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn dates_are_counted_from_the_epoch() {
        for (text, expected_s) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", THEN_S),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
        ] {
            assert_eq!(http_date_s(text), Some(expected_s), "{text}");
        }
    }
}
