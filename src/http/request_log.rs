//! What is said and counted of a request: one line at info, and the metrics. Invariant 8: no query, header or body, and
//! the client's address only at debug.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use tracing::{debug, info};
use uuid::Uuid;

use super::outcome::Outcome;
use crate::event::{Arrival, Kind};
use crate::journal::Appended;
use crate::metrics::{EventLabels, Metrics, ProofLabels, RequestLabels, SourceLabels};
use crate::names::SourceName;

/// The longest path that is logged, in characters.
const PATH_CHARS: usize = 200;

/// A request, from its headers to its answer. Dropped without an answer, it tells of a client that went away.
pub(super) struct RequestLog {
    metrics: Arc<Metrics>,
    started: Instant,
    request_id: Uuid,
    source: Option<SourceName>,
    method: Method,
    path: String,
    bytes: usize,
    accepted: usize,
    duplicates: usize,
    journal: Option<Duration>,
    reason: Option<String>,
    finished: bool,
}

impl RequestLog {
    /// A request whose headers have arrived. `path` is without query.
    pub(super) fn begin(
        metrics: Arc<Metrics>,
        request_id: Uuid,
        source: Option<SourceName>,
        method: Method,
        path: &str,
    ) -> Self {
        let path = path.chars().take(PATH_CHARS).collect();
        Self {
            metrics,
            started: Instant::now(),
            request_id,
            source,
            method,
            path,
            bytes: 0,
            accepted: 0,
            duplicates: 0,
            journal: None,
            reason: None,
            finished: false,
        }
    }

    /// The whole body has been read.
    pub(super) fn body(&mut self, bytes: usize) {
        self.bytes = bytes;
    }

    /// Why it is not served; without any value of the request.
    pub(super) fn because(&mut self, reason: impl ToString) {
        self.reason = Some(reason.to_string());
    }

    /// It is authentic, proven by these.
    pub(super) fn proven(&self, arrival: &Arrival) {
        debug!(request_id = %self.request_id, client_address = %arrival.client_address, proofs = ?arrival.proofs, "authentic");
        for proof in &arrival.proofs {
            let labels = ProofLabels {
                source: self.source_text(),
                scheme: proof.scheme.as_str(),
                position: u32::try_from(proof.position).unwrap_or(u32::MAX),
            };
            self.metrics.proofs.get_or_create(&labels).inc();
        }
    }

    /// The journal answered, or did not in time.
    pub(super) fn journal(&mut self, took: Duration) {
        self.journal = Some(took);
    }

    /// What became of its events.
    pub(super) fn appended(&mut self, events: impl Iterator<Item = (Kind, Appended)>) {
        for (kind, appended) in events {
            let outcome = match appended {
                Appended::Stored => {
                    self.accepted += 1;
                    "stored"
                }
                Appended::Duplicate => {
                    self.duplicates += 1;
                    "duplicate"
                }
            };
            let labels = EventLabels { source: self.source_text(), kind: kind.as_str(), outcome };
            self.metrics.events.get_or_create(&labels).inc();
        }
    }

    /// How many of its events are new, and how many the journal held already.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.accepted, self.duplicates)
    }

    /// It is answered.
    pub(super) fn finish(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn source_text(&self) -> String {
        self.source.as_ref().map_or_else(String::new, |source| source.as_str().to_owned())
    }

    fn tell(&mut self, outcome: Outcome) {
        self.finished = true;
        let took = self.started.elapsed();
        self.metrics
            .requests
            .get_or_create(&RequestLabels { source: self.source_text(), outcome: outcome.as_str() })
            .inc();
        if outcome.asked_the_journal() {
            let labels = SourceLabels { source: self.source_text() };
            self.metrics.ack_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        }
        info!(
            request_id = %self.request_id,
            source = self.source.as_ref().map(SourceName::as_str),
            method = %self.method,
            path = self.path,
            status = (outcome != Outcome::Disconnected).then(|| outcome.status().as_u16()),
            outcome = outcome.as_str(),
            reason = self.reason,
            bytes = self.bytes,
            accepted = self.accepted,
            duplicates = self.duplicates,
            total_ms = milliseconds(took),
            journal_ms = self.journal.map(milliseconds),
            "request"
        );
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        if !self.finished {
            self.tell(Outcome::Disconnected);
        }
    }
}

/// Milliseconds with three digits behind the point.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
