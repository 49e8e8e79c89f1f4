//! The setting `extra`: further properties of librdkafka, those that are harmless.

use std::time::Duration;

use toml::Value;

use crate::settings::Section;

/// Those that choose the partition by the key, so that a person's events stay in one.
const PARTITIONERS: [&str; 6] =
    ["consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random"];

/// The properties of librdkafka that may be set: those that neither touch what this sink promises (order, idempotence,
/// acknowledgements, bounds) nor read files, nor switch checks off, nor print what is sent.
const EXTRA: &[&str] = &[
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.level",
    "connections.max.idle.ms",
    "enable.metrics.push",
    "linger.ms",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "partitioner",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// Reads them. `timeout` is that of a call.
pub(super) fn extra(section: &mut Section<'_>, timeout: Duration) -> Vec<(String, String)> {
    let table = section.section("extra");
    let mut extra = Vec::new();
    for (name, value) in table.entries() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Integer(_) | Value::Boolean(_) => value.to_string(),
            _ => {
                table.error(name, "this must be a text, a whole number, true or false");
                continue;
            }
        };
        if !EXTRA.contains(&name) {
            table.error(name, format!("this cannot be set here; allowed are {}", EXTRA.join(", ")));
        } else if let Some(refused) = refused(name, &text) {
            table.error(name, format!("librdkafka does not take it: {refused}"));
        } else if name == "linger.ms" && text.parse().is_ok_and(|ms: u128| ms >= timeout.as_millis() / 4) {
            table.error(name, "this must be shorter than a quarter of timeout");
        } else if name == "partitioner" && !PARTITIONERS.contains(&text.as_str()) {
            let all = PARTITIONERS.join(", ");
            table.error(name, format!("this would spread a person's events over partitions; allowed are {all}"));
        } else {
            extra.push((name.to_owned(), text));
        }
    }
    extra
}

/// Why librdkafka would not take this value, if it would not.
#[cfg(feature = "kafka")]
fn refused(name: &str, value: &str) -> Option<String> {
    use rdkafka::error::KafkaError;
    let mut config = rdkafka::ClientConfig::new();
    match config.set(name, value).create_native_config().err()? {
        KafkaError::ClientConfig(_, reason, ..) => Some(reason),
        error => Some(error.to_string()),
    }
}

#[cfg(not(feature = "kafka"))]
fn refused(_: &str, _: &str) -> Option<String> {
    None
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::*;

    #[test]
    fn librdkafka_knows_every_property_that_may_be_set() {
        // Each takes a word or finds fault with it.
        for name in EXTRA {
            let reason = refused(name, "word").unwrap_or_default();
            assert!(!reason.contains("No such configuration"), "{name}: {reason}");
        }
        assert!(refused("no.such.property", "word").unwrap().contains("No such configuration"));
    }
}
