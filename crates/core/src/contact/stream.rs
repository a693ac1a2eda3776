//! One socket: awaiting init → streaming → closed. Sans I/O: what happens and when comes in, what to do goes out.
//!
//! A stream that drains has been told to go elsewhere and is still heard: what its peer had said before it read our
//! close belongs to the call.
//!
//! The machine knows nothing of tokens or JSON: judging the init message is an effect whose outcome comes back as an
//! event. Every move that the contract does not allow is an [`IllegalMove`] and changes nothing.

use super::facts::CloseReason;
use super::timeline::{Arrival, Timeline};
use crate::error::Kind;

/// When a stream counts as silent, idle, dead or gone. All in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The init message must be complete by then.
    pub init_us: i64,
    /// No audio for so long is a hold by silence.
    pub silence_us: i64,
    /// Nothing at all for so long asks the peer for a sign of life.
    pub ping_us: i64,
    /// Nothing at all for so long means the peer is dead.
    pub dead_us: i64,
    /// A peer that was told to go elsewhere is heard for so long.
    pub farewell_us: i64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            init_us: 5_000_000,
            silence_us: 2_000_000,
            ping_us: 20_000_000,
            dead_us: 60_000_000,
            farewell_us: 2_000_000,
        }
    }
}

/// What happened on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A text frame came.
    Text,
    /// The init message was judged, and accepted.
    Accepted,
    /// The init message was judged, and refused.
    Refused(Kind),
    /// A binary frame with so many samples came. One without any is a sign of life and no more.
    Audio(u32),
    /// A ping, a pong or anything else that shows life came.
    SignOfLife,
    /// Time passed: call this at the instant given by [`Stream::wake_us`].
    Tick,
    /// A newer generation of this stream was claimed.
    Superseded,
    /// This task is going away.
    Drain,
    /// The socket ended on its own.
    Ended(CloseReason),
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Judge the text frame as the init message.
    Judge,
    /// Answer `CONNECTED`; audio may come.
    Acknowledge,
    /// Answer `ERROR` and close: no audio was ever accepted.
    Refuse(Kind),
    /// Put the samples on the timeline's last run; whether a break came before them.
    Audio(Arrival),
    /// Audio came after a silence that had been announced; how long it was.
    Audible {
        /// The break as the timeline saw it.
        arrival: Arrival,
        /// Time without audio.
        silent_us: i64,
    },
    /// Announce a hold by silence.
    Silent,
    /// Send a ping.
    Ping,
    /// Say 1012, and go on taking what the peer had under way.
    Goodbye,
    /// The stream is over: close the socket if it still stands.
    Close(CloseReason),
}

/// An event that has no place in the current state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event} is not possible while {state}")]
pub struct IllegalMove {
    /// The state's name.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitingInit { since_us: i64 },
    Judging,
    Streaming,
    Draining { since_us: i64 },
    Closed,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::AwaitingInit { .. } => "awaiting init",
            Self::Judging => "judging the init message",
            Self::Streaming => "streaming",
            Self::Draining { .. } => "draining",
            Self::Closed => "closed",
        }
    }
}

/// The state machine of one socket.
#[derive(Debug, Clone)]
pub struct Stream {
    state: State,
    patience: Patience,
    timeline: Timeline,
    heard_us: i64,
    audio_us: i64,
    pinged: bool,
    silent: bool,
}

impl Stream {
    /// A socket whose WebSocket handshake was done at `now_us`.
    #[must_use]
    pub const fn new(patience: Patience, timeline: Timeline, now_us: i64) -> Self {
        Self {
            state: State::AwaitingInit { since_us: now_us },
            patience,
            timeline,
            heard_us: now_us,
            audio_us: now_us,
            pinged: false,
            silent: false,
        }
    }

    /// What the samples so far look like on the clock.
    #[must_use]
    pub const fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// When the next [`Event::Tick`] is due; `None` once closed.
    #[must_use]
    pub fn wake_us(&self) -> Option<i64> {
        match self.state {
            State::AwaitingInit { since_us } => Some(since_us + self.patience.init_us),
            State::Judging | State::Closed => None,
            State::Draining { since_us } => Some(since_us + self.patience.farewell_us),
            State::Streaming => {
                let life = if self.pinged { self.patience.dead_us } else { self.patience.ping_us };
                let life_us = self.heard_us + life;
                Some(if self.silent { life_us } else { life_us.min(self.audio_us + self.patience.silence_us) })
            }
        }
    }

    /// Moves on. `now_us` must not run backwards; it is the time since the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] when the event has no place in the current state. Nothing changes then.
    pub fn step(&mut self, now_us: i64, event: Event) -> Result<Effect, IllegalMove> {
        match (self.state, event) {
            // An empty frame would hide a silence: nothing was said in it.
            (State::Streaming | State::Draining { .. }, Event::SignOfLife | Event::Audio(0)) => {
                self.heard(now_us);
                Ok(Effect::None)
            }
            (State::Streaming | State::Draining { .. }, Event::Audio(samples)) => Ok(self.audio(now_us, samples)),
            (State::Streaming, Event::Tick) => Ok(self.tick(now_us)),
            (State::Streaming, Event::Text) => Ok(self.close(CloseReason::PeerViolation)),
            (State::Streaming | State::Judging | State::Draining { .. }, Event::Superseded) => {
                Ok(self.close(CloseReason::Superseded))
            }
            (State::Streaming, Event::Drain) => {
                self.state = State::Draining { since_us: now_us };
                Ok(Effect::Goodbye)
            }
            (State::Draining { since_us }, Event::Tick) if now_us >= since_us + self.patience.farewell_us => {
                Ok(self.close(CloseReason::Drained))
            }
            (State::Draining { .. }, Event::Tick | Event::Text | Event::Drain) => Ok(Effect::None),
            // However the socket ends now, it ends because we asked for it.
            (State::Draining { .. }, Event::Ended(_)) => Ok(self.close(CloseReason::Drained)),
            (State::AwaitingInit { .. }, Event::Text) => {
                self.state = State::Judging;
                Ok(Effect::Judge)
            }
            (State::AwaitingInit { .. }, Event::Audio(_)) => Ok(self.refuse(Kind::Unsupported)),
            (State::AwaitingInit { since_us }, Event::Tick) => {
                Ok(if now_us >= since_us + self.patience.init_us { self.refuse(Kind::TooLate) } else { Effect::None })
            }
            (State::AwaitingInit { .. }, Event::SignOfLife) | (State::Judging, Event::SignOfLife | Event::Tick) => {
                Ok(Effect::None)
            }
            (State::AwaitingInit { .. } | State::Judging, Event::Drain) => Ok(self.refuse(Kind::Draining)),
            (State::Judging, Event::Accepted) => {
                self.state = State::Streaming;
                self.audio_us = now_us;
                self.heard(now_us);
                Ok(Effect::Acknowledge)
            }
            // A frame that is too large is refused before anybody could judge it.
            (State::Judging | State::AwaitingInit { .. }, Event::Refused(kind)) => Ok(self.refuse(kind)),
            (State::AwaitingInit { .. } | State::Judging | State::Streaming, Event::Ended(reason)) => {
                Ok(self.close(reason))
            }
            (state, event) => Err(IllegalMove { state: state.name(), event: name(event) }),
        }
    }

    fn audio(&mut self, now_us: i64, samples: u32) -> Effect {
        let silent_us = now_us - self.audio_us;
        self.heard(now_us);
        self.audio_us = now_us;
        let arrival = self.timeline.frame(now_us, samples);
        if std::mem::take(&mut self.silent) { Effect::Audible { arrival, silent_us } } else { Effect::Audio(arrival) }
    }

    const fn heard(&mut self, now_us: i64) {
        self.heard_us = now_us;
        self.pinged = false;
    }

    fn tick(&mut self, now_us: i64) -> Effect {
        if now_us - self.heard_us >= self.patience.dead_us {
            return self.close(CloseReason::PeerDead);
        }
        if !self.silent && now_us - self.audio_us >= self.patience.silence_us {
            self.silent = true;
            return Effect::Silent;
        }
        if !self.pinged && now_us - self.heard_us >= self.patience.ping_us {
            self.pinged = true;
            return Effect::Ping;
        }
        Effect::None
    }

    const fn refuse(&mut self, kind: Kind) -> Effect {
        self.state = State::Closed;
        Effect::Refuse(kind)
    }

    const fn close(&mut self, reason: CloseReason) -> Effect {
        self.state = State::Closed;
        Effect::Close(reason)
    }
}

const fn name(event: Event) -> &'static str {
    match event {
        Event::Text => "a text frame",
        Event::Accepted => "an accepted init message",
        Event::Refused(_) => "a refused init message",
        Event::Audio(_) => "audio",
        Event::SignOfLife => "a sign of life",
        Event::Tick => "a tick",
        Event::Superseded => "a newer generation",
        Event::Drain => "draining",
        Event::Ended(_) => "the end of the socket",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::timeline::Settings;
    use super::*;

    const SECOND_US: i64 = 1_000_000;

    fn stream() -> Stream {
        Stream::new(Patience::default(), Timeline::new(Settings::default()), 0)
    }

    fn streaming() -> Stream {
        let mut stream = stream();
        assert_eq!(stream.step(0, Event::Text), Ok(Effect::Judge));
        assert_eq!(stream.step(0, Event::Accepted), Ok(Effect::Acknowledge));
        stream
    }

    fn judging() -> Stream {
        let mut stream = stream();
        assert_eq!(stream.step(0, Event::Text), Ok(Effect::Judge));
        stream
    }

    fn closed() -> Stream {
        let mut stream = streaming();
        assert_eq!(stream.step(1, Event::Ended(CloseReason::PeerClosed)), Ok(Effect::Close(CloseReason::PeerClosed)));
        stream
    }

    fn draining() -> Stream {
        let mut stream = streaming();
        assert_eq!(stream.step(1, Event::Audio(160)), Ok(Effect::Audio(Arrival::First)));
        assert_eq!(stream.step(SECOND_US, Event::Drain), Ok(Effect::Goodbye));
        stream
    }

    const EVERY_EVENT: [Event; 10] = [
        Event::Text,
        Event::Accepted,
        Event::Refused(Kind::Unauthorized),
        Event::Audio(160),
        Event::Audio(0),
        Event::SignOfLife,
        Event::Tick,
        Event::Superseded,
        Event::Drain,
        Event::Ended(CloseReason::PeerClosed),
    ];

    #[test]
    fn every_illegal_move_is_an_error_and_changes_nothing() {
        let illegal_while = |stream: &Stream| -> Vec<Event> {
            let illegal = |event: &Event| {
                let mut probe = stream.clone();
                let is_illegal = probe.step(1, *event).is_err();
                assert!(!is_illegal || format!("{probe:?}") == format!("{stream:?}"), "{event:?} changed the state");
                is_illegal
            };
            EVERY_EVENT.into_iter().filter(illegal).collect()
        };
        assert_eq!(illegal_while(&stream()), [Event::Accepted, Event::Superseded]);
        assert_eq!(illegal_while(&judging()), [Event::Text, Event::Audio(160), Event::Audio(0)]);
        assert_eq!(illegal_while(&streaming()), [Event::Accepted, Event::Refused(Kind::Unauthorized)]);
        assert_eq!(illegal_while(&draining()), [Event::Accepted, Event::Refused(Kind::Unauthorized)]);
        assert_eq!(illegal_while(&closed()), EVERY_EVENT);
    }

    #[test]
    fn audio_before_init_is_refused_as_unsupported() {
        assert_eq!(stream().step(1, Event::Audio(160)), Ok(Effect::Refuse(Kind::Unsupported)));
    }

    #[test]
    fn an_init_that_does_not_come_in_time_is_refused() {
        let mut stream = stream();
        assert_eq!(stream.wake_us(), Some(5 * SECOND_US));
        assert_eq!(stream.step(5 * SECOND_US - 1, Event::Tick), Ok(Effect::None));
        assert_eq!(stream.step(5 * SECOND_US, Event::Tick), Ok(Effect::Refuse(Kind::TooLate)));
    }

    #[test]
    fn text_after_init_breaks_the_protocol() {
        assert_eq!(streaming().step(1, Event::Text), Ok(Effect::Close(CloseReason::PeerViolation)));
    }

    #[test]
    fn a_draining_stream_is_heard_until_the_farewell_is_over() {
        let mut stream = draining();
        assert_eq!(stream.wake_us(), Some(3 * SECOND_US));
        assert_eq!(
            stream.step(SECOND_US + 20_000, Event::Audio(160)),
            Ok(Effect::Audio(Arrival::Breaks { silent_us: 999_999 }))
        );
        for event in [Event::Text, Event::SignOfLife, Event::Audio(0), Event::Drain, Event::Tick] {
            assert_eq!(stream.step(3 * SECOND_US - 1, event), Ok(Effect::None), "{event:?}");
        }
        assert_eq!(stream.wake_us(), Some(3 * SECOND_US), "a second drain does not begin it anew");
        assert_eq!(stream.timeline().samples(), 320);
        assert_eq!(stream.step(3 * SECOND_US, Event::Tick), Ok(Effect::Close(CloseReason::Drained)));
        assert_eq!(stream.wake_us(), None);
    }

    #[test]
    fn audio_after_a_silence_is_audible_while_draining_too() {
        let mut stream = streaming();
        assert_eq!(stream.step(2 * SECOND_US, Event::Tick), Ok(Effect::Silent));
        assert_eq!(stream.step(3 * SECOND_US, Event::Drain), Ok(Effect::Goodbye));
        let audible = Effect::Audible { arrival: Arrival::First, silent_us: 4 * SECOND_US };
        assert_eq!(stream.step(4 * SECOND_US, Event::Audio(160)), Ok(audible));
    }

    #[test]
    fn a_draining_stream_ends_as_drained_unless_it_is_superseded() {
        for ended in CloseReason::ALL {
            assert_eq!(draining().step(2 * SECOND_US, Event::Ended(ended)), Ok(Effect::Close(CloseReason::Drained)));
        }
        let superseded = draining().step(2 * SECOND_US, Event::Superseded);
        assert_eq!(superseded, Ok(Effect::Close(CloseReason::Superseded)));
    }

    #[test]
    fn empty_frames_are_a_sign_of_life_and_do_not_hide_a_silence() {
        let mut stream = streaming();
        assert_eq!(stream.step(20_000, Event::Audio(160)), Ok(Effect::Audio(Arrival::First)));
        assert_eq!(stream.step(2 * SECOND_US, Event::Audio(0)), Ok(Effect::None));
        assert_eq!(stream.timeline().frames(), 1);
        assert_eq!(stream.step(20_000 + 2 * SECOND_US, Event::Tick), Ok(Effect::Silent));
        assert_eq!(stream.wake_us(), Some(22 * SECOND_US), "it was alive at 2 s");
    }

    #[test]
    fn silence_is_announced_once_and_ends_with_audio() {
        let mut stream = streaming();
        assert_eq!(stream.step(20_000, Event::Audio(160)), Ok(Effect::Audio(Arrival::First)));
        assert_eq!(stream.wake_us(), Some(20_000 + 2 * SECOND_US));
        assert_eq!(stream.step(20_000 + 2 * SECOND_US, Event::Tick), Ok(Effect::Silent));
        assert_eq!(stream.step(20_001 + 2 * SECOND_US, Event::Tick), Ok(Effect::None));
        let effect = stream.step(4 * SECOND_US, Event::Audio(160));
        assert!(
            matches!(effect, Ok(Effect::Audible { arrival: Arrival::Breaks { .. }, silent_us: 3_980_000 })),
            "{effect:?}"
        );
    }

    #[test]
    fn an_idle_peer_is_pinged_after_20_s_and_dead_after_60() {
        let mut stream = streaming();
        let mut seen = Vec::new();
        while let Some(wake_us) = stream.wake_us() {
            let effect = stream.step(wake_us, Event::Tick).expect("a legal tick");
            seen.push((wake_us / SECOND_US, effect));
        }
        assert_eq!(seen, [(2, Effect::Silent), (20, Effect::Ping), (60, Effect::Close(CloseReason::PeerDead))]);
    }

    #[test]
    fn a_pong_keeps_a_silent_peer_alive() {
        let mut stream = streaming();
        assert_eq!(stream.step(2 * SECOND_US, Event::Tick), Ok(Effect::Silent));
        assert_eq!(stream.step(20 * SECOND_US, Event::Tick), Ok(Effect::Ping));
        assert_eq!(stream.step(21 * SECOND_US, Event::SignOfLife), Ok(Effect::None));
        assert_eq!(stream.wake_us(), Some(41 * SECOND_US));
    }

    proptest! {
        #[test]
        fn no_order_of_events_panics_or_leaves_the_closed_state(
            events in prop::collection::vec((0usize..EVERY_EVENT.len(), 0i64..30_000_000), 0..60)
        ) {
            let mut stream = stream();
            let mut now_us = 0;
            let mut is_closed = false;
            for (event, step_us) in events {
                now_us += step_us;
                let effect = stream.step(now_us, EVERY_EVENT[event]);
                prop_assert!(!is_closed || effect.is_err());
                is_closed |= matches!(effect, Ok(Effect::Close(_) | Effect::Refuse(_)));
                prop_assert_eq!(is_closed, stream.wake_us().is_none() && stream.state == State::Closed);
            }
        }
    }
}
