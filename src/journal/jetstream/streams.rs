//! The three streams: made, or found to be as they have to be.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType, Stream};

use super::error::{OpenError, unavailable};
use super::shared::Names;
use crate::config::JetstreamConfig;

/// Of the streams whose ids nobody relies on.
const SHORT: Duration = Duration::from_secs(120);
/// The server's code for a stream that is not there.
const NOT_FOUND: usize = 404;

/// How the streams have to be: log, dead letters, documents.
pub(super) fn wanted(own: &JetstreamConfig, names: &Names) -> [Config; 3] {
    let stream = |name: &str, subjects: String, per_subject, duplicate_window, description: &str| Config {
        name: name.to_owned(),
        subjects: vec![subjects],
        description: Some(description.to_owned()),
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        num_replicas: own.replicas,
        duplicate_window,
        max_bytes: -1,
        max_messages: -1,
        max_messages_per_subject: per_subject,
        max_consumers: -1,
        max_message_size: -1,
        max_age: Duration::ZERO,
        ..Config::default()
    };
    let log = names.log_subjects() + ".*";
    let dead = names.dead_subjects() + ".*.*";
    let state = names.state_subjects() + ".>";
    [
        stream(&names.log, log, -1, own.duplicate_window, "hooksink: events, purged by hooksink alone"),
        stream(&names.dead, dead, 1, SHORT, "hooksink: events that a sink gave up on"),
        stream(&names.state, state, 1, SHORT, "hooksink: how far sinks are, and what replicas agree on"),
    ]
}

/// The stream, made if there is none.
pub(super) async fn open(js: &Context, wanted: &Config) -> Result<Stream, OpenError> {
    let failed = |error: String| OpenError::Failed(unavailable(&format!("the stream {}", wanted.name), error));
    let found = match js.get_stream(&wanted.name).await {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.code() == NOT_FOUND => {
                match js.create_stream(wanted.clone()).await {
                    Ok(stream) => stream,
                    Err(error) => match error.kind() {
                        // The server's own words, which tell what it lacks.
                        CreateStreamErrorKind::JetStream(error) => return Err(failed(error.to_string())),
                        kind => return Err(failed(kind.to_string())),
                    },
                }
            }
            kind => return Err(failed(kind.to_string())),
        },
    };
    let differences = differences(&found.cached_info().config, wanted);
    if differences.is_empty() {
        Ok(found)
    } else {
        Err(OpenError::Differs { stream: wanted.name.clone(), differences })
    }
}

/// What is not as it has to be.
fn differences(found: &Config, wanted: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    macro_rules! compare {
        ($($name:literal $found:expr, $wanted:expr;)+) => { $(
            if $found != $wanted {
                differences.push(format!("{} is {:?} and has to be {:?}", $name, $found, $wanted));
            }
        )+ };
    }
    // The server writes "no limit" as -1 or as 0.
    let limit = |number: i64| number.max(0);
    compare! {
        "subjects" found.subjects, wanted.subjects;
        "retention" found.retention, wanted.retention;
        "storage" found.storage, wanted.storage;
        "discard" found.discard, wanted.discard;
        "replicas" found.num_replicas, wanted.num_replicas;
        "duplicate_window" found.duplicate_window, wanted.duplicate_window;
        "max_age" found.max_age, wanted.max_age;
        "max_bytes" limit(found.max_bytes), limit(wanted.max_bytes);
        "max_msgs" limit(found.max_messages), limit(wanted.max_messages);
        "max_msgs_per_subject" limit(found.max_messages_per_subject), limit(wanted.max_messages_per_subject);
        "max_consumers" found.max_consumers.max(0), 0;
        "max_msg_size" found.max_message_size.max(0), 0;
        "discard_new_per_subject" found.discard_new_per_subject, false;
        "no_ack" found.no_ack, false;
        "sealed" found.sealed, false;
        "deny_purge" found.deny_purge, false;
        "deny_delete" found.deny_delete, false;
        "allow_rollup_hdrs" found.allow_rollup, false;
        "allow_msg_ttl" found.allow_message_ttl, false;
        "allow_msg_counter" found.allow_message_counter, false;
        "persist_mode" found.persist_mode.unwrap_or_default(), PersistenceMode::Default;
        "republish" found.republish.is_some(), false;
        "mirror" found.mirror.is_some(), false;
        "sources" found.sources.is_some(), false;
        "subject_transform" found.subject_transform.is_some(), false;
    }
    differences
}
