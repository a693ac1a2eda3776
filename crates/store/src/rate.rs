//! How often a business unit asks.

use crate::attribute::{n, seconds};
use crate::client::Store;
use crate::error::StoreError;
use crate::key::Key;
use crate::table::EXPIRES_AT_S;
use crate::write::{Change, Outcome};

/// For how long a window is remembered after its start, in milliseconds: longer than any two clocks differ.
const REMEMBERED_MS: i64 = 300_000;
const REQUESTS: &str = "requests";

impl Store {
    /// Counts a request of a business unit in the window that starts at `second` (seconds since the Unix epoch), unless
    /// `max` were counted before: then false. However many ask at once, exactly `max` are told true; only a request
    /// whose answer got lost, and which the SDK sent again, may count twice.
    ///
    /// # Errors
    /// When the table did not do it.
    pub async fn count_request(&self, bus_no: u64, second: i64, max: u32) -> Result<bool, StoreError> {
        if max == 0 {
            return Ok(false);
        }
        let expires_at_s = second.saturating_add(seconds(REMEMBERED_MS));
        let change = Change::new()
            .only_if(format!("attribute_not_exists({REQUESTS}) OR {REQUESTS} < :max"))
            .set(REQUESTS, &format!("if_not_exists({REQUESTS}, :zero) + :one"))
            .set(EXPIRES_AT_S, ":expires")
            .value(":max", n(max))
            .value(":zero", n(0))
            .value(":expires", n(expires_at_s))
            .quietly();
        let outcome = self.change_item(&Key::rate(bus_no, second), change).await?;
        Ok(matches!(outcome, Outcome::Applied(_)))
    }
}
