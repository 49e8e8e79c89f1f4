//! One connection to a node, and the channels on it.
//!
//! lapin drives each connection with a thread, which waits for its server without end, also during the handshake, and
//! goes on when nobody holds the connection any more. So the socket is ours: it is connected here, within a time-out,
//! and shut down with the connection, which ends the thread.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use lapin::tcp::{AsyncTcpStream, RustlsConnector, RustlsConnectorConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, ConnectionProperties};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::{Instant, timeout};

use super::super::failure::of_connection;
use super::failure;
use super::settings::{AmqpAddress, RabbitmqSinkConfig};
use crate::remote::tls::use_ring;

/// How often a connection that the server has blocked is looked at.
const BLOCKED_POLL: Duration = Duration::from_millis(50);

/// A connection.
pub(super) struct Connection {
    // Dropped before `lapin`, so that its thread finds the socket shut.
    _socket: Socket,
    lapin: lapin::Connection,
    idle: Mutex<Vec<Channel>>,
    /// Bytes of the largest message that the server takes, once it has said so by refusing a larger one; else 0.
    max_message: AtomicU64,
}

/// A handle on the socket that ends what uses it.
struct Socket(std::net::TcpStream);

impl Drop for Socket {
    fn drop(&mut self) {
        // One that is closed already needs no shutting down.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Connection {
    /// Connects to a node that lets us in, with the password of now; `next` is the place in the list to begin at, and is
    /// moved behind each that fails, so that dead ones at the front are passed also when there is time for few a call.
    /// The error says what to do, and no secret.
    pub(super) async fn open(config: &RabbitmqSinkConfig, next: &AtomicUsize) -> Result<Self, String> {
        use_ring();
        let mut said = String::new();
        for _ in &config.url {
            let place = next.load(Ordering::Relaxed) % config.url.len();
            // It has failed if nobody waits for it any more, too.
            next.store(place + 1, Ordering::Relaxed);
            match timeout(config.calls.connect_timeout, Self::to(&config.url[place], config)).await {
                Ok(Ok(connection)) => {
                    next.store(place, Ordering::Relaxed);
                    return Ok(connection);
                }
                Ok(Err(error)) => said = error,
                Err(_) => said = "cannot connect within connect_timeout".to_owned(),
            }
        }
        Err(said)
    }

    async fn to(address: &AmqpAddress, config: &RabbitmqSinkConfig) -> Result<Self, String> {
        let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
        let addresses: Vec<_> = found.map_err(|_| "the server's name has no address".to_owned())?.collect();
        let runtime = lapin::runtime::default_runtime().map_err(|error| failure::describe(&error))?;
        let cannot = |error: io::Error| format!("cannot connect: {}", of_connection(&error));
        let stream = AsyncTcpStream::connect(&runtime, addresses).await.map_err(cannot)?;
        let AsyncTcpStream::Plain(plain) = &stream else { return Err("the connection is no plain one".to_owned()) };
        let socket = Socket(plain.get_ref().as_fd().try_clone_to_owned().map_err(cannot)?.into());
        let stream = match address.tls {
            true => stream.into_rustls(&connector(config).await?, &address.host).await.map_err(cannot)?,
            false => stream,
        };
        // Taken by the one attempt there is; lapin tries no second time unless it is told to.
        let stream = Mutex::new(Some(stream));
        let connect = async move |_, _| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected).into())
        };
        let properties = ConnectionProperties::default().with_connection_name("hooksink".into());
        let connecting = lapin::Connection::connector(uri(address, config), runtime, connect, properties);
        let lapin = connecting.await.map_err(|error| failure::describe(&error))?;
        Ok(Self { _socket: socket, lapin, idle: Mutex::default(), max_message: AtomicU64::new(0) })
    }

    /// Whether it can be used.
    pub(super) fn is_alive(&self) -> bool {
        self.lapin.status().connected()
    }

    /// Whether the server takes nothing at the moment: an alarm for memory or disk.
    pub(super) fn is_blocked(&self) -> bool {
        self.lapin.status().blocked()
    }

    /// Waits until the server takes something; whether it did before the deadline. What is sent while it does not would
    /// lie in a queue of the client, and the next attempt behind it.
    pub(super) async fn unblocked(&self, deadline: Instant) -> bool {
        while self.is_blocked() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(BLOCKED_POLL).await;
        }
        true
    }

    /// A channel that confirms, for one call alone.
    pub(super) async fn channel(&self) -> Result<Channel, lapin::Error> {
        let idle = self.idle().pop();
        if let Some(channel) = idle.filter(|channel| channel.status().connected()) {
            return Ok(channel);
        }
        let channel = self.lapin.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    /// Takes back a channel on which everything is confirmed.
    pub(super) fn give_back(&self, channel: Channel) {
        self.idle().push(channel);
    }

    /// Bytes of the largest message that the server takes, if it has said so.
    pub(super) fn max_message(&self) -> Option<u64> {
        Some(self.max_message.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// Notes what it has said, or shown by taking a larger one.
    pub(super) fn note_max_message(&self, limit: Option<u64>) {
        self.max_message.store(limit.unwrap_or_default(), Ordering::Relaxed);
    }

    /// Ends it in order.
    pub(super) async fn close(&self) {
        // What fails to close in order is closed by being dropped.
        let _ = self.lapin.close(lapin::protocol::constants::REPLY_SUCCESS, "OK".into()).await;
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        // Nothing panics while it is held.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn uri(address: &AmqpAddress, config: &RabbitmqSinkConfig) -> AMQPUri {
    let password = config.password.first();
    // Checked to be text when the configuration was read.
    let password = password.map(|secret| String::from_utf8_lossy(secret.expose()).into_owned()).unwrap_or_default();
    AMQPUri {
        scheme: if address.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: config.username.clone(), password },
            host: address.host.clone(),
            port: address.port,
        },
        vhost: config.vhost.clone(),
        query: AMQPQueryString { heartbeat: Some(config.heartbeat), ..AMQPQueryString::default() },
    }
}

/// TLS with the system's authorities, or with those of `ca_file` alone.
async fn connector(config: &RabbitmqSinkConfig) -> Result<RustlsConnector, String> {
    let pem = config.tls.load().await.map_err(|error| error.to_string())?;
    let certificates = |key: &str, bytes: &[u8]| {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
        read.ok().filter(|read| !read.is_empty()).ok_or_else(|| format!("{key} holds no certificate (PEM)"))
    };
    let mut connector = RustlsConnectorConfig::new_with_platform_verifier();
    if let Some(ca) = &pem.ca {
        connector = RustlsConnectorConfig::default();
        connector.add_parsable_certificates(certificates("ca_file", ca)?);
    }
    let built = match &pem.client {
        Some((certificate, key)) => {
            let key =
                PrivateKeyDer::from_pem_slice(key).map_err(|_| "client_key_file holds no key (PEM)".to_owned())?;
            connector.connector_with_single_cert(certificates("client_cert_file", certificate)?, key)
        }
        None => connector.connector_with_no_client_auth(),
    };
    built.map_err(|error| of_connection(&error))
}
