//! Exactly once, whoever is killed: two processes, a thousand interactions, and five kills in the midst of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use earpiece_core::assist::audit;
use earpiece_core::assist::interaction::PopupState;
use earpiece_simulator::platform::{Answer, Fault, FaultKind, On, Received, To, Uplink};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::books::{Cut, Sort, judge};
use crate::crowd::{self, INTERACTIONS, Submissions};
use crate::stage::{INSIGHTS, LEASES, PATIENCE, POPUPS, SUGGESTIONS, Shim, Stage, eventually, id, now_ms, say};

/// So short that kills can follow one another, and long enough that a busy machine alone takes it from nobody.
const LEASE: &str = "4s";
/// Whose holder is killed each time.
const KILLED: [&str; 5] = [SUGGESTIONS, POPUPS, SUGGESTIONS, POPUPS, SUGGESTIONS];
/// A kill falls each time that so much more has come: well before everything has.
const KILL_EVERY: usize = 350;
/// Who submits at the same time, each with a store of its own, as another process would have.
const SUBMITTERS: usize = 8;
/// Interactions that begin together.
const BATCH: usize = 50;
/// By how many batches the second wave of suggestions is behind the first.
const WAVE_BATCHES: usize = 6;
/// Of those whose card has come, the stream speaks of every so-manieth again after a kill.
const TOLD_AGAIN_EVERY: usize = 5;
/// One more in the end, which crosses.
const NEWCOMER: usize = INTERACTIONS;
/// Documents and audit records that are read at a time in the end.
const READS: usize = 16;

/// How far it is.
struct Run {
    stage: Stage,
    /// Interactions that have begun.
    begun: AtomicUsize,
    submissions: Arc<Mutex<Submissions>>,
    rng: std::sync::Mutex<fastrand::Rng>,
}

/// What the kills did, by lane.
#[derive(Default)]
struct Kills {
    suggestions: Vec<Cut>,
    popups: Vec<Cut>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_suggestion_and_card_arrives_exactly_once_by_its_id_though_holders_are_killed_five_times() {
    let stage = Stage::open().await;
    let started_at = Instant::now();
    let seed = fastrand::u64(..);
    say(&format!("exactly once: seed {seed}"));
    let run = Run {
        stage,
        begun: AtomicUsize::new(0),
        submissions: Arc::default(),
        rng: std::sync::Mutex::new(fastrand::Rng::with_seed(seed)),
    };
    let mut shims = vec![run.stage.start(LEASE), run.stage.start(LEASE)];
    run.bend_the_wire();
    for uplink in [Uplink::Suggestions, Uplink::Interactions] {
        assert!(run.stage.platform.wait_for_socket(uplink, PATIENCE).await);
    }
    let played = async {
        let ((), kills) = tokio::join!(run.play(), run.kill(&mut shims));
        say(&format!("exactly once: all submitted and the last kill survived after {:.1?}", started_at.elapsed()));
        run.finish().await;
        kills
    };
    let kills = tokio::select! {
        kills = played => kills,
        () = crowd::answer_all(&run.stage.platform) => unreachable!("agents never go home"),
    };
    run.judge(&kills).await;
    say(&format!("exactly once: {:.1?} in all", started_at.elapsed()));
}

impl Run {
    fn shuffle<T>(&self, items: &mut [T]) {
        self.rng.lock().expect("nobody panicked").shuffle(items);
    }

    /// Events and answers come twice, and in another order.
    fn bend_the_wire(&self) {
        for on in [On::InteractionsStream, On::Suggestions] {
            for kind in [FaultKind::Duplicate, FaultKind::Reorder].into_iter().cycle().take(60) {
                self.stage.platform.fault(Fault::once(on, kind).times(10)).expect("it applies");
            }
        }
    }

    /// Batch after batch begins: its events, its suggestions, and more suggestions for those who had too many before.
    async fn play(&self) {
        let stores: Vec<_> = (0..SUBMITTERS).map(|_| self.stage.other_store()).collect();
        for batch in 0..INTERACTIONS / BATCH + WAVE_BATCHES {
            let first: Vec<_> = interactions_of(Some(batch)).collect();
            let second = interactions_of(batch.checked_sub(WAVE_BATCHES));
            let mut work = Vec::new();
            for (interaction, wave) in first.iter().map(|&first| (first, 0)).chain(second.map(|second| (second, 1))) {
                let name = crowd::name(interaction);
                for suggestion in crowd::suggestions(interaction, wave) {
                    let times = if crowd::fate(&name, &suggestion) == crowd::Fate::Ignored { 2 } else { 1 };
                    work.extend((0..times).map(|_| (name.clone(), suggestion.clone())));
                }
            }
            self.begun.fetch_add(first.len(), Ordering::SeqCst);
            tokio::join!(self.tell(&first), crowd::submit_all(&stores, work, &self.submissions));
        }
    }

    /// The stream says all that there is to say of these interactions, in no order, some of it twice.
    async fn tell(&self, interactions: &[usize]) {
        let mut events: Vec<_> = interactions.iter().flat_map(|&interaction| crowd::states(interaction)).collect();
        events.extend(interactions.iter().filter(|&at| at % 4 == 0).map(|&interaction| crowd::state(interaction)));
        self.shuffle(&mut events);
        for event in events {
            self.stage.platform.send_event(Uplink::Interactions, &event, To::All).await;
        }
    }

    /// The stream says how those stand that have begun, as it does again and again: what a killed process had heard and
    /// not noted yet nobody else knows. Of those that have their card already, it speaks of as few as `one_of` says.
    async fn tell_again(&self, one_of: usize) {
        let mut begun: Vec<_> = (0..self.begun.load(Ordering::SeqCst)).collect();
        self.stage.platform.look(|received| {
            let has_card = |name: &str| received.interaction(name).is_some_and(|seen| !seen.cards.is_empty());
            begun.retain(|&interaction| interaction.is_multiple_of(one_of) || !has_card(&crowd::name(interaction)));
        });
        self.shuffle(&mut begun);
        for interaction in begun {
            self.stage.platform.send_event(Uplink::Interactions, &crowd::state(interaction), To::All).await;
        }
    }

    /// Kills holders while things are under way, and starts another process for each.
    async fn kill(&self, shims: &mut Vec<Shim>) -> Kills {
        let mut kills = Kills::default();
        for (nth, lease) in KILLED.into_iter().enumerate() {
            let enough = KILL_EVERY * (nth + 1);
            let came = self.stage.platform.wait_for(PATIENCE, |received| (distinct(received) >= enough).then_some(()));
            came.await.expect("it goes on between the kills");
            let holder = eventually(lease, async || {
                let record = self.stage.lease(lease).await?;
                shims.iter().position(|shim| shim.holds(&record))
            });
            let mut dead = shims.swap_remove(holder.await);
            let killed = (Instant::now(), now_ms());
            dead.kill();
            shims.push(self.stage.start(LEASE));
            let [suggestions, insights, popups] = LEASES.map(|lease| self.taken_over(lease, &dead, killed));
            let (suggestions, insights, popups) = tokio::join!(suggestions, insights, popups);
            let shown = [(SUGGESTIONS, suggestions), (INSIGHTS, insights), (POPUPS, popups)];
            let shown: Vec<_> =
                shown.into_iter().filter_map(|(lease, cut)| Some(format!("{lease} after {:.1?}", cut?.took))).collect();
            say(&format!("exactly once: kill {} for {lease}: taken over {}", nth + 1, shown.join(", ")));
            kills.suggestions.extend(suggestions);
            if let Some(cut) = popups {
                kills.popups.push(cut);
                assert!(self.stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
                self.tell_again(TOLD_AGAIN_EVERY).await;
            }
        }
        kills
    }

    /// Waits until a lease has a living holder; none if the dead one did not hold it.
    async fn taken_over(&self, lease: &str, dead: &Shim, (killed_at, killed_ms): (Instant, i64)) -> Option<Cut> {
        let mut boundary = None;
        while killed_at.elapsed() < PATIENCE {
            // Looked at first: while the dead one holds the lease, nothing can come from anybody else.
            let newest = self.stage.platform.look(Received::newest);
            let record = self.stage.lease(lease).await?;
            if !dead.holds(&record) {
                return boundary.map(|boundary| Cut { killed_ms, boundary, took: killed_at.elapsed() });
            }
            boundary = Some(newest);
            sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody took {lease} over");
    }

    /// Waits until all is quiet; says it all once more, then one thing that is new, and waits again.
    async fn finish(&self) {
        let expected = (0..INTERACTIONS).filter(|&interaction| crowd::crosses(interaction)).count();
        self.quiet(expected).await;
        self.tell_again(1).await;
        // The stream is read in its order.
        assert!(crowd::crosses(NEWCOMER));
        let event = crowd::state(NEWCOMER);
        self.stage.platform.send_event(Uplink::Interactions, &event, To::All).await;
        self.quiet(expected + 1).await;
    }

    async fn quiet(&self, cards: usize) {
        let (taken, answers) = {
            let submissions = self.submissions.lock().await;
            (submissions.taken(), submissions.answers())
        };
        let all = self.stage.platform.wait_for(PATIENCE, |received| {
            let tally = received.tally();
            let answered = tally.accepted + tally.dismissed;
            let is_all = tally.cards >= cards as u64 && tally.suggestions >= taken as u64 && answered >= answers as u64;
            is_all.then_some(())
        });
        let tally = self.stage.platform.tally();
        assert!(all.await.is_some(), "{taken} suggestions, {answers} answers and {cards} cards, but came {tally:?}");
        self.stage.drained().await;
    }

    async fn judge(&self, kills: &Kills) {
        let submissions = self.submissions.lock().await;
        assert!(kills.suggestions.len() + kills.popups.len() >= KILLED.len());
        self.stage.platform.look(|received| {
            cards_are_as_expected(received);
            suggestions_are_as_expected(received, &submissions);
            let tally = received.tally();
            assert_eq!(tally.violations, 0);
            assert_eq!(tally.active_max, 5, "five were reached and never exceeded");
            for (sort, cuts) in [(Sort::Suggestions, &kills.suggestions), (Sort::Cards, &kills.popups)] {
                let lane = judge(received, sort, cuts);
                let (came, distinct, again, age_ms) = (lane.came, lane.distinct, &lane.repeated, lane.age_ms_max);
                say(&format!(
                    "exactly once: {came} {} came, {distinct} ids; again after each kill: {again:?}, sent {age_ms} ms \
                     before it at most",
                    sort.label()
                ));
            }
        });
        for (lease, cuts) in [(SUGGESTIONS, &kills.suggestions), (POPUPS, &kills.popups)] {
            let token = self.stage.lease(lease).await.expect("a lease").token;
            assert_eq!(token, 1 + cuts.len() as u64, "{lease} changed hands without a kill");
        }
        assert!(self.stage.store.dead_entries(1).await.expect("a store that answers").is_empty());
        let lost = self.documents_are_as_expected(&submissions).await;
        say(&format!(
            "exactly once: refused {:?}, unclear {}, answers lost with a killed process {lost}",
            submissions.refused, submissions.unclear
        ));
    }

    /// Audit, popups and counts of every interaction. Returns how many answers of agents nobody heard: CXone says each
    /// once, and a process that was killed takes with it what it had read.
    async fn documents_are_as_expected(&self, submissions: &Submissions) -> u64 {
        let checked =
            stream::iter(0..INTERACTIONS).map(|interaction| self.document_is_as_expected(interaction, submissions));
        checked.buffer_unordered(READS).fold(0, |sum, lost| async move { sum + lost }).await
    }

    async fn document_is_as_expected(&self, interaction: usize, submissions: &Submissions) -> u64 {
        let (name, store) = (crowd::name(interaction), &self.stage.store);
        let document = store.interaction(&id(&name), now_ms()).await.expect("a store that answers").interaction;
        let records = store.audit(&id(&name)).await.expect("a store that answers");
        let of = |event: audit::Event| {
            let of_event = records.iter().filter(move |record| record.event == event.label());
            of_event.map(|record| record.subject.clone()).collect::<Vec<_>>()
        };
        let queued = of(audit::Event::Queued);
        let distinct: BTreeSet<_> = queued.iter().cloned().collect();
        assert_eq!(queued.len(), distinct.len(), "{name}: one id was taken twice");
        assert_eq!(Some(&distinct), submissions.taken.get(&name), "{name}: what was said and what was noted differ");
        let injected: BTreeSet<_> = of(audit::Event::Injected).into_iter().collect();
        let answered: Vec<_> = [audit::Event::Accepted, audit::Event::Dismissed].into_iter().flat_map(of).collect();
        assert_eq!(answered.len(), answered.iter().collect::<BTreeSet<_>>().len(), "{name}: an answer counted twice");
        assert_eq!(answered.len(), (document.accepted + document.dismissed) as usize);
        // Only an answer makes it needless to note that it was sent.
        for suggestion in &distinct {
            assert!(injected.contains(suggestion) || answered.contains(suggestion), "{name}/{suggestion} never left");
        }
        let marks: Vec<_> = document.popups.values().map(|mark| mark.state).collect();
        let expected = if crowd::crosses(interaction) { vec![PopupState::Done] } else { vec![] };
        assert_eq!(marks, expected, "{name}");
        let verified = audit::verify(records.into_iter(), Some(&document.audit));
        verified.unwrap_or_else(|broken| panic!("{name}: {broken:?}"));
        let given = distinct.iter().filter(|suggestion| crowd::fate(&name, suggestion) != crowd::Fate::Ignored).count();
        (given - answered.len()) as u64
    }
}

fn interactions_of(batch: Option<usize>) -> impl Iterator<Item = usize> {
    let first = batch.map_or(INTERACTIONS, |batch| batch * BATCH);
    first.min(INTERACTIONS)..(first + BATCH).min(INTERACTIONS)
}

fn distinct(received: &Received) -> usize {
    let tally = received.tally();
    usize::try_from(tally.suggestions + tally.cards).expect("a count")
}

fn cards_are_as_expected(received: &Received) {
    let mut ids = BTreeSet::new();
    for interaction in 0..INTERACTIONS {
        let name = crowd::name(interaction);
        let cards = received.interaction(&name).map_or(&[][..], |seen| &seen.cards);
        assert_eq!(cards.len(), usize::from(crowd::crosses(interaction)), "{name}");
        ids.extend(cards.iter().map(|card| card.id.clone()));
    }
    assert_eq!(ids.len(), (0..INTERACTIONS).filter(|&interaction| crowd::crosses(interaction)).count());
}

fn suggestions_are_as_expected(received: &Received, submissions: &Submissions) {
    for interaction in 0..INTERACTIONS {
        let name = crowd::name(interaction);
        let seen = received.interaction(&name).map_or(&[][..], |seen| &seen.suggestions);
        let came: BTreeSet<String> = seen.iter().map(|suggestion| suggestion.id.to_string()).collect();
        assert_eq!(Some(&came), submissions.taken.get(&name), "{name}: what was taken and what came differ");
        for suggestion in seen {
            let expected = match crowd::fate(&name, &suggestion.id) {
                crowd::Fate::Accepted => Some(Answer::Accepted),
                crowd::Fate::Dismissed => Some(Answer::Dismissed),
                crowd::Fate::Ignored => None,
            };
            assert_eq!(suggestion.answer, expected, "{name}/{}", suggestion.id);
        }
    }
}
