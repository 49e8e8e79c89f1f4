//! A way to a nats-server on which the answer to one message gets lost, though the server took the message.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What becomes of the first message of which this holds.
#[derive(Default)]
struct Loss {
    /// Where its answer is awaited, once it came.
    awaited_at: Option<Vec<u8>>,
    lost: bool,
}

/// Listens on a port of its own and passes everything else on, until its process ends.
pub(crate) struct NatsProxy {
    address: SocketAddr,
    loss: Arc<Mutex<Loss>>,
}

type Chosen = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

impl NatsProxy {
    /// A proxy before the server at this address, which loses the answer to the first message that is chosen.
    pub(crate) fn start(to: SocketAddr, chosen: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (loss, chosen): (Arc<Mutex<Loss>>, Chosen) = (Arc::default(), Arc::new(chosen));
        let accepting = Arc::clone(&loss);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(to) else { continue };
                let (forth, back, chosen) = (Arc::clone(&accepting), Arc::clone(&accepting), Arc::clone(&chosen));
                let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { continue };
                thread::spawn(move || pass(client, server, |frame| note(&forth, &*chosen, frame)));
                thread::spawn(move || pass(server_too, client_too, |frame| goes_on(&back, frame)));
            }
        });
        Self { address, loss }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Whether an answer was lost by now.
    pub(crate) fn has_lost(&self) -> bool {
        self.loss.lock().expect("no panic").lost
    }
}

/// A line of the protocol, and the message that follows some. <https://docs.nats.io/reference/reference-protocols/nats-protocol>
struct Frame {
    line: Vec<u8>,
    message: Vec<u8>,
}

impl Frame {
    fn words(&self) -> Vec<&[u8]> {
        self.line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()).collect()
    }
}

/// Remembers where the answer to the chosen message is awaited.
fn note(loss: &Mutex<Loss>, chosen: &dyn Fn(&[u8]) -> bool, frame: &Frame) -> bool {
    let words = frame.words();
    let reply = match (words.first().copied(), words.len()) {
        (Some(b"PUB"), 4) | (Some(b"HPUB"), 5) => words[2],
        _ => return true,
    };
    let mut loss = loss.lock().expect("no panic");
    if loss.awaited_at.is_none() && chosen(&frame.message) {
        loss.awaited_at = Some(reply.to_vec());
    }
    true
}

/// Whether this is anything but the answer that gets lost.
fn goes_on(loss: &Mutex<Loss>, frame: &Frame) -> bool {
    let words = frame.words();
    let mut loss = loss.lock().expect("no panic");
    let is_it = matches!(words.first(), Some(&(b"MSG" | b"HMSG")))
        && loss.awaited_at.as_deref().is_some_and(|subject| subject == words[1]);
    let lose = is_it && !loss.lost;
    loss.lost |= lose;
    !lose
}

fn pass(from: TcpStream, mut to: TcpStream, mut goes_on: impl FnMut(&Frame) -> bool) {
    let _ = to.set_nodelay(true);
    let mut from = BufReader::new(from);
    loop {
        let mut frame = Frame { line: Vec::new(), message: Vec::new() };
        if !matches!(from.read_until(b'\n', &mut frame.line), Ok(1..)) {
            break;
        }
        let words = frame.words();
        if matches!(words.first(), Some(&(b"PUB" | b"HPUB" | b"MSG" | b"HMSG"))) {
            let length = words.last().and_then(|word| std::str::from_utf8(word).ok()?.parse::<usize>().ok());
            // With the end of the line behind it.
            frame.message = vec![0; length.expect("the length of a message") + 2];
            if from.read_exact(&mut frame.message).is_err() {
                break;
            }
        }
        if goes_on(&frame) && to.write_all(&[frame.line, frame.message].concat()).is_err() {
            break;
        }
    }
    let _ = from.get_ref().shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
