//! What goes back over HTTP: one shape for every error, and the one function that turns a fault into a status.
//!
//! Nothing here logs, and nothing here holds what was sent: a public text names fields and never quotes them.

use std::net::IpAddr;

use earpiece_core::error::{Fault, Kind, Retry};
use lambda_http::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use lambda_http::http::{Method, Request as HttpRequest, StatusCode};
use lambda_http::request::RequestContext;
use lambda_http::{Body, RequestExt as _};
use serde_json::{Value, json};

/// A request as every handler takes it.
pub type Request = HttpRequest<Body>;

/// An answer as every handler gives it.
pub type Answer = lambda_http::http::Response<Body>;

/// Where a request that did not come through API Gateway comes from; put into its extensions by whoever took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// A fault on its way to an answer, with the field that is at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub fault: Fault,
    /// The path of the field, where it is one.
    pub field: Option<String>,
}

impl Problem {
    /// A problem without a field.
    pub fn new(kind: Kind, public: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { fault: Fault::new(kind, public), field: None }
    }

    /// The same, naming a field.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into()).filter(|field| !field.is_empty());
        self
    }

    /// The answer: `{"error": {"kind", "message", "field"?}}`.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let mut answer = json(status_of(self.fault.kind), &self.to_json());
        let headers = answer.headers_mut();
        if let Retry::AfterMs(pause_ms) = self.fault.kind.retry() {
            headers.insert(RETRY_AFTER, HeaderValue::from(pause_ms.div_ceil(1000).max(1)));
        }
        if self.fault.kind == Kind::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }

    /// The body of [`Self::answer`].
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut error = json!({ "kind": self.fault.kind.label(), "message": self.fault.public });
        if let Some(field) = &self.field {
            error["field"] = json!(field);
        }
        json!({ "error": error })
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self { fault, field: None }
    }
}

impl From<earpiece_core::protocol::ParseError> for Problem {
    fn from(error: earpiece_core::protocol::ParseError) -> Self {
        let field = error.field.clone();
        Self::from(Fault::from(error)).at(field)
    }
}

impl From<earpiece_store::StoreError> for Problem {
    fn from(error: earpiece_store::StoreError) -> Self {
        match error.kind() {
            Kind::Unavailable => Self::new(Kind::Unavailable, "the store is not available; try again"),
            // What is kept may be larger than what came: JSON is written anew, and 1e9 becomes 1000000000.0.
            Kind::TooLarge => Self::new(Kind::TooLarge, "this is too large to be kept"),
            kind => Self::new(kind, "the store refused the request; the operator has to act"),
        }
    }
}

/// The HTTP status of a kind of fault.
#[must_use]
pub const fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::BadInput => StatusCode::BAD_REQUEST,
        Kind::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::TooLate => StatusCode::REQUEST_TIMEOUT,
        Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Kind::Superseded => StatusCode::CONFLICT,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Overloaded | Kind::Draining | Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An answer of JSON. It is about one contact or one caller, so nobody on the way may keep it.
#[must_use]
pub fn json(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Answer::new(Body::Text(body.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A document that is the same for everybody for `fresh_s` seconds.
#[must_use]
pub fn document(body: String, fresh_s: u32) -> Answer {
    let mut answer = Answer::new(Body::Text(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(cache) = HeaderValue::from_str(&format!("public, max-age={fresh_s}")) {
        answer.headers_mut().insert(CACHE_CONTROL, cache);
    }
    answer
}

/// 405, naming the method that there is.
#[must_use]
pub fn method_not_allowed(allowed: &'static str) -> Answer {
    let problem = Problem::new(Kind::Unsupported, format!("this path takes {allowed}"));
    let mut answer = json(StatusCode::METHOD_NOT_ALLOWED, &problem.to_json());
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// 404.
#[must_use]
pub fn not_found() -> Answer {
    Problem::new(Kind::NotFound, "there is no such path; GET /openapi.json names those that there are").answer()
}

/// The path without the stage that API Gateway may put in front of it.
#[must_use]
pub fn path_of(request: &Request) -> &str {
    let raw = request.raw_http_path();
    let path = if raw.is_empty() { request.uri().path() } else { raw };
    let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() else {
        return path;
    };
    let stage = context.stage.as_deref().unwrap_or_default();
    match path.strip_prefix('/').and_then(|path| path.strip_prefix(stage)) {
        Some(rest) if !stage.is_empty() && rest.starts_with('/') => rest,
        _ => path,
    }
}

/// Whose request it is, as far as the network knows: from API Gateway's own context, or as noted by the listener.
/// Headers are not asked: anybody can write them.
#[must_use]
pub fn peer_of(request: &Request) -> Option<IpAddr> {
    if let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() {
        return context.http.source_ip.as_deref()?.parse().ok();
    }
    request.extensions().get::<Peer>().map(|peer| peer.0)
}

/// The text of a header, if it is visible ASCII.
#[must_use]
pub fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok().map(str::trim).filter(|value| !value.is_empty())
}

/// Checks that a request is one that carries JSON of at most `bytes_max`, and gives its body.
///
/// # Errors
/// [`Kind::Unsupported`] for another content type, [`Kind::TooLarge`] above the limit.
pub fn json_body(request: &Request, bytes_max: usize) -> Result<&[u8], Problem> {
    if !header(request, "content-type").is_some_and(is_json) {
        return Err(Problem::new(Kind::Unsupported, "send `Content-Type: application/json`"));
    }
    body(request, bytes_max)
}

/// The body of a request, at most `bytes_max` of it.
///
/// # Errors
/// [`Kind::TooLarge`] above the limit.
pub fn body(request: &Request, bytes_max: usize) -> Result<&[u8], Problem> {
    let bytes: &[u8] = request.body().as_ref();
    if bytes.len() > bytes_max {
        return Err(Problem::new(Kind::TooLarge, format!("the body is larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// `application/json`, or anything that is JSON underneath (`+json`), whatever parameters follow.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_utf8 = content_type
        .split(';')
        .skip(1)
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .all(|(_, charset)| {
            let charset = charset.trim().trim_matches('"').to_ascii_lowercase();
            ["utf-8", "utf8", "us-ascii"].contains(&charset.as_str())
        });
    is_utf8 && (essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")))
}

/// Whether a request has this method.
#[must_use]
pub fn is(request: &Request, method: &Method) -> bool {
    request.method() == method
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_has_a_status_that_says_whose_it_is() {
        use earpiece_core::error::Owner;
        for kind in Kind::ALL {
            let status = status_of(kind);
            assert_eq!(status.is_client_error(), kind.owner() == Owner::Peer, "{kind:?} is {status}");
        }
    }

    #[test]
    fn an_error_says_its_kind_its_text_its_field_and_when_to_come_again() {
        let answer = Problem::new(Kind::RateLimited, "slower").at("busNo").answer();
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()[RETRY_AFTER], "1");
        let body: Value = serde_json::from_slice(answer.body().as_ref()).unwrap();
        assert_eq!(body, json!({"error": {"kind": "rate_limited", "message": "slower", "field": "busNo"}}));
    }

    #[test]
    fn json_is_known_by_its_type_and_must_be_unicode() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/cxone+json",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["text/plain", "text/json+x", "application/jsonx", "application/json; charset=utf-16", "", "+json"] {
            assert!(!is_json(bad), "{bad}");
        }
    }

    #[test]
    fn the_stage_of_an_api_is_no_part_of_the_path_and_nothing_else_is_cut_off() {
        for (stage, raw, expected) in [
            ("$default", "/a/b", "/a/b"),
            ("prod", "/prod/a/b", "/a/b"),
            ("prod", "/production/a", "/production/a"),
            ("prod", "/prod", "/prod"),
            ("prod", "/a/prod/b", "/a/prod/b"),
        ] {
            let event = json!({
                "version": "2.0", "routeKey": "$default", "rawPath": raw, "rawQueryString": "", "headers": {},
                "requestContext": {"stage": stage, "http": {"method": "GET", "path": raw, "sourceIp": "192.0.2.1"}},
                "isBase64Encoded": false,
            });
            let request = lambda_http::request::from_str(&event.to_string()).unwrap();
            assert_eq!(path_of(&request), expected);
            assert_eq!(peer_of(&request), Some(IpAddr::from([192, 0, 2, 1])));
        }
    }
}
