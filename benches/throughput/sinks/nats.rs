//! Streams of a nats-server, on disk, with the settings that it has by itself.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, stream};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tempfile::TempDir;

use super::{AT_ONCE, BATCH, Line, Rival};
use crate::Failure;
use crate::programs::find_or_skip;
use crate::servers::wait_for;
use crate::support::daemon::{Daemon, free_port};

/// A server of its own.
pub(super) struct Nats {
    port: u16,
    _daemon: Daemon,
    _folder: TempDir,
}

impl Nats {
    pub(super) fn start() -> Result<Option<Self>, Failure> {
        let Some(program) = find_or_skip("nats", "nats-server") else { return Ok(None) };
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let port = free_port();
        let config = folder.path().join("nats.conf");
        let store = folder.path().join("store");
        fs::write(&config, format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?} }}\n"))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = Daemon::start(&mut command);
        wait_for("nats-server", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Some(Self { port, _daemon: daemon, _folder: folder }))
    }
}

impl Rival for Nats {
    fn settings(&self, place: &str) -> String {
        format!("url = \"{}\"\nsubject = \"{place}.{{source}}.{{kind}}\"", self.address())
    }

    fn address(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn prepare(&mut self, place: &str) -> Result<(), Failure> {
        let config = stream::Config {
            name: place.to_owned(),
            subjects: vec![format!("{place}.>")],
            ..stream::Config::default()
        };
        tokio::runtime::Runtime::new()?.block_on(async {
            let context = jetstream::new(async_nats::connect(self.address()).await?);
            context.create_stream(config).await?;
            Ok(())
        })
    }
}

/// Messages with their ids, as many under way as the sink may have.
pub(super) async fn send(address: &str, stream: &str, lines: &[Line]) -> Result<Duration, Failure> {
    let context = jetstream::new(async_nats::connect(address).await?);
    let began = Instant::now();
    let mut under_way = FuturesUnordered::new();
    for line in lines {
        while under_way.len() >= AT_ONCE * BATCH {
            under_way.next().await.ok_or("nothing is under way")??;
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", line.id.as_str());
        headers.insert("Content-Type", "application/cloudevents+json");
        let subject = format!("{stream}.messenger.{}", line.kind);
        let published = context.publish_with_headers(subject, headers, line.json.clone()).await?;
        under_way.push(published.into_future());
    }
    while let Some(acknowledged) = under_way.next().await {
        acknowledged?;
    }
    Ok(began.elapsed())
}
