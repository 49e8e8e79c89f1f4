//! What can become of a request, and the one place that says how it is answered, counted and logged.

use http::StatusCode;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its events are on disk, new or duplicate.
    Accepted,
    /// A HEAD, or a GET that the source shook hands with.
    Handshake,
    /// A GET with a wrong token.
    HandshakeRefused,
    /// A GET that is no handshake.
    HandshakeIncomplete,
    /// The path, or the source it names, does not exist.
    NotFound,
    /// Not a method of webhooks.
    MethodNotAllowed,
    /// hooksink is about to stop.
    Draining,
    /// `max_in_flight` or `max_buffered` is reached.
    Busy,
    /// The body is over the source's `max_body`.
    TooLarge,
    /// The body took longer than `body_read_timeout`. 503 rather than 408, which Webex Connect does not try again.
    SlowBody,
    /// The body ended early or its framing is broken.
    BrokenBody,
    /// Not authentic.
    Unauthorized,
    /// Authentic, with nothing in it.
    EmptyBody,
    /// Not JSON, and no secret proves that the sender meant it.
    NotJson,
    /// More is waiting to be written than `journal.queue`.
    JournalBusy,
    /// The size limit or the disk reserve is reached.
    JournalFull,
    /// The journal cannot write.
    JournalUnavailable,
    /// The journal took longer than `ack_timeout`; the append goes on, and the retry will be a duplicate.
    AckTimeout,
    /// A defect of ours: the handler panicked.
    Failed,
    /// The client went away before its answer; an append under way goes on.
    Disconnected,
}

impl Outcome {
    /// How many there are.
    pub(super) const COUNT: usize = Self::Disconnected as usize + 1;

    /// Its name in logs and in `hooksink_requests_total`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Handshake => "handshake",
            Self::HandshakeRefused => "handshake_refused",
            Self::HandshakeIncomplete => "handshake_incomplete",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Draining => "draining",
            Self::Busy => "busy",
            Self::TooLarge => "too_large",
            Self::SlowBody => "slow_body",
            Self::BrokenBody => "broken_body",
            Self::Unauthorized => "unauthorized",
            Self::EmptyBody => "empty_body",
            Self::NotJson => "not_json",
            Self::JournalBusy => "journal_busy",
            Self::JournalFull => "journal_full",
            Self::JournalUnavailable => "journal_unavailable",
            Self::AckTimeout => "ack_timeout",
            Self::Failed => "failed",
            Self::Disconnected => "disconnected",
        }
    }

    /// The status of its answer.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Accepted | Self::Handshake => StatusCode::OK,
            Self::HandshakeIncomplete | Self::BrokenBody | Self::EmptyBody | Self::NotJson => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::HandshakeRefused => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Draining
            | Self::Busy
            | Self::SlowBody
            | Self::JournalBusy
            | Self::JournalFull
            | Self::JournalUnavailable
            | Self::AckTimeout
            | Self::Disconnected => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What its answer says, for whoever debugs a sender. No cause and nothing of the request is in it.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Accepted | Self::Handshake | Self::Disconnected => "",
            Self::HandshakeRefused => "The verify token is wrong.",
            Self::HandshakeIncomplete => "This is not a subscription check.",
            Self::NotFound => "No webhook is configured here.",
            Self::MethodNotAllowed => "Webhooks are sent with POST.",
            Self::Draining => "The service is about to stop. Try again.",
            Self::Busy => "The service is busy. Try again.",
            Self::TooLarge => "The body is larger than this webhook takes.",
            Self::SlowBody => "The body took too long to arrive. Try again.",
            Self::BrokenBody => "The body cannot be read.",
            Self::Unauthorized => "The request is not authentic.",
            Self::EmptyBody => "The body is empty.",
            Self::NotJson => "The body is not JSON.",
            Self::JournalBusy | Self::JournalFull | Self::JournalUnavailable => "Nothing was stored. Try again.",
            Self::AckTimeout => "Storing takes longer than it may. Try again.",
            Self::Failed => "The service failed. Try again.",
        }
    }

    /// Whether the journal was asked: what `hooksink_ack_seconds` is about.
    pub(super) fn asked_the_journal(self) -> bool {
        matches!(
            self,
            Self::Accepted | Self::JournalBusy | Self::JournalFull | Self::JournalUnavailable | Self::AckTimeout
        )
    }
}
