//! What is special to Redis, before real servers of Debian's package: what an entry holds, users of few rights, refusals
//! in the middle of a batch, limits, TLS; Sentinels and a cluster in files of their own.

mod cluster;
mod entries;
mod refusals;
mod rights;
mod sentinel;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use redis::streams::StreamRangeReply;
use redis::{Connection, FromRedisValue, RedisResult, cmd};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::Server;
use crate::programs::find_or_skip;
use crate::support::daemon::{Daemon, free_port};
use crate::support::server::eventually;

/// What an entry of a stream holds.
type Fields = HashMap<String, String>;

/// redis-server that keeps everything it acknowledged, also when it is killed, without a password unless it is given one.
pub(crate) struct RedisServer {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    /// What is said on the command line beside that.
    options: Vec<String>,
    daemon: Daemon,
}

impl RedisServer {
    /// Starts one with these options beside the usual ones.
    pub(crate) fn with(test: &str, options: &[&str]) -> Option<Self> {
        let program = find_or_skip(test, "redis-server")?;
        let folder = tempfile::tempdir().expect("a folder");
        Some(Self::in_folder(program, folder, options))
    }

    fn in_folder(program: PathBuf, folder: TempDir, options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let port = free_port();
        let daemon = start(&program, &folder, port, &options);
        let server = Self { program, folder, port, options, daemon };
        server.wait();
        server
    }

    /// Waits until it has loaded its data.
    fn wait(&self) {
        eventually("redis-server answers", || {
            let pong: String = cmd("PING").query(&mut self.connect()?).ok()?;
            (pong == "PONG").then_some(())
        });
    }

    fn connect(&self) -> Option<Connection> {
        redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).expect("a URL").get_connection().ok()
    }

    /// What it answers, to someone who may do everything.
    #[track_caller]
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        self.try_ask(command).expect(command)
    }

    #[track_caller]
    fn try_ask<T: FromRedisValue>(&self, command: &str) -> RedisResult<T> {
        let mut words = command.split(' ');
        let mut question = cmd(words.next().expect("a command"));
        words.for_each(|word| {
            question.arg(word);
        });
        eventually(&format!("an answer to {command}"), || match question.query(&mut self.connect()?) {
            // A server that becomes a master or a replica ends its connections.
            Err(error) if error.is_io_error() || error.is_connection_dropped() => None,
            // A node that had no time to talk to the others.
            Err(error) if error.code() == Some("CLUSTERDOWN") => None,
            answer => Some(answer),
        })
    }

    /// The fields of all entries of a stream, in order.
    #[track_caller]
    fn entries(&self, stream: &str) -> Vec<Fields> {
        fields(self.ask(&format!("XRANGE {stream} - +")))
    }

    fn port(&self) -> u16 {
        self.port
    }
}

fn fields(range: StreamRangeReply) -> Vec<Fields> {
    let text = |value| redis::from_redis_value(value).expect("text");
    let fields = |entry: redis::streams::StreamId| entry.map.into_iter().map(|(name, value)| (name, text(value)));
    range.ids.into_iter().map(|entry| fields(entry).collect()).collect()
}

/// The events that entries hold in the form of the default.
fn cloud_events(entries: &[Fields]) -> Vec<Value> {
    entries.iter().map(|entry| serde_json::from_str(&entry["data"]).expect("a CloudEvent")).collect()
}

fn start(program: &PathBuf, folder: &TempDir, port: u16, options: &[String]) -> Daemon {
    let mut command = Command::new(program);
    command.current_dir(folder.path()).args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    // With a sync each second, it acknowledges what it has not written yet while a slow disk still syncs: killed then, it
    // has lost that.
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--logfile", "redis.log"]).args(options);
    Daemon::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

impl Server for RedisServer {
    const TYPE: &'static str = "redis";

    fn start(test: &str) -> Option<Self> {
        Self::with(test, &[])
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn settings(&self, address: SocketAddr, place: &str) -> String {
        format!(
            "type = \"redis\"\nurl = \"redis://{address}\"\nstream = \"{place}\"\nconnect_timeout = \"1s\"\ntimeout = \"2s\""
        )
    }

    fn prepare(&mut self, _place: &str) {}

    fn events(&mut self, place: &str) -> Vec<Value> {
        cloud_events(&self.entries(place))
    }

    fn kill(&mut self) {
        self.daemon.kill();
    }

    fn restart(&mut self) {
        self.daemon = start(&self.program, &self.folder, self.port, &self.options);
        self.wait();
    }

    fn restart_empty(&mut self) {
        self.folder = tempfile::tempdir().expect("a folder");
        self.restart();
    }

    fn signal(&self, signal: Signal) {
        self.daemon.signal(signal);
    }
}
