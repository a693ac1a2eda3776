//! Tokens for credentials (RFC 6749 §4.3, §4.4 and the access key endpoint), and the two discovery documents.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use earpiece_core::secret::Secret;
use http::{StatusCode, header};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::faults::{Fault, FaultKind};
use super::received::{Kind, Note};
use super::reply::{Call, Reply, parameter};
use super::rest;
use super::settings::{AccessKey, Client};
use super::shared::Shared;

/// Why no token was issued (RFC 6749 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnsupportedGrantType,
    InvalidScope,
}

impl Refusal {
    fn reply(self) -> Reply {
        let (status, error, description) = match self {
            Self::InvalidRequest => (400, "invalid_request", "a parameter is missing, or the body is no form"),
            Self::InvalidClient => (401, "invalid_client", "client authentication failed"),
            Self::InvalidGrant => (400, "invalid_grant", "the access key is not valid"),
            Self::UnsupportedGrantType => (400, "unsupported_grant_type", "client_credentials or password"),
            Self::InvalidScope => (400, "invalid_scope", "a scope is unknown, or more than was granted"),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let reply = Reply::error(status, error, description).with(header::CACHE_CONTROL, "no-store");
        if status == StatusCode::UNAUTHORIZED {
            return reply.with(header::WWW_AUTHENTICATE, "Basic realm=\"cxone\"");
        }
        reply
    }
}

/// `POST /oauth2/token`: client credentials, or an access key as user name and password.
pub(crate) fn token(shared: &Shared, call: &Call, fault: Option<&Fault>) -> Reply {
    let form = str::from_utf8(&call.body).unwrap_or_default();
    let credentials = credentials(call, form);
    let id = match parameter(form, "grant_type").as_deref() {
        Some("password") => parameter(form, "username"),
        _ => credentials.as_ref().map(|(id, _)| id.clone()),
    };
    let reply = refused_by_fault(shared, fault).unwrap_or_else(|| {
        if !call.is_of_type("application/x-www-form-urlencoded") {
            return Refusal::InvalidRequest.reply();
        }
        match grant(shared, form, credentials.as_ref()) {
            Ok(scopes) => issued(shared, scopes),
            Err(refusal) => refusal.reply(),
        }
    });
    let body = json!({ "grantType": parameter(form, "grant_type"), "scope": parameter(form, "scope") });
    write_down(shared, call, id.as_deref(), &reply, &body);
    reply
}

/// `POST /authentication/v1/token/access-key`.
pub(crate) fn access_key(shared: &Shared, call: &Call, fault: Option<&Fault>) -> Reply {
    let body = call.json().unwrap_or_default();
    let id = body["accessKeyId"].as_str();
    let reply = refused_by_fault(shared, fault).unwrap_or_else(|| {
        let (Some(id), Some(secret)) = (id, body["accessKeySecret"].as_str()) else {
            return Refusal::InvalidRequest.reply();
        };
        match find_key(shared, id, secret) {
            Some(key) => issued(shared, key.scopes.clone()),
            // Not a token endpoint of RFC 6749: a wrong key is simply not authorised.
            None => Reply::error(StatusCode::UNAUTHORIZED, "invalid_grant", "the access key is not valid"),
        }
    });
    write_down(shared, call, id, &reply, &json!({ "grantType": "access-key" }));
    reply
}

fn refused_by_fault(shared: &Shared, fault: Option<&Fault>) -> Option<Reply> {
    let fault = fault?;
    if fault.kind == FaultKind::AuthFailure {
        return Some(Refusal::InvalidClient.reply());
    }
    rest::refusal(shared, fault, None)
}

fn grant(shared: &Shared, form: &str, credentials: Option<&(String, Secret)>) -> Result<Vec<String>, Refusal> {
    let grant_type = parameter(form, "grant_type").ok_or(Refusal::InvalidRequest)?;
    if !["client_credentials", "password"].contains(&grant_type.as_str()) {
        return Err(Refusal::UnsupportedGrantType);
    }
    let (id, secret) = credentials.ok_or(Refusal::InvalidClient)?;
    let client = find_client(shared, id, secret).ok_or(Refusal::InvalidClient)?;
    let granted = if grant_type == "password" {
        let user = parameter(form, "username").ok_or(Refusal::InvalidRequest)?;
        let password = parameter(form, "password").ok_or(Refusal::InvalidRequest)?;
        &find_key(shared, &user, &password).ok_or(Refusal::InvalidGrant)?.scopes
    } else {
        &client.scopes
    };
    let asked = parameter(form, "scope").unwrap_or_default();
    let asked: Vec<_> = asked.split_whitespace().map(str::to_owned).collect();
    if asked.iter().any(|scope| !granted.contains(scope)) {
        return Err(Refusal::InvalidScope);
    }
    Ok(if asked.is_empty() { granted.clone() } else { asked })
}

/// The client's id and secret: `Basic`, with both halves form-encoded inside (RFC 6749 §2.3.1), or in the form.
fn credentials(call: &Call, form: &str) -> Option<(String, Secret)> {
    let Some(authorization) = call.header(header::AUTHORIZATION) else {
        return Some((parameter(form, "client_id")?, Secret::new(parameter(form, "client_secret")?)));
    };
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decoded(id), Secret::new(form_decoded(secret))))
}

fn form_decoded(text: &str) -> String {
    // A lone value is parsed as a name; one with `=` in it has the rest behind.
    form_urlencoded::parse(format!("value={}", text.replace('&', "%26")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

fn find_client<'a>(shared: &'a Shared, id: &str, secret: &Secret) -> Option<&'a Client> {
    shared.settings.clients.iter().find(|client| client.id == id && client.secret == *secret)
}

fn find_key<'a>(shared: &'a Shared, id: &str, secret: &str) -> Option<&'a AccessKey> {
    shared.settings.access_keys.iter().find(|key| key.id == id && key.secret.reveal() == secret)
}

fn issued(shared: &Shared, scopes: Vec<String>) -> Reply {
    let scope = scopes.join(" ");
    let token = shared.issue(scopes);
    let body = json!({
        "access_token": token.reveal(), "token_type": "Bearer", "expires_in": shared.settings.token_life.as_secs(),
        "scope": scope,
    });
    Reply::json(StatusCode::OK, &body).with(header::CACHE_CONTROL, "no-store")
}

fn write_down(shared: &Shared, call: &Call, id: Option<&str>, reply: &Reply, body: &Value) {
    let note = Note { interaction: None, id, status: reply.status(), body: &body.to_string() };
    shared.record(Kind::Token, call.connection, &note);
}

/// `GET /.well-known/openid-configuration`.
pub(crate) fn openid_configuration(shared: &Shared, call: &Call) -> Reply {
    let base = base(shared, call);
    let document = json!({
        "issuer": base,
        "token_endpoint": format!("{base}/oauth2/token"),
        "grant_types_supported": ["client_credentials", "password"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": super::settings::SCOPES,
    });
    discovered(shared, call, Reply::json(StatusCode::OK, &document))
}

/// `GET /.well-known/cxone-configuration?tenantId=`.
pub(crate) fn cxone_configuration(shared: &Shared, call: &Call) -> Reply {
    let base = base(shared, call);
    let reply = match call.parameter("tenantId") {
        None => Reply::error(StatusCode::BAD_REQUEST, "invalid_request", "tenantId is missing"),
        Some(tenant) if tenant != shared.settings.tenant => {
            Reply::error(StatusCode::NOT_FOUND, "not_found", "there is no such tenant")
        }
        Some(tenant) => {
            Reply::json(StatusCode::OK, &json!({ "tenantId": tenant, "api_endpoint": base, "auth_endpoint": base }))
        }
    };
    discovered(shared, call, reply)
}

fn discovered(shared: &Shared, call: &Call, reply: Reply) -> Reply {
    let note = Note { id: Some(&call.path), status: reply.status(), body: &call.query, ..Note::default() };
    shared.record(Kind::Discovery, call.connection, &note);
    reply
}

/// Where the caller found us: it may know us by a name, or through a forwarded port.
fn base(shared: &Shared, call: &Call) -> String {
    call.header(header::HOST).map_or_else(|| format!("http://{}", shared.address), |host| format!("http://{host}"))
}
