//! Pages that listen to a contact: `{"action": "subscribe" | "unsubscribe", "busNo", "contactId"}`.

use earpiece_access::{Scope, Wanted};
use earpiece_core::contact::ContactKey;
use earpiece_core::error::{Fault, Kind};
use earpiece_core::secret::Secret;
use serde_json::{Value, json};

use super::document::Step;
use super::limits::LISTENING_MAX;
use super::visit::Visit;
use super::{Outcome, Rooms, away};
use crate::clock::as_ms;

/// What becomes of a wish to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Granted,
    TooMany,
    Gone,
}

impl Rooms {
    /// A message with an `action`.
    pub(super) async fn act(&self, visit: &Visit, message: &Value) -> Outcome {
        let action = match message.get("action").and_then(Value::as_str) {
            Some("subscribe") => Scope::Listen,
            Some("unsubscribe") => return self.unsubscribe(visit, message).await,
            _ => {
                let fault = Fault::new(Kind::Unsupported, "`action` must be `subscribe` or `unsubscribe`");
                return self.object(visit, &fault).await;
            }
        };
        let contact = match contact_of(message) {
            Ok(contact) => contact,
            Err(fault) => return self.object(visit, &fault).await,
        };
        let page = self.page(visit).await?;
        let wanted = Wanted { scope: action, contact: Some(contact), now_s: visit.now_ms / 1000 };
        let token = message.get("authenticationToken").and_then(Value::as_str).map(Secret::new);
        if let Err(fault) = self.may(visit, page.document.grant.as_ref(), token.as_ref(), &wanted).await {
            return self.object(visit, &fault).await;
        }
        let wish = self.change(visit, page, |document| {
            let listening = &mut document.listening;
            match () {
                () if document.connection.is_gone() => (Step::Same, Wish::Gone),
                () if listening.contains(&contact) => (Step::Same, Wish::Granted),
                () if listening.len() >= LISTENING_MAX => (Step::Same, Wish::TooMany),
                () => {
                    listening.push(contact);
                    (Step::Changed, Wish::Granted)
                }
            }
        });
        match wish.await?.1 {
            Wish::Granted => self.listen(visit, contact).await,
            Wish::TooMany => {
                let text = format!("one connection listens to at most {LISTENING_MAX} contacts");
                self.object(visit, &Fault::new(Kind::Overloaded, text)).await
            }
            Wish::Gone => Ok(()),
        }
    }

    /// The document names the contact already, so whoever sees the connection out will undo this. If somebody did while
    /// it was being done, it is undone here.
    async fn listen(&self, visit: &Visit, contact: ContactKey) -> Outcome {
        let store = &self.parts.store;
        let memory_ms = as_ms(self.parts.limits.memory);
        let listed = store.listen(&contact, &visit.connection, visit.now_ms, memory_ms).await;
        listed.map_err(|error| away("listen", &error))?;
        let page = self.page(visit).await?;
        if page.document.connection.is_gone() || !page.document.listening.contains(&contact) {
            return store.unlisten(&contact, &visit.connection).await.map_err(|error| away("unlisten", &error));
        }
        self.count("listening");
        self.say(visit, &answer("subscribed", contact)).await
    }

    async fn unsubscribe(&self, visit: &Visit, message: &Value) -> Outcome {
        let contact = match contact_of(message) {
            Ok(contact) => contact,
            Err(fault) => return self.object(visit, &fault).await,
        };
        let page = self.page(visit).await?;
        // First the list, then its entry elsewhere: an entry without a mention would outlive the connection.
        let unlisted = self.parts.store.unlisten(&contact, &visit.connection).await;
        unlisted.map_err(|error| away("unlisten", &error))?;
        self.change(visit, page, |document| {
            let before = document.listening.len();
            document.listening.retain(|listening| *listening != contact);
            (if document.listening.len() == before { Step::Same } else { Step::Changed }, ())
        })
        .await?;
        self.say(visit, &answer("unsubscribed", contact)).await
    }
}

fn answer(kind: &str, contact: ContactKey) -> String {
    json!({ "type": kind, "busNo": contact.bus_no, "contactId": contact.contact_id }).to_string()
}

/// Whole numbers, or text that is one: 64 bits are too many for a number in a page.
fn contact_of(message: &Value) -> Result<ContactKey, Fault> {
    let number = |name: &str| {
        let read = match message.get(name) {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        read.ok_or_else(|| Fault::new(Kind::BadInput, format!("`{name}` must be a whole number of at most 64 bits")))
    };
    Ok(ContactKey { bus_no: number("busNo")?, contact_id: number("contactId")? })
}
