use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::settings::units::{any_duration, duration, size};
use crate::settings::values::{self, number};
use crate::settings::{Given, Section};

/// `[server]`: the public listener and its bounds.
#[derive(Debug, Clone)]
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
    pub max_header_bytes: u64,
    /// From the start of a connection, or the end of a request, to the end of the next request's headers.
    pub header_read_timeout: Duration,
    /// For the whole body.
    pub body_read_timeout: Duration,
    /// Authentic requests that wait for the journal at once; further ones are answered 503.
    pub max_in_flight: usize,
    /// Bytes of bodies held over all requests together, a quarter of them for small bodies alone.
    pub max_buffered: u64,
    /// The longest wait for the journal before 503; the append goes on.
    pub ack_timeout: Duration,
    /// After a stop signal: how long requests are still accepted while readiness is off.
    pub drain_delay: Duration,
    /// After a stop signal: when everything must be over, `drain_delay` included.
    pub shutdown_timeout: Duration,
}

/// The one header the client's address is read from; the others are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddressHeader {
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
    /// No header: the peer is the client.
    None,
}

impl ServerConfig {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let listen = section.required("listen", values::address);
        let worker_threads = section.required("worker_threads", number::<_, 1, 1024>);
        let trusted_proxies = section.required("trusted_proxies", values::networks);
        let client_address_header = section.required("client_address_header", client_address_header);
        let public_url_prefix = section.required("public_url_prefix", prefix);
        let max_connections = section.required("max_connections", number::<_, 1, 1_000_000>);
        let max_header_bytes = section.required("max_header_bytes", size);
        let header_read_timeout = section.required("header_read_timeout", duration);
        let body_read_timeout = section.required("body_read_timeout", duration);
        let max_in_flight = section.required("max_in_flight", number::<_, 1, 1_000_000>);
        let max_buffered = section.required("max_buffered", size);
        let ack_timeout = section.required("ack_timeout", duration);
        let drain_delay = section.required("drain_delay", any_duration);
        let shutdown_timeout = section.required("shutdown_timeout", duration);
        if max_header_bytes.is_some_and(|bytes| !(8 << 10..=1 << 20).contains(&bytes)) {
            section.error("max_header_bytes", "this must be from \"8 KiB\" to \"1 MiB\"");
        }
        if let (Some(delay), Some(timeout)) = (drain_delay, shutdown_timeout)
            && delay >= timeout
        {
            let key = section.reader.contradicting(["server.shutdown_timeout", "server.drain_delay"]);
            let message = format!(
                "shutdown_timeout ({timeout:?}) must be longer than drain_delay ({delay:?}), which it includes"
            );
            section.reader.error(key, message);
        }
        section.finish();
        Some(Self {
            listen: listen?,
            worker_threads: worker_threads?,
            trusted_proxies: trusted_proxies?,
            client_address_header: client_address_header?,
            public_url_prefix: public_url_prefix?,
            max_connections: max_connections?,
            max_header_bytes: max_header_bytes?,
            header_read_timeout: header_read_timeout?,
            body_read_timeout: body_read_timeout?,
            max_in_flight: max_in_flight?,
            max_buffered: max_buffered?,
            ack_timeout: ack_timeout?,
            drain_delay: drain_delay?,
            shutdown_timeout: shutdown_timeout?,
        })
    }
}

fn client_address_header(given: &Given<'_>) -> Result<ClientAddressHeader, String> {
    values::choice(
        given,
        &[
            ("x-forwarded-for", ClientAddressHeader::XForwardedFor),
            ("forwarded", ClientAddressHeader::Forwarded),
            ("none", ClientAddressHeader::None),
        ],
    )
}

fn prefix(given: &Given<'_>) -> Result<String, String> {
    let text = values::any_text(given)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let path = text.starts_with('/') && !text.ends_with('/') && !text.contains("//") && text.bytes().all(plain);
    if text.is_empty() || path {
        Ok(text)
    } else {
        Err(format!("{text:?} is no prefix of a path; write \"\" or something like \"/hooks\""))
    }
}
