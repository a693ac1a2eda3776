//! `bench streams`: many live streams in real time. Is every byte accounted for, and what does a stream cost?

mod server;
mod table;

use std::time::Duration;

use earpiece_core::secret::Secret;
use earpiece_simulator::{Load, LoadPlan, LoadProgress, LoadReport};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::server::Server;
use crate::args::StreamsArgs;
use crate::bench::host;
use crate::bench::metrics::{self, Metrics};
use crate::bench::process::{Phase, Process, Usage};
use crate::figure;
use crate::paint::Tone;
use crate::stage::Stage;
use crate::trouble::{Trouble, chain};

/// How long the server may take to have read everything once the last stream is closed.
const SETTLE: Duration = Duration::from_secs(15);

/// How often it is asked meanwhile.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);

/// How often the server's process is looked at.
const SAMPLE: Duration = Duration::from_millis(500);

/// News of the load that may wait.
const NEWS_MAX: usize = 64;

/// Everything that was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    /// What the generator did and saw.
    pub(crate) load: LoadReport,
    /// What the server counted; none when its metrics cannot be reached.
    pub(crate) server: Option<Counted>,
    /// What the server's process used; none when it is not ours, or not on Linux.
    pub(crate) usage: Option<Usage>,
    /// What is wrong.
    pub(crate) faults: Vec<String>,
}

/// What the server counted meanwhile.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counted {
    /// Audio bytes received.
    pub(crate) bytes: u64,
    /// Audio frames received.
    pub(crate) frames: u64,
    /// Samples that a sink lost.
    pub(crate) lost: u64,
    /// Streams accepted before the store had answered.
    pub(crate) degraded: u64,
    /// Answers to handshakes.
    pub(crate) acks: u64,
    /// Upper bound of the histogram's bucket in which the 99th of 100 answers lies, in microseconds; none beyond the
    /// last bucket.
    pub(crate) ack_p99_us_max: Option<u64>,
}

/// Measures.
///
/// # Errors
///
/// When the server or the load cannot be started, or a byte is not accounted for.
pub(crate) async fn run(args: &StreamsArgs, stage: &Stage) -> Result<(), Trouble> {
    if !args.frame_samples.is_multiple_of(8) {
        return Err(Trouble::usage("--frame-samples must be a multiple of 8, so that frames last whole milliseconds"));
    }
    host::allows_open_files(args.streams)?;
    let (server, url) = if let Some(url) = &args.url {
        (None, url.reveal().to_owned())
    } else {
        let waiting = stage.waiting("starting a server");
        let server = Server::start(args).await;
        waiting.finish_and_clear();
        let server = server?;
        let url = server.url();
        (Some(server), url)
    };
    let process = server.as_ref().and_then(|server| Process::of(server.pid()));
    let idle = process.as_ref().and_then(Process::look);
    let before = metrics::read(&url).await;
    if let (Err(problem), Some(_)) = (&before, &server) {
        return Err(Trouble::failed(format!("the server's metrics cannot be read: {problem}")));
    }
    let token = args.token.as_ref().map(|token| Secret::new(token.reveal()));
    let token = server.as_ref().map(Server::token).or(token);
    let mut phase = Phase::new(args.streams.into(), idle);
    let load = put_on(args, plan_of(args, &url, token), stage, process.as_ref(), &mut phase).await?;

    let waiting = stage.waiting("waiting for the server to have read everything");
    let counted = match &before {
        Ok(before) => settle(&url, before, load.bytes_sent).await.map_err(Some),
        Err(_) => Err(None),
    };
    waiting.finish_and_clear();
    let mut faults = load_faults(&load);
    let counted = match counted {
        Ok(counted) => {
            faults.extend(count_faults(&load, &counted));
            Some(counted)
        }
        Err(problem) => {
            faults.extend(problem);
            None
        }
    };
    let measured = Measured { load, server: counted, usage: phase.usage(), faults };
    stop(server).await;
    tell(args, stage, &measured)
}

fn plan_of(args: &StreamsArgs, url: &str, token: Option<Secret>) -> LoadPlan {
    let mut plan = LoadPlan::new(url);
    plan.token = token;
    plan.streams = args.streams;
    plan.opens_per_second = args.opens_per_second;
    plan.plateau = Duration::from_secs(args.seconds.into());
    plan.frame_samples = args.frame_samples;
    plan
}

/// Puts the load on, and looks at the server's process meanwhile.
async fn put_on(
    args: &StreamsArgs,
    plan: LoadPlan,
    stage: &Stage,
    process: Option<&Process>,
    phase: &mut Phase,
) -> Result<LoadReport, Trouble> {
    let opening_ms = u64::from(args.streams) * 1000 / u64::from(args.opens_per_second);
    let bar = stage.bar(2 * opening_ms + u64::from(args.seconds) * 1000);
    let (news, mut progress) = mpsc::channel(NEWS_MAX);
    // Nobody stops it: an interrupt drops all of it.
    let (_stop, stopped) = watch::channel(false);
    let load = Load::new(plan).watched_by(news).stop_when(stopped).run();
    tokio::pin!(load);
    let mut samples = interval(SAMPLE);
    samples.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last: Option<LoadProgress> = None;
    let began = Instant::now();
    let report = loop {
        tokio::select! {
            Some(news) = progress.recv() => {
                bar.set_message(message(&news));
                // Once a second, as the load tells how many frames it has sent by now.
                phase.count(&news, process.and_then(Process::look));
                last = Some(news);
            }
            _ = samples.tick() => {
                bar.set_position(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
                if let (Some(process), Some(last)) = (process, &last) {
                    phase.watch(last, process.look());
                }
            }
            report = &mut load => break report,
        }
    };
    bar.finish_and_clear();
    report.map_err(|error| Trouble::usage(format!("the load cannot be put on: {}", chain(&error))))
}

fn message(news: &LoadProgress) -> String {
    let bad = news.refused + news.lost;
    let bad = if bad == 0 { String::new() } else { format!(", {} refused, {} lost", news.refused, news.lost) };
    format!("{} live, {} sent{bad}", figure::plural(news.live, "stream"), figure::plural(news.frames, "frame"))
}

/// Waits until the server has counted as many bytes as were sent, or has had its time.
async fn settle(url: &str, before: &Metrics, bytes_sent: u64) -> Result<Counted, String> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let now = metrics::read(url).await?;
        let counted = metrics::between(before, &now);
        if counted.bytes >= bytes_sent && now.streams_live() <= before.streams_live() || Instant::now() >= deadline {
            return Ok(counted);
        }
        sleep(SETTLE_PAUSE).await;
    }
}

fn load_faults(load: &LoadReport) -> Vec<String> {
    let named = |what: &str, reasons: &std::collections::BTreeMap<String, u64>| {
        let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        (!reasons.is_empty()).then(|| format!("streams {what}: {}", reasons.join(", ")))
    };
    named("refused", &load.refused).into_iter().chain(named("lost", &load.lost)).collect()
}

fn count_faults(load: &LoadReport, counted: &Counted) -> Vec<String> {
    let mut faults = Vec::new();
    for (what, sent, received) in
        [("bytes", load.bytes_sent, counted.bytes), ("frames", load.frames_sent, counted.frames)]
    {
        if sent != received {
            faults.push(format!("{} {what} were sent and {} received", figure::count(sent), figure::count(received)));
        }
    }
    if counted.lost > 0 {
        faults.push(format!("a sink lost {} samples", figure::count(counted.lost)));
    }
    faults
}

async fn stop(server: Option<Server>) {
    if let Some(server) = server {
        server.stop().await;
    }
}

fn tell(args: &StreamsArgs, stage: &Stage, measured: &Measured) -> Result<(), Trouble> {
    for line in table::markdown(args, measured, &host::describe()) {
        stage.line(line);
    }
    stage.document(&json!({
        "ok": measured.faults.is_empty(),
        "asked": {
            "streams": args.streams,
            "seconds": args.seconds,
            "opensPerSecond": args.opens_per_second,
            "frameSamples": args.frame_samples,
        },
        "host": host::describe(),
        "measured": measured,
    }))?;
    let paint = stage.paint;
    stage.line("");
    if measured.faults.is_empty() {
        let text = if measured.server.is_some() { "every byte is accounted for" } else { "every stream was served" };
        stage.line(format!("{} {text}", paint.mark(true)));
        return Ok(());
    }
    for fault in &measured.faults {
        stage.line(format!("{} {}", paint.mark(false), paint.tone(Tone::Bad, fault)));
    }
    Err(Trouble::told())
}
