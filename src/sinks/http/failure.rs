//! What an answer's status means. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;

/// What becomes of the events of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The target has them.
    Delivered,
    /// Later, perhaps.
    Again,
    /// The target will not have them.
    Refused,
}

/// What a status means, `permanent` being the statuses that the configuration calls final. All others are tried again:
/// a time-out, too many requests, server errors, what is mostly a misconfiguration that somebody mends, and redirects,
/// which are not followed since they could lead a signed request anywhere.
pub(super) fn verdict(status: StatusCode, permanent: &[u16]) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Delivered,
        code if permanent.contains(&code) => Verdict::Refused,
        _ => Verdict::Again,
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
pub(super) fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?.with_timezone(&Utc);
    // A date that has passed asks for nothing.
    Some((date - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_says_which_statuses_are_final() {
        for (status, expected) in [
            (200, Verdict::Delivered),
            (204, Verdict::Delivered),
            (301, Verdict::Again),
            (400, Verdict::Refused),
            (404, Verdict::Again),
            (429, Verdict::Again),
            (500, Verdict::Again),
            (501, Verdict::Refused),
            (599, Verdict::Again),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(verdict(status, &[200, 400, 501]), expected, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc3339("1994-11-06T08:49:07Z").expect("a time").with_timezone(&Utc);
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
