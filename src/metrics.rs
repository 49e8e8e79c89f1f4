//! The metrics, in OpenMetrics terms. Every label has a bounded set of values: source and sink names, kinds, outcomes.

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// `{source,outcome}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The source, or empty where the path names none.
    pub source: String,
    /// `accepted`, `handshake`, `unauthorized`, …: one a row of the table of answers.
    pub outcome: &'static str,
}

/// `{source,kind,outcome}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// The source.
    pub source: String,
    /// The kind.
    pub kind: &'static str,
    /// `stored` or `duplicate`.
    pub outcome: &'static str,
}

/// `{source,scheme,position}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProofLabels {
    /// The source.
    pub source: String,
    /// The scheme.
    pub scheme: &'static str,
    /// The position of the secret in its list.
    pub position: u32,
}

/// `{source,kind}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    /// The source.
    pub source: String,
    /// The kind.
    pub kind: &'static str,
}

/// `{source}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceLabels {
    /// The source.
    pub source: String,
}

/// `{sink}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkLabels {
    /// The sink.
    pub sink: String,
}

/// `{sink,expression}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExpressionLabels {
    /// The sink.
    pub sink: String,
    /// `where` or `map`.
    pub expression: &'static str,
}

/// All metrics, and the registry that writes them.
pub struct Metrics {
    registry: Registry,
    /// `hooksink_requests_total`
    pub requests: Family<RequestLabels, Counter>,
    /// `hooksink_events_total`
    pub events: Family<EventLabels, Counter>,
    /// `hooksink_proofs_total`: which secret of a list proved requests, so that a rotation can be followed.
    pub proofs: Family<ProofLabels, Counter>,
    /// `hooksink_ack_seconds`: from the first byte of a request to its answer.
    pub ack_seconds: Family<SourceLabels, Histogram, fn() -> Histogram>,
    /// `hooksink_journal_commit_seconds`
    pub journal_commit_seconds: Histogram,
    /// `hooksink_journal_batch_events`
    pub journal_batch_events: Histogram,
    /// `hooksink_journal_bytes`
    pub journal_bytes: Gauge,
    /// `hooksink_journal_gaps_total`: positions of the journal that hold no event this version can read.
    pub journal_gaps: Counter,
    /// `hooksink_journal_wal_bytes`
    pub journal_wal_bytes: Gauge,
    /// `hooksink_sink_delivered_total`
    pub sink_delivered: Family<SinkLabels, Counter>,
    /// `hooksink_sink_retries_total`
    pub sink_retries: Family<SinkLabels, Counter>,
    /// `hooksink_sink_skipped_total`: unsent events dropped at the size limit (`on_full = "skip"`).
    pub sink_skipped: Family<SinkLabels, Counter>,
    /// `hooksink_sink_filtered_total`: events that a sink's `where` does not want.
    pub sink_filtered: Family<SinkLabels, Counter>,
    /// `hooksink_sink_expression_failures_total`: events for which an expression has no result.
    pub sink_expression_failures: Family<ExpressionLabels, Counter>,
    /// `hooksink_sink_dead_letters`
    pub sink_dead_letters: Family<SinkLabels, Gauge>,
    /// `hooksink_sink_lag_events`
    pub sink_lag_events: Family<SinkLabels, Gauge>,
    /// `hooksink_sink_oldest_unsent_seconds`
    pub sink_oldest_unsent_seconds: Family<SinkLabels, Gauge>,
    /// `hooksink_sink_unconfigured`: 1 for a sink that left the configuration and is still owed events.
    pub sink_unconfigured: Family<SinkLabels, Gauge>,
    /// `hooksink_unknown_fields_total`: counted each time such an event is decoded for a sink.
    pub unknown_fields: Family<KindLabels, Counter>,
    /// `hooksink_unauthenticated_source`: 1 for a source with `auth = "none"`.
    pub unauthenticated_source: Family<SourceLabels, Gauge>,
}

fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

impl Metrics {
    /// All metrics at zero.
    #[expect(clippy::new_without_default, reason = "there is one, made on purpose")]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("hooksink"),
            requests: Family::default(),
            events: Family::default(),
            proofs: Family::default(),
            ack_seconds: Family::new_with_constructor(latency_histogram),
            journal_commit_seconds: latency_histogram(),
            journal_batch_events: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            journal_bytes: Gauge::default(),
            journal_gaps: Counter::default(),
            journal_wal_bytes: Gauge::default(),
            sink_delivered: Family::default(),
            sink_retries: Family::default(),
            sink_skipped: Family::default(),
            sink_filtered: Family::default(),
            sink_expression_failures: Family::default(),
            sink_dead_letters: Family::default(),
            sink_lag_events: Family::default(),
            sink_oldest_unsent_seconds: Family::default(),
            sink_unconfigured: Family::default(),
            unknown_fields: Family::default(),
            unauthenticated_source: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Requests by source and outcome", self.requests.clone());
        r.register("events", "Events by source, kind and outcome", self.events.clone());
        r.register("proofs", "Requests by what proved them authentic", self.proofs.clone());
        r.register_with_unit("ack", "Time from a request to its answer", Unit::Seconds, self.ack_seconds.clone());
        r.register_with_unit(
            "journal_commit",
            "Time of a commit, sync included",
            Unit::Seconds,
            self.journal_commit_seconds.clone(),
        );
        r.register("journal_batch_events", "Events a commit", self.journal_batch_events.clone());
        r.register_with_unit("journal", "Size of the journal in use", Unit::Bytes, self.journal_bytes.clone());
        r.register("journal_gaps", "Positions of the journal that hold no readable event", self.journal_gaps.clone());
        r.register_with_unit("journal_wal", "Size of the write-ahead log", Unit::Bytes, self.journal_wal_bytes.clone());
        r.register("sink_delivered", "Events a sink has", self.sink_delivered.clone());
        r.register("sink_retries", "Calls to a sink that failed", self.sink_retries.clone());
        r.register("sink_skipped", "Unsent events skipped at the size limit", self.sink_skipped.clone());
        r.register("sink_filtered", "Events that a sink's where does not want", self.sink_filtered.clone());
        r.register(
            "sink_expression_failures",
            "Events for which an expression of a sink has no result",
            self.sink_expression_failures.clone(),
        );
        r.register("sink_dead_letters", "Events a sink gave up on", self.sink_dead_letters.clone());
        r.register("sink_lag_events", "Events a sink is behind", self.sink_lag_events.clone());
        r.register_with_unit(
            "sink_oldest_unsent",
            "Age of the oldest event a sink is owed",
            Unit::Seconds,
            self.sink_oldest_unsent_seconds.clone(),
        );
        r.register(
            "sink_unconfigured",
            "Sinks that left the configuration and are owed events",
            self.sink_unconfigured.clone(),
        );
        r.register("unknown_fields", "Events with fields that no model names", self.unknown_fields.clone());
        r.register("unauthenticated_source", "Sources with auth = \"none\"", self.unauthenticated_source.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The running version", build);
    }

    /// The metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        if encode(&mut out, &self.registry).is_err() {
            // Writing to a String cannot fail; an encoder error would be a defect of a metric above.
            let _ = writeln!(out, "# EOF");
        }
        out
    }
}
