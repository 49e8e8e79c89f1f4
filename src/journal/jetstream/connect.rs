//! The connection: how hooksink proves who it is, and what it asks of the servers before it keeps anything there.

use std::time::Duration;

use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Auth, AuthError, Client, ConnectOptions, ServerAddr};
use nkeys::KeyPair;
use zeroize::Zeroizing;

use super::error::OpenError;
use crate::config::{JetstreamConfig, JournalConfig};
use crate::journal::jetstream::envelope;
use crate::secret::Secrets;

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
    let unreachable = |reason: String| OpenError::Unreachable { servers: own.servers.join(", "), reason };
    let mut addresses = Vec::new();
    for server in &own.servers {
        addresses.push(server.parse::<ServerAddr>().map_err(|_| unreachable(format!("{server} is no address")))?);
    }
    // Here it can be said which setting it is; later it is tried again and again.
    proof(own, b"").map_err(|error| unreachable(error.to_owned()))?;
    // Each connection is made with the secrets of now, so that rotated ones are taken with the next.
    let with = own.clone();
    let auth = move |nonce: Vec<u8>| std::future::ready(proof(&with, &nonce).map_err(AuthError::new));
    let mut options = ConnectOptions::with_auth_callback(auth)
        .name("hooksink")
        // Servers that are found through others come without a word on TLS.
        .require_tls(requires_tls(own))
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING)
        .max_reconnects(None)
        .reconnect_delay_callback(|tries| if tries < 2 { Duration::from_millis(50) } else { RECONNECT });
    if let Some(file) = &own.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let Some((cert, key)) = &own.client_cert {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    options.connect(addresses).await.map_err(|error| unreachable(error.kind().to_string()))
}

/// Whether nothing may be said without TLS, whatever a server, or somebody before it, offers.
fn requires_tls(own: &JetstreamConfig) -> bool {
    own.ca_file.is_some() || own.client_cert.is_some() || own.servers.iter().any(|server| server.starts_with("tls://"))
}

/// What proves to a server who this is, with the secrets of now. Errors quote none of them.
fn proof(own: &JetstreamConfig, nonce: &[u8]) -> Result<Auth, &'static str> {
    let text = |secrets: &Secrets| {
        secrets.first().map(|secret| Zeroizing::new(String::from_utf8_lossy(secret.expose()).into_owned()))
    };
    let plain = |secrets: &Secrets| text(secrets).map(|text| text.to_string());
    let mut auth = Auth::new();
    auth.username = own.username.clone();
    auth.password = plain(&own.password);
    auth.token = plain(&own.token);
    if let Some(seed) = text(&own.nkey) {
        let pair = KeyPair::from_seed(seed.trim()).map_err(|_| "journal.nkey is not the seed of an nkey")?;
        auth.signature = Some(pair.sign(nonce).map_err(|_| "journal.nkey cannot sign")?);
        auth.nkey = Some(pair.public_key());
    }
    if let Some(text) = text(&own.credentials) {
        let parts = credentials(&text).and_then(|(jwt, seed)| Some((jwt, KeyPair::from_seed(seed).ok()?)));
        let (jwt, pair) = parts.ok_or("journal.credentials is not the text of a credentials file")?;
        auth.signature = Some(pair.sign(nonce).map_err(|_| "the key in journal.credentials cannot sign")?);
        auth.jwt = Some(jwt.to_owned());
    }
    Ok(auth)
}

/// The JWT and the seed of a credentials file: each stands below a line of dashes that says so.
/// <https://docs.nats.io/using-nats/developer/connecting/creds>
fn credentials(text: &str) -> Option<(&str, &str)> {
    let below = |title: &str| {
        let mut lines =
            text.lines().map(str::trim).skip_while(|line| !(line.starts_with("---") && line.contains(title)));
        lines.nth(1).filter(|line| !line.is_empty() && !line.starts_with('-'))
    };
    Some((below("BEGIN NATS USER JWT")?, below("BEGIN USER NKEY SEED")?))
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
