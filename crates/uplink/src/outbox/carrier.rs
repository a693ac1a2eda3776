//! What carries the entries of a lane to their receiver, and what it tells of each.

use std::time::Duration;

use earpiece_core::assist::interaction::{Context, OnFailure};
use earpiece_core::assist::{Effects, Entry, Interaction, Lane, Payload};
use earpiece_cxone::CxoneError;
use tracing::error;

/// What came of carrying an entry to its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The receiver has it.
    Delivered,
    /// It is on its way, and the receiver has not said yet that it has it: [`Carrier::confirmed`] will tell.
    Unconfirmed,
    /// Another attempt may succeed, after the pause that the receiver asked for.
    Again {
        /// The pause, if one was asked for.
        after: Option<Duration>,
    },
    /// No attempt will succeed: a word for the dead letter.
    Never {
        /// The word.
        reason: &'static str,
    },
    /// The receiver takes nothing at present, whatever is asked: a limit, or an outage. That is no attempt.
    Shut {
        /// For how long.
        after: Duration,
    },
    /// There was no way to the receiver. That is no attempt; it is carried when there is one again.
    NoWay,
}

impl Delivery {
    /// What an answer of CXone means for an entry.
    pub(crate) fn of(lane: Lane, answer: Result<(), CxoneError>) -> Self {
        let Err(problem) = answer else { return Self::Delivered };
        if matches!(problem, CxoneError::Forbidden { .. } | CxoneError::Unauthorized | CxoneError::NotConfigured { .. })
        {
            error!(lane = lane.label(), %problem, "CXone does not take what has to leave; somebody has to act");
        }
        match problem {
            // A storm or an outage uses up nobody's attempts, however long it lasts.
            CxoneError::RateLimited { retry_after } | CxoneError::CircuitOpen { retry_after } => {
                Self::Shut { after: retry_after }
            }
            // The operator has to act, and then brings the letter back; trying on would only hammer.
            CxoneError::Forbidden { .. } => Self::Never { reason: "forbidden" },
            CxoneError::Refused { .. } => Self::Never { reason: "refused" },
            // Credentials may be in rotation.
            problem => Self::Again { after: problem.retry_after() },
        }
    }
}

/// The way of a lane's entries to their receiver.
pub(crate) trait Carrier: Send + Sync + 'static {
    /// Which lane.
    const LANE: Lane;
    /// How long a claimed entry belongs to whoever claimed it: longer than [`Carrier::carry`] takes at most.
    const CLAIM: Duration;
    /// Whether an entry may be tried too often. Those that may not are tried until they grow stale.
    const GIVES_UP: bool;

    /// Whether there is a way at present.
    fn is_open(&self) -> bool {
        true
    }

    /// Resolves when there is a way. Only asked while there is none.
    fn opened(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Carries an entry, once.
    fn carry(&self, entry: &Entry) -> impl Future<Output = Delivery> + Send;

    /// What is done with the mark of a popup that cannot be shown.
    fn on_failure(&self, _trigger: &str) -> OnFailure {
        OnFailure::DeadLetter
    }

    /// Whether an entry is on its way and its receipt may still come: then it is not carried again.
    fn awaits(&self, _entry: &Entry) -> bool {
        false
    }

    /// Resolves when it is known whether the receiver has an entry. Asked once for each [`Delivery::Unconfirmed`].
    fn confirmed(&self, _entry: &Entry) -> impl Future<Output = Receipt> + Send {
        std::future::pending()
    }

    /// Nothing more will be carried, and receipts were waited for long enough: [`Carrier::confirmed`] is to resolve soon.
    fn finish(&self) {}

    /// Told when the store knows what became of an entry, and nobody else had noted it before.
    fn settled(&self, entry: &Entry, fate: Fate);
}

/// Whether the receiver has an entry that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// It has said so, and whoever heard it has noted it in the store.
    Noted,
    /// It has it, as far as can be known without its word.
    Delivered {
        /// When it was sent, in milliseconds since the Unix epoch.
        written_ms: i64,
    },
    /// The way broke first, and nobody can tell: it has to be carried again.
    Unknown,
}

/// What becomes of an entry in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was delivered.
    Delivered,
    /// It grew stale first.
    Expired,
    /// It cannot be delivered.
    Dead {
        /// Why.
        reason: &'static str,
    },
}

impl Fate {
    /// The step of the document; `at_ms` is when it happened.
    pub(super) fn apply(
        self,
        document: &mut Interaction,
        cx: &Context<'_>,
        entry: &Entry,
        at_ms: i64,
        on_failure: OnFailure,
    ) -> Effects {
        match (self, &entry.payload) {
            (Self::Delivered, Payload::Suggestion(_)) => document.sent_at(cx, entry.seq, at_ms),
            (Self::Delivered, Payload::Insights { .. }) => document.insights_done(cx, entry.seq),
            (Self::Delivered, Payload::Feedback { .. }) => document.feedback_done(cx, entry.seq),
            (Self::Delivered, Payload::Popup { trigger, .. }) => document.popup_done(cx, trigger),
            (Self::Delivered, Payload::Webhook { .. }) => document.webhook_done(cx, entry.seq),
            (Self::Expired, _) => document.window_over(cx, entry.seq),
            (Self::Dead { reason }, Payload::Popup { trigger, .. }) => {
                document.popup_failed(cx, trigger, on_failure, reason)
            }
            (Self::Dead { reason }, _) => document.dead(cx, entry, reason),
        }
    }
}
