//! What can go wrong between us and a connection. The SDK's errors are classed once, here: who pushes decides by
//! [`PushError`] and needs no AWS types.

use std::error::Error;

use aws_sdk_apigatewaymanagement::error::{ProvideErrorMetadata, SdkError};
use earpiece_core::error::Kind;

/// A frame that was not delivered, or a connection that was not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// There is no such connection (any more): forget it.
    #[error("the connection is gone")]
    Gone,
    /// The message is larger than API Gateway carries.
    #[error("the message is too large for the connection")]
    TooLarge,
    /// Too many requests, or the peer reads too slowly; certainly not delivered.
    #[error("API Gateway throttles")]
    Throttled,
    /// API Gateway failed on its side.
    #[error("API Gateway failed")]
    Failed,
    /// No answer, or not in time: it may have been delivered.
    #[error("API Gateway could not be reached in time")]
    Unavailable,
    /// It refuses and always will: the permission `execute-api:ManageConnections` is missing, or the endpoint is wrong.
    #[error("API Gateway refuses: check the endpoint, and the permission to manage connections")]
    Refused,
}

impl PushError {
    /// The fault's kind, for metrics and answers.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Gone => Kind::NotFound,
            Self::TooLarge => Kind::TooLarge,
            Self::Throttled | Self::Failed | Self::Unavailable => Kind::Unavailable,
            Self::Refused => Kind::Internal,
        }
    }
}

/// Classes an error of the SDK. Only what was refused for good or is not explained is worth a line in the log, and it
/// holds the code alone: the text of an error repeats the connection id.
pub(crate) fn classify<E>(error: &SdkError<E>) -> PushError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let SdkError::ServiceError(service) = error else { return PushError::Unavailable };
    let code = service.err().code().unwrap_or("no error code");
    let class = classify_answer(service.raw().status().as_u16(), code);
    if class == PushError::Refused {
        tracing::warn!(code, "API Gateway refuses to serve its connections");
    }
    class
}

/// The status decides: local stand-ins and proxies on the way do not always send a code.
fn classify_answer(status: u16, code: &str) -> PushError {
    match status {
        410 => PushError::Gone,
        // An id that API Gateway never gave out. Nobody will ever hear on it.
        400 if code == "BadRequestException" => PushError::Gone,
        413 => PushError::TooLarge,
        429 => PushError::Throttled,
        500.. => PushError::Failed,
        _ => PushError::Refused,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_apigatewaymanagement::error::ErrorMetadata;

    use super::*;

    #[test]
    fn every_answer_has_its_class() {
        for (status, code, expected) in [
            (410, "GoneException", PushError::Gone),
            (410, "", PushError::Gone),
            (400, "BadRequestException", PushError::Gone),
            (400, "ValidationException", PushError::Refused),
            (413, "PayloadTooLargeException", PushError::TooLarge),
            (429, "LimitExceededException", PushError::Throttled),
            (403, "ForbiddenException", PushError::Refused),
            (404, "", PushError::Refused),
            (500, "InternalServerError", PushError::Failed),
            (503, "", PushError::Failed),
        ] {
            assert_eq!(classify_answer(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn what_got_no_answer_may_have_arrived() {
        for error in [SdkError::<ErrorMetadata>::timeout_error("slow"), SdkError::construction_failure("no region")] {
            assert_eq!(classify(&error), PushError::Unavailable);
        }
    }
}
