//! Human speech that comes with the program: five sentences as raw µ-law, with their words. Source and licence are in
//! `clips/README.md`.

use bytes::Bytes;
use serde::Deserialize;

use crate::trouble::Trouble;

/// Which side of the call a clip belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Speaker {
    /// Heard on TX.
    Contact,
    /// Heard on RX.
    Agent,
}

/// One sentence.
#[derive(Debug, Clone)]
pub(crate) struct Clip {
    /// Who speaks.
    pub(crate) speaker: Speaker,
    /// The words.
    pub(crate) text: String,
    /// Raw µ-law, 8000 Hz, mono.
    pub(crate) audio: &'static [u8],
}

macro_rules! clip {
    ($file:literal) => {
        ($file, include_bytes!(concat!("../../../clips/", $file)))
    };
}

const AUDIO: [(&str, &[u8]); 5] = [
    clip!("contact-1-john-dashwood-had-leisure.ul"),
    clip!("agent-1-not-ill-disposed.ul"),
    clip!("agent-2-cold-hearted-and-selfish.ul"),
    clip!("contact-2-a-more-amiable-woman.ul"),
    clip!("agent-3-amiable-himself.ul"),
];

const TRANSCRIPTS: &str = include_str!("../../../clips/transcripts.json");

/// All clips, in the order of the conversation.
///
/// # Errors
///
/// When the transcripts and the clips in this build do not fit together.
pub(crate) fn all() -> Result<Vec<Clip>, Trouble> {
    #[derive(Deserialize)]
    struct Line {
        file: String,
        voice: Speaker,
        text: String,
        samples: usize,
    }
    let misfit = || Trouble::failed("the clips of this build do not fit their transcripts");
    let lines: Vec<Line> = serde_json::from_str(TRANSCRIPTS).map_err(|_| misfit())?;
    let clip = |line: Line| {
        let (_, audio) = AUDIO.into_iter().find(|(file, _)| *file == line.file)?;
        (audio.len() == line.samples).then_some(Clip { speaker: line.voice, text: line.text, audio })
    };
    lines.into_iter().map(|line| clip(line).ok_or_else(misfit)).collect()
}

/// Everything that one side says, with `pause_samples` of silence after each sentence, and silence while the other side
/// speaks.
pub(crate) fn conversation(clips: &[Clip], speaker: Speaker, pause_samples: usize) -> Bytes {
    let mut track = Vec::new();
    for clip in clips {
        if clip.speaker == speaker {
            track.extend_from_slice(clip.audio);
        } else {
            track.resize(track.len() + clip.audio.len(), earpiece_core::audio::ulaw::SILENCE);
        }
        track.resize(track.len() + pause_samples, earpiece_core::audio::ulaw::SILENCE);
    }
    Bytes::from(track)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clip_has_its_transcript_and_its_stated_length() {
        let clips = all().expect("clips");
        assert_eq!(clips.len(), AUDIO.len());
        assert!(clips.iter().any(|clip| clip.speaker == Speaker::Agent && !clip.text.is_empty()));
    }

    #[test]
    fn the_sides_of_a_conversation_take_turns_and_are_equally_long() {
        let clips = all().expect("clips");
        let (contact, agent) = (conversation(&clips, Speaker::Contact, 80), conversation(&clips, Speaker::Agent, 80));
        assert_eq!(contact.len(), agent.len());
        let silence = earpiece_core::audio::ulaw::SILENCE;
        let first = clips[0].audio.len();
        assert!(agent[..first].iter().all(|&code| code == silence) && contact[..first].iter().any(|&c| c != silence));
    }
}
