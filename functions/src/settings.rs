//! Configuration: every setting of the functions, declared once, and how text becomes values that can be used.
//!
//! Who may call is decided in [`crate::start`], because keys may have to be fetched: [`earpiece_access::settings`] has
//! those settings. The shim has settings of the same names for the same things; see [`SHARED`].

use std::time::Duration;

use earpiece_access::issue::Clients;
use earpiece_access::settings::{AUDIENCE, ISSUER};
use earpiece_core::access::Verifier;
use earpiece_core::config::{ConfigFaults, Env, Reader, Setting};
use earpiece_core::secret::Secret;
use earpiece_relay::text::{TextRelay, TextSettings};
use tracing::level_filters::LevelFilter;

use crate::delivery::LATER_DEADLINE;

/// The word that stands for "nobody" or "nowhere" where leaving a setting out would be dangerous.
pub const NONE: &str = "none";

/// Name of the table.
pub const TABLE: Setting = Setting::new("EARPIECE_TABLE", "earpiece", "Name of the DynamoDB table.");
/// Where recordings go.
pub const RECORDINGS: Setting =
    Setting::new("EARPIECE_RECORDINGS", "recordings", "Where recordings go: a folder, or s3://bucket/prefix.");
/// Accepted tokens of sockets.
pub const AUDIO_TOKENS: Setting = Setting::secret(
    "EARPIECE_AUDIO_TOKENS",
    "Accepted tokens, or `sha256:` and their digest, separated by commas; several for rotation. `none`: every caller is \
     accepted, as the shim does without these and without keys for JWTs.",
);
/// Quiet period.
pub const QUIET_PERIOD: Setting =
    Setting::new("EARPIECE_QUIET_PERIOD", "15m", "A contact without an open socket for so long is over.");
/// Lost task.
pub const STALE: Setting = Setting::new(
    "EARPIECE_STALE",
    "3m",
    "A live stream that its task did not note for so long is lost with its task. Noted three times as often.",
);
/// Log level.
pub const LOG: Setting = Setting::new("EARPIECE_LOG", "info", "Log level: error, warn, info, debug or trace.");
/// The management address of the API Gateway WebSocket API.
pub const CONNECTIONS_URL: Setting = Setting::new(
    "EARPIECE_CONNECTIONS_URL",
    "",
    "The API Gateway stage whose connections hear contact events, https://{api}.execute-api.{region}.amazonaws.com/{stage}.",
);
/// Accepted tokens of the text hook, of contact events and of suggestions.
pub const TEXT_TOKENS: Setting = Setting::secret(
    "EARPIECE_TEXT_TOKENS",
    "Accepted tokens of the text hook, of contact events and of suggestions, as above. `none`: every caller is accepted.",
);
/// The assist app's text address.
pub const ASSIST_TEXT_URL: Setting = Setting::secret(
    "EARPIECE_ASSIST_TEXT_URL",
    "Where the assist app takes utterances, https:// or http://. `none`: nobody takes them.",
);
/// The assist app's credential for text.
pub const ASSIST_TEXT_AUTHORIZATION: Setting = Setting::secret(
    "EARPIECE_ASSIST_TEXT_AUTHORIZATION",
    "Authorization header for the assist app's text address; not the one of its voice socket.",
);
/// Time for the first delivery.
pub const TEXT_BUDGET: Setting =
    Setting::new("EARPIECE_TEXT_BUDGET", "2s", "How long the text hook waits for the assist app before it answers.");
/// Deliveries before an utterance is given up.
pub const TEXT_ATTEMPTS_MAX: Setting = Setting::new(
    "EARPIECE_TEXT_ATTEMPTS_MAX",
    "12",
    "Deliveries of one utterance, pauses of 5 s to 15 min between them; then it is kept as a dead letter.",
);
/// Repeats of an utterance.
pub const DEDUPE_WINDOW: Setting =
    Setting::new("EARPIECE_DEDUPE_WINDOW", "60s", "The same utterance within so long is a repeat.");
/// Rate per business unit.
pub const UTTERANCES_PER_SECOND_MAX: Setting = Setting::new(
    "EARPIECE_UTTERANCES_PER_SECOND_MAX",
    "50",
    "Utterances per second of one business unit, averaged over 10 s; beyond: 429.",
);
/// Rate of suggestions per business unit.
pub const SUGGESTIONS_PER_SECOND_MAX: Setting = Setting::new(
    "EARPIECE_SUGGESTIONS_PER_SECOND_MAX",
    "50",
    "Suggestions per second of one business unit, averaged over 10 s; beyond: 429.",
);
/// Longest hold.
pub const HOLD_MAX: Setting = Setting::new(
    "EARPIECE_HOLD_MAX",
    "2h",
    "A contact that a script put on hold waits for so long, whatever the quiet period.",
);
/// Clients of the token endpoint.
pub const TOKEN_CLIENTS: Setting = Setting::secret(
    "EARPIECE_TOKEN_CLIENTS",
    "Clients of the token endpoint as JSON, with the SHA-256 of their secrets. None: no tokens are issued.",
);
/// Life of a token.
pub const TOKEN_TTL: Setting = Setting::new("EARPIECE_TOKEN_TTL", "15m", "How long an issued token is good for.");
/// Key rotation.
pub const TOKEN_KEY_ROTATION: Setting =
    Setting::new("EARPIECE_TOKEN_KEY_ROTATION", "30d", "How long tokens are signed with the same key.");
/// The example server's address.
pub const AUDIO_URL: Setting = Setting::new(
    "EARPIECE_AUDIO_URL",
    "wss://earpiece.example.com/audio",
    "The audio socket's address, as the reference endpoint names it.",
);
/// The shim's ingest address.
pub const INGEST_URL: Setting = Setting::secret(
    "EARPIECE_INGEST_URL",
    "Where a shim takes audio that came through API Gateway. None: it is written as recording segments.",
);
/// The token for it.
pub const INGEST_TOKEN: Setting = Setting::secret("EARPIECE_INGEST_TOKEN", "Token for the shim's ingest address.");

/// The business unit of the uplinks to CXone, whose credentials the shim has.
pub const CXONE_BUS_NO: Setting =
    Setting::new("EARPIECE_CXONE_BUS_NO", "", "The business unit that these credentials belong to.");
/// How long an interaction's audit is kept.
pub const AUDIT_KEEP: Setting =
    Setting::new("EARPIECE_AUDIT_KEEP", "400d", "How long the audit record of an interaction is kept.");

/// Every setting that only the functions have, in the order of the README's table.
pub const ALL: [Setting; 15] = [
    TEXT_TOKENS,
    ASSIST_TEXT_URL,
    ASSIST_TEXT_AUTHORIZATION,
    TEXT_BUDGET,
    TEXT_ATTEMPTS_MAX,
    DEDUPE_WINDOW,
    UTTERANCES_PER_SECOND_MAX,
    SUGGESTIONS_PER_SECOND_MAX,
    HOLD_MAX,
    TOKEN_CLIENTS,
    TOKEN_TTL,
    TOKEN_KEY_ROTATION,
    AUDIO_URL,
    INGEST_URL,
    INGEST_TOKEN,
];

/// Settings that the shim has, too: they stand in its table. Where neither tokens nor keys for JWTs are set, functions
/// accept nobody, unlike the shim.
pub const SHARED: [Setting; 9] =
    [TABLE, RECORDINGS, AUDIO_TOKENS, QUIET_PERIOD, STALE, CONNECTIONS_URL, LOG, CXONE_BUS_NO, AUDIT_KEEP];

/// Whether there is an assist app for text.
#[derive(Debug, Clone)]
pub enum Assist {
    /// Nothing was said: in Lambda a fault, because utterances would be taken and never delivered.
    Unset,
    /// There is none, on purpose: what is said is noted and goes nowhere.
    Nobody,
    /// It is there.
    At(TextSettings),
}

/// Where audio is handed to a shim.
#[derive(Debug, Clone)]
pub struct Ingest {
    /// The address.
    pub url: Secret,
    /// What it asks for.
    pub token: Option<Secret>,
}

/// How the token endpoint works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRules {
    /// How long a token is good for.
    pub ttl: Duration,
    /// How long tokens are signed with the same key.
    pub rotation: Duration,
}

/// How utterances are taken and delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextRules {
    /// How long the first delivery may take.
    pub budget: Duration,
    /// Deliveries of one utterance.
    pub attempts_max: u32,
    /// The same within so long is a repeat.
    pub window: Duration,
    /// Utterances per second of one business unit.
    pub per_second_max: u32,
}

/// How suggestions are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuggestionRules {
    /// The business unit of the uplinks; absent: interactions are whoever's contacts have their ids.
    pub bus_no: Option<u64>,
    /// Suggestions per second of one business unit.
    pub per_second_max: u32,
    /// How long an interaction is kept after its last event.
    pub keep: Duration,
}

/// The functions' configuration. It can exist only if every setting can be used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the table.
    pub table: String,
    /// Where recordings go; `None` when nothing was said, and then no function writes or finishes one.
    pub recordings: Option<String>,
    /// Static tokens of the text hook, of contact events and of suggestions.
    pub text_tokens: Verifier,
    /// Static tokens of sockets through API Gateway.
    pub audio_tokens: Verifier,
    /// The assist app's text address.
    pub assist: Assist,
    /// How utterances are taken.
    pub text: TextRules,
    /// How suggestions are taken.
    pub suggestions: SuggestionRules,
    /// Where listening pages are reached.
    pub connections_url: Option<String>,
    /// How long a hold may last.
    pub hold_max: Duration,
    /// A contact without an open socket for so long is over.
    pub quiet: Duration,
    /// A stream that was not noted for so long is lost.
    pub stale: Duration,
    /// Who may ask for tokens.
    pub token_clients: Option<Clients>,
    /// How tokens are issued.
    pub token: TokenRules,
    /// Who issues tokens, as they say.
    pub issuer: Option<String>,
    /// For whom tokens are, as they say.
    pub audience: Option<String>,
    /// The example server's address.
    pub audio_url: String,
    /// Where audio is handed to a shim.
    pub ingest: Option<Ingest>,
}

impl Settings {
    /// Reads the configuration.
    ///
    /// # Errors
    /// Every fault at once, each with the name of its variable.
    pub fn read(env: &impl Env) -> Result<Self, ConfigFaults> {
        let mut reader = Reader::new(env);
        let level = "must be error, warn, info, debug, trace or off";
        reader.value(&LOG, level, |text| text.parse::<LevelFilter>().ok());
        let text = text_rules(&mut reader);
        let settings = Self {
            table: reader.text(&TABLE).unwrap_or_default(),
            recordings: env.get(RECORDINGS.name).map(|location| location.trim().to_owned()),
            text_tokens: tokens(&mut reader, &TEXT_TOKENS),
            audio_tokens: tokens(&mut reader, &AUDIO_TOKENS),
            assist: assist(&mut reader, text.budget.max(LATER_DEADLINE)),
            text,
            suggestions: suggestion_rules(&mut reader),
            connections_url: reader.value(&CONNECTIONS_URL, "must be an http:// or https:// address", web_address),
            hold_max: reader.duration(&HOLD_MAX, SECOND..=7 * DAY),
            quiet: reader.duration(&QUIET_PERIOD, 100 * MS..=7 * DAY),
            stale: reader.duration(&STALE, SECOND..=3600 * SECOND),
            token_clients: clients(&mut reader),
            issuer: reader.text(&ISSUER),
            audience: reader.text(&AUDIENCE),
            token: TokenRules {
                ttl: reader.duration(&TOKEN_TTL, 60 * SECOND..=DAY),
                rotation: reader.duration(&TOKEN_KEY_ROTATION, 3600 * SECOND..=365 * DAY),
            },
            audio_url: reader.text(&AUDIO_URL).unwrap_or_default(),
            ingest: ingest(&mut reader),
        };
        reader.finish()?;
        Ok(settings)
    }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

fn text_rules<E: Env>(reader: &mut Reader<'_, E>) -> TextRules {
    let count = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    TextRules {
        budget: reader.duration(&TEXT_BUDGET, 50 * MS..=25 * SECOND),
        attempts_max: count(reader.count(&TEXT_ATTEMPTS_MAX, 1..=100)),
        window: reader.duration(&DEDUPE_WINDOW, SECOND..=DAY),
        per_second_max: count(reader.count(&UTTERANCES_PER_SECOND_MAX, 1..=100_000)),
    }
}

fn suggestion_rules<E: Env>(reader: &mut Reader<'_, E>) -> SuggestionRules {
    SuggestionRules {
        bus_no: reader.value(&CXONE_BUS_NO, "must be a whole number of at most 64 bits", |text| text.parse().ok()),
        per_second_max: u32::try_from(reader.count(&SUGGESTIONS_PER_SECOND_MAX, 1..=100_000)).unwrap_or(u32::MAX),
        keep: reader.duration(&AUDIT_KEEP, DAY..=3660 * DAY),
    }
}

/// Of no token comes a verifier that accepts nobody; everybody is accepted only where [`NONE`] says so.
fn tokens<E: Env>(reader: &mut Reader<'_, E>, setting: &Setting) -> Verifier {
    let tokens = reader.list(setting);
    if tokens.iter().any(|token| token == NONE) {
        if tokens.len() > 1 {
            reader.fault(setting, "names tokens, and `none` beside them");
        }
        return Verifier::open();
    }
    if reader.text(setting).is_some() && tokens.is_empty() {
        reader.fault(setting, "is set, but holds no token");
    }
    let tokens: Vec<Secret> = tokens.into_iter().map(Secret::new).collect();
    if tokens.iter().any(Verifier::is_misspelt) {
        reader.fault(setting, "holds a token that begins with `sha256:` and is no digest of 64 hexadecimal digits");
    }
    Verifier::new(tokens)
}

fn assist<E: Env>(reader: &mut Reader<'_, E>, deadline: Duration) -> Assist {
    let authorization = reader.text(&ASSIST_TEXT_AUTHORIZATION).map(Secret::new);
    let Some(url) = reader.text(&ASSIST_TEXT_URL) else { return Assist::Unset };
    if url == NONE {
        return Assist::Nobody;
    }
    let settings = TextSettings { deadline, authorization, ..TextSettings::new(Secret::new(url)) };
    if let Err(error) = TextRelay::check(&settings) {
        reader.fault(&ASSIST_TEXT_URL, &format!("cannot be used: {error}"));
    }
    Assist::At(settings)
}

fn clients<E: Env>(reader: &mut Reader<'_, E>) -> Option<Clients> {
    let text = reader.text(&TOKEN_CLIENTS)?;
    // Issued tokens are judged by it: a name, and a web address only where somebody should find us by it.
    if !reader.text(&ISSUER).is_some_and(|issuer| is_uri(&issuer)) {
        reader.fault(&ISSUER, "must be a URI where tokens are issued: https://… or urn:…");
    }
    match Clients::parse(&text) {
        Ok(clients) => Some(clients),
        Err(problem) => {
            reader.fault(&TOKEN_CLIENTS, &format!("cannot be used: {problem}"));
            None
        }
    }
}

fn ingest<E: Env>(reader: &mut Reader<'_, E>) -> Option<Ingest> {
    let token = reader.text(&INGEST_TOKEN).map(Secret::new);
    let url = reader.value(&INGEST_URL, "must be an http:// or https:// address", web_address)?;
    Some(Ingest { url: Secret::new(url), token })
}

/// Whether a text is an absolute URI as it stands. The parser alone would drop white space.
fn is_uri(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain && url::Url::parse(text).is_ok()
}

/// An `http://` or `https://` address without the slash at its end.
pub(crate) fn web_address(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    is_web.then(|| text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use earpiece_core::config::{EmptyEnv, Overlay};

    use super::*;

    #[test]
    fn the_defaults_can_be_used_and_let_nobody_in() {
        let settings = Settings::read(&EmptyEnv).unwrap();
        assert!(!settings.text_tokens.is_open() && !settings.audio_tokens.is_open());
        assert!(matches!(settings.assist, Assist::Unset));
        assert_eq!((settings.recordings, settings.connections_url), (None, None));
        assert_eq!(settings.text.budget, Duration::from_secs(2));
        assert_eq!(settings.token.rotation, 30 * DAY);
    }

    #[test]
    fn everybody_is_let_in_by_one_word_only() {
        let open = Settings::read(&Overlay::over(EmptyEnv).with(&TEXT_TOKENS, "none")).unwrap();
        assert!(open.text_tokens.is_open() && !open.audio_tokens.is_open());
        assert!(Settings::read(&Overlay::over(EmptyEnv).with(&TEXT_TOKENS, "none,abc")).is_err());
    }

    #[test]
    fn a_misspelt_digest_is_a_fault_that_does_not_repeat_it() {
        for setting in [TEXT_TOKENS, AUDIO_TOKENS] {
            let good = format!("abc,sha256:{}", "0".repeat(64));
            assert!(Settings::read(&Overlay::over(EmptyEnv).with(&setting, good)).is_ok());
            let faults =
                Settings::read(&Overlay::over(EmptyEnv).with(&setting, "abc,sha256:beef")).expect_err("a fault");
            assert_eq!(faults.lines().len(), 1, "{faults}");
            assert!(faults.lines()[0].starts_with(setting.name) && !faults.to_string().contains("beef"), "{faults}");
        }
    }

    #[test]
    fn every_fault_is_reported_at_once_and_no_secret_is_repeated() {
        let env = Overlay::over(EmptyEnv)
            .with(&TEXT_TOKENS, " , ")
            .with(&ASSIST_TEXT_URL, "ftp://app?token=hunter2")
            .with(&TOKEN_CLIENTS, "[{\"secret\":\"hunter2\"}]")
            .with(&ISSUER, "https://earpiece.example.com")
            .with(&CONNECTIONS_URL, "there")
            .with(&TEXT_BUDGET, "1h")
            .with(&INGEST_URL, "hunter2")
            .with(&LOG, "loud");
        let faults = Settings::read(&env).expect_err("seven faults");
        assert_eq!(faults.lines().len(), 7, "{faults}");
        assert!(!faults.to_string().contains("hunter2"), "{faults}");
    }

    #[test]
    fn tokens_are_issued_under_a_web_address_or_any_other_uri_and_under_nothing_else() {
        let clients = format!(r#"[{{"id": "studio", "secretSha256": ["{}"], "scope": "utterances"}}]"#, "0".repeat(64));
        let read = |issuer: &str| {
            let env = Overlay::over(EmptyEnv).with(&TOKEN_CLIENTS, &clients).with(&ISSUER, issuer);
            Settings::read(&env).map(|settings| settings.issuer)
        };
        for good in ["https://earpiece.example.com", "http://127.0.0.1:8080/", "urn:earpiece:calls", "tag:a@b.c,2026:x"]
        {
            assert_eq!(read(good).unwrap().as_deref(), Some(good));
        }
        for bad in ["", "earpiece", "earpiece.example.com/x", "//earpiece", "https://", "urn:ear piece", "urn:öhr"] {
            let faults = read(bad).expect_err("no URI");
            assert!(faults.lines().len() == 1 && faults.lines()[0].starts_with(ISSUER.name), "{bad}: {faults}");
        }
    }

    #[test]
    fn the_readme_shows_every_setting_with_its_default_and_doc() {
        let readme = include_str!("../../README.md");
        for setting in ALL.iter().chain(&SHARED) {
            let default = if setting.default.is_empty() { "–".to_owned() } else { format!("`{}`", setting.default) };
            let row = format!("| `{}` | {default} | {} |", setting.name, setting.doc);
            assert!(readme.contains(&row), "the README's settings table lacks:\n{row}");
        }
    }
}
