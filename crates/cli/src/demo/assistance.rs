//! Whether help came back as it should: each thing once, nothing twice, and the record of it whole.
//!
//! What CXone's platform got and what Earpiece has written down are compared; neither knows of the other's books.

use std::collections::BTreeSet;
use std::time::Duration;

use earpiece_core::assist::Interaction;
use earpiece_core::assist::audit::{self, Event, Record};
use earpiece_simulator::platform::{Answer, InteractionSeen, Kind};
use tokio::time::{Instant, sleep};

use super::check::Check;
use super::desk::Figures;
use super::house::House;
use super::script::{ADVICE, ANGER_SAID, interaction};
use crate::clock::now_ms;
use crate::figure;
use crate::serve::from_store;
use crate::trouble::Trouble;

/// What is under way when the call is over has so long to come to an end.
const SETTLE: Duration = Duration::from_secs(3);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// Both sides' books of the demo's interaction.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// What the platform got.
    seen: InteractionSeen,
    /// The places at which the platform got what no document allows.
    violations: Vec<String>,
    /// Earpiece's document.
    document: Interaction,
    /// Earpiece's record.
    pub(crate) audit: Vec<Record>,
}

impl Books {
    /// Reads them when everything has come to an end, or when the time for that is over: then the checks say what is
    /// missing.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    pub(crate) async fn settled(house: &House) -> Result<Self, Trouble> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let books = Self::read(house).await?;
            if books.are_settled() || Instant::now() >= deadline {
                return Ok(books);
            }
            sleep(LOOK).await;
        }
    }

    async fn read(house: &House) -> Result<Self, Trouble> {
        let (seen, violations) = house.platform.look(|received| {
            let seen = received.interaction(interaction().as_str()).cloned().unwrap_or_default();
            let places = received.of(Kind::Violation).map(|record| record.id.as_deref().unwrap_or("?").to_owned());
            (seen, places.collect())
        });
        let id = interaction();
        // The document first: the record may be longer than its head says, and never shorter.
        let document = house.store.interaction(&id, now_ms()).await.map_err(|error| from_store(&error))?.interaction;
        let mut audit = house.store.audit(&id).await.map_err(|error| from_store(&error))?;
        audit.truncate(usize::try_from(document.audit.count).unwrap_or(usize::MAX));
        Ok(Self { seen, violations, document, audit })
    }

    fn are_settled(&self) -> bool {
        let answered = u64::from(self.document.accepted) + u64::from(self.document.dismissed);
        answered >= ADVICE.len() as u64 && self.document.open.is_empty()
    }

    /// Adds to the figures when Earpiece had taken note of each answer.
    pub(crate) fn complete(&self, figures: &mut Figures) {
        for figure in &mut figures.suggestions {
            let noted = self.audit.iter().find(|record| is_answer(record) && record.subject == figure.id);
            figure.closed_after_ms = noted
                .zip(figure.answered_at_ms)
                .map(|(record, answered_at_ms)| u64::try_from(record.at_ms - answered_at_ms).unwrap_or(0));
        }
    }

    /// Makes every comparison.
    pub(crate) fn checks(&self, figures: &Figures) -> Vec<Check> {
        vec![
            Check::of("each suggestion was on the agent's desk exactly once", self.suggestions()),
            Check::of("one was taken up and one dismissed, and Earpiece knows of both", self.answers()),
            Check::of("the angry caller, told twice, raised exactly one popup", self.popups(figures)),
            Check::of("what was said became cards of knowledge, each shown once", knowledge(figures)),
            Check::of("the audit of all that is whole, hash by hash", self.audited()),
            Check::of("CXone got nothing that its documents do not allow", self.violations.clone()),
        ]
    }

    fn suggestions(&self) -> Vec<String> {
        let expected = ADVICE.iter().map(|advice| advice.id).map(|id| {
            let times = self.seen.suggestions.iter().find(|seen| &*seen.id == id).map_or(0, |seen| seen.times);
            (times != 1).then(|| format!("{id} came {}", figure::plural(times.into(), "time")))
        });
        let is_expected = |id: &str| ADVICE.iter().any(|advice| advice.id == id);
        let others = self.seen.suggestions.iter().filter(|seen| !is_expected(&seen.id));
        expected.flatten().chain(others.map(|seen| format!("{} came, and nobody suggested it", seen.id))).collect()
    }

    fn answers(&self) -> Vec<String> {
        let mut differs = Vec::new();
        for advice in &ADVICE {
            let event = event_of(advice.answer).label();
            let noted = self.audit.iter().filter(|record| is_answer(record) && record.subject == advice.id);
            let noted: Vec<&str> = noted.map(|record| record.event.as_str()).collect();
            if noted != [event] {
                let noted = if noted.is_empty() { "nothing".to_owned() } else { noted.join(", ") };
                differs.push(format!("{}: the agent said {event}, Earpiece noted {noted}", advice.id));
            }
        }
        let count = |answer| ADVICE.iter().filter(|advice| advice.answer == answer).count();
        let expected = (count(Answer::Accepted), count(Answer::Dismissed));
        let found = (self.document.accepted as usize, self.document.dismissed as usize);
        if found != expected {
            differs.push(format!("counted {} taken up and {} dismissed", found.0, found.1));
        }
        if !self.document.active.is_empty() {
            differs.push(format!("{} still held", figure::plural(self.document.active.len() as u64, "slot")));
        }
        differs
    }

    fn popups(&self, figures: &Figures) -> Vec<String> {
        let mut differs = Vec::new();
        let times: Vec<u32> = self.seen.cards.iter().map(|card| card.times).collect();
        if times != [1] {
            let total: u64 = times.iter().copied().map(u64::from).sum();
            differs.push(format!(
                "{} of {} came",
                figure::plural(total, "popup"),
                figure::plural(times.len() as u64, "id")
            ));
        }
        if figures.events_heard != ANGER_SAID {
            let heard = figure::plural(figures.events_heard as u64, "time");
            differs.push(format!("CXone's event was to be heard {ANGER_SAID} times, and was heard {heard}"));
        }
        differs
    }

    fn audited(&self) -> Vec<String> {
        match audit::verify(self.audit.iter().cloned(), Some(&self.document.audit)) {
            Ok(verified) if verified.count > 0 => Vec::new(),
            Ok(_) => vec!["it is empty".to_owned()],
            Err(broken) => vec![broken.to_string()],
        }
    }
}

fn knowledge(figures: &Figures) -> Vec<String> {
    if figures.knowledge.is_empty() {
        return vec!["no card came".to_owned()];
    }
    let mut shown = BTreeSet::new();
    let again = figures.knowledge.iter().filter(|card| !shown.insert(&card.id));
    again.map(|card| format!("{} was shown again", card.id)).collect()
}

const fn event_of(answer: Answer) -> Event {
    match answer {
        Answer::Accepted => Event::Accepted,
        Answer::Dismissed => Event::Dismissed,
    }
}

fn is_answer(record: &Record) -> bool {
    [Answer::Accepted, Answer::Dismissed].into_iter().any(|answer| record.event == event_of(answer).label())
}

#[cfg(test)]
mod tests {
    use earpiece_simulator::platform::{CardSeen, SuggestionSeen};
    use serde_json::json;

    use super::super::desk::{Known, Suggested};
    use super::*;

    fn books() -> Books {
        let mut books = Books::default();
        for advice in &ADVICE {
            let id = advice.id.into();
            books.seen.suggestions.push(SuggestionSeen {
                id,
                times: 1,
                answer: Some(advice.answer),
                window_ends_ms: 9,
            });
            let head = &mut books.document.audit;
            let record = audit::append(head, &interaction(), 7, event_of(advice.answer), advice.id, json!({}));
            books.audit.push(record);
        }
        books.seen.cards.push(CardSeen { id: "popup".into(), times: 1 });
        (books.document.accepted, books.document.dismissed) = (1, 1);
        books
    }

    fn figures() -> Figures {
        let knowledge = ["kb-1", "kb-2"].map(|id| Known { id: id.to_owned(), after_ms: Some(1) });
        Figures { knowledge: knowledge.into(), events_heard: ANGER_SAID, ..Figures::default() }
    }

    /// The checks that do not hold, by their place.
    fn failing(books: &Books, figures: &Figures) -> Vec<usize> {
        let checks = books.checks(figures);
        checks.iter().enumerate().filter(|(_, check)| !check.ok).map(|(place, _)| place).collect()
    }

    #[test]
    fn help_that_came_once_and_was_answered_passes() {
        assert!(books().are_settled());
        assert_eq!(failing(&books(), &figures()), [0; 0]);
    }

    #[test]
    fn a_suggestion_that_came_twice_or_never_or_from_nowhere_fails() {
        let mut twice = books();
        twice.seen.suggestions[0].times = 2;
        assert_eq!(failing(&twice, &figures()), [0]);
        assert_eq!(twice.checks(&figures())[0].differs, ["tip-1 came 2 times"]);
        let mut foreign = books();
        foreign.seen.suggestions[1].id = "other".into();
        assert_eq!(foreign.checks(&figures())[0].differs.len(), 2, "one is missing, and one was never suggested");
    }

    #[test]
    fn an_answer_that_never_came_back_fails_and_is_waited_for() {
        let mut books = books();
        books.audit.pop();
        books.document.dismissed = 0;
        assert!(!books.are_settled());
        assert_eq!(failing(&books, &figures()), [1, 4], "the record is shorter than its head says, too");
    }

    #[test]
    fn a_second_popup_or_an_event_that_was_not_repeated_fails() {
        let mut books = books();
        books.seen.cards.push(CardSeen { id: "another".into(), times: 1 });
        assert_eq!(failing(&books, &figures()), [2]);
        books.seen.cards.clear();
        assert_eq!(failing(&books, &figures()), [2]);
        let once = Figures { events_heard: 1, ..figures() };
        assert_eq!(failing(&self::books(), &once), [2], "a popup that nobody asked for twice proves nothing");
    }

    #[test]
    fn knowledge_that_never_came_or_came_again_fails() {
        assert_eq!(failing(&books(), &Figures { knowledge: Vec::new(), ..figures() }), [3]);
        let mut again = figures();
        again.knowledge.push(Known { id: "kb-1".to_owned(), after_ms: None });
        assert_eq!(books().checks(&again)[3].differs, ["kb-1 was shown again"]);
    }

    #[test]
    fn an_edited_record_fails() {
        let mut books = books();
        books.audit[0].at_ms += 1;
        assert_eq!(failing(&books, &figures()), [4]);
    }

    #[test]
    fn the_loop_is_closed_when_earpiece_has_noted_the_answer() {
        let mut figures = figures();
        let suggested = |id: &str, answered_at_ms| Suggested {
            id: id.to_owned(),
            after_ms: None,
            answer: None,
            answered_at_ms,
            closed_after_ms: None,
        };
        figures.suggestions = vec![suggested(ADVICE[0].id, Some(4)), suggested(ADVICE[1].id, None)];
        books().complete(&mut figures);
        let closed: Vec<_> = figures.suggestions.iter().map(|figure| figure.closed_after_ms).collect();
        assert_eq!(closed, [Some(3), None]);
    }
}
