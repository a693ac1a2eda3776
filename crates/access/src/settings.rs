//! The JWT part of the configuration. Static tokens are not here: every door has its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use earpiece_core::config::{Env, Reader, Setting};
use earpiece_core::secret::Secret;
use earpiece_https::Client;
use earpiece_https::client::Limits;
use http::header::ACCEPT;
use http::{Request, StatusCode, Uri};

use crate::cache::{FETCH_MAX, FetchError, KeyFetch};
use crate::jwt::{Jwt, Keys, OneTimePolicy, Rules};
use crate::keys::SET_BYTES_MAX;

/// Whose tokens.
pub const ISSUER: Setting =
    Setting::new("EARPIECE_JWT_ISSUER", "", "`iss` that JWTs must have, and that issued ones get.");
/// For whom they are meant.
pub const AUDIENCE: Setting =
    Setting::new("EARPIECE_JWT_AUDIENCE", "", "`aud` that JWTs must have, and that issued ones get.");
/// How they are signed.
pub const ALGORITHM: Setting =
    Setting::new("EARPIECE_JWT_ALGORITHM", "ES256", "The one algorithm of JWTs: `HS256`, `RS256` or `ES256`.");
/// With what, for HS256.
pub const SECRET: Setting =
    Setting::secret("EARPIECE_JWT_SECRET", "Shared secret of JWTs for `HS256`, at least 32 bytes of text.");
/// With what, for the others.
pub const JWKS: Setting = Setting::new(
    "EARPIECE_JWKS",
    "",
    "Where the public keys of JWTs are: `table` (those of our own token endpoint) or an HTTPS address. JWTs are accepted \
     when this or `EARPIECE_JWT_SECRET` is set.",
);
/// How far clocks may differ.
pub const LEEWAY: Setting =
    Setting::new("EARPIECE_JWT_LEEWAY", "30s", "By how much an issuer's clock may differ from ours.");
/// One use each.
pub const ONE_TIME: Setting = Setting::new(
    "EARPIECE_JWT_ONE_TIME",
    "allowed",
    "Whether JWTs are good for one use: `off`, `allowed` (those that say `oneTime: true`) or `required` (all).",
);

/// Every setting of this crate.
pub const ALL: [Setting; 7] = [ISSUER, AUDIENCE, ALGORITHM, SECRET, JWKS, LEEWAY, ONE_TIME];

/// Largest leeway: with more, expiry would lose its meaning.
const LEEWAY_MAX: Duration = Duration::from_mins(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Hs256,
    Rs256,
    Es256,
}

/// What judges JWTs, when keys are configured. `client` fetches key sets from an address, `table` reads those of our own
/// token endpoint; a door that lacks one of them cannot be configured to use it. Faults are left with the reader.
pub fn jwt(reader: &mut Reader<'_, impl Env>, client: Option<&Client>, table: Option<KeyFetch>) -> Option<Jwt> {
    let algorithm = reader.value(&ALGORITHM, "must be HS256, RS256 or ES256", |text| match text {
        "HS256" => Some(Algorithm::Hs256),
        "RS256" => Some(Algorithm::Rs256),
        "ES256" => Some(Algorithm::Es256),
        _ => None,
    });
    let rules = rules(reader);
    let secret = reader.text(&SECRET).map(Secret::new);
    let place = reader.text(&JWKS);
    let keys = match algorithm? {
        Algorithm::Hs256 => shared_secret(reader, secret, place.as_deref())?,
        algorithm => {
            if secret.is_some() {
                reader.fault(&SECRET, "has no meaning unless the algorithm is HS256");
            }
            let fetch = key_fetch(reader, algorithm, place, &rules, client, table)?;
            if algorithm == Algorithm::Rs256 { Keys::Rs256(fetch) } else { Keys::Es256(fetch) }
        }
    };
    let jwt = Jwt::new(keys, rules).ok();
    if jwt.is_none() {
        reader.fault(&SECRET, "must have at least 32 bytes");
    }
    jwt
}

fn rules(reader: &mut Reader<'_, impl Env>) -> Rules {
    let one_time = reader.value(&ONE_TIME, "must be off, allowed or required", |text| match text {
        "off" => Some(OneTimePolicy::Off),
        "allowed" => Some(OneTimePolicy::Allowed),
        "required" => Some(OneTimePolicy::Required),
        _ => None,
    });
    Rules {
        issuer: reader.text(&ISSUER),
        audience: reader.text(&AUDIENCE),
        leeway: reader.duration(&LEEWAY, Duration::ZERO..=LEEWAY_MAX),
        one_time: one_time.unwrap_or_default(),
    }
}

fn shared_secret(reader: &mut Reader<'_, impl Env>, secret: Option<Secret>, place: Option<&str>) -> Option<Keys> {
    if place.is_some() {
        reader.fault(&JWKS, "has no meaning with the algorithm HS256");
    }
    if secret.is_none() {
        reader.fault(&SECRET, "must be set for the algorithm HS256");
    }
    secret.map(Keys::Hs256)
}

fn key_fetch(
    reader: &mut Reader<'_, impl Env>,
    algorithm: Algorithm,
    place: Option<String>,
    rules: &Rules,
    client: Option<&Client>,
    table: Option<KeyFetch>,
) -> Option<KeyFetch> {
    let Some(place) = place else {
        // ES256 is what holds where nothing is said; the others are a wish that cannot be granted.
        if algorithm == Algorithm::Rs256 {
            reader.fault(&JWKS, "must be set for the algorithm RS256");
        }
        return None;
    };
    if place == "table" {
        if algorithm != Algorithm::Es256 {
            reader.fault(&JWKS, "must be an address, since our own keys are for ES256");
        }
        if table.is_none() {
            reader.fault(&JWKS, "must be an address, since there is no table here");
        }
        return table;
    }
    // The keys of a public issuer sign for many: without these two, everybody's tokens would open our doors.
    for (setting, is_set) in [(&ISSUER, rules.issuer.is_some()), (&AUDIENCE, rules.audience.is_some())] {
        if !is_set {
            reader.fault(setting, "must be set where keys come from an address");
        }
    }
    let Some(address) = place.parse().ok().filter(is_safe) else {
        reader.fault(&JWKS, "must be table or an address that begins with https://");
        return None;
    };
    if client.is_none() {
        reader.fault(&JWKS, "must be table, since nothing is fetched here");
    }
    client.map(|client| fetch_from(client.clone(), address))
}

/// Whoever can change the answer can sign tokens. On the way to this machine itself nobody can.
fn is_safe(address: &Uri) -> bool {
    let is_local = matches!(address.host(), Some("127.0.0.1" | "[::1]" | "localhost"));
    match address.scheme_str() {
        Some("https") => address.host().is_some_and(|host| !host.is_empty()),
        Some("http") => is_local,
        _ => false,
    }
}

/// Fetches a key set over HTTPS. A redirect is no key set: only the configured address is believed.
fn fetch_from(client: Client, address: Uri) -> KeyFetch {
    const LIMITS: Limits = Limits { deadline: FETCH_MAX, answer_bytes_max: SET_BYTES_MAX };
    Arc::new(move || {
        let (client, address) = (client.clone(), address.clone());
        Box::pin(async move {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = address;
            request.headers_mut().insert(ACCEPT, http::HeaderValue::from_static("application/json"));
            let answer = client.send(request, LIMITS).await.map_err(|failure| FetchError::new(failure.to_string()))?;
            if answer.status() != StatusCode::OK {
                return Err(FetchError::new(format!("the answer's status is {}", answer.status().as_u16())));
            }
            String::from_utf8(answer.into_body().into()).map_err(|_| FetchError::new("the answer is no text"))
        })
    })
}
