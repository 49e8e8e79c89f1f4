//! What is said and counted of a request: one line at info, and the metrics. Invariant 8: no query, header or body, and
//! the client's address only at debug.

use std::time::{Duration, Instant};

use http::{Method, Uri};
use tracing::{debug, info};
use uuid::Uuid;

use super::line_limit::Said;
use super::outcome::Outcome;
use super::tally::Tally;
use crate::event::{Arrival, Kind};
use crate::journal::Appended;
use crate::names::SourceName;

/// The longest path that is logged, in characters.
const PATH_CHARS: usize = 200;

/// A request, from its headers to its answer. Dropped without an answer, it tells of a client that went away.
pub(super) struct RequestLog<'a> {
    tally: &'a Tally,
    started: Instant,
    request_id: Uuid,
    method: Method,
    uri: Uri,
    bytes: usize,
    accepted: usize,
    duplicates: usize,
    journal: Option<Duration>,
    reason: Option<String>,
    finished: bool,
}

impl<'a> RequestLog<'a> {
    /// A request whose headers have arrived.
    pub(super) fn begin(tally: &'a Tally, request_id: Uuid, method: Method, uri: Uri) -> Self {
        Self {
            tally,
            started: Instant::now(),
            request_id,
            method,
            uri,
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
        arrival.proofs.iter().for_each(|proof| self.tally.proof(proof));
    }

    /// The journal answered, or did not in time.
    pub(super) fn journal(&mut self, took: Duration) {
        self.journal = Some(took);
    }

    /// What became of its events.
    pub(super) fn appended(&mut self, events: impl Iterator<Item = (Kind, Appended)>) {
        for (kind, appended) in events {
            match appended {
                Appended::Stored => self.accepted += 1,
                Appended::Duplicate => self.duplicates += 1,
            }
            self.tally.event(kind, appended);
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

    fn tell(&mut self, outcome: Outcome) {
        self.finished = true;
        let now = Instant::now();
        let took = now - self.started;
        self.tally.request(outcome, took.as_secs_f64());
        let Said { line, untold } = self.tally.said(outcome, now);
        if untold > 0 {
            let source = self.tally.source().map(SourceName::as_str);
            info!(source, outcome = outcome.as_str(), requests = untold, "requests beyond log.request_lines");
        }
        if !line {
            return;
        }
        info!(
            request_id = %self.request_id,
            source = self.tally.source().map(SourceName::as_str),
            method = self.method.as_str(),
            path = path(&self.uri),
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

/// The path without the query, which may hold a key.
fn path(uri: &Uri) -> &str {
    let path = uri.path();
    path.char_indices().nth(PATH_CHARS).map_or(path, |(end, _)| &path[..end])
}

impl Drop for RequestLog<'_> {
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
