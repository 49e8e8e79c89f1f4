//! A cluster of Kafka brokers inside this process: librdkafka's own mock, which speaks the protocol over real
//! connections. It keeps what it has while its brokers are down, and what a partition holds beyond 5 MB it forgets.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaApiKey;
use serde_json::Value;

use super::DEADLINE;

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Order = Box<dyn FnOnce(&Cluster) + Send>;

/// The cluster. It ends when this is dropped.
pub(crate) struct MockKafka {
    orders: mpsc::Sender<Order>,
    brokers: String,
}

/// A message, as a consumer reads it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) value: Vec<u8>,
}

impl Message {
    /// The CloudEvent, whichever mode it came in.
    pub(crate) fn event(&self) -> Value {
        let value: Value = serde_json::from_slice(&self.value).expect("JSON");
        if !self.headers.contains_key("ce_id") {
            return value;
        }
        let attributes = self.headers.iter().filter_map(|(name, text)| Some((name.strip_prefix("ce_")?, text)));
        let mut event: Value = attributes.map(|(name, text)| (name.to_owned(), Value::from(text.as_str()))).collect();
        event["data"] = value;
        event
    }
}

impl MockKafka {
    /// So many brokers, numbered from 1.
    pub(crate) fn start(brokers: i32) -> Self {
        let (orders, todo) = mpsc::channel::<Order>();
        let (tell, told) = mpsc::channel();
        // The cluster stays on the thread that made it.
        thread::spawn(move || {
            let cluster = MockCluster::new(brokers).expect("a cluster");
            // In later versions of this request the mock crashes over a partition that has no leader.
            cluster.apiversion(RDKafkaApiKey::Produce, Some(0), Some(9)).expect("there are such versions");
            tell.send(cluster.bootstrap_servers()).expect("somebody asked");
            todo.iter().for_each(|order| order(&cluster));
        });
        Self { orders, brokers: told.recv().expect("it starts") }
    }

    /// The brokers as TOML: a list of `host:port`.
    pub(crate) fn brokers(&self) -> String {
        format!("{:?}", self.brokers.split(',').collect::<Vec<_>>())
    }

    /// The addresses of the brokers.
    pub(crate) fn addresses(&self) -> Vec<&str> {
        self.brokers.split(',').collect()
    }

    /// Has the cluster do something, and waits until it is done.
    pub(crate) fn order<R: Send + 'static>(&self, what: impl FnOnce(&Cluster) -> R + Send + 'static) -> R {
        let (tell, told) = mpsc::channel();
        let order = Box::new(move |cluster: &Cluster| tell.send(what(cluster)).expect("it is waited for"));
        self.orders.send(order).expect("it runs");
        told.recv().expect("it is done")
    }

    /// Makes a topic.
    pub(crate) fn create(&self, topic: &str, partitions: i32) {
        let topic = topic.to_owned();
        self.order(move |cluster| cluster.create_topic(&topic, partitions, 1)).expect("a topic");
    }

    /// Everything in a topic, each partition's in its order; nothing if there is no such topic.
    pub(crate) fn messages(&self, topic: &str) -> Vec<Message> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "it")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10")
            .create()
            .expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).expect("the cluster is there");
        let mut open = metadata.topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("a partition");
        }
        consumer.assign(&list).expect("it may");
        let (mut messages, deadline) = (Vec::new(), Instant::now() + DEADLINE);
        while open > 0 {
            assert!(Instant::now() < deadline, "the cluster is not read to its end");
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    let headers = message.headers().map(|headers| headers.iter().collect::<Vec<_>>());
                    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec());
                    let header = |header: &rdkafka::message::Header<'_, &[u8]>| {
                        (header.key.to_owned(), text(header.value).expect("a text"))
                    };
                    messages.push(Message {
                        partition: message.partition(),
                        key: text(message.key()).expect("a text"),
                        headers: headers.unwrap_or_default().iter().map(header).collect(),
                        value: message.payload().unwrap_or_default().to_vec(),
                    });
                }
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                // Brokers that have just come back.
                Some(Err(_)) => {}
            }
        }
        messages
    }

    /// The CloudEvents in a topic.
    pub(crate) fn events(&self, topic: &str) -> Vec<Value> {
        self.messages(topic).iter().map(Message::event).collect()
    }
}
