//! What `type = "kafka"` is told.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::super::calls::Calls;
use super::super::encoding::include_raw;
use super::super::template::Template;
use super::super::{BoxError, Sink};
use super::extra::extra;
use crate::names::SinkName;
use crate::remote::Exposed;
use crate::remote::tls::TlsFiles;
use crate::secret::Secrets;
use crate::settings::units::size;
use crate::settings::values;
use crate::settings::{Given, Section};

/// `type = "kafka"`: messages in topics of Apache Kafka.
#[derive(Debug, Clone)]
pub struct KafkaSinkConfig {
    /// `brokers`: `host:port` of some of the cluster's brokers; they tell the others.
    pub brokers: Vec<String>,
    /// `topic`
    pub topic: Template,
    /// `format`
    pub format: KafkaFormat,
    /// `include_raw`: the raw JSON under `data.raw`.
    pub include_raw: bool,
    /// `tls`, `ca_file`, `client_cert_file`, `client_key_file`; `None` without TLS.
    pub tls: Option<TlsFiles>,
    /// `sasl`, `username` and `password`; `None` without a login.
    pub login: Option<KafkaLogin>,
    /// `compression`: of what is sent to a partition at once.
    pub compression: KafkaCompression,
    /// `max_message_bytes`: key, headers and value of one message, before compression.
    pub max_message_bytes: u64,
    /// Calls, which share a producer.
    pub calls: Calls,
    /// `extra`: further properties of librdkafka, by their names there.
    pub extra: Vec<(String, String)>,
}

/// How hooksink logs in at the brokers.
#[derive(Debug, Clone)]
pub struct KafkaLogin {
    /// `sasl`
    pub mechanism: SaslMechanism,
    /// `username`
    pub username: String,
    /// `password`
    pub password: Secrets,
}

/// SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password as it is, which wants TLS.
    Plain,
    /// A challenge (RFC 5802 and 7677).
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

/// What a message carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KafkaFormat {
    /// A CloudEvent in JSON (structured mode).
    #[default]
    Cloudevents,
    /// The attributes of the CloudEvent as headers, its data as the value (binary mode).
    CloudeventsBinary,
    /// The same with the raw JSON as the value.
    Raw,
}

/// What compresses the messages that are sent to a partition at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KafkaCompression {
    /// Nothing.
    #[default]
    None,
    /// DEFLATE.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// The time-outs that librdkafka takes.
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// The name of a topic is no longer.
const MAX_TOPIC: usize = 249;

/// What a binary without the feature says.
const NOT_BUILT: &str = "this binary was built without the feature kafka: cargo build --features kafka, or the image";

impl KafkaSinkConfig {
    pub(crate) fn read(section: &mut Section<'_>) -> Option<Self> {
        Self::read_where(cfg!(feature = "kafka"), section)
    }

    /// Reads the settings for a binary that was built with the feature or without.
    fn read_where(built: bool, section: &mut Section<'_>) -> Option<Self> {
        if !built {
            section.error("type", NOT_BUILT);
        }
        let brokers = section.required("brokers", brokers);
        let topic = section.required("topic", topic);
        let format = section.or("format", format, KafkaFormat::default());
        let include_raw = include_raw(section, format == KafkaFormat::Raw);
        let tls = tls(section);
        let login = login(section);
        let compression = section.or("compression", compression, KafkaCompression::default());
        let max_message_bytes = section.or("max_message_bytes", message_size, 1_000_000);
        // A message has half of a call, in which a partition may have to elect a leader.
        let calls = Calls::read(section, Calls { timeout: Duration::from_secs(30), ..Calls::default() });
        for (key, time) in [("connect_timeout", calls.connect_timeout), ("timeout", calls.timeout)] {
            if !TIMES.contains(&time) {
                section.error(key, "this must be from 1s to 10m");
            }
        }
        let extra = extra(section, calls.timeout);
        Some(Self {
            brokers: brokers?,
            topic: topic?,
            format,
            include_raw,
            tls,
            login,
            compression,
            max_message_bytes,
            calls,
            extra,
        })
    }

    pub(crate) fn target(&self) -> String {
        format!("topic {} at {}", self.topic.as_str(), self.brokers.join(", "))
    }

    pub(crate) fn exposed(&self) -> Option<Exposed> {
        let hosts = self.brokers.iter().filter_map(|broker| broker.rsplit_once(':')).map(|(host, _)| host);
        Exposed::find(&[("password", self.login.is_some())], hosts.filter(|_| self.tls.is_none()), "set tls = true")
    }

    #[cfg(feature = "kafka")]
    pub(crate) fn build(&self, _name: &SinkName, _key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
        Ok(Arc::new(super::KafkaSink::new(self)))
    }

    /// For whoever made the settings without reading them.
    #[cfg(not(feature = "kafka"))]
    pub(crate) fn build(&self, _name: &SinkName, _key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
        Err(NOT_BUILT.into())
    }
}

/// A list of `host:port`. What is no such thing is not repeated: people put passwords into URLs.
fn brokers(given: &Given<'_>) -> Result<Vec<String>, String> {
    let brokers = values::list(given, |given| {
        let text = values::text(given)?;
        let host_and_port = text.rsplit_once(':').filter(|(host, port)| {
            let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let named = |host: &str| {
                !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            };
            let host = ipv6.map_or_else(|| named(host), |host| host.parse::<std::net::Ipv6Addr>().is_ok());
            host && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        match host_and_port {
            Some(_) => Ok(text),
            None => Err("a broker is written like \"kafka-1.example:9092\", without anything before or behind".into()),
        }
    })?;
    if brokers.is_empty() { Err("the list is empty; name one broker at least".into()) } else { Ok(brokers) }
}

/// A template of which each name that comes out is a legal name of a topic.
fn topic(given: &Given<'_>) -> Result<Template, String> {
    let template = Template::parse(&values::text(given)?)?;
    // Names of sources and kinds are made of legal characters, so that one name speaks for all.
    let longest = template.longest();
    if let Some(char) = longest.chars().find(|char| !char.is_ascii_alphanumeric() && !"._-".contains(*char)) {
        return Err(format!("{char:?} cannot stand in the name of a topic, only letters, digits, '.', '_' and '-'"));
    }
    if longest.len() > MAX_TOPIC {
        return Err(format!("names of topics become up to {} characters, {MAX_TOPIC} are allowed", longest.len()));
    }
    if matches!(longest.as_str(), "." | "..") {
        return Err("no topic can have this name".into());
    }
    Ok(template)
}

fn format(given: &Given<'_>) -> Result<KafkaFormat, String> {
    values::choice(
        given,
        &[
            ("cloudevents", KafkaFormat::Cloudevents),
            ("cloudevents_binary", KafkaFormat::CloudeventsBinary),
            ("raw", KafkaFormat::Raw),
        ],
    )
}

fn compression(given: &Given<'_>) -> Result<KafkaCompression, String> {
    use KafkaCompression::{Gzip, Lz4, None, Snappy, Zstd};
    values::choice(given, &[("none", None), ("gzip", Gzip), ("snappy", Snappy), ("lz4", Lz4), ("zstd", Zstd)])
}

fn mechanism(given: &Given<'_>) -> Result<SaslMechanism, String> {
    values::choice(
        given,
        &[
            ("plain", SaslMechanism::Plain),
            ("scram-sha-256", SaslMechanism::ScramSha256),
            ("scram-sha-512", SaslMechanism::ScramSha512),
        ],
    )
}

fn message_size(given: &Given<'_>) -> Result<u64, String> {
    size(given).and_then(|size| match size {
        1_000..=1_000_000_000 => Ok(size),
        _ => Err("this must be from 1 kB to 1 GB".into()),
    })
}

fn tls(section: &mut Section<'_>) -> Option<TlsFiles> {
    let on = section.or("tls", values::boolean, false);
    let files = TlsFiles::read(section, (!on).then_some("set tls = true"));
    on.then_some(files)
}

fn login(section: &mut Section<'_>) -> Option<KafkaLogin> {
    let mechanism = section.optional("sasl", mechanism);
    let username = section.optional("username", values::text);
    let password = section.secrets("password", password);
    match (mechanism, username) {
        (Some(mechanism), Some(username)) if section.has("password") => {
            Some(KafkaLogin { mechanism, username, password })
        }
        (None, None) if !section.has("password") => None,
        _ => {
            // A value that is wrong has an error of its own.
            if !["sasl", "username", "password"].iter().all(|key| section.has(key)) {
                section.error("", "sasl, username and password go together: give all three or none");
            }
            None
        }
    }
}

/// librdkafka takes it as a C string.
fn password(bytes: &[u8]) -> Result<(), &'static str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(()),
        _ => Err("this secret is no text"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::settings::{Inputs, Reader, merge};

    /// What is read of these lines, or what is wrong with them.
    fn read(built: bool, lines: &str) -> Result<KafkaSinkConfig, Vec<String>> {
        let inputs = Inputs {
            file: Some(("t.toml".into(), format!("[sinks.k]\n{lines}"))),
            environment: BTreeMap::new(),
            flags: Vec::new(),
            read_secret: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        let (table, origins) = merge(&inputs).unwrap();
        let reader = Reader::new(&inputs, &origins);
        let mut section = Section::new(&reader, "sinks.k".to_owned(), table["sinks"].get("k"));
        let config = KafkaSinkConfig::read_where(built, &mut section);
        section.finish();
        let errors = reader.finish().errors;
        if errors.is_empty() {
            return Ok(config.unwrap());
        }
        Err(errors.into_iter().map(|error| format!("{}: {}", error.key, error.message)).collect())
    }

    const NEEDED: &str = "brokers = \"kafka-1.example:9092\"\ntopic = \"hooks\"\n";

    #[test]
    fn a_binary_without_the_feature_names_it() {
        assert_eq!(
            read(false, NEEDED).unwrap_err(),
            [
                "sinks.k.type: this binary was built without the feature kafka: cargo build --features kafka, or the image"
            ],
        );
        assert!(read(true, NEEDED).is_ok());
        let config = read(true, NEEDED).unwrap();
        assert_eq!(config.build(&"k".parse().unwrap(), [0; 32]).is_ok(), cfg!(feature = "kafka"));
        assert_eq!(config.target(), "topic hooks at kafka-1.example:9092");
    }

    #[test]
    fn brokers_and_topics_are_checked() {
        for good in ["127.0.0.1:9092", "[::1]:9092", "broker_1:1"] {
            assert!(read(true, &format!("brokers = [\"{good}\"]\ntopic = \"t\"")).is_ok(), "{good}");
        }
        for bad in ["kafka://user:marker@host:9092", "host", "host:0", "host:99999", ":9092", "[marker]:1", "a b:1"] {
            let errors = read(true, &format!("brokers = [\"{bad}\"]\ntopic = \"t\"")).unwrap_err();
            assert!(errors[0].contains("kafka-1.example:9092") && !errors[0].contains("marker"), "{errors:?}");
        }
        let long = "t".repeat(250);
        for (bad, expected) in [
            ("hooks {kind}", "' ' cannot stand in the name of a topic, only letters, digits, '.', '_' and '-'"),
            ("hooks/{kind}", "'/' cannot stand"),
            ("{subject}", "{subject} is not known"),
            (&long, "names of topics become up to 250 characters, 249 are allowed"),
            ("..", "no topic can have this name"),
        ] {
            let errors = read(true, &format!("brokers = [\"h:1\"]\ntopic = \"{bad}\"")).unwrap_err();
            assert!(errors[0].contains(expected), "{errors:?}");
        }
    }

    #[test]
    fn what_belongs_together_is_given_together() {
        for (lines, expected) in [
            ("ca_file = \"ca.pem\"", "sinks.k.ca_file: this has no meaning without TLS: set tls = true"),
            (
                "tls = true\nclient_key_file = \"k\"",
                "sinks.k.client_cert_file: this must be set beside client_key_file",
            ),
            ("sasl = \"plain\"", "sinks.k: sasl, username and password go together"),
            ("username = \"u\"\npassword = \"p\"", "sinks.k: sasl, username and password go together"),
            (
                "sasl = \"gssapi\"\nusername = \"u\"\npassword = \"p\"",
                "\"gssapi\" is not allowed; this must be \"plain\"",
            ),
            ("timeout = \"2s\"", "sinks.k.timeout: this must not be shorter than connect_timeout (5s)"),
            ("timeout = \"900ms\"", "this must be from 1s to 10m"),
            ("format = \"raw\"\ninclude_raw = true", "this has no meaning with format = \"raw\""),
        ] {
            let errors = read(true, &format!("{NEEDED}{lines}")).unwrap_err();
            assert!(errors.iter().any(|error| error.contains(expected)), "{lines}: {errors:?}");
        }
        let all = "tls = true\nclient_cert_file = \"c\"\nclient_key_file = \"k\"\nsasl = \"scram-sha-512\"\n\
                   username = \"u\"\npassword = [\"new\", \"old\"]";
        let config = read(true, &format!("{NEEDED}{all}")).unwrap();
        let login = config.login.unwrap();
        assert_eq!((login.mechanism, &*login.username), (SaslMechanism::ScramSha512, "u"));
        assert_eq!(config.tls.unwrap().client_key_file, Some("k".into()));
        assert!(!format!("{:?}", login.password).contains("new"));
    }

    #[test]
    fn only_harmless_properties_pass() {
        let config = read(true, &format!("{NEEDED}extra = {{ \"linger.ms\" = 1, \"client.rack\" = \"a\" }}")).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(config.extra, [pair("linger.ms", "1"), pair("client.rack", "a")]);
        for (extra, expected) in [
            (
                "\"partitioner\" = \"random\"",
                "this would spread a person's events over partitions; allowed are consistent,",
            ),
            ("\"acks\" = \"0\"", "sinks.k.extra.acks: this cannot be set here; allowed are batch.num.messages, "),
            ("\"enable.idempotence\" = false", "cannot be set here"),
            ("\"max.in.flight\" = 9", "cannot be set here"),
            ("\"debug\" = \"all\"", "cannot be set here"),
            ("\"plugin.library.paths\" = \"x\"", "cannot be set here"),
            ("\"enable.ssl.certificate.verification\" = false", "cannot be set here"),
            ("\"linger.ms\" = [1]", "this must be a text, a whole number, true or false"),
            ("\"linger.ms\" = 7500", "this must be shorter than a quarter of timeout"),
        ] {
            let errors = read(true, &format!("{NEEDED}extra = {{ {extra} }}")).unwrap_err();
            assert!(errors[0].contains(expected), "{extra}: {errors:?}");
        }
        #[cfg(feature = "kafka")]
        {
            let errors = read(true, &format!("{NEEDED}extra = {{ \"linger.ms\" = \"soon\" }}")).unwrap_err();
            assert!(errors[0].contains("librdkafka does not take it: "), "{errors:?}");
        }
    }
}
