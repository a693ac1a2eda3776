//! What an operator configures about CXone. Only what was checked gets further.
//!
//! Every address is a template with the documented one as its default. Nothing here asks anybody: discovery and the
//! credentials' places are first visited when a token is needed.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::config::{Env, Reader, Setting};
use earpiece_core::secret::Secret;

use crate::addresses::Templates;
use crate::credentials::{Credentials, KeyForm, Pair};
use crate::endpoint::{Endpoint, Uplink};
use crate::template::{Address, Slot, Template, Wire};

/// Base of the API.
pub const API: Setting = Setting::new(
    "EARPIECE_CXONE_API",
    "https://api.niceincontact.com",
    "Base address of CXone's API: `{api}` in the addresses below. With discovery, only until it has been found.",
);
/// Where tokens come from.
pub const TOKEN_URL: Setting = Setting::new(
    "EARPIECE_CXONE_TOKEN_URL",
    "{api}/oauth2/token",
    "Token endpoint of CXone. Placeholders: `{api}`, `{api_host}`, `{org}`. With discovery, the one that was found, \
     unless this is set.",
);
/// Where access keys are traded for tokens.
pub const ACCESS_KEY_URL: Setting = Setting::new(
    "EARPIECE_CXONE_ACCESS_KEY_URL",
    "{api}/authentication/v1/token/access-key",
    "Where access keys of the form `json` are traded for tokens.",
);
/// Socket A.
pub const SUGGESTIONS_URL: Setting = Setting::new(
    "EARPIECE_CXONE_SUGGESTIONS_URL",
    "{api_ws}/ws/v1",
    "Suggestion socket of CXone. Placeholders as above, and `{api_ws}`: the API's base with `wss://`.",
);
/// Socket B.
pub const INSIGHTS_URL: Setting = Setting::new(
    "EARPIECE_CXONE_INSIGHTS_URL",
    "{api_ws}/cxoneapi/v2/agentassist/stream",
    "Insight stream of CXone: transcripts and dialog states.",
);
/// Socket C.
pub const INTERACTIONS_URL: Setting = Setting::new(
    "EARPIECE_CXONE_INTERACTIONS_URL",
    "wss://{org}.cxone.com/api/v2/interactions/stream",
    "Interaction stream of CXone: what popups are triggered by. The default needs `EARPIECE_CXONE_ORG`.",
);
/// Knowledge search.
pub const SEARCH_URL: Setting =
    Setting::new("EARPIECE_CXONE_SEARCH_URL", "{api}/api/v2/knowledge/articles/search", "Knowledge search of CXone.");
/// Insight cards.
pub const INSIGHT_POST_URL: Setting = Setting::new(
    "EARPIECE_CXONE_INSIGHT_POST_URL",
    "{api}/api/v2/agentassist/insights",
    "Where insight cards are posted.",
);
/// Feedback.
pub const FEEDBACK_URL: Setting = Setting::new(
    "EARPIECE_CXONE_FEEDBACK_URL",
    "{api}/api/v2/ai/training/feedback",
    "Where it is posted what agents made of insights.",
);
/// Popup cards.
pub const CARDS_URL: Setting = Setting::new(
    "EARPIECE_CXONE_CARDS_URL",
    "{api}/api/v2/agentassist/interactions/{interactionId}/cards",
    "Where popup cards are posted. Needs `{interactionId}`.",
);
/// The tenant's name.
pub const ORG: Setting = Setting::new("EARPIECE_CXONE_ORG", "", "The tenant's name in host names: `{org}`.");
/// Discovery.
pub const ISSUER: Setting = Setting::new(
    "EARPIECE_CXONE_ISSUER",
    "",
    "Issuer of CXone's tokens. When set, the token endpoint is discovered there, and with `EARPIECE_CXONE_TENANT` the \
     API, too.",
);
/// Whose API is discovered.
pub const TENANT: Setting =
    Setting::new("EARPIECE_CXONE_TENANT", "", "Id of the tenant whose API is discovered at the issuer.");
/// OAuth client.
pub const CLIENT_ID: Setting = Setting::new("EARPIECE_CXONE_CLIENT_ID", "", "OAuth client id at CXone.");
/// Its secret.
pub const CLIENT_SECRET: Setting = Setting::secret("EARPIECE_CXONE_CLIENT_SECRET", "OAuth client secret at CXone.");
/// Access key.
pub const ACCESS_KEY_ID: Setting = Setting::new(
    "EARPIECE_CXONE_ACCESS_KEY_ID",
    "",
    "Access key id of a CXone user, instead of a client's credentials.",
);
/// Its secret.
pub const ACCESS_KEY_SECRET: Setting =
    Setting::secret("EARPIECE_CXONE_ACCESS_KEY_SECRET", "Secret of the CXone access key.");
/// How access keys are traded.
pub const ACCESS_KEY_FORM: Setting = Setting::new(
    "EARPIECE_CXONE_ACCESS_KEY_FORM",
    "",
    "How access keys are traded for tokens: `password` (at the token endpoint, needs a client id and secret, too) or \
     `json`. Default: `password` where there is a client id, else `json`.",
);
/// Where the credentials are.
pub const CREDENTIALS: Setting = Setting::new(
    "EARPIECE_CXONE_CREDENTIALS",
    "env",
    "Where CXone's credentials are: `env` (the four settings above), `file:` and a path, or `secretsmanager:` and a \
     secret's name or ARN. File and secret hold JSON with `clientId` and `clientSecret`, or `accessKeyId` and \
     `accessKeySecret`; they are read again every minute and whenever CXone refuses a token.",
);
/// What tokens are good for.
pub const SCOPE: Setting = Setting::new(
    "EARPIECE_CXONE_SCOPE",
    "agentassist:read agentassist:write knowledge:read ai:training:write interactions:read interaction:read",
    "Scopes that are asked for with a client's credentials, separated by blanks; `none` asks for none.",
);
/// When tokens are renewed.
pub const RENEW_MARGIN: Setting = Setting::new(
    "EARPIECE_CXONE_RENEW_MARGIN",
    "60s",
    "How long before its end a token is renewed; half of its life at most.",
);
/// Whose interactions these are.
pub const BUS_NO: Setting =
    Setting::new("EARPIECE_CXONE_BUS_NO", "", "The business unit that these credentials belong to.");
/// Budget of searches.
pub const SEARCH_RATE: Setting =
    Setting::new("EARPIECE_CXONE_SEARCH_RATE", "50", "Knowledge searches per second that are sent at most.");
/// Budget of insights.
pub const INSIGHT_RATE: Setting =
    Setting::new("EARPIECE_CXONE_INSIGHT_RATE", "200", "Posts of insight cards per second that are sent at most.");
/// Budget of feedback.
pub const FEEDBACK_RATE: Setting =
    Setting::new("EARPIECE_CXONE_FEEDBACK_RATE", "200", "Posts of feedback per second that are sent at most.");
/// Budget of popups.
pub const CARD_RATE: Setting =
    Setting::new("EARPIECE_CXONE_CARD_RATE", "200", "Posts of popup cards per second that are sent at most.");
/// How long an answer may take.
pub const TIMEOUT: Setting =
    Setting::new("EARPIECE_CXONE_TIMEOUT", "10s", "How long CXone may take to answer a request or open a socket.");
/// When sockets are pinged.
pub const PING: Setting = Setting::new("EARPIECE_CXONE_PING", "20s", "Pause between pings on CXone's sockets.");
/// When they are given up.
pub const PONG: Setting = Setting::new(
    "EARPIECE_CXONE_PONG",
    "10s",
    "How long CXone may take to answer a ping before the socket is given up.",
);

/// Every setting of this crate.
pub const ALL: [Setting; 29] = [
    API,
    TOKEN_URL,
    ACCESS_KEY_URL,
    SUGGESTIONS_URL,
    INSIGHTS_URL,
    INTERACTIONS_URL,
    SEARCH_URL,
    INSIGHT_POST_URL,
    FEEDBACK_URL,
    CARDS_URL,
    ORG,
    ISSUER,
    TENANT,
    CLIENT_ID,
    CLIENT_SECRET,
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    ACCESS_KEY_FORM,
    CREDENTIALS,
    SCOPE,
    RENEW_MARGIN,
    BUS_NO,
    SEARCH_RATE,
    INSIGHT_RATE,
    FEEDBACK_RATE,
    CARD_RATE,
    TIMEOUT,
    PING,
    PONG,
];

/// What may be open in any address.
const ANYWHERE: &[Slot] = &[Slot::Api, Slot::ApiHost, Slot::Org];
/// What may be open in a socket's address.
const IN_SOCKETS: &[Slot] = &[Slot::Api, Slot::ApiSocket, Slot::ApiHost, Slot::Org];
/// What may be open in the address of popup cards.
const IN_CARDS: &[Slot] = &[Slot::Api, Slot::ApiHost, Slot::Org, Slot::Interaction];

/// How CXone is reached, checked. Has a `Debug` that says nothing: addresses and credentials are in it.
#[derive(Clone)]
pub struct Settings {
    pub(crate) templates: Arc<Templates>,
    pub(crate) source: Source,
    pub(crate) form: Option<KeyForm>,
    pub(crate) scope: Option<String>,
    pub(crate) renew_margin: Duration,
    pub(crate) rates: Rates,
    pub(crate) timeout: Duration,
    pub(crate) ping_every: Duration,
    pub(crate) pong_within: Duration,
    bus_no: Option<u64>,
}

/// Where credentials are.
#[derive(Clone)]
pub(crate) enum Source {
    Env(Credentials),
    File(PathBuf),
    Manager(String),
}

/// Requests per second, per endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    search: NonZeroU32,
    insights: NonZeroU32,
    feedback: NonZeroU32,
    cards: NonZeroU32,
}

impl Rates {
    /// The budget of an endpoint. Tokens and discovery have none: one request is under way at most.
    pub(crate) const fn of(&self, endpoint: Endpoint) -> Option<NonZeroU32> {
        match endpoint {
            Endpoint::Discovery | Endpoint::Token => None,
            Endpoint::Search => Some(self.search),
            Endpoint::Insights => Some(self.insights),
            Endpoint::Feedback => Some(self.feedback),
            Endpoint::Cards => Some(self.cards),
        }
    }
}

impl Settings {
    /// Reads the settings. `None` where no credentials are configured, so that CXone's platform is not used, and where
    /// something cannot be used: faults are left with the reader.
    pub fn read(reader: &mut Reader<'_, impl Env>) -> Option<Self> {
        let templates = templates(reader);
        let form = reader.value(&ACCESS_KEY_FORM, "must be password or json", |text| match text {
            "password" => Some(KeyForm::Password),
            "json" => Some(KeyForm::Json),
            _ => None,
        });
        let source = source(reader, form);
        let scope = reader.text(&SCOPE).filter(|scope| scope != "none");
        let renew_margin = reader.duration(&RENEW_MARGIN, Duration::ZERO..=Duration::from_mins(30));
        let bus_no = reader.value(&BUS_NO, "must be a whole number", |text| text.parse().ok());
        let [search, insights, feedback, cards] =
            [&SEARCH_RATE, &INSIGHT_RATE, &FEEDBACK_RATE, &CARD_RATE].map(|setting| rate(reader, setting));
        let timeout = reader.duration(&TIMEOUT, Duration::from_millis(100)..=Duration::from_mins(1));
        let ping_every = reader.duration(&PING, Duration::from_millis(10)..=Duration::from_mins(10));
        let pong_within = reader.duration(&PONG, Duration::from_millis(10)..=Duration::from_mins(10));
        let rates = Rates { search: search?, insights: insights?, feedback: feedback?, cards: cards? };
        let (templates, source) = (Arc::new(templates?), source?);
        Some(Self { templates, source, form, scope, renew_margin, rates, timeout, ping_every, pong_within, bus_no })
    }

    /// The business unit that the credentials belong to, where the operator said so.
    #[must_use]
    pub const fn bus_no(&self) -> Option<u64> {
        self.bus_no
    }

    /// The setting without which an uplink cannot be opened, if it is missing.
    #[must_use]
    pub fn lacking(&self, uplink: Uplink) -> Option<&'static Setting> {
        let lacks_org = self.templates.org.is_none() && self.templates.socket(uplink).needs(Slot::Org);
        lacks_org.then_some(&ORG)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settings")
    }
}

fn rate(reader: &mut Reader<'_, impl Env>, setting: &Setting) -> Option<NonZeroU32> {
    u32::try_from(reader.count(setting, 1..=100_000)).ok().and_then(NonZeroU32::new)
}

fn templates(reader: &mut Reader<'_, impl Env>) -> Option<Templates> {
    let api = reader.value(&API, Wire::Http.form(), |text| Address::parse(text, Wire::Http).filter(Address::is_base));
    let org = reader.value(&ORG, "must be a part of a host's name: letters, digits and hyphens", |text| {
        let is_label = text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_label.then(|| text.to_owned())
    });
    let issuer =
        reader.value(&ISSUER, Wire::Http.form(), |text| Address::parse(text, Wire::Http).filter(Address::is_base));
    let tenant = reader.text(&TENANT);
    if tenant.is_some() && issuer.is_none() {
        reader.fault(&TENANT, "has no meaning without EARPIECE_CXONE_ISSUER");
    }
    let has_own_token = reader.text(&TOKEN_URL).as_deref() != Some(TOKEN_URL.default);
    let mut rest = |setting| template(reader, setting, Wire::Http, ANYWHERE, org.is_some());
    let (token, access_key) = (rest(&TOKEN_URL), rest(&ACCESS_KEY_URL));
    let (search, insights, feedback) = (rest(&SEARCH_URL), rest(&INSIGHT_POST_URL), rest(&FEEDBACK_URL));
    let cards = template(reader, &CARDS_URL, Wire::Http, IN_CARDS, org.is_some());
    if cards.as_ref().is_some_and(|cards| !cards.needs(Slot::Interaction)) {
        reader.fault(&CARDS_URL, "must have {interactionId} in it");
    }
    let mut socket = |setting| template(reader, setting, Wire::Socket, IN_SOCKETS, org.is_some());
    let sockets = [socket(&SUGGESTIONS_URL), socket(&INSIGHTS_URL), socket(&INTERACTIONS_URL)];
    let [Some(suggestions), Some(insight_stream), Some(interactions)] = sockets else { return None };
    Some(Templates {
        api: api?,
        org,
        issuer,
        tenant,
        has_own_token,
        token: token?,
        access_key: access_key?,
        search: search?,
        insights: insights?,
        feedback: feedback?,
        cards: cards?,
        sockets: [suggestions, insight_stream, interactions],
    })
}

fn template(
    reader: &mut Reader<'_, impl Env>,
    setting: &Setting,
    wire: Wire,
    allowed: &[Slot],
    has_org: bool,
) -> Option<Template> {
    let template = reader.value(setting, wire.form(), |text| Template::parse(text, wire, allowed));
    // The default of one address needs the tenant's name. Who does not use that socket need not give it.
    let is_default = reader.text(setting).as_deref() == Some(setting.default);
    if !has_org && !is_default && template.as_ref().is_some_and(|template| template.needs(Slot::Org)) {
        reader.fault(setting, "has {org} in it, so EARPIECE_CXONE_ORG must be set");
    }
    template
}

fn source(reader: &mut Reader<'_, impl Env>, form: Option<KeyForm>) -> Option<Source> {
    let place = reader.text(&CREDENTIALS)?;
    let has_inline = [&CLIENT_ID, &CLIENT_SECRET, &ACCESS_KEY_ID, &ACCESS_KEY_SECRET]
        .into_iter()
        .filter(|setting| reader.text(setting).is_some())
        .count();
    let elsewhere = match place.split_once(':') {
        _ if place == "env" => return if has_inline == 0 { None } else { inline(reader, form).map(Source::Env) },
        Some(("file", path)) if !path.is_empty() => Source::File(PathBuf::from(path)),
        Some(("secretsmanager", name)) if !name.is_empty() => Source::Manager(name.to_owned()),
        _ => {
            reader.fault(&CREDENTIALS, "must be env, file: and a path, or secretsmanager: and a name or ARN");
            return None;
        }
    };
    if has_inline > 0 {
        reader.fault(&CREDENTIALS, "must be env where credentials are in the environment, too");
    }
    Some(elsewhere)
}

fn inline(reader: &mut Reader<'_, impl Env>, form: Option<KeyForm>) -> Option<Credentials> {
    let client = pair(reader, &CLIENT_ID, &CLIENT_SECRET);
    let keys = pair(reader, &ACCESS_KEY_ID, &ACCESS_KEY_SECRET);
    let credentials = Credentials::choose(client, keys, form);
    if credentials.is_none() {
        reader.fault(&CLIENT_ID, "must be set with its secret, or an access key with its own; `password` needs both");
    }
    credentials
}

fn pair(reader: &mut Reader<'_, impl Env>, id: &Setting, secret: &Setting) -> Option<Pair> {
    match (reader.text(id), reader.text(secret)) {
        (Some(id), Some(value)) => Some(Pair { id, secret: Secret::new(value) }),
        (Some(_), None) => {
            reader.fault(secret, "must be set, since its id is");
            None
        }
        (None, Some(_)) => {
            reader.fault(id, "must be set, since its secret is");
            None
        }
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use earpiece_core::config::{EmptyEnv, Overlay};

    use super::*;

    type TestEnv = Overlay<EmptyEnv>;

    fn client() -> TestEnv {
        Overlay::over(EmptyEnv).with(&CLIENT_ID, "app").with(&CLIENT_SECRET, "hunter2")
    }

    fn read(env: &TestEnv) -> (Option<Settings>, Vec<String>) {
        let mut reader = Reader::new(env);
        let settings = Settings::read(&mut reader);
        (settings, reader.finish().err().map_or_else(Vec::new, |faults| faults.lines().to_vec()))
    }

    #[test]
    fn without_credentials_there_is_no_platform_and_no_fault() {
        let (settings, faults) = read(&Overlay::over(EmptyEnv));
        assert!(settings.is_none() && faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn a_clients_credentials_are_enough_and_only_the_interaction_stream_needs_the_tenants_name() {
        let (settings, faults) = read(&client());
        let settings = settings.expect("settings");
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(settings.lacking(Uplink::Interactions), Some(&ORG));
        assert_eq!(settings.lacking(Uplink::Suggestions), None);
        let (settings, _) = read(&client().with(&ORG, "acme"));
        assert_eq!(settings.expect("settings").lacking(Uplink::Interactions), None);
    }

    #[test]
    fn every_fault_is_named_at_once_without_repeating_a_value() {
        let env = Overlay::over(EmptyEnv)
            .with(&API, "http://hunter2.example")
            .with(&CLIENT_ID, "app")
            .with(&SEARCH_URL, "{api}/{hunter2}")
            .with(&CARDS_URL, "{api}/cards")
            .with(&INSIGHTS_URL, "https://{api_host}/hunter2")
            .with(&FEEDBACK_URL, "https://{org}.example/")
            .with(&TENANT, "hunter2")
            .with(&ACCESS_KEY_FORM, "hunter2")
            .with(&CARD_RATE, "0")
            .with(&ORG, "a.b/hunter2");
        let (settings, faults) = read(&env);
        assert!(settings.is_none());
        let names: Vec<_> = faults.iter().filter_map(|line| line.split(' ').next()).collect();
        for setting in [
            API,
            CLIENT_SECRET,
            SEARCH_URL,
            CARDS_URL,
            INSIGHTS_URL,
            FEEDBACK_URL,
            TENANT,
            ACCESS_KEY_FORM,
            CARD_RATE,
            ORG,
        ] {
            assert!(names.contains(&setting.name), "{} is missing in {faults:?}", setting.name);
        }
        assert!(!faults.concat().contains("hunter2"), "{faults:?}");
    }

    #[test]
    fn credentials_come_from_one_place() {
        for (place, is_good) in [
            ("env", true),
            ("file:/run/cxone.json", false),
            ("secretsmanager:cxone", false),
            ("file:", false),
            ("vault", false),
        ] {
            let (settings, faults) = read(&client().with(&CREDENTIALS, place));
            assert_eq!(settings.is_some() && faults.is_empty(), is_good, "{place}");
        }
        for place in ["file:/run/cxone.json", "secretsmanager:arn:aws:secretsmanager:eu-west-1:1:secret:cxone"] {
            let (settings, faults) = read(&Overlay::over(EmptyEnv).with(&CREDENTIALS, place));
            assert!(settings.is_some() && faults.is_empty(), "{place}");
        }
    }

    #[test]
    fn settings_print_nothing() {
        let (settings, _) = read(&client());
        assert_eq!(format!("{settings:?}"), "Some(Settings)");
    }

    #[test]
    fn names_are_distinct() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
