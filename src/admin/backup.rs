//! `POST /api/v1/journal/backup`: a consistent copy of the journal, with progress as JSON lines.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Admin;
use crate::http::Problem;

/// Lines that may wait for a client that reads slowly; further progress is not told.
const WAITING_LINES: usize = 16;

/// What is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupRequest {
    /// The new file, below `journal.backup_dir`.
    pub file: PathBuf,
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BackupLine {
    /// How far it is.
    Progress {
        /// Pages copied.
        copied: u64,
        /// Pages in all.
        total: u64,
    },
    /// It is done.
    Done {
        /// Where the copy is.
        path: PathBuf,
    },
    /// It failed, and nothing is left of it.
    Failed {
        /// Why.
        error: String,
    },
}

pub(super) async fn backup(
    State(admin): State<Arc<Admin>>,
    request: Result<Json<BackupRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(request) = request?;
    let (lines, receiver) = mpsc::channel(WAITING_LINES);
    // A task of its own: a client that goes away does not leave half a copy.
    tokio::spawn(async move {
        let progress_lines = lines.clone();
        let progress = Box::new(move |copied, total| {
            let _ = progress_lines.try_send(BackupLine::Progress { copied, total });
        });
        let last = match admin.journal.backup(&request.file, progress).await {
            Ok(path) => {
                tracing::info!(path = %path.display(), "journal copied");
                BackupLine::Done { path }
            }
            Err(error) => {
                tracing::warn!(%error, "journal not copied");
                BackupLine::Failed { error: error.to_string() }
            }
        };
        let _ = lines.send(last).await;
    });
    let body = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<BackupLine>| {
        let line = receiver.recv().await?;
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), receiver))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response())
}
