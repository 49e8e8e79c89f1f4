//! A mock cluster of librdkafka's.

use std::sync::Arc;

use async_trait::async_trait;
use hooksink::sinks::Sink;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::super::{Examinee, Trouble, numbers};
use crate::support::mock_kafka::MockKafka;
use crate::support::{sink_config, until};

/// A topic of one partition in a mock cluster.
pub(crate) struct KafkaExaminee {
    cluster: MockKafka,
    /// How long a call may take: short where it is to fail for want of time.
    timeout: &'static str,
}

impl KafkaExaminee {
    pub(crate) async fn new() -> Self {
        let cluster = MockKafka::start(1);
        cluster.create("exam", 1);
        Self { cluster, timeout: "60s" }
    }

    fn leader(&self, leader: Option<i32>) {
        self.cluster.order(move |cluster| cluster.partition_leader("exam", 0, leader)).unwrap();
    }

    /// Every message is answered with this.
    fn answer(&self, error: RDKafkaRespErr) {
        self.cluster.order(move |cluster| cluster.request_errors(RDKafkaApiKey::Produce, &[error; 50]));
    }

    /// Connections that the broker has.
    fn connections(&self) -> usize {
        let port: u16 = self.cluster.addresses()[0].rsplit_once(':').unwrap().1.parse().unwrap();
        let (local, established) = (format!(":{port:04X}"), "01");
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let open = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|address| address.ends_with(&local)) && fields.nth(1) == Some(established)
        };
        table.lines().filter(open).count()
    }
}

#[async_trait]
impl Examinee for KafkaExaminee {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn sink(&self) -> Arc<dyn Sink> {
        let config = sink_config(&format!(
            "type = \"kafka\"\nbrokers = {}\ntopic = \"exam\"\ntimeout = \"{}\"\n\
             extra = {{ \"reconnect.backoff.max.ms\" = 100 }}",
            self.cluster.brokers(),
            self.timeout
        ));
        config.kind.build(&"it".parse().unwrap(), [0; 32]).unwrap()
    }

    async fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Nothing => {}
            // As in an election.
            Trouble::Slow => self.leader(None),
            Trouble::Status500 => self.answer(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
            Trouble::Status400 => self.answer(RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE),
            Trouble::Dropped => {
                self.timeout = "10s";
                self.cluster.order(|cluster| cluster.broker_down(-1)).unwrap();
            }
            Trouble::Status429 => unreachable!("does not apply"),
        }
    }

    async fn reached(&mut self) {
        until("the sink is connected", || self.connections() > 0).await;
    }

    async fn mend(&mut self) {
        self.cluster.order(|cluster| cluster.broker_up(-1)).unwrap();
        self.leader(Some(1));
    }

    async fn settle_down(&mut self) {
        until("the killed call ends", || self.connections() == 0).await;
    }

    /// In the order of people, since several of them are sent to at once.
    async fn arrived(&mut self) -> Vec<u64> {
        let mut messages = self.cluster.messages("exam");
        messages.sort_by(|one, other| one.key.cmp(&other.key));
        numbers(messages.into_iter().map(|message| String::from_utf8(message.value).unwrap()))
    }
}
