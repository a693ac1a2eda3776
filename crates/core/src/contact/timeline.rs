//! Where the samples of one stream belong in time.
//!
//! A position is a count of samples; the wall clock only says where a *run* (audio without a break) begins. Each
//! arrival gives an estimate of that beginning: the arrival time less the samples so far. Network and scheduler can
//! make audio late but never early, so the smallest estimate is the best one, and it keeps improving while the run
//! settles. A burst after a stall heals by itself: once the backlog is in, the run begins where the one before ended.
//!
//! Two things begin a new run: an arrival that is later than [`Settings::break_us`] (hold by silence, a stall), and a
//! stream that has fallen behind the wall clock for good by more than [`Settings::behind_us`] (audio lost on the way,
//! a slow clock). A fast clock cannot be mended by a break; it shows as drift.

mod resume;

pub use resume::State;

use super::facts::Run;

/// Microseconds per sample at 8000 Hz.
pub const US_PER_SAMPLE: i64 = 125;

/// The limits of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// An arrival later than this, in microseconds, begins a new run.
    pub break_us: i64,
    /// A stream that stays later than this, in microseconds, over a whole window begins a new run.
    pub behind_us: i64,
    /// For how long a run's anchor improves, in microseconds of wall time and of audio alike.
    pub settle_us: i64,
    /// Length of the window over which lateness is judged, in microseconds of wall time.
    pub window_us: i64,
    /// Runs kept; later ones are joined to the last and counted.
    pub runs_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { break_us: 200_000, behind_us: 60_000, settle_us: 2_000_000, window_us: 5_000_000, runs_max: 4096 }
    }
}

/// What an arrival means for the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The first audio of the stream.
    First,
    /// It continues the run.
    Continues,
    /// It begins a new run after this many microseconds without audio (the first estimate; the anchor may improve).
    Breaks {
        /// Time for which nothing came.
        silent_us: i64,
    },
}

/// Frame sizes seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameSize {
    /// No frame yet.
    None,
    /// Every frame had this size, but perhaps the last one of each run.
    Uniform {
        /// The size in samples.
        samples: u32,
        /// The last frame had another size; legal only if a break follows.
        odd_last: bool,
    },
    /// Sizes vary.
    Mixed,
}

/// The timeline of one stream.
#[derive(Debug, Clone)]
pub struct Timeline {
    settings: Settings,
    runs: Vec<Run>,
    runs_joined: u64,
    frames: u64,
    samples: u64,
    frame_size: FrameSize,
    /// When the current run began to arrive, and when its first sample was spoken by the best estimate so far. For runs
    /// beyond the limit this is not the anchor of the run that they are joined to.
    run_began_us: i64,
    base_us: i64,
    is_joined: bool,
    /// Smallest estimate within the current window, and within the one before.
    window_min_us: i64,
    window_before_us: i64,
    window_ends_us: i64,
}

impl Timeline {
    /// An empty timeline.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            runs: Vec::new(),
            runs_joined: 0,
            frames: 0,
            samples: 0,
            frame_size: FrameSize::None,
            run_began_us: 0,
            base_us: 0,
            is_joined: false,
            window_min_us: i64::MAX,
            window_before_us: i64::MAX,
            window_ends_us: i64::MIN,
        }
    }

    /// Takes one frame of `samples` samples that arrived at `now_us`. Does not allocate but when a run begins.
    pub fn frame(&mut self, now_us: i64, samples: u32) -> Arrival {
        self.frames += 1;
        let arrival = self.place(now_us, samples);
        self.note_frame_size(samples, arrival);
        self.samples += u64::from(samples);
        if let Some(run) = self.runs.last_mut() {
            run.samples += u64::from(samples);
        }
        arrival
    }

    fn place(&mut self, now_us: i64, samples: u32) -> Arrival {
        let Some(run) = self.runs.last().copied() else {
            self.begin_run(now_us, samples);
            return Arrival::First;
        };
        let estimate_us = now_us - (as_us(run.samples) + as_us(u64::from(samples)));
        let best_us = self.window_min_us.min(self.window_before_us);
        let late_us = estimate_us.saturating_sub(best_us);
        if late_us > self.settings.break_us {
            self.begin_run(now_us, samples);
            return Arrival::Breaks { silent_us: late_us };
        }
        if now_us >= self.window_ends_us {
            let behind_us = self.window_min_us.saturating_sub(self.base_us);
            if self.window_min_us != i64::MAX && behind_us > self.settings.behind_us {
                self.begin_run(now_us, samples);
                return Arrival::Breaks { silent_us: behind_us };
            }
            self.window_before_us = self.window_min_us;
            self.window_min_us = estimate_us;
            self.window_ends_us = now_us + self.settings.window_us;
        }
        self.window_min_us = self.window_min_us.min(estimate_us);
        self.refine(now_us, estimate_us);
        Arrival::Continues
    }

    fn begin_run(&mut self, now_us: i64, samples: u32) {
        let anchor_us = now_us - as_us(u64::from(samples));
        self.run_began_us = now_us;
        self.base_us = anchor_us;
        self.is_joined = false;
        self.window_min_us = anchor_us;
        self.window_before_us = i64::MAX;
        self.window_ends_us = now_us + self.settings.window_us;
        if self.runs.len() < self.settings.runs_max {
            self.runs.push(Run { first_sample: self.samples, samples: 0, anchor_us, drift_samples: 0 });
        } else if let Some(last) = self.runs.last() {
            // The estimates of the joined run must refer to where the long run began, or every arrival would break.
            self.runs_joined += 1;
            self.window_min_us = now_us - as_us(last.samples) - as_us(u64::from(samples));
            self.base_us = self.window_min_us;
            self.is_joined = true;
        }
    }

    fn refine(&mut self, now_us: i64, estimate_us: i64) {
        let settle_us = self.settings.settle_us;
        let settling_by_clock = now_us - self.run_began_us < settle_us;
        let drift_us = self.window_min_us.min(self.window_before_us);
        if let Some(run) = self.runs.last_mut() {
            let settling = settling_by_clock || as_us(run.samples) < settle_us;
            if settling && estimate_us < self.base_us {
                self.base_us = estimate_us;
            }
            if !self.is_joined {
                run.anchor_us = self.base_us;
                run.drift_samples = (run.anchor_us - drift_us) / US_PER_SAMPLE;
            }
        }
    }

    fn note_frame_size(&mut self, samples: u32, arrival: Arrival) {
        self.frame_size = match self.frame_size {
            FrameSize::None => FrameSize::Uniform { samples, odd_last: false },
            FrameSize::Uniform { odd_last: true, .. } if arrival == Arrival::Continues => FrameSize::Mixed,
            FrameSize::Uniform { samples: usual, .. } => {
                FrameSize::Uniform { samples: usual, odd_last: samples != usual }
            }
            FrameSize::Mixed => FrameSize::Mixed,
        };
    }

    /// Samples received.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Frames received.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// The runs so far.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Runs that were joined to the last one because the limit was reached.
    #[must_use]
    pub const fn runs_joined(&self) -> u64 {
        self.runs_joined
    }

    /// The size of every frame (but perhaps the last of each run), if they were all alike.
    #[must_use]
    pub const fn frame_samples(&self) -> Option<u32> {
        match self.frame_size {
            FrameSize::Uniform { samples, .. } if samples > 0 => Some(samples),
            _ => None,
        }
    }
}

/// Samples as microseconds.
const fn as_us(samples: u64) -> i64 {
    // A count of samples that overflows here would be a call of 36,000 years.
    samples.cast_signed() * US_PER_SAMPLE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME_US: i64 = 20_000;

    /// Plays frames of 20 ms that were spoken back to back from `start_us` on, each late by `late_us(k)`.
    fn play(timeline: &mut Timeline, start_us: i64, frames: i64, late_us: impl Fn(i64) -> i64) {
        for k in 0..frames {
            timeline.frame(start_us + (k + 1) * FRAME_US + late_us(k), 160);
        }
    }

    #[test]
    fn steady_audio_is_one_run_anchored_at_its_first_sample() {
        let mut timeline = Timeline::new(Settings::default());
        play(&mut timeline, 1_000_000, 500, |k| (k * 7919) % 15_000);
        assert_eq!(timeline.runs().len(), 1);
        assert_eq!(timeline.runs()[0].anchor_us, 1_000_000);
        assert_eq!(timeline.samples(), 80_000);
        assert_eq!(timeline.frame_samples(), Some(160));
    }

    #[test]
    fn silence_begins_a_new_run_anchored_where_speech_came_back() {
        let mut timeline = Timeline::new(Settings::default());
        play(&mut timeline, 0, 100, |k| k % 3 * 1000);
        play(&mut timeline, 5_000_000, 100, |k| if k == 0 { 19_000 } else { k % 3 * 1000 });
        let [first, second] = timeline.runs() else { panic!("two runs") };
        assert_eq!((first.samples, first.anchor_us), (16_000, 0));
        assert_eq!((second.first_sample, second.anchor_us), (16_000, 5_000_000));
    }

    #[test]
    fn a_burst_after_a_stall_is_placed_as_if_there_had_been_no_stall() {
        let mut timeline = Timeline::new(Settings::default());
        play(&mut timeline, 0, 100, |_| 0);
        // Five seconds of audio are held up and arrive in one instant; then the stream goes on in time.
        play(&mut timeline, 2_000_000, 400, |k| (250 - k).max(0) * FRAME_US);
        let last = timeline.runs().last().copied().expect("runs");
        assert_eq!(last.anchor_us - 2_000_000, 0, "anchor of the run after the stall");
        assert_eq!(timeline.runs().len(), 2);
    }

    #[test]
    fn audio_lost_on_the_way_in_small_pieces_is_a_break_once_it_adds_up() {
        let mut timeline = Timeline::new(Settings::default());
        play(&mut timeline, 0, 300, |_| 0);
        // From here on 100 ms are missing: less than a break, but for good.
        play(&mut timeline, 6_100_000, 600, |_| 0);
        assert_eq!(timeline.runs().len(), 2);
        assert_eq!(timeline.runs()[1].anchor_us % FRAME_US, 6_100_000 % FRAME_US);
    }

    #[test]
    fn a_fast_sender_shows_as_drift() {
        let mut timeline = Timeline::new(Settings::default());
        play(&mut timeline, 0, 5_000, |k| -k);
        assert_eq!(timeline.runs().len(), 1);
        assert!((35..=40).contains(&timeline.runs()[0].drift_samples), "{}", timeline.runs()[0].drift_samples);
    }

    #[test]
    fn a_short_last_frame_does_not_spoil_the_frame_size_but_a_short_middle_one_does() {
        let mut timeline = Timeline::new(Settings::default());
        timeline.frame(0, 160);
        timeline.frame(10_000, 80);
        assert_eq!(timeline.frame_samples(), Some(160));
        timeline.frame(5_000_000, 160);
        assert_eq!(timeline.frame_samples(), Some(160));
        timeline.frame(5_010_000, 80);
        timeline.frame(5_030_000, 160);
        assert_eq!(timeline.frame_samples(), None);
    }

    #[test]
    fn runs_beyond_the_limit_are_joined_and_counted() {
        let mut timeline = Timeline::new(Settings { runs_max: 2, ..Settings::default() });
        for k in 0..10 {
            timeline.frame(k * 10_000_000, 160);
        }
        assert_eq!((timeline.runs().len(), timeline.runs_joined()), (2, 8));
        assert_eq!(timeline.runs().iter().map(|run| run.samples).sum::<u64>(), timeline.samples());
    }

    #[test]
    fn steady_audio_after_the_limit_of_runs_breaks_no_more() {
        let mut timeline = Timeline::new(Settings { runs_max: 2, ..Settings::default() });
        for k in 0..4 {
            timeline.frame(k * 10_000_000, 160);
        }
        let joined = timeline.runs_joined();
        let breaks =
            (1..3_000).filter(|k| timeline.frame(30_000_000 + k * FRAME_US, 160) != Arrival::Continues).count();
        assert_eq!((breaks, timeline.runs_joined()), (0, joined));
    }

    proptest! {
        #[test]
        fn every_sample_is_in_exactly_one_run(arrivals in prop::collection::vec((0i64..3_000_000, 0u32..2_000), 0..200)) {
            let mut timeline = Timeline::new(Settings::default());
            let mut now_us = 0;
            for (step_us, samples) in arrivals {
                now_us += step_us;
                timeline.frame(now_us, samples);
            }
            let mut next = 0;
            for run in timeline.runs() {
                prop_assert_eq!(run.first_sample, next);
                next += run.samples;
            }
            prop_assert_eq!(next, timeline.samples());
        }

        #[test]
        fn no_lateness_below_the_break_moves_an_anchor_by_more_than_its_least_lateness(
            late_us in prop::collection::vec(0i64..150_000, 100..300), start_us in 0i64..1_000_000_000
        ) {
            let mut timeline = Timeline::new(Settings { behind_us: i64::MAX, ..Settings::default() });
            // Arrivals are in order on one socket: a late frame holds up the ones behind it.
            let mut previous_us = 0;
            let mut least_us = i64::MAX;
            for (k, late) in late_us.iter().enumerate() {
                let due_us = start_us + (i64::try_from(k).expect("small") + 1) * FRAME_US;
                let at_us = (due_us + late).max(previous_us);
                previous_us = at_us;
                if k < 100 { least_us = least_us.min(at_us - due_us); }
                timeline.frame(at_us, 160);
            }
            prop_assert_eq!(timeline.runs().len(), 1);
            prop_assert!(timeline.runs()[0].anchor_us - start_us <= least_us);
            prop_assert!(timeline.runs()[0].anchor_us >= start_us);
        }
    }
}
