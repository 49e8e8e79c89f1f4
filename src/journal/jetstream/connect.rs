//! The connection: how hooksink proves who it is, and what it asks of the servers before it keeps anything there.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::ContextBuilder;

use super::error::OpenError;
use crate::config::{JetstreamConfig, JournalConfig};
use crate::journal::jetstream::envelope;
use crate::remote::nats;

/// The oldest servers that keep what is kept here.
const OLDEST: (u64, u64) = (2, 11);
/// For a connection to one server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two tries to connect.
const RECONNECT: Duration = Duration::from_millis(500);
/// A connection that answers no ping is given up after twice this.
const PING: Duration = Duration::from_secs(3);
/// For an answer to a request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the servers.
pub(super) async fn connect(own: &JetstreamConfig) -> Result<Client, OpenError> {
    let unreachable = |reason: String| OpenError::Unreachable { servers: own.addresses(), reason };
    // Servers that are found through others come without a word on TLS.
    let options = nats::options(&own.login, &own.tls, own.requires_tls());
    let options = options
        .map_err(|error| unreachable(format!("journal: {error}")))?
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING)
        .max_reconnects(None)
        .reconnect_delay_callback(|tries| if tries < 2 { Duration::from_millis(50) } else { RECONNECT });
    options.connect(&own.servers).await.map_err(|error| unreachable(error.kind().to_string()))
}

/// Why this server cannot keep the journal, if so.
pub(super) fn unfit(client: &Client, config: &JournalConfig) -> Option<OpenError> {
    let info = client.server_info();
    let unfit = |reason: String| {
        let server = format!("{} {}", info.server_name, info.version);
        Some(OpenError::Unfit { server, reason })
    };
    let mut numbers = info.version.split(['.', '-']).map(|number| number.parse::<u64>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST {
        return unfit(format!("it is too old; {}.{} or newer is needed", OLDEST.0, OLDEST.1));
    }
    let needed = config.largest_body + envelope::BESIDE;
    if (info.max_payload as u64) < needed {
        return unfit(format!(
            "its max_payload is {} bytes, and the largest max_body of a source needs {needed}; raise max_payload in the \
             configuration of every server, or lower max_body",
            info.max_payload
        ));
    }
    None
}

/// Requests through this connection.
pub(super) fn context(client: &Client, ack_timeout: Duration, in_flight: usize) -> async_nats::jetstream::Context {
    ContextBuilder::new()
        .timeout(REQUEST_TIMEOUT.max(ack_timeout))
        .ack_timeout(ack_timeout)
        .max_ack_inflight(in_flight)
        .build(client.clone())
}
