//! A nats-server of a test's own, with JetStream.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use rustix::process::Signal;
use tempfile::TempDir;

use super::daemon::{Daemon, free_port};
use super::server::eventually;
use crate::programs;

/// What it is told besides its address and its folder, where a test does not say: everybody may do everything.
pub(crate) const OPEN: &str = "";

/// A running server, or one that was killed.
pub(crate) struct NatsServer {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    daemon: Daemon,
}

impl NatsServer {
    /// Starts one with these lines in its configuration; `None` where there is no nats-server, which was said then.
    pub(crate) fn start(test: &str, lines: &str) -> Option<Self> {
        let program = programs::find_or_skip(test, "nats-server")?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        configure(folder.path(), port, lines);
        let daemon = daemon(&program, folder.path());
        let mut server = Self { program, folder, port, daemon };
        server.wait();
        Some(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Where its configuration may name files from.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Has it read other lines of configuration.
    pub(crate) fn reconfigure(&self, lines: &str) {
        let log = || fs::read_to_string(self.folder().join("log")).unwrap_or_default();
        let before = log().matches("Reloaded server configuration").count();
        configure(self.folder(), self.port, lines);
        self.daemon.signal(Signal::HUP);
        let reloaded = || (log().matches("Reloaded server configuration").count() > before).then_some(());
        eventually("nats-server takes its new configuration", reloaded);
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.daemon.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.daemon.signal(signal);
    }

    pub(crate) fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Starts it again, with what it has on disk.
    pub(crate) fn restart(&mut self) {
        self.daemon.kill();
        self.daemon = daemon(&self.program, self.folder.path());
        self.wait();
    }

    /// Removes what it has on disk, when it is dead.
    pub(crate) fn empty(&self) {
        fs::remove_dir_all(self.folder().join("store")).expect("it stored something");
    }

    /// Copies what it has on disk of a stream, when it is dead.
    pub(crate) fn copy(&self, stream: &str, to: &Path) {
        copy(&self.stream(stream), to);
    }

    /// Puts back what was copied, when it is dead: as if it had not synced what came since.
    pub(crate) fn put_back(&self, stream: &str, from: &Path) {
        fs::remove_dir_all(self.stream(stream)).expect("it stored something");
        copy(from, &self.stream(stream));
    }

    fn stream(&self, name: &str) -> PathBuf {
        self.folder().join("store/jetstream/$G/streams").join(name)
    }

    fn wait(&mut self) {
        eventually("nats-server listens", || {
            assert!(!self.daemon.has_ended(), "{}", fs::read_to_string(self.folder().join("log")).unwrap_or_default());
            TcpStream::connect(self.address()).ok()
        });
    }

    /// What a test itself asks it with.
    pub(crate) async fn context(&self, options: async_nats::ConnectOptions) -> jetstream::Context {
        let options = options.retry_on_initial_connect().request_timeout(Some(Duration::from_secs(30)));
        jetstream::new(options.connect(self.url()).await.expect("it listens"))
    }
}

/// The messages of a stream from this place on, with their headers.
pub(crate) async fn messages(
    context: &jetstream::Context,
    stream: &str,
    from: u64,
) -> Vec<jetstream::message::StreamMessage> {
    let mut stream = context.get_stream(stream).await.expect("it is there");
    let state = stream.info().await.expect("it is there").state.clone();
    let mut messages = Vec::new();
    for place in from.max(state.first_sequence)..=state.last_sequence {
        messages.push(stream.get_raw_message(place).await.expect("none was removed"));
    }
    messages
}

/// A stream on these subjects.
pub(crate) async fn add_stream(context: &jetstream::Context, name: &str, config: stream::Config) {
    let config = stream::Config { name: name.to_owned(), ..config };
    context.create_stream(config).await.expect("a new stream");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

fn configure(folder: &Path, port: u16, lines: &str) {
    let store = folder.join("store");
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\nserver_name: it\njetstream {{ store_dir: {store:?} }}\nlog_file: {:?}\n{lines}\n",
        folder.join("log")
    );
    fs::write(folder.join("nats.conf"), text).expect("a file");
}

fn daemon(program: &Path, folder: &Path) -> Daemon {
    let output = || File::options().create(true).append(true).open(folder.join("output")).expect("a file");
    let mut command = Command::new(program);
    Daemon::start(command.arg("-c").arg(folder.join("nats.conf")).stdout(output()).stderr(output()))
}
