//! What a sink's expressions do to events on their way: `where` drops those that it does not want before they take a
//! place in the window, `map` changes what it is sent. They are evaluated on threads that may block.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::task::JoinError;
use tracing::{debug, warn};

use crate::config::Expressions;
use crate::event::{Event, Record};
use crate::expression::{Cannot, Condition};
use crate::journal::{Entry, Outcome, Ticket};
use crate::metrics::{ExpressionLabels, Metrics, SinkLabels};
use crate::names::SinkName;

/// Makes the typed view of a record: `sources::Sources::decode`.
pub type Decode = Arc<dyn Fn(Arc<Record>) -> Event + Send + Sync>;

/// Events decoded before others have their turn on the thread.
const AT_ONCE: usize = 32;

/// From records to what a sink is handed.
pub struct Sieve {
    sink: SinkName,
    expressions: Expressions,
    decode: Decode,
    metrics: Arc<Metrics>,
}

/// What is left of entries, and what became of the others.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    pub(super) wanted: Vec<Entry>,
    pub(super) outcomes: Vec<(Ticket, Outcome)>,
}

/// What an entry is to its sink.
enum Found {
    Wanted,
    Unwanted,
    /// `where` has no result, which counts as unwanted.
    Unclear(Cannot),
    /// `map` has no result.
    Unmappable(Cannot),
}

impl Sieve {
    /// A sieve for this sink. `decode` makes the typed view of a record.
    pub fn new(sink: SinkName, expressions: Expressions, decode: Decode, metrics: Arc<Metrics>) -> Self {
        Self { sink, expressions, decode, metrics }
    }

    /// Takes out what the sink does not want, and what its `map` cannot be applied to: that is a dead letter at once,
    /// since it would fail each time. An error means that the thread ended in the middle, and that the entries are to be
    /// read again.
    pub(super) async fn sift(&self, entries: Vec<Entry>) -> Result<Sifted, JoinError> {
        if self.expressions.is_empty() || entries.is_empty() {
            return Ok(Sifted { wanted: entries, outcomes: Vec::new() });
        }
        let (expressions, decode) = (self.expressions.clone(), self.decode.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let look = |entry: Entry| {
                let look = AssertUnwindSafe(|| look(&expressions, &decode(entry.record.clone())));
                // The call that it goes to meets the same, and finds whose event it is.
                (catch_unwind(look).unwrap_or(Found::Wanted), entry)
            };
            entries.into_iter().map(look).collect::<Vec<_>>()
        });
        let mut sifted = Sifted::default();
        for (found, entry) in looked.await? {
            match found {
                Found::Wanted => sifted.wanted.push(entry),
                Found::Unwanted | Found::Unclear(_) => {
                    if let Found::Unclear(why) = found {
                        self.count("where");
                        debug!(sink = %self.sink, event = %entry.record.id, %why, "where has no result, and counts as false");
                    }
                    self.metrics.sink_filtered.get_or_create(&SinkLabels { sink: self.sink.to_string() }).inc();
                    sifted.outcomes.push((entry.ticket, Outcome::LetGo));
                }
                Found::Unmappable(why) => {
                    self.count("map");
                    let (id, kind) = (entry.record.id, entry.record.kind);
                    warn!(sink = %self.sink, event = %id, %kind, %why, "map has no result; the event is a dead letter now");
                    sifted.outcomes.push((entry.ticket, Outcome::Dead { reason: no_map(why), attempts: 0 }));
                }
            }
        }
        Ok(sifted)
    }

    /// What the sink is handed of these records; the position of one whose `map` has no result, and why. That can only be
    /// one that was parked when the configuration was another.
    pub(super) async fn events(&self, records: Vec<Arc<Record>>) -> Result<Vec<Event>, (usize, String)> {
        let decode = self.decode.clone();
        let Some(mapping) = self.expressions.mapping.clone() else {
            let mut events = Vec::with_capacity(records.len());
            for record in records {
                if events.len() % AT_ONCE == AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
                events.push(decode(record));
            }
            return Ok(events);
        };
        let mapped = tokio::task::spawn_blocking(move || {
            let one = |(position, record)| mapping.apply(&decode(record)).map_err(|why| (position, no_map(why)));
            records.into_iter().enumerate().map(one).collect()
        });
        mapped.await.unwrap_or_else(|_| Err((0, "map ended without a result".to_owned())))
    }

    fn count(&self, expression: &'static str) {
        let labels = ExpressionLabels { sink: self.sink.to_string(), expression };
        self.metrics.sink_expression_failures.get_or_create(&labels).inc();
    }
}

fn look(expressions: &Expressions, event: &Event) -> Found {
    match expressions.condition.as_ref().map(|condition: &Condition| condition.holds(event)) {
        Some(Ok(false)) => return Found::Unwanted,
        Some(Err(why)) => return Found::Unclear(why),
        Some(Ok(true)) | None => {}
    }
    match expressions.mapping.as_ref().map(|mapping| mapping.apply(event)) {
        Some(Err(why)) => Found::Unmappable(why),
        Some(Ok(_)) | None => Found::Wanted,
    }
}

fn no_map(why: Cannot) -> String {
    format!("map: {why}")
}
