//! The audio that a tap holds: what is gathered for the next segment, and segments that could not be written yet. When
//! both together reach the limit, the oldest goes first, and is named.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use earpiece_core::contact::facts::{Lost, LostReason};

use crate::block::{Block, Pool};
use crate::segment::Segment;

/// Stretches of lost samples that are remembered until somebody asks. Beyond that they are found, like everything that
/// is missing, when the contact is finished.
const LOSSES_MAX: usize = 64;

/// The audio that a tap holds.
#[derive(Debug)]
pub(crate) struct Ring {
    pool: Arc<Pool>,
    samples_max: u64,
    /// Index, in the stream, of the oldest gathered sample.
    first_sample: u64,
    /// Samples in `sealed` and `current`.
    gathered: u64,
    sealed: VecDeque<Bytes>,
    current: Option<Block>,
    /// Segments that came back from the writers, oldest first, and their samples.
    kept: VecDeque<Segment>,
    kept_samples: u64,
    losses: Losses,
}

impl Ring {
    pub(crate) fn new(pool: Arc<Pool>, samples_max: u64) -> Self {
        Self {
            pool,
            samples_max,
            first_sample: 0,
            gathered: 0,
            sealed: VecDeque::new(),
            current: None,
            kept: VecDeque::new(),
            kept_samples: 0,
            losses: Losses::default(),
        }
    }

    /// Adds samples. Gives back the segments that had to go to make room for them, which are none but in bad times.
    #[must_use]
    pub(crate) fn push(&mut self, mut samples: &[u8]) -> Vec<Segment> {
        let mut given_up = Vec::new();
        while !samples.is_empty() {
            let block = self.current.get_or_insert_with(|| self.pool.take());
            let rest = block.fill(samples);
            self.gathered += (samples.len() - rest.len()) as u64;
            samples = rest;
            if block.is_full() {
                self.seal();
                given_up.append(&mut self.make_room());
            }
        }
        given_up
    }

    /// Everything gathered, and the index of its first sample.
    pub(crate) fn take(&mut self) -> (u64, Vec<Bytes>) {
        self.seal();
        let first_sample = self.first_sample;
        self.first_sample += self.gathered;
        self.gathered = 0;
        // Not `mem::take`: the room for so many blocks will be needed again.
        (first_sample, self.sealed.drain(..).collect())
    }

    /// Keeps segments that could not be written. Gives back those for which there is no room.
    #[must_use]
    pub(crate) fn keep(&mut self, segments: Vec<Segment>) -> Vec<Segment> {
        self.kept_samples += segments.iter().map(Segment::samples).sum::<u64>();
        self.kept.extend(segments);
        self.make_room()
    }

    /// The segments that were kept, for another try.
    pub(crate) fn take_kept(&mut self) -> Vec<Segment> {
        self.kept_samples = 0;
        std::mem::take(&mut self.kept).into()
    }

    pub(crate) fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    pub(crate) const fn gathered(&self) -> u64 {
        self.gathered
    }

    pub(crate) const fn has_samples(&self) -> bool {
        self.gathered > 0
    }

    pub(crate) fn losses(&mut self) -> &mut Losses {
        &mut self.losses
    }

    fn seal(&mut self) {
        if let Some(block) = self.current.take() {
            self.sealed.push_back(block.seal());
        }
    }

    fn make_room(&mut self) -> Vec<Segment> {
        let mut given_up = Vec::new();
        while self.gathered + self.kept_samples > self.samples_max {
            if let Some(segment) = self.kept.pop_front() {
                self.kept_samples -= segment.samples();
                self.losses.add(segment.span(), LostReason::SegmentNotWritten);
                given_up.push(segment);
            } else if let Some(block) = self.sealed.pop_front() {
                let samples = block.len() as u64;
                self.losses.add(self.first_sample..self.first_sample + samples, LostReason::RecorderRingFull);
                self.first_sample += samples;
                self.gathered -= samples;
            } else {
                break;
            }
        }
        given_up
    }
}

/// Samples that were lost, oldest first; neighbours of one reason are one.
#[derive(Debug, Default)]
pub(crate) struct Losses(VecDeque<Lost>);

impl Losses {
    pub(crate) fn add(&mut self, span: Range<u64>, reason: LostReason) {
        let samples = span.end - span.start;
        let is_full = self.0.len() == LOSSES_MAX;
        match self.0.back_mut() {
            _ if samples == 0 => {}
            Some(last) if last.reason == reason && last.first_sample + last.samples == span.start => {
                last.samples += samples;
            }
            _ if is_full => {}
            _ => self.0.push_back(Lost { first_sample: span.start, samples, reason }),
        }
    }

    pub(crate) fn take_one(&mut self) -> Option<Lost> {
        let lost = self.0.pop_front();
        if self.0.is_empty() {
            // Losses are rare, streams are many.
            self.0 = VecDeque::new();
        }
        lost
    }
}
