//! What can go wrong between us and the table. The SDK's many errors are classed once, here: who calls the store
//! decides by [`StoreError::kind`] and needs no AWS types.

use std::error::Error;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use earpiece_core::error::Kind;

/// A request to the table that did not succeed, after the SDK's own retries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too many requests for the table or the account.
    #[error("the store throttles, try again in {retry_after_ms} ms")]
    Throttled {
        /// How long to wait, in milliseconds.
        retry_after_ms: u32,
    },
    /// No answer within the stated time. The request may or may not have been carried out.
    #[error("the store did not answer in time")]
    Timeout,
    /// It could not be reached, or failed on its side.
    #[error("the store is not available: {reason}")]
    Unavailable {
        /// The innermost cause, for the log.
        reason: String,
    },
    /// It refuses the request and always will: no such table, no permission, a malformed request.
    #[error("the store refused the request: {code}: {message}")]
    Refused {
        /// DynamoDB's error code.
        code: String,
        /// DynamoDB's text, for the log.
        message: String,
    },
    /// An item lacks an attribute, or holds something else in it than we write.
    #[error("an item in the store cannot be read: attribute {attribute}")]
    Damaged {
        /// Which attribute.
        attribute: String,
    },
    /// What is to be kept does not fit into one item of the table, which holds 400 KB in all.
    #[error("{what} has {bytes} bytes, and the store takes at most {bytes_max}")]
    TooLarge {
        /// What: a payload, a document, an id.
        what: &'static str,
        /// How large it is, in bytes.
        bytes: usize,
        /// How large it may be, in bytes.
        bytes_max: usize,
    },
    /// Others changed the item between all of our attempts.
    #[error("the item changed during every attempt")]
    Contended,
}

/// How long to wait when DynamoDB throttles and does not say for how long, in milliseconds.
pub const THROTTLED_RETRY_MS: u32 = 1000;

/// The error codes that mean "slower, please".
const THROTTLING_CODES: [&str; 4] =
    ["ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException", "Throttling"];

/// The error codes of a write to an item that a transaction writes at that moment.
const CONFLICT_CODES: [&str; 2] = ["TransactionConflictException", "TransactionInProgressException"];

impl StoreError {
    /// The fault's kind, for metrics and answers.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Throttled { .. } | Self::Timeout | Self::Unavailable { .. } | Self::Contended => Kind::Unavailable,
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::Refused { .. } | Self::Damaged { .. } => Kind::Internal,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self.kind(), Kind::Unavailable)
    }
}

/// Refuses what would not fit, before it is sent.
pub(crate) const fn fits(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), StoreError> {
    if bytes > bytes_max { Err(StoreError::TooLarge { what, bytes, bytes_max }) } else { Ok(()) }
}

/// Classes an error of the SDK. A failed condition is no error and is taken out before (`write`).
pub(crate) fn classify<E>(error: &SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::TimeoutError(_) => StoreError::Timeout,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => StoreError::Timeout,
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            classify_answer(service.err(), status, service.raw().headers().get("x-amz-retry-after"))
        }
        other => StoreError::Unavailable { reason: innermost(other) },
    }
}

fn classify_answer<E: ProvideErrorMetadata>(answer: &E, status: u16, retry_after: Option<&str>) -> StoreError {
    let code = answer.code().unwrap_or("no error code");
    if THROTTLING_CODES.contains(&code) || status == 429 {
        let asked_ms = retry_after.and_then(|text| text.trim().parse().ok());
        return StoreError::Throttled { retry_after_ms: asked_ms.unwrap_or(THROTTLED_RETRY_MS) };
    }
    if CONFLICT_CODES.contains(&code) {
        return StoreError::Contended;
    }
    if status >= 500 {
        return StoreError::Unavailable { reason: code.to_owned() };
    }
    StoreError::Refused { code: code.to_owned(), message: answer.message().unwrap_or_default().to_owned() }
}

/// The last cause only: the outer ones repeat it in the SDK's words.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::error::ErrorMetadata;

    use super::*;

    fn answer(code: &str) -> ErrorMetadata {
        ErrorMetadata::builder().code(code).message("text").build()
    }

    #[test]
    fn throttling_carries_the_wait_that_was_asked_for_or_the_default() {
        for code in THROTTLING_CODES {
            let asked = classify_answer(&answer(code), 400, Some(" 250 "));
            assert_eq!(asked, StoreError::Throttled { retry_after_ms: 250 }, "{code}");
            let silent = classify_answer(&answer(code), 400, None);
            assert_eq!(silent, StoreError::Throttled { retry_after_ms: THROTTLED_RETRY_MS }, "{code}");
            assert!(silent.is_transient());
        }
    }

    #[test]
    fn a_failure_of_the_server_may_pass_and_a_refusal_does_not() {
        let failed = classify_answer(&answer("InternalServerError"), 500, None);
        assert_eq!(failed.kind(), Kind::Unavailable);
        let refused = classify_answer(&answer("ResourceNotFoundException"), 400, None);
        assert_eq!(refused.kind(), Kind::Internal);
        assert!(!refused.is_transient());
        assert_eq!(refused.to_string(), "the store refused the request: ResourceNotFoundException: text");
    }

    #[test]
    fn a_transaction_under_way_is_no_refusal() {
        for code in CONFLICT_CODES {
            let met = classify_answer(&answer(code), 400, None);
            assert_eq!(met, StoreError::Contended, "{code}");
            assert!(met.is_transient());
        }
    }

    #[test]
    fn no_answer_in_time_is_told_apart_from_no_connection() {
        let timeout = SdkError::<ErrorMetadata>::timeout_error("slow");
        assert_eq!(classify(&timeout), StoreError::Timeout);
        let unreachable = SdkError::<ErrorMetadata>::construction_failure("no credentials");
        assert_eq!(classify(&unreachable), StoreError::Unavailable { reason: String::from("no credentials") });
    }
}
