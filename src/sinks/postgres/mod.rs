//! `type = "postgres"`: events as rows of a table.
//!
//! A call is one statement, which inserts all of its rows or none: `on conflict (id) do nothing` makes a row of an event
//! that comes again no row of its own. It is sent with the types of its parameters and without a name, and nothing is
//! set for a session or locked for one, so that a pooler may give each statement another server connection.
//!
//! `data` is `jsonb`, which takes less than JSON allows: NUL and lone surrogates are replaced before it is sent, and
//! what else is refused (a number beyond its range, a nesting too deep) costs `data` and not the row.

mod check;
mod connection;
mod failure;
mod rows;
mod settings;
mod table;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use self::connection::Connection;
use self::failure::Failure;
use self::rows::Rows;
pub use self::settings::{PostgresSinkConfig, Server};
pub use self::table::TableName;
use super::{Blame, BoxError, Checked, Limits, Sink, Undelivered};
use crate::event::Event;

/// A commit costs about as much as inserting a hundred rows.
const LINGER: Duration = Duration::from_millis(5);

/// Inserts events into a table.
pub struct PostgresSink {
    config: PostgresSinkConfig,
    statement: String,
    /// Connections that no call uses now; as many as calls were made at once.
    idle: Mutex<Vec<Connection>>,
    /// Whether the table is there, and will do.
    prepared: AtomicBool,
}

impl PostgresSink {
    /// A sink of this configuration. Nothing is connected before the first event.
    pub fn new(config: PostgresSinkConfig) -> Self {
        let statement = config.table.insertion();
        Self { config, statement, idle: Mutex::default(), prepared: AtomicBool::new(false) }
    }

    /// A connection that no other call uses, with the table in order.
    async fn connection(&self) -> Result<Connection, Failure> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // What has ended since it was used is dropped.
        let open = std::iter::from_fn(idle).find(Connection::is_open);
        let connection = match open {
            Some(connection) => connection,
            None => Connection::open(&self.config).await?,
        };
        if !self.prepared.load(Ordering::Acquire) {
            table::prepare(&connection.client, &self.config.table, self.config.create_table).await?;
            self.prepared.store(true, Ordering::Release);
        }
        Ok(connection)
    }

    /// Inserts all rows, in their order; of what is refused for what it holds, without what that is.
    async fn insert(&self, connection: &Connection, rows: &mut Rows<'_>) -> Result<(), Undelivered> {
        // A stack: the rows to be inserted next are on top.
        let mut todo: Vec<Range<usize>> = Vec::new();
        todo.push(0..rows.len());
        while let Some(range) = todo.pop() {
            if range.is_empty() {
                continue;
            }
            let inserted = connection.client.execute_typed(&self.statement, &rows.parameters(&range).typed()).await;
            let Err(failure) = inserted.map_err(Failure::from) else { continue };
            if !failure.is_about_a_row() {
                if failure.is_about_the_table() {
                    self.prepared.store(false, Ordering::Release);
                }
                return Err(Undelivered::unknown(range.start, failure.text()));
            }
            let middle = range.start + range.len() / 2;
            if range.len() > 1 {
                todo.push(middle..range.end);
                todo.push(range.start..middle);
            } else if failure.may_be_about_data() && rows.leave_out(range.start, failure.text()) {
                todo.push(range);
            } else {
                return Err(Undelivered::refused(range.start, failure.text()));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for PostgresSink {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        let began = Instant::now();
        let late = || Undelivered::unknown(0, format!("no answer within {:?}", self.config.calls.timeout));
        let connecting = tokio::time::timeout(self.config.calls.timeout, self.connection());
        let connection =
            connecting.await.map_err(|_| late())?.map_err(|failure| Undelivered::unknown(0, failure.text()))?;
        let mut rows = Rows::new(events);
        let left = self.config.calls.timeout.saturating_sub(began.elapsed());
        match tokio::time::timeout(left, self.insert(&connection, &mut rows)).await {
            Ok(inserted) => {
                // After a failure another server may be the one that takes writes, and another password be right. An
                // event that was refused says nothing of the connection.
                if is_none_of_the_connection(&inserted) {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                }
                inserted
            }
            Err(_) => {
                connection.cancel(self.config.calls.connect_timeout);
                Err(late())
            }
        }
    }

    fn limits(&self) -> Limits {
        self.config.calls.limits(LINGER)
    }

    async fn check(&self) -> Result<Checked, BoxError> {
        match tokio::time::timeout(self.config.calls.timeout, check::check(&self.config, &self.statement)).await {
            Ok(checked) => checked.map_err(|failure| failure.text().into()),
            Err(_) => Err(format!("no answer within {:?}", self.config.calls.timeout).into()),
        }
    }

    async fn close(&self) -> Result<(), BoxError> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }
}

/// Whether what happened says nothing against the connection.
fn is_none_of_the_connection(inserted: &Result<(), Undelivered>) -> bool {
    inserted.as_ref().err().is_none_or(|failure| failure.blame == Blame::Event)
}
