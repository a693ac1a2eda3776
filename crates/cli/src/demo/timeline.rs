//! The live timeline: when, who, what. Lines for what happens, and below them two moving strips of what the assist app
//! hears, where a terminal can show them.

use std::collections::BTreeMap;
use std::time::Instant;

use earpiece_core::contact::event::{AppEvent, ContactEvent, What};
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_simulator::platform::Answer;
use earpiece_simulator::{AssistApp, HoldBy, Progress};
use indicatif::ProgressBar;
use serde_json::Value;

use super::card::Card;
use super::desk::{self, Arrival, Article, Decision};
use super::script::{CONTACT, QUIET_MS, interaction};
use super::summary::whole_millis;
use crate::figure;
use crate::meter;
use crate::paint::{Paint, Tone};
use crate::stage::Stage;

/// Where the text of a line begins.
const INDENT: usize = 22;
/// Longest line: what fits a terminal as it opens.
const TEXT_CHARS_MAX: usize = 79 - INDENT;
/// Ticks of the strips in one of their characters.
const TICKS_PER_CELL: usize = 4;

/// Who acts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    /// CXone's media server.
    Cxone,
    /// The shim.
    Earpiece,
    /// The assist app.
    App,
    /// The agent, and what CXone shows them.
    Desk,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::Cxone => "CXone",
            Self::Earpiece => "Earpiece",
            Self::App => "Assist app",
            Self::Desk => "Agent desk",
        }
    }

    const fn tone(self) -> Tone {
        match self {
            Self::Cxone => Tone::Peer,
            Self::Earpiece => Tone::Ours,
            Self::App => Tone::App,
            Self::Desk => Tone::Good,
        }
    }
}

/// The two legs of the call, in the order of the plan.
const LEGS: [&str; 2] = ["TX", "RX"];

/// The live timeline.
pub(crate) struct Timeline<'a> {
    stage: &'a Stage,
    began: Instant,
    strips: Vec<Strip>,
    /// Keeps the strips apart from the lines.
    spacer: ProgressBar,
    /// Whose sockets are open: a hold looks the same with and without them.
    open: BTreeMap<StreamId, ContactKey>,
    is_over: bool,
}

impl<'a> Timeline<'a> {
    /// A timeline that begins now.
    pub(crate) fn new(stage: &'a Stage) -> Self {
        let spacer = stage.moving_line();
        spacer.set_message(" ");
        let strips = if stage.is_live() {
            vec![
                Strip::new(stage, "TX", "the contact", Perspective::Tx),
                Strip::new(stage, "RX", "the agent", Perspective::Rx),
            ]
        } else {
            Vec::new()
        };
        Self { stage, began: Instant::now(), strips, spacer, open: BTreeMap::new(), is_over: false }
    }

    /// Moves the strips on.
    pub(crate) fn tick(&mut self, app: &AssistApp) {
        for strip in &mut self.strips {
            strip.tick(app, self.stage.paint);
        }
    }

    /// Takes the strips away: what follows is text only.
    pub(crate) fn close(&mut self) {
        for strip in self.strips.drain(..) {
            strip.bar.finish_and_clear();
        }
        self.spacer.finish_and_clear();
    }

    /// A line.
    pub(crate) fn say(&self, who: Who, text: &str) {
        self.say_toned(who, text, None);
    }

    /// A line that is worth a look.
    pub(crate) fn warn(&self, who: Who, text: &str) {
        self.say_toned(who, text, Some(Tone::Odd));
    }

    fn say_toned(&self, who: Who, text: &str, tone: Option<Tone>) {
        let paint = self.stage.paint;
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let time = format!("{:>8}", figure::decimal(at_ms, 3));
        let name = format!("{:10}", who.name());
        let tell = |line: &str| tone.map_or_else(|| line.to_owned(), |tone| paint.tone(tone, line));
        for (index, line) in figure::wrap(text, TEXT_CHARS_MAX).iter().enumerate() {
            if index == 0 {
                let time = paint.tone(Tone::Faint, &time);
                self.stage.line(format!("{time}  {}  {}", paint.tone(who.tone(), &name), tell(line)));
            } else {
                self.stage.line(format!("{:INDENT$}{}", "", tell(line)));
            }
        }
    }

    /// What CXone did.
    pub(crate) fn progress(&mut self, progress: &Progress) {
        let leg = |leg: &usize| LEGS.get(*leg).copied().unwrap_or("?");
        let text = match progress {
            Progress::Connected { leg: index, ack_us, .. } => {
                format!("{} reads CONNECTED, {} after its init message", leg(index), figure::millis(*ack_us))
            }
            Progress::Refused { leg: index, close } => {
                let code = close.map_or_else(String::new, |code| format!(" with close code {code}"));
                return self.say_toned(Who::Cxone, &format!("{} is refused{code}", leg(index)), Some(Tone::Bad));
            }
            Progress::Speaking { at_sample: 0, .. } => "streams both voices: 160 bytes of µ-law every 20 ms".into(),
            Progress::Started | Progress::Speaking { .. } | Progress::Conference { .. } => return,
            Progress::Hold { samples, by: HoldBy::Close, .. } => {
                format!("holds the call for {}: closes both sockets", figure::seconds(*samples))
            }
            Progress::Hold { samples, by: HoldBy::Silence, .. } => {
                format!("holds the call for {}: sockets open, nothing sent", figure::seconds(*samples))
            }
            Progress::Dropped { leg: index, .. } => {
                let text = format!("{} breaks in mid-sentence, without a close frame", leg(index));
                return self.say_toned(Who::Cxone, &text, Some(Tone::Odd));
            }
            Progress::Lost { leg: index, .. } => {
                return self.say_toned(Who::Cxone, &format!("{} lost its connection", leg(index)), Some(Tone::Bad));
            }
            Progress::Reconnected { leg: index, resumes_at_sample } => {
                format!("{} goes on at {} of the call", leg(index), figure::seconds(*resumes_at_sample))
            }
            Progress::GaveUp { leg: index } => {
                return self.say_toned(Who::Cxone, &format!("{} stays away", leg(index)), Some(Tone::Bad));
            }
            Progress::Finished { .. } => {
                self.is_over = true;
                "has hung up, and does not say so".into()
            }
        };
        self.say(Who::Cxone, &text);
    }

    /// What Earpiece did, or what the assist app told it.
    pub(crate) fn event(&mut self, event: &ContactEvent) {
        match event.what {
            What::StreamOpened { stream, .. } => drop(self.open.insert(stream, event.contact)),
            What::StreamClosed { stream, .. } => drop(self.open.remove(&stream)),
            _ => {}
        }
        self.tell(event);
    }

    fn tell(&self, event: &ContactEvent) {
        let is_ours = event.contact == CONTACT;
        let whose = |perspective: &Perspective| {
            if is_ours { perspective.to_string() } else { format!("{perspective} of {}", event.contact) }
        };
        match &event.what {
            What::StreamOpened { perspective, generation, .. } => {
                let generation = match generation {
                    Some(1) => "accepted: generation 1, claimed in the store".into(),
                    Some(number) => format!("accepted: the same contact, generation {number}"),
                    None => "accepted before the store has answered".into(),
                };
                self.say(Who::Earpiece, &format!("{} {generation}", whose(perspective)));
            }
            What::StreamClosed { perspective, reason, samples, .. } => {
                let (text, tone) = match reason {
                    CloseReason::PeerClosed => ("was closed", None),
                    CloseReason::PeerVanished => ("vanished", Some(Tone::Odd)),
                    other => (other.label(), Some(Tone::Odd)),
                };
                let text = format!("{} {text} after {} of audio", whose(perspective), figure::seconds(*samples));
                self.say_toned(Who::Earpiece, &text, tone);
            }
            What::OnHold if self.open.values().any(|contact| *contact == event.contact) => {
                self.say(Who::Earpiece, "every side is silent: a hold, with its sockets open");
            }
            What::OnHold => {
                let quiet = figure::decimal(QUIET_MS / 100, 1);
                let text = format!("no socket left. A hold, or the end? Waits {quiet} s to see");
                self.say(Who::Earpiece, &text);
            }
            What::Resumed => self.say(Who::Earpiece, "a hold it was: the contact goes on"),
            What::Silent { perspective } => {
                self.say(Who::Earpiece, &format!("{} is silent", whose(perspective)));
            }
            What::Audible { perspective, silent_ms } => {
                self.say(Who::Earpiece, &format!("{} is heard again after {silent_ms} ms", whose(perspective)));
            }
            What::App(said) => self.app(said),
            What::Script(event) => {
                self.say(Who::Earpiece, &format!("the Studio script says: {}", event.kind.label()));
            }
            What::Finished { samples } => {
                let text = format!("the end it was: recording ({}) and ledger are written", figure::seconds(*samples));
                self.say_toned(Who::Earpiece, &text, Some(Tone::Good));
            }
        }
    }

    fn app(&self, said: &AppEvent) {
        // This is the demo's own screen for words that come with the program; logs never get here.
        let body = said.body.reveal();
        let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
        match said.kind.as_str() {
            "transcript" => {
                let speaker = if text("participantId") == "agent" { "agent" } else { "contact" };
                self.say(Who::App, &format!("hears the {speaker}: “{}”", text("text")));
            }
            "suggestion" => self.say(Who::App, &format!("suggests: “{}”", text("title"))),
            other => self.say(Who::App, &format!("sends a message of type {other}")),
        }
    }

    /// What reached the agent.
    pub(crate) fn arrival(&self, arrival: &Arrival) {
        let of = if arrival.interaction == interaction().as_str() {
            String::new()
        } else {
            format!(" (interaction {})", arrival.interaction)
        };
        let after = span(arrival.after_ms);
        let (line, card) = match &arrival.what {
            desk::What::Suggestion { id, content } => {
                let text = content.clone();
                let card = Card { tone: Tone::App, title: None, figure: None, text, note: None };
                (format!("gets suggestion {id}{of}, {after} the app's frame:"), Some(card))
            }
            desk::What::Knowledge(articles) => {
                (format!("gets knowledge{of}, {after} those words:"), knowledge_card(articles))
            }
            desk::What::Popup { title, content } => {
                let (title, text) = (Some(format!("⚠ {title}")), content.clone());
                let card = Card { tone: Tone::Odd, title, figure: None, text, note: None };
                (format!("gets a popup{of}, {after} the event:"), Some(card))
            }
        };
        self.say(Who::Desk, &line);
        if let Some(card) = card {
            card.draw(self.stage, INDENT, TEXT_CHARS_MAX);
        }
    }

    /// What the agent makes of a suggestion.
    pub(crate) fn decision(&self, decision: &Decision) {
        let text = match decision.answer {
            Answer::Accepted => format!("takes {} up: CXone says accepted", decision.id),
            Answer::Dismissed => format!("waves {} away: CXone says dismissed", decision.id),
        };
        self.say(Who::Desk, &text);
    }

    /// Whether CXone has hung up.
    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }
}

/// How long after something: `4 ms after`.
fn span(after_ms: Option<u64>) -> String {
    after_ms.map_or_else(|| "after".to_owned(), |after_ms| format!("{} after", whole_millis(after_ms)))
}

/// The best article as a card; the others are named.
fn knowledge_card(articles: &[Article]) -> Option<Card> {
    let (best, others) = articles.split_first()?;
    let others: Vec<&str> = others.iter().map(|article| article.title.as_str()).collect();
    Some(Card {
        tone: Tone::Good,
        title: Some(best.title.clone()),
        figure: Some(format!("{:.2}", best.score)),
        text: if best.is_cut() { format!("{}…", best.snippet.trim_end()) } else { best.snippet.clone() },
        note: (!others.is_empty()).then(|| format!("also: {}", others.join(" · "))),
    })
}

/// What the assist app hears of one voice, drawn as it comes.
struct Strip {
    bar: ProgressBar,
    label: &'static str,
    voice: &'static str,
    perspective: Perspective,
    heard: usize,
    cells: String,
    cell: Vec<u8>,
    ticks: usize,
}

impl Strip {
    fn new(stage: &Stage, label: &'static str, voice: &'static str, perspective: Perspective) -> Self {
        Self {
            bar: stage.moving_line(),
            label,
            voice,
            perspective,
            heard: 0,
            cells: String::new(),
            cell: Vec::new(),
            ticks: 0,
        }
    }

    fn tick(&mut self, app: &AssistApp, paint: Paint) {
        let heard = app.heard(CONTACT, &self.perspective).and_then(|heard| heard.audio).unwrap_or_default();
        self.cell.extend_from_slice(heard.get(self.heard..).unwrap_or_default());
        self.heard = heard.len();
        self.ticks += 1;
        let now = meter::level(&self.cell);
        if self.ticks.is_multiple_of(TICKS_PER_CELL) {
            self.cells.push(if self.cell.is_empty() { '┄' } else { now });
            self.cell.clear();
        }
        let name = paint.tone(Tone::Faint, format!("  {} {:11} ", self.label, self.voice));
        let seconds = paint.tone(Tone::Faint, figure::seconds(self.heard as u64));
        let live = if self.cell.is_empty() { String::new() } else { paint.tone(Tone::Bold, now) };
        self.bar.set_message(format!("{name}{}{live} {seconds}", paint.tone(Tone::App, &self.cells)));
    }
}
