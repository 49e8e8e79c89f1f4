use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::units::{duration, size};

/// `[server]`: the public listener and its bounds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where webhooks come in.
    pub listen: SocketAddr,
    /// Threads that serve HTTP and sinks.
    pub worker_threads: usize,
    /// Proxies whose word on the client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// The one header the client's address is read from.
    pub client_address_header: ClientAddressHeader,
    /// What stands before `/webhooks` where the proxy does not strip it: "" or "/hooks".
    pub public_url_prefix: String,
    /// Connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Bytes of a request's line and headers.
    #[serde(with = "size")]
    pub max_header_bytes: u64,
    /// From the start of a connection, or the end of a request, to the end of the next request's headers.
    #[serde(with = "duration")]
    pub header_read_timeout: Duration,
    /// For the whole body.
    #[serde(with = "duration")]
    pub body_read_timeout: Duration,
    /// Requests at once; further ones are answered 503.
    pub max_in_flight: usize,
    /// Bytes of bodies held over all requests together.
    #[serde(with = "size")]
    pub max_buffered: u64,
    /// The longest wait for the journal before 503; the append goes on.
    #[serde(with = "duration")]
    pub ack_timeout: Duration,
    /// After a stop signal: how long requests are still accepted while readiness is off.
    #[serde(with = "duration")]
    pub drain_delay: Duration,
    /// After a stop signal: when everything must be over, `drain_delay` included.
    #[serde(with = "duration")]
    pub shutdown_timeout: Duration,
}

/// The one header the client's address is read from; the others are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddressHeader {
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
    /// No header: the peer is the client.
    None,
}
