//! Names of everything that is measured: one place for `/metrics`, dashboards and alarms.
//!
//! The unit is in the name; labels are bounded.

/// Live audio streams on this task.
pub const STREAMS_LIVE: &str = "earpiece_streams_live";
/// Sockets that were answered `CONNECTED`.
pub const STREAM_OPENS: &str = "earpiece_stream_opens_total";
/// Sockets that were refused or ended before audio, by `reason` (an [`crate::error::Kind`] label, or `gone` for a peer
/// that left by itself).
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
/// Segments that were written.
pub const SEGMENTS: &str = "earpiece_segments_total";
/// Segments that could not be written after all retries.
pub const SEGMENTS_GIVEN_UP: &str = "earpiece_segments_given_up_total";
/// Segments that could not be read when their contact was finished.
pub const SEGMENTS_UNREADABLE: &str = "earpiece_segments_unreadable_total";
/// Events that the assist app sent.
pub const APP_EVENTS: &str = "earpiece_app_events_total";
/// Events of the assist app that were above a limit, by `sink` (which of them dropped it).
pub const APP_EVENTS_DROPPED: &str = "earpiece_app_events_dropped_total";
/// Frames from the assist app that are no JSON object.
pub const APP_FRAMES_IGNORED: &str = "earpiece_app_frames_ignored_total";
/// Requests and handshakes whose token was refused, by `door` (`http`, `websocket`, `shim`) and `reason`.
pub const AUTH_REFUSALS: &str = "earpiece_auth_refusals_total";
/// HTTP answers of the functions, by `route` and `status`.
pub const HTTP_ANSWERS: &str = "earpiece_http_answers_total";
/// Utterances, by `outcome` (`accepted`, `duplicate`, `delivered`, `undelivered`, `dead`).
pub const UTTERANCES: &str = "earpiece_utterances_total";
/// Contact events from Studio scripts, by `kind`.
pub const CONTACT_EVENTS: &str = "earpiece_contact_events_total";
/// Tokens that were issued.
pub const TOKENS_ISSUED: &str = "earpiece_tokens_issued_total";
/// API Gateway connections: what became of their messages, by `outcome` (`opened`, `curtailed`: opened with more for the
/// assist app than is kept, `refused`, `audio`, `duplicate`, `listening`, `closed`).
pub const CONNECTION_MESSAGES: &str = "earpiece_connection_messages_total";
/// Connections that were found gone (410) while something was sent to them, and were forgotten.
pub const CONNECTIONS_PRUNED: &str = "earpiece_connections_pruned_total";
/// Streams that are handed over in pieces and relayed, on this task.
pub const INGEST_SESSIONS: &str = "earpiece_ingest_sessions";
/// Pieces that were handed over, by `outcome`: sent on (`relayed`), known already (`duplicate`), written but too late or
/// too many to be relayed (`late`), and refused because they could not be written (`unwritten`).
pub const INGEST_PIECES: &str = "earpiece_ingest_pieces_total";
/// Contact events that a listening page was not told.
pub const EVENTS_UNPUBLISHED: &str = "earpiece_events_unpublished_total";
/// Whether this task is protected from being scaled in: 1 or 0.
pub const SCALE_IN_PROTECTED: &str = "earpiece_scale_in_protected";
/// Reloads of the TLS certificate, by `outcome` (`taken`, `kept_old`).
pub const TLS_RELOADS: &str = "earpiece_tls_reloads_total";

/// Suggestions, by `outcome`: taken for sending (`accepted`), refused by a rule (`refused`), known to CXone (`sent`, once
/// for each), written again because nobody can tell whether CXone has read the frame before (`repeated`), over before
/// they could be sent (`expired`), and answered by the agent (`taken_up`, `dismissed`). Of the assist app's
/// also: no suggestion by its fields (`unreadable`), of a business unit without an uplink (`foreign`), too many at once
/// (`dropped`), and not kept because the store failed (`lost`).
pub const SUGGESTIONS: &str = "earpiece_suggestions_total";
/// Seconds from the submission of a suggestion to its frame being handed to the kernel.
pub const SUGGESTION_LATENCY_SECONDS: &str = "earpiece_suggestion_latency_seconds";
/// Seconds from a suggestion's frame to CXone's acknowledgement.
pub const SUGGESTION_ACK_SECONDS: &str = "earpiece_suggestion_ack_seconds";
/// Popups, by `outcome` (`pending`, `sent`, `freed`, `dead`, and `held_back`: its event waited for a place in the queue).
pub const POPUPS: &str = "earpiece_popups_total";
/// Insight cards, by `outcome` (`sent`, `known`: shown to this interaction before, `empty`: nothing was found).
pub const INSIGHTS: &str = "earpiece_insights_total";
/// Transcript fragments that were heard, by `source` (`cxone`, `app`).
pub const FRAGMENTS: &str = "earpiece_transcript_fragments_total";
/// Transcript fragments above a limit, which nobody looks up.
pub const FRAGMENTS_DROPPED: &str = "earpiece_transcript_fragments_dropped_total";
/// Searches, by `outcome` (`found`, `cached`, `nothing`, `limited`, `failed`).
pub const SEARCHES: &str = "earpiece_knowledge_searches_total";
/// Interactions that this task keeps something of in memory.
pub const INTERACTIONS_TRACKED: &str = "earpiece_interactions_tracked";
/// What the outbox did with an entry, by `lane` and `outcome` (`delivered`, `retried`, `dead`).
pub const OUTBOX_ENTRIES: &str = "earpiece_outbox_entries_total";
/// Age of the oldest entry that should have left, in seconds, by `lane`.
pub const OUTBOX_AGE_SECONDS: &str = "earpiece_outbox_age_seconds";
/// Dead letters of the outbox.
pub const OUTBOX_DEAD: &str = "earpiece_outbox_dead";
/// Whether this task holds a lease, by `lease`: 1 or 0.
pub const LEASES_HELD: &str = "earpiece_leases_held";
/// State of an uplink to CXone on the task that holds its lease, by `uplink`: 1 up, 0 not.
pub const UPLINK_UP: &str = "earpiece_uplink_up";
/// Whether an uplink has stopped because CXone refuses our credentials, by `uplink`: 1 or 0. Somebody has to act.
pub const UPLINK_REFUSED: &str = "earpiece_uplink_refused";
/// Connections of an uplink that ended or could not be made, by `uplink`.
pub const UPLINK_BREAKS: &str = "earpiece_uplink_breaks_total";
/// Answers of CXone's REST endpoints, by `endpoint` and `outcome` (`ok`, `unauthorized`, `forbidden`, `limited`,
/// `failed`, `refused`, `unreachable`).
pub const CXONE_ANSWERS: &str = "earpiece_cxone_answers_total";
/// Whether requests to an endpoint of CXone are held back, by `endpoint`: 1 or 0.
pub const CXONE_HELD_BACK: &str = "earpiece_cxone_held_back";
