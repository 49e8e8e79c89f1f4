//! What stands before every admin route but the health paths: the Host it names (against DNS rebinding), where a
//! browser says a state change comes from (against cross-site requests), and the token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HOST, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};

use super::Admin;
use crate::http::Problem;

const OPEN_PATHS: [&str; 3] = ["/livez", "/readyz", "/healthz"];

/// Lets a request through, or answers 403 or 401.
pub(super) async fn protect(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if OPEN_PATHS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    if !names_known_host(&admin.hosts, &request) {
        return Problem::new(StatusCode::FORBIDDEN, "unknown Host; add it to admin.hosts").into_response();
    }
    let reads_only = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads_only && comes_from_another_site(request.headers()) {
        return Problem::new(StatusCode::FORBIDDEN, "state changes from another site are refused").into_response();
    }
    if !admin.token.is_empty() && !carries_token(&admin, request.headers()) {
        let mut answer =
            Problem::new(StatusCode::UNAUTHORIZED, "admin.token is needed as a bearer token").into_response();
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return answer;
    }
    next.run(request).await
}

/// Hosts are compared with and without their port, since `admin.hosts` names machines.
fn names_known_host(hosts: &[String], request: &Request) -> bool {
    let Some(host) = single(request.headers(), HOST).or_else(|| request.uri().authority().map(|a| a.as_str())) else {
        return false;
    };
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = without_port.trim_start_matches('[').trim_end_matches(']');
    hosts.iter().any(|known| [host, without_port, bare].iter().any(|form| known.eq_ignore_ascii_case(form)))
}

fn comes_from_another_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

fn carries_token(admin: &Admin, headers: &HeaderMap) -> bool {
    let Some((scheme, token)) = single(headers, AUTHORIZATION).and_then(|value| value.split_once(' ')) else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer")
        && admin.token.position(|secret| secret.verify(token.trim().as_bytes())).is_some()
}

/// A header that stands once.
fn single(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}
