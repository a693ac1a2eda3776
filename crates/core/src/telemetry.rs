//! Names of everything that is measured: one place for `/metrics`, dashboards and alarms.
//!
//! The unit is in the name; labels are bounded.

/// Live audio streams on this task.
pub const STREAMS_LIVE: &str = "earpiece_streams_live";
/// Sockets that were answered `CONNECTED`.
pub const STREAM_OPENS: &str = "earpiece_stream_opens_total";
/// Sockets that were refused or ended before audio, by `reason` (an [`crate::error::Kind`] label).
pub const STREAM_REFUSALS: &str = "earpiece_stream_refusals_total";
/// Streams that ended, by `reason` (a [`crate::contact::facts::CloseReason`] label).
pub const STREAM_CLOSES: &str = "earpiece_stream_closes_total";
/// Streams accepted before the store had answered.
pub const STREAMS_DEGRADED: &str = "earpiece_streams_degraded_total";
/// Audio bytes received.
pub const AUDIO_BYTES: &str = "earpiece_audio_bytes_total";
/// Audio frames received.
pub const AUDIO_FRAMES: &str = "earpiece_audio_frames_total";
/// Samples a sink lost, by `reason` (a [`crate::contact::facts::LostReason`] label).
pub const SAMPLES_LOST: &str = "earpiece_samples_lost_total";
/// Seconds from the end of the init frame to the `CONNECTED` frame being handed to the kernel.
pub const ACK_LATENCY_SECONDS: &str = "earpiece_ack_latency_seconds";
/// Samples waiting in rings, by `sink`.
pub const RING_SAMPLES: &str = "earpiece_ring_samples";
/// Errors of sinks, by `sink`.
pub const SINK_ERRORS: &str = "earpiece_sink_errors_total";
/// Unknown fields in init messages.
pub const UNKNOWN_FIELDS: &str = "earpiece_unknown_fields_total";
/// Init messages whose perspective no document names.
pub const UNKNOWN_PERSPECTIVES: &str = "earpiece_unknown_perspectives_total";
/// Contacts finished (recording and ledger written) by this task.
pub const CONTACTS_FINISHED: &str = "earpiece_contacts_finished_total";
/// Store calls that failed or were too slow, by `operation`.
pub const STORE_ERRORS: &str = "earpiece_store_errors_total";
