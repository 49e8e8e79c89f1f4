//! `/api/v1`: what a running server is asked and told by the command line.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Admin;
use crate::event::{Event, Format};
use crate::http::Problem;
use crate::journal::{DeadLetter, JournalError, JournalStatus, Letters, ReplayProgress, ReplayRequest, SinkStatus};
use crate::names::SinkName;

/// The most dead letters a page.
const PAGE: usize = 1000;

type Answer<T> = Result<Json<T>, Problem>;

/// How many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub count: u64,
}

/// `POST /api/v1/sinks/{name}/rename`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rename {
    /// The new name.
    pub to: SinkName,
}

/// `GET /api/v1/dead-letters/{id}`
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    letter: DeadLetter,
    /// The CloudEvent, with `data.raw`.
    event: Box<RawValue>,
}

pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Json<JournalStatus> {
    Json(admin.journal.status())
}

pub(super) async fn sinks(State(admin): State<Arc<Admin>>) -> Answer<Vec<SinkStatus>> {
    Ok(Json(admin.journal.sinks().await?))
}

pub(super) async fn forget_sink(
    State(admin): State<Arc<Admin>>,
    name: Result<Path<SinkName>, PathRejection>,
) -> Answer<Count> {
    let Path(name) = name?;
    admin.journal.forget_sink(&name).await?;
    tracing::info!(sink = %name, "sink forgotten");
    Ok(Json(Count { count: 1 }))
}

pub(super) async fn rename_sink(
    State(admin): State<Arc<Admin>>,
    name: Result<Path<SinkName>, PathRejection>,
    body: Result<Json<Rename>, JsonRejection>,
) -> Answer<Count> {
    let (Path(name), Json(rename)) = (name?, body?);
    admin.journal.rename_sink(&name, &rename.to).await?;
    tracing::info!(sink = %name, to = %rename.to, "sink renamed");
    Ok(Json(Count { count: 1 }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    sink: Option<SinkName>,
    #[serde(default)]
    after: i64,
    limit: Option<usize>,
}

pub(super) async fn dead_letters(
    State(admin): State<Arc<Admin>>,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Answer<Vec<DeadLetter>> {
    let Query(listing) = listing?;
    let limit = listing.limit.unwrap_or(PAGE).min(PAGE);
    Ok(Json(admin.journal.dead_letters(listing.sink.as_ref(), listing.after, limit).await?))
}

pub(super) async fn dead_letter(
    State(admin): State<Arc<Admin>>,
    id: Result<Path<i64>, PathRejection>,
) -> Answer<Shown> {
    let Path(id) = id?;
    let Some((letter, record)) = admin.journal.dead_letter(id).await? else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no dead letter of this number"));
    };
    let event: Event = admin.sources.decode(Arc::new(record));
    // As it is, not taken apart: what a sink gave up on may be as deep or large as a body can be.
    let event = String::from_utf8(event.to_json(Format::Cloudevents, true)).ok();
    match event.and_then(|event| RawValue::from_string(event).ok()) {
        Some(event) => Ok(Json(Shown { letter, event })),
        None => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the event makes no JSON")),
    }
}

pub(super) async fn retry_dead_letters(
    State(admin): State<Arc<Admin>>,
    which: Result<Json<Letters>, JsonRejection>,
) -> Answer<Count> {
    let Json(which) = which?;
    Ok(Json(Count { count: admin.journal.retry_dead_letters(which).await? }))
}

pub(super) async fn drop_dead_letters(
    State(admin): State<Arc<Admin>>,
    which: Result<Json<Letters>, JsonRejection>,
) -> Answer<Count> {
    let Json(which) = which?;
    let count = admin.journal.drop_dead_letters(which).await?;
    tracing::info!(count, "dead letters dropped");
    Ok(Json(Count { count }))
}

pub(super) async fn start_replay(
    State(admin): State<Arc<Admin>>,
    request: Result<Json<ReplayRequest>, JsonRejection>,
) -> Answer<ReplayProgress> {
    let Json(request) = request?;
    let progress = admin.journal.start_replay(request).await?;
    tracing::info!(replay = progress.id, sink = %progress.sink, events = progress.total, "replay started");
    Ok(Json(progress))
}

pub(super) async fn replay(
    State(admin): State<Arc<Admin>>,
    id: Result<Path<i64>, PathRejection>,
) -> Answer<ReplayProgress> {
    let Path(id) = id?;
    match admin.journal.replay(id).await? {
        Some(progress) => Ok(Json(progress)),
        None => Err(Problem::new(StatusCode::NOT_FOUND, "no replay of this number")),
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        let code = match error {
            JournalError::Refused(_) => StatusCode::CONFLICT,
            JournalError::Full(_) | JournalError::Busy | JournalError::Unavailable(_) | JournalError::Closed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Problem::new(code, error.to_string())
    }
}

macro_rules! bad_request {
    ($($rejection:ty),+) => { $(
        impl From<$rejection> for Problem {
            /// Nothing secret stands in paths, queries and bodies of the admin API, so the reason may be told.
            fn from(rejection: $rejection) -> Self {
                Problem::new(StatusCode::BAD_REQUEST, rejection.body_text())
            }
        }
    )+ };
}
bad_request!(JsonRejection, PathRejection, QueryRejection);
