//! One contact as one task sees it: which streams are current, when it is on hold, when it is over.
//!
//! Sans I/O. The store holds the truth shared by all tasks; this machine fences sockets within a task without asking
//! it, tells holds from silence, and says when it is worth asking the store whether the contact is over.

use serde::Serialize;

use super::StreamId;
use crate::protocol::perspective::Perspective;

/// Streams of one contact that are followed on one task though nobody documents their perspective: what TX, RX and MIX
/// leave of 16 seats. Further ones are served, but not followed.
const UNKNOWN_SEATS_MAX: usize = 13;

/// The stream that holds a perspective; or one stream of a perspective that nobody documents.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seat {
    perspective: Perspective,
    stream: StreamId,
    generation: Option<u64>,
    open: bool,
    silent: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A stream was acknowledged.
    Opened {
        /// Whose voice.
        perspective: Perspective,
        /// Which socket.
        stream: StreamId,
        /// Its generation, if the store has answered.
        generation: Option<u64>,
    },
    /// The store gave a stream its number after all.
    Numbered {
        /// Which socket.
        stream: StreamId,
        /// Its generation.
        generation: u64,
    },
    /// A stream fell silent.
    Silent(StreamId),
    /// A stream is audible again.
    Audible(StreamId),
    /// A stream ended.
    Closed(StreamId),
    /// A contact event said that the contact is over.
    EndRequested,
    /// Time passed.
    Tick,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The contact goes on after a hold, or after an end.
    Resumed,
    /// This older stream of the same perspective must go: it may write no more.
    Fence(StreamId),
    /// The stream that was just opened is older than the one that holds its perspective, and must go.
    RefuseStale,
    /// Every open stream is silent: hold by silence.
    SilentHold,
    /// Every stream is closed: hold by close, or the end. Quiet since now.
    OnHold,
    /// The contact is over as far as this task can tell: ask the store.
    Over(EndReason),
}

/// Why a contact is over (contract §1.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The Studio script said so.
    Event,
    /// Nothing was open for the quiet period.
    Quiet,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::Event, Self::Quiet];

    /// The word in the store.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Quiet => "quiet",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Live,
    SilentHold,
    OnHold { since_us: i64 },
    Over,
}

/// The state machine of one contact.
#[derive(Debug, Clone)]
pub struct Contact {
    phase: Phase,
    seats: Vec<Seat>,
    quiet_us: i64,
    end_requested: bool,
}

impl Contact {
    /// A contact that ends `quiet_us` microseconds after its last stream closed.
    #[must_use]
    pub const fn new(quiet_us: i64) -> Self {
        Self { phase: Phase::New, seats: Vec::new(), quiet_us, end_requested: false }
    }

    /// When [`Event::Tick`] can change something.
    #[must_use]
    pub const fn wake_us(&self) -> Option<i64> {
        match self.phase {
            Phase::OnHold { since_us } => Some(since_us + self.quiet_us),
            Phase::New | Phase::Live | Phase::SilentHold | Phase::Over => None,
        }
    }

    /// Open streams.
    #[must_use]
    pub fn open(&self) -> usize {
        self.seats.iter().filter(|seat| seat.open).count()
    }

    /// Whether the contact is over as far as this task can tell.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Moves on. Events about streams that no longer hold a seat have no effect: they were fenced.
    pub fn step(&mut self, now_us: i64, event: Event) -> Effect {
        match event {
            Event::Opened { perspective, stream, generation } => self.opened(perspective, stream, generation),
            Event::Numbered { stream, generation } => {
                if let Some(seat) = self.seat(stream) {
                    seat.generation = Some(generation);
                }
                Effect::None
            }
            Event::Silent(stream) => self.silence(stream, true),
            Event::Audible(stream) => self.silence(stream, false),
            Event::Closed(stream) => self.closed(stream, now_us),
            Event::EndRequested => {
                self.end_requested = true;
                self.end_if_due(now_us)
            }
            Event::Tick => self.end_if_due(now_us),
        }
    }

    fn seat(&mut self, stream: StreamId) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.stream == stream)
    }

    fn opened(&mut self, perspective: Perspective, stream: StreamId, generation: Option<u64>) -> Effect {
        let newcomer = Seat { perspective, stream, generation, open: true, silent: false };
        // Nobody knows what an undocumented perspective means, so two of them are never taken for the same voice.
        let is_known = !matches!(newcomer.perspective, Perspective::Unknown(_));
        let is_unknown = |seat: &Seat| matches!(seat.perspective, Perspective::Unknown(_));
        if !is_known {
            self.seats.retain(|seat| seat.open || !is_unknown(seat));
        }
        let unknown_seats = self.seats.iter().filter(|seat| is_unknown(seat)).count();
        let same = |seat: &&mut Seat| is_known && seat.perspective == newcomer.perspective;
        let effect = match self.seats.iter_mut().find(same) {
            Some(seat) if is_newer(seat, &newcomer) => return Effect::RefuseStale,
            Some(seat) => {
                let old = std::mem::replace(seat, newcomer);
                if old.open { Effect::Fence(old.stream) } else { self.resume() }
            }
            None => {
                if is_known || unknown_seats < UNKNOWN_SEATS_MAX {
                    self.seats.push(newcomer);
                }
                self.resume()
            }
        };
        self.phase = Phase::Live;
        self.end_requested = false;
        effect
    }

    const fn resume(&self) -> Effect {
        match self.phase {
            Phase::OnHold { .. } | Phase::Over => Effect::Resumed,
            Phase::New | Phase::Live | Phase::SilentHold => Effect::None,
        }
    }

    fn silence(&mut self, stream: StreamId, silent: bool) -> Effect {
        let Some(seat) = self.seat(stream) else { return Effect::None };
        seat.silent = silent;
        let all_silent = self.seats.iter().filter(|seat| seat.open).all(|seat| seat.silent);
        match self.phase {
            Phase::Live if all_silent => {
                self.phase = Phase::SilentHold;
                Effect::SilentHold
            }
            Phase::SilentHold if !all_silent => {
                self.phase = Phase::Live;
                Effect::Resumed
            }
            _ => Effect::None,
        }
    }

    fn closed(&mut self, stream: StreamId, now_us: i64) -> Effect {
        let Some(seat) = self.seat(stream) else { return Effect::None };
        seat.open = false;
        if self.open() > 0 || !matches!(self.phase, Phase::Live | Phase::SilentHold) {
            return Effect::None;
        }
        self.phase = Phase::OnHold { since_us: now_us };
        if self.end_requested { self.end_if_due(now_us) } else { Effect::OnHold }
    }

    const fn end_if_due(&mut self, now_us: i64) -> Effect {
        let Phase::OnHold { since_us } = self.phase else { return Effect::None };
        let reason = if self.end_requested {
            EndReason::Event
        } else if now_us >= since_us + self.quiet_us {
            EndReason::Quiet
        } else {
            return Effect::None;
        };
        self.phase = Phase::Over;
        Effect::Over(reason)
    }
}

/// Whether the holder of a seat is newer than the newcomer: by generation where both are known, else by the time of
/// the handshake, which is what stream ids sort by.
fn is_newer(holder: &Seat, newcomer: &Seat) -> bool {
    match (holder.generation, newcomer.generation) {
        (Some(held), Some(new)) => held > new,
        _ => holder.stream > newcomer.stream,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUIET_US: i64 = 1_000;

    fn id(n: u64) -> StreamId {
        format!("0190{n:028x}").parse().expect("an id")
    }

    fn opened(n: u64, perspective: Perspective) -> Event {
        Event::Opened { perspective, stream: id(n), generation: Some(n) }
    }

    #[test]
    fn two_perspectives_live_side_by_side() {
        let mut contact = Contact::new(QUIET_US);
        assert_eq!(contact.step(0, opened(1, Perspective::Tx)), Effect::None);
        assert_eq!(contact.step(0, opened(2, Perspective::Rx)), Effect::None);
        assert_eq!(contact.open(), 2);
    }

    #[test]
    fn a_newer_generation_fences_the_older_socket() {
        let mut contact = Contact::new(QUIET_US);
        contact.step(0, opened(1, Perspective::Tx));
        assert_eq!(contact.step(1, opened(2, Perspective::Tx)), Effect::Fence(id(1)));
        assert_eq!(contact.step(2, Event::Closed(id(1))), Effect::None, "the fenced socket's end changes nothing");
        assert_eq!(contact.open(), 1);
    }

    #[test]
    fn a_late_old_socket_never_takes_the_seat_back() {
        let mut contact = Contact::new(QUIET_US);
        contact.step(0, opened(5, Perspective::Tx));
        assert_eq!(contact.step(1, opened(4, Perspective::Tx)), Effect::RefuseStale);
        let unnumbered = Event::Opened { perspective: Perspective::Tx, stream: id(3), generation: None };
        assert_eq!(contact.step(1, unnumbered), Effect::RefuseStale);
        assert_eq!(contact.step(2, Event::Closed(id(5))), Effect::OnHold);
    }

    #[test]
    fn perspectives_that_nobody_documents_never_fence_each_other() {
        let mut contact = Contact::new(QUIET_US);
        for (n, raw) in [(2, "7"), (1, "7"), (3, "8")] {
            assert_eq!(contact.step(0, opened(n, Perspective::Unknown(raw.into()))), Effect::None, "stream {n}");
        }
        assert_eq!(contact.open(), 3);
        assert_eq!(contact.step(1, Event::Closed(id(1))), Effect::None);
        assert_eq!(contact.step(1, Event::Closed(id(3))), Effect::None);
        assert_eq!(contact.step(1, Event::Closed(id(2))), Effect::OnHold);
    }

    #[test]
    fn however_many_undocumented_streams_there_are_a_known_one_is_followed_and_fenced() {
        let mut contact = Contact::new(QUIET_US);
        for n in 1..100 {
            assert_eq!(contact.step(0, opened(n, Perspective::Unknown(n.to_string()))), Effect::None);
        }
        assert_eq!(contact.open(), UNKNOWN_SEATS_MAX);
        assert_eq!(contact.step(0, opened(100, Perspective::Tx)), Effect::None);
        assert_eq!(contact.step(0, opened(101, Perspective::Tx)), Effect::Fence(id(100)));
        assert_eq!(contact.step(0, opened(99, Perspective::Tx)), Effect::RefuseStale);
    }

    #[test]
    fn the_seats_of_undocumented_streams_that_closed_are_free_again() {
        let mut contact = Contact::new(QUIET_US);
        for n in 1..100 {
            contact.step(0, opened(n, Perspective::Unknown("7".into())));
            assert_eq!(contact.open(), 1);
            assert_eq!(contact.step(0, Event::Closed(id(n))), Effect::OnHold);
            assert_eq!(contact.seats.len(), 1);
        }
    }

    #[test]
    fn hold_by_close_and_resume_with_the_next_generation() {
        let mut contact = Contact::new(QUIET_US);
        contact.step(0, opened(1, Perspective::Tx));
        contact.step(0, opened(2, Perspective::Rx));
        assert_eq!(contact.step(10, Event::Closed(id(1))), Effect::None);
        assert_eq!(contact.step(10, Event::Closed(id(2))), Effect::OnHold);
        assert_eq!(contact.wake_us(), Some(10 + QUIET_US));
        assert_eq!(contact.step(20, opened(3, Perspective::Tx)), Effect::Resumed);
        assert_eq!(contact.wake_us(), None);
    }

    #[test]
    fn hold_by_silence_needs_every_open_stream_to_be_silent() {
        let mut contact = Contact::new(QUIET_US);
        contact.step(0, opened(1, Perspective::Tx));
        contact.step(0, opened(2, Perspective::Rx));
        assert_eq!(contact.step(5, Event::Silent(id(1))), Effect::None);
        assert_eq!(contact.step(5, Event::Silent(id(2))), Effect::SilentHold);
        assert_eq!(contact.step(6, Event::Audible(id(2))), Effect::Resumed);
    }

    #[test]
    fn the_quiet_period_ends_a_contact_and_a_late_handshake_reopens_it() {
        let mut contact = Contact::new(QUIET_US);
        contact.step(0, opened(1, Perspective::Mix));
        contact.step(0, Event::Closed(id(1)));
        assert_eq!(contact.step(QUIET_US - 1, Event::Tick), Effect::None);
        assert_eq!(contact.step(QUIET_US, Event::Tick), Effect::Over(EndReason::Quiet));
        assert!(contact.is_over());
        assert_eq!(contact.step(QUIET_US + 1, opened(2, Perspective::Mix)), Effect::Resumed);
        assert!(!contact.is_over());
    }

    #[test]
    fn a_contact_event_ends_a_contact_as_soon_as_nothing_is_open() {
        let mut contact = Contact::new(QUIET_US);
        contact.step(0, opened(1, Perspective::Tx));
        assert_eq!(contact.step(1, Event::EndRequested), Effect::None);
        assert_eq!(contact.step(2, Event::Closed(id(1))), Effect::Over(EndReason::Event));

        let mut on_hold = Contact::new(QUIET_US);
        on_hold.step(0, opened(1, Perspective::Tx));
        on_hold.step(1, Event::Closed(id(1)));
        assert_eq!(on_hold.step(2, Event::EndRequested), Effect::Over(EndReason::Event));
    }

    proptest! {
        #[test]
        fn a_seat_is_never_held_by_an_older_stream_than_one_it_had(
            moves in prop::collection::vec((0u8..6, 1u64..20, any::<bool>()), 0..80)
        ) {
            let mut contact = Contact::new(QUIET_US);
            let mut newest = 0;
            for (at_us, (kind, n, numbered)) in moves.into_iter().enumerate() {
                let event = match kind {
                    0 | 1 => Event::Opened {
                        perspective: Perspective::Tx, stream: id(n), generation: numbered.then_some(n),
                    },
                    2 => Event::Closed(id(n)),
                    3 => Event::Silent(id(n)),
                    4 => Event::EndRequested,
                    _ => Event::Tick,
                };
                contact.step(i64::try_from(at_us).expect("small"), event);
                if let Some(seat) = contact.seats.first() {
                    prop_assert!(seat.stream >= id(newest));
                    newest = newest.max((1..20).find(|candidate| id(*candidate) == seat.stream).expect("a known id"));
                }
                prop_assert!(contact.seats.len() <= 1);
            }
        }
    }
}
