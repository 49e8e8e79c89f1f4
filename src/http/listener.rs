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

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
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
    /// Serves requests on `tcp` with `handle`, which is told the peer's address, until `stop`; then takes no new
    /// connection, lets requests under way finish, and returns when all connections are gone. It is the caller who bounds
    /// that time: dropping the future cuts off what is left.
    pub async fn serve<H, A, B>(self, tcp: TcpListener, handle: H, stop: CancellationToken)
    where
        H: Fn(SocketAddr, Request<Incoming>) -> A + Clone + Send + Unpin + 'static,
        A: Future<Output = Result<Response<B>, Infallible>> + Send + Unpin + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(self.max_connections.min(Semaphore::MAX_PERMITS)));
        let mut connections = JoinSet::new();
        // One for each connection: it is looked at whenever the connection is, and one for all would be fought over.
        let mut stops: HashMap<task::Id, oneshot::Sender<()>> = HashMap::new();
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next_with_id() => {
                    stops.remove(&ended.map_or_else(|error: JoinError| error.id(), |(id, ())| id));
                }
                (slot, stream, peer) = accept(&tcp, &slots, &mut failing) => {
                    let (stop, stopped) = oneshot::channel();
                    let connection = self.connection(stream, peer, handle.clone(), stopped);
                    let task = connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                    stops.insert(task.id(), stop);
                }
            }
        }
        drop(tcp);
        // Dropping them tells.
        drop(stops);
        while connections.join_next().await.is_some() {}
    }

    /// Serves one connection to its end.
    async fn connection<H, A, B>(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        handle: H,
        mut stopped: oneshot::Receiver<()>,
    ) where
        H: Fn(SocketAddr, Request<Incoming>) -> A + Unpin,
        A: Future<Output = Result<Response<B>, Infallible>> + Unpin,
        B: Body<Data: Send, Error: Into<BoxError>> + 'static,
    {
        // Fails only for a socket that is gone, which reading will find out.
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(WriteTimeout::new(stream, self.header_read_timeout));
        let service = service_fn(move |request| handle(peer, request));
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
                _ = &mut stopped, if !stopping => {
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

/// The next connection, once there is a slot for it. `failing` is whether the last try failed. Cancel-safe.
async fn accept(
    tcp: &TcpListener,
    slots: &Arc<Semaphore>,
    failing: &mut bool,
) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match tcp.accept().await {
            Ok((stream, peer)) => {
                *failing = false;
                return (slot, stream, peer);
            }
            // The peer was gone before it was accepted.
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                // Said once, for it repeats ten times a second.
                if !*failing {
                    warn!(%error, "connections cannot be accepted, probably for want of file descriptors");
                    *failing = true;
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
