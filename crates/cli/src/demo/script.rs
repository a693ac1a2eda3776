//! What the demo's call does: who says what when, the hold, the dropped connection, what the assist app suggests, and what
//! the agent makes of it.
//!
//! Times are milliseconds of *speech*: the clock on which the voices speak, which stands still during the hold.

use bytes::Bytes;
use earpiece_core::assist::InteractionId;
use earpiece_core::audio::ulaw;
use earpiece_core::contact::{ContactKey, SAMPLES_PER_MS};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_simulator::platform::Answer;
use earpiece_simulator::{CallPlan, Cut, HoldBy, Line, Step};
use serde_json::{Value, json};

use crate::clips::{Clip, Speaker};
use crate::trouble::Trouble;

/// The demo's own contact: nothing else in a folder is ever replaced.
pub(crate) const CONTACT: ContactKey = ContactKey { bus_no: 4_594_567, contact_id: 20_811 };

/// How often CXone says that the caller is angry: streams repeat themselves, and the agent is to be told once.
pub(crate) const ANGER_SAID: usize = 2;

/// Something that the assist app suggests, and what the agent does with it.
pub(crate) struct Advice {
    /// Its id.
    pub(crate) id: &'static str,
    title: &'static str,
    content: &'static str,
    relevance: f64,
    /// The app says it when it has heard so much of the contact, in milliseconds.
    after_ms: u64,
    /// What the agent does with it.
    pub(crate) answer: Answer,
    /// How long the agent thinks about it.
    pub(crate) thought_ms: u64,
}

/// Both suggestions of the app, in the order in which they come.
pub(crate) const ADVICE: [Advice; 2] = [
    Advice {
        id: "tip-1",
        title: "How much may be given to relatives?",
        content: "Ask who depends on him first. Gifts to close family stay free of duty up to the yearly allowance.",
        relevance: 0.91,
        after_ms: 8_000,
        answer: Answer::Accepted,
        thought_ms: 1_200,
    },
    Advice {
        id: "tip-2",
        title: "Offer the family portrait session",
        content: "Couples who plan a gift together often take the portrait session. This month it is half price.",
        relevance: 0.74,
        after_ms: 14_300,
        answer: Answer::Dismissed,
        thought_ms: 800,
    },
];

/// A contact without a socket for so long is over. Longer than the hold, or the hold would end it.
pub(crate) const QUIET_MS: u64 = 2_000;

/// Which clip begins when: turns overlap a little, as turns do.
const TURNS: [(usize, u64); 4] = [(0, 0), (1, 6_800), (3, 10_000), (4, 15_700)];
/// The hold begins when both have finished their first turn.
const HOLD_AT_MS: u64 = 9_900;
/// For so long the sockets are closed.
const HOLD_MS: u64 = 1_200;
/// The contact's connection is lost in mid-sentence.
const DROP_AT_MS: u64 = 12_600;
/// For so long it is away.
const DROP_MS: u64 = 500;
/// They hang up.
const END_MS: u64 = 19_100;

// A demo has to be over within 40 s, and a hold that outlasts the quiet period would end the contact.
const _: () = assert!(END_MS + HOLD_MS + QUIET_MS < 30_000 && HOLD_MS + 500 < QUIET_MS);

/// Index of the leg whose connection is lost.
const TX_LEG: usize = 0;

/// How much of a sentence is heard, at least, when its connection is lost meanwhile.
const DROP_HEARD_LESS_MS: u64 = DROP_MS + 200;

/// Everything that happens, worked out from the clips.
pub(crate) struct Script {
    /// What the agent hears.
    contact_voice: Bytes,
    /// The agent.
    agent_voice: Bytes,
    /// What the assist app says, and when it has heard enough to say it.
    pub(crate) lines: Vec<Line>,
}

impl Script {
    /// Works everything out.
    ///
    /// # Errors
    ///
    /// When this build lacks one of the clips.
    pub(crate) fn new(clips: &[Clip]) -> Result<Self, Trouble> {
        let silence = vec![ulaw::SILENCE; index(END_MS * SAMPLES_PER_MS)];
        let (mut contact_voice, mut agent_voice) = (silence.clone(), silence);
        let mut lines = Vec::new();
        for (clip, at_ms) in TURNS {
            let clip = clips.get(clip).ok_or_else(|| Trouble::failed("a clip of the demo is missing"))?;
            let track = match clip.speaker {
                Speaker::Contact => &mut contact_voice,
                Speaker::Agent => &mut agent_voice,
            };
            let from = index(at_ms * SAMPLES_PER_MS);
            for (place, code) in track[from..].iter_mut().zip(clip.audio) {
                *place = *code;
            }
            lines.push(transcript(clip, at_ms));
        }
        lines.extend(ADVICE.iter().map(suggestion));
        Ok(Self { contact_voice: contact_voice.into(), agent_voice: agent_voice.into(), lines })
    }

    /// The call, towards a URL.
    pub(crate) fn call(&self, url: String) -> CallPlan {
        CallPlan::new(url, CONTACT)
            .both(self.contact_voice.clone(), self.agent_voice.clone())
            .step(Step::Speak { ms: HOLD_AT_MS })
            .step(Step::Hold { ms: HOLD_MS, by: HoldBy::Close })
            .step(Step::Speak { ms: DROP_AT_MS - HOLD_AT_MS })
            .step(Step::Drop { leg: TX_LEG, away_ms: DROP_MS, cut: Cut::Eof })
            .step(Step::Speak { ms: END_MS - DROP_AT_MS })
            .keep_audio()
    }
}

/// The words of a clip, when all of it was heard.
fn transcript(clip: &Clip, at_ms: u64) -> Line {
    let until_ms = at_ms + clip.audio.len() as u64 / SAMPLES_PER_MS;
    let (perspective, participant) = match clip.speaker {
        Speaker::Contact => (Perspective::Tx, "patron"),
        Speaker::Agent => (Perspective::Rx, "agent"),
    };
    // The app counts what it hears, and does not hear what the lost connection took away.
    let is_cut_short = clip.speaker == Speaker::Contact && (at_ms..until_ms).contains(&DROP_AT_MS);
    let heard_ms = if is_cut_short { until_ms - DROP_HEARD_LESS_MS } else { until_ms };
    Line {
        perspective,
        at_sample: heard_ms * SAMPLES_PER_MS,
        say: json!({ "type": "transcript", "participantId": participant, "text": clip.text, "final": true }),
    }
}

fn suggestion(advice: &Advice) -> Line {
    Line {
        perspective: Perspective::Tx,
        at_sample: advice.after_ms * SAMPLES_PER_MS,
        say: json!({
            "type": "suggestion",
            "id": advice.id,
            "title": advice.title,
            "content": advice.content,
            "relevanceScore": advice.relevance,
        }),
    }
}

/// The contact as CXone's platform names it.
pub(crate) fn interaction() -> InteractionId {
    InteractionId::from(&CONTACT)
}

/// What CXone's event stream says of a caller who was put on hold and then cut off.
pub(crate) fn anger() -> Value {
    json!({
        "id": interaction(),
        "type": "sentiment",
        "sentiment": { "score": -0.8, "confidence": 0.93 },
        "routing": { "queueWaitTimeMs": 4_200, "queueName": "Gifts and estates" },
        "participant": { "direction": "inbound" },
    })
}

/// A sample count as an index: the demo's call fits into memory many times over.
fn index(samples: u64) -> usize {
    usize::try_from(samples).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips;

    #[test]
    fn both_voices_last_as_long_as_the_call_and_every_sentence_ends_in_it() {
        let clips = clips::all().expect("clips");
        let script = Script::new(&clips).expect("a script");
        assert_eq!(script.contact_voice.len(), script.agent_voice.len());
        for (clip, at_ms) in TURNS {
            assert!(at_ms * SAMPLES_PER_MS + clips[clip].audio.len() as u64 <= END_MS * SAMPLES_PER_MS);
        }
        assert!(script.lines.iter().all(|line| line.at_sample <= END_MS * SAMPLES_PER_MS));
    }

    #[test]
    fn the_agent_has_answered_everything_before_the_call_ends_and_does_both_things() {
        // The app does not hear what the lost connection took away, so it speaks that much later.
        assert!(ADVICE.iter().all(|advice| advice.after_ms + DROP_HEARD_LESS_MS + advice.thought_ms + 1_000 < END_MS));
        assert_eq!(ADVICE.map(|advice| advice.answer), [Answer::Accepted, Answer::Dismissed]);
    }

    #[test]
    fn nobody_is_cut_off_by_the_hold() {
        let clips = clips::all().expect("clips");
        for (clip, at_ms) in TURNS {
            let until_ms = at_ms + clips[clip].audio.len() as u64 / SAMPLES_PER_MS;
            assert!(!(at_ms..until_ms).contains(&HOLD_AT_MS), "clip {clip} is on hold in mid-sentence");
        }
    }

    #[test]
    fn the_connection_is_lost_while_the_contact_speaks() {
        let clips = clips::all().expect("clips");
        let is_speaking = TURNS.iter().any(|&(clip, at_ms)| {
            let until_ms = at_ms + clips[clip].audio.len() as u64 / SAMPLES_PER_MS;
            clips[clip].speaker == Speaker::Contact && at_ms < DROP_AT_MS && DROP_AT_MS + DROP_MS < until_ms
        });
        assert!(is_speaking);
    }
}
