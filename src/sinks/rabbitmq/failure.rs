//! What the server's refusals mean, and what to do about them.

use lapin::ErrorKind;

use super::super::failure::of_connection;

/// Characters of the server's own words that are passed on.
const MAX_WORDS: usize = 200;

/// Codes of AMQP 0-9-1, 1.1 and 1.4.2.3.
const CONNECTION_FORCED: u16 = 320;
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// Why something failed, for people. The server's words hold names of users, virtual hosts and exchanges, and nothing of
/// a message.
pub(super) fn describe(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => {
            let words: String = error.get_message().as_str().chars().take(MAX_WORDS).collect();
            match error.get_id() {
                ACCESS_REFUSED if words.contains("ogin") => "the server refuses the credentials".to_owned(),
                ACCESS_REFUSED => format!("{words}; give the user the right to write to the exchange"),
                NOT_FOUND => format!("{words}; declare it, durable, and bind a queue to it"),
                NOT_ALLOWED => format!("{words}; add the virtual host, or give the user a right to it"),
                CONNECTION_FORCED => "the server ended the connection; it stops, or someone closed it".to_owned(),
                code => format!("the server refused: {words} ({code})"),
            }
        }
        ErrorKind::IOError(error) => of_connection(error),
        ErrorKind::MissingHeartbeatError => "the server gave no sign of life".to_owned(),
        ErrorKind::InvalidProtocolVersion(_) | ErrorKind::ParsingError(_) => {
            "the server does not speak AMQP 0-9-1".to_owned()
        }
        ErrorKind::ChannelsLimitReached => "the server's channel_max is below concurrency".to_owned(),
        _ => "the connection broke".to_owned(),
    }
}

/// The server's `max_message_size`, where a message was refused for being larger: `PRECONDITION_FAILED - message size 9
/// is larger than configured max size 5`.
pub(super) fn max_message(error: &lapin::Error) -> Option<u64> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    if error.get_id() != PRECONDITION_FAILED {
        return None;
    }
    let (_, limit) = error.get_message().as_str().split_once("larger than configured max size ")?;
    let digits: String = limit.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Whether a message was refused for its expiration, which is looked at after every right to publish it.
pub(super) fn is_about_expiration(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    error.get_id() == PRECONDITION_FAILED && error.get_message().as_str().contains("expiration")
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPHardError, AMQPSoftError};

    use super::*;

    #[test]
    fn refusals_say_what_to_do() {
        let soft = |kind: AMQPSoftError, words: &str| {
            lapin::Error::from(ErrorKind::ProtocolError(AMQPError::new(kind.into(), words.into())))
        };
        for (error, expected) in [
            (
                soft(AMQPSoftError::NOTFOUND, "NOT_FOUND - no exchange 'hooks' in vhost '/'"),
                "NOT_FOUND - no exchange 'hooks' in vhost '/'; declare it, durable, and bind a queue to it",
            ),
            (
                soft(AMQPSoftError::ACCESSREFUSED, "ACCESS_REFUSED - Login was refused using authentication mechanism"),
                "the server refuses the credentials",
            ),
        ] {
            assert_eq!(describe(&error), expected);
        }
        let large = "PRECONDITION_FAILED - message size 9000 is larger than configured max size 5000";
        assert_eq!(max_message(&soft(AMQPSoftError::PRECONDITIONFAILED, large)), Some(5000));
        assert_eq!(max_message(&soft(AMQPSoftError::PRECONDITIONFAILED, "PRECONDITION_FAILED - else")), None);
        let hard = AMQPError::new(AMQPHardError::CONNECTIONFORCED.into(), "CONNECTION_FORCED - bye".into());
        assert!(describe(&ErrorKind::ProtocolError(hard).into()).starts_with("the server ended the connection"));
    }
}
