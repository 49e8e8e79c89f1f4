//! What a failure of a server or of the client means, in words of ours: those of a server may quote what it was sent.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, Value};

use super::super::BoxError;
use super::super::failure::of_connection;

/// What the codes say that a server answers with (<https://redis.io/docs/latest/develop/reference/protocol-spec/>). All
/// of them are mended by someone, or pass.
const CODES: &[(&str, &str)] = &[
    ("ASK", "the stream is being moved within the cluster"),
    ("BUSY", "the server is busy with a script"),
    ("CLUSTERDOWN", "the cluster is down"),
    ("LOADING", "the server is still loading its data"),
    ("MASTERDOWN", "the server has lost its master"),
    ("MISCONF", "the server cannot save to its disk, and takes nothing meanwhile"),
    ("MOVED", "the stream is on another node: the server is part of a cluster, which cluster = true makes use of"),
    ("NOAUTH", "the server wants a password"),
    ("NOPERM", "the user has not the rights that are needed"),
    ("NOREPLICAS", "the server has fewer replicas than it must have to take anything"),
    ("OOM", "the server has reached maxmemory, and takes nothing meanwhile"),
    ("READONLY", "the server is a replica, which takes nothing"),
    ("TRYAGAIN", "the stream is being moved within the cluster"),
    ("WRONGPASS", "username or password is not accepted"),
    ("WRONGTYPE", "the key of the stream holds something that is none"),
];

/// The failure in words, without anything of an event or a secret.
pub(super) fn describe(error: &RedisError) -> String {
    match error.kind() {
        // The client tries again without a name after WRONGPASS, and tells of it in words of its own.
        ErrorKind::AuthenticationFailed => "username or password is not accepted".to_owned(),
        ErrorKind::Io | ErrorKind::Client => connection(error),
        ErrorKind::ClusterConnectionNotFound => "no node of the cluster can be reached".to_owned(),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => "the answer is none that Redis gives".to_owned(),
        ErrorKind::InvalidClientConfig => "the certificates or the key cannot be used".to_owned(),
        _ => server(error),
    }
}

/// The code that the server answered with: of a transaction that it gave up, the one of the command at fault.
pub(super) fn code(error: &RedisError) -> Option<String> {
    let code = match error.clone().into_server_errors() {
        Some(errors) => errors.first().map(|(_, error)| error.code().to_owned()),
        None => error.code().map(ToOwned::to_owned),
    }?;
    let known = code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    known.then_some(code)
}

fn server(error: &RedisError) -> String {
    let Some(code) = code(error) else { return "the server answered with an error".to_owned() };
    match CODES.iter().find(|(known, _)| *known == code) {
        Some((_, meaning)) => format!("{meaning} ({code})"),
        None => format!("the server answered {code}"),
    }
}

fn connection(error: &RedisError) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    // The client holds what it was told by others in this way.
    type Cause = Arc<dyn Error + Send + Sync>;
    let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<Cause>()) else {
        return "the connection failed".to_owned();
    };
    match (cause.downcast_ref::<io::Error>(), cause.downcast_ref::<rustls::Error>()) {
        (Some(io), _) => of_connection(io),
        (None, Some(tls)) => format!("no TLS connection: {tls}"),
        (None, None) => "the connection failed".to_owned(),
    }
}

/// The same as an error.
pub(super) fn described(error: RedisError) -> BoxError {
    describe(&error).into()
}

/// The error in an answer.
pub(super) fn refusal(answer: Value) -> Option<RedisError> {
    match answer {
        Value::ServerError(error) => Some(error.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_described_and_texts_are_not_passed_on() {
        for (answer, expected) in [
            ("-LOADING s3cr3t", "the server is still loading its data (LOADING)"),
            ("-MISCONF s3cr3t", "the server cannot save to its disk, and takes nothing meanwhile (MISCONF)"),
            ("-NEW_CODE s3cr3t", "the server answered NEW_CODE"),
            ("-ERR s3cr3t", "the server answered ERR"),
            ("-s3cr3t s3cr3t", "the server answered with an error"),
        ] {
            let value = redis::parse_redis_value(format!("{answer}\r\n").as_bytes()).unwrap();
            assert_eq!(describe(&refusal(value).unwrap()), expected);
        }
        let parsed = redis::parse_redis_value(b"?s3cr3t\r\n").unwrap_err();
        assert_eq!(describe(&parsed), "the answer is none that Redis gives");
        assert_eq!(describe(&io::Error::other("s3cr3t").into()), "the connection failed: other error");
    }
}
