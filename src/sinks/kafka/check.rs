//! What `hooksink check --connect` finds.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::error::RDKafkaErrorCode;
use tokio_util::task::TaskTracker;

use super::super::{BoxError, Checked};
use super::producer::{Context, Producer, all_stopped, message_timeout, properties};
use super::settings::KafkaSinkConfig;

/// Bytes of a batch of one message around the message, and more.
const OVERHEAD: u64 = 512;

/// Logs in and asks for the cluster and the topic. Whether the login may write is known only with the first event:
/// Kafka has no way to ask that would leave nothing behind.
pub(super) async fn check(config: &KafkaSinkConfig) -> Result<Checked, BoxError> {
    let producers = TaskTracker::new();
    let (of_thread, counted) = (config.clone(), producers.clone());
    let found = tokio::task::spawn_blocking(move || cluster(&of_thread, &counted)).await;
    all_stopped(&producers).await;
    let found = found??;
    let topic = config.topic.is_constant().then(|| config.topic.as_str());
    let at_broker = match topic {
        Some(topic) => limit_of_topic(config, topic).await,
        None => None,
    };
    let limit = at_broker.map_or(config.max_message_bytes, |limit| limit.min(config.max_message_bytes));
    Ok(Checked { found, warnings: Vec::new(), max_event_bytes: Some(limit.saturating_sub(OVERHEAD)) })
}

/// The cluster, and the topic if there is but one, in words.
fn cluster(config: &KafkaSinkConfig, producers: &TaskTracker) -> Result<String, String> {
    let topic = config.topic.is_constant().then(|| config.topic.as_str());
    let metadata = Producer::new(config, producers)?.metadata(topic, message_timeout(config))?;
    let brokers = match metadata.brokers().len() {
        1 => "1 broker".to_owned(),
        several => format!("{several} brokers"),
    };
    let Some(topic) = topic else {
        return Ok(format!("{brokers}; topics named {} are known with their first event", config.topic.as_str()));
    };
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Err(format!("the brokers say nothing of the topic {topic}"));
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(format!("{brokers}, topic {topic} with {} partitions", found.partitions().len())),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(format!(
            "{brokers}, topic {topic} is not there yet: create it, unless the brokers do with the first event"
        )),
        Some(error) => Err(format!("topic {topic}: {error}")),
    }
}

/// `max.message.bytes` of the topic, where the login may read it.
async fn limit_of_topic(config: &KafkaSinkConfig, topic: &str) -> Option<u64> {
    let password = config.login.as_ref().and_then(|login| login.password.first());
    let properties = properties(config, password.as_ref());
    let built = tokio::task::spawn_blocking(move || properties.create_with_context(Context::default())).await;
    let admin: AdminClient<Context> = built.ok()?.ok()?;
    let options = AdminOptions::new().request_timeout(Some(config.calls.connect_timeout.min(Duration::from_secs(5))));
    let resources = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
    // Dropping waits for the client's threads.
    let _ = tokio::task::spawn_blocking(move || drop(admin)).await;
    let resource = resources.ok()?.pop()?.ok()?;
    resource.get("max.message.bytes")?.value.as_ref()?.parse().ok()
}
