//! `/livez`, `/readyz` and `/healthz`. A sink that is down fails none of them: its events wait in the journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::Admin;

/// 200 as long as the process answers.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// 200 while webhooks are taken: the journal is writable, the disk above its reserve, and hooksink is not stopping.
/// `?verbose` lists the checks.
pub(super) async fn ready(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let status = admin.journal.status();
    let checks = [
        ("journal_writable", status.writable),
        ("disk_above_reserve", status.disk_above_reserve),
        ("not_draining", !admin.draining.load(Ordering::Relaxed)),
    ];
    let ready = checks.iter().all(|(_, holds)| *holds);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verdict = if ready { "ok\n" } else { "not ready\n" };
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    if !verbose {
        return (code, verdict).into_response();
    }
    let mark = |holds: bool| if holds { '+' } else { '-' };
    let lines: String = checks.iter().map(|(name, holds)| format!("[{}] {name}\n", mark(*holds))).collect();
    (code, lines + verdict).into_response()
}
