//! What an API is: its routes, its limits. The defaults are those of API Gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::route::Selection;

/// Which function answers which route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    /// `$connect`: judges a handshake. Without one, everybody gets in.
    pub connect: Option<String>,
    /// `$default`: every message that has no route of its own.
    pub default: String,
    /// `$disconnect`: hears of the end.
    pub disconnect: Option<String>,
    /// Routes of their own, by what [`Settings::selection`] finds in a message.
    pub by_action: BTreeMap<String, String>,
}

/// An API and its limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which function answers which route.
    pub routes: Routes,
    /// The Lambda authorizer (type `REQUEST`) of `$connect`.
    pub authorizer: Option<String>,
    /// Where a message says its route.
    pub selection: Selection,
    /// Routes, by key, whose messages are Base64 and reach their function as binary (`CONVERT_TO_BINARY`).
    pub convert_to_binary: BTreeSet<String>,
    /// The stage, in events and as a prefix of paths.
    pub stage: String,
    /// The API's id, in events.
    pub api_id: String,
    /// A connection on which nothing comes or goes for so long is closed with 1001.
    pub idle: Duration,
    /// No connection lives longer; it is closed with 1001.
    pub life: Duration,
    /// The largest frame in bytes; a larger one closes the connection with 1009.
    pub frame_bytes_max: usize,
    /// The largest message in bytes; a larger one closes the connection with 1009.
    pub message_bytes_max: usize,
    /// Connections at once; more are refused with 429.
    pub connections_max: u32,
    /// How long a function may take to answer.
    pub integration_deadline: Duration,
    /// Messages of one connection that are with functions at the same time. With more than one, they may overtake each
    /// other, as they may at API Gateway; while all are taken, nothing more is read.
    pub in_flight_per_connection_max: usize,
    /// Invocations at the same time, over all connections.
    pub in_flight_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            routes: Routes {
                connect: Some("ws-connect".into()),
                default: "ws-message".into(),
                disconnect: Some("ws-disconnect".into()),
                by_action: BTreeMap::new(),
            },
            authorizer: None,
            selection: Selection::default(),
            convert_to_binary: BTreeSet::new(),
            stage: "local".into(),
            api_id: "earpiece".into(),
            idle: Duration::from_mins(10),
            life: Duration::from_hours(2),
            frame_bytes_max: 32 * 1024,
            message_bytes_max: 128 * 1024,
            connections_max: 10_000,
            integration_deadline: Duration::from_secs(29),
            in_flight_per_connection_max: 4,
            in_flight_max: 1_000,
        }
    }
}
