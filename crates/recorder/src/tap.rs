//! One stream's audio on its way into segments.

use std::sync::Arc;

use earpiece_core::contact::facts::{Lost, LostReason, StreamFacts};
use earpiece_core::contact::{ContactKey, StreamId};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::event::{EventLog, Events};
use crate::name::SegmentName;
use crate::recorder::Inner;
use crate::ring::Ring;
use crate::segment::Segment;

/// One stream's way into the recording. It lives in the stream's task, and never makes it wait.
///
/// Samples gather until they are [cut](Tap::cut) into a segment. One flight of segments is in the air at a time; what
/// could not be written is kept and goes with the next cut. While the store is slow, so many samples wait as the
/// settings allow, then the oldest are lost: whoever owns the stream asks [`Tap::take_lost`] and adds the answer to the
/// stream's facts.
///
/// A tap that is dropped without [`Tap::close`] leaves behind what was cut, as if its task had died.
#[derive(Debug)]
pub struct Tap {
    recorder: Arc<Inner>,
    contact: ContactKey,
    stream: StreamId,
    ring: Ring,
    events: EventLog,
    /// When the next cut is due; nobody has asked yet while absent.
    due_us: Option<i64>,
    /// The last instant we were told.
    now_us: i64,
    /// Whether a segment, and so the stream's facts, was ever handed to the writers.
    is_known: bool,
    /// Segments without samples so far.
    serial: u32,
    /// Gives back what could not be written.
    in_air: Option<oneshot::Receiver<Vec<Segment>>>,
}

impl Tap {
    pub(crate) fn new(recorder: Arc<Inner>, contact: ContactKey, stream: StreamId) -> Self {
        let ring = Ring::new(Arc::clone(&recorder.pool), recorder.settings.ring_samples);
        let events = EventLog::new(stream, recorder.settings.events_bytes_max, Arc::clone(&recorder.counters));
        Self {
            recorder,
            contact,
            stream,
            ring,
            events,
            due_us: None,
            now_us: 0,
            is_known: false,
            serial: 0,
            in_air: None,
        }
    }

    /// Takes a copy of samples (µ-law, one byte each). This is all that happens per frame.
    pub fn push(&mut self, samples: &[u8]) {
        let given_up = self.ring.push(samples);
        self.give_up(&given_up);
    }

    /// Whether it is time for [`Tap::cut`]: a segment's length has passed since the last one or a segment's worth of
    /// samples waits, there is something to write, and nothing is in the air. The first one is due after a random part of that, so that streams which were
    /// opened together do not all write together.
    pub fn is_due(&mut self, now_us: i64) -> bool {
        let segment_us = self.recorder.settings.segment_us();
        let due_us = *self.due_us.get_or_insert_with(|| now_us.saturating_add(fastrand::i64(1..=segment_us)));
        let is_time = now_us >= due_us || self.ring.gathered() >= self.recorder.settings.segment_samples_max;
        is_time && !self.is_in_air() && (self.has_news() || self.ring.has_kept())
    }

    /// Hands what was gathered to the writers. While the segment before is still in the air it goes on gathering.
    ///
    /// `facts` speak of every sample that was pushed so far. A stream without any is written once, so that it is known.
    pub fn cut(&mut self, now_us: i64, facts: &StreamFacts) {
        self.now_us = now_us;
        if self.is_in_air() {
            return;
        }
        self.due_us = Some(now_us.saturating_add(self.recorder.settings.segment_us()));
        let mut segments = self.ring.take_kept();
        if self.has_news() {
            if let Ok(facts) = serde_json::to_vec(facts) {
                let events = self.events.take();
                segments.push(self.segment(facts, events));
                self.is_known = true;
            } else {
                // Facts are numbers and JSON, so this is a defect; the audio waits for facts that can be written.
                tracing::error!(contact = %self.contact, stream = %self.stream, "facts have no form as JSON");
            }
        }
        if !segments.is_empty() {
            self.in_air = Some(self.launch(segments));
        }
    }

    /// Samples that are lost for good, one stretch at a time and each once: ask until there are no more, and before
    /// facts are made for [`Tap::cut`].
    pub fn take_lost(&mut self) -> Option<Lost> {
        let _ = self.is_in_air();
        self.ring.losses().take_one()
    }

    /// Where the assist app's events of this stream go.
    #[must_use]
    pub fn events(&self) -> EventLog {
        self.events.clone()
    }

    /// The last cut: what was gathered, with facts that tell how the stream ended. It waits for the segment in the air,
    /// and is written even without samples. What could not be written by then, and what [`Tap::take_lost`] was not asked
    /// about, is added to the facts. What is returned resolves to those losses when all is written or given up; it goes on
    /// unattended.
    #[expect(clippy::must_use_candidate, reason = "it goes on unattended")]
    pub fn close(mut self, facts: &StreamFacts) -> JoinHandle<Vec<Lost>> {
        let _ = self.is_in_air();
        let flight = self.recorder.writer.flights.begin(self.contact);
        let mut facts = facts.clone();
        tokio::spawn(async move {
            if let Some(in_air) = self.in_air.take() {
                // A writer that is gone took its segments with it; what is missing is found when the contact is finished.
                let back = in_air.await.unwrap_or_default();
                self.keep(back);
            }
            let deadline = Instant::now() + self.recorder.settings.retries.last();
            for segment in self.ring.take_kept() {
                if !self.recorder.writer.write_last(&segment, deadline).await {
                    self.ring.losses().add(segment.span(), LostReason::SegmentNotWritten);
                    self.give_up(&[segment]);
                }
            }
            let late: Vec<Lost> = std::iter::from_fn(|| self.ring.losses().take_one()).collect();
            facts.lost.extend_from_slice(&late);
            let events = self.events.take_last();
            if let Ok(facts) = serde_json::to_vec(&facts) {
                let segment = self.segment(facts, events);
                if !self.recorder.writer.write_last(&segment, deadline).await {
                    self.recorder.counters.gave_up_segment();
                }
            }
            drop(flight);
            late
        })
    }

    /// Whether there is anything that no segment has yet.
    fn has_news(&self) -> bool {
        self.ring.has_samples() || !self.is_known || !self.events.is_empty()
    }

    /// A segment of all that was gathered.
    fn segment(&mut self, facts: Vec<u8>, events: Events) -> Segment {
        let (first_sample, blocks) = self.ring.take();
        let serial = if blocks.is_empty() {
            self.serial += 1;
            self.serial
        } else {
            0
        };
        let name = SegmentName { stream: self.stream, first_sample, serial };
        Segment { contact: self.contact, name, facts, events, blocks }
    }

    /// Writes segments one after the other, up to the first that fails.
    fn launch(&self, segments: Vec<Segment>) -> oneshot::Receiver<Vec<Segment>> {
        let (back, landed) = oneshot::channel();
        let recorder = Arc::clone(&self.recorder);
        let flight = recorder.writer.flights.begin(self.contact);
        tokio::spawn(async move {
            let mut segments = segments.into_iter();
            let mut left = Vec::new();
            for segment in segments.by_ref() {
                if !recorder.writer.write(&segment).await {
                    left.push(segment);
                    break;
                }
            }
            left.extend(segments);
            if let Err(orphans) = back.send(left) {
                for _ in orphans {
                    recorder.counters.gave_up_segment();
                }
            }
            drop(flight);
        });
        landed
    }

    /// Whether segments are in the air; takes back what came down unwritten.
    fn is_in_air(&mut self) -> bool {
        let Some(in_air) = &mut self.in_air else { return false };
        match in_air.try_recv() {
            Err(TryRecvError::Empty) => return true,
            // A writer that is gone took its segments with it; what is missing is found when the contact is finished.
            Err(TryRecvError::Closed) => {}
            Ok(back) => self.keep(back),
        }
        self.in_air = None;
        false
    }

    fn keep(&mut self, segments: Vec<Segment>) {
        let given_up = self.ring.keep(segments);
        self.give_up(&given_up);
    }

    fn give_up(&self, segments: &[Segment]) {
        for segment in segments {
            self.recorder.counters.gave_up_segment();
            self.events.lose(&segment.events, self.now_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_is_small_since_there_are_thousands() {
        assert!(size_of::<Tap>() <= 400, "{}", size_of::<Tap>());
    }
}
