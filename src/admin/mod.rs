//! The admin listener: health, metrics and the API, each behind the protections of `protect`.

mod api;
mod backup;
mod health;
mod protect;

pub use api::{Count, Rename};
pub use backup::{BackupLine, BackupRequest};

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::config::AdminConfig;
use crate::http::Problem;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::secret::Secrets;
use crate::sources::Sources;

/// Bytes of a request's body: the longest is a list of numbers of dead letters.
const MAX_BODY: usize = 64 * 1024;

/// What the admin listener serves from.
pub struct Admin {
    journal: Arc<dyn Journal>,
    metrics: Arc<Metrics>,
    token: Secrets,
    hosts: Vec<String>,
    sources: Arc<Sources>,
    draining: AtomicBool,
}

impl Admin {
    /// An admin listener for this journal, to be bound to `address`.
    pub fn new(
        config: &AdminConfig,
        address: SocketAddr,
        sources: Arc<Sources>,
        journal: Arc<dyn Journal>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut hosts = config.hosts.clone();
        hosts.push(address.to_string());
        hosts.push(address.ip().to_string());
        Self { journal, metrics, token: config.token.clone(), hosts, sources, draining: AtomicBool::new(false) }
    }

    /// Turns readiness off, for good.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

/// Every route of the admin listener.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/healthz", get(health::ready))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/sinks", get(api::sinks))
        .route("/api/v1/sinks/{name}", axum::routing::delete(api::forget_sink))
        .route("/api/v1/sinks/{name}/rename", post(api::rename_sink))
        .route("/api/v1/dead-letters", get(api::dead_letters))
        .route("/api/v1/dead-letters/{id}", get(api::dead_letter))
        .route("/api/v1/dead-letters/retry", post(api::retry_dead_letters))
        .route("/api/v1/dead-letters/drop", post(api::drop_dead_letters))
        .route("/api/v1/replays", post(api::start_replay))
        .route("/api/v1/replays/{id}", get(api::replay))
        .route("/api/v1/journal/backup", post(backup::backup))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(admin.clone(), protect::protect))
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        // What is told here is about people: no cache may keep it, and no browser may take it for a page.
        .layer(SetResponseHeaderLayer::overriding(CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .layer(SetResponseHeaderLayer::overriding(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .layer(CatchPanicLayer::custom(|_| failed()))
        .with_state(admin)
}

async fn version() -> Json<serde_json::Value> {
    Json(json!({ "name": "hooksink", "version": env!("CARGO_PKG_VERSION") }))
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(CONTENT_TYPE, content_type)], admin.metrics.encode()).into_response()
}

async fn not_found() -> Problem {
    Problem::new(http::StatusCode::NOT_FOUND, "no such path on the admin listener")
}

async fn method_not_allowed() -> Problem {
    Problem::new(http::StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
}

/// The answer to a request whose handler panicked; the panic itself is in the log.
fn failed() -> Response {
    Problem::new(http::StatusCode::INTERNAL_SERVER_ERROR, "hooksink failed at this").into_response()
}
