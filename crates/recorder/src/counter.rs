//! What the recorder counts. All counts are since the start, but for the gauge.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the recorder did, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    segments: Count,
    segment_bytes: Count,
    segments_given_up: Count,
    segments_unreadable: Count,
    write_errors: Count,
    events_dropped: Count,
    ring_samples: Count,
}

impl Counters {
    /// Segments written.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.segments.get()
    }

    /// Bytes of segments written.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes.get()
    }

    /// Segments that no retry could write and for which there was no more room to wait in.
    #[must_use]
    pub fn segments_given_up(&self) -> u64 {
        self.segments_given_up.get()
    }

    /// Segments that could not be read when their contact was finished, and were moved aside.
    #[must_use]
    pub fn segments_unreadable(&self) -> u64 {
        self.segments_unreadable.get()
    }

    /// Attempts to write a segment that failed.
    #[must_use]
    pub fn write_errors(&self) -> u64 {
        self.write_errors.get()
    }

    /// Events of the assist app that found no room, or came after their stream was closed.
    #[must_use]
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped.get()
    }

    /// Gauge: samples in full or cut blocks that are not in the store yet.
    #[must_use]
    pub fn ring_samples(&self) -> u64 {
        self.ring_samples.get()
    }

    pub(crate) fn wrote_segment(&self, bytes: u64) {
        self.segments.add(1);
        self.segment_bytes.add(bytes);
    }

    pub(crate) fn gave_up_segment(&self) {
        self.segments_given_up.add(1);
    }

    pub(crate) fn found_unreadable(&self, segments: u64) {
        self.segments_unreadable.add(segments);
    }

    pub(crate) fn failed_write(&self) {
        self.write_errors.add(1);
    }

    pub(crate) fn dropped_events(&self, events: u64) {
        self.events_dropped.add(events);
    }

    pub(crate) fn holds(&self, samples: u64) {
        self.ring_samples.add(samples);
    }

    pub(crate) fn releases(&self, samples: u64) {
        self.ring_samples.0.fetch_sub(samples, Ordering::Relaxed);
    }
}

/// Nothing is read from one count to explain another, so no order between them is needed.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }
}
