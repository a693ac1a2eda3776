//! Functions: how one is asked, and what its answer means.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use earpiece_https::client::{Client, Failure, Limits};
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use serde_json::Value;

/// The largest answer of a function, in bytes: Lambda's own limit.
pub const ANSWER_BYTES_MAX: usize = 6 * 1024 * 1024;
/// What a function that judges callers throws to have them answered 401.
const UNAUTHORIZED: &str = "Unauthorized";
/// Says that a function threw something.
const FUNCTION_ERROR: &str = "x-amz-function-error";

/// A function in this process: its name and an event in, its answer out.
pub type InProcess = Arc<dyn Fn(String, Value) -> BoxFuture<'static, Result<Value, InvokeError>> + Send + Sync>;

/// How functions are asked.
#[derive(Clone)]
pub enum Invoke {
    /// Through Lambda's invoke API, as `cargo lambda watch` serves it: `POST {endpoint}/2015-03-31/functions/{name}/invocations`.
    Http {
        /// Sends the requests. Boxed: it is large, and the other way is not.
        client: Box<Client>,
        /// Scheme, host and port, and maybe a path.
        endpoint: String,
    },
    /// By a call.
    InProcess(InProcess),
}

impl fmt::Debug for Invoke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http { .. } => "Http",
            Self::InProcess(_) => "InProcess",
        })
    }
}

/// Why a function gave no answer. Holds nothing that it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// There is no such function, or nobody who could ask it.
    #[error("the function cannot be reached")]
    Unreachable,
    /// It did not answer within its time.
    #[error("the function did not answer in time")]
    TimedOut,
    /// Too many are being asked already.
    #[error("too many invocations")]
    Throttled,
    /// It threw `Unauthorized`: an authorizer's way to have a caller answered 401.
    #[error("the function threw `Unauthorized`")]
    Unauthorized,
    /// It threw something else, or stopped.
    #[error("the function failed")]
    Failed,
    /// What came back is no answer of a function.
    #[error("the function's answer cannot be read")]
    Broken,
}

impl Invoke {
    /// Asks a function and waits for its answer, at most `deadline`.
    pub(crate) async fn ask(&self, function: &str, event: Value, deadline: Duration) -> Result<Value, InvokeError> {
        match self {
            Self::Http { client, endpoint } => {
                let address = format!("{}/2015-03-31/functions/{function}/invocations", endpoint.trim_end_matches('/'));
                let request = Request::post(address)
                    .header(http::header::CONTENT_TYPE, "application/json")
                    .body(Bytes::from(event.to_string()))
                    .map_err(|_| InvokeError::Unreachable)?;
                let limits = Limits { deadline, answer_bytes_max: ANSWER_BYTES_MAX };
                read(&client.send(request, limits).await.map_err(of_failure)?)
            }
            Self::InProcess(ask) => tokio::time::timeout(deadline, ask(function.to_owned(), event))
                .await
                .unwrap_or(Err(InvokeError::TimedOut)),
        }
    }
}

const fn of_failure(failure: Failure) -> InvokeError {
    match failure {
        Failure::Unreachable => InvokeError::Unreachable,
        Failure::TimedOut => InvokeError::TimedOut,
        Failure::TooLarge | Failure::Broken => InvokeError::Broken,
    }
}

fn read(answer: &Response<Bytes>) -> Result<Value, InvokeError> {
    let body = match answer.body().as_ref() {
        [] => Ok(Value::Null),
        bytes => serde_json::from_slice(bytes),
    };
    let thrown = body.as_ref().ok().and_then(|body: &Value| body.get("errorMessage"));
    let has_failed = answer.headers().contains_key(FUNCTION_ERROR) || !answer.status().is_success();
    match (thrown, answer.status()) {
        (Some(message), _) if message == UNAUTHORIZED => Err(InvokeError::Unauthorized),
        (None, StatusCode::TOO_MANY_REQUESTS) => Err(InvokeError::Throttled),
        (None, StatusCode::NOT_FOUND) => Err(InvokeError::Unreachable),
        (Some(_), _) => Err(InvokeError::Failed),
        (None, _) if has_failed => Err(InvokeError::Failed),
        (None, _) => body.map_err(|_| InvokeError::Broken),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, is_error: bool, body: &'static str) -> Result<Value, InvokeError> {
        let mut answer = Response::builder().status(status);
        if is_error {
            answer = answer.header(FUNCTION_ERROR, "Unhandled");
        }
        read(&answer.body(Bytes::from_static(body.as_bytes())).unwrap())
    }

    #[test]
    fn answers_and_errors_are_told_apart() {
        for (status, is_error, body, expected) in [
            (200, false, r#"{"statusCode":200}"#, Ok(json!({ "statusCode": 200 }))),
            (200, false, "", Ok(Value::Null)),
            (200, false, "null", Ok(Value::Null)),
            (200, true, r#"{"errorType":"E","errorMessage":"x"}"#, Err(InvokeError::Failed)),
            (200, true, "panic", Err(InvokeError::Failed)),
            (200, false, r#"{"errorType":"E","errorMessage":"Unauthorized"}"#, Err(InvokeError::Unauthorized)),
            (500, false, r#"{"errorType":"E","errorMessage":"x"}"#, Err(InvokeError::Failed)),
            (500, false, "", Err(InvokeError::Failed)),
            (404, false, "no such function", Err(InvokeError::Unreachable)),
            (429, false, "", Err(InvokeError::Throttled)),
            (200, false, "<html>", Err(InvokeError::Broken)),
        ] {
            assert_eq!(answer(status, is_error, body), expected, "{status} {body}");
        }
    }
}
