//! Streams of a redis-server that keeps what it acknowledged, with pipelines of XADD.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{BATCH, Line, Rival};
use crate::Failure;
use crate::programs::find_or_skip;
use crate::support::daemon::{Daemon, free_port};
use crate::support::server::eventually;

/// A server of its own.
pub(super) struct Redis {
    port: u16,
    _daemon: Daemon,
    _folder: TempDir,
}

impl Redis {
    pub(super) fn start() -> Result<Option<Self>, Failure> {
        let Some(program) = find_or_skip("redis", "redis-server") else { return Ok(None) };
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let port = free_port();
        let mut command = Command::new(program);
        command.current_dir(folder.path()).args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        // A rewrite of its log takes a third of a core whenever it comes.
        command.args(["--appendonly", "yes", "--save", "", "--auto-aof-rewrite-percentage", "0"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = Daemon::start(&mut command);
        eventually("redis-server listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        Ok(Some(Self { port, _daemon: daemon, _folder: folder }))
    }
}

impl Rival for Redis {
    fn settings(&self, place: &str) -> String {
        format!("url = \"{}\"\nstream = \"{place}\"", self.address())
    }

    fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn prepare(&mut self, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

/// Pipelines, so many at once, over one connection.
pub(super) async fn send(address: &str, stream: &str, lines: &[Line], at_once: usize) -> Result<Duration, Failure> {
    let connection = redis::Client::open(address)?.get_multiplexed_async_connection().await?;
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    let mut batches = lines.chunks(BATCH).map(<[Line]>::to_vec);
    loop {
        while calls.len() < at_once {
            let Some(batch) = batches.next() else { break };
            let (mut connection, stream) = (connection.clone(), stream.to_owned());
            calls.spawn(async move {
                let mut pipeline = redis::pipe();
                for line in &batch {
                    let add = pipeline.cmd("XADD").arg(&stream).arg("*").arg("id").arg(&line.id);
                    let add = add.arg("type").arg(&line.kind).arg("source").arg(&line.source);
                    let add = add.arg("subject").arg(&line.subject).arg("time").arg(&line.time);
                    add.arg("data").arg(&line.json[..]).ignore();
                }
                pipeline.exec_async(&mut connection).await
            });
        }
        match calls.join_next().await {
            Some(ended) => ended??,
            None => return Ok(began.elapsed()),
        }
    }
}
