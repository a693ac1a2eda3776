//! The ring against a model of an assist app that follows the rules of `docs/assist-app.md`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { held_samples_max: 1_000, replay_samples: 300, chunk_samples: 100 };

/// The sample at a position: distinct enough for a shifted or repeated one to be noticed.
fn sample(position: u64) -> u8 {
    u8::try_from((position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) & 0xFF).unwrap()
}

fn audio(from: u64, count: u64) -> Vec<u8> {
    (from..from + count).map(sample).collect()
}

/// What an app holds that drops what it already has.
#[derive(Debug, Default)]
struct App {
    position: u64,
    clock: u64,
    /// Samples it was told are lost.
    missing: BTreeSet<u64>,
    /// Samples between what it had and where a new `start` began.
    jumped: BTreeSet<u64>,
}

impl App {
    fn start(&mut self, position: u64, clock: u64) {
        if position > self.position {
            self.jumped.extend(self.position..position);
            self.position = position;
            self.clock = clock;
        }
    }

    fn hear(&mut self, item: &Item) {
        match item {
            Item::Audio { position, samples } => {
                assert!(*position <= self.position, "audio at {position}, but the app has only {}", self.position);
                for (at, byte) in (*position..).zip(samples) {
                    assert_eq!(*byte, sample(at), "sample {at}");
                    if at == self.position {
                        self.position += 1;
                        self.clock += 1;
                    }
                }
            }
            Item::Silence { position, clock, samples } => {
                if *position == self.position {
                    self.clock = clock + samples;
                }
            }
            Item::Lost { position, clock, samples } => {
                assert!(*position <= self.position, "a loss at {position}, but the app has only {}", self.position);
                let end = position + samples;
                if end > self.position {
                    self.missing.extend(self.position..end);
                    self.position = end;
                    self.clock = clock + samples;
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    Silence(u64),
    /// Take up to so many items and hand them to the socket; they reach the app later or never.
    Send(usize, Want),
    /// The socket took everything, and this many of the items under way reach the app.
    Arrive(usize),
    Ack,
    /// The connection breaks; what is under way is gone. A new one begins.
    Break,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u64..250).prop_map(Step::Push),
        1 => (600_u64..1_500).prop_map(Step::Push),
        1 => (1_u64..10_000).prop_map(Step::Silence),
        6 => (1_usize..8, prop_oneof![Just(Want::Full), Just(Want::Partial)]).prop_map(|(n, want)| Step::Send(n, want)),
        5 => (0_usize..8).prop_map(Step::Arrive),
        3 => Just(Step::Ack),
        1 => Just(Step::Break),
    ]
}

/// A call between a ring and an app.
struct Call {
    ring: Ring,
    app: App,
    under_way: VecDeque<Item>,
    pushed: u64,
    silent: u64,
    lost_reported: u64,
}

impl Call {
    fn begin(acking: bool) -> Self {
        let mut ring = Ring::new(LIMITS);
        assert_eq!(ring.restart(), (0, 0, 0));
        if acking {
            ring.ack(0);
        }
        Self { ring, app: App::default(), under_way: VecDeque::new(), pushed: 0, silent: 0, lost_reported: 0 }
    }

    fn send(&mut self, items_max: usize, want: Want) {
        for _ in 0..items_max {
            let Some(item) = self.ring.take(want) else { break };
            if let Item::Audio { samples, .. } = &item {
                assert!(samples.len() as u64 <= LIMITS.chunk_samples && !samples.is_empty());
            }
            self.under_way.push_back(item);
        }
    }

    fn arrive(&mut self, items_max: usize) {
        self.ring.flushed();
        for item in self.under_way.drain(..items_max.min(self.under_way.len())) {
            self.app.hear(&item);
        }
    }

    fn step(&mut self, step: &Step, acking: bool) {
        match *step {
            Step::Push(samples) => {
                self.lost_reported += self.ring.push(&audio(self.pushed, samples));
                self.pushed += samples;
            }
            Step::Silence(samples) => {
                self.ring.silence(samples);
                self.silent += samples;
            }
            Step::Send(items_max, want) => self.send(items_max, want),
            Step::Arrive(items_max) => self.arrive(items_max),
            Step::Ack if acking => self.ring.ack(self.app.position),
            Step::Ack => {}
            Step::Break => {
                self.under_way.clear();
                let (position, clock, lost) = self.ring.restart();
                self.lost_reported += lost;
                assert!(!acking || position <= self.app.position, "an app that acknowledges is never skipped ahead");
                self.app.start(position, clock);
            }
        }
        assert!(self.ring.held() <= LIMITS.held_samples_max, "held {}", self.ring.held());
        assert!(self.ring.marks.len() <= MARKS_MAX);
        assert_eq!(self.ring.head(), self.pushed);
    }

    fn finish(&mut self) -> BTreeSet<u64> {
        self.send(usize::MAX, Want::All);
        self.arrive(usize::MAX);
        let lost = std::iter::from_fn(|| self.ring.take_lost()).collect::<Vec<_>>();
        assert_eq!(lost.iter().map(|range| range.samples).sum::<u64>(), self.lost_reported);
        lost.iter().flat_map(|range| range.first_sample..range.first_sample + range.samples).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_app_that_acknowledges_gets_every_sample_or_its_loss_by_name(steps in prop::collection::vec(step(), 1..60)) {
        let mut call = Call::begin(true);
        for step in &steps {
            call.step(step, true);
        }
        let lost = call.finish();
        prop_assert_eq!(call.app.position, call.pushed);
        prop_assert_eq!(call.app.clock, call.pushed + call.silent);
        prop_assert!(call.app.jumped.is_empty());
        for position in &call.app.missing {
            prop_assert!(lost.contains(position), "the app misses {position}, and nobody counted it");
        }
    }

    #[test]
    fn an_app_that_never_acknowledges_misses_only_what_it_can_see(steps in prop::collection::vec(step(), 1..60)) {
        let mut call = Call::begin(false);
        for step in &steps {
            call.step(step, false);
        }
        let lost = call.finish();
        prop_assert_eq!(call.app.position, call.pushed);
        prop_assert_eq!(call.app.clock, call.pushed + call.silent);
        for position in &lost {
            prop_assert!(
                call.app.missing.contains(position) || call.app.jumped.contains(position),
                "{position} was counted as lost, and the app was not told"
            );
        }
    }

    #[test]
    fn on_one_connection_what_is_counted_as_lost_is_exactly_what_the_app_misses(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut call = Call::begin(false);
        for step in steps.iter().filter(|step| !matches!(step, Step::Break)) {
            call.step(step, false);
        }
        let lost = call.finish();
        prop_assert_eq!(&call.app.missing, &lost);
        prop_assert!(call.app.jumped.is_empty());
    }
}

fn drain(ring: &mut Ring, want: Want) -> Vec<Item> {
    let items = std::iter::from_fn(|| ring.take(want)).collect();
    ring.flushed();
    items
}

#[test]
fn only_full_chunks_leave_until_a_partial_one_is_wanted() {
    let mut ring = Ring::new(LIMITS);
    ring.push(&audio(0, 250));
    assert_eq!(drain(&mut ring, Want::Full).len(), 2);
    assert_eq!((ring.pending(), ring.full_at()), (50, 300));
    assert_eq!(ring.take(Want::Partial), Some(Item::Audio { position: 200, samples: audio(200, 50).into() }));
    assert_eq!(ring.take(Want::Partial), None);
}

#[test]
fn a_silence_is_told_whole_when_audio_follows() {
    let mut ring = Ring::new(LIMITS);
    ring.push(&audio(0, 30));
    ring.silence(1_000);
    ring.silence(500);
    assert_eq!(ring.take(Want::Full), Some(Item::Audio { position: 0, samples: audio(0, 30).into() }));
    assert_eq!(ring.take(Want::Partial), None);
    ring.push(&audio(30, 100));
    assert_eq!(ring.take(Want::Full), Some(Item::Silence { position: 30, clock: 30, samples: 1_500 }));
    assert_eq!(ring.take(Want::Full), Some(Item::Audio { position: 30, samples: audio(30, 100).into() }));
    ring.silence(8);
    assert_eq!(ring.take(Want::All), Some(Item::Silence { position: 130, clock: 1_630, samples: 8 }));
}

#[test]
fn an_acknowledgement_frees_what_it_covers_and_spares_the_replay() {
    let mut ring = Ring::new(LIMITS);
    ring.push(&audio(0, 1_000));
    drain(&mut ring, Want::Full);
    ring.ack(0);
    ring.push(&audio(1_000, 500));
    drain(&mut ring, Want::Full);
    assert_eq!(ring.held(), 800, "300 from before the first acknowledgement, 500 since");
    ring.ack(1_200);
    assert_eq!(ring.held(), 300);
    ring.ack(1_000);
    assert_eq!(ring.restart(), (1_200, 1_200, 0), "an older acknowledgement changes nothing");
    ring.ack(u64::MAX);
    assert_eq!(ring.take(Want::All), None, "one beyond the end counts as everything that was sent");
    assert_eq!(ring.held(), 0);
    ring.push(&audio(1_500, 100));
    assert_eq!(ring.take(Want::Full), Some(Item::Audio { position: 1_500, samples: audio(1_500, 100).into() }));
}

#[test]
fn a_late_first_acknowledgement_does_not_turn_what_counted_as_heard_into_a_loss() {
    let mut ring = Ring::new(LIMITS);
    ring.push(&audio(0, 1_000));
    drain(&mut ring, Want::Full);
    ring.ack(0);
    assert_eq!(ring.restart(), (0, 0, 0));
    assert_eq!(
        ring.take(Want::Full),
        Some(Item::Lost { position: 0, clock: 0, samples: 700 }),
        "but it is named, in case the app does lack it"
    );
    assert_eq!(ring.take_lost(), None);
}

#[test]
fn without_acknowledgements_the_last_of_what_was_sent_is_kept_and_sent_again() {
    let mut ring = Ring::new(LIMITS);
    ring.push(&audio(0, 1_000));
    drain(&mut ring, Want::Full);
    assert_eq!(ring.held(), LIMITS.replay_samples);
    assert_eq!(ring.restart(), (700, 700, 0));
    assert_eq!(ring.take(Want::Full), Some(Item::Audio { position: 700, samples: audio(700, 100).into() }));
}

#[test]
fn what_overflows_before_it_is_sent_is_named_and_what_follows_is_intact() {
    let mut ring = Ring::new(LIMITS);
    assert_eq!(ring.push(&audio(0, 1_000)), 0);
    ring.silence(80);
    assert_eq!(ring.push(&audio(1_000, 2_500)), 2_500);
    assert_eq!(ring.take(Want::Full), Some(Item::Lost { position: 0, clock: 0, samples: 2_500 }));
    assert_eq!(
        ring.take(Want::Full),
        Some(Item::Silence { position: 2_500, clock: 2_500, samples: 80 }),
        "silence within a loss is told behind it"
    );
    assert_eq!(ring.take(Want::Full), Some(Item::Audio { position: 2_500, samples: audio(2_500, 100).into() }));
    assert_eq!(ring.take_lost(), Some(Range { first_sample: 0, samples: 2_500 }));
    assert_eq!(ring.take_lost(), None);
}

#[test]
fn losses_that_touch_are_one() {
    let mut ring = Ring::new(LIMITS);
    let mut pushed = 0;
    for _ in 0..100 {
        ring.push(&audio(pushed, 160));
        pushed += 160;
    }
    assert_eq!(ring.take_lost(), Some(Range { first_sample: 0, samples: 15_000 }));
    assert_eq!(ring.take_lost(), None);
}

#[test]
fn what_was_not_given_at_the_end_is_lost() {
    let mut ring = Ring::new(LIMITS);
    ring.push(&audio(0, 500));
    ring.take(Want::Full);
    ring.flushed();
    assert_eq!(ring.abandon(), 400);
    assert_eq!(ring.abandon(), 0, "and counted once");
}

#[test]
fn pushing_below_a_block_takes_no_new_block_and_idle_holds_none() {
    let mut ring = Ring::new(Limits { held_samples_max: 80_000, replay_samples: 8_000, chunk_samples: 800 });
    assert_eq!(ring.audio.allocated(), 0);
    ring.ack(0);
    let mut pushed = 0;
    for frame in 0..10_000_u64 {
        ring.push(&audio(pushed, 160));
        pushed += 160;
        if frame % 5 == 4 {
            assert!(ring.take(Want::Full).is_some());
            ring.flushed();
            ring.ack(pushed);
        }
        assert!(ring.audio.allocated() <= 1, "{} blocks after frame {frame}", ring.audio.allocated());
    }
    ring.release();
    assert_eq!(ring.audio.allocated(), 0);
}

#[test]
fn an_app_that_acknowledges_every_second_costs_no_allocation_once_it_runs() {
    let mut ring = Ring::new(Limits { held_samples_max: 80_000, replay_samples: 8_000, chunk_samples: 800 });
    ring.ack(0);
    let mut pushed = 0;
    let mut settled = 0;
    for second in 0..60 {
        for _ in 0..50 {
            ring.push(&audio(pushed, 160));
            pushed += 160;
            if ring.take(Want::Full).is_some() {
                ring.flushed();
            }
        }
        ring.ack(pushed);
        let allocated = ring.audio.allocated();
        if second > 1 {
            assert_eq!(allocated, settled);
        }
        settled = allocated;
    }
}
