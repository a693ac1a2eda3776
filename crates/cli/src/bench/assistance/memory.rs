//! What an interaction costs that a task listens to.
//!
//! Its words are such that no search can be made of them: nothing but listening is measured. The first tenth is not
//! counted, so that what is allocated once is not taken for what each costs.

use std::time::Duration;

use earpiece_core::secret::Private;
use earpiece_core::telemetry as names;
use earpiece_uplink::{Heard, Said};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::rig::{Of, Phase, Rig, Task};
use crate::bench::metrics::Metrics;
use crate::bench::process::{Look, Process};
use crate::clock::now_ms;
use crate::figure;
use crate::trouble::Trouble;

/// How many more interactions than are to be tracked are offered in the end.
const OFFERED_TIMES: u64 = 5;

/// Fragments that are put into the ear before it is waited for: fewer than it holds.
const BATCH: u64 = 1024;

/// How long a batch may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often counters are looked at, and for how long: the task tells how many interactions it tracks every five
/// seconds.
const PAUSE: Duration = Duration::from_millis(2);
const TOLD_WITHIN: Duration = Duration::from_secs(6);

/// Blanks and dots: 59 bytes, about as long as a sentence.
const WORDS: &str = "… … … … … … … … … … … … … … …";

/// What was measured.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    /// Interactions that were to be tracked.
    pub(crate) offered: u64,
    /// Interactions that were tracked then.
    pub(crate) tracked: u64,
    /// What each of them took, of the process's own memory, in bytes; none where this cannot be known.
    pub(crate) bytes_per_interaction: Option<u64>,
    /// Bytes of words in it that wait to be looked up.
    pub(crate) words_bytes: u64,
    /// Interactions that were offered in the end.
    pub(crate) offered_in_the_end: u64,
    /// Interactions that were tracked in the end: there is a limit.
    pub(crate) tracked_in_the_end: u64,
    /// By how much the process's own memory had grown in the end, in bytes.
    pub(crate) growth_in_the_end_bytes: Option<u64>,
}

/// Measures with a task of its own.
///
/// # Errors
///
/// When the task cannot be started, or does not hear what is said.
pub(crate) async fn measure(rig: &Rig, tracked: u32) -> Result<Memory, Trouble> {
    let (task, metrics) = rig.listener().await?;
    let listener = Listener { task, metrics, process: Process::of(std::process::id()) };
    let measured = listener.measure(tracked.into()).await;
    listener.task.stop().await;
    measured
}

struct Listener {
    task: Task,
    metrics: earpiece_uplink::Metrics,
    process: Option<Process>,
}

impl Listener {
    async fn measure(&self, offered: u64) -> Result<Memory, Trouble> {
        let first = offered / 10;
        self.say(0, first).await?;
        let before = self.look();
        self.say(first, offered).await?;
        let after = self.look();
        let tracked = self.tracked(offered).await;
        let offered_in_the_end = offered * OFFERED_TIMES;
        self.say(offered, offered_in_the_end).await?;
        let in_the_end = self.look();
        let grown = |later: Option<Look>| Some(later?.anon_bytes.saturating_sub(before?.anon_bytes));
        Ok(Memory {
            offered,
            tracked,
            bytes_per_interaction: grown(after).map(|bytes| figure::divide(bytes, offered - first)),
            words_bytes: WORDS.len() as u64,
            offered_in_the_end,
            tracked_in_the_end: self.tracked(offered_in_the_end).await,
            growth_in_the_end_bytes: grown(in_the_end),
        })
    }

    fn look(&self) -> Option<Look> {
        self.process.as_ref().and_then(Process::look)
    }

    /// Says something in each of these interactions, and waits until all of it is heard.
    async fn say(&self, from: u64, to: u64) -> Result<(), Trouble> {
        let mut said = from;
        while said < to {
            let batch_ends = (said + BATCH).min(to);
            for number in said..batch_ends {
                let interaction = Phase::Memory.interaction(Of::Talk, number);
                let text = Private::new(WORDS.to_owned());
                self.task.ear.hear(Heard { interaction, what: Said::Fragment { text, at_ms: now_ms() } });
            }
            said = batch_ends;
            let heard = format!("{}{{source=\"app\"}}", names::FRAGMENTS);
            if self.wait_for(&heard, said, PATIENCE).await < said {
                return Err(Trouble::failed("the task does not hear what is said"));
            }
        }
        Ok(())
    }

    /// How many interactions the task tracks, as it tells now and then.
    async fn tracked(&self, at_most: u64) -> u64 {
        self.wait_for(names::INTERACTIONS_TRACKED, at_most, TOLD_WITHIN).await
    }

    /// Waits until a counter is at least so high, and tells how high it is, in time or not.
    async fn wait_for(&self, series: &str, at_least: u64, within: Duration) -> u64 {
        let give_up_at = Instant::now() + within;
        loop {
            let value = Metrics::parse(&self.metrics.text()).get(series);
            if value >= at_least || Instant::now() >= give_up_at {
                return value;
            }
            sleep(PAUSE).await;
        }
    }
}
