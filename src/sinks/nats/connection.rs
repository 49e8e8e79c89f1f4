//! One connection to a server, which does not outlive its first trouble.
//!
//! async-nats would reconnect by itself and publish then what it still holds: events of calls that failed long ago. Here
//! a connection that breaks is over, and what it holds is dropped with it. The next call makes another and publishes
//! anew, so that what reaches the stream is never older than the call it belongs to. What a failed call may have left in
//! the buffers of a connection that hangs can still arrive, but never before an earlier event of the same person: while
//! it was on its way, none of the later ones was.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::io;
use std::time::Duration;

use async_nats::{
    Client, ConnectError, ConnectErrorKind, Event, HeaderMap, Request, RequestErrorKind, ServerError, ServerInfo,
};
use bytes::Bytes;
use tokio::sync::watch;

use super::super::failure::of_connection;
use super::settings::NatsSinkConfig;
use crate::remote::nats;

/// Where nobody can be reached: the one place a broken connection may look for a server.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// How often an idle connection is tried; it counts as broken when two such answers are missing.
const PING: Duration = Duration::from_secs(15);

/// A connection.
pub(super) struct Connection {
    client: Client,
    seen: watch::Receiver<Seen>,
}

/// What the server said unasked.
#[derive(Default)]
struct Seen {
    /// The connection has ended or is about to.
    over: bool,
    /// Subjects to which the user may not publish.
    refused: BTreeSet<String>,
    /// The user may not subscribe to where answers come.
    no_answers: bool,
}

/// Why there is no answer to a publish.
pub(super) enum Unanswered {
    /// The message is larger than the server takes.
    TooLarge {
        /// `max_payload` of the server.
        limit: usize,
    },
    /// Nobody listens on the subject.
    NoResponders,
    /// The connection is of no use any more.
    Broken,
}

impl Connection {
    /// Connects to any of the servers, with the secrets of now. The error says what to do, and no secret.
    pub(super) async fn open(config: &NatsSinkConfig) -> Result<Self, String> {
        let (tell, seen) = watch::channel(Seen::default());
        let options = nats::options(&config.login, &config.tls, config.requires_tls())?;
        let options = if config.tls_first { options.tls_first() } else { options };
        let options = options
            .connection_timeout(config.calls.connect_timeout)
            .request_timeout(None)
            .custom_inbox_prefix(&config.inbox_prefix)
            .ping_interval(PING)
            .ignore_discovered_servers()
            .max_reconnects(config.url.len())
            .reconnect_delay_callback(|_| Duration::ZERO)
            .event_callback(move |event| {
                tell.send_modify(|seen| seen.note(event));
                std::future::ready(())
            });
        readable(config).await?;
        let client = options.connect(&config.url[..]).await.map_err(|error| describe(&error))?;
        client.set_server_pool(NOWHERE).await.map_err(|_| "the connection broke".to_owned())?;
        Ok(Self { client, seen })
    }

    /// Whether it can be used.
    pub(super) fn is_alive(&self) -> bool {
        !self.seen.borrow().over
    }

    /// What the server said of itself when it was connected to.
    pub(super) fn server(&self) -> ServerInfo {
        self.client.server_info()
    }

    /// Waits until the server says that the user may not publish to one of these subjects, or may not be answered: what
    /// is not allowed; none if the connection ended. The server says so beside the connection's other traffic, and in
    /// answer to nothing.
    pub(super) async fn denied<S>(&self, subjects: impl Fn() -> S) -> Option<String>
    where
        S: Iterator<Item = String>,
    {
        let denied = |seen: &Seen| {
            if seen.no_answers {
                return Some("subscribe to its inbox (inbox_prefix)".to_owned());
            }
            let refused = |subject: &String| seen.refused.contains(subject);
            let subject = if seen.refused.is_empty() { None } else { subjects().find(refused) };
            subject.map(|subject| format!("publish to {subject}"))
        };
        let mut seen = self.seen.clone();
        let mut what = None;
        // An error says that nothing will be seen any more.
        let _ = seen
            .wait_for(|seen| {
                what = denied(seen);
                what.is_some()
            })
            .await;
        what
    }

    /// Publishes and waits for the answer, however long it takes.
    pub(super) async fn ask(&self, subject: &str, headers: HeaderMap, payload: Bytes) -> Result<Bytes, Unanswered> {
        let request = Request::new().headers(headers).payload(payload);
        let answer = self.client.send_request(subject.to_owned(), request).await;
        answer.map(|message| message.payload).map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Unanswered::NoResponders,
            RequestErrorKind::MaxPayloadExceeded => Unanswered::TooLarge { limit: self.client.max_payload() },
            _ => Unanswered::Broken,
        })
    }
}

impl Seen {
    fn note(&mut self, event: Event) {
        match event {
            // In lame duck mode a server is about to end, and takes no new connections: another one is looked for.
            Event::Disconnected | Event::Closed | Event::LameDuckMode => self.over = true,
            Event::ServerError(ServerError::Other(text)) => self.note_error(&text),
            _ => {}
        }
    }

    /// `Permissions Violation for Publish to "hooks.a"`
    fn note_error(&mut self, text: &str) {
        let Some(violation) = text.strip_prefix("Permissions Violation for ") else { return };
        match violation.strip_prefix("Publish to ") {
            Some(subject) => {
                self.refused.insert(subject.trim_matches('"').to_owned());
            }
            None => self.no_answers |= violation.starts_with("Subscription"),
        }
    }
}

/// The library reads the files of TLS by itself; here what it could not use is named.
async fn readable(config: &NatsSinkConfig) -> Result<(), String> {
    let pem = config.tls.load().await.map_err(|error| error.to_string())?;
    let client = pem.client.as_ref().map(|(certificate, _)| certificate);
    for (key, bytes) in [("ca_file", pem.ca.as_ref()), ("client_cert_file", client)] {
        if bytes.is_some_and(|bytes| memchr::memmem::find(bytes, b"-----BEGIN CERTIFICATE-----").is_none()) {
            return Err(format!("{key} holds no certificate (PEM)"));
        }
    }
    Ok(())
}

/// Why there is no connection. The words of a server, which might repeat what it was sent, are not passed on.
fn describe(error: &ConnectError) -> String {
    match error.kind() {
        ConnectErrorKind::Dns => "the server's name has no address".to_owned(),
        ConnectErrorKind::AuthorizationViolation => "the server refuses the credentials".to_owned(),
        ConnectErrorKind::Authentication => "nkey or credentials hold a key that cannot sign".to_owned(),
        ConnectErrorKind::TimedOut => "cannot connect within connect_timeout".to_owned(),
        _ => match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
            Some(error) if error.kind() == io::ErrorKind::InvalidInput => {
                "cannot connect: the server does not speak NATS".to_owned()
            }
            Some(error) => format!("cannot connect: {}", of_connection(error)),
            None => "cannot connect: the server refuses, or is none of NATS".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_noted_by_subject() {
        let mut seen = Seen::default();
        let said = |text: &str| Event::ServerError(ServerError::Other(text.to_owned()));
        seen.note(said("Permissions Violation for Publish to \"hooks.a.meta.read\""));
        assert!(seen.refused.contains("hooks.a.meta.read") && !seen.no_answers && !seen.over);
        seen.note(said("Permissions Violation for Subscription to \"_INBOX.abc.*\""));
        assert!(seen.no_answers && !seen.over);
        seen.note(Event::LameDuckMode);
        assert!(seen.over);
    }
}
