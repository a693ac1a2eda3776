//! Who gets tokens from us. A client is known by the digest of its secret, so the configuration holds no secret; since
//! the digest is a plain SHA-256, secrets are to be long and random, and not chosen by people.

use earpiece_core::contact::ContactKey;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::scope::Scope;

/// Clients in one configuration.
const CLIENTS_MAX: usize = 64;
/// Secrets of one client: an old one and a new one, and room for a mistake.
const SECRETS_MAX: usize = 4;
/// Length of a client's id.
const ID_BYTES_MAX: usize = 128;

/// Somebody who may ask for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its `client_id`, and the `sub` of its tokens.
    pub id: String,
    /// SHA-256 digests of its secrets; several, so that they can be rotated.
    pub secret_sha256: Vec<[u8; 32]>,
    /// What its tokens may be good for.
    pub scopes: Vec<Scope>,
    /// The one business unit that its tokens are bound to.
    pub bus_no: Option<u64>,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients {
    clients: Vec<Client>,
}

/// As it stands in the configuration. Unknown names are refused: a misspelt `busNo` would unbind a client.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    id: String,
    secret_sha256: Vec<String>,
    scope: String,
    #[serde(default)]
    bus_no: Option<u64>,
}

impl Client {
    /// Whether its tokens may be bound to a contact.
    #[must_use]
    pub fn may_name(&self, contact: &ContactKey) -> bool {
        self.bus_no.is_none_or(|bus_no| bus_no == contact.bus_no)
    }
}

impl Clients {
    /// Reads a JSON array such as
    /// `[{"id":"studio","secretSha256":["<64 hexadecimal digits>"],"scope":"utterances events","busNo":4595000}]`.
    ///
    /// # Errors
    ///
    /// What is wrong, in words that go after the name of the setting and repeat no value but an id.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The reason that the JSON reader gives repeats values.
        let written: Vec<Written> = serde_json::from_str(text).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            format!("must be a JSON array of objects with id, secretSha256, scope and perhaps busNo (see {place})")
        })?;
        if written.len() > CLIENTS_MAX {
            return Err(format!("has {} clients, and {CLIENTS_MAX} are allowed", written.len()));
        }
        let mut clients: Vec<Client> = Vec::with_capacity(written.len());
        for (index, client) in written.into_iter().enumerate() {
            let client = client.judged(index + 1)?;
            if clients.iter().any(|other| other.id == client.id) {
                return Err(format!("names the client {} twice", client.id));
            }
            clients.push(client);
        }
        Ok(Self { clients })
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The client with this id and this secret. Every client is compared, and every one of its secrets, and all of them
    /// in constant time: how long it takes says neither whether an id is known nor how near a secret came.
    #[must_use]
    pub fn check(&self, id: &str, secret: &str) -> Option<&Client> {
        let id: [u8; 32] = Sha256::digest(id).into();
        let secret: [u8; 32] = Sha256::digest(secret).into();
        let mut is_found = Choice::from(0);
        let mut place = 0_u64;
        for (index, client) in (0_u64..).zip(&self.clients) {
            let candidate: [u8; 32] = Sha256::digest(&client.id).into();
            let mut has_secret = Choice::from(0);
            for digest in &client.secret_sha256 {
                has_secret |= digest.ct_eq(&secret);
            }
            let is_this = candidate.ct_eq(&id) & has_secret;
            place.conditional_assign(&index, is_this);
            is_found |= is_this;
        }
        if bool::from(is_found) { self.clients.get(usize::try_from(place).ok()?) } else { None }
    }
}

impl Written {
    fn judged(self, number: usize) -> Result<Client, String> {
        if self.id.is_empty() || self.id.len() > ID_BYTES_MAX || self.id.chars().any(char::is_control) {
            return Err(format!("has an id in client {number} that is not 1 to {ID_BYTES_MAX} bytes of plain text"));
        }
        let id = self.id;
        if self.secret_sha256.is_empty() || self.secret_sha256.len() > SECRETS_MAX {
            return Err(format!("must have 1 to {SECRETS_MAX} entries in secretSha256 of the client {id}"));
        }
        let no_secret: [u8; 32] = Sha256::digest("").into();
        let digests =
            self.secret_sha256.iter().map(|digits| digest_from_hex(digits).filter(|digest| *digest != no_secret));
        let secret_sha256 = digests.collect::<Option<Vec<_>>>().ok_or_else(|| {
            format!("must have 64 hexadecimal digits, the SHA-256 of a secret, in secretSha256 of the client {id}")
        })?;
        let scopes = self.scope.split_ascii_whitespace().map(Scope::parse).collect::<Option<Vec<_>>>();
        let scopes = scopes.filter(|scopes| !scopes.is_empty()).ok_or_else(|| {
            format!("must have words out of `{}` in scope of the client {id}", Scope::list(&Scope::ALL))
        })?;
        Ok(Client { id, secret_sha256, scopes, bus_no: self.bus_no })
    }
}

fn digest_from_hex(digits: &str) -> Option<[u8; 32]> {
    earpiece_core::access::digest_from_hex(digits.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::hex;

    fn digest(secret: &str) -> String {
        hex(&Sha256::digest(secret))
    }

    fn two() -> Clients {
        let text = format!(
            r#"[{{"id":"studio","secretSha256":["{}","{}"],"scope":"utterances events","busNo":4}},
               {{"id":"page","secretSha256":["{}"],"scope":"listen"}}]"#,
            digest("old"),
            digest("new").to_uppercase(),
            digest("other")
        );
        Clients::parse(&text).unwrap()
    }

    #[test]
    fn a_client_is_found_by_its_id_and_any_of_its_secrets() {
        let clients = two();
        for secret in ["old", "new"] {
            let studio = clients.check("studio", secret).unwrap();
            assert_eq!((studio.id.as_str(), studio.bus_no), ("studio", Some(4)));
            assert_eq!(studio.scopes, [Scope::Utterances, Scope::Events]);
        }
        let page = clients.check("page", "other").unwrap();
        assert!(page.may_name(&ContactKey { bus_no: 9, contact_id: 1 }));
        assert!(!clients.check("studio", "old").unwrap().may_name(&ContactKey { bus_no: 9, contact_id: 1 }));
    }

    #[test]
    fn nobody_else_is_found() {
        let clients = two();
        for (id, secret) in [
            ("studio", "other"),
            ("page", "old"),
            ("studio", ""),
            ("", ""),
            ("nobody", "old"),
            ("Studio", "old"),
            ("studio", &digest("old")),
        ] {
            assert_eq!(clients.check(id, secret), None, "{id}");
        }
        assert_eq!(Clients::default().check("studio", "old"), None);
    }

    #[test]
    fn every_fault_is_told_without_repeating_a_value() {
        let good = digest("x");
        let one = |fields: &str| format!("[{{{fields}}}]");
        let many = vec![format!(r#"{{"id":"a","secretSha256":["{good}"],"scope":"audio"}}"#); CLIENTS_MAX + 1];
        for (text, expected) in [
            ("hunter2".to_owned(), "must be a JSON array"),
            (one(r#""id":"a","secretSha256":"hunter2","scope":"audio""#), "must be a JSON array"),
            (one(&format!(r#""id":"a","secretSha256":["{good}"],"scope":"audio","busno":4"#)), "must be a JSON array"),
            (one(&format!(r#""id":"a","secretSha256":["{good}"],"scope":"audio","busNo":-4"#)), "must be a JSON array"),
            (one(&format!(r#""id":"","secretSha256":["{good}"],"scope":"audio""#)), "has an id in client 1"),
            (one(r#""id":"a","secretSha256":[],"scope":"audio""#), "must have 1 to 4 entries"),
            (one(r#""id":"a","secretSha256":["hunter2"],"scope":"audio""#), "must have 64 hexadecimal digits"),
            (
                one(&format!(r#""id":"a","secretSha256":["{}"],"scope":"audio""#, digest(""))),
                "must have 64 hexadecimal",
            ),
            (one(&format!(r#""id":"a","secretSha256":["{good}"],"scope":"hunter2""#)), "must have words out of"),
            (one(&format!(r#""id":"a","secretSha256":["{good}"],"scope":"""#)), "must have words out of"),
            (format!("[{}]", many.join(",")), "has 65 clients"),
            (format!("[{}]", many[..2].join(",")), "names the client a twice"),
        ] {
            let fault = Clients::parse(&text).unwrap_err();
            assert!(fault.starts_with(expected), "{fault}");
            assert!(!fault.contains("hunter2") && !fault.contains(&good), "{fault}");
        }
        assert!(Clients::parse("[]").unwrap().is_empty());
    }
}
