//! Words for failures that sinks have in common.

use std::io;

/// Why a connection could not be made, or ended: what the system or TLS says, in which stand names of hosts at most.
/// Any other text might be a server's, and repeat what it was sent.
pub(super) fn of_connection(error: &io::Error) -> String {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return format!("no TLS connection: {tls}");
    }
    match error.kind() {
        // How clients say that the other side hung up, too.
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => "the connection broke".to_owned(),
        _ if error.raw_os_error().is_some() => error.to_string(),
        kind => format!("the connection failed: {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_others_are_not_passed_on() {
        let tls = rustls::Error::General("of TLS".to_owned());
        for (error, expected) in [
            (io::Error::from_raw_os_error(111), "Connection refused (os error 111)"),
            (io::Error::from_raw_os_error(32), "the connection broke"),
            (io::Error::new(io::ErrorKind::UnexpectedEof, "marker"), "the connection broke"),
            (io::Error::other("marker"), "the connection failed: other error"),
            (io::Error::other(tls), "no TLS connection: unexpected error: of TLS"),
        ] {
            assert_eq!(of_connection(&error), expected);
        }
    }
}
