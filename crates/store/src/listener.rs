//! Which connections listen to a contact's events.

use earpiece_core::contact::ContactKey;

use crate::attribute::{Item, expiry_s, is_expired, n, seconds};
use crate::client::Store;
use crate::error::{StoreError, classify, fits};
use crate::key::{Key, LISTENER_PREFIX, partition_of};
use crate::read::Query;
use crate::table::{EXPIRES_AT_S, SORT_KEY};
use crate::utterance::ID_BYTES_MAX;
use crate::write::Change;

impl Store {
    /// Lets a connection listen to a contact, known or not, for `life_ms`. Doing it again renews it.
    ///
    /// # Errors
    /// When the table did not do it.
    pub async fn listen(
        &self,
        contact: &ContactKey,
        connection_id: &str,
        now_ms: i64,
        life_ms: u64,
    ) -> Result<(), StoreError> {
        fits("a connection id", connection_id.len(), ID_BYTES_MAX)?;
        let change = Change::new().set(EXPIRES_AT_S, ":expires").value(":expires", n(expiry_s(now_ms, life_ms)));
        self.change_item(&Key::listener(contact, connection_id), change.quietly()).await?;
        Ok(())
    }

    /// Lets a connection listen to a contact no more. That it did not is no error.
    ///
    /// # Errors
    /// When the table did not do it.
    pub async fn unlisten(&self, contact: &ContactKey, connection_id: &str) -> Result<(), StoreError> {
        let _turn = self.turn().await?;
        self.client
            .delete_item()
            .table_name(&*self.table)
            .set_key(Some(Key::listener(contact, connection_id).to_item()))
            .send()
            .await
            .map_err(|error| classify(&error))?;
        Ok(())
    }

    /// At most `limit` connections that listen to a contact, by id.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn listeners(&self, contact: &ContactKey, now_ms: i64, limit: usize) -> Result<Vec<String>, StoreError> {
        let query = Query::prefix(&partition_of(contact), LISTENER_PREFIX);
        let unexpired = |item: &Item| if is_expired(item, seconds(now_ms)) { None } else { connection_of(item) };
        self.query(&query, limit, unexpired).await
    }
}

fn connection_of(item: &Item) -> Option<String> {
    item.get(SORT_KEY)?.as_s().ok()?.strip_prefix(LISTENER_PREFIX).map(str::to_owned)
}
