//! Task scale-in protection: a task that holds streams asks ECS not to be the one that is taken away.
//!
//! Scaling in would end calls that a task without any could have spared. So the agent beside the task is told when there
//! are streams and when there have been none for a while; protection expires by itself, should nobody say so any more.
//! No stream waits for any of this: the number of streams is looked at, now and then, from beside.
//!
//! The agent's interface: `PUT $ECS_AGENT_URI/task-protection/v1/state` with `ProtectionEnabled` and
//! `ExpiresInMinutes` (1 to 2880), answered by what holds then, or by `failure` or `error`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use earpiece_https::client::{Client, Limits};
use http::header::CONTENT_TYPE;
use http::{Method, Request, Uri};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::Task;

/// What one request to the agent, which is on the same machine, may cost.
const REQUEST: Limits = Limits { deadline: Duration::from_secs(5), answer_bytes_max: 16 * 1024 };

/// The agent of this ECS task.
#[derive(Clone)]
pub struct EcsAgent {
    client: Client,
    state: Uri,
}

impl EcsAgent {
    /// The agent at the address that ECS gives its tasks as `ECS_AGENT_URI`; `None` when that is no HTTP address.
    #[must_use]
    pub fn new(client: Client, address: &str) -> Option<Self> {
        let state: Uri = format!("{}/task-protection/v1/state", address.trim_end_matches('/')).parse().ok()?;
        let is_http = matches!(state.scheme_str(), Some("http" | "https")) && state.host().is_some();
        is_http.then_some(Self { client, state })
    }

    async fn put(&self, wish: Wish, rhythm: &Rhythm) -> Result<(), AgentFault> {
        let body = match wish {
            Wish::Protect => json!({ "ProtectionEnabled": true, "ExpiresInMinutes": rhythm.expiry_minutes }),
            Wish::Release => json!({ "ProtectionEnabled": false }),
        };
        let request = Request::builder().method(Method::PUT).uri(self.state.clone());
        let request = request.header(CONTENT_TYPE, "application/json").body(Bytes::from(body.to_string()));
        let request = request.map_err(|_| AgentFault::Unclear)?;
        let answer = self.client.send(request, REQUEST).await?;
        if !answer.status().is_success() {
            return Err(AgentFault::Refused(answer.status().as_u16()));
        }
        // A request that was understood and not granted is answered like one that was.
        let said: Answer = serde_json::from_slice(answer.body()).map_err(|_| AgentFault::Unclear)?;
        match said.protection {
            Some(state) if state.enabled == (wish == Wish::Protect) => Ok(()),
            _ => Err(AgentFault::NotGranted),
        }
    }
}

impl fmt::Debug for EcsAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its path holds an id by which anybody on this machine could speak for the task.
        f.write_str("EcsAgent")
    }
}

#[derive(Deserialize)]
struct Answer {
    protection: Option<State>,
}

#[derive(Deserialize)]
struct State {
    #[serde(rename = "ProtectionEnabled")]
    enabled: bool,
}

/// Why the agent did not do it.
#[derive(Debug, thiserror::Error)]
enum AgentFault {
    #[error(transparent)]
    Unanswered(#[from] earpiece_https::client::Failure),
    #[error("it answered {0}")]
    Refused(u16),
    #[error("it did not grant it")]
    NotGranted,
    #[error("its answer cannot be understood")]
    Unclear,
}

/// What is asked of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Protect,
    Release,
}

/// When what is done.
#[derive(Debug, Clone)]
struct Rhythm {
    /// How often the number of streams is looked at. Streams that come and go within it make no request.
    look: Duration,
    /// For how long protection is asked for.
    expiry_minutes: u32,
    /// When it is asked for again while there are streams: a third of the expiry, so that two requests may fail.
    renew: Duration,
    /// Without any stream for so long, it is given up.
    idle: Duration,
    /// Longest pause after a first failure; it doubles.
    pause_first: Duration,
    /// Longest pause of all.
    pause_max: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(1),
            expiry_minutes: 60,
            renew: Duration::from_mins(20),
            idle: Duration::from_mins(1),
            pause_first: Duration::from_secs(1),
            pause_max: Duration::from_mins(1),
        }
    }
}

impl Rhythm {
    fn expiry(&self) -> Duration {
        Duration::from_mins(self.expiry_minutes.into())
    }
}

/// What is held, and what is to be asked for next. Pure: the time comes in as a value.
#[derive(Debug)]
struct Guardian {
    rhythm: Rhythm,
    protected_at: Option<Instant>,
    idle_since: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Guardian {
    const fn new(rhythm: Rhythm) -> Self {
        Self { rhythm, protected_at: None, idle_since: None, failures: 0, not_before: None }
    }

    /// Whether protection holds, as far as is known.
    fn is_protected(&self, now: Instant) -> bool {
        self.protected_at.is_some_and(|since| now < since + self.rhythm.expiry())
    }

    fn wish(&mut self, now: Instant, is_live: bool) -> Option<Wish> {
        let wish = if is_live {
            self.idle_since = None;
            let is_fresh = self.protected_at.is_some_and(|since| now < since + self.rhythm.renew);
            (!is_fresh).then_some(Wish::Protect)
        } else {
            let idle_since = *self.idle_since.get_or_insert(now);
            (self.is_protected(now) && now >= idle_since + self.rhythm.idle).then_some(Wish::Release)
        };
        wish.filter(|_| self.not_before.is_none_or(|not_before| now >= not_before))
    }

    fn granted(&mut self, now: Instant, wish: Wish) {
        self.failures = 0;
        self.not_before = None;
        self.protected_at = (wish == Wish::Protect).then_some(now);
    }

    /// Notes a failure; whether it is the first in a row. `chance` is from 0 to 1.
    fn failed(&mut self, now: Instant, chance: f64) -> bool {
        let ceiling = self.rhythm.pause_first * 2_u32.saturating_pow(self.failures.min(16));
        let pause = ceiling.min(self.rhythm.pause_max).max(self.rhythm.look).mul_f64(chance);
        self.not_before = Some(now + pause);
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }
}

/// Keeps the task protected while it has streams, for as long as the process lives.
pub(crate) async fn keep(task: Arc<Task>, agent: EcsAgent) {
    let live = {
        let task = task.clone();
        move || task.metrics.streams_live.get() > 0 || task.ingest.as_ref().is_some_and(|ingest| ingest.live() > 0)
    };
    let show = move |is_protected: bool| task.metrics.scale_in_protected.set(is_protected.into());
    watch(Guardian::new(Rhythm::default()), &agent, live, show).await;
}

async fn watch(mut guardian: Guardian, agent: &EcsAgent, is_live: impl Fn() -> bool, show: impl Fn(bool)) {
    loop {
        if let Some(wish) = guardian.wish(Instant::now(), is_live()) {
            // The time before the request: what was granted holds from then on, at the latest.
            let asked = Instant::now();
            match agent.put(wish, &guardian.rhythm).await {
                Ok(()) => {
                    if guardian.failures > 0 {
                        info!("the ECS agent does as it is asked again");
                    }
                    guardian.granted(asked, wish);
                }
                Err(error) => {
                    if guardian.failed(Instant::now(), fastrand::f64()) {
                        warn!(%error, ?wish, "the ECS agent did not change the task's scale-in protection");
                    }
                }
            }
        }
        show(guardian.is_protected(Instant::now()));
        tokio::time::sleep(guardian.rhythm.look).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use earpiece_https::Trust;
    use serde_json::Value;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn protection_is_asked_for_with_the_first_stream_and_renewed_every_third_of_its_expiry() {
        let begin = Instant::now();
        let mut guardian = Guardian::new(Rhythm::default());
        assert_eq!(guardian.wish(begin, false), None);
        assert_eq!(guardian.wish(begin, true), Some(Wish::Protect));
        guardian.granted(begin, Wish::Protect);
        let asked = (1..3 * 3600).filter(|second| {
            let now = begin + seconds(*second);
            let wish = guardian.wish(now, true);
            wish.inspect(|wish| guardian.granted(now, *wish)).is_some()
        });
        assert_eq!(asked.collect::<Vec<_>>(), (1..9).map(|times| times * 20 * 60).collect::<Vec<_>>());
    }

    #[test]
    fn protection_is_given_up_only_after_a_minute_without_any_stream() {
        let begin = Instant::now();
        let mut guardian = Guardian::new(Rhythm::default());
        guardian.granted(begin, Wish::Protect);
        for second in [0, 30, 59] {
            assert_eq!(guardian.wish(begin + seconds(second), false), None);
        }
        assert_eq!(guardian.wish(begin + seconds(59), true), None, "a stream came just in time");
        assert_eq!(guardian.wish(begin + seconds(60), false), None);
        assert_eq!(guardian.wish(begin + seconds(119), false), None);
        assert_eq!(guardian.wish(begin + seconds(120), false), Some(Wish::Release));
        guardian.granted(begin + seconds(120), Wish::Release);
        assert_eq!(guardian.wish(begin + seconds(300), false), None);
        assert!(!guardian.is_protected(begin + seconds(120)));
    }

    #[test]
    fn failures_are_tried_again_after_pauses_that_grow_up_to_a_limit_and_only_the_first_is_told() {
        let mut now = Instant::now();
        let mut guardian = Guardian::new(Rhythm::default());
        let mut pauses = Vec::new();
        for attempt in 0..40 {
            assert_eq!(guardian.wish(now, true), Some(Wish::Protect));
            assert_eq!(guardian.failed(now, 1.0), attempt == 0);
            let not_before = guardian.not_before.expect("a pause");
            pauses.push((not_before - now).as_secs());
            assert_eq!(guardian.wish(not_before - Duration::from_millis(1), true), None);
            now = not_before;
        }
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 32, 60]);
        assert_eq!(pauses.iter().max(), Some(&60));
        guardian.granted(now, Wish::Protect);
        assert!(guardian.failed(now, 0.5), "the next outage is told again");
    }

    #[test]
    fn protection_that_nobody_could_renew_is_known_to_be_gone() {
        let begin = Instant::now();
        let mut guardian = Guardian::new(Rhythm::default());
        guardian.granted(begin, Wish::Protect);
        assert!(guardian.is_protected(begin + seconds(3599)));
        assert!(!guardian.is_protected(begin + seconds(3600)));
        assert_eq!(guardian.wish(begin + seconds(4000), false), None, "nothing to give up");
    }

    #[test]
    fn only_an_http_address_is_an_agent_and_it_is_never_printed() {
        let client = Client::new(&Trust::public()).expect("a client");
        for bad in ["", "here", "ftp://169.254.170.2/api", "http://", "http:// x"] {
            assert!(EcsAgent::new(client.clone(), bad).is_none(), "{bad}");
        }
        let agent = EcsAgent::new(client, "http://169.254.170.2/api/hunter2/").expect("an agent");
        assert_eq!(agent.state, "http://169.254.170.2/api/hunter2/task-protection/v1/state");
        assert_eq!(format!("{agent:?}"), "EcsAgent");
    }

    /// Stands in for the ECS agent: answers requests as it is told and gives what they said.
    async fn stand_in(
        answers: Vec<(&'static str, &'static str)>,
    ) -> (String, mpsc::UnboundedReceiver<(String, Value)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}/api/0123", listener.local_addr().expect("an address"));
        let (said, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            let mut last = ("200 OK", "{}");
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let mut stream = BufReader::new(stream);
                loop {
                    let mut text = Vec::new();
                    while !text.ends_with(b"\r\n\r\n") {
                        if stream.read_until(b'\n', &mut text).await.unwrap_or(0) == 0 {
                            break;
                        }
                    }
                    let request = String::from_utf8(text).expect("text").to_ascii_lowercase();
                    let Some(length) = request.lines().find_map(|line| line.strip_prefix("content-length: ")) else {
                        break;
                    };
                    let mut body = vec![0; length.parse().expect("a number")];
                    stream.read_exact(&mut body).await.expect("a body");
                    last = answers.next().unwrap_or(last);
                    let (status, words) = last;
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{words}", words.len());
                    stream.write_all(answer.as_bytes()).await.expect("a peer that listens");
                    let line = request.lines().next().unwrap_or_default().to_owned();
                    let _ = said.send((line, serde_json::from_slice(&body).expect("JSON")));
                }
            }
        });
        (address, heard)
    }

    const GRANTED: &str = r#"{"protection":{"ProtectionEnabled":true,"ExpirationDate":"2026-01-01T00:00:00Z"}}"#;
    const RELEASED: &str = r#"{"protection":{"ProtectionEnabled":false}}"#;
    const FAILED: &str = r#"{"failure":{"Reason":"DEPLOYMENT_BLOCKED","Detail":"…"}}"#;

    #[tokio::test]
    async fn the_agent_is_told_when_streams_come_and_go_and_told_again_when_it_failed() {
        let answers =
            vec![("500 Oops", ""), ("200 OK", FAILED), ("200 OK", GRANTED), ("200 OK", RELEASED), ("200 OK", GRANTED)];
        let (address, mut heard) = stand_in(answers).await;
        let client = Client::new(&Trust::public()).expect("a client");
        let agent = EcsAgent::new(client, &address).expect("an agent");
        let moment = Duration::from_millis(5);
        let rhythm =
            Rhythm { look: moment, idle: 4 * moment, pause_first: moment, pause_max: moment, ..Rhythm::default() };
        let live = Arc::new(AtomicBool::new(true));
        let shown = Arc::new(Mutex::new(Vec::new()));
        let watching = {
            let (live, shown) = (live.clone(), shown.clone());
            let show = move |is_protected| {
                let mut shown = shown.lock().expect("lock");
                if shown.last() != Some(&is_protected) {
                    shown.push(is_protected);
                }
            };
            tokio::spawn(async move {
                watch(Guardian::new(rhythm), &agent, || live.load(Ordering::Relaxed), show).await;
            })
        };
        for _ in 0..3 {
            let (first, body) = heard.recv().await.expect("a request");
            assert_eq!(first, "put /api/0123/task-protection/v1/state http/1.1");
            assert_eq!(body, json!({ "ProtectionEnabled": true, "ExpiresInMinutes": 60 }));
        }
        live.store(false, Ordering::Relaxed);
        assert_eq!(heard.recv().await.expect("a request").1, json!({ "ProtectionEnabled": false }));
        live.store(true, Ordering::Relaxed);
        assert_eq!(heard.recv().await.expect("a request").1["ProtectionEnabled"], true);
        watching.abort();
        let shown = shown.lock().expect("lock").clone();
        assert!(shown.starts_with(&[false, true, false]), "{shown:?}");
    }
}
