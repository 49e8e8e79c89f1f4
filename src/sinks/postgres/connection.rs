//! Connections to the first server that takes writes.

use std::future::poll_fn;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::{LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::{CancelToken, Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::Failure;
use super::settings::{PostgresSinkConfig, Server};

/// After so long without a word the peer is asked whether it is still there, so that a connection that a firewall
/// forgot is noticed before it is needed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A connection. It ends when dropped, whatever the server is doing.
pub(super) struct Connection {
    pub(super) client: Client,
    cancel: CancelToken,
    tls: Option<MakeRustlsConnect>,
    /// Reads and writes.
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Makes one, with the secrets and certificates of now.
    pub(super) async fn open(config: &PostgresSinkConfig) -> Result<Self, Failure> {
        match timeout(config.calls.connect_timeout, Self::connect(config)).await {
            Ok(connection) => connection,
            Err(_) => Err(Failure::about(format!("no connection within {:?}", config.calls.connect_timeout))),
        }
    }

    async fn connect(config: &PostgresSinkConfig) -> Result<Self, Failure> {
        let settings = settings(config);
        let Some(files) = &config.tls else {
            let (client, connection) = settings.connect(NoTls).await?;
            return Ok(Self { cancel: client.cancel_token(), client, tls: None, task: drive(connection) });
        };
        let tls = files.client_config().await.map_err(|error| Failure::about(error.to_string()))?;
        let tls = MakeRustlsConnect::new(tls);
        let (client, connection) = settings.connect(tls.clone()).await?;
        Ok(Self { cancel: client.cancel_token(), client, tls: Some(tls), task: drive(connection) })
    }

    /// Whether it can be used again, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Asks the server to end what it is doing for this connection, which would else hold its locks: a server does not
    /// notice that nobody waits any more.
    pub(super) fn cancel(self, within: Duration) {
        let (cancel, tls) = (self.cancel.clone(), self.tls.clone());
        tokio::spawn(async move {
            // Whether it hears of it or not: the connection is given up.
            let _ = match tls {
                Some(tls) => timeout(within, cancel.cancel_query(tls)).await,
                None => timeout(within, cancel.cancel_query(NoTls)).await,
            };
        });
    }
}

fn settings(config: &PostgresSinkConfig) -> Config {
    let mut settings = Config::new();
    for server in &config.servers {
        match server {
            Server::Tcp(host, port) => settings.host(host.as_str()).port(*port),
            Server::Socket(folder, port) => settings.host_path(folder).port(*port),
        };
    }
    settings.user(config.username.as_str()).dbname(config.database.as_str()).application_name("hooksink");
    if let Some(password) = config.password.first() {
        settings.password(password.expose());
    }
    settings.ssl_mode(if config.tls.is_some() { SslMode::Require } else { SslMode::Disable });
    settings.keepalives(true).keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE / 3).keepalives_retries(3);
    if config.servers.len() > 1 {
        settings.target_session_attrs(TargetSessionAttrs::ReadWrite);
        // One that answers nothing takes all the time there is: another is the first to be asked the next time.
        settings.load_balance_hosts(LoadBalanceHosts::Random);
        settings
            .connect_timeout(config.calls.connect_timeout / u32::try_from(config.servers.len()).unwrap_or(u32::MAX));
    }
    settings
}

/// Reads and writes until the connection ends. What the server says unasked is not for our log: notices hold what
/// triggers say of rows.
fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>) -> AbortHandle
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let task =
        tokio::spawn(
            async move { while let Some(Ok(_)) = poll_fn(|context| connection.poll_message(context)).await {} },
        );
    task.abort_handle()
}
