//! The counters of one source, looked up once rather than for every request. Each begins when it is first counted, so
//! that there is no series of what never happens.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::line_limit::{LineLimit, Said};
use super::outcome::Outcome;
use crate::event::{Kind, Proof, Scheme};
use crate::journal::Appended;
use crate::metrics::{EventLabels, Metrics, ProofLabels, RequestLabels, SourceLabels};
use crate::names::SourceName;

/// Secrets of a list whose counters are kept at hand; longer lists are looked up.
const POSITIONS: usize = 4;

type Counters<const N: usize> = [OnceLock<Counter>; N];

/// What is counted of the requests at one source, or at no source.
pub(super) struct Tally {
    metrics: Arc<Metrics>,
    source: Option<SourceName>,
    requests: Counters<{ Outcome::COUNT }>,
    stored: Counters<{ Kind::ALL.len() }>,
    duplicates: Counters<{ Kind::ALL.len() }>,
    proofs: [Counters<POSITIONS>; Scheme::COUNT],
    ack_seconds: OnceLock<Histogram>,
    lines: [LineLimit; Outcome::COUNT],
    most_lines: u32,
    began: Instant,
}

impl Tally {
    /// The counters of this source, whose requests are told of in so many lines a second and outcome.
    pub(super) fn new(metrics: Arc<Metrics>, source: Option<SourceName>, most_lines: u32) -> Self {
        Self {
            metrics,
            source,
            requests: [const { OnceLock::new() }; _],
            stored: [const { OnceLock::new() }; _],
            duplicates: [const { OnceLock::new() }; _],
            proofs: [const { [const { OnceLock::new() }; _] }; _],
            ack_seconds: OnceLock::new(),
            lines: Default::default(),
            most_lines,
            began: Instant::now(),
        }
    }

    /// What is to be said of a request that had this outcome.
    pub(super) fn said(&self, outcome: Outcome, now: Instant) -> Said {
        let second = now.saturating_duration_since(self.began).as_secs();
        self.lines[outcome as usize].next(second, self.most_lines)
    }

    /// The source's name.
    pub(super) fn source(&self) -> Option<&SourceName> {
        self.source.as_ref()
    }

    fn source_text(&self) -> String {
        self.source.as_ref().map_or_else(String::new, |source| source.as_str().to_owned())
    }

    /// A request was answered.
    pub(super) fn request(&self, outcome: Outcome, seconds: f64) {
        let counter = || {
            let labels = RequestLabels { source: self.source_text(), outcome: outcome.as_str() };
            self.metrics.requests.get_or_create(&labels).clone()
        };
        self.requests[outcome as usize].get_or_init(counter).inc();
        if outcome.asked_the_journal() {
            let labels = || SourceLabels { source: self.source_text() };
            let histogram = self.ack_seconds.get_or_init(|| self.metrics.ack_seconds.get_or_create(&labels()).clone());
            histogram.observe(seconds);
        }
    }

    /// An event was stored, or found to be a duplicate.
    pub(super) fn event(&self, kind: Kind, appended: Appended) {
        let (counters, outcome) = match appended {
            Appended::Stored => (&self.stored, "stored"),
            Appended::Duplicate => (&self.duplicates, "duplicate"),
        };
        let counter = || {
            let labels = EventLabels { source: self.source_text(), kind: kind.as_str(), outcome };
            self.metrics.events.get_or_create(&labels).clone()
        };
        counters[kind as usize].get_or_init(counter).inc();
    }

    /// This proved a request authentic.
    pub(super) fn proof(&self, proof: &Proof) {
        let Proof { scheme, position } = *proof;
        let counter = || {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            let labels = ProofLabels { source: self.source_text(), scheme: scheme.as_str(), position };
            self.metrics.proofs.get_or_create(&labels).clone()
        };
        match self.proofs[scheme as usize].get(position) {
            Some(kept) => kept.get_or_init(counter).inc(),
            None => counter().inc(),
        };
    }
}
