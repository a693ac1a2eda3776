//! Where pieces are written: a shim, which also tells the assist app, or the recordings themselves.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use earpiece_core::contact::facts::StreamFacts;
use earpiece_core::error::{Fault, Kind};
use earpiece_core::telemetry::SINK_ERRORS;
use earpiece_https::client::{Client, Limits as RequestLimits};
use earpiece_recorder::Recorder;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode};
use tracing::warn;

use std::sync::Arc;

use super::limits::Limits;
use crate::counters::Counters;
use crate::settings::Ingest;
use crate::start::{Setup, StartError};

/// The shim's answers are short.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Facts above this size as base64 do not go into a header: the piece is written here, and the assist app misses it.
/// Few streams have so many runs.
const FACTS_BYTES_MAX: usize = 48 << 10;

/// Where pieces go. A piece that was written is there for good, by whichever way.
#[derive(Clone)]
pub struct Pieces {
    shim: Option<Shim>,
    recorder: Option<Recorder>,
}

/// The shim's ingest address.
#[derive(Clone)]
struct Shim {
    client: Client,
    ingest: Ingest,
    counters: Arc<Counters>,
}

impl Pieces {
    /// For a function to which no audio comes.
    #[must_use]
    pub const fn nowhere() -> Self {
        Self { shim: None, recorder: None }
    }

    /// Recordings alone.
    #[must_use]
    pub const fn recorded(recorder: Recorder) -> Self {
        Self { shim: None, recorder: Some(recorder) }
    }

    /// The shim first, and what it does not take is written here.
    #[must_use]
    pub const fn handed_over(
        client: Client,
        ingest: Ingest,
        recorder: Option<Recorder>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { shim: Some(Shim { client, ingest, counters }), recorder }
    }

    /// As the settings say.
    ///
    /// # Errors
    /// When there is neither a shim nor a place for recordings, or one of them cannot be used.
    pub fn open(setup: &Setup) -> Result<Self, StartError> {
        let recorder = setup.recorder()?;
        match (&setup.settings.ingest, recorder) {
            (Some(ingest), recorder) => {
                let counters = Arc::clone(&setup.counters);
                Ok(Self::handed_over(setup.client()?, ingest.clone(), recorder, counters))
            }
            (None, Some(recorder)) => Ok(Self::recorded(recorder)),
            (None, None) => Err(StartError::new("EARPIECE_RECORDINGS is not set: audio would go nowhere")),
        }
    }

    /// Writes a piece; it is where it stays when this returns. The same piece may be written again.
    pub(super) async fn write(
        &self,
        facts: &StreamFacts,
        first_sample: u64,
        samples: &[u8],
        limits: &Limits,
    ) -> Result<(), Fault> {
        if let Some(shim) = &self.shim
            && shim.took(facts, first_sample, samples, limits.ingest).await
        {
            return Ok(());
        }
        let Some(recorder) = &self.recorder else {
            return Err(Fault::new(Kind::Unavailable, "the audio could not be handed over"));
        };
        match tokio::time::timeout(limits.write, recorder.write_piece(facts, first_sample, samples)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::new(error.kind(), "the recordings did not take it")),
            Err(_) => Err(Fault::new(Kind::Unavailable, "the recordings did not take it in time")),
        }
    }

    /// Tells the shim that no more is to be expected of a stream. Without it the shim finds out by itself.
    pub(super) async fn end(&self, facts: &StreamFacts, limits: &Limits) {
        if let Some(shim) = &self.shim {
            let address = format!("{}/end", shim.ingest.url.reveal());
            shim.post(&address, facts, facts.samples, &[], limits.ingest).await;
        }
    }
}

impl Shim {
    async fn took(&self, facts: &StreamFacts, first_sample: u64, samples: &[u8], deadline: Duration) -> bool {
        let is_taken = self.post(self.ingest.url.reveal(), facts, first_sample, samples, deadline).await;
        if !is_taken {
            self.counters.count(SINK_ERRORS, &[("sink", "ingest")]);
        }
        is_taken
    }

    async fn post(
        &self,
        address: &str,
        facts: &StreamFacts,
        first_sample: u64,
        samples: &[u8],
        deadline: Duration,
    ) -> bool {
        let Some(request) = self.request(address, facts, first_sample, samples) else {
            warn!(contact = %facts.contact, stream = %facts.stream, "a piece cannot be put into a request");
            return false;
        };
        let limits = RequestLimits { deadline, answer_bytes_max: ANSWER_BYTES_MAX };
        match self.client.send(request, limits).await {
            Ok(answer) if answer.status() == StatusCode::OK => true,
            Ok(answer) => {
                warn!(contact = %facts.contact, status = answer.status().as_u16(), "the shim did not take a piece");
                false
            }
            Err(failure) => {
                warn!(contact = %facts.contact, %failure, "the shim did not take a piece");
                false
            }
        }
    }

    fn request(&self, address: &str, facts: &StreamFacts, first_sample: u64, samples: &[u8]) -> Option<Request<Bytes>> {
        let encoded = BASE64_STANDARD.encode(serde_json::to_vec(facts).ok()?);
        if encoded.len() > FACTS_BYTES_MAX {
            return None;
        }
        let mut request = Request::post(address)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("earpiece-contact", facts.contact.to_string())
            .header("earpiece-stream", facts.stream.to_string())
            .header("earpiece-perspective", facts.perspective.label())
            .header("earpiece-generation", facts.generation.unwrap_or_default())
            .header("earpiece-first-sample", first_sample)
            .header("earpiece-facts", encoded);
        if let Some(token) = &self.ingest.token {
            let mut token = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).ok()?;
            token.set_sensitive(true);
            request = request.header(AUTHORIZATION, token);
        }
        request.body(Bytes::copy_from_slice(samples)).ok()
    }
}
