//! What a server counts, from its `/metrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use earpiece_core::telemetry as names;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::streams::Counted;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Every sample of Prometheus' text, by its name with labels. All of Earpiece's counts are whole numbers; other values
/// are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Metrics(BTreeMap<String, u64>);

impl Metrics {
    /// Reads Prometheus' text.
    pub(crate) fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// One of them; zero when it is not there.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The sum over all labels.
    fn sum(&self, name: &str) -> u64 {
        let labelled = format!("{name}{{");
        self.0.iter().filter(|(key, _)| key.starts_with(&labelled)).map(|(_, value)| value).sum()
    }

    /// Live streams.
    pub(crate) fn streams_live(&self) -> u64 {
        self.get(names::STREAMS_LIVE)
    }

    /// A histogram's buckets: upper bound in microseconds, none for the last one, and the count up to it.
    fn buckets(&self, name: &str) -> Vec<(Option<u64>, u64)> {
        let start = format!("{name}_bucket{{le=\"");
        let bucket = |(key, count): (&String, &u64)| {
            let bound = key.strip_prefix(&start)?.strip_suffix("\"}")?;
            Some((micros(bound), *count))
        };
        let mut buckets: Vec<_> = self.0.iter().filter_map(bucket).collect();
        buckets.sort_by_key(|(bound, _)| bound.unwrap_or(u64::MAX));
        buckets
    }
}

/// Decimal seconds as microseconds; none for what is no such number, as `+Inf`.
fn micros(seconds: &str) -> Option<u64> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let fraction = fraction.get(..6).unwrap_or(fraction);
    format!("{whole}{fraction:0<6}").parse().ok()
}

/// What was counted from one reading to another.
pub(crate) fn between(before: &Metrics, after: &Metrics) -> Counted {
    let grown = |name: &str| after.get(name).saturating_sub(before.get(name));
    let was = before.buckets(names::ACK_LATENCY_SECONDS);
    let acked: Vec<(Option<u64>, u64)> = after
        .buckets(names::ACK_LATENCY_SECONDS)
        .into_iter()
        .map(|(bound, count)| {
            let was = was.iter().find(|(other, _)| *other == bound).map_or(0, |(_, count)| *count);
            (bound, count.saturating_sub(was))
        })
        .collect();
    let acks = acked.last().map_or(0, |(_, count)| *count);
    let rank = (acks * 99).div_ceil(100);
    Counted {
        bytes: grown(names::AUDIO_BYTES),
        frames: grown(names::AUDIO_FRAMES),
        lost: after.sum(names::SAMPLES_LOST).saturating_sub(before.sum(names::SAMPLES_LOST)),
        degraded: grown(names::STREAMS_DEGRADED),
        acks,
        ack_p99_us_max: acked.iter().find(|(_, count)| *count >= rank).and_then(|(bound, _)| *bound),
    }
}

/// Reads the metrics of the server that has this audio URL.
///
/// # Errors
///
/// When they cannot be read, with the reason.
pub(crate) async fn read(audio_url: &str) -> Result<Metrics, String> {
    let rest = audio_url.strip_prefix("ws://").ok_or("only a server behind ws:// can be asked")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    // Neither a token nor a name in front of the host is wanted here.
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let asked = timeout(PATIENCE, ask(&address, host)).await;
    let answer = asked.map_err(|_| "it does not answer in time".to_owned())?.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        return Err(format!("the answer is HTTP {status}"));
    }
    let metrics = Metrics::parse(body);
    if metrics.0.contains_key(names::AUDIO_BYTES) { Ok(metrics) } else { Err("they are not Earpiece's".into()) }
}

/// One request. Of HTTP/1.0, so that the answer is plain and ends with the connection.
async fn ask(address: &str, host: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nhost: {host}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const BEFORE: &str = "\
# TYPE earpiece_audio_bytes_total counter
earpiece_audio_bytes_total 100
earpiece_samples_lost_total{reason=\"relay_ring_full\"} 1
earpiece_ack_latency_seconds_bucket{le=\"0.001\"} 5
earpiece_ack_latency_seconds_bucket{le=\"0.0025\"} 5
earpiece_ack_latency_seconds_bucket{le=\"+Inf\"} 5
earpiece_ack_latency_seconds_sum 0.00251
";

    const AFTER: &str = "\
earpiece_audio_bytes_total 260
earpiece_audio_frames_total 1
earpiece_samples_lost_total{reason=\"relay_ring_full\"} 3
earpiece_samples_lost_total{reason=\"segment_not_written\"} 4
earpiece_ack_latency_seconds_bucket{le=\"0.001\"} 103
earpiece_ack_latency_seconds_bucket{le=\"0.0025\"} 105
earpiece_ack_latency_seconds_bucket{le=\"+Inf\"} 105
";

    #[test]
    fn what_counts_is_the_growth() {
        let counted = between(&Metrics::parse(BEFORE), &Metrics::parse(AFTER));
        assert_eq!((counted.bytes, counted.frames, counted.lost), (160, 1, 6));
        assert_eq!((counted.acks, counted.ack_p99_us_max), (100, Some(2500)));
    }

    #[test]
    fn answers_beyond_the_last_bucket_have_no_bound() {
        let late = AFTER.replace("} 103", "} 5").replace("0.0025\"} 105", "0.0025\"} 5");
        assert_eq!(between(&Metrics::parse(BEFORE), &Metrics::parse(&late)).ack_p99_us_max, None);
    }

    #[test]
    fn bounds_are_read_without_rounding() {
        assert_eq!(
            (micros("0.0005"), micros("5"), micros("2.5"), micros("+Inf")),
            (Some(500), Some(5_000_000), Some(2_500_000), None)
        );
    }

    async fn served(answer: &'static str) -> Result<Metrics, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("ws://{}/audio?token=x", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.expect("a peer");
            let mut request = [0; 1024];
            let read = peer.read(&mut request).await.expect("a request");
            peer.write_all(answer.as_bytes()).await.expect("an answer");
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let metrics = read(&url).await;
        let request = serving.await.expect("served");
        assert!(request.starts_with("GET /metrics ") && !request.contains("token"), "{request}");
        metrics
    }

    #[tokio::test]
    async fn metrics_are_fetched_from_beside_the_audio_socket() {
        let metrics = served("HTTP/1.0 200 OK\r\n\r\nearpiece_audio_bytes_total 7\n").await.expect("metrics");
        assert_eq!(metrics.get(names::AUDIO_BYTES), 7);
        assert_eq!(served("HTTP/1.0 404 no\r\n\r\n").await, Err("the answer is HTTP 404".into()));
        assert!(served("HTTP/1.0 200 OK\r\n\r\nother 7\n").await.is_err());
    }
}
