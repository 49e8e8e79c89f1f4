//! The real binary as a server of its own: on free ports, in a folder of its own, told to stop at the end and held to
//! stopping well.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::panic::Location;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hooksink::auth::SignatureRules;
use hooksink::auth::hmac_signature::{Algorithm, sign};
use hooksink::names::SourceType;
use hooksink::secret::Secret;
use reqwest::{Client, Method, RequestBuilder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::DEADLINE;

/// Waits for a condition, but not for ever. `what` is said when it does not come.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "this takes far too long: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// A running `hooksink serve`. When it is dropped it is stopped with SIGTERM, and the test fails unless it ends with
/// status 0 and without a panic.
pub(crate) struct TestServer {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    client: Client,
    process: Child,
    ended: bool,
    folder: Option<TempDir>,
    log: std::path::PathBuf,
}

impl TestServer {
    /// Starts in a new folder. The configuration need not say where it listens; `drain_delay` is nothing unless it
    /// says otherwise.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(tempfile::tempdir().expect("a folder"), config, &[])
    }

    /// Starts in this folder, which may hold the journal of an earlier one, with these environment variables and no
    /// others.
    pub(crate) fn start_with(folder: TempDir, config: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_under(&[], folder, config, environment)
    }

    /// Starts by way of another program with these arguments, which then is hooksink: `prlimit`, `setpriv`, `strace -D`.
    pub(crate) fn start_under(by: &[&str], folder: TempDir, config: &str, environment: &[(&str, &str)]) -> Self {
        Self::launch(by, folder, config, environment, "127.0.0.1:0")
    }

    /// Starts in a new folder, where another process of this test listened before.
    pub(crate) fn start_at(address: SocketAddr, config: &str) -> Self {
        Self::launch(&[], tempfile::tempdir().expect("a folder"), config, &[], &address.to_string())
    }

    fn launch(by: &[&str], folder: TempDir, config: &str, environment: &[(&str, &str)], listen: &str) -> Self {
        fs::write(folder.path().join("hooksink.toml"), config).expect("a file");
        let log = folder.path().join("stderr.log");
        // Systems start services with a low soft limit of file descriptors, which it has to raise by itself.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ulimit -S -n 64 && exec \"$@\"", "sh"]).args(by).arg(env!("CARGO_BIN_EXE_hooksink"));
        command.args(["serve", "--set", &format!("server.listen={listen}"), "--set", "admin.listen=127.0.0.1:0"]);
        if !config.contains("drain_delay") {
            command.args(["--set", "server.drain_delay=0s"]);
        }
        let mut process = command
            .current_dir(folder.path())
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("stdout.log")).expect("a file"))
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("it starts");
        let (public, admin) = eventually("hooksink listens", || {
            let text = fs::read_to_string(&log).ok()?;
            if let Some(status) = process.try_wait().expect("it was started") {
                panic!("it ended with {status}:\n{text}");
            }
            Some((address(&text, "public")?, address(&text, "admin")?))
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .build()
            .expect("a client");
        Self { public, admin, client, process, ended: false, folder: Some(folder), log }
    }

    /// Its folder: `stdout.log`, `stderr.log`, and what the configuration puts there.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("it has one until it is ended").path()
    }

    /// What it has written on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it has written on stdout so far.
    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.folder().join("stdout.log")).unwrap_or_default()
    }

    /// The URL of a source.
    pub(crate) fn url(&self, source: &str) -> String {
        format!("http://{}/webhooks/{source}", self.public)
    }

    /// A request to the public listener.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.public))
    }

    /// A request to the admin listener.
    pub(crate) fn admin_request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.admin))
    }

    /// Posts as the sender would, signed with SHA-256.
    pub(crate) async fn post(
        &self,
        sender: SourceType,
        source: &str,
        secret: &str,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let rules = match sender {
            SourceType::Meta => SignatureRules::Meta,
            SourceType::WebexConnect => SignatureRules::WebexConnect,
        };
        let body = body.into();
        let signature = sign(Algorithm::Sha256, &Secret::new(secret), &body);
        let request = self.client.post(self.url(source)).header("content-type", "application/json");
        answer(request.header(rules.header(Algorithm::Sha256), signature).body(body)).await
    }

    /// GET on the admin listener.
    pub(crate) async fn admin_get(&self, path: &str) -> Answer {
        answer(self.admin_request(Method::GET, path)).await
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory in MiB, without what is there of files: what it has now, and the most it ever had.
    pub(crate) fn resident(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it is running");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
        };
        // Of the program's own file as much is there as the kernel likes to read ahead.
        let file = field("RssFile:");
        (field("VmRSS:") - file, field("VmHWM:").saturating_sub(file))
    }

    /// The value of a metric, named with its labels: `hooksink_requests_total{source="a",outcome="busy"}`.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.admin_get("/metrics").await.body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Waits until a metric has this value: what is done is counted a little later, and what the journal holds is shown
    /// once a second.
    pub(crate) async fn metric_becomes(&self, name: &str, value: u64) {
        let deadline = Instant::now() + DEADLINE;
        let mut shown = self.metric(name).await;
        while shown != value {
            assert!(Instant::now() < deadline, "{name} is {shown} and does not become {value}");
            tokio::time::sleep(Duration::from_millis(2)).await;
            shown = self.metric(name).await;
        }
    }

    /// No sink has given up on anything, by the journal itself and not by a metric that may be old.
    #[track_caller]
    pub(crate) fn no_dead_letters(&self) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let listed = self.admin_get("/api/v1/dead-letters").await;
            assert_eq!((listed.status, listed.json()), (200, Value::Array(Vec::new())), "asked at {caller}");
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        kill_process(id, signal).expect("it is running");
    }

    /// SIGKILL, as a crash; what it leaves behind.
    pub(crate) fn crash(mut self) -> TempDir {
        self.process.kill().expect("it is running");
        self.process.wait().expect("it was started");
        self.ended = true;
        self.folder.take().expect("it has one until it is ended")
    }

    /// SIGTERM, and what it leaves behind when it has stopped as it should.
    pub(crate) fn stop(mut self) -> TempDir {
        self.end();
        self.folder.take().expect("it has one until it is ended")
    }

    /// Waits until it has ended by itself, or by a signal that it was sent: its status, and what it leaves behind.
    pub(crate) fn ended(mut self) -> (ExitStatus, TempDir) {
        let status = eventually("hooksink ends", || self.process.try_wait().expect("it was started"));
        self.ended = true;
        (status, self.folder.take().expect("it has one until it is ended"))
    }

    fn end(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.signal(Signal::TERM);
        let status = eventually("hooksink stops", || self.process.try_wait().expect("it was started"));
        self.check(status);
    }

    fn check(&self, status: ExitStatus) {
        let log = self.stderr();
        assert!(status.success() && !log.contains("panicked"), "it ended with {status}:\n{log}");
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test has failed already: what the server said helps to see why.
            let _ = self.process.kill();
            let _ = self.process.wait();
            eprintln!("--- stderr of hooksink\n{}", self.stderr());
        } else {
            self.end();
        }
    }
}

/// Sends a request and reads the answer whole.
pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Answer { status, headers, body: answer.text().await.expect("the whole answer") }
}

/// The address in the line that a listener starts with, text or JSON.
fn address(log: &str, listener: &str) -> Option<SocketAddr> {
    let named = [format!("listener=\"{listener}\""), format!("\"listener\":\"{listener}\"")];
    // A line that is still being written has no end.
    let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let line =
        lines.into_iter().find(|line| line.contains("listening") && named.iter().any(|name| line.contains(name)))?;
    let text = line.split_once("address=").or_else(|| line.split_once("\"address\":\""))?.1;
    text.split(['"', ' ', '\n']).next()?.parse().ok()
}
