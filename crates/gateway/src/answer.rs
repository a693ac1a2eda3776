//! HTTP answers, in API Gateway's words.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

/// An answer of this crate.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// With a JSON body.
pub(crate) fn json(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::from(body.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Why a request is not served, in words for whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// By which an AWS SDK knows it.
    exception: Option<&'static str>,
    text: &'static str,
}

impl Refusal {
    pub(crate) const fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, exception: None, text }
    }

    pub(crate) const fn exception(status: StatusCode, name: &'static str, text: &'static str) -> Self {
        Self { status, exception: Some(name), text }
    }

    pub(crate) const fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
    }

    pub(crate) fn answer(self) -> Answer {
        let mut answer = json(self.status, &json!({ "message": self.text }));
        if let Some(name) = self.exception {
            answer.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(name));
        }
        answer
    }
}
