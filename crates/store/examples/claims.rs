//! How many streams a store can claim in a second, and how long one claim takes.
//!
//! `cargo run --release -p earpiece-store --example claims --features embedded -- [CLAIMS] [AT_ONCE] [ENDPOINT]`
//!
//! Without an endpoint it measures the embedded store, in memory and on a file in the folder for temporary files.

use std::time::{Duration, Instant};

use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_store::{Claim, Embedded, Store};
use tokio::task::JoinSet;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let claims = arguments.next().map_or(Ok(2000), |text| text.parse())?;
    let at_once = arguments.next().map_or(Ok(16), |text| text.parse())?;
    if let Some(endpoint) = arguments.next() {
        let store = Store::connect_local(&endpoint, "claims");
        store.create_table().await?;
        return measure("endpoint", &store, claims, at_once).await;
    }
    let memory = Embedded::memory()?;
    measure("memory", &memory.store("claims").await?, claims, at_once).await?;
    memory.stop().await;

    let path = std::env::temp_dir().join(format!("claims-{}.db", std::process::id()));
    let file = Embedded::file(&path)?;
    let measured = measure("file", &file.store("claims").await?, claims, at_once).await;
    file.stop().await;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        // The journal's files go by themselves when the last connection closes.
        let _ = std::fs::remove_file(name);
    }
    measured
}

async fn measure(name: &str, store: &Store, claims: u64, at_once: u64) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..at_once {
        let store = store.clone();
        workers.spawn(async move {
            let mut latencies = Vec::new();
            for contact_id in (worker..claims).step_by(usize::try_from(at_once)?) {
                let claimed = Instant::now();
                claim(&store, ContactKey { bus_no: 1, contact_id }).await?;
                latencies.push(claimed.elapsed());
            }
            Ok::<_, Failure>(latencies)
        });
    }
    let mut latencies = Vec::new();
    for worker in workers.join_all().await {
        latencies.extend(worker?);
    }
    let per_second = f64::from(u32::try_from(latencies.len())?) / begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let percentile = |percent: usize| latencies.get(latencies.len() * percent / 100).map_or(0.0, ms);
    println!(
        "{name}: {per_second:.0} claims/s, {at_once} at once, p50 {:.1} ms, p99 {:.1} ms",
        percentile(50),
        percentile(99)
    );
    Ok(())
}

fn ms(latency: &Duration) -> f64 {
    latency.as_secs_f64() * 1000.0
}

async fn claim(store: &Store, contact: ContactKey) -> Result<(), Failure> {
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_millis())?;
    let claim = Claim {
        contact,
        perspective: &Perspective::Tx,
        stream: StreamId::new(),
        opened_at_us: now_ms * 1000,
        task: "example",
        now_ms,
        stale_after_ms: 180_000,
    };
    store.claim(&claim).await?;
    Ok(())
}
