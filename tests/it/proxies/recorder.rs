//! A listener that answers 200 and keeps each request as it came.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// Listens until the test's process ends.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    requests: Receiver<(String, Vec<u8>)>,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (send, requests) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let send = send.clone();
                thread::spawn(move || serve(stream, &send));
            }
        });
        Self { address, requests }
    }

    /// The next request: its line and headers, and its body.
    pub(crate) fn next(&self) -> (String, Vec<u8>) {
        self.requests.recv_timeout(Duration::from_secs(30)).expect("a request")
    }
}

fn serve(mut stream: TcpStream, requests: &Sender<(String, Vec<u8>)>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 {
            return;
        }
        bytes.extend_from_slice(&buffer[..length]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end + 2]).into_owned();
        let body_length = head.to_ascii_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length:").and_then(|length| length.trim().parse::<usize>().ok())
        });
        let whole = end + 4 + body_length.unwrap_or(0);
        if bytes.len() >= whole {
            let answered = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            if answered.is_err() || requests.send((head, bytes[end + 4..whole].to_vec())).is_err() {
                return;
            }
            bytes.drain(..whole);
        }
    }
}
