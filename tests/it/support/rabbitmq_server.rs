//! A rabbitmq-server of a test's own: an Erlang node in a folder of its own, and the port mapper that goes with it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use rustix::process::Signal;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::time::timeout;

use super::DEADLINE;
use super::daemon::{Daemon, free_port};
use super::server::eventually;
use crate::programs;

/// Where Debian keeps the programs themselves; those in the path want to be root or their own user.
const BESIDE: &str = "/usr/lib/rabbitmq/bin";

/// Who may do everything.
pub(crate) const ADMIN: [&str; 2] = ["admin", "admin"];

/// Bytes of the largest message that it takes.
pub(crate) const MAX_MESSAGE: usize = 1_000_000;

/// How long an attempt to connect may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How many messages are taken out of a queue at once. Each is a question of its own, and no busy machine needs minutes for
/// so many.
pub(crate) const TAKEN_AT_ONCE: usize = 1_000;

/// A user with a password, and the patterns of what it may write to.
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
    pub(crate) write: &'static str,
}

/// A running server, or one that was killed.
pub(crate) struct RabbitmqServer {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    distribution_port: u16,
    mapper_port: u16,
    node: Daemon,
    /// Ended after the node.
    _mapper: Daemon,
}

impl RabbitmqServer {
    /// Starts one with these users beside the administrator and these lines in its configuration; `None` where it is not
    /// installed, which was said then.
    pub(crate) fn start(test: &str, users: &[User], lines: &str) -> Option<Self> {
        let installed = programs::find_or_skip(test, "rabbitmq-server")?;
        let mapper = programs::find_or_skip(test, "epmd")?;
        let beside = Path::new(BESIDE).join("rabbitmq-server");
        let program = if beside.is_file() { beside } else { installed };
        let folder = tempfile::tempdir().expect("a folder");
        let (port, distribution_port, mapper_port) = (free_port(), free_port(), free_port());
        configure(folder.path(), port, users, lines);
        let mut mapper = Command::new(mapper);
        mapper.args(["-address", "127.0.0.1", "-port", &mapper_port.to_string()]);
        let mapper = Daemon::start(mapper.stdout(Stdio::null()).stderr(Stdio::null()));
        let ports = [port, distribution_port, mapper_port];
        let node = Daemon::start(&mut command(&program, folder.path(), ports));
        let mut server = Self { program, folder, port, distribution_port, mapper_port, node, _mapper: mapper };
        server.wait();
        Some(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where its configuration may name files from.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.node.signal(signal);
    }

    /// SIGKILL, as in a crash; returns when nobody listens any more.
    pub(crate) fn kill(&mut self) {
        self.node.kill();
        // The node is a child of the script that was started, and ends a little later than that.
        eventually("nobody listens any more", || TcpStream::connect(self.address()).is_err().then_some(()));
    }

    /// Starts it again, with what it has on disk.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let ports = [self.port, self.distribution_port, self.mapper_port];
        self.node = Daemon::start(&mut command(&self.program, self.folder.path(), ports));
        self.wait();
    }

    /// Removes what it has on disk, when it is dead.
    pub(crate) fn empty(&self) {
        fs::remove_dir_all(self.folder().join("mnesia")).expect("it stored something");
    }

    /// rabbitmqctl with these arguments.
    pub(crate) fn control(&self, arguments: &[&str]) {
        let ports = [self.port, self.distribution_port, self.mapper_port];
        let program = self.program.with_file_name("rabbitmqctl");
        let ran =
            command(&program, self.folder(), ports).args(["--quiet"]).args(arguments).stdin(Stdio::null()).status();
        let log = || fs::read_to_string(self.folder().join("output")).unwrap_or_default();
        assert!(ran.is_ok_and(|status| status.success()), "rabbitmqctl {arguments:?}: {}", log());
    }

    fn wait(&mut self) {
        eventually("rabbitmq-server listens", || {
            let log = || fs::read_to_string(self.folder.path().join("output")).unwrap_or_default();
            assert!(!self.node.has_ended(), "rabbitmq-server ended: {}", log());
            TcpStream::connect(self.address()).ok()
        });
    }

    /// A channel of the administrator, and the connection that it lives on. A server that has just begun to listen may
    /// still end connections, or say nothing.
    pub(crate) async fn channel(&self) -> (Connection, Channel) {
        let uri = format!("amqp://{}:{}@{}", ADMIN[0], ADMIN[1], self.address());
        // Before whoever waits for this gives up, so that it says why.
        let deadline = Instant::now() + DEADLINE / 2;
        loop {
            let connecting = async {
                let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                Ok::<_, lapin::Error>((connection, channel))
            };
            let connected = timeout(ATTEMPT, connecting).await;
            match connected {
                Ok(Ok(connected)) => return connected,
                failed => assert!(Instant::now() < deadline, "no connection: {:?}", failed.map(|failed| failed.err())),
            }
        }
    }
}

/// A durable exchange, by topics.
pub(crate) async fn declare_exchange(channel: &Channel, name: &str) {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let declared = channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default());
    declared.await.expect("a new exchange");
}

/// A durable queue with these arguments, bound to an exchange for what this pattern fits.
pub(crate) async fn bind_queue(channel: &Channel, name: &str, arguments: FieldTable, exchange: &str, pattern: &str) {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), options, arguments).await.expect("a new queue");
    let bound = channel.queue_bind(
        name.into(),
        exchange.into(),
        pattern.into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.expect("bound");
}

/// What is in a queue, taken out of it: all of it, or the first `TAKEN_AT_ONCE`.
pub(crate) async fn take_some(channel: &Channel, queue: &str) -> Vec<lapin::message::Delivery> {
    let mut messages = Vec::new();
    while messages.len() < TAKEN_AT_ONCE
        && let Some(message) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("a queue")
    {
        messages.push(message.delivery);
    }
    messages
}

fn configure(folder: &Path, port: u16, users: &[User], lines: &str) {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
    let admin = User { name: ADMIN[0], password: ADMIN[1], write: ".*" };
    let all = || users.iter().chain([&admin]);
    let user = |user: &User| {
        json!({ "name": user.name, "password_hash": hash(user.password), "tags": "",
                "hashing_algorithm": "rabbit_password_hashing_sha256" })
    };
    let permission = |user: &User| {
        let rest = if user.name == ADMIN[0] { ".*" } else { "^$" };
        json!({ "user": user.name, "vhost": "/", "configure": rest, "write": user.write, "read": rest })
    };
    let definitions = json!({
        "users": all().map(user).collect::<Vec<_>>(),
        "vhosts": [{ "name": "/" }],
        "permissions": all().map(permission).collect::<Vec<_>>(),
    });
    write("definitions.json", &definitions.to_string());
    write("enabled_plugins", "[].\n");
    write(
        "rabbitmq.conf",
        &format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\nlog.console = false\nlog.file.level = warning\n\
             disk_free_limit.absolute = 1MB\nmax_message_size = {MAX_MESSAGE}\nload_definitions = {}\n{lines}\n",
            folder.join("definitions.json").display()
        ),
    );
}

/// As RabbitMQ stores passwords: a salt of four bytes, and SHA-256 over it and the password.
fn hash(password: &str) -> String {
    let salt = *b"salt";
    STANDARD.encode([&salt[..], &Sha256::new().chain_update(salt).chain_update(password).finalize()].concat())
}

fn command(program: &Path, folder: &Path, [port, distribution_port, mapper_port]: [u16; 3]) -> Command {
    let output = || File::options().create(true).append(true).open(folder.join("output")).expect("a file");
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    for (name, file) in [
        ("RABBITMQ_MNESIA_BASE", "mnesia"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
        ("RABBITMQ_PID_FILE", "pid"),
        ("RABBITMQ_CONF_ENV_FILE", "none"),
    ] {
        command.env(name, folder.join(file));
    }
    command
        .env("RABBITMQ_NODENAME", format!("it{port}@localhost"))
        .env("RABBITMQ_DIST_PORT", distribution_port.to_string())
        .env("ERL_EPMD_PORT", mapper_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .stdout(output())
        .stderr(output());
    command
}
