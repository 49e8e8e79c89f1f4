//! The sink of the demo: a line an event, with personal data, since the samples are nobody's.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use hooksink::event::{Event, EventId, Subject};
use hooksink::sinks::{Sink, Undelivered};
use serde_json::Value;
use tokio::sync::watch;

use super::output::print;

/// Characters of `data` shown.
const SHOWN: usize = 110;

/// Prints events, and counts those received since it was made: an earlier demo may have left some.
pub(crate) struct Console {
    since: DateTime<Utc>,
    seen: Mutex<HashSet<EventId>>,
    arrived: watch::Sender<u64>,
}

impl Console {
    pub(crate) fn new(since: DateTime<Utc>) -> Self {
        Self { since, seen: Mutex::default(), arrived: watch::Sender::new(0) }
    }

    /// How many different events have arrived.
    pub(crate) fn arrived(&self) -> watch::Receiver<u64> {
        self.arrived.subscribe()
    }
}

#[async_trait]
impl Sink for Console {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        for event in events {
            // That the terminal has gone is no reason to keep the event.
            let _ = print(&line(event));
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if event.record.received_at >= self.since && seen.insert(event.record.id) {
                self.arrived.send_modify(|arrived| *arrived += 1);
            }
        }
        Ok(())
    }
}

fn line(event: &Event) -> String {
    let kind = event.record.kind.as_str();
    let subject = event.record.subject.as_ref().map_or("-", Subject::as_str);
    // A line stays a line.
    let subject = subject.replace(char::is_control, "\u{fffd}");
    let text = serde_json::to_string(&*event.payload).unwrap_or_default();
    // JSON that this parser does not take, with half an emoji in it, is shown as it is.
    let data = match serde_json::from_str(&text) {
        Ok(mut data) => {
            leave_out_empty(&mut data);
            data.to_string()
        }
        Err(_) => text,
    };
    let mut shown: String = data.chars().take(SHOWN).collect();
    if shown.len() < data.len() {
        shown.push('…');
    }
    format!("  {kind:<36} {subject:<20} {shown}\n")
}

/// Fields that say nothing take the place of those that do.
fn leave_out_empty(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(leave_out_empty);
        fields.retain(|_, value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        });
    }
}
