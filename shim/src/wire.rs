//! Faults as this wire says them: HTTP statuses before the upgrade, close codes after it. One function each; none logs.

use earpiece_core::contact::facts::CloseReason;
use earpiece_core::error::{Kind, Retry};
use http::StatusCode;

/// The status for a request that does not become a socket.
pub(crate) const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::BadInput | Kind::Unsupported => StatusCode::BAD_REQUEST,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::TooLate => StatusCode::REQUEST_TIMEOUT,
        Kind::Overloaded | Kind::Draining | Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Superseded => StatusCode::CONFLICT,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// After how many seconds a refused request may be sent again; `None` where that would change nothing. What a draining
/// task refuses, another one takes at once.
pub(crate) const fn retry_after_s(kind: Kind) -> Option<u32> {
    match kind.retry() {
        Retry::AfterMs(pause_ms) => Some(pause_ms.div_ceil(1000)),
        Retry::Now if matches!(kind, Kind::Draining) => Some(0),
        Retry::Now | Retry::Never => None,
    }
}

/// The close code after an `ERROR`.
pub(crate) const fn refusal_code(kind: Kind) -> u16 {
    match kind {
        Kind::BadInput | Kind::Unauthorized | Kind::Forbidden | Kind::TooLate | Kind::Superseded | Kind::NotFound => {
            1008
        }
        Kind::Unsupported => 1003,
        Kind::TooLarge => 1009,
        Kind::Draining => 1012,
        Kind::Overloaded | Kind::RateLimited | Kind::Unavailable => 1013,
        Kind::Internal => 1011,
    }
}

/// How a peer is closed that broke the WebSocket protocol, or flooded it with control frames.
pub(crate) const PROTOCOL_VIOLATION: (u16, &str) = (1002, "the WebSocket protocol was broken");

/// How a stream that was live is closed by us; `None` where the peer is gone or has closed already.
pub(crate) const fn goodbye(reason: CloseReason) -> Option<(u16, &'static str)> {
    match reason {
        // A normal closure: a peer that tried again would only take the perspective back from the newer socket.
        CloseReason::Superseded => Some((1000, "a newer handshake took over this perspective")),
        CloseReason::Drained => Some((1012, "this task is going away; connect again")),
        CloseReason::PeerViolation => Some((1003, "only binary audio frames are expected after the init message")),
        CloseReason::ProtocolViolation => Some(PROTOCOL_VIOLATION),
        CloseReason::TooLarge => Some((1009, "the frame is larger than the limit")),
        CloseReason::PeerDead => Some((1001, "no sign of life")),
        CloseReason::Internal => Some((1011, "internal error")),
        CloseReason::PeerClosed | CloseReason::PeerVanished | CloseReason::TaskLost => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_code_that_may_be_sent_and_a_reason_that_fits_a_close_frame() {
        for kind in Kind::ALL {
            assert!(matches!(refusal_code(kind), 1000..=1003 | 1007..=1014));
            assert!(status(kind).is_client_error() || status(kind).is_server_error());
        }
        for reason in CloseReason::ALL {
            if let Some((code, text)) = goodbye(reason) {
                assert!(matches!(code, 1000..=1003 | 1007..=1014) && text.len() <= 123);
            }
        }
    }
}
