//! What the server's answer to a publish means, and what to do about it.

use std::borrow::Cow;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::SinkError;
use super::super::template::Template;

/// Characters of the server's own words that are passed on.
const MAX_WORDS: usize = 200;

/// The identical message is being stored by another leader of the stream at this moment.
const DUPLICATE_IN_PROCESS: ErrorCode = ErrorCode(10158);

/// An acknowledgement, as far as it counts.
#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    #[expect(dead_code, reason = "what names no stream is no acknowledgement")]
    stream: Cow<'a, str>,
    seq: u64,
    error: Option<IgnoredAny>,
}

/// Whether the stream has the event. An acknowledgement as a duplicate says that it has.
pub(super) fn verdict(subject: &str, payload: &[u8]) -> Result<(), SinkError> {
    // The answer of nearly always. To find out what else it might be, all of it is built first.
    if let Ok(Stored { seq: 1.., error: None, .. }) = serde_json::from_slice(payload) {
        return Ok(());
    }
    match serde_json::from_slice(payload) {
        // Without a place it was not stored, whatever else the answer says.
        Ok(Response::Ok(PublishAck { sequence: 0, .. })) => {
            Err(SinkError::transient(format!("the stream on {subject} acknowledged without having stored")))
        }
        Ok(Response::Ok(PublishAck { .. })) => Ok(()),
        Ok(Response::Err { error }) => Err(refusal(&error)),
        Err(_) => Err(SinkError::transient(format!(
            "who answers on {subject} is no stream; another program has subscribed with replies"
        ))),
    }
}

fn refusal(error: &async_nats::jetstream::Error) -> SinkError {
    let words: String = error.to_string().chars().take(MAX_WORDS).collect();
    let hint = match error.error_code() {
        // The one refusal that is about the event and not about the stream.
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
            return SinkError::permanent(format!("larger than the stream's max_msg_size: {words}"));
        }
        ErrorCode::STREAM_STORE_FAILED => {
            "; the stream is full or its disk is: raise its limits, or let it discard old"
        }
        ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => "; the limits of the server or the account are reached",
        ErrorCode::STREAM_SEALED => "; unseal it or publish elsewhere",
        DUPLICATE_IN_PROCESS => "; it is asked again",
        _ => "",
    };
    SinkError::transient(format!("the stream refused: {words}{hint}"))
}

/// Nobody listens on the subject.
pub(super) fn no_stream(subject: &str, template: &Template) -> String {
    let all = listening(template);
    format!("no stream listens on {subject}; add one: nats stream add HOOKS --subjects '{all}'")
}

/// What a stream would listen on to have all events: the words before the first name, and everything below.
fn listening(template: &Template) -> String {
    let text = template.as_str();
    let Some(name) = text.find('{') else { return text.to_owned() };
    text[..name].rfind('.').map_or_else(|| ">".to_owned(), |dot| format!("{}.>", &text[..dot]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_place_in_the_stream_is_a_success() {
        for good in [r#"{"stream":"HOOKS","seq":1}"#, r#"{"stream":"HOOKS","seq":7,"duplicate":true,"domain":"x"}"#] {
            assert!(verdict("hooks.a", good.as_bytes()).is_ok(), "{good}");
        }
        for (bad, why) in [
            (r#"{"stream":"HOOKS","seq":0,"duplicate":true}"#, "without having stored"),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"H","seq":0}"#,
                "maximum bytes exceeded (code 503, error code 10077); the stream is full",
            ),
            (
                r#"{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"}}"#,
                "it is asked again",
            ),
            (r#"{"error":{"code":500,"err_code":99999,"description":"new"}}"#, "the stream refused: new"),
            ("thanks", "no stream"),
            ("", "no stream"),
            ("{}", "no stream"),
        ] {
            match verdict("hooks.a", bad.as_bytes()) {
                Err(SinkError::Transient { source, .. }) => {
                    assert!(source.to_string().contains(why), "{bad}: {source}")
                }
                other => panic!("{bad}: {other:?}"),
            }
        }
        let large = r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}"#;
        assert!(matches!(verdict("hooks.a", large.as_bytes()), Err(SinkError::Permanent { .. })));
    }

    #[test]
    fn the_advice_has_everything_below_the_constant_part() {
        for (template, expected) in [
            ("hooks.{source}.{kind}", "hooks.>"),
            ("a.b-{source}", "a.>"),
            ("{kind}", ">"),
            ("x{kind}", ">"),
            ("hooks", "hooks"),
        ] {
            assert_eq!(listening(&Template::parse(template).unwrap()), expected);
        }
    }
}
