//! Streams of a nats-server, on disk, with the settings that it has by itself.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use async_nats::{ConnectOptions, HeaderMap};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::{BATCH, Line, Rival};
use crate::Failure;
use crate::support::nats_server::{NatsServer, OPEN, add_stream};

impl Rival for NatsServer {
    fn settings(&self, place: &str) -> String {
        format!("url = \"{}\"\nsubject = \"{place}.{{source}}.{{kind}}\"", self.url())
    }

    fn address(&self) -> String {
        self.url()
    }

    fn prepare(&mut self, place: &str) -> Result<(), Failure> {
        let config = stream::Config { subjects: vec![format!("{place}.>")], ..Default::default() };
        tokio::runtime::Runtime::new()?.block_on(async {
            add_stream(&self.context(ConnectOptions::new()).await, place, config).await;
            Ok(())
        })
    }
}

/// A server of its own.
pub(super) fn start() -> Option<NatsServer> {
    NatsServer::start("nats", OPEN)
}

/// Messages with their ids, at most so many batches of them under way.
pub(super) async fn send(address: &str, stream: &str, lines: &[Line], at_once: usize) -> Result<Duration, Failure> {
    let context = jetstream::new(async_nats::connect(address).await?);
    let began = Instant::now();
    let mut under_way = FuturesUnordered::new();
    for line in lines {
        while under_way.len() >= at_once * BATCH {
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
