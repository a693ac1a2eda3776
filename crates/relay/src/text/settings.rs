//! Where the assist app takes utterances, and what makes that valid. Only checked settings get further.

use std::time::Duration;

use earpiece_core::secret::Secret;
use http::{HeaderValue, Uri};

use crate::settings::{SettingsError, SettingsFault};

/// How to post utterances to the assist app: an address and a header of their own, apart from voice.
#[derive(Debug, Clone)]
pub struct TextSettings {
    /// `https://` or `http://` address of the app. A secret, because its query may hold a token.
    pub url: Secret,
    /// Value of the `Authorization` header, as it is to be sent (`Bearer …`).
    pub authorization: Option<Secret>,
    /// From the look-up of the name to the last byte of the answer. Callers may give less.
    pub deadline: Duration,
    /// Longest answer that is read, in bytes; with a longer one the utterance counts as undelivered.
    pub answer_bytes_max: usize,
}

/// What a relay works with. Has no `Debug`: the query may hold a token.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) uri: Uri,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) deadline: Duration,
    pub(super) answer_bytes_max: usize,
}

impl TextSettings {
    /// Settings for an address, with the default of every limit.
    #[must_use]
    pub const fn new(url: Secret) -> Self {
        Self { url, authorization: None, deadline: Duration::from_secs(10), answer_bytes_max: 256 * 1024 }
    }

    /// Turns settings into what the relay works with, or names every fault.
    pub(super) fn into_target(self) -> Result<Target, SettingsError> {
        let mut faults = Vec::new();
        let mut fault = |field, problem: &str| faults.push(SettingsFault { field, problem: problem.to_owned() });
        if !(Duration::from_millis(1)..=Duration::from_mins(5)).contains(&self.deadline) {
            fault("deadline", "must be between 1ms and 5m");
        }
        if !(1_024..=16 * 1024 * 1024).contains(&self.answer_bytes_max) {
            fault("answer_bytes_max", "must be between 1024 and 16777216");
        }
        let authorization = self.authorization.as_ref().and_then(|secret| match header_value(secret) {
            Ok(value) => Some(value),
            Err(problem) => {
                fault("authorization", problem);
                None
            }
        });
        let uri = match address(&self.url) {
            Ok(uri) => Some(uri),
            Err(problem) => {
                fault("url", problem);
                None
            }
        };
        let Self { deadline, answer_bytes_max, .. } = self;
        match uri {
            Some(uri) if faults.is_empty() => Ok(Target { uri, authorization, deadline, answer_bytes_max }),
            _ => Err(SettingsError { faults }),
        }
    }
}

fn header_value(secret: &Secret) -> Result<HeaderValue, &'static str> {
    let value = HeaderValue::from_str(secret.reveal()).ok().filter(|value| !value.is_empty());
    let mut value = value.ok_or("must not be empty and must be visible ASCII on one line")?;
    value.set_sensitive(true);
    Ok(value)
}

/// The parser's own message is left out: it may repeat the input.
fn address(url: &Secret) -> Result<Uri, &'static str> {
    let uri: Uri = url.reveal().parse().map_err(|_| "is not an address")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("must begin with https:// or http://");
    }
    let authority = uri.authority().ok_or("must name a host")?;
    if authority.as_str().contains('@') {
        return Err("must not hold a user or password: use the authorization setting");
    }
    if authority.host().is_empty() {
        return Err("must name a host");
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(settings: TextSettings) -> String {
        settings.into_target().err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn an_address_is_judged_without_being_repeated() {
        for (url, expected) in [
            ("https://assist.example/text?token=x", ""),
            ("http://127.0.0.1:9000", ""),
            ("wss://hunter2.example", "url must begin with https:// or http://"),
            ("hunter2", "url must begin with https:// or http://"),
            ("", "url is not an address"),
            ("https://hunter2 example", "url is not an address"),
            ("https://me:hunter2@example.org", "url must not hold a user or password: use the authorization setting"),
        ] {
            assert_eq!(faults_of(TextSettings::new(Secret::new(url))), expected, "{url}");
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let settings = TextSettings {
            authorization: Some(Secret::new("Bearer hunter2\r\nx: y")),
            deadline: Duration::ZERO,
            answer_bytes_max: 1,
            ..TextSettings::new(Secret::new("ftp://assist.example"))
        };
        assert_eq!(
            faults_of(settings),
            "deadline must be between 1ms and 5m; answer_bytes_max must be between 1024 and 16777216; \
             authorization must not be empty and must be visible ASCII on one line; \
             url must begin with https:// or http://"
        );
    }

    #[test]
    fn settings_print_neither_address_nor_credential() {
        let mut settings = TextSettings::new(Secret::new("https://assist.example/?token=hunter2"));
        settings.authorization = Some(Secret::new("Bearer hunter2"));
        let printed = format!("{settings:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("assist.example"), "{printed}");
    }
}
