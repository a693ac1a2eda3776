//! What is shown of a measurement.

use earpiece_simulator::Latency;

use super::Measured;
use super::flow::Flow;
use super::talk::FRAGMENTS_PER_QUESTION;
use crate::args::AssistanceArgs;
use crate::bench::table::{self, NOTHING};
use crate::figure;

/// The lines of the table.
pub(crate) fn markdown(args: &AssistanceArgs, measured: &Measured, host: &str) -> Vec<String> {
    let Measured { memory, calm, storm, elsewhere, saturated, insights, .. } = measured;
    let storm_flow = &storm.beside.suggestions;
    let rows = [
        ("machine", host.to_owned()),
        ("command", command(args)),
        ("suggestions at a rate, arrived", arrived(&calm.suggestions)),
        ("their time to the frame, p50 / p95 / p99 / max", latency(&calm.suggestions.latency)),
        ("in the storm of 429s, arrived", arrived(storm_flow)),
        ("their time to the frame, p50 / p95 / p99 / max", latency(&storm_flow.latency)),
        ("p99 in the storm ÷ p99 before", ratio(storm_flow.latency.p99_us, calm.suggestions.latency.p99_us)),
        ("searches refused with 429 / held back", held_back(storm.searches_refused, storm.searches_limited)),
        ("questions asked in the storm / answered in it / after it", {
            let asked = figure::count(storm.beside.questions.begun);
            let (meanwhile, after) = (storm.delivered_meanwhile, storm.delivered_afterwards);
            format!("{asked} / {} / {}", figure::count(meanwhile), figure::count(after))
        }),
        ("the last of them after the storm's end", seconds(storm.last_after_ms)),
        ("questions before the storm, end of turn to cards, p50 / p99", short(&calm.questions.latency)),
        ("suggestions of another process, arrived", arrived(elsewhere)),
        ("their time to the frame, p50 / p95 / p99 / max", latency(&elsewhere.latency)),
        ("suggestions as fast as they go", format!("{} per second", figure::count(saturated.per_second))),
        ("their time to the frame, p50 / p95 / p99 / max", latency(&saturated.latency)),
        ("fragments as fast as they go", {
            let per_second = figure::divide(insights.arrived * FRAGMENTS_PER_QUESTION * 1000, insights.elapsed_ms);
            format!(
                "{} per second, {} searches and posts",
                figure::count(per_second),
                figure::count(insights.per_second)
            )
        }),
        ("end of turn to cards, p50 / p95 / p99 / max", latency(&insights.latency)),
        ("memory of a tracked interaction", {
            let words = memory.words_bytes;
            memory.bytes_per_interaction.map_or_else(
                || NOTHING.to_owned(),
                |bytes| format!("{bytes} bytes, {words} of them words ({} tracked)", figure::count(memory.tracked)),
            )
        }),
        ("own memory when more are offered, grown by", {
            let (offered, tracked) = (memory.offered_in_the_end, memory.tracked_in_the_end);
            memory.growth_in_the_end_bytes.map_or_else(
                || NOTHING.to_owned(),
                |bytes| {
                    let (offered, tracked) = (figure::count(offered), figure::count(tracked));
                    format!("{} MiB ({offered} offered, {tracked} tracked)", figure::kib(bytes / 1024))
                },
            )
        }),
    ];
    table::markdown(&rows)
}

/// How to measure it again.
fn command(args: &AssistanceArgs) -> String {
    format!(
        "`earpiece bench assistance --rate {} --seconds {} --storm-seconds {} --questions-per-second {} --at-once {} \
         --tracked {}`",
        args.rate, args.seconds, args.storm_seconds, args.questions_per_second, args.at_once, args.tracked
    )
}

fn arrived(flow: &Flow) -> String {
    format!("{} of {}, {} per second", figure::count(flow.arrived), figure::count(flow.begun), flow.per_second)
}

fn held_back(refused: u64, limited: u64) -> String {
    format!("{} / {}", figure::count(refused), figure::count(limited.saturating_sub(refused)))
}

fn latency(latency: &Latency) -> String {
    [latency.p50_us, latency.p95_us, latency.p99_us, latency.max_us].map(figure::millis).join(" / ")
}

fn short(latency: &Latency) -> String {
    [latency.p50_us, latency.p99_us].map(figure::millis).join(" / ")
}

fn seconds(ms: u64) -> String {
    format!("{} s", figure::decimal(figure::divide(ms, 100), 1))
}

fn ratio(dividend: u64, divisor: u64) -> String {
    if divisor == 0 { NOTHING.to_owned() } else { figure::decimal(figure::divide(dividend * 100, divisor), 2) }
}
