//! Every limit of the voice relay, with its default, and what makes settings valid. Only checked settings get further.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use earpiece_core::contact::SAMPLES_PER_MS;
use earpiece_core::secret::Secret;
use http::{HeaderValue, Uri};
use tokio_websockets::Connector;

use crate::connect::Target;
use crate::ring;

/// How to reach the assist app, and the limits of every stream to it.
#[derive(Debug, Clone)]
pub struct VoiceSettings {
    /// `ws://` or `wss://` address of the app. A secret, because its query may hold a token.
    pub url: Secret,
    /// Value of the `Authorization` header of the upgrade, as it is to be sent (`Bearer …`).
    pub authorization: Option<Secret>,
    /// Audio that is held per stream for an app that is slow or away; the oldest is dropped beyond. Milliseconds.
    pub ring_ms: u32,
    /// Audio already sent that is sent again after a break to an app which never acknowledges. Milliseconds;
    /// `ring_ms` bounds it too.
    pub replay_ms: u32,
    /// Longest binary frame, in milliseconds of audio (8 bytes each).
    pub chunk_ms: u32,
    /// How long name look-up, TCP, TLS and upgrade may take together.
    pub connect_timeout_ms: u32,
    /// Upper bound of the first pause before a new attempt; it doubles with every failure.
    pub backoff_base_ms: u32,
    /// Upper bound of every pause.
    pub backoff_cap_ms: u32,
    /// A ping is sent when nothing was heard from the app for this long.
    pub ping_ms: u32,
    /// The connection is given up when nothing was heard, or nothing could be written, for this long.
    pub dead_ms: u32,
    /// How long a stopped stream may take to deliver what it holds.
    pub flush_ms: u32,
    /// How long the app may go on talking after `stop` before the socket is closed. Within `flush_ms`.
    pub last_words_ms: u32,
    /// Events kept per stream; those beyond are dropped and counted.
    pub events_per_stream_max: u32,
    /// Longest frame accepted from the app, in bytes; a longer one ends the connection with 1009.
    pub text_bytes_max: u32,
    /// Seed of the jitter, so that a test can repeat itself. `None` in production.
    pub jitter_seed: Option<u64>,
}

impl VoiceSettings {
    /// Settings for an address, with the default of every limit.
    #[must_use]
    pub const fn new(url: Secret) -> Self {
        Self {
            url,
            authorization: None,
            ring_ms: 10_000,
            replay_ms: 1_000,
            chunk_ms: 100,
            connect_timeout_ms: 5_000,
            backoff_base_ms: 250,
            backoff_cap_ms: 10_000,
            ping_ms: 20_000,
            dead_ms: 60_000,
            flush_ms: 2_000,
            last_words_ms: 500,
            events_per_stream_max: 10_000,
            text_bytes_max: 65_536,
            jitter_seed: None,
        }
    }

    /// Turns settings into what the relay works with, or names every fault.
    pub(crate) fn check(&self) -> Result<(Target, Limits), SettingsError> {
        let mut faults = Vec::new();
        self.check_ranges(&mut faults);
        let target = self.target(&mut faults);
        match target {
            Some(target) if faults.is_empty() => Ok((target, self.limits())),
            _ => Err(SettingsError { faults }),
        }
    }

    fn check_ranges(&self, faults: &mut Vec<SettingsFault>) {
        let mut range = |field, value: u32, allowed: RangeInclusive<u32>| {
            if !allowed.contains(&value) {
                let (from, to) = allowed.into_inner();
                faults.push(SettingsFault { field, problem: format!("must be between {from} and {to}") });
            }
        };
        range("chunk_ms", self.chunk_ms, 10..=100);
        range("ring_ms", self.ring_ms, 100..=600_000);
        range("replay_ms", self.replay_ms, 0..=600_000);
        range("connect_timeout_ms", self.connect_timeout_ms, 1..=60_000);
        range("backoff_cap_ms", self.backoff_cap_ms, 1..=300_000);
        range("backoff_base_ms", self.backoff_base_ms, 1..=self.backoff_cap_ms.clamp(1, 300_000));
        range("dead_ms", self.dead_ms, 2..=600_000);
        range("ping_ms", self.ping_ms, 1..=self.dead_ms.clamp(2, 600_000) - 1);
        range("flush_ms", self.flush_ms, 0..=60_000);
        range("last_words_ms", self.last_words_ms, 0..=self.flush_ms.min(60_000));
        range("events_per_stream_max", self.events_per_stream_max, 0..=1_000_000);
        range("text_bytes_max", self.text_bytes_max, 1_024..=1_048_576);
    }

    fn target(&self, faults: &mut Vec<SettingsFault>) -> Option<Target> {
        let mut fault = |field, problem: &str| faults.push(SettingsFault { field, problem: problem.to_owned() });
        let authorization = self.authorization.as_ref().and_then(|secret| {
            let header = HeaderValue::from_str(secret.reveal()).ok().filter(|header| !header.is_empty());
            if header.is_none() {
                fault("authorization", "must not be empty and must be visible ASCII on one line");
            }
            header
        });
        // The parser's own message is left out: it may repeat the input.
        let Ok(uri) = self.url.reveal().parse::<Uri>() else {
            fault("url", "is not an address");
            return None;
        };
        let (default_port, tls) = match uri.scheme_str() {
            Some("ws") => (80, false),
            Some("wss") => (443, true),
            _ => {
                fault("url", "must begin with ws:// or wss://");
                return None;
            }
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            fault("url", "must not hold a user or password: use the authorization setting");
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            fault("url", "must name a host");
            return None;
        }
        let connector = if tls {
            let Ok(connector) = Connector::new() else {
                fault("url", "wss:// needs root certificates, and this machine has none");
                return None;
            };
            connector
        } else {
            Connector::Plain
        };
        let port = authority.port_u16().unwrap_or(default_port);
        Some(Target { uri, host, port, connector, authorization })
    }

    fn limits(&self) -> Limits {
        let ms = |value: u32| Duration::from_millis(u64::from(value));
        let samples = |value: u32| u64::from(value) * SAMPLES_PER_MS;
        Limits {
            ring: ring::Limits {
                held_samples_max: samples(self.ring_ms),
                replay_samples: samples(self.replay_ms),
                chunk_samples: samples(self.chunk_ms),
            },
            connect_timeout: ms(self.connect_timeout_ms),
            backoff_base_ms: u64::from(self.backoff_base_ms),
            backoff_cap_ms: u64::from(self.backoff_cap_ms),
            ping: ms(self.ping_ms),
            dead: ms(self.dead_ms),
            flush: ms(self.flush_ms),
            last_words: ms(self.last_words_ms),
            // Steady audio fills a chunk in one chunk's time: what is still partial after two belongs to a pause.
            linger: ms(self.chunk_ms) * 2,
            events_per_stream_max: self.events_per_stream_max,
            text_bytes_max: self.text_bytes_max as usize,
        }
    }
}

/// The limits as the tasks use them. Exists only for settings that were checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) ring: ring::Limits,
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff_base_ms: u64,
    pub(crate) backoff_cap_ms: u64,
    pub(crate) ping: Duration,
    pub(crate) dead: Duration,
    pub(crate) flush: Duration,
    pub(crate) last_words: Duration,
    pub(crate) linger: Duration,
    pub(crate) events_per_stream_max: u32,
    pub(crate) text_bytes_max: usize,
}

/// One setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFault {
    /// The field of [`VoiceSettings`] or [`crate::text::TextSettings`].
    pub field: &'static str,
    /// What is wrong with it. Never repeats its value.
    pub problem: String,
}

/// Every setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError {
    /// The faults, at least one.
    pub faults: Vec<SettingsFault>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{} {}", fault.field, fault.problem)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(settings: &VoiceSettings) -> String {
        settings.check().err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(faults_of(&VoiceSettings::new(Secret::new("ws://assist.example/voice?token=x"))), "");
    }

    #[test]
    fn an_address_is_judged_without_being_repeated() {
        for (url, expected) in [
            ("http://hunter2.example", "url must begin with ws:// or wss://"),
            ("hunter2", "url must begin with ws:// or wss://"),
            ("", "url is not an address"),
            ("ws://hunter2 example", "url is not an address"),
            ("wss://me:hunter2@example.org", "url must not hold a user or password: use the authorization setting"),
        ] {
            let said = faults_of(&VoiceSettings::new(Secret::new(url)));
            assert_eq!(said, expected, "{url}");
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let mut settings = VoiceSettings::new(Secret::new("http://assist.example"));
        settings.authorization = Some(Secret::new("Bearer hunter2\r\nX-Evil: 1"));
        settings.chunk_ms = 101;
        settings.ping_ms = settings.dead_ms;
        settings.replay_ms = 600_001;
        settings.backoff_base_ms = settings.backoff_cap_ms + 1;
        assert_eq!(
            faults_of(&settings),
            "chunk_ms must be between 10 and 100; replay_ms must be between 0 and 600000; \
             backoff_base_ms must be between 1 and 10000; ping_ms must be between 1 and 59999; \
             authorization must not be empty and must be visible ASCII on one line; \
             url must begin with ws:// or wss://"
        );
    }

    #[test]
    fn ports_and_bracketed_hosts_are_understood() {
        for (url, host, port) in [
            ("ws://a.example", "a.example", 80),
            ("ws://[::1]:9000/x", "::1", 9000),
            ("wss://b.example/x", "b.example", 443),
        ] {
            let (target, _) = VoiceSettings::new(Secret::new(url)).check().unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port));
        }
    }

    #[test]
    fn settings_print_neither_address_nor_credential() {
        let mut settings = VoiceSettings::new(Secret::new("wss://assist.example/?token=hunter2"));
        settings.authorization = Some(Secret::new("Bearer hunter2"));
        let printed = format!("{settings:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("assist.example"), "{printed}");
    }
}
