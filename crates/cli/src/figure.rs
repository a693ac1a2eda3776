//! Numbers as people read them. Whole-number arithmetic throughout, so that what is shown is what was counted.

use earpiece_core::contact::SAMPLE_RATE_HZ;

/// A value of `10^decimals` units as decimal text: `decimal(1234, 2)` is `12.34`.
pub(crate) fn decimal(value: u64, decimals: u32) -> String {
    if decimals == 0 {
        return value.to_string();
    }
    let unit = 10_u64.pow(decimals);
    format!("{}.{:0width$}", value / unit, value % unit, width = decimals as usize)
}

/// A count with thousands set apart: `152,000`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Samples as seconds: `9.80 s`.
pub(crate) fn seconds(samples: u64) -> String {
    format!("{} s", decimal(divide(samples * 100, SAMPLE_RATE_HZ.into()), 2))
}

/// A position on a call's clock: `9.800`.
pub(crate) fn clock(samples: u64) -> String {
    decimal(divide(samples * 1000, SAMPLE_RATE_HZ.into()), 3)
}

/// Microseconds as milliseconds: `0.82 ms`, `12.3 ms`, `250 ms`.
pub(crate) fn millis(us: u64) -> String {
    let (value, decimals) = match us {
        0..10_000 => (divide(us, 10), 2),
        10_000..100_000 => (divide(us, 100), 1),
        _ => (divide(us, 1000), 0),
    };
    format!("{} ms", decimal(value, decimals))
}

/// Bytes as KiB with one decimal: `23.4`.
pub(crate) fn kib(bytes: u64) -> String {
    decimal(divide(bytes * 10, 1024), 1)
}

/// A quotient, rounded to the nearest; zero when there is nothing to divide by.
pub(crate) const fn divide(dividend: u64, divisor: u64) -> u64 {
    match divisor {
        0 => 0,
        _ => (dividend + divisor / 2) / divisor,
    }
}

/// `1 frame`, `2 frames`.
pub(crate) fn plural(value: u64, noun: &str) -> String {
    let ending = if value == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(value))
}

/// Breaks text into lines of at most `width` characters, between words; a longer word keeps a line of its own.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            (count(0), count(999), count(1_000), count(1_234_567)),
            ("0".into(), "999".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!((seconds(78_400), clock(1)), ("9.80 s".into(), "0.000".into()));
        assert_eq!(
            (millis(823), millis(12_345), millis(250_499)),
            ("0.82 ms".into(), "12.3 ms".into(), "250 ms".into())
        );
        assert_eq!((kib(24_000), divide(1, 0), decimal(7, 3)), ("23.4".into(), 0, "0.007".into()));
        assert_eq!((plural(1, "frame"), plural(2, "frame")), ("1 frame".into(), "2 frames".into()));
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable a", 4), ["unbreakable", "a"]);
        assert!(wrap("  ", 4).is_empty());
    }
}
