//! CXone's media server: places one call, follows its script and says exactly what it did.

use std::sync::Arc;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::dial::Endpoint;
use crate::leg::{LegRun, Shared};
use crate::plan::{CallPlan, HoldBy, PlanError};
use crate::report::CallReport;
use crate::timetable::{MediaClock, Timetable};

/// What happens while a call runs, for whoever watches. Positions are samples on the media clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Progress {
    /// A handshake was answered `CONNECTED`.
    Connected {
        /// Which leg.
        leg: usize,
        /// From dialling to the WebSocket being open, in microseconds.
        connect_us: u64,
        /// From the init message to the answer, in microseconds.
        ack_us: u64,
    },
    /// A handshake failed or was refused; the leg may try again.
    Refused {
        /// Which leg.
        leg: usize,
        /// The close code, if it came to that.
        close: Option<u16>,
    },
    /// All legs were answered: this is sample 0.
    Started,
    /// The voices speak.
    Speaking {
        /// From this position on.
        at_sample: u64,
        /// For this long.
        samples: u64,
    },
    /// The voices speak, with a further person among what the agent hears.
    Conference {
        /// From this position on.
        at_sample: u64,
        /// For this long.
        samples: u64,
    },
    /// The call is on hold.
    Hold {
        /// From this position on.
        at_sample: u64,
        /// For this long.
        samples: u64,
        /// What the sockets do.
        by: HoldBy,
    },
    /// The script cut a leg's connection.
    Dropped {
        /// Which leg.
        leg: usize,
        /// Position of the first sample that is lost.
        at_sample: u64,
    },
    /// The server closed or lost a leg's connection.
    Lost {
        /// Which leg.
        leg: usize,
        /// Position of the first sample that was not sent.
        at_sample: u64,
    },
    /// A leg is back after a hold, a cut or a loss.
    Reconnected {
        /// Which leg.
        leg: usize,
        /// Position of the first sample it sends again.
        resumes_at_sample: u64,
    },
    /// A leg stays away: refused for good, or lost too often.
    GaveUp {
        /// Which leg.
        leg: usize,
    },
    /// The call is over and its sockets are closed.
    Finished {
        /// Samples from sample 0 to the last one sent.
        samples: u64,
    },
}

/// Why there was no call.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The plan cannot be carried out.
    #[error("the call cannot be placed: {0}")]
    Plan(#[from] PlanError),
    /// No leg was answered `CONNECTED`. The report says what each socket met.
    #[error("no leg of the call was accepted")]
    NotAccepted(Box<CallReport>),
}

/// A call about to be placed, with whoever watches it and may stop it.
#[derive(Debug)]
pub struct Call {
    plan: CallPlan,
    progress: Option<mpsc::Sender<Progress>>,
    stop: watch::Receiver<bool>,
}

impl Call {
    /// A call that nobody watches.
    #[must_use]
    pub fn new(plan: CallPlan) -> Self {
        // The sender is gone, so nobody can stop it until `stop_when` says who.
        let (_, stop) = watch::channel(false);
        Self { plan, progress: None, stop }
    }

    /// Tells what happens as it happens. The call never waits: what does not fit into the channel is not told.
    #[must_use]
    pub fn watched_by(mut self, progress: mpsc::Sender<Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Ends the call (close code 1000 on every leg) as soon as the value is true.
    #[must_use]
    pub fn stop_when(mut self, stop: watch::Receiver<bool>) -> Self {
        self.stop = stop;
        self
    }

    /// Places the call and stays with it until it is over. Dropping the future drops every connection.
    ///
    /// # Errors
    ///
    /// [`CallError::Plan`] before anything is dialled; [`CallError::NotAccepted`] when no leg was answered
    /// `CONNECTED`. A leg that is refused or lost while another goes on is no error: the report tells.
    pub async fn place(self) -> Result<CallReport, CallError> {
        let shared = Shared {
            timetable: Arc::new(Timetable::lay_out(&self.plan)?),
            endpoint: Endpoint::of(&self.plan)?,
            progress: self.progress,
            stop: self.stop,
            plan: Arc::new(self.plan),
        };
        let mut legs: Vec<LegRun> =
            (0..shared.plan.legs.len()).map(|index| LegRun::new(shared.clone(), index)).collect();

        join_all(legs.iter_mut().map(LegRun::connect)).await;
        let stopped = *shared.stop.borrow();
        if !legs.iter().any(LegRun::is_up) {
            return Err(CallError::NotAccepted(Box::new(conclude(&shared, legs, stopped))));
        }

        let clock = MediaClock::starting_at(Instant::now(), shared.plan.pace);
        tell(&shared, Progress::Started);
        let stopped = join_all(legs.iter_mut().map(|leg| leg.run(clock))).await.contains(&true);
        let report = conclude(&shared, legs, stopped);
        tell(&shared, Progress::Finished { samples: report.samples });
        Ok(report)
    }
}

/// Places a call that nobody watches.
///
/// # Errors
///
/// As [`Call::place`].
pub async fn place(plan: CallPlan) -> Result<CallReport, CallError> {
    Call::new(plan).place().await
}

fn conclude(shared: &Shared, legs: Vec<LegRun>, stopped: bool) -> CallReport {
    let samples = legs.iter().map(LegRun::end).max().unwrap_or(0);
    let legs = legs.into_iter().map(|leg| leg.report(samples)).collect();
    CallReport { contact: shared.plan.contact, legs, samples, stopped }
}

fn tell(shared: &Shared, progress: Progress) {
    if let Some(watcher) = &shared.progress {
        // As in a leg: the call does not wait for its watcher.
        let _ = watcher.try_send(progress);
    }
}

#[cfg(test)]
mod tests;
