//! Where the steps of a script lie on the media clock: pure, so that every gap a call makes is known beforehand.

use std::time::Duration;

use bytes::Bytes;
use earpiece_core::contact::SAMPLES_PER_MS;
use tokio::time::Instant;

use crate::plan::{CallPlan, Cut, FRAME_SAMPLES, FrameSize, HoldBy, KEPT_SAMPLES_MAX, LEGS_MAX, Pace, PlanError, Step};

/// Longest call: about eleven days, far inside what the clock's arithmetic holds.
const CALL_SAMPLES_MAX: u64 = 8_000_000_000;

/// Largest frame: what CXone's hook is told to refuse beyond (64 KiB).
const FRAME_SAMPLES_MAX: u32 = 65_536;

/// What happens when, in samples of the media clock.
#[derive(Debug)]
pub(crate) struct Timetable {
    /// What happens, in order.
    pub(crate) entries: Vec<Entry>,
    /// Every step begins on a multiple of this, and so does what a leg sends after an outage.
    pub(crate) grid: u64,
}

#[derive(Debug)]
pub(crate) enum Entry {
    /// A stretch of time.
    Span(Span),
    /// A leg's connection is cut.
    Cut(CutAt),
}

#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// The voices speak; their clips are read from `speech_from` on.
    Speech {
        speech_from: u64,
        /// A further person in what the agent hears.
        guest: Option<Bytes>,
    },
    /// Hold.
    Hold(HoldBy),
}

#[derive(Debug)]
pub(crate) struct CutAt {
    pub(crate) at: u64,
    pub(crate) leg: usize,
    pub(crate) back_at: u64,
    pub(crate) cut: Cut,
}

impl Timetable {
    /// Lays a plan out.
    ///
    /// # Errors
    ///
    /// When the plan cannot be carried out: see [`PlanError`].
    pub(crate) fn lay_out(plan: &CallPlan) -> Result<Self, PlanError> {
        if plan.legs.is_empty() || plan.legs.len() > LEGS_MAX {
            return Err(PlanError::Legs);
        }
        if let Pace::Speed(speed) = plan.pace
            && !(speed.is_finite() && speed > 0.0)
        {
            return Err(PlanError::Speed);
        }
        let mut layout = Layout { grid: grid(plan.frame.size)?, entries: Vec::new(), at: 0, speech: 0 };
        if plan.script.is_empty() {
            let longest = plan.legs.iter().map(|leg| leg.audio.len()).max().unwrap_or(0);
            layout.speak(u64::try_from(longest).map_err(|_| PlanError::TooLong)?, None)?;
        }
        for (index, step) in plan.script.iter().enumerate() {
            layout.step(index, step, plan.legs.len())?;
        }
        if plan.keep_audio && layout.at > KEPT_SAMPLES_MAX {
            return Err(PlanError::TooLong);
        }
        Ok(Self { entries: layout.entries, grid: layout.grid })
    }
}

fn grid(size: FrameSize) -> Result<u64, PlanError> {
    let legal = 1..=FRAME_SAMPLES_MAX;
    match size {
        FrameSize::Fixed { samples } if legal.contains(&samples) => Ok(u64::from(samples)),
        FrameSize::Random { samples_min, samples_max }
            if legal.contains(&samples_min) && legal.contains(&samples_max) && samples_min <= samples_max =>
        {
            Ok(u64::from(FRAME_SAMPLES))
        }
        _ => Err(PlanError::FrameSize),
    }
}

struct Layout {
    grid: u64,
    entries: Vec<Entry>,
    /// Position on the media clock.
    at: u64,
    /// How much the voices have spoken.
    speech: u64,
}

impl Layout {
    fn step(&mut self, index: usize, step: &Step, legs: usize) -> Result<(), PlanError> {
        match step {
            Step::Speak { ms } => self.speak(samples(*ms), None),
            Step::Conference { ms, audio } => self.speak(samples(*ms), Some(audio.clone())),
            Step::Hold { ms, by } => self.span(samples(*ms), What::Hold(*by)).map(|_| ()),
            Step::Drop { leg, .. } if *leg >= legs => Err(PlanError::NoSuchLeg { step: index }),
            Step::Drop { leg, away_ms, cut } => {
                let back_at = self.end_of(samples(*away_ms))?;
                self.entries.push(Entry::Cut(CutAt { at: self.at, leg: *leg, back_at, cut: *cut }));
                Ok(())
            }
        }
    }

    fn speak(&mut self, samples: u64, guest: Option<Bytes>) -> Result<(), PlanError> {
        self.speech += self.span(samples, What::Speech { speech_from: self.speech, guest })?;
        Ok(())
    }

    fn span(&mut self, samples: u64, what: What) -> Result<u64, PlanError> {
        let from = self.at;
        let until = self.end_of(samples)?;
        self.entries.push(Entry::Span(Span { from, until, what }));
        self.at = until;
        Ok(until - from)
    }

    /// The next whole frame at or after `samples` from here.
    fn end_of(&self, samples: u64) -> Result<u64, PlanError> {
        if samples > CALL_SAMPLES_MAX || self.at + samples > CALL_SAMPLES_MAX {
            return Err(PlanError::TooLong);
        }
        Ok(self.at + samples.next_multiple_of(self.grid))
    }
}

fn samples(ms: u64) -> u64 {
    ms.saturating_mul(SAMPLES_PER_MS)
}

/// The clock that all legs of a call share: sample positions and wall time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MediaClock {
    /// When sample 0 is spoken: all legs are connected and acknowledged.
    zero: Instant,
    pace: Pace,
}

impl MediaClock {
    const US_PER_SAMPLE: u64 = 125;

    pub(crate) fn starting_at(zero: Instant, pace: Pace) -> Self {
        Self { zero, pace }
    }

    /// When the sample at a position is spoken. A frame leaves when the sample behind its last one is.
    pub(crate) fn instant(&self, sample: u64) -> Instant {
        let real_time = Duration::from_micros(sample.saturating_mul(Self::US_PER_SAMPLE));
        self.zero
            + match self.pace {
                Pace::RealTime => real_time,
                Pace::Speed(speed) => real_time.div_f64(speed),
            }
    }

    /// The first multiple of `grid` that is not yet being spoken at `now`.
    pub(crate) fn next_multiple(&self, grid: u64, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.zero);
        let media = match self.pace {
            Pace::RealTime => elapsed,
            Pace::Speed(speed) => elapsed.mul_f64(speed),
        };
        let sample_ns = u128::from(Self::US_PER_SAMPLE) * 1000;
        let sample = u64::try_from(media.as_nanos().div_ceil(sample_ns)).unwrap_or(u64::MAX / 2);
        sample.next_multiple_of(grid)
    }
}

#[cfg(test)]
mod tests {
    use earpiece_core::contact::ContactKey;
    use serde_json::json;

    use super::*;
    use crate::plan::FrameShape;

    fn plan() -> CallPlan {
        CallPlan::new("ws://h/", ContactKey { bus_no: 1, contact_id: 2 }).leg(json!("TX"), vec![0; 100])
    }

    fn spans(plan: &CallPlan) -> Vec<(u64, u64)> {
        let table = Timetable::lay_out(plan).unwrap();
        let spans = table.entries.iter().filter_map(|entry| match entry {
            Entry::Span(span) => Some((span.from, span.until)),
            Entry::Cut(_) => None,
        });
        spans.collect()
    }

    #[test]
    fn steps_last_whole_frames_and_follow_each_other() {
        let plan = plan()
            .frame(FrameShape::fixed(200))
            .step(Step::Speak { ms: 100 })
            .step(Step::Hold { ms: 1, by: HoldBy::Close })
            .step(Step::Speak { ms: 50 });
        assert_eq!(spans(&plan), [(0, 800), (800, 1000), (1000, 1400)]);
    }

    #[test]
    fn a_hold_does_not_use_up_what_the_voices_have_to_say() {
        let plan = plan()
            .step(Step::Speak { ms: 40 })
            .step(Step::Hold { ms: 1000, by: HoldBy::Silence })
            .step(Step::Speak { ms: 40 });
        let table = Timetable::lay_out(&plan).unwrap();
        let Some(Entry::Span(Span { from: 8320, what: What::Speech { speech_from, .. }, .. })) = table.entries.last()
        else {
            panic!("{table:?}")
        };
        assert_eq!(*speech_from, 320);
    }

    #[test]
    fn without_a_script_the_longest_clip_is_spoken_once() {
        assert_eq!(spans(&plan().leg(json!("RX"), vec![0; 500])), [(0, 640)]);
    }

    #[test]
    fn a_drop_takes_no_time_of_the_script() {
        let table = Timetable::lay_out(
            &plan()
                .step(Step::Speak { ms: 20 })
                .step(Step::Drop { leg: 0, away_ms: 30, cut: Cut::Eof })
                .step(Step::Speak { ms: 20 }),
        )
        .unwrap();
        let Entry::Cut(cut) = &table.entries[1] else { panic!("{table:?}") };
        assert_eq!((cut.at, cut.back_at), (160, 480));
        let Entry::Span(span) = &table.entries[2] else { panic!("{table:?}") };
        assert_eq!(span.from, 160);
    }

    #[test]
    fn a_plan_that_cannot_be_carried_out_is_refused() {
        let none = CallPlan::new("ws://h/", ContactKey { bus_no: 1, contact_id: 2 });
        let refused = |plan: &CallPlan| Timetable::lay_out(plan).unwrap_err();
        assert_eq!(refused(&none), PlanError::Legs);
        assert_eq!(refused(&plan().frame(FrameShape::fixed(0))), PlanError::FrameSize);
        assert_eq!(refused(&plan().frame(FrameShape::random(200, 100))), PlanError::FrameSize);
        assert_eq!(refused(&plan().pace(Pace::Speed(0.0))), PlanError::Speed);
        assert_eq!(refused(&plan().pace(Pace::Speed(f64::NAN))), PlanError::Speed);
        assert_eq!(refused(&plan().step(Step::Speak { ms: u64::MAX })), PlanError::TooLong);
        assert_eq!(refused(&plan().keep_audio().step(Step::Speak { ms: 7_200_001 })), PlanError::TooLong);
        let no_leg = plan().step(Step::Drop { leg: 1, away_ms: 0, cut: Cut::Eof });
        assert_eq!(refused(&no_leg), PlanError::NoSuchLeg { step: 0 });
    }

    #[test]
    fn the_clock_counts_125_microseconds_a_sample_and_resumes_on_the_grid() {
        let zero = Instant::now();
        let clock = MediaClock::starting_at(zero, Pace::RealTime);
        assert_eq!(clock.instant(160), zero + Duration::from_millis(20));
        assert_eq!(clock.next_multiple(160, zero), 0);
        assert_eq!(clock.next_multiple(160, zero + Duration::from_nanos(1)), 160);
        assert_eq!(clock.next_multiple(160, zero + Duration::from_millis(20)), 160);
        assert_eq!(clock.next_multiple(160, zero + Duration::from_millis(21)), 320);
        let double = MediaClock::starting_at(zero, Pace::Speed(2.0));
        assert_eq!(double.instant(160), zero + Duration::from_millis(10));
        assert_eq!(double.next_multiple(160, zero + Duration::from_millis(11)), 320);
    }
}
