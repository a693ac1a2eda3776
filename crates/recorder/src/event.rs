//! The assist app's events: gathered while a stream runs, one JSON line each, and put in order when a contact is
//! finished. What they hold is private to the people on the call, and nothing here prints it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use earpiece_core::contact::StreamId;
use earpiece_core::contact::event::AppEvent;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::counter::Counters;

/// The kind of the line that stands for events which found no room. Its body tells how many.
const DROPPED_KIND: &str = "earpiece.dropped";

/// Bytes of events that a contact's `events.jsonl` holds at most: more than a day of transcripts.
pub(crate) const CONTACT_EVENTS_BYTES_MAX: usize = 32 << 20;

/// Where the assist app's events of one stream go. Cheap to clone; they leave with the stream's next segment.
#[derive(Debug, Clone)]
pub struct EventLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: StreamId,
    bytes_max: usize,
    counters: Arc<Counters>,
    gathered: Mutex<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    events: Events,
    is_closed: bool,
}

/// Events on their way into a segment.
#[derive(Default)]
pub(crate) struct Events {
    /// JSON, each ended by a line feed.
    lines: Vec<u8>,
    kept: u64,
    dropped: u64,
    /// When the last one was dropped.
    dropped_us: i64,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Events({} bytes, {} dropped)", self.lines.len(), self.dropped)
    }
}

impl Events {
    pub(crate) const fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// The lines, and a last one that tells how many are missing, if any are.
    pub(crate) fn to_lines(&self, stream: StreamId) -> Vec<u8> {
        let mut lines = self.lines.clone();
        if self.dropped > 0 {
            lines.extend(dropped_line(Some(stream), self.dropped_us, self.dropped));
        }
        lines
    }
}

impl EventLog {
    pub(crate) fn new(stream: StreamId, bytes_max: usize, counters: Arc<Counters>) -> Self {
        Self(Arc::new(Shared { stream, bytes_max, counters, gathered: Mutex::default() }))
    }

    /// Keeps an event for the stream's next segment. One that finds no room is dropped, and the segment tells how many
    /// were; one that comes after the stream's last segment can only be counted.
    pub fn push(&self, event: &AppEvent) {
        let mut gathered = self.gathered();
        if gathered.is_closed {
            drop(gathered);
            self.0.counters.dropped_events(1);
            return;
        }
        let events = &mut gathered.events;
        let end = events.lines.len();
        let is_written = serde_json::to_writer(&mut events.lines, event).is_ok();
        events.lines.push(b'\n');
        if !is_written || events.lines.len() > self.0.bytes_max {
            events.lines.truncate(end);
            events.dropped += 1;
            events.dropped_us = event.at_us;
            drop(gathered);
            self.0.counters.dropped_events(1);
        } else {
            events.kept += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.gathered().events.is_empty()
    }

    /// Everything so far, for a segment.
    pub(crate) fn take(&self) -> Events {
        std::mem::take(&mut self.gathered().events)
    }

    /// Everything so far, for the stream's last segment.
    pub(crate) fn take_last(&self) -> Events {
        let mut gathered = self.gathered();
        gathered.is_closed = true;
        std::mem::take(&mut gathered.events)
    }

    /// The events of a segment that was given up: the next one tells how many they were.
    pub(crate) fn lose(&self, events: &Events, now_us: i64) {
        let count = events.kept + events.dropped;
        if count > 0 {
            let mut gathered = self.gathered();
            gathered.events.dropped += count;
            gathered.events.dropped_us = gathered.events.dropped_us.max(events.dropped_us).max(now_us);
            drop(gathered);
            // Those that were dropped before were counted then.
            self.0.counters.dropped_events(events.kept);
        }
    }

    /// Which stream it belongs to.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.0.stream
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        // Nothing that runs under the lock leaves the lines half changed but a panic inside serde, which is caught by
        // whoever reads the line.
        self.0.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dropped_line(stream: Option<StreamId>, at_us: i64, events: u64) -> Vec<u8> {
    let mut line = json!({ "atUs": at_us, "kind": DROPPED_KIND, "body": { "events": events } });
    if let (Some(stream), Some(fields)) = (stream, line.as_object_mut()) {
        fields.insert("stream".into(), stream.to_string().into());
    }
    let mut line = line.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// All events of a contact, whatever segment or file they come from.
#[derive(Default)]
pub(crate) struct AllEvents {
    /// By time. A line that is found twice (a finish was interrupted, and its segments are read again) is one event.
    lines: BTreeSet<(i64, Bytes)>,
    bytes: usize,
    dropped: u64,
}

/// What of a line says where it belongs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Moment {
    at_us: i64,
}

impl AllEvents {
    /// Adds lines as they stand in a segment or a file. A line that is no event belongs right after the one before it.
    pub(crate) fn add(&mut self, lines: &Bytes) {
        let mut at_us = i64::MIN;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            at_us = serde_json::from_slice(line).map_or(at_us, |moment: Moment| moment.at_us);
            if self.bytes + line.len() > CONTACT_EVENTS_BYTES_MAX {
                self.dropped += 1;
            } else if self.lines.insert((at_us, Bytes::copy_from_slice(line))) {
                self.bytes += line.len() + 1;
            }
        }
    }

    /// Adds events that are in no segment.
    pub(crate) fn add_values(&mut self, events: &[Value]) {
        for event in events {
            self.add(&Bytes::from(event.to_string()));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// `events.jsonl`.
    pub(crate) fn into_file(self) -> Vec<u8> {
        let last_us = self.lines.last().map_or(0, |(at_us, _)| *at_us);
        let mut file = Vec::with_capacity(self.bytes);
        for (_, line) in self.lines {
            file.extend_from_slice(&line);
            file.push(b'\n');
        }
        if self.dropped > 0 {
            file.extend(dropped_line(None, last_us, self.dropped));
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use earpiece_core::secret::Private;

    use super::*;

    fn event(stream: StreamId, at_us: i64, text: &str) -> AppEvent {
        AppEvent { stream, at_us, kind: "transcript".into(), body: Private::new(json!({ "text": text })) }
    }

    fn log(bytes_max: usize) -> EventLog {
        EventLog::new(StreamId::new(), bytes_max, Arc::default())
    }

    fn values(lines: &[u8]) -> Vec<Value> {
        lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect()
    }

    #[test]
    fn events_beyond_the_limit_are_counted_in_the_last_line() {
        let log = log(400);
        for at_us in 0..10 {
            log.push(&event(log.stream(), at_us, "thirty-odd bytes of what was said"));
        }
        let lines = values(&log.take().to_lines(log.stream()));
        let (last, kept) = lines.split_last().expect("lines");
        assert!(!kept.is_empty());
        assert_eq!(last["kind"], DROPPED_KIND);
        assert_eq!(last["body"]["events"], 10 - kept.len());
        assert_eq!((last["atUs"].clone(), log.is_empty()), (json!(9), true));
        assert_eq!(log.0.counters.events_dropped(), 10 - kept.len() as u64);
    }

    #[test]
    fn events_after_the_last_segment_are_counted() {
        let log = log(400);
        let _ = log.take_last();
        log.push(&event(log.stream(), 1, "too late"));
        assert_eq!((log.is_empty(), log.0.counters.events_dropped()), (true, 1));
    }

    #[test]
    fn the_events_of_a_segment_that_was_given_up_are_counted_in_the_next() {
        let log = log(4_000);
        log.push(&event(log.stream(), 1, "a"));
        log.push(&event(log.stream(), 2, "b"));
        let given_up = log.take();
        log.lose(&given_up, 7);
        let lines = values(&log.take().to_lines(log.stream()));
        assert_eq!((lines[0]["body"]["events"].clone(), lines[0]["atUs"].clone()), (json!(2), json!(7)));
    }

    #[test]
    fn what_is_said_is_not_printed() {
        let log = log(4_000);
        log.push(&event(log.stream(), 1, "my card number"));
        assert!(!format!("{log:?}").contains("card"));
    }

    #[test]
    fn lines_are_put_in_order_and_found_twice_are_one() {
        let mut all = AllEvents::default();
        let tx = Bytes::from_static(b"{\"atUs\":1,\"b\":1}\n{\"atUs\":5}\nnot json\n");
        let rx = Bytes::from_static(b"{\"atUs\":3}\n");
        for lines in [&tx, &rx, &tx] {
            all.add(lines);
        }
        let file = all.into_file();
        assert_eq!(file, b"{\"atUs\":1,\"b\":1}\n{\"atUs\":3}\nnot json\n{\"atUs\":5}\n");
    }

    #[test]
    fn a_contact_with_too_many_events_tells_how_many_are_missing() {
        let mut all = AllEvents::default();
        let line = |at_us: i64| Bytes::from(format!("{{\"atUs\":{at_us},\"x\":\"{}\"}}\n", "x".repeat(1 << 20)));
        (0..40).for_each(|at_us| all.add(&line(at_us)));
        let file = all.into_file();
        assert!(file.len() <= CONTACT_EVENTS_BYTES_MAX + 200);
        let last = values(&file[file.len() - 200..][..0]);
        assert!(last.is_empty());
        let tail = file.rsplit(|byte| *byte == b'\n').nth(1).expect("a last line");
        let tail: Value = serde_json::from_slice(tail).expect("JSON");
        assert_eq!((tail["kind"].clone(), tail["body"]["events"].clone()), (json!(DROPPED_KIND), json!(9)));
    }
}
