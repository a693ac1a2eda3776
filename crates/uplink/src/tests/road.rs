//! A road to a server that can be cut: what a network or a store does to one task and not to others.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Forwards connections until it is cut; from then on everybody is turned away.
pub(super) struct Road {
    pub(super) address: SocketAddr,
    open: JoinHandle<()>,
}

impl Road {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                connections.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    near.set_nodelay(true).unwrap();
                    far.set_nodelay(true).unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { address, open }
    }

    /// Breaks what is connected, and lets nobody in.
    pub(super) fn cut(&self) {
        self.open.abort();
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.open.abort();
    }
}
