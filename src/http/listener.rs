//! The listener of both doors, public and admin: HTTP/1.1 only, each connection with a bound on everything it may hold.
//!
//! | what | bound |
//! | --- | --- |
//! | connections | `max_connections`; further ones wait in the kernel's queue |
//! | request line and headers | `max_header_bytes`, then 431 |
//! | from the start of a connection, or the end of a request, to the end of the next headers | `header_read_timeout` |
//! | a peer that does not take its answer | `header_read_timeout` without a byte taken |
//! | the last of a peer's bytes after an answer that closes the connection | [`LINGER`] |
//!
//! Bodies are bounded by who reads them. The protocol-detecting builder and `axum::serve` bound neither silent nor idle
//! connections, which is why this uses hyper's http1 builder directly.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;
use tracing::{debug, warn};

use super::write_timeout::WriteTimeout;
use crate::config::ServerConfig;

/// After an answer that ends the connection (a 413 before the body was read), what the peer still sends is read and
/// dropped for so long: closing with unread bytes resets the connection, and the peer might never see its answer.
pub const LINGER: Duration = Duration::from_secs(2);

/// The same while the listener stops, when most connections are idle and only their close is waited for.
const LINGER_STOPPING: Duration = Duration::from_millis(250);

/// The wait after a failed accept that will fail again at once, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The least that hyper accepts as the size of its buffer.
const LEAST_BUFFER: usize = 8 * 1024;

/// The bounds of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// From the start of a connection, or the end of a request, to the end of the next request's headers; and how long a
    /// peer may leave its answer unread.
    pub header_read_timeout: Duration,
    /// Bytes of a request's line and headers. Less than 8 KiB counts as 8 KiB.
    pub max_header_bytes: usize,
}

impl From<&ServerConfig> for Listener {
    fn from(config: &ServerConfig) -> Self {
        Self {
            max_connections: config.max_connections,
            header_read_timeout: config.header_read_timeout,
            max_header_bytes: usize::try_from(config.max_header_bytes).unwrap_or(usize::MAX),
        }
    }
}

impl Listener {
    /// Serves `router` on `tcp` until `stop`; then takes no new connection, lets requests under way finish, and returns
    /// when all connections are gone. It is the caller who bounds that time: dropping the future cuts off what is left.
    ///
    /// The peer's address stands in the extensions of each request as `ConnectInfo<SocketAddr>`.
    pub async fn serve(self, tcp: TcpListener, router: Router, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.max_connections.min(Semaphore::MAX_PERMITS)));
        let connections = TaskTracker::new();
        let cut_off = CancellationToken::new();
        let _when_dropped = cut_off.clone().drop_guard();
        while let Some((slot, stream, peer)) = stop.run_until_cancelled(accept(&tcp, &slots)).await {
            let connection = self.connection(stream, peer, router.clone(), stop.clone());
            let cut_off = cut_off.clone();
            connections.spawn(async move {
                cut_off.run_until_cancelled(connection).await;
                drop(slot);
            });
        }
        drop(tcp);
        connections.close();
        connections.wait().await;
    }

    /// Serves one connection to its end.
    async fn connection(self, stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
        // Fails only for a socket that is gone, which reading will find out.
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(WriteTimeout::new(stream, self.header_read_timeout));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().call(request)
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_read_timeout)
            .max_header_size(self.max_header_bytes.max(LEAST_BUFFER))
            .max_buf_size(self.max_header_bytes.max(LEAST_BUFFER));
        let mut http = builder.serve_connection(io, service);
        let mut stopping = false;
        let ended = loop {
            tokio::select! {
                // Not `&mut http`: that would close the socket while the peer may still be sending.
                ended = poll_fn(|cx| http.poll_without_shutdown(cx)) => break ended,
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    std::pin::Pin::new(&mut http).graceful_shutdown();
                }
            }
        };
        match ended {
            Err(error) if error.is_timeout() || !error.is_parse() => debug!(%error, "connection ended"),
            _ => {
                let stream = http.into_parts().io.into_inner().into_inner();
                let patience = if stopping { LINGER_STOPPING } else { LINGER };
                // Either way the connection is over.
                let _ = timeout(patience, linger(stream)).await;
            }
        }
    }
}

/// The next connection, once there is a slot for it.
async fn accept(tcp: &TcpListener, slots: &Arc<Semaphore>) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
    let mut failing = false;
    loop {
        match tcp.accept().await {
            Ok((stream, peer)) => return (slot, stream, peer),
            // The peer was gone before it was accepted.
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                // Said once, for it repeats ten times a second.
                if !failing {
                    warn!(%error, "connections cannot be accepted, probably for want of file descriptors");
                    failing = true;
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether a failed accept concerns that one connection, and the next may be tried at once.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Ends our side of the connection, and reads what the peer still sends until it ends its own.
async fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = vec![0; 16 * 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
