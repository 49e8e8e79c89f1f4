//! A public door for tests: a listening server with sources of every scheme, a journal in memory that a test can hold or
//! break, and a client that writes bytes as it likes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hooksink::auth::hmac_signature::{Algorithm, sign};
use hooksink::config::{ApiKey, Auth, ClientAddressHeader, MetaConfig, ServerConfig, SourceConfig, WebexConnectConfig};
use hooksink::event::{EventId, Record};
use hooksink::http::{Listener, Public, public_door};
use hooksink::journal::{
    Appended, Consumer, ConsumerSpec, DeadLetter, Journal, JournalError, JournalStatus, Letters, ReplayProgress,
    ReplayRequest, SinkStatus,
};
use hooksink::metrics::Metrics;
use hooksink::names::SinkName;
use hooksink::secret::{Secret, Secrets};
use hooksink::sources::Sources;
use http::HeaderName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Far longer than anything here takes: it ends a test that would hang.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const META_SECRET: &str = "meta-secret-marker";
pub(crate) const CONNECT_SECRET: &str = "connect-secret-marker";
pub(crate) const META_BODY: &str = r#"{"object":"page","entry":[{"id":"1","time":1,"messaging":[{"sender":{"id":"7"},"recipient":{"id":"1"},"timestamp":1700000000000,"message":{"mid":"m1","text":"body-marker"}},{"sender":{"id":"8"},"recipient":{"id":"1"},"timestamp":1700000000001,"read":{"watermark":1}}]}]}"#;

/// `max_body` of every source here.
pub(crate) const MAX_BODY: usize = 512 * 1024;

/// Waits, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("this takes far too long")
}

/// Waits until something is so.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn secrets(value: &str) -> Secrets {
    Secrets::new(vec![Secret::new(value)])
}

fn connect(auth: Auth) -> SourceConfig {
    SourceConfig::WebexConnect(WebexConnectConfig { auth, timezone: None, max_body: MAX_BODY as u64 })
}

/// One source of each scheme: `messenger`, `connect`, `basic`, `bearer`, `key`, `address`, `open`.
pub(crate) fn sources() -> Sources {
    let signed = |secret| Auth { signature_secrets: secrets(secret), ..Auth::default() };
    let messenger = SourceConfig::Meta(MetaConfig {
        verify_token: secrets("verify-marker"),
        auth: signed(META_SECRET),
        own_app_ids: Vec::new(),
        page_inbox_app_ids: Vec::new(),
        max_body: MAX_BODY as u64,
    });
    let key = ApiKey { header: Some(HeaderName::from_static("x-api-key")), query: None, values: secrets("key-marker") };
    let config = [
        ("messenger", messenger),
        ("connect", connect(signed(CONNECT_SECRET))),
        ("basic", connect(Auth { basic: secrets("ann:password-marker"), ..Auth::default() })),
        ("bearer", connect(Auth { bearer: secrets("token-marker"), ..Auth::default() })),
        ("key", connect(Auth { api_key: Some(key), ..Auth::default() })),
        ("address", connect(Auth { allow_addresses: vec!["127.0.0.0/8".parse().unwrap()], ..Auth::default() })),
        ("open", connect(Auth { none: true, ..Auth::default() })),
    ];
    Sources::new(&config.into_iter().map(|(name, config)| (name.parse().unwrap(), config)).collect())
}

/// Bounds that no test reaches by accident.
pub(crate) fn server_config() -> ServerConfig {
    ServerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        worker_threads: 1,
        trusted_proxies: Vec::new(),
        client_address_header: ClientAddressHeader::XForwardedFor,
        public_url_prefix: String::new(),
        max_connections: 1000,
        max_header_bytes: 16 * 1024,
        header_read_timeout: DEADLINE * 2,
        body_read_timeout: DEADLINE * 2,
        max_in_flight: 1000,
        max_buffered: 64 * 1024 * 1024,
        ack_timeout: DEADLINE * 2,
        drain_delay: Duration::ZERO,
        shutdown_timeout: DEADLINE,
    }
}

/// A listening server.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) journal: MemoryJournal,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) public: Arc<Public>,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
}

impl Door {
    pub(crate) async fn open() -> Self {
        Self::open_with(|_| ()).await
    }

    pub(crate) async fn open_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = server_config();
        change(&mut config);
        let (journal, metrics) = (MemoryJournal::default(), Arc::new(Metrics::new()));
        let public = Public::new(&sources(), Arc::new(journal.clone()), &metrics, &config, 100);
        let public = Arc::new(public);
        let tcp = TcpListener::bind(config.listen).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = Listener::from(&config).serve(tcp, public_door(public.clone()), stop.clone());
        Self { address, journal, metrics, public, stop, serving: tokio::spawn(serving) }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::over(within(TcpStream::connect(self.address)).await.unwrap())
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn ask(&self, request: &[u8]) -> Answer {
        self.client().await.ask(request).await
    }

    /// Requests counted with this source and outcome.
    pub(crate) fn counted(&self, source: &str, outcome: &str) -> u64 {
        let wanted = format!("hooksink_requests_total{{source=\"{source}\",outcome=\"{outcome}\"}} ");
        let text = self.metrics.encode();
        text.lines().find_map(|line| line.strip_prefix(&wanted)).map_or(0, |count| count.parse().unwrap())
    }

    /// Stops the server as `serve` does, and waits until its connections are gone.
    pub(crate) async fn close(self) {
        self.public.start_draining();
        self.stop.cancel();
        within(self.serving).await.unwrap();
    }
}

/// A POST with its `content-length`.
pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nhost: hooks.example\r\n").into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    request.extend_from_slice(format!("content-length: {}\r\n\r\n", body.as_ref().len()).as_bytes());
    request.extend_from_slice(body.as_ref());
    request
}

/// A request without a body.
pub(crate) fn plain(method: &str, target: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nhost: hooks.example\r\n\r\n").into_bytes()
}

/// A signed POST to `messenger`.
pub(crate) fn post_messenger(body: impl AsRef<[u8]>) -> Vec<u8> {
    let signature = sign(Algorithm::Sha256, &Secret::new(META_SECRET), body.as_ref());
    post("/webhooks/messenger", &[("x-hub-signature-256", &signature)], body)
}

/// A signed POST to `connect`.
pub(crate) fn post_connect(body: impl AsRef<[u8]>) -> Vec<u8> {
    let signature = sign(Algorithm::Sha512, &Secret::new(CONNECT_SECRET), body.as_ref());
    post("/webhooks/connect", &[("x-hub-signature", &signature)], body)
}

/// An answer as it came over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A connection that is written to as a test likes.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.unwrap();
    }

    /// Sends for as long as the other side takes it.
    pub(crate) async fn send_what_fits(&mut self, bytes: &[u8]) {
        // That the other side ends the connection meanwhile is what some tests are about.
        let _ = within(self.try_send(bytes)).await;
    }

    pub(crate) async fn ask(&mut self, request: &[u8]) -> Answer {
        self.send_what_fits(request).await;
        self.answer(!request.starts_with(b"HEAD")).await
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self, with_body: bool) -> Answer {
        self.try_answer(with_body).await.expect("the connection ended without an answer")
    }

    /// The next answer, or `None` where the connection ends without one.
    pub(crate) async fn try_answer(&mut self, with_body: bool) -> Option<Answer> {
        let head = loop {
            match self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break self.read.drain(..end + 4).collect::<Vec<u8>>(),
                None if self.read_more().await => {}
                None => return None,
            }
        };
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if with_body {
            while self.read.len() < length {
                assert!(self.read_more().await, "the answer's body ended early");
            }
            answer.body = self.read.drain(..length).collect();
        }
        Some(answer)
    }

    /// Waits until the other side has ended the connection, without any further answer.
    pub(crate) async fn ended(mut self) {
        while self.read_more().await {}
        assert_eq!(String::from_utf8_lossy(&self.read), "");
    }

    /// Reads once; whether the connection goes on.
    async fn read_more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let read = within(self.stream.read(&mut buffer)).await.unwrap_or(0);
        self.read.extend_from_slice(&buffer[..read]);
        read > 0
    }
}

/// What the journal does with an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Store,
    /// Waits until the mode is another one.
    Hold,
    Fail(Failure),
    Panic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Busy,
    Full,
    Unavailable,
    Closed,
}

/// A journal in memory. An append goes on when its future is dropped, as the trait demands.
#[derive(Clone)]
pub(crate) struct MemoryJournal {
    records: Arc<Mutex<Vec<Record>>>,
    ids: Arc<Mutex<HashSet<EventId>>>,
    mode: watch::Sender<Mode>,
    appends: watch::Sender<usize>,
    /// Handed out to who asks for one, the last first.
    pub(crate) consumers: Arc<Mutex<Vec<Box<dyn Consumer>>>>,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        let (mode, appends) = (watch::Sender::new(Mode::Store), watch::Sender::new(0));
        Self { records: Arc::default(), ids: Arc::default(), mode, appends, consumers: Arc::default() }
    }
}

impl MemoryJournal {
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }

    /// The records, which are forgotten, ids and all.
    pub(crate) fn take(&self) -> Vec<Record> {
        self.ids.lock().unwrap().clear();
        std::mem::take(&mut self.records.lock().unwrap())
    }

    /// Forgets the records, and so lets go of their bytes.
    pub(crate) fn clear(&self) {
        self.records.lock().unwrap().clear();
    }

    /// Waits until so many appends have begun.
    pub(crate) async fn appends(&self, count: usize) {
        within(self.appends.subscribe().wait_for(|begun| *begun >= count)).await.unwrap();
    }

    fn store(&self, records: Vec<Record>) -> Vec<Appended> {
        let (mut ids, mut kept) = (self.ids.lock().unwrap(), self.records.lock().unwrap());
        let mut one = |record: Record| {
            if !ids.insert(record.id) {
                return Appended::Duplicate;
            }
            kept.push(record);
            Appended::Stored
        };
        records.into_iter().map(&mut one).collect()
    }
}

fn not_here<T>() -> Result<T, JournalError> {
    Err(JournalError::Refused("this journal only appends, and hands out what consumers it was given".to_owned()))
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, records: Vec<Record>) -> Result<Vec<Appended>, JournalError> {
        let journal = self.clone();
        self.appends.send_modify(|begun| *begun += 1);
        let append = async move {
            let mut modes = journal.mode.subscribe();
            let mode = *modes.wait_for(|mode| *mode != Mode::Hold).await.expect("the sender is in `journal`");
            match mode {
                Mode::Fail(Failure::Busy) => Err(JournalError::Busy),
                Mode::Fail(Failure::Full) => Err(JournalError::Full("disk-marker".to_owned())),
                Mode::Fail(Failure::Unavailable) => Err(JournalError::Unavailable("cause-marker".to_owned())),
                Mode::Fail(Failure::Closed) => Err(JournalError::Closed),
                Mode::Panic => panic!("on purpose"),
                Mode::Store | Mode::Hold => Ok(journal.store(records)),
            }
        };
        match tokio::spawn(append).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn configure(&self, _: Vec<ConsumerSpec>) -> Result<(), JournalError> {
        not_here()
    }

    async fn consumer(&self, _: &SinkName) -> Result<Box<dyn Consumer>, JournalError> {
        self.consumers.lock().unwrap().pop().map_or_else(not_here, Ok)
    }

    fn status(&self) -> JournalStatus {
        JournalStatus {
            writable: true,
            reason: None,
            disk_above_reserve: true,
            bytes: 0,
            wal_bytes: 0,
            events: 0,
            last_seq: 0,
        }
    }

    async fn sinks(&self) -> Result<Vec<SinkStatus>, JournalError> {
        not_here()
    }

    async fn forget_sink(&self, _: &SinkName) -> Result<(), JournalError> {
        not_here()
    }

    async fn rename_sink(&self, _: &SinkName, _: &SinkName) -> Result<(), JournalError> {
        not_here()
    }

    async fn dead_letters(&self, _: Option<&SinkName>, _: i64, _: usize) -> Result<Vec<DeadLetter>, JournalError> {
        not_here()
    }

    async fn dead_letter(&self, _: i64) -> Result<Option<(DeadLetter, Record)>, JournalError> {
        not_here()
    }

    async fn retry_dead_letters(&self, _: Letters) -> Result<u64, JournalError> {
        not_here()
    }

    async fn drop_dead_letters(&self, _: Letters) -> Result<u64, JournalError> {
        not_here()
    }

    async fn start_replay(&self, _: ReplayRequest) -> Result<ReplayProgress, JournalError> {
        not_here()
    }

    async fn replay(&self, _: i64) -> Result<Option<ReplayProgress>, JournalError> {
        not_here()
    }

    async fn backup(&self, _: &Path, _: Box<dyn Fn(u64, u64) + Send>) -> Result<PathBuf, JournalError> {
        not_here()
    }

    fn key(&self) -> [u8; 32] {
        [0; 32]
    }

    async fn close(&self) {}
}
