//! A connection to a server that can be made slow, held, or cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// What becomes of bytes on their way, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// They go through.
    Open,
    /// Each chunk takes this long.
    Slow(Duration),
    /// They wait until the way is another.
    Held,
    /// Connections end, and new ones at once.
    Cut,
    /// The proxy is gone.
    Gone,
}

struct State {
    to: SocketAddr,
    way: Mutex<Way>,
    changed: Condvar,
    connections: Mutex<Vec<TcpStream>>,
    /// Bytes that clients have sent, passed on or not.
    sent: AtomicU64,
}

/// Listens on a port of its own and passes everything on.
pub(crate) struct TcpProxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl TcpProxy {
    /// A proxy before the server at this address, which need not be there yet.
    pub(crate) fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            to,
            way: Mutex::new(Way::Open),
            changed: Condvar::new(),
            connections: Mutex::default(),
            sent: AtomicU64::new(0),
        });
        let accepting = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                match accepting.way() {
                    Way::Gone => break,
                    Way::Cut => drop(client),
                    _ => accepting.connect(client),
                }
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that clients have sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// Changes what becomes of bytes from now on.
    pub(crate) fn set(&self, way: Way) {
        *self.state.way.lock().expect("no panic") = way;
        self.state.changed.notify_all();
        if matches!(way, Way::Cut | Way::Gone) {
            for connection in self.state.connections.lock().expect("no panic").drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.set(Way::Gone);
        // Wakes the one that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn way(&self) -> Way {
        *self.way.lock().expect("no panic")
    }

    fn connect(self: &Arc<Self>, client: TcpStream) {
        // A server that is not there refuses, and so does its proxy.
        let Ok(server) = TcpStream::connect(self.to) else { return };
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
            self.connections.lock().expect("no panic").extend(stream.try_clone());
        }
        let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
        let (forth, back) = (self.clone(), self.clone());
        thread::spawn(move || forth.copy(client, server, true));
        thread::spawn(move || back.copy(server_too, client_too, false));
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, count: bool) {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut chunk) {
            if count {
                self.sent.fetch_add(read as u64, Ordering::SeqCst);
            }
            let way = self.changed.wait_while(self.way.lock().expect("no panic"), |way| *way == Way::Held);
            let way = *way.expect("no panic");
            match way {
                Way::Cut | Way::Gone => break,
                Way::Slow(delay) => thread::sleep(delay),
                Way::Open | Way::Held => {}
            }
            if to.write_all(&chunk[..read]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
