//! What may be used once: a token that says so of itself.

use crate::attribute::{WRITER, is_absent, is_text, n, new_writer, s, seconds};
use crate::client::Store;
use crate::error::{StoreError, fits};
use crate::key::Key;
use crate::table::EXPIRES_AT_S;
use crate::utterance::ID_BYTES_MAX;
use crate::write::{Change, Outcome};

impl Store {
    /// Spends an id: true for the first who does, false for everybody after. It is remembered until `expires_at_s`
    /// (seconds since the Unix epoch), which must be as late as anybody accepts what it stands for, leeway included:
    /// what has expired cannot be spent, as nothing would tell the second time from the first.
    ///
    /// # Errors
    /// When the table did not do it. It may be spent then, and must not be taken for unspent.
    pub async fn spend(&self, id: &str, expires_at_s: i64, now_ms: i64) -> Result<bool, StoreError> {
        fits("a one-time id", id.len(), ID_BYTES_MAX)?;
        let current_s = seconds(now_ms);
        if expires_at_s <= current_s {
            return Ok(false);
        }
        let spender = new_writer();
        let change = Change::new()
            .only_if(is_absent(WRITER))
            .set(WRITER, ":spender")
            .set(EXPIRES_AT_S, ":expires")
            .value(":spender", s(spender.clone()))
            .value(":expires", n(expires_at_s))
            .value(":now_s", n(current_s))
            .quietly();
        Ok(match self.change_item(&Key::one_time(id), change).await? {
            Outcome::Applied(_) => true,
            // The request was sent twice, and the first one arrived.
            Outcome::Refused(standing) => standing.is_some_and(|standing| is_text(&standing, WRITER, &spender)),
        })
    }
}
