//! An HTTP server that keeps what it was sent and answers as it is told.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// How a request is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// With this status and these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// Not at all: the connection is closed when the request is read.
    Drop,
    /// When `release` is called.
    Wait(Arc<Notify>),
    /// With this status and the request's own body, as targets do that explain their refusal.
    Echo(u16),
    /// With these bytes as they are, after which the connection is closed.
    Cut(&'static str),
    /// With 200, a byte at a time.
    Trickle,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `POST /path?query HTTP/1.1`
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Which connection it came on.
    pub(crate) connection: usize,
    /// When it was read.
    pub(crate) at: Instant,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// Chooses the answer to a request; none leaves it to the others.
type Choice = Box<dyn Fn(&Request) -> Option<Answer> + Send>;

#[derive(Default)]
struct Inner {
    /// How the requests are answered that it has an answer for.
    choice: Option<Choice>,
    /// How the next requests are answered, one by one.
    answers: VecDeque<Answer>,
    /// How all others are; 200 if not given.
    otherwise: Option<Answer>,
    /// Whether requests are not kept.
    forgets: bool,
    requests: Vec<Request>,
    /// Requests answered with 2xx.
    taken: Vec<Request>,
}

/// A port that nobody else gets, and where connections are refused.
pub(crate) struct Place(TcpSocket);

impl Place {
    pub(crate) fn take() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }
}

/// The server. It stops when dropped.
pub(crate) struct MockTarget {
    pub(crate) address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    task: AbortHandle,
}

impl MockTarget {
    pub(crate) async fn start() -> Self {
        Self::start_in(Place::take())
    }

    /// Starts where connections were refused until now.
    pub(crate) fn start_in(place: Place) -> Self {
        Self::start_with(place, Inner::default())
    }

    /// The same, for more requests than fit into memory: `choice` sees each of them, and none is kept.
    pub(crate) fn start_forgetful(place: Place, choice: impl Fn(&Request) -> Option<Answer> + Send + 'static) -> Self {
        Self::start_with(place, Inner { choice: Some(Box::new(choice)), forgets: true, ..Inner::default() })
    }

    fn start_with(Place(socket): Place, inner: Inner) -> Self {
        let listener = socket.listen(1024).expect("nobody else has the port");
        let address = listener.local_addr().expect("it is bound");
        let inner = Arc::new(Mutex::new(inner));
        let shared = inner.clone();
        let task = tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let shared = shared.clone();
                tokio::spawn(async move {
                    // Clients that hang up end the connection, and nothing else.
                    let _ = serve(stream, connection, &shared).await;
                });
            }
        });
        Self { address, inner, task: task.abort_handle() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next requests are answered so, one by one.
    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.inner.lock().expect("no panic").answers.extend(answers);
    }

    /// All requests without an answer of their own are answered so; with 200 after `None`.
    pub(crate) fn otherwise(&self, answer: Option<Answer>) {
        self.inner.lock().expect("no panic").otherwise = answer;
    }

    /// Requests are answered as `choice` says, where it says anything.
    pub(crate) fn choose(&self, choice: impl Fn(&Request) -> Option<Answer> + Send + 'static) {
        self.inner.lock().expect("no panic").choice = Some(Box::new(choice));
    }

    /// Everything that came.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.inner.lock().expect("no panic").requests.clone()
    }

    /// What was answered with 2xx.
    pub(crate) fn taken(&self) -> Vec<Request> {
        self.inner.lock().expect("no panic").taken.clone()
    }
}

impl Drop for MockTarget {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, connection: usize, inner: &Mutex<Inner>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(request) = read(&mut stream, connection).await? else { return Ok(()) };
        let answer = {
            let mut inner = inner.lock().expect("no panic");
            if !inner.forgets {
                inner.requests.push(request.clone());
            }
            let chosen = inner.choice.as_ref().and_then(|choice| choice(&request));
            let next = chosen.or_else(|| inner.answers.pop_front()).or_else(|| inner.otherwise.clone());
            next.unwrap_or(Answer::Status(200, Vec::new()))
        };
        let (mut body, mut pace) = (b"ok".to_vec(), Duration::ZERO);
        let (status, headers) = match answer {
            Answer::Status(status, headers) => (status, headers),
            Answer::Echo(status) => {
                body.clone_from(&request.body);
                (status, Vec::new())
            }
            Answer::Drop => return Ok(()),
            Answer::Cut(text) => return stream.write_all(text.as_bytes()).await,
            Answer::Trickle => {
                pace = Duration::from_millis(2);
                (200, Vec::new())
            }
            Answer::Wait(release) => {
                release.notified().await;
                (200, Vec::new())
            }
        };
        if (200..300).contains(&status) {
            let mut inner = inner.lock().expect("no panic");
            if !inner.forgets {
                inner.taken.push(request);
            }
        }
        let mut text = format!("HTTP/1.1 {status} told\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let bytes = [text.as_bytes(), &body].concat();
        for part in bytes.chunks(if pace.is_zero() { bytes.len() } else { 1 }) {
            stream.write_all(part).await?;
            tokio::time::sleep(pace).await;
        }
    }
}

/// The next request; none when the client is done.
async fn read(stream: &mut BufReader<TcpStream>, connection: usize) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
    let mut body = vec![0; length.parse().expect("a length")];
    stream.read_exact(&mut body).await?;
    Ok(Some(Request { line: line.trim_end().to_owned(), headers, body, connection, at: Instant::now() }))
}
