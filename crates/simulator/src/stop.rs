//! Being told to stop.

use tokio::sync::watch;

/// Resolves when told to stop; never when nobody is left who could tell.
pub(crate) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // The guard that a wait hands out must not outlive this line: it is a lock.
    let told = stop.wait_for(|stop| *stop).await.is_ok();
    if !told {
        std::future::pending::<()>().await;
    }
}
