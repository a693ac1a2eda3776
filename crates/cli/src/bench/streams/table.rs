//! What is shown of a measurement.

use earpiece_simulator::Latency;

use super::Measured;
use crate::args::StreamsArgs;
use crate::bench::table::{self, NOTHING};
use crate::figure;

/// The lines of the table.
pub(crate) fn markdown(args: &StreamsArgs, measured: &Measured, host: &str) -> Vec<String> {
    let load = &measured.load;
    let server = measured.server.as_ref();
    let usage = measured.usage.as_ref();
    let ours = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    let rows = [
        ("machine", host.to_owned()),
        ("command", command(args)),
        ("streams open / refused / lost", format!("{} / {} / {}", load.opened, sum(&load.refused), sum(&load.lost))),
        ("all streams open for", format!("{} s", figure::decimal(figure::divide(load.plateau_ms, 100), 1))),
        ("frames sent", figure::count(load.frames_sent)),
        ("frames received", ours(server.map(|server| figure::count(server.frames)))),
        ("bytes sent", figure::count(load.bytes_sent)),
        ("bytes received", ours(server.map(|server| figure::count(server.bytes)))),
        ("samples lost by sinks", ours(server.map(|server| figure::count(server.lost)))),
        ("ack seen by the client, p50 / p95 / p99 / max", latency(&load.ack)),
        ("ack by the server's histogram, p99", ours(server.map(|server| bucket(server.ack_p99_us_max)))),
        ("accepted before the store had answered", ours(server.map(|server| figure::count(server.degraded)))),
        (
            "server CPU per frame",
            ours(usage.map(|usage| format!("{} µs", figure::decimal(figure::divide(usage.cpu_ns_per_frame, 100), 1)))),
        ),
        (
            "server CPU",
            ours(usage.map(|usage| format!("{} cores", figure::decimal(figure::divide(usage.cpu_millicores, 10), 2)))),
        ),
        (
            "server memory per stream, resident / own",
            ours(usage.map(|usage| {
                format!(
                    "{} / {} KiB",
                    figure::kib(usage.rss_bytes_per_stream),
                    figure::kib(usage.anon_bytes_per_stream)
                )
            })),
        ),
        (
            "server memory resident, idle / most",
            ours(usage.map(|usage| {
                format!(
                    "{} / {} MiB",
                    figure::kib(usage.idle_rss_bytes / 1024),
                    figure::kib(usage.rss_bytes_max / 1024)
                )
            })),
        ),
        ("generator's latest tick", figure::millis(load.late_us_max)),
    ];
    table::markdown(&rows)
}

/// How to measure it again. Neither URL nor token are repeated.
fn command(args: &StreamsArgs) -> String {
    let url = if args.url.is_some() { " --url …" } else { "" };
    format!(
        "`earpiece bench streams --streams {} --seconds {} --opens-per-second {} --frame-samples {}{url}`",
        args.streams, args.seconds, args.opens_per_second, args.frame_samples
    )
}

fn sum(reasons: &std::collections::BTreeMap<String, u64>) -> u64 {
    reasons.values().sum()
}

fn latency(latency: &Latency) -> String {
    [latency.p50_us, latency.p95_us, latency.p99_us, latency.max_us].map(figure::millis).join(" / ")
}

fn bucket(p99_us_max: Option<u64>) -> String {
    p99_us_max.map_or_else(|| "beyond the last bucket".to_owned(), |bound| format!("≤ {}", figure::millis(bound)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use earpiece_core::secret::Secret;
    use earpiece_simulator::LoadReport;

    use super::*;

    fn measured() -> Measured {
        let load = LoadReport {
            streams: 2,
            opened: 2,
            refused: BTreeMap::new(),
            closed: 2,
            lost: BTreeMap::new(),
            frames_sent: 100,
            bytes_sent: 16_000,
            connect: Latency::default(),
            ack: Latency { count: 2, p50_us: 800, p95_us: 900, p99_us: 900, max_us: 900 },
            late_ticks: 0,
            late_us_max: 120,
            plateau_ms: 1_000,
            elapsed_ms: 1_100,
        };
        Measured { load, server: None, usage: None, faults: Vec::new() }
    }

    fn args() -> StreamsArgs {
        StreamsArgs {
            streams: 2,
            seconds: 1,
            opens_per_second: 200,
            frame_samples: 160,
            url: Some(Secret::new("ws://h/audio?token=hunter2")),
            token: Some(Secret::new("hunter2")),
        }
    }

    #[test]
    fn the_table_is_markdown_and_says_where_nothing_is_known() {
        let lines = markdown(&args(), &measured(), "2 cores");
        assert!(lines.iter().all(|line| line.starts_with("| ") && line.ends_with(" |")));
        assert!(lines.iter().any(|line| line.contains("bytes received") && line.ends_with("| – |")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.ends_with("| 0.80 ms / 0.90 ms / 0.90 ms / 0.90 ms |")), "{lines:#?}");
    }

    #[test]
    fn neither_url_nor_token_are_in_the_table() {
        assert!(!markdown(&args(), &measured(), "").concat().contains("hunter2"));
    }
}
