//! Signed callbacks to the user's own systems: `kbSync` and `onAccept`.
//!
//! `POST` with a JSON body. `Idempotency-Key` is the event's id and stays the same whenever the event is sent again.
//! `Earpiece-Signature: t={seconds},v1={hex}` is the HMAC-SHA256, under the first configured secret, of the seconds, a
//! full stop, and the body as it was sent. A receiver computes it under each secret it knows, compares in constant
//! time, and refuses what is older than it likes. To rotate a secret: give the new one to the receiver, put it first
//! here, then take the old one away on both sides.

use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use earpiece_core::assist::interaction::Hooks;
use earpiece_core::assist::{Entry, Hook, Lane, Payload};
use earpiece_core::secret::Secret;
use earpiece_https::Client;
use earpiece_https::client::Limits;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};

use crate::clock::now_ms;
use crate::outbox::{Carrier, Delivery, Fate};
use crate::settings::Settings;

/// The header with the signature.
const SIGNATURE: HeaderName = HeaderName::from_static("earpiece-signature");
/// The header by which a receiver knows a repeat.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What one call may cost. Nothing in the answer is of interest.
const LIMITS: Limits = Limits { deadline: Duration::from_secs(10), answer_bytes_max: 64 * 1024 };

/// The lane of webhooks.
pub(crate) struct Webhooks {
    https: Client,
    kb_sync_url: Option<Secret>,
    on_accept_url: Option<Secret>,
    key: Option<hmac::Key>,
}

impl Webhooks {
    pub(crate) fn new(settings: &Settings, https: Client) -> Self {
        let signing = settings.webhook_secrets.first();
        Self {
            https,
            kb_sync_url: settings.kb_sync_url.clone(),
            on_accept_url: settings.on_accept_url.clone(),
            key: signing.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes())),
        }
    }

    /// Which of them anybody wants.
    pub(crate) const fn hooks(&self) -> Hooks {
        Hooks { kb_sync: self.kb_sync_url.is_some(), on_accept: self.on_accept_url.is_some() }
    }

    fn request(&self, hook: Hook, event_id: &str, body: Bytes, now_s: i64) -> Option<Request<Bytes>> {
        let url = match hook {
            Hook::KbSync => self.kb_sync_url.as_ref(),
            Hook::OnAccept => self.on_accept_url.as_ref(),
        };
        let signature = signature(self.key.as_ref()?, now_s, &body);
        Request::post(url?.reveal())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(IDEMPOTENCY_KEY, idempotency_key(event_id))
            .header(SIGNATURE, signature)
            .body(body)
            .ok()
    }
}

/// The event's id, or its digest where somebody put into a suggestion's id what no header may hold.
fn idempotency_key(event_id: &str) -> String {
    if event_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return event_id.to_owned();
    }
    format!("sha256:{}", hex(digest::digest(&digest::SHA256, event_id.as_bytes()).as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The signature header's value.
fn signature(key: &hmac::Key, now_s: i64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(now_s.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    format!("t={now_s},v1={}", hex(context.sign().as_ref()))
}

/// What an answer means.
fn judge(answer: &Response<Bytes>) -> Delivery {
    match answer.status() {
        status if status.is_success() => Delivery::Delivered,
        StatusCode::BAD_REQUEST
        | StatusCode::NOT_FOUND
        | StatusCode::CONFLICT
        | StatusCode::GONE
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Delivery::Never { reason: "refused" },
        _ => {
            let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let seconds = asked.and_then(|text| text.trim().parse().ok());
            Delivery::Again { after: seconds.map(Duration::from_secs) }
        }
    }
}

impl Carrier for Webhooks {
    const LANE: Lane = Lane::Webhooks;
    const CLAIM: Duration = Duration::from_secs(20);
    const GIVES_UP: bool = true;

    async fn carry(&self, entry: &Entry) -> Delivery {
        let Payload::Webhook { hook, event_id, body } = &entry.payload else {
            return Delivery::Never { reason: "lane" };
        };
        let body = Bytes::from(body.reveal().to_string());
        let Some(request) = self.request(*hook, event_id, body, now_ms() / 1000) else {
            // It was configured when the event happened, and is no more: an operator decides.
            return Delivery::Never { reason: "not_configured" };
        };
        match self.https.send(request, LIMITS).await {
            Ok(answer) => judge(&answer),
            Err(_) => Delivery::Again { after: None },
        }
    }

    fn settled(&self, _entry: &Entry, _fate: Fate) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_hmac_of_time_and_body_under_the_first_secret() {
        // Computed with another implementation: Python's `hmac`.
        let expected = "t=1700000000,v1=47d2ed314bb2ef3ed7c41300ba080226a6f9f7aa0c904791f652551937296bb1";
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef0123456789abcdef");
        let signed = signature(&key, 1_700_000_000, b"{\"event\":\"accepted\"}");
        assert_eq!(signed, expected);
    }

    #[test]
    fn a_repeat_has_the_same_key_whatever_the_suggestion_is_called() {
        assert_eq!(idempotency_key("7:s1:0:kbSync"), "7:s1:0:kbSync");
        for odd in ["7:é:0:kbSync", "7:a\r\nb:0:kbSync", "7:a b:0:kbSync"] {
            let key = idempotency_key(odd);
            assert!(HeaderValue::from_str(&key).is_ok() && key.starts_with("sha256:") && key.len() == 71, "{key}");
            assert_eq!(key, idempotency_key(odd));
        }
    }

    #[test]
    fn any_2xx_is_delivered_and_only_what_can_never_succeed_is_dead() {
        let answer = |status: u16| Response::builder().status(status).body(Bytes::new()).unwrap();
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(judge(&answer(status)), Delivery::Delivered, "{status}");
        }
        for status in [400, 404, 409, 410, 413, 415, 422] {
            assert_eq!(judge(&answer(status)), Delivery::Never { reason: "refused" }, "{status}");
        }
        for status in [301, 302, 401, 403, 408, 418, 429, 500, 502, 503] {
            assert_eq!(judge(&answer(status)), Delivery::Again { after: None }, "{status}");
        }
        let busy = Response::builder().status(429).header(RETRY_AFTER, "7").body(Bytes::new()).unwrap();
        assert_eq!(judge(&busy), Delivery::Again { after: Some(Duration::from_secs(7)) });
    }
}
