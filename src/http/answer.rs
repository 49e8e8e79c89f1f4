//! Answers: short, of our own words, and the same for the same outcome.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use uuid::Uuid;

use super::outcome::Outcome;
use super::problem::Problem;

/// The methods of webhooks.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");

/// Seconds after which a sender may try again. Neither sender is documented to look at it; proxies and others do.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// An answer before it is written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    detail: Option<&'static str>,
    content: Content,
    close: bool,
}

#[derive(Debug)]
enum Content {
    Empty,
    Counts { accepted: usize, duplicates: usize },
    Challenge(Vec<u8>),
    Problem { challenges: Vec<&'static str> },
}

impl Answer {
    /// 200 to a POST: so many of its events are new, so many the journal held already.
    pub(super) fn accepted(accepted: usize, duplicates: usize) -> Self {
        Self::of(Outcome::Accepted, Content::Counts { accepted, duplicates })
    }

    /// 200 with nothing in it.
    pub(super) fn empty() -> Self {
        Self::of(Outcome::Handshake, Content::Empty)
    }

    /// 200 with exactly these bytes, which someone else chose.
    pub(super) fn challenge(bytes: Vec<u8>) -> Self {
        Self::of(Outcome::Handshake, Content::Challenge(bytes))
    }

    /// 401 with these values for `WWW-Authenticate`.
    pub(super) fn unauthorized(challenges: Vec<&'static str>) -> Self {
        Self::of(Outcome::Unauthorized, Content::Problem { challenges })
    }

    /// The same with words of its own.
    pub(super) fn saying(self, detail: &'static str) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// The same, as the last one on its connection where `close` is true.
    pub(super) fn closing(self, close: bool) -> Self {
        Self { close, ..self }
    }

    fn of(outcome: Outcome, content: Content) -> Self {
        // The next try shall find another process; and what is left of a body that was not read ends the connection,
        // which a client must know that would send its next request over it.
        let close = matches!(outcome, Outcome::Draining | Outcome::TooLarge | Outcome::SlowBody | Outcome::BrokenBody);
        Self { outcome, detail: None, content, close }
    }

    /// The answer with its `x-request-id`.
    pub(super) fn into_response(self, request_id: Uuid) -> Response {
        let status = self.outcome.status();
        let detail = self.detail.unwrap_or_else(|| self.outcome.detail());
        let mut response = match self.content {
            Content::Empty => {
                let mut response = Response::new(Body::empty());
                // hyper says it of a GET, and not of a HEAD.
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                response
            }
            Content::Counts { accepted, duplicates } => {
                let body = format!("{{\"accepted\":{accepted},\"duplicates\":{duplicates}}}");
                with_type(Body::from(body), HeaderValue::from_static("application/json"))
            }
            Content::Challenge(bytes) => {
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                let mut response = with_type(Body::from(bytes), plain);
                // Whoever asks chooses the text: no browser may take it for a page, and no cache may keep it.
                let headers = response.headers_mut();
                headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
            Content::Problem { challenges } => {
                let mut response = Problem::new(status, detail).into_response();
                for challenge in challenges {
                    response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                }
                response
            }
        };
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if self.outcome == Outcome::MethodNotAllowed {
            headers.insert(ALLOW, METHODS);
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        let mut text = Uuid::encode_buffer();
        let request_id = HeaderValue::from_str(request_id.hyphenated().encode_lower(&mut text));
        headers.insert(HeaderName::from_static("x-request-id"), request_id.expect("a UUID is ASCII"));
        response
    }
}

impl From<Outcome> for Answer {
    /// The answer to a request that is not served.
    fn from(outcome: Outcome) -> Self {
        Self::of(outcome, Content::Problem { challenges: Vec::new() })
    }
}

fn with_type(body: Body, content_type: HeaderValue) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
