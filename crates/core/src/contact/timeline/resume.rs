//! A timeline that is put away between two frames: for handlers that live for one message only.
//!
//! What is kept is everything that the next frame depends on, and nothing that follows from the rest: a run begins at
//! the sample where the one before it ended. The limits are not kept, they belong to the program that goes on.

use serde::{Deserialize, Serialize};

use super::{FrameSize, Settings, Timeline};
use crate::contact::facts::Run;

/// A timeline at rest. As JSON it takes some 100 bytes, and some 35 more per run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Samples, anchor (µs) and drift (samples) of each run, in order.
    runs: Vec<(u64, i64, i64)>,
    #[serde(skip_serializing_if = "is_zero", default)]
    runs_joined: u64,
    frames: u64,
    /// The usual frame size, and whether the last frame had another one; absent before the first frame, [`MIXED`] when
    /// sizes vary.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    frame_size: Option<(u32, bool)>,
    run_began_us: i64,
    base_us: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    is_joined: bool,
    /// Smallest estimate of the current window and of the one before, and the end of the current one.
    window_us: (i64, i64, i64),
}

/// Stands for frames of various sizes: no sender has frames of so many samples.
const MIXED: (u32, bool) = (u32::MAX, true);

impl Default for State {
    /// A timeline on which nothing has arrived.
    fn default() -> Self {
        Timeline::new(Settings::default()).state()
    }
}

impl State {
    /// Samples received.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.runs.iter().fold(0, |samples, run| samples.saturating_add(run.0))
    }
}

impl Timeline {
    /// The timeline at rest.
    #[must_use]
    pub fn state(&self) -> State {
        State {
            runs: self.runs.iter().map(|run| (run.samples, run.anchor_us, run.drift_samples)).collect(),
            runs_joined: self.runs_joined,
            frames: self.frames,
            frame_size: match self.frame_size {
                FrameSize::None => None,
                FrameSize::Uniform { samples, odd_last } => Some((samples, odd_last)),
                FrameSize::Mixed => Some(MIXED),
            },
            run_began_us: self.run_began_us,
            base_us: self.base_us,
            is_joined: self.is_joined,
            window_us: (self.window_min_us, self.window_before_us, self.window_ends_us),
        }
    }

    /// Goes on where a timeline was put away.
    #[must_use]
    pub fn resume(settings: Settings, state: &State) -> Self {
        let mut samples: u64 = 0;
        let runs = state.runs.iter().map(|&(length, anchor_us, drift_samples)| {
            let first_sample = samples;
            samples = samples.saturating_add(length);
            Run { first_sample, samples: length, anchor_us, drift_samples }
        });
        let runs = runs.collect();
        let (window_min_us, window_before_us, window_ends_us) = state.window_us;
        Self {
            settings,
            runs,
            runs_joined: state.runs_joined,
            frames: state.frames,
            samples,
            frame_size: match state.frame_size {
                None => FrameSize::None,
                Some(MIXED) => FrameSize::Mixed,
                Some((samples, odd_last)) => FrameSize::Uniform { samples, odd_last },
            },
            run_began_us: state.run_began_us,
            base_us: state.base_us,
            is_joined: state.is_joined,
            window_min_us,
            window_before_us,
            window_ends_us,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_timeline_at_rest_is_small() {
        let mut timeline = Timeline::new(Settings::default());
        for second in 0..100 {
            timeline.frame(1_790_000_000_000_000 + second * 1_000_000, 8_000);
        }
        let json = serde_json::to_string(&timeline.state()).expect("JSON");
        assert!(json.len() < 200, "{} bytes: {json}", json.len());
    }

    #[test]
    fn a_new_timeline_is_the_default_and_has_no_samples() {
        assert_eq!(State::default(), Timeline::new(Settings::default()).state());
        assert_eq!(State::default().samples(), 0);
    }

    proptest! {
        #[test]
        fn a_timeline_put_away_after_every_frame_comes_to_the_same_as_one_that_was_not(
            arrivals in prop::collection::vec((0i64..3_000_000, 0u32..2_000), 0..200), runs_max in 1usize..20
        ) {
            let settings = Settings { runs_max, ..Settings::default() };
            let mut whole = Timeline::new(settings);
            let mut at_rest = State::default();
            let mut now_us = 1_790_000_000_000_000;
            for (step_us, samples) in arrivals {
                now_us += step_us;
                let expected = whole.frame(now_us, samples);
                let json = serde_json::to_vec(&at_rest).expect("JSON");
                let mut resumed = Timeline::resume(settings, &serde_json::from_slice(&json).expect("a state"));
                prop_assert_eq!(resumed.frame(now_us, samples), expected);
                at_rest = resumed.state();
                prop_assert_eq!(at_rest.samples(), whole.samples());
            }
            let resumed = Timeline::resume(settings, &at_rest);
            prop_assert_eq!(resumed.runs(), whole.runs());
            prop_assert_eq!(resumed.frames(), whole.frames());
            prop_assert_eq!(resumed.frame_samples(), whole.frame_samples());
            prop_assert_eq!(resumed.runs_joined(), whole.runs_joined());
        }
    }
}
