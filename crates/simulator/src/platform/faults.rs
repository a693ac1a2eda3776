//! What goes wrong, on purpose: where, how, how often and for how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Uplink;

/// Faults that may wait at one time.
pub const FAULTS_MAX: usize = 1_000;

/// How long a frame that is to be overtaken waits for the next one, unless the fault says otherwise.
const REORDER_WAIT: Duration = Duration::from_millis(200);

/// Where something goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    /// The knowledge search.
    Search,
    /// Posting insights.
    Insights,
    /// Posting feedback.
    Feedback,
    /// Posting popup cards.
    Cards,
    /// Every way to get a token.
    Token,
    /// Suggestion sockets.
    Suggestions,
    /// Insight streams.
    InsightsStream,
    /// Interaction streams.
    InteractionsStream,
}

impl On {
    /// The socket that is meant, if it is one.
    #[must_use]
    pub const fn uplink(self) -> Option<Uplink> {
        match self {
            Self::Suggestions => Some(Uplink::Suggestions),
            Self::InsightsStream => Some(Uplink::Insights),
            Self::InteractionsStream => Some(Uplink::Interactions),
            Self::Search | Self::Insights | Self::Feedback | Self::Cards | Self::Token => None,
        }
    }
}

impl From<Uplink> for On {
    fn from(uplink: Uplink) -> Self {
        match uplink {
            Uplink::Suggestions => Self::Suggestions,
            Uplink::Insights => Self::InsightsStream,
            Uplink::Interactions => Self::InteractionsStream,
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultKind {
    /// The request, or the upgrade of a socket, is answered 429.
    #[serde(rename = "429")]
    TooManyRequests,
    /// The request, or the upgrade of a socket, is answered 503.
    #[serde(rename = "503")]
    Unavailable,
    /// What was done is answered late; a socket sends late, and reads nothing meanwhile.
    Slow,
    /// Half of the answer, then the end of the connection; what was asked for is done. A socket is shut in the direction
    /// to its client, without a close frame, and read on.
    HalfClose,
    /// The socket is closed with 1011.
    #[serde(rename = "close1011")]
    Close1011,
    /// The connection ends without an answer (what was asked for is done) or a close frame (the client sees 1006).
    Abort,
    /// A good token or credential is refused: 401, or `auth.failure`.
    AuthFailure,
    /// Frames are sent twice.
    Duplicate,
    /// Frames are overtaken by the next one.
    Reorder,
    /// The token that came with the request is revoked, which is answered 401; the token of a socket is revoked and the
    /// socket closed with 1008.
    Revoke,
    /// The socket stays open, but neither hears nor says anything any more: pings too are left without an answer.
    Deaf,
}

impl FaultKind {
    /// Whether this can happen there.
    #[must_use]
    pub const fn applies(self, on: On) -> bool {
        match self {
            Self::TooManyRequests
            | Self::Unavailable
            | Self::Slow
            | Self::HalfClose
            | Self::Abort
            | Self::AuthFailure => true,
            Self::Close1011 | Self::Duplicate | Self::Reorder | Self::Deaf => on.uplink().is_some(),
            Self::Revoke => !matches!(on, On::Token),
        }
    }

    /// Whether it ends a socket that is open.
    pub(crate) const fn ends_a_socket(self) -> bool {
        matches!(self, Self::HalfClose | Self::Close1011 | Self::Abort | Self::Revoke | Self::Deaf)
    }

    /// Whether it changes how a socket sends its frames.
    pub(crate) const fn bends_frames(self) -> bool {
        matches!(self, Self::Slow | Self::Duplicate | Self::Reorder)
    }

    /// Whether it keeps a socket from being opened.
    pub(crate) const fn refuses_an_upgrade(self) -> bool {
        matches!(self, Self::TooManyRequests | Self::Unavailable)
    }
}

/// Something that is to go wrong. Without `times` and `for_ms` it happens once; with both until either is used up.
///
/// `times` counts requests, frames, or sockets, whatever is hit. What ends a socket hits those that are open at once,
/// the newest first, and then those that are opened later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub on: On,
    /// What.
    pub kind: FaultKind,
    /// How often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// For how long, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// What `Retry-After` says with a 429 or 503, in seconds; without it the header is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// How slow [`FaultKind::Slow`] is (default: a second), or how long [`FaultKind::Reorder`] waits for a frame that
    /// could overtake, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

impl Fault {
    /// A fault that happens once.
    #[must_use]
    pub const fn once(on: On, kind: FaultKind) -> Self {
        Self { on, kind, times: None, for_ms: None, retry_after_s: None, delay_ms: None }
    }

    /// The same fault this many times.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The same fault for so long.
    #[must_use]
    pub const fn for_ms(mut self, for_ms: u64) -> Self {
        self.for_ms = Some(for_ms);
        self
    }

    /// The same fault with a `Retry-After`.
    #[must_use]
    pub const fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The same fault with a delay.
    #[must_use]
    pub const fn delay_ms(mut self, delay_ms: u64) -> Self {
        self.delay_ms = Some(delay_ms);
        self
    }

    pub(crate) fn slowness(&self) -> Duration {
        Duration::from_millis(self.delay_ms.unwrap_or(1_000))
    }

    pub(crate) fn reorder_wait(&self) -> Duration {
        self.delay_ms.map_or(REORDER_WAIT, Duration::from_millis)
    }
}

/// Why a fault was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// It cannot happen there.
    #[error("this kind of fault cannot happen there")]
    DoesNotApply,
    /// [`FAULTS_MAX`] are waiting.
    #[error("too many faults are waiting")]
    TooMany,
}

/// The faults that are waiting to happen.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Waiting>);

#[derive(Debug)]
struct Waiting {
    fault: Fault,
    left: Option<u32>,
    until: Option<Instant>,
}

impl Waiting {
    fn is_over(&self, now: Instant) -> bool {
        self.left == Some(0) || self.until.is_some_and(|until| now >= until)
    }
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault, now: Instant) -> Result<(), FaultError> {
        if !fault.kind.applies(fault.on) {
            return Err(FaultError::DoesNotApply);
        }
        self.0.retain(|waiting| !waiting.is_over(now));
        if self.0.len() >= FAULTS_MAX {
            return Err(FaultError::TooMany);
        }
        let left = fault.times.or_else(|| fault.for_ms.is_none().then_some(1));
        let until = fault.for_ms.and_then(|for_ms| now.checked_add(Duration::from_millis(for_ms)));
        self.0.push(Waiting { fault, left, until });
        Ok(())
    }

    /// Whether the next fault of this sort happens there now. The oldest that is waiting goes first.
    pub(crate) fn take(&mut self, on: On, sort: impl Fn(FaultKind) -> bool) -> Option<Fault> {
        if self.0.is_empty() {
            return None;
        }
        let now = Instant::now();
        self.0.retain(|waiting| !waiting.is_over(now));
        let waiting = self.0.iter_mut().find(|waiting| waiting.fault.on == on && sort(waiting.fault.kind))?;
        if let Some(left) = &mut waiting.left {
            *left -= 1;
        }
        Some(waiting.fault)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// What is waiting, with how often it will still happen.
    pub(crate) fn waiting(&self) -> Vec<Fault> {
        let now = Instant::now();
        let live = self.0.iter().filter(|waiting| !waiting.is_over(now));
        live.map(|waiting| Fault { times: waiting.left, ..waiting.fault }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Fault = Fault::once(On::Search, FaultKind::Slow);

    fn any(_: FaultKind) -> bool {
        true
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_happens_as_often_and_as_long_as_told() {
        let mut faults = Faults::default();
        faults.add(SLOW, Instant::now()).unwrap();
        assert!(faults.take(On::Cards, any).is_none(), "elsewhere");
        assert!(faults.take(On::Search, FaultKind::ends_a_socket).is_none(), "another sort");
        assert!(faults.take(On::Search, any).is_some());
        assert!(faults.take(On::Search, any).is_none(), "once");

        faults.add(SLOW.times(2).for_ms(1_000), Instant::now()).unwrap();
        assert!(faults.take(On::Search, any).is_some());
        assert_eq!(faults.waiting(), [SLOW.times(1).for_ms(1_000)]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(faults.take(On::Search, any).is_none(), "its time is over");

        faults.add(SLOW.for_ms(1_000), Instant::now()).unwrap();
        assert!((0..100).all(|_| faults.take(On::Search, any).is_some()));
        faults.clear();
        assert!(faults.take(On::Search, any).is_none());
    }

    #[tokio::test]
    async fn faults_are_bounded_and_only_taken_where_they_can_happen() {
        let mut faults = Faults::default();
        for (on, kind) in [
            (On::Cards, FaultKind::Duplicate),
            (On::Token, FaultKind::Revoke),
            (On::Search, FaultKind::Close1011),
            (On::Feedback, FaultKind::Deaf),
        ] {
            assert_eq!(faults.add(Fault::once(on, kind), Instant::now()), Err(FaultError::DoesNotApply));
        }
        for _ in 0..FAULTS_MAX {
            faults.add(SLOW, Instant::now()).unwrap();
        }
        assert_eq!(faults.add(SLOW, Instant::now()), Err(FaultError::TooMany));
    }

    #[test]
    fn the_words_of_the_control_interface_are_read() {
        let text = r#"{"on":"insights-stream","kind":"close1011","times":2,"forMs":5,"retryAfterS":6,"delayMs":7}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        let expected = Fault::once(On::InsightsStream, FaultKind::Close1011).times(2).for_ms(5).retry_after_s(6);
        assert_eq!(fault, expected.delay_ms(7));
        for kind in
            ["429", "503", "slow", "halfClose", "abort", "authFailure", "duplicate", "reorder", "revoke", "deaf"]
        {
            let text = format!(r#"{{"on":"suggestions","kind":"{kind}"}}"#);
            assert!(serde_json::from_str::<Fault>(&text).is_ok(), "{kind}");
        }
        assert!(serde_json::from_str::<Fault>(r#"{"on":"cards","kind":"429","time":1}"#).is_err());
    }
}
