//! Whatever is said, cut, failed and lost in whatever order: every sample is in the recording where the ledger says, or
//! named as lost.

use proptest::prelude::*;

use super::store::{Moody, Put};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Say { voice: usize, frames: i64 },
    Pause { voice: usize, ms: i64 },
    Cut { voice: usize },
    Tell { voice: usize },
    Close { voice: usize },
    Die { voice: usize },
    Pass { ms: u64 },
    Order(Put),
    Finish,
}

fn any_step() -> impl Strategy<Value = Step> {
    let voice = 0_usize..4;
    let put = prop_oneof![
        3 => Just(Put::Fails),
        2 => (0_u64..3_000).prop_map(Put::Takes),
        1 => Just(Put::SucceedsUnheard),
    ];
    prop_oneof![
        6 => (voice.clone(), 1_i64..120).prop_map(|(voice, frames)| Step::Say { voice, frames }),
        2 => (voice.clone(), 1_i64..2_000).prop_map(|(voice, ms)| Step::Pause { voice, ms }),
        6 => voice.clone().prop_map(|voice| Step::Cut { voice }),
        1 => voice.clone().prop_map(|voice| Step::Tell { voice }),
        1 => voice.clone().prop_map(|voice| Step::Close { voice }),
        1 => voice.prop_map(|voice| Step::Die { voice }),
        4 => (0_u64..4_000).prop_map(|ms| Step::Pass { ms }),
        4 => put.prop_map(Step::Order),
        1 => Just(Step::Finish),
    ]
}

struct Call {
    store: Arc<dyn ObjectStore>,
    moody: Arc<Moody>,
    recorder: Recorder,
    voices: [Option<Voice>; 4],
    said: Vec<Said>,
    streams: u64,
    now_ms: i64,
}

impl Call {
    fn new() -> Self {
        let store = memory();
        let moody = Moody::over(&store);
        let through: Arc<dyn ObjectStore> = moody.clone();
        let recorder = recorder(&through);
        Self { store, moody, recorder, voices: Default::default(), said: Vec::new(), streams: 0, now_ms: 0 }
    }

    /// The voice of a perspective; a new socket if there is none.
    fn voice(&mut self, index: usize) -> &mut Voice {
        let perspective = [Perspective::Tx, Perspective::Rx, Perspective::Mix, Perspective::Unknown("9".into())];
        self.voices[index].get_or_insert_with(|| {
            self.streams += 1;
            Voice::new(&self.recorder, self.streams, perspective[index].clone(), self.now_ms)
        })
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Say { voice, frames } => self.voice(voice).say(frames * 20),
            Step::Pause { voice, ms } => self.voice(voice).wait(ms),
            Step::Cut { voice } => self.voice(voice).cut(),
            Step::Tell { voice } => {
                let voice = self.voice(voice);
                voice.tap.events().push(&event(voice.facts.stream, voice.now_us(), "something"));
            }
            Step::Close { voice } => {
                let closed = self.voices[voice].take().map(Voice::close);
                self.said.extend(closed);
            }
            Step::Die { voice } => {
                let dead = self.voices[voice].take().map(Voice::die);
                self.said.extend(dead);
            }
            Step::Pass { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Order(put) => self.moody.next_puts([put]),
            // It may fail: then it is as if it had not been tried.
            Step::Finish => drop(self.recorder.finish(CONTACT).await),
        }
        self.now_ms =
            self.voices.iter().flatten().map(|voice| voice.now_ms).max().unwrap_or(self.now_ms).max(self.now_ms);
    }

    async fn end(mut self) {
        self.moody.all_puts(Put::Succeeds);
        for voice in 0..4 {
            self.step(&Step::Close { voice }).await;
        }
        self.recorder.flushed().await;
        assert_eq!(self.recorder.counters().ring_samples(), 0, "all memory is given back");
        let ledger = recorder(&self.store).finish(CONTACT).await.expect("finished").ledger;
        assert_recording_is(&self.store, &ledger, &self.said).await;
        assert_eq!(names(&self.store).await.len(), 3);
    }
}

proptest! {
    // A case is a whole call: fewer of them, but as many more as are asked for.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn every_sample_is_where_the_ledger_says_or_named_as_lost(steps in prop::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let mut call = Call::new();
            for step in &steps {
                call.step(step).await;
            }
            call.end().await;
        });
    }
}
