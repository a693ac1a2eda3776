//! Configuration: every setting of the shim, declared once, and how text becomes values that can be used.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use earpiece_access::Guard;
use earpiece_core::access::Verifier;
use earpiece_core::config::{ConfigFaults, Env, Reader, Setting};
use earpiece_core::secret::Secret;
use earpiece_https::server::Tls;
use earpiece_https::{Client, Trust, trust};
use earpiece_recorder::Settings as RecorderSettings;
use earpiece_relay::VoiceSettings;
use http::Uri;
use tracing::level_filters::LevelFilter;

use crate::limits::Limits;
use crate::protection::EcsAgent;
use crate::tokens::TableKeys;

/// Where a token may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenSource {
    /// `authenticationToken` of the init message.
    Init,
    /// The `Authorization` header of the upgrade request.
    Header,
    /// `token`, `access_token` or `authenticationToken` in the query.
    Query,
}

/// Who may stream, and where the token may be.
#[derive(Debug, Clone)]
pub struct TokenPolicy {
    /// Judges tokens.
    pub guard: Guard,
    /// Where tokens are looked for.
    pub sources: BTreeSet<TokenSource>,
}

/// The word in the place of tokens by which every caller is accepted.
pub const NONE: &str = "none";

/// Address to listen on.
pub const LISTEN: Setting = Setting::new("EARPIECE_LISTEN", "0.0.0.0:8080", "Address of the listener.");
/// Name of the table.
pub const TABLE: Setting = Setting::new("EARPIECE_TABLE", "earpiece", "Name of the DynamoDB table.");
/// Where recordings go.
pub const RECORDINGS: Setting =
    Setting::new("EARPIECE_RECORDINGS", "recordings", "Where recordings go: a folder, or s3://bucket/prefix.");
/// Accepted tokens.
pub const AUDIO_TOKENS: Setting = Setting::secret(
    "EARPIECE_AUDIO_TOKENS",
    "Accepted tokens, or `sha256:` and their digest, separated by commas; several for rotation. `none`: every caller is \
     accepted, as the shim does without these and without keys for JWTs.",
);
/// Where tokens may come from.
pub const TOKEN_SOURCES: Setting = Setting::new(
    "EARPIECE_AUDIO_TOKEN_SOURCES",
    "init,header,query",
    "Where a token is looked for: the init message, the Authorization header, the query.",
);
/// The assist app's voice address.
pub const ASSIST_URL: Setting =
    Setting::secret("EARPIECE_ASSIST_URL", "The assist app's voice socket, ws:// or wss://. None: no relay.");
/// The assist app's credential.
pub const ASSIST_AUTHORIZATION: Setting =
    Setting::secret("EARPIECE_ASSIST_AUTHORIZATION", "Authorization header for the assist app.");
/// Quiet period.
pub const QUIET_PERIOD: Setting =
    Setting::new("EARPIECE_QUIET_PERIOD", "15m", "A contact without an open socket for so long is over.");
/// Segment length.
pub const SEGMENT: Setting = Setting::new(
    "EARPIECE_SEGMENT",
    "",
    "How often a segment is written. Default: 5s to a folder (or when 16 kB wait), 60s to S3.",
);
/// Ring.
pub const RING: Setting = Setting::new("EARPIECE_RING", "10s", "Audio kept for a slow sink, per stream and sink.");
/// Streams per task.
pub const STREAMS_MAX: Setting = Setting::new("EARPIECE_STREAMS_MAX", "2500", "Live streams on this task.");
/// Streams per business unit.
pub const STREAMS_PER_BUSINESS_UNIT_MAX: Setting =
    Setting::new("EARPIECE_STREAMS_PER_BUSINESS_UNIT_MAX", "2500", "Live streams of one business unit on this task.");
/// Opens per second.
pub const OPENS_PER_SECOND_MAX: Setting =
    Setting::new("EARPIECE_OPENS_PER_SECOND_MAX", "500", "New sockets per second; twice as many may come at once.");
/// Init deadline.
pub const INIT_DEADLINE: Setting =
    Setting::new("EARPIECE_INIT_DEADLINE", "5s", "The init message must be complete within this.");
/// Init size.
pub const INIT_BYTES_MAX: Setting = Setting::new("EARPIECE_INIT_BYTES_MAX", "65536", "Size of the init message.");
/// Frame size.
pub const FRAME_BYTES_MAX: Setting = Setting::new("EARPIECE_FRAME_BYTES_MAX", "65536", "Size of one audio frame.");
/// Store deadline.
pub const STORE_DEADLINE: Setting = Setting::new(
    "EARPIECE_STORE_DEADLINE",
    "500ms",
    "How long CONNECTED waits for the store; then the call is accepted without it.",
);
/// Silence.
pub const SILENCE: Setting = Setting::new("EARPIECE_SILENCE", "2s", "No audio for so long is a hold by silence.");
/// Ping.
pub const PING: Setting = Setting::new("EARPIECE_PING", "20s", "An idle peer is pinged after this.");
/// Dead peer.
pub const DEAD: Setting = Setting::new("EARPIECE_DEAD", "60s", "A peer without any sign of life for so long is dead.");
/// Lost task.
pub const STALE: Setting = Setting::new(
    "EARPIECE_STALE",
    "3m",
    "A live stream that its task did not note for so long is lost with its task. Noted three times as often.",
);
/// Drain deadline.
pub const DRAIN_DEADLINE: Setting =
    Setting::new("EARPIECE_DRAIN_DEADLINE", "110s", "After SIGTERM everything is over within this.");
/// Drain rate.
pub const DRAIN_PER_SECOND: Setting =
    Setting::new("EARPIECE_DRAIN_PER_SECOND", "100", "Sockets told to go elsewhere (1012), per second of a drain.");
/// TLS certificate.
pub const TLS_CERT: Setting = Setting::new(
    "EARPIECE_TLS_CERT",
    "",
    "PEM file with the listener's certificate and its issuers, looked at every 10s. None: no TLS.",
);
/// TLS key.
pub const TLS_KEY: Setting = Setting::new("EARPIECE_TLS_KEY", "", "PEM file with the certificate's private key.");
/// Who may hand audio over.
pub const INGEST_TOKENS: Setting = Setting::secret(
    "EARPIECE_INGEST_TOKENS",
    "Tokens of those who may hand over audio from API Gateway at /ingest, separated by commas. None: nobody.",
);
/// Where pages listen.
pub const CONNECTIONS_URL: Setting = Setting::new(
    "EARPIECE_CONNECTIONS_URL",
    "",
    "The API Gateway stage whose connections hear contact events, https://{api}.execute-api.{region}.amazonaws.com/{stage}.",
);
/// Metrics in the log.
pub const EMF: Setting = Setting::new(
    "EARPIECE_EMF",
    "off",
    "Whether the metrics are also written to standard output every minute, for CloudWatch: on or off.",
);
/// The ECS agent.
pub const ECS_AGENT_URI: Setting = Setting::new(
    "ECS_AGENT_URI",
    "",
    "Set by ECS: the agent which is asked not to scale this task in while it has streams.",
);
/// Log filter.
pub const LOG: Setting = Setting::new("EARPIECE_LOG", "info", "Log level: error, warn, info, debug or trace.");

/// Every setting of the shim itself, in the order of the README's table. Those of [`earpiece_access::settings`] and
/// [`earpiece_https::trust`] are read, too.
pub const ALL: [Setting; 30] = [
    LISTEN,
    TABLE,
    RECORDINGS,
    AUDIO_TOKENS,
    TOKEN_SOURCES,
    ASSIST_URL,
    ASSIST_AUTHORIZATION,
    QUIET_PERIOD,
    SEGMENT,
    RING,
    STREAMS_MAX,
    STREAMS_PER_BUSINESS_UNIT_MAX,
    OPENS_PER_SECOND_MAX,
    INIT_DEADLINE,
    INIT_BYTES_MAX,
    FRAME_BYTES_MAX,
    STORE_DEADLINE,
    SILENCE,
    PING,
    DEAD,
    STALE,
    DRAIN_DEADLINE,
    DRAIN_PER_SECOND,
    TLS_CERT,
    TLS_KEY,
    INGEST_TOKENS,
    CONNECTIONS_URL,
    EMF,
    ECS_AGENT_URI,
    LOG,
];

/// The shim's configuration. It can exist only if every setting can be used.
#[derive(Debug)]
pub struct Settings {
    /// Address of the listener.
    pub listen: SocketAddr,
    /// Name of the table.
    pub table: String,
    /// Where recordings go.
    pub recordings: String,
    /// Who may stream.
    pub tokens: TokenPolicy,
    /// How recordings are written.
    pub recorder: RecorderSettings,
    /// The assist app's voice socket.
    pub voice: Option<VoiceSettings>,
    /// Every limit.
    pub limits: Limits,
    /// TLS of the listener.
    pub tls: Option<Tls>,
    /// Who may hand audio over; `None` where nobody may.
    pub ingest: Option<Verifier>,
    /// The API Gateway stage whose connections hear contact events.
    pub connections_url: Option<String>,
    /// Whether metrics go to standard output, too.
    pub emf: bool,
    /// Who is asked not to scale this task in.
    pub ecs_agent: Option<EcsAgent>,
    /// The way back to the agent.
    pub uplink: earpiece_uplink::Config,
    /// Where the keys of our own tokens are read, once there is a store.
    pub(crate) keys: TableKeys,
}

impl Settings {
    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// Every fault at once, each with the name of its variable.
    pub fn read<E: Env>(env: &E) -> Result<Self, ConfigFaults> {
        let mut reader = Reader::new(env);
        let form = "must be an address such as 0.0.0.0:8080";
        let listen = reader.value(&LISTEN, form, |text| text.parse().ok());
        let table = reader.text(&TABLE).unwrap_or_default();
        let recordings = reader.text(&RECORDINGS).unwrap_or_default();
        let client = client(&mut reader, env);
        let keys = TableKeys::default();
        let tokens = tokens(&mut reader, client.as_ref(), &keys);
        let ingest = ingest(&mut reader);
        let tls = tls(&mut reader);
        let connections_url = connections_url(&mut reader);
        let emf = switch(&mut reader, &EMF);
        let ecs_agent = client.as_ref().and_then(|client| ecs_agent(&mut reader, client));
        let level = "must be error, warn, info, debug, trace or off";
        reader.value(&LOG, level, |text| text.parse::<LevelFilter>().ok());
        let limits = limits(&mut reader);
        let recorder = recorder(&mut reader, &limits);
        let voice = voice(&mut reader, &limits);
        let uplink = earpiece_uplink::Config::read(&mut reader);
        reader.finish()?;
        let listen = listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 8080)));
        Ok(Self {
            listen,
            table,
            recordings,
            tokens,
            recorder,
            voice,
            limits,
            tls,
            ingest,
            connections_url,
            emf,
            ecs_agent,
            uplink,
            keys,
        })
    }
}

fn client<E: Env>(reader: &mut Reader<'_, E>, env: &E) -> Option<Client> {
    match Trust::read(env).and_then(|trust| Client::new(&trust)) {
        Ok(client) => Some(client),
        Err(error) => {
            reader.fault(&trust::CA_FILE, &format!("cannot be used: {error}"));
            None
        }
    }
}

/// Static tokens and JWTs. Only where neither is configured, or where [`NONE`] says so, everybody may stream.
fn tokens<E: Env>(reader: &mut Reader<'_, E>, client: Option<&Client>, keys: &TableKeys) -> TokenPolicy {
    let listed = reader.list(&AUDIO_TOKENS);
    let is_open = listed.iter().any(|token| token == NONE);
    if is_open && listed.len() > 1 {
        reader.fault(&AUDIO_TOKENS, "names tokens, and `none` beside them");
    }
    let verifier = if is_open { None } else { verifier(reader, &AUDIO_TOKENS) };
    let jwt = earpiece_access::settings::jwt(reader, client, Some(keys.fetch()));
    let guard = if is_open || (verifier.is_none() && jwt.is_none()) {
        Guard::open()
    } else {
        Guard::new(verifier.unwrap_or_else(|| Verifier::new([])), jwt)
    };
    let sources = token_sources(reader);
    if sources.is_empty() && !guard.is_open() {
        reader.fault(&TOKEN_SOURCES, "must name at least one source when there are tokens");
    }
    TokenPolicy { guard, sources }
}

/// A verifier of the tokens in a list; `None` where it is not set.
fn verifier<E: Env>(reader: &mut Reader<'_, E>, setting: &Setting) -> Option<Verifier> {
    reader.text(setting)?;
    let tokens: Vec<Secret> = reader.list(setting).into_iter().map(Secret::new).collect();
    if tokens.is_empty() {
        reader.fault(setting, "is set, but holds no token");
    }
    if tokens.iter().any(Verifier::is_misspelt) {
        reader.fault(setting, "holds a token that begins with `sha256:` and is no digest of 64 hexadecimal digits");
    }
    Some(Verifier::new(tokens))
}

fn ingest<E: Env>(reader: &mut Reader<'_, E>) -> Option<Verifier> {
    if reader.list(&INGEST_TOKENS).iter().any(|token| token == NONE) {
        // Everybody, as for sockets, or nobody, as without it? Neither is guessed at.
        reader.fault(&INGEST_TOKENS, "must hold tokens: leave it out where nobody may hand audio over");
    }
    verifier(reader, &INGEST_TOKENS)
}

fn token_sources<E: Env>(reader: &mut Reader<'_, E>) -> BTreeSet<TokenSource> {
    let mut sources = BTreeSet::new();
    for source in reader.list(&TOKEN_SOURCES) {
        match source.as_str() {
            "init" => sources.insert(TokenSource::Init),
            "header" => sources.insert(TokenSource::Header),
            "query" => sources.insert(TokenSource::Query),
            _ => {
                reader.fault(&TOKEN_SOURCES, "must be a list of init, header and query");
                false
            }
        };
    }
    sources
}

fn tls<E: Env>(reader: &mut Reader<'_, E>) -> Option<Tls> {
    let files = (reader.text(&TLS_CERT).map(PathBuf::from), reader.text(&TLS_KEY).map(PathBuf::from));
    let (certificates, key) = match files {
        (None, None) => return None,
        (Some(certificates), Some(key)) => (certificates, key),
        (Some(_), None) => {
            reader.fault(&TLS_KEY, "must be set when EARPIECE_TLS_CERT is");
            return None;
        }
        (None, Some(_)) => {
            reader.fault(&TLS_CERT, "must be set when EARPIECE_TLS_KEY is");
            return None;
        }
    };
    Tls::open(&certificates, &key)
        .inspect_err(|error| reader.fault(&TLS_CERT, &format!("cannot be used: {error}")))
        .ok()
}

fn connections_url<E: Env>(reader: &mut Reader<'_, E>) -> Option<String> {
    let form = "must be an address that begins with https:// or http://, without a query";
    reader.value(&CONNECTIONS_URL, form, |text| {
        let uri: Uri = text.parse().ok()?;
        let is_http = matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some();
        (is_http && uri.query().is_none()).then(|| text.trim_end_matches('/').to_owned())
    })
}

fn ecs_agent<E: Env>(reader: &mut Reader<'_, E>, client: &Client) -> Option<EcsAgent> {
    reader.value(&ECS_AGENT_URI, "must be an HTTP address", |text| EcsAgent::new(client.clone(), text))
}

fn switch<E: Env>(reader: &mut Reader<'_, E>, setting: &Setting) -> bool {
    let parse = |text: &str| match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    };
    reader.value(setting, "must be on or off", parse).unwrap_or_default()
}

fn limits<E: Env>(reader: &mut Reader<'_, E>) -> Limits {
    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_hours(24);
    let mebibyte = 1024 * 1024;
    let quiet = reader.duration(&QUIET_PERIOD, 100 * MS..=7 * DAY);
    let stale = reader.duration(&STALE, SECOND..=3600 * SECOND);
    let limits = Limits {
        init_deadline: reader.duration(&INIT_DEADLINE, 100 * MS..=60 * SECOND),
        init_bytes_max: size(reader.count(&INIT_BYTES_MAX, 1024..=mebibyte)),
        frame_bytes_max: size(reader.count(&FRAME_BYTES_MAX, 160..=mebibyte)),
        streams_max: size(reader.count(&STREAMS_MAX, 1..=100_000)),
        streams_per_business_unit_max: size(reader.count(&STREAMS_PER_BUSINESS_UNIT_MAX, 1..=100_000)),
        opens_per_second_max: count(reader.count(&OPENS_PER_SECOND_MAX, 1..=100_000)),
        ring: reader.duration(&RING, SECOND..=120 * SECOND),
        store_deadline: reader.duration(&STORE_DEADLINE, MS..=10 * SECOND),
        silence: reader.duration(&SILENCE, 250 * MS..=600 * SECOND),
        ping: reader.duration(&PING, SECOND..=600 * SECOND),
        dead: reader.duration(&DEAD, 2 * SECOND..=1800 * SECOND),
        quiet,
        stale,
        checkpoint: stale / 3,
        // Often enough that a contact is finished soon after its quiet period, and not for nothing.
        sweep: (quiet / 4).clamp(250 * MS, 5 * SECOND),
        drain_deadline: reader.duration(&DRAIN_DEADLINE, SECOND..=3600 * SECOND),
        drain_per_second: count(reader.count(&DRAIN_PER_SECOND, 1..=100_000)),
        ..Limits::default()
    };
    if limits.ping >= limits.dead {
        reader.fault(&DEAD, "must be longer than EARPIECE_PING");
    }
    limits
}

fn recorder<E: Env>(reader: &mut Reader<'_, E>, limits: &Limits) -> RecorderSettings {
    let is_set = reader.text(&SEGMENT).is_some();
    let range = Duration::from_millis(100)..=Duration::from_mins(10);
    let segment = is_set.then(|| reader.duration(&SEGMENT, range));
    RecorderSettings { segment_ms: segment.map(millis), ring_ms: millis(limits.ring), ..RecorderSettings::default() }
}

fn voice<E: Env>(reader: &mut Reader<'_, E>, limits: &Limits) -> Option<VoiceSettings> {
    let url = reader.text(&ASSIST_URL)?;
    let authorization = reader.text(&ASSIST_AUTHORIZATION).map(Secret::new);
    let mut voice = VoiceSettings::new(Secret::new(url));
    voice.authorization = authorization;
    voice.ring_ms = millis(limits.ring);
    if let Err(error) = earpiece_relay::VoiceRelay::new(&voice) {
        reader.fault(&ASSIST_URL, &format!("cannot be used: {error}"));
    }
    Some(voice)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn count(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
