//! One request for a token, in each of the three forms, and what its answer means.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use earpiece_core::secret::Secret;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::addresses::Addresses;
use crate::credentials::{Credentials, Pair};
use crate::endpoint::Endpoint;
use crate::error::CxoneError;
use crate::gate::Gate;

/// What holds where an answer does not say how long its token lives: well below the documented hour.
const LIFE_DEFAULT: Duration = Duration::from_mins(10);
/// A shorter life would be over before the token is used.
const LIFE_MIN: Duration = Duration::from_secs(1);
/// No token is kept for longer, whatever it says.
const LIFE_MAX: Duration = Duration::from_hours(24);
/// Longest token, in bytes: it has to fit into a header and into an address.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A token, and how long it lives from now on.
pub(crate) struct Granted {
    pub(crate) token: Secret,
    pub(crate) life: Duration,
}

/// Asks for a token.
pub(crate) async fn ask(
    gate: &Gate,
    addresses: &Addresses<'_>,
    credentials: &Credentials,
    scope: Option<&str>,
) -> Result<Granted, CxoneError> {
    let request = match credentials {
        Credentials::Client(client) => {
            let mut fields = vec![
                ("grant_type", "client_credentials"),
                ("client_id", client.id.as_str()),
                ("client_secret", client.secret.reveal()),
            ];
            fields.extend(scope.map(|scope| ("scope", scope)));
            form(addresses.token()?, &fields)
        }
        Credentials::Password { keys, client } => {
            let fields =
                [("grant_type", "password"), ("username", keys.id.as_str()), ("password", keys.secret.reveal())];
            let mut request = form(addresses.token()?, &fields);
            request.headers_mut().insert(AUTHORIZATION, basic(client)?);
            request
        }
        Credentials::Keys(keys) => {
            let body = json!({ "accessKeyId": keys.id, "accessKeySecret": keys.secret.reveal() });
            post(addresses.access_key()?, "application/json", body.to_string())
        }
    };
    read(&gate.send(Endpoint::Token, request).await?)
}

fn form(uri: Uri, fields: &[(&str, &str)]) -> Request<Bytes> {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    post(uri, "application/x-www-form-urlencoded", body)
}

fn post(uri: Uri, kind: &'static str, body: String) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    request
}

fn basic(client: &Pair) -> Result<HeaderValue, CxoneError> {
    let text = BASE64_STANDARD.encode(format!("{}:{}", client.id, client.secret.reveal()));
    let mut value = HeaderValue::try_from(format!("Basic {text}")).map_err(|_| CxoneError::Unauthorized)?;
    value.set_sensitive(true);
    Ok(value)
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<Secret>,
    expires_in: Option<Value>,
}

fn read(answer: &Response<Bytes>) -> Result<Granted, CxoneError> {
    match answer.status().as_u16() {
        200 | 201 => {}
        // What the grant is refused for is told by a word (RFC 6749, 5.2); all but one of them are about credentials.
        400 | 401 => {
            let scope = Endpoint::Token.scope();
            return Err(if is_about_scope(answer) {
                CxoneError::Forbidden { scope }
            } else {
                CxoneError::Unauthorized
            });
        }
        403 => return Err(CxoneError::Forbidden { scope: Endpoint::Token.scope() }),
        status => return Err(CxoneError::Refused { status }),
    }
    let answer: Answer = serde_json::from_slice(answer.body()).map_err(|_| CxoneError::Unreadable)?;
    let token = answer.access_token.filter(is_sendable).ok_or(CxoneError::Unreadable)?;
    Ok(Granted { token, life: life(answer.expires_in.as_ref()) })
}

fn is_about_scope(answer: &Response<Bytes>) -> bool {
    let body: Option<Value> = serde_json::from_slice(answer.body()).ok();
    body.as_ref().and_then(|body| body.get("error")).and_then(Value::as_str) == Some("invalid_scope")
}

fn is_sendable(token: &Secret) -> bool {
    let text = token.reveal();
    (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Seconds, as a number or as text.
fn life(expires_in: Option<&Value>) -> Duration {
    let seconds = expires_in.and_then(|value| match value {
        Value::String(text) => text.trim().parse::<f64>().ok(),
        other => other.as_f64(),
    });
    let life = seconds.filter(|seconds| seconds.is_finite()).map(|seconds| seconds.clamp(0.0, LIFE_MAX.as_secs_f64()));
    life.map_or(LIFE_DEFAULT, Duration::from_secs_f64).max(LIFE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Granted, CxoneError> {
        read(&Response::builder().status(status).body(Bytes::from(body.to_owned())).unwrap())
    }

    #[test]
    fn lives_are_read_in_every_form_and_bounded() {
        for (said, expected_s) in [
            ("3600", 3_600),
            ("\"3600\"", 3_600),
            ("3599.5", 3_599),
            ("0", 1),
            ("-5", 1),
            ("1e300", 86_400),
            ("null", 600),
            ("\"soon\"", 600),
            ("\"NaN\"", 600),
        ] {
            let granted = answer(200, &format!(r#"{{"access_token":"t","expires_in":{said}}}"#)).ok().unwrap();
            assert_eq!(granted.life.as_secs(), expected_s, "{said}");
        }
    }

    #[test]
    fn an_answer_without_a_usable_token_is_unreadable() {
        for body in ["", "{}", r#"{"access_token":""}"#, r#"{"access_token":"a\nb"}"#, r#"{"access_token":7}"#] {
            assert_eq!(answer(200, body).err(), Some(CxoneError::Unreadable), "{body}");
        }
    }

    #[test]
    fn a_refusal_says_whether_it_is_about_credentials_or_scopes() {
        assert_eq!(answer(400, r#"{"error":"invalid_client"}"#).err(), Some(CxoneError::Unauthorized));
        assert_eq!(answer(401, "no JSON").err(), Some(CxoneError::Unauthorized));
        let scope = "that EARPIECE_CXONE_SCOPE asks for";
        assert_eq!(answer(400, r#"{"error":"invalid_scope"}"#).err(), Some(CxoneError::Forbidden { scope }));
        assert_eq!(answer(404, "").err(), Some(CxoneError::Refused { status: 404 }));
    }
}
