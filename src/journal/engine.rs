//! Which engine keeps the journal.

use std::sync::Arc;

use super::{Journal, jetstream, sqlite};
use crate::config::{Engine, JournalConfig};
use crate::metrics::Metrics;

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The embedded one.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// The distributed one.
    #[error(transparent)]
    Jetstream(#[from] jetstream::OpenError),
    /// Opening was given up half-way, which only the end of the runtime can cause.
    #[error("opening the journal stopped half-way")]
    Stopped,
}

/// Opens the journal that the configuration names.
///
/// # Errors
/// Those of the engine, whose texts name what to look at.
pub async fn open(config: &JournalConfig, metrics: Arc<Metrics>) -> Result<Arc<dyn Journal>, OpenError> {
    match &config.engine {
        Engine::Sqlite(file) => {
            let (config, file) = (config.clone(), file.clone());
            // Opening may recover a write-ahead log, which is blocking work.
            let open = move || sqlite::SqliteJournal::open(&config, &file, metrics);
            let journal = tokio::task::spawn_blocking(open).await.map_err(|_| OpenError::Stopped)??;
            Ok(Arc::new(journal))
        }
        Engine::Jetstream(own) => Ok(Arc::new(jetstream::JetstreamJournal::open(config, own, metrics).await?)),
    }
}
