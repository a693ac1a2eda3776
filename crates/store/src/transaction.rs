//! Several items are written together or not at all.

use std::time::Duration;

use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{CancellationReason, TransactWriteItem};

use crate::attribute::Item;
use crate::client::Store;
use crate::error::{StoreError, THROTTLED_RETRY_MS, classify};

/// How many items DynamoDB writes together at most.
pub(crate) const WRITES_MAX: usize = 100;

/// The pauses after each try that met another transaction. The last is followed by [`StoreError::Contended`].
pub(crate) const CONFLICT_PAUSES: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(90),
    Duration::from_millis(270),
    Duration::ZERO,
];

/// Why a transaction is cancelled that was too much for the table or the account. The codes are not those of other
/// requests.
const THROTTLING_REASONS: [&str; 3] = ["ProvisionedThroughputExceeded", "ThrottlingError", "RequestLimitExceeded"];

/// What became of a transaction.
#[derive(Debug, PartialEq)]
pub(crate) enum Together {
    /// Every condition held, and every write is made.
    Applied,
    /// Conditions failed, and no write is made. For each write in turn, what became of its own condition.
    Refused(Vec<Condition>),
    /// Another transaction wrote one of the items at that moment, and may yet fail.
    Conflict,
}

/// What became of the condition of one write.
#[derive(Debug, PartialEq)]
pub(crate) enum Condition {
    /// It held, or was not looked at, as another had failed.
    Held,
    /// It failed; this is the item as it stands, if there is one and the write asked for it.
    Failed(Option<Item>),
}

impl Store {
    /// Makes all of these writes, at most [`WRITES_MAX`], or none. The `token`, at most 36 characters that belong to
    /// these writes alone, makes a request that is sent twice count once: DynamoDB remembers it for ten minutes.
    pub(crate) async fn write_together(
        &self,
        writes: Vec<TransactWriteItem>,
        token: &str,
    ) -> Result<Together, StoreError> {
        for pause in CONFLICT_PAUSES {
            let turn = self.turn().await?;
            let sent = self
                .client
                .transact_write_items()
                .set_transact_items(Some(writes.clone()))
                .client_request_token(token)
                .send()
                .await;
            drop(turn);
            let Err(error) = sent else { return Ok(Together::Applied) };
            if !is_in_progress(&error) {
                return judge(&error);
            }
            // The first copy of a request that was sent twice: its end is ours.
            tokio::time::sleep(pause).await;
        }
        Err(StoreError::Timeout)
    }
}

/// What a writer of a transaction forgot.
pub(crate) fn unbuilt(error: &BuildError) -> StoreError {
    StoreError::Refused { code: String::from("BuildError"), message: error.to_string() }
}

fn is_in_progress(error: &SdkError<TransactWriteItemsError>) -> bool {
    error.as_service_error().is_some_and(TransactWriteItemsError::is_transaction_in_progress_exception)
}

/// A failed condition decides, whatever else was wrong. One that was throttled is none of the table's refusals, though
/// it comes in the same words.
fn judge(error: &SdkError<TransactWriteItemsError>) -> Result<Together, StoreError> {
    let reasons = match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled.cancellation_reasons(),
        _ => &[],
    };
    let has_code = |wanted: &str| reasons.iter().any(|reason| reason.code() == Some(wanted));
    if has_code("ConditionalCheckFailed") {
        return Ok(Together::Refused(reasons.iter().map(condition).collect()));
    }
    if has_code("TransactionConflict") {
        return Ok(Together::Conflict);
    }
    if THROTTLING_REASONS.into_iter().any(has_code) {
        return Err(StoreError::Throttled { retry_after_ms: THROTTLED_RETRY_MS });
    }
    Err(classify(error))
}

fn condition(reason: &CancellationReason) -> Condition {
    if reason.code() != Some("ConditionalCheckFailed") {
        return Condition::Held;
    }
    // An endpoint may answer "no item" as an empty one.
    Condition::Failed(reason.item().filter(|item| !item.is_empty()).cloned())
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::config::http::HttpResponse;
    use aws_sdk_dynamodb::types::error::TransactionCanceledException;

    use super::*;

    /// What becomes of a transaction that is cancelled for these reasons, one for each of its writes.
    fn cancelled(codes: [&str; 2]) -> Result<Together, StoreError> {
        let reasons = codes.map(|code| CancellationReason::builder().code(code).build());
        let exception = TransactionCanceledException::builder()
            .set_cancellation_reasons(Some(reasons.to_vec()))
            .meta(aws_sdk_dynamodb::error::ErrorMetadata::builder().code("TransactionCanceledException").build())
            .build();
        let error = TransactWriteItemsError::TransactionCanceledException(exception);
        judge(&SdkError::service_error(error, HttpResponse::new(400.try_into().unwrap(), "".into())))
    }

    #[test]
    fn a_transaction_that_was_throttled_may_succeed_later_and_is_no_refusal() {
        for code in THROTTLING_REASONS {
            for codes in [[code, "None"], ["None", code]] {
                let throttled = cancelled(codes).unwrap_err();
                assert_eq!(throttled, StoreError::Throttled { retry_after_ms: THROTTLED_RETRY_MS }, "{codes:?}");
                assert!(throttled.is_transient());
            }
        }
        let refused = cancelled(["None", "ValidationError"]).unwrap_err();
        assert!(matches!(&refused, StoreError::Refused { code, .. } if code == "TransactionCanceledException"));
    }

    #[test]
    fn a_failed_condition_decides_and_a_conflict_is_tried_again_whatever_else_was_wrong() {
        let refused = Together::Refused(vec![Condition::Failed(None), Condition::Held]);
        assert_eq!(cancelled(["ConditionalCheckFailed", "ThrottlingError"]), Ok(refused));
        assert_eq!(cancelled(["TransactionConflict", "ThrottlingError"]), Ok(Together::Conflict));
    }
}
