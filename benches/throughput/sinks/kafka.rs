//! Topics of librdkafka's mock cluster, which runs in this process: no package holds a broker.

use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::OwnedDeliveryResult;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::{BATCH, Line, Rival};
use crate::Failure;
use crate::support::mock_kafka::MockKafka;

const PARTITIONS: i32 = 4;

/// One broker.
pub(super) struct Cluster(MockKafka);

impl Cluster {
    pub(super) fn start() -> Self {
        Self(MockKafka::start(1))
    }
}

impl Rival for Cluster {
    fn settings(&self, place: &str) -> String {
        format!("brokers = {}\ntopic = \"{place}\"", self.0.brokers())
    }

    fn address(&self) -> String {
        self.0.addresses().join(",")
    }

    fn prepare(&mut self, place: &str) -> Result<(), Failure> {
        self.0.create(place, PARTITIONS);
        Ok(())
    }
}

/// An idempotent producer, with at most so many batches of messages under way.
pub(super) async fn send(address: &str, topic: &str, lines: &[Line], at_once: usize) -> Result<Duration, Failure> {
    let mut properties = ClientConfig::new();
    properties.set("bootstrap.servers", address).set("enable.idempotence", "true").set("acks", "all");
    let producer: FutureProducer = properties.create()?;
    let began = Instant::now();
    let mut under_way = FuturesUnordered::new();
    for line in lines {
        while under_way.len() >= at_once * BATCH {
            acknowledged(under_way.next().await)?;
        }
        let headers = OwnedHeaders::new_with_capacity(1)
            .insert(Header { key: "content-type", value: Some("application/cloudevents+json; charset=UTF-8") });
        let record = FutureRecord::to(topic).key(&line.subject).payload(&line.json[..]).headers(headers);
        under_way.push(producer.send_result(record).map_err(|(error, _)| error)?);
    }
    while !under_way.is_empty() {
        acknowledged(under_way.next().await)?;
    }
    Ok(began.elapsed())
}

fn acknowledged<E>(answer: Option<Result<OwnedDeliveryResult, E>>) -> Result<(), Failure> {
    let answer = answer.ok_or("nothing is under way")?.map_err(|_| "the producer was stopped")?;
    answer.map_err(|(error, _)| error)?;
    Ok(())
}
