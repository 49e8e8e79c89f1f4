//! The idempotent producer of librdkafka, with what it was built from.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::debug;

use super::message::Message;
use super::settings::{KafkaCompression, KafkaSinkConfig, SaslMechanism};
use crate::secret::Secret;

/// Why librdkafka did not take a message.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// Its queue has no room for it now, and what may be the reason.
    Full(String),
    /// It is larger than `max_message_bytes`.
    TooLarge,
    /// Anything else, which may pass.
    Other(String),
}

/// Why a message that librdkafka took is not there.
#[derive(Debug)]
pub(super) enum Failure {
    /// A broker found this fault with what it was sent at once: with the message, or with several of a partition together.
    AtOnce(&'static str),
    /// Anything else, which may pass.
    Other(String),
}

/// A limit of the broker is on all that is sent to a partition at once.
const TOO_LARGE: &str = "the broker takes no message this large (max.message.bytes of the topic)";

/// Of several records at fault librdkafka says so of each, whatever the fault is: a time that a broker with a wrong clock
/// does not take looks the same, and passes. Of one alone it says what the broker said.
const INVALID: &str = "the broker found the record invalid";

/// What became of a message, by its position among the events of its call: the code of librdkafka where it is not there.
pub(super) type Answer = (usize, Result<(), Option<RDKafkaErrorCode>>);

/// What comes back with the answer of librdkafka: whom to tell. There is one answer for each message taken, so that a
/// call hears at most as often as it has events.
pub(super) struct Ticket {
    pub(super) position: usize,
    pub(super) call: UnboundedSender<Answer>,
}

/// A producer. It is stopped on a thread of its own when dropped, since librdkafka waits for its threads then.
pub(super) struct Producer {
    inner: Option<Running>,
    said: Said,
    /// The passwords that it was built with.
    passwords: Option<Arc<Vec<Secret>>>,
    /// The next call is to have another. A topic could not be used, which librdkafka would go on refusing for minutes after
    /// somebody has mended that; or an answer did not come.
    stale: AtomicBool,
}

/// The client of librdkafka, and the word that its threads have ended, which is given after it: in the order of fields.
struct Running {
    client: ThreadedProducer<Context>,
    _counted: TaskTrackerToken,
}

/// Waits until all producers that were counted here are dropped, and the threads of librdkafka have ended. A process that
/// ends in their midst may crash, since OpenSSL then takes apart what they use.
pub(super) async fn all_stopped(producers: &TaskTracker) {
    producers.close();
    producers.wait().await;
}

impl Producer {
    /// A producer of these settings, counted among these. librdkafka connects when it is first used, and builds its
    /// connections anew itself.
    pub(super) fn new(config: &KafkaSinkConfig, producers: &TaskTracker) -> Result<Self, String> {
        let passwords = config.login.as_ref().map(|login| login.password.load());
        let said = Said::default();
        let properties = properties(config, passwords.as_deref().and_then(|all| all.first()));
        let client = properties
            .create_with_context(Context { said: Arc::clone(&said) })
            .map_err(|error| cannot_build(&error))?;
        let inner = Some(Running { client, _counted: producers.token() });
        Ok(Self { inner, said, passwords, stale: AtomicBool::new(false) })
    }

    /// Whether it can go on: a fatal error ends an idempotent producer for good, and passwords are replaced by SIGHUP.
    pub(super) fn is_current(&self, config: &KafkaSinkConfig) -> bool {
        let replaced = match (&config.login, &self.passwords) {
            (Some(login), Some(passwords)) => !Arc::ptr_eq(&login.password.load(), passwords),
            _ => false,
        };
        !replaced
            && !self.stale.load(Ordering::Relaxed)
            && self.inner.as_ref().is_some_and(|inner| inner.client.client().fatal_error().is_none())
    }

    /// Has the next call make another.
    pub(super) fn replace(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    /// Hands a message to librdkafka. The ticket's call hears when all replicas in sync have it, or what failed: after
    /// `message.timeout.ms`, for which librdkafka looks once a second.
    pub(super) fn send(&self, topic: &str, message: Message<'_>, ticket: Ticket) -> Result<(), NotTaken> {
        let Some(inner) = &self.inner else { return Err(NotTaken::Other("it is stopped".to_owned())) };
        let Message { key, headers, value } = message;
        let record = BaseRecord::with_opaque_to(topic, Box::new(ticket)).key(&*key).payload(value).headers(headers);
        inner.client.send(record).map_err(|(error, _)| match error.rdkafka_error_code() {
            code @ Some(RDKafkaErrorCode::QueueFull) => NotTaken::Full(self.describe(code)),
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => NotTaken::TooLarge,
            code => NotTaken::Other(self.may_pass(code)),
        })
    }

    /// What the code of an answer means. The producer is replaced where that helps.
    pub(super) fn failure(&self, code: Option<RDKafkaErrorCode>) -> Failure {
        match code {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Failure::AtOnce(TOO_LARGE),
            Some(RDKafkaErrorCode::InvalidRecord) => Failure::AtOnce(INVALID),
            code => Failure::Other(self.may_pass(code)),
        }
    }

    /// What the brokers say of the cluster, and of a topic. This blocks.
    pub(super) fn metadata(
        &self,
        topic: Option<&str>,
        timeout: Duration,
    ) -> Result<rdkafka::metadata::Metadata, String> {
        let Some(inner) = &self.inner else { return Err("it is stopped".to_owned()) };
        inner.client.client().fetch_metadata(topic, timeout).map_err(|error| self.describe(error.rdkafka_error_code()))
    }

    /// The description of a failure that may pass, for which a topic that cannot be used wants another producer.
    fn may_pass(&self, code: Option<RDKafkaErrorCode>) -> String {
        if code.is_some_and(|code| TOPIC.contains(&code)) {
            self.replace();
        }
        self.describe(code)
    }

    /// A failure, and what the client complained of before it, which often says why: a message merely times out when no
    /// login works. Both are texts of librdkafka's own for a code, without names, addresses or content.
    fn describe(&self, code: Option<RDKafkaErrorCode>) -> String {
        let Some(code) = code else { return "librdkafka gave no reason".to_owned() };
        let fatal = self.inner.as_ref().and_then(|inner| inner.client.client().fatal_error()).map(|(code, _)| code);
        match fatal.or_else(|| self.said.lock().unwrap_or_else(PoisonError::into_inner).recent()) {
            Some(said) if said != code => format!("{code}; before that: {said}"),
            _ => code.to_string(),
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let inner = self.inner.take();
        // Where no thread can be had it is stopped here.
        let _ = std::thread::Builder::new().name("kafka-stop".to_owned()).spawn(move || drop(inner));
    }
}

/// What is wrong with a topic until somebody grants a right or makes it.
const TOPIC: [RDKafkaErrorCode; 3] = [
    RDKafkaErrorCode::TopicAuthorizationFailed,
    RDKafkaErrorCode::UnknownTopic,
    RDKafkaErrorCode::UnknownTopicOrPartition,
];

/// What the client last complained of.
#[derive(Default)]
struct Complaint(Option<(RDKafkaErrorCode, Instant)>);

impl Complaint {
    /// How long one may be the reason of later failures.
    const HOLDS: Duration = Duration::from_secs(60);

    /// Takes in another. That a login failed tells more than that the connection broke, which follows from it, and this
    /// more than that no broker is left.
    fn hear(&mut self, code: RDKafkaErrorCode) {
        let telling = |code| match code {
            RDKafkaErrorCode::AllBrokersDown => 0,
            RDKafkaErrorCode::BrokerTransportFailure => 1,
            _ => 2,
        };
        if self.recent().is_none_or(|before| telling(code) >= telling(before)) {
            self.0 = Some((code, Instant::now()));
        }
    }

    fn recent(&self) -> Option<RDKafkaErrorCode> {
        self.0.filter(|(_, at)| at.elapsed() < Self::HOLDS).map(|(code, _)| code)
    }
}

type Said = Arc<Mutex<Complaint>>;

/// Hears what librdkafka says: that goes to the log at debug, since it may hold names and addresses.
#[derive(Default)]
pub(super) struct Context {
    said: Said,
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        debug!(facility, "librdkafka: {text}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!("librdkafka: {error}: {reason}");
        if let Some(code) = error.rdkafka_error_code() {
            self.said.lock().unwrap_or_else(PoisonError::into_inner).hear(code);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, answer: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let result = answer.as_ref().map(|_| ()).map_err(|(error, _)| error.rdkafka_error_code());
        // Nobody listens any more where the call was given up.
        let _ = ticket.call.send((ticket.position, result));
    }
}

/// The error may hold a property's value, so only its kind is told.
fn cannot_build(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, property, _) => format!("librdkafka does not take the property {property}"),
        // Of files it names the path, and of passwords nothing.
        KafkaError::ClientCreation(reason) => format!("librdkafka cannot start: {reason}"),
        _ => "librdkafka cannot start".to_owned(),
    }
}

/// How long a message may take: half a call, so that none outlives its call if none is begun in the other half.
pub(super) fn message_timeout(config: &KafkaSinkConfig) -> Duration {
    config.calls.timeout / 2
}

fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}

/// The settings as librdkafka has them.
/// <https://github.com/confluentinc/librdkafka/blob/v2.12.1/CONFIGURATION.md>
pub(super) fn properties(config: &KafkaSinkConfig, password: Option<&Secret>) -> ClientConfig {
    let mut properties = ClientConfig::new();
    let timeout = millis(message_timeout(config));
    let calls = config.calls.concurrency as u64;
    // A call sends its events at once, each as JSON around what came, which is up to four times as long.
    let around = config.calls.batch_events as u64 * 1024 + config.max_message_bytes;
    let encoded = config.calls.batch_bytes.saturating_mul(4).saturating_add(around);
    let queue_bytes = calls.saturating_mul(encoded);
    // Calls that were given up leave theirs behind until these time out.
    let queue_messages = 2 * calls * config.calls.batch_events as u64;
    properties
        // What a user may change stands first.
        .set("client.id", "hooksink")
        // A call's messages come all at once; waiting longer for others would hold up each person's next one.
        .set("linger.ms", "1")
        // As the Java client does, so that streams can be joined by key.
        .set("partitioner", "murmur2_random")
        .set("reconnect.backoff.max.ms", "2000")
        .set("socket.keepalive.enable", "true");
    for (name, value) in &config.extra {
        properties.set(name, value);
    }
    properties
        .set("bootstrap.servers", config.brokers.join(","))
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", &timeout)
        .set("request.timeout.ms", &timeout)
        .set("socket.timeout.ms", &timeout)
        .set("socket.connection.setup.timeout.ms", millis(config.calls.connect_timeout))
        .set("message.max.bytes", config.max_message_bytes.to_string())
        .set("queue.buffering.max.messages", queue_messages.to_string())
        .set("queue.buffering.max.kbytes", (queue_bytes / 1024).clamp(1, 2_147_483_647).to_string())
        .set("compression.type", compression(config.compression));
    let protocol = match (&config.tls, &config.login) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    properties.set("security.protocol", protocol);
    if let Some(tls) = &config.tls {
        // The folder compiled into OpenSSL is not there in an image; `probe` looks where distributions keep theirs.
        let roots = tls.ca_file.as_ref().map_or_else(|| "probe".to_owned(), |path| path.display().to_string());
        properties.set("ssl.ca.location", roots);
        if let (Some(certificate), Some(key)) = (&tls.client_cert_file, &tls.client_key_file) {
            properties.set("ssl.certificate.location", certificate.display().to_string());
            properties.set("ssl.key.location", key.display().to_string());
        }
    }
    if let Some(login) = &config.login {
        let mechanism = match login.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        let password = password.map(|password| String::from_utf8_lossy(password.expose()).into_owned());
        properties.set("sasl.mechanism", mechanism).set("sasl.username", &login.username);
        properties.set("sasl.password", password.unwrap_or_default());
    }
    properties.set_log_level(RDKafkaLogLevel::Info);
    properties
}

fn compression(compression: KafkaCompression) -> &'static str {
    match compression {
        KafkaCompression::None => "none",
        KafkaCompression::Gzip => "gzip",
        KafkaCompression::Snappy => "snappy",
        KafkaCompression::Lz4 => "lz4",
        KafkaCompression::Zstd => "zstd",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::settings::{KafkaFormat, KafkaLogin};
    use super::*;
    use crate::secret::Secrets;
    use crate::sinks::{Calls, Template, TlsFiles};

    fn calls(timeout: Duration) -> Calls {
        let (connect_timeout, batch_bytes) = (timeout, u64::MAX);
        Calls { connect_timeout, timeout, concurrency: 1_024, batch_events: 100_000, batch_bytes }
    }

    pub(in super::super) fn config() -> KafkaSinkConfig {
        KafkaSinkConfig {
            brokers: vec!["127.0.0.1:1".to_owned()],
            topic: Template::parse("t").unwrap(),
            format: KafkaFormat::default(),
            include_raw: false,
            tls: None,
            login: None,
            compression: KafkaCompression::default(),
            max_message_bytes: 1_000_000,
            calls: calls(Duration::from_secs(1)),
            extra: Vec::new(),
        }
    }

    fn built(config: &KafkaSinkConfig) -> Result<Producer, String> {
        Producer::new(config, &TaskTracker::new())
    }

    fn login(mechanism: SaslMechanism) -> KafkaLogin {
        let password = Secrets::new(vec![Secret::new("marker")]);
        KafkaLogin { mechanism, username: "user".to_owned(), password }
    }

    #[test]
    fn librdkafka_takes_whatever_settings_may_be() {
        assert!(built(&config()).is_ok());
        let long = Duration::from_secs(600);
        assert!(built(&KafkaSinkConfig { calls: calls(long), ..config() }).is_ok());
        for mechanism in [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512] {
            for tls in [None, Some(TlsFiles::default())] {
                let config = KafkaSinkConfig { tls, login: Some(login(mechanism)), ..config() };
                assert!(built(&config).is_ok(), "{mechanism:?}");
            }
        }
        let missing = TlsFiles { ca_file: Some("/no/such/file".into()), ..TlsFiles::default() };
        let error = built(&KafkaSinkConfig { tls: Some(missing), ..config() }).err().unwrap();
        assert!(error.contains("ssl.ca.location"), "{error}");
    }

    #[test]
    fn there_is_room_for_twice_what_calls_hold() {
        // `kafka::a_full_queue_is_waited_for` hands over more than that.
        let calls = Calls { concurrency: 1, batch_events: 1, ..calls(Duration::from_secs(1)) };
        let properties = properties(&KafkaSinkConfig { calls, ..config() }, None);
        assert_eq!(properties.get("queue.buffering.max.messages"), Some("2"));
    }

    #[test]
    fn a_password_that_is_replaced_makes_a_new_producer() {
        let config = KafkaSinkConfig { login: Some(login(SaslMechanism::Plain)), ..config() };
        let producer = built(&config).unwrap();
        assert!(producer.is_current(&config));
        config.login.as_ref().unwrap().password.replace(&Secrets::new(vec![Secret::new("another")]));
        assert!(!producer.is_current(&config));
        assert!(built(&config).unwrap().is_current(&config));
    }

    #[test]
    fn the_most_telling_complaint_is_told() {
        let mut complaint = Complaint::default();
        assert_eq!(complaint.recent(), None);
        for (said, told) in [
            (RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::AllBrokersDown),
            (RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::BrokerTransportFailure),
            (RDKafkaErrorCode::Authentication, RDKafkaErrorCode::Authentication),
            (RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::Authentication),
            (RDKafkaErrorCode::SSL, RDKafkaErrorCode::SSL),
        ] {
            complaint.hear(said);
            assert_eq!(complaint.recent(), Some(told));
        }
    }
}
