//! The signing keys of the token server. The private half and the public halves lie in partitions of their own, so that
//! a policy can let one function sign and all others only verify.
//!
//! The private half is one item, which is replaced: of many that would rotate at once exactly one does, in a
//! transaction that publishes the public half with it. Public halves stay until they expire.

use std::fmt;

use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};

use crate::attribute::{Item, is_absent, is_expired, is_text, is_unexpired, n, new_writer, number, required, s, text};
use crate::client::Store;
use crate::error::{StoreError, fits};
use crate::key::Key;
use crate::read::{Query, or_logged};
use crate::table::{EXPIRES_AT_S, JWKS_PARTITION};
use crate::transaction::{CONFLICT_PAUSES, Condition, Together, unbuilt};
use crate::utterance::ID_BYTES_MAX;

/// How large a key may be as JSON, in bytes.
pub const KEY_BYTES_MAX: usize = 16 * 1024;
/// How many public keys are read at most. Rotation leaves a handful.
pub const PUBLIC_KEYS_MAX: usize = 100;

const KID: &str = "kid";
const CREATED_AT_S: &str = "created_at_s";
const BODY: &str = "body";

/// One half of a signing key.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The name of the pair.
    pub kid: String,
    /// When the pair was made, in seconds since the Unix epoch.
    pub created_at_s: i64,
    /// The half itself, as JSON. It is a secret in one of the halves.
    pub body: String,
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("kid", &self.kid)
            .field("created_at_s", &self.created_at_s)
            .finish_non_exhaustive()
    }
}

/// The private half that signs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentKey {
    /// The half.
    pub key: StoredKey,
    /// When both halves expire, in seconds since the Unix epoch. A token that is good for longer than this would
    /// outlive the key that it is judged by.
    pub expires_at_s: i64,
}

impl Store {
    /// The private half that signs now; none when there is none, or when it has expired.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn signing_key(&self, now_s: i64) -> Result<Option<CurrentKey>, StoreError> {
        let item = self.item(&Key::signing()).await?;
        let Some(item) = item.filter(|item| !is_expired(item, now_s)) else { return Ok(None) };
        Ok(Some(CurrentKey { key: read(&item)?, expires_at_s: required(&item, EXPIRES_AT_S, number)? }))
    }

    /// The public halves of all pairs that have not expired, newest first; at most [`PUBLIC_KEYS_MAX`].
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn public_keys(&self, now_s: i64) -> Result<Vec<StoredKey>, StoreError> {
        let unexpired = |item: &Item| if is_expired(item, now_s) { None } else { or_logged(item, read(item)) };
        let mut keys = self.query(&Query::partition(JWKS_PARTITION), PUBLIC_KEYS_MAX, unexpired).await?;
        keys.sort_by(|one, other| (other.created_at_s, &other.kid).cmp(&(one.created_at_s, &one.kid)));
        Ok(keys)
    }

    /// Publishes a new pair and lets it sign, both until `expires_at_s` (seconds since the Unix epoch), in one
    /// transaction: only if `replaces` is what signs now, or nothing does. Of all that rotate at once exactly one gets
    /// true; the others read [`Store::signing_key`] again. The public half of the replaced pair stays until it expires.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when a key does not fit; otherwise when the table did not do it.
    pub async fn add_signing_key(
        &self,
        new_private: &StoredKey,
        public: &StoredKey,
        replaces: Option<&str>,
        expires_at_s: i64,
    ) -> Result<bool, StoreError> {
        for half in [new_private, public] {
            fits("a key", half.body.len(), KEY_BYTES_MAX)?;
            fits("the name of a key", half.kid.len(), ID_BYTES_MAX)?;
        }
        for pause in CONFLICT_PAUSES {
            if let Some(is_first) = self.try_signing_key(new_private, public, replaces, expires_at_s).await? {
                return Ok(is_first);
            }
            tokio::time::sleep(pause).await;
        }
        Err(StoreError::Contended)
    }

    /// `None` when another transaction was under way, which may yet fail.
    async fn try_signing_key(
        &self,
        new_private: &StoredKey,
        public: &StoredKey,
        replaces: Option<&str>,
        expires_at_s: i64,
    ) -> Result<Option<bool>, StoreError> {
        let head = self
            .half(&Key::signing(), new_private, expires_at_s)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .expression_attribute_values(":now_s", n(new_private.created_at_s));
        let head = match replaces {
            Some(kid) => head
                .condition_expression(format!("{KID} = :replaces AND ({})", is_unexpired()))
                .expression_attribute_values(":replaces", s(kid)),
            None => head.condition_expression(is_absent(KID)),
        };
        let published = self.half(&Key::public_key(&public.kid), public, expires_at_s);
        let writes = [head, published].map(|put| {
            let put = put.build().map_err(|error| unbuilt(&error))?;
            Ok(TransactWriteItem::builder().put(put).build())
        });
        let writes = writes.into_iter().collect::<Result<_, StoreError>>()?;
        Ok(match self.write_together(writes, &new_writer()).await? {
            Together::Applied => Some(true),
            Together::Refused(conditions) => Some(is_standing(&conditions, &new_private.kid)),
            Together::Conflict => None,
        })
    }

    fn half(&self, key: &Key, half: &StoredKey, expires_at_s: i64) -> aws_sdk_dynamodb::types::builders::PutBuilder {
        let mut item = key.to_item();
        item.extend([
            (KID.to_owned(), s(half.kid.clone())),
            (CREATED_AT_S.to_owned(), n(half.created_at_s)),
            (BODY.to_owned(), s(half.body.clone())),
            (EXPIRES_AT_S.to_owned(), n(expires_at_s)),
        ]);
        Put::builder().table_name(&*self.table).set_item(Some(item))
    }
}

/// A transaction that was refused for what signs now is lost to another, unless it was sent twice and the first one
/// arrived.
fn is_standing(conditions: &[Condition], kid: &str) -> bool {
    conditions.iter().any(|condition| matches!(condition, Condition::Failed(Some(item)) if is_text(item, KID, kid)))
}

fn read(item: &Item) -> Result<StoredKey, StoreError> {
    Ok(StoredKey {
        kid: required(item, KID, text)?,
        created_at_s: required(item, CREATED_AT_S, number)?,
        body: required(item, BODY, text)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_print_itself() {
        let key = StoredKey { kid: String::from("k1"), created_at_s: 1, body: String::from("hunter2") };
        assert_eq!(format!("{key:?}"), r#"StoredKey { kid: "k1", created_at_s: 1, .. }"#);
    }
}
