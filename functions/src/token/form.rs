//! What a client asks the token endpoint for: a form (RFC 6749, section 4.4.2), with the client's name and secret in it
//! or in the header, and never in both.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use earpiece_access::Scope;
use earpiece_core::secret::Secret;
use lambda_http::http::StatusCode;

use super::{BODY_BYTES_MAX, Refused};
use crate::answer::{self, Request};

/// The parameters that are understood. Others are ignored, as RFC 6749 asks.
const NAMES: [&str; 7] = ["grant_type", "client_id", "client_secret", "scope", "bus_no", "contact_id", "one_time"];

/// What was asked for.
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) secret: Secret,
    /// `None`: whatever the client may have.
    pub(crate) scopes: Option<Vec<Scope>>,
    pub(crate) bus_no: Option<u64>,
    pub(crate) contact_id: Option<u64>,
    pub(crate) one_time: bool,
}

impl Asked {
    /// Reads a request.
    pub(crate) fn read(request: &Request) -> Result<Self, Refused> {
        let body = answer::body(request, BODY_BYTES_MAX).map_err(|_| {
            Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "the body is larger than 16384 bytes")
        })?;
        if !is_form(request) {
            return Err(Refused::request("send `Content-Type: application/x-www-form-urlencoded`"));
        }
        let mut form = Form::read(body)?;
        let (id, secret) = credentials(request, &mut form)?;
        match form.take("grant_type").as_deref() {
            Some("client_credentials") => {}
            None => return Err(Refused::request("`grant_type` is missing")),
            Some(_) => {
                let text = "`grant_type` must be client_credentials";
                return Err(Refused::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", text));
            }
        }
        Ok(Self {
            id,
            secret,
            scopes: form.take("scope").map(|words| scopes(&words)).transpose()?,
            bus_no: form.number("bus_no", "`bus_no` must be a whole number of at most 64 bits")?,
            contact_id: form.number("contact_id", "`contact_id` must be a whole number of at most 64 bits")?,
            one_time: match form.take("one_time").as_deref() {
                None | Some("false") => false,
                Some("true") => true,
                Some(_) => return Err(Refused::request("`one_time` must be true or false")),
            },
        })
    }
}

fn is_form(request: &Request) -> bool {
    let content_type = answer::header(request, "content-type").unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn scopes(words: &str) -> Result<Vec<Scope>, Refused> {
    let scopes = words.split_ascii_whitespace().map(Scope::parse).collect::<Option<Vec<_>>>();
    scopes.filter(|scopes| !scopes.is_empty()).ok_or_else(|| Refused::scope("`scope` names one that is not known"))
}

/// The client's name and secret. A header that is there and cannot be read is a wrong secret, and not an absent one.
fn credentials(request: &Request, form: &mut Form) -> Result<(String, Secret), Refused> {
    let in_form = (form.take("client_id"), form.take("client_secret"));
    if !request.headers().contains_key("authorization") {
        return match in_form {
            (Some(id), Some(secret)) => Ok((id, Secret::new(secret))),
            (None, None) => Err(Refused::client()),
            _ => Err(Refused::request("`client_id` and `client_secret` belong together")),
        };
    }
    // Some clients repeat their name beside the header; two secrets are two ways of authentication (section 2.3).
    if in_form.1.is_some() {
        return Err(Refused::request("send the client's secret in the header or in the body, not in both"));
    }
    let header = answer::header(request, "authorization").unwrap_or_default();
    let (id, secret) = basic(header).ok_or_else(Refused::client)?;
    if in_form.0.is_some_and(|other| other != id) {
        return Err(Refused::request("`client_id` is another one than in the header"));
    }
    Ok((id, secret))
}

/// `Basic`, with both halves form-encoded inside (section 2.3.1).
fn basic(header: &str) -> Option<(String, Secret)> {
    let (scheme, encoded) = header.split_once(char::is_whitespace)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decoded(id), Secret::new(form_decoded(secret))))
}

fn form_decoded(text: &str) -> String {
    // A lone value is read as a name; `&` and `=` are encoded in what a client sends by the book, and who does not
    // encode may have them in a secret.
    if text.contains(['&', '=']) {
        return text.to_owned();
    }
    url::form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// The parameters by name: each at most once, and one without a value counts as absent (section 3.2).
struct Form(Vec<(String, String)>);

impl Form {
    fn read(body: &[u8]) -> Result<Self, Refused> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            if !NAMES.contains(&&*name) || value.is_empty() {
                continue;
            }
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(Refused::request("a parameter is there more than once"));
            }
            fields.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(fields))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(index).1)
    }

    fn number(&mut self, name: &str, problem: &'static str) -> Result<Option<u64>, Refused> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        digits.map(Some).ok_or_else(|| Refused::request(problem))
    }
}
