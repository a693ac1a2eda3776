//! A DynamoDB in this process, for `earpiece serve`, the demo and tests: the same store talks to it over loopback HTTP
//! as to the real one.
//!
//! It runs on a thread of its own with a runtime of its own: it works on its database in the foreground, and whatever
//! that waits for (a disk that syncs) must not hold up the sockets of calls. In memory nothing outlives it; in a file
//! every write that was answered is on the disk, whatever kills the process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use dynoxide::Database;
use tokio::sync::oneshot;

use crate::client::Store;
use crate::error::StoreError;

/// How long requests that are under way may still take when it is stopped.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A running embedded DynamoDB. It stops when it is dropped, which waits for the requests under way, at most
/// [`STOP_TIMEOUT`]; where a thread must not wait, [`Embedded::stop`] it first.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
    /// Stops the server by being dropped.
    running: Option<oneshot::Sender<()>>,
    stopped: Option<oneshot::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

/// It could not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The database file has a name that is not Unicode.
    #[error("the database's path is not Unicode")]
    Path,
    /// The database could not be opened.
    #[error("the database could not be opened: {0}")]
    Open(String),
    /// No port, thread or runtime for it.
    #[error("the embedded store could not start")]
    Start(#[from] std::io::Error),
}

impl Embedded {
    /// Starts one that forgets everything when it stops.
    ///
    /// # Errors
    /// When it could not start.
    pub fn memory() -> Result<Self, EmbeddedError> {
        let database = Database::memory().map_err(|error| EmbeddedError::Open(error.to_string()))?;
        Self::start(database)
    }

    /// Starts one on a file, which is made if it is not there (its folder is not). Its journal is kept in two more
    /// files beside it.
    ///
    /// # Errors
    /// When it could not start.
    pub fn file(path: &Path) -> Result<Self, EmbeddedError> {
        let path = path.to_str().ok_or(EmbeddedError::Path)?;
        let database = Database::new(path).map_err(|error| EmbeddedError::Open(error.to_string()))?;
        Self::start(database)
    }

    fn start(database: Database) -> Result<Self, EmbeddedError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (running, stop) = oneshot::channel();
        let (done, stopped) = oneshot::channel();
        let work = move || {
            runtime.block_on(serve(listener, database, stop));
            // What is left of connections goes with the runtime, and with the last of them the database is closed.
            drop(runtime);
            drop(done);
        };
        let thread = std::thread::Builder::new().name(String::from("embedded-store")).spawn(work)?;
        Ok(Self { address, running: Some(running), stopped: Some(stopped), thread: Some(thread) })
    }

    /// Where it listens: `http://127.0.0.1:{port}`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A store on it, with the table made if it is not there.
    ///
    /// # Errors
    /// When the table could not be made.
    pub async fn store(&self, table: &str) -> Result<Store, StoreError> {
        let store = Store::connect_local(&self.endpoint(), table);
        store.create_table().await?;
        Ok(store)
    }

    /// Stops it and returns when the database is closed.
    pub async fn stop(mut self) {
        self.running.take();
        if let Some(stopped) = self.stopped.take() {
            // Its sender is dropped at the end of the thread and sends nothing.
            let _ = stopped.await;
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.running.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the embedded store's thread panicked");
        }
    }
}

/// Serves until `stop` resolves, then lets the requests under way finish, at most [`STOP_TIMEOUT`].
async fn serve(listener: TcpListener, database: Database, stop: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the embedded store does not listen");
            return;
        }
    };
    let (stopping, is_stopping) = oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stop.await;
        drop(stopping);
    };
    let deadline = async move {
        let _ = is_stopping.await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        served = dynoxide::server::serve_with_shutdown(listener, database, shutdown) => {
            if let Err(error) = served {
                tracing::error!(error, "the embedded store failed");
            }
        }
        () = deadline => tracing::warn!("the embedded store was stopped with requests under way"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Instant;

    use earpiece_core::contact::ContactKey;

    use super::*;

    const CONTACT: ContactKey = ContactKey { bus_no: 1, contact_id: 2 };

    #[tokio::test]
    async fn it_serves_until_it_is_stopped_and_not_after() {
        let embedded = Embedded::memory().unwrap();
        let store = embedded.store("calls").await.unwrap();
        assert_eq!(store.contact(&CONTACT, 0).await.unwrap(), None);
        let address = embedded.address;
        embedded.stop().await;
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[tokio::test]
    async fn a_peer_that_never_finishes_its_request_does_not_hold_up_the_stop_for_ever() {
        let embedded = Embedded::memory().unwrap();
        let mut peer = std::net::TcpStream::connect(embedded.address).unwrap();
        peer.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n1").unwrap();
        // A whole request behind it on another connection: the first has been taken up by then.
        embedded.store("calls").await.unwrap();
        let stopping = Instant::now();
        embedded.stop().await;
        assert!(stopping.elapsed() < STOP_TIMEOUT * 2);
    }

    #[tokio::test]
    async fn making_the_table_twice_is_making_it_once() {
        let embedded = Embedded::memory().unwrap();
        let store = embedded.store("calls").await.unwrap();
        store.create_table().await.unwrap();
        embedded.store("calls").await.unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let path = Path::new("/nonexistent/folder/calls.db");
        assert!(matches!(Embedded::file(path), Err(EmbeddedError::Open(_))));
    }
}
