//! Configuration: every setting of the uplinks, declared once, and how text becomes values that can be used.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::assist::suggestion::Rules;
use earpiece_core::assist::trigger::Triggers;
use earpiece_core::config::{Env, Reader, Setting};
use earpiece_core::secret::Secret;
use http::Uri;

/// Which uplinks this task takes part in.
pub const UPLINKS: Setting = Setting::new(
    "EARPIECE_UPLINKS",
    "suggestions,insights,popups",
    "Which sockets to CXone this task may hold. They need credentials for CXone. `none`: it holds none.",
);
/// How long a lease lasts.
pub const LEASE: Setting = Setting::new(
    "EARPIECE_LEASE",
    "10s",
    "A task that does not renew its lease on a socket to CXone for so long is replaced. Renewed three times as often.",
);
/// How often the outbox is read.
pub const OUTBOX_POLL: Setting = Setting::new(
    "EARPIECE_OUTBOX_POLL",
    "100ms",
    "How often suggestions that others submitted are looked for; other lanes are read a fifth as often.",
);
/// Attempts before an entry is dead.
pub const OUTBOX_ATTEMPTS_MAX: Setting = Setting::new(
    "EARPIECE_OUTBOX_ATTEMPTS_MAX",
    "12",
    "Attempts to deliver one card, feedback or webhook, pauses of 1 s to 5 min between them; then it is a dead letter.",
);
/// When a popup is due.
pub const TRIGGERS: Setting = Setting::new(
    "EARPIECE_TRIGGERS",
    "",
    "When the agent gets a popup: JSON, or file: and a path. None: sentiment < -0.5, or a wait above 2 min. `none`: never.",
);
/// The folder of articles.
pub const KNOWLEDGE: Setting =
    Setting::new("EARPIECE_KNOWLEDGE", "", "Folder of Markdown or JSON articles that are searched instead of CXone's.");
/// The language of searches.
pub const KNOWLEDGE_LANGUAGE: Setting =
    Setting::new("EARPIECE_KNOWLEDGE_LANGUAGE", "en-US", "Language in which knowledge is searched.");
/// How long answers are kept.
pub const KNOWLEDGE_CACHE: Setting =
    Setting::new("EARPIECE_KNOWLEDGE_CACHE", "60s", "How long the answer to a search is good for the same search.");
/// Where `kbSync` goes.
pub const KB_SYNC_URL: Setting = Setting::secret(
    "EARPIECE_KB_SYNC_URL",
    "Webhook that is told of every suggestion accepted or dismissed, https://.",
);
/// Where `onAccept` goes.
pub const ON_ACCEPT_URL: Setting =
    Setting::secret("EARPIECE_ON_ACCEPT_URL", "Webhook that is told of every suggestion accepted, https://.");
/// What webhooks are signed with.
pub const WEBHOOK_SECRETS: Setting = Setting::secret(
    "EARPIECE_WEBHOOK_SECRETS",
    "Secrets of at least 32 bytes for webhooks, separated by commas: the first signs, the others are for rotation.",
);
/// How long interactions and their audit are kept.
pub const AUDIT_KEEP: Setting =
    Setting::new("EARPIECE_AUDIT_KEEP", "400d", "How long the audit record of an interaction is kept.");

/// Every setting of this crate, in the order of the README's table.
pub const ALL: [Setting; 12] = [
    UPLINKS,
    LEASE,
    OUTBOX_POLL,
    OUTBOX_ATTEMPTS_MAX,
    TRIGGERS,
    KNOWLEDGE,
    KNOWLEDGE_LANGUAGE,
    KNOWLEDGE_CACHE,
    KB_SYNC_URL,
    ON_ACCEPT_URL,
    WEBHOOK_SECRETS,
    AUDIT_KEEP,
];

/// How long CXone may take to acknowledge a suggestion. CXone answers within a second or not at all; but a connection that
/// swallows everything is found out only by a ping that stays unanswered, 20 s and 10 s later, and until then a write
/// proves nothing. No setting: the claim on an entry has to outlast it.
pub const ACK_WAIT: Duration = Duration::from_secs(35);
/// A secret shorter than the digest would be the weakest part of the signature.
const WEBHOOK_SECRET_BYTES_MIN: usize = 32;
/// Secrets at a time.
const WEBHOOK_SECRETS_MAX: usize = 8;
/// Size of a file of triggers.
const TRIGGERS_BYTES_MAX: u64 = 256 * 1024;
/// Characters of a language tag.
const LANGUAGE_BYTES_MAX: usize = 35;
/// Keep of documents where nothing else is said: the default of [`AUDIT_KEEP`].
const DAY: Duration = Duration::from_hours(24);

/// One of the sockets to CXone, with the lanes of the outbox behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// Socket A, and webhooks.
    Suggestions,
    /// Socket B.
    Insights,
    /// Socket C.
    Popups,
}

impl Which {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Suggestions, Self::Insights, Self::Popups];

    /// The word in the configuration, the name of the lease, and the metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Suggestions => "suggestions",
            Self::Insights => "insights",
            Self::Popups => "popups",
        }
    }
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which sockets this task may hold.
    pub uplinks: BTreeSet<Which>,
    /// How long a lease lasts without being renewed.
    pub lease: Duration,
    /// Pause between two looks into the lane of suggestions while there is something to do.
    pub outbox_poll: Duration,
    /// Attempts to deliver one entry. Suggestions are tried until their window is over.
    pub outbox_attempts_max: u32,
    /// When a popup is due; `None`: never.
    pub triggers: Option<Arc<Triggers>>,
    /// Folder of articles; `None`: CXone's are searched.
    pub knowledge: Option<PathBuf>,
    /// Language in which knowledge is searched.
    pub knowledge_language: String,
    /// How long the answer to a search is good.
    pub knowledge_cache: Duration,
    /// Where `kbSync` goes.
    pub kb_sync_url: Option<Secret>,
    /// Where `onAccept` goes.
    pub on_accept_url: Option<Secret>,
    /// What webhooks are signed with; the first signs.
    pub webhook_secrets: Vec<Secret>,
    /// How long an interaction and its audit are kept after its last change.
    pub audit_keep: Duration,
    /// The rules of suggestions.
    pub rules: Rules,
    /// How long the acknowledgement of a suggestion is waited for. One that does not come by then is not expected any
    /// more, and a suggestion whose connection still stands counts as sent. [`ACK_WAIT`] outside tests.
    pub ack_wait: Duration,
}

impl Default for Settings {
    /// What holds when nothing is set.
    fn default() -> Self {
        Self {
            uplinks: Which::ALL.into(),
            lease: Duration::from_secs(10),
            outbox_poll: Duration::from_millis(100),
            outbox_attempts_max: 12,
            triggers: Some(Arc::new(Triggers::documented())),
            knowledge: None,
            knowledge_language: "en-US".to_owned(),
            knowledge_cache: Duration::from_mins(1),
            kb_sync_url: None,
            on_accept_url: None,
            webhook_secrets: Vec::new(),
            audit_keep: 400 * DAY,
            rules: Rules::default(),
            ack_wait: ACK_WAIT,
        }
    }
}

impl Settings {
    /// Reads every setting. Faults are left with the reader; what was faulty has its default in the result.
    pub fn read(reader: &mut Reader<'_, impl Env>) -> Self {
        let settings = Self {
            uplinks: uplinks(reader),
            lease: reader.duration(&LEASE, Duration::from_secs(1)..=Duration::from_mins(1)),
            outbox_poll: reader.duration(&OUTBOX_POLL, Duration::from_millis(10)..=Duration::from_secs(5)),
            outbox_attempts_max: u32::try_from(reader.count(&OUTBOX_ATTEMPTS_MAX, 1..=100)).unwrap_or(u32::MAX),
            triggers: triggers(reader),
            knowledge: reader.text(&KNOWLEDGE).map(PathBuf::from),
            knowledge_language: language(reader),
            knowledge_cache: reader.duration(&KNOWLEDGE_CACHE, Duration::ZERO..=Duration::from_hours(1)),
            kb_sync_url: webhook_url(reader, &KB_SYNC_URL),
            on_accept_url: webhook_url(reader, &ON_ACCEPT_URL),
            webhook_secrets: webhook_secrets(reader),
            audit_keep: reader.duration(&AUDIT_KEEP, DAY..=3_660 * DAY),
            rules: Rules::default(),
            ack_wait: ACK_WAIT,
        };
        let has_webhook = settings.kb_sync_url.is_some() || settings.on_accept_url.is_some();
        if has_webhook && settings.webhook_secrets.is_empty() {
            reader.fault(&WEBHOOK_SECRETS, "must be set where there is a webhook: a receiver could not tell ours");
        }
        settings
    }

    /// [`Settings::audit_keep`] in milliseconds, as the store takes it.
    #[must_use]
    pub fn keep_ms(&self) -> u64 {
        crate::clock::as_ms(self.audit_keep)
    }
}

fn uplinks(reader: &mut Reader<'_, impl Env>) -> BTreeSet<Which> {
    let words = reader.list(&UPLINKS);
    if words == ["none"] {
        return BTreeSet::new();
    }
    let mut uplinks = BTreeSet::new();
    for word in words {
        match Which::ALL.into_iter().find(|which| which.label() == word) {
            Some(which) => {
                uplinks.insert(which);
            }
            None => reader.fault(&UPLINKS, "must be none, or a list of suggestions, insights and popups"),
        }
    }
    uplinks
}

fn triggers(reader: &mut Reader<'_, impl Env>) -> Option<Arc<Triggers>> {
    let Some(text) = reader.text(&TRIGGERS) else { return Some(Arc::new(Triggers::documented())) };
    if text == "none" {
        return None;
    }
    let json = match text.strip_prefix("file:") {
        None => text,
        Some(path) => match read_bounded(path) {
            Ok(json) => json,
            Err(problem) => {
                reader.fault(&TRIGGERS, &problem);
                return None;
            }
        },
    };
    match Triggers::parse(&json) {
        Ok(triggers) => Some(Arc::new(triggers)),
        Err(faults) => {
            for fault in faults {
                reader.fault(&TRIGGERS, &fault);
            }
            None
        }
    }
}

fn read_bounded(path: &str) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| format!("names a file that cannot be read: {}", error.kind()))?.len();
    if size > TRIGGERS_BYTES_MAX {
        return Err(format!("names a file above {TRIGGERS_BYTES_MAX} bytes"));
    }
    fs::read_to_string(path).map_err(|error| format!("names a file that cannot be read: {}", error.kind()))
}

fn language(reader: &mut Reader<'_, impl Env>) -> String {
    let is_tag = |text: &str| {
        text.len() <= LANGUAGE_BYTES_MAX
            && text
                .split('-')
                .all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    let form = "must be a language tag such as en-US";
    reader.value(&KNOWLEDGE_LANGUAGE, form, |text| is_tag(text).then(|| text.to_owned())).unwrap_or_default()
}

fn webhook_url(reader: &mut Reader<'_, impl Env>, setting: &Setting) -> Option<Secret> {
    let form = "must be an https:// or http:// address without user and password";
    reader.value(setting, form, |text| {
        let uri: Uri = text.parse().ok()?;
        let is_http = matches!(uri.scheme_str(), Some("https" | "http"));
        let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        (is_http && is_plain).then(|| Secret::new(text))
    })
}

fn webhook_secrets(reader: &mut Reader<'_, impl Env>) -> Vec<Secret> {
    let secrets = reader.list(&WEBHOOK_SECRETS);
    if secrets.len() > WEBHOOK_SECRETS_MAX {
        reader.fault(&WEBHOOK_SECRETS, "has too many secrets");
    }
    if secrets.iter().any(|secret| secret.len() < WEBHOOK_SECRET_BYTES_MIN) {
        reader.fault(&WEBHOOK_SECRETS, "must be secrets of at least 32 bytes");
    }
    secrets.into_iter().map(Secret::new).collect()
}

#[cfg(test)]
mod tests {
    use earpiece_core::config::{EmptyEnv, Overlay};

    use super::*;

    #[test]
    fn what_is_not_set_is_as_documented() {
        let mut reader = Reader::new(&EmptyEnv);
        let read = Settings::read(&mut reader);
        assert_eq!(reader.finish(), Ok(()));
        let default = Settings::default();
        assert_eq!(
            (read.uplinks, read.lease, read.outbox_poll, read.outbox_attempts_max, read.audit_keep),
            (default.uplinks, default.lease, default.outbox_poll, default.outbox_attempts_max, default.audit_keep)
        );
        assert_eq!(
            (read.knowledge_language, read.knowledge_cache),
            (default.knowledge_language, default.knowledge_cache)
        );
        assert!(read.triggers.is_some() && read.kb_sync_url.is_none() && read.webhook_secrets.is_empty());
    }

    #[test]
    fn every_fault_is_told_at_once_and_no_secret_is_repeated() {
        let env = Overlay::over(EmptyEnv)
            .with(&UPLINKS, "suggestions,telepathy")
            .with(&LEASE, "1ms")
            .with(&TRIGGERS, "file:/nonexistent/triggers.json")
            .with(&KNOWLEDGE_LANGUAGE, "english, please")
            .with(&KB_SYNC_URL, "https://user:hunter2@example.com/")
            .with(&ON_ACCEPT_URL, "https://example.com/accepted")
            .with(&WEBHOOK_SECRETS, "hunter2");
        let mut reader = Reader::new(&env);
        Settings::read(&mut reader);
        let faults = reader.finish().expect_err("faults");
        let named: BTreeSet<&str> = faults.lines().iter().filter_map(|line| line.split(' ').next()).collect();
        let expected = [UPLINKS, LEASE, TRIGGERS, KNOWLEDGE_LANGUAGE, KB_SYNC_URL, WEBHOOK_SECRETS];
        assert_eq!(named, expected.iter().map(|setting| setting.name).collect());
        assert!(!faults.to_string().contains("hunter2"));
    }

    #[test]
    fn a_webhook_without_a_secret_is_refused() {
        let env = Overlay::over(EmptyEnv).with(&ON_ACCEPT_URL, "https://example.com/accepted");
        let mut reader = Reader::new(&env);
        Settings::read(&mut reader);
        assert!(reader.finish().is_err());
    }

    #[test]
    fn none_holds_no_socket_and_shows_no_popup() {
        let env = Overlay::over(EmptyEnv).with(&UPLINKS, "none").with(&TRIGGERS, "none");
        let mut reader = Reader::new(&env);
        let settings = Settings::read(&mut reader);
        assert_eq!(reader.finish(), Ok(()));
        assert!(settings.uplinks.is_empty() && settings.triggers.is_none());
    }
}
