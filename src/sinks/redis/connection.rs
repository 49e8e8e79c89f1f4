//! Connections: to a server, to a cluster, or to the master that Sentinels name.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    Pipeline, RedisConnectionInfo, RedisResult, TlsCertificates, Value, cmd, pipe,
};
use tokio::time::timeout;

use super::super::BoxError;
use super::failure::{code, described, refusal};
use super::settings::{Address, Deployment, RedisSinkConfig};
use crate::remote::tls::{Pem, use_ring};
use crate::secret::Secrets;

/// The port of Redis.
const PORT: u16 = 6379;

/// The port of Sentinel.
const SENTINEL_PORT: u16 = 26379;

/// After so long without a word the peer is asked whether it is still there, so that a connection that a firewall
/// forgot is noticed before it is needed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How often the client itself sends a request again, to another node of a cluster.
const CLUSTER_RETRIES: u32 = 3;

/// Milliseconds between these, at most.
const CLUSTER_RETRY_WAIT: u64 = 200;

/// A connection, which clones share.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Makes one, with the secrets and certificates of now.
    pub(super) async fn open(config: &RedisSinkConfig) -> Result<Self, BoxError> {
        match &config.deployment {
            Deployment::Server => Self::to_server(config, &config.servers[0]).await,
            Deployment::Cluster => Self::to_cluster(config).await,
            Deployment::Sentinels { master, username, password } => {
                let address = ask_sentinels(config, master, username.as_deref(), password).await?;
                Self::to_server(config, &address).await
            }
        }
    }

    /// One to this server, whatever it is part of.
    pub(super) async fn to_server(config: &RedisSinkConfig, address: &Address) -> Result<Self, BoxError> {
        let settings = login(config.username.as_deref(), &config.password).set_db(i64::from(config.database));
        let mut connection = connect(config, address, PORT, settings).await?;
        // An empty transaction: of a server that wants a password, is loading or hangs, this is told better now than
        // when it is sent something large, which some of them do not even read.
        let mut nothing = pipe();
        nothing.ignore_errors().cmd("MULTI").cmd("EXEC");
        let answers: Vec<Value> =
            match timeout(config.calls.connect_timeout, nothing.query_async(&mut connection)).await {
                Ok(answers) => answers.map_err(described)?,
                Err(_) => return Err(format!("no answer within {:?}", config.calls.connect_timeout).into()),
            };
        match answers.into_iter().find_map(refusal) {
            None => Ok(Self::Server(connection)),
            Some(error) if code(&error).as_deref() == Some("NOPERM") => {
                Err("the user may not use MULTI and EXEC (NOPERM)".into())
            }
            Some(error) => Err(described(error)),
        }
    }

    async fn to_cluster(config: &RedisSinkConfig) -> Result<Self, BoxError> {
        let pem = pem(config).await?;
        let nodes = config.servers.iter().map(|address| {
            let info = place(address, PORT, pem.is_some()).into_connection_info()?;
            Ok(info.set_redis_settings(login(config.username.as_deref(), &config.password)))
        });
        let nodes: RedisResult<Vec<ConnectionInfo>> = nodes.collect();
        let mut builder = ClusterClientBuilder::new(nodes.map_err(described)?)
            .connection_timeout(config.calls.connect_timeout)
            .response_timeout(config.calls.timeout)
            .retries(CLUSTER_RETRIES)
            .max_retry_wait(CLUSTER_RETRY_WAIT)
            .min_retry_wait(CLUSTER_RETRY_WAIT / 10)
            .tcp_settings(tcp_settings());
        if let Some(pem) = pem {
            builder = builder.certs(certificates(pem));
        }
        let client = builder.build().map_err(described)?;
        match timeout(config.calls.connect_timeout, client.get_async_connection()).await {
            Ok(connection) => Ok(Self::Cluster(connection.map_err(described)?)),
            Err(_) => Err(format!("no connection within {:?}", config.calls.connect_timeout).into()),
        }
    }

    /// Runs the commands, sent at once and in this order, and returns their answers, errors among them.
    pub(super) async fn run(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Self::Server(connection) => pipeline.query_async(connection).await,
            Self::Cluster(connection) => pipeline.query_async(connection).await,
        }
    }

    /// Runs one command.
    pub(super) async fn ask<T: redis::FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}

/// Where the master is, by the first Sentinel that knows.
async fn ask_sentinels(
    config: &RedisSinkConfig,
    master: &str,
    username: Option<&str>,
    password: &Secrets,
) -> Result<Address, BoxError> {
    let mut last: BoxError = "no Sentinel is given".into();
    // So short that the last of them is asked within a call, also where the others answer nothing.
    let asked_at_most =
        config.calls.timeout / (u32::try_from(config.servers.len()).unwrap_or(u32::MAX).saturating_add(1));
    for sentinel in &config.servers {
        let asked = async {
            let mut connection = connect(config, sentinel, SENTINEL_PORT, login(username, password)).await?;
            let question = cmd("SENTINEL").arg("get-master-addr-by-name").arg(master).to_owned();
            let answer = timeout(config.calls.connect_timeout, question.query_async(&mut connection)).await;
            let answer: Option<(String, u16)> = answer.map_err(|_| "no answer in time")?.map_err(described)?;
            Ok::<_, BoxError>(answer)
        };
        let asked = timeout(asked_at_most, asked).await;
        match asked.unwrap_or_else(|_| Err(format!("no answer within {asked_at_most:?}").into())) {
            Ok(Some((host, port))) => return Ok(Address { host, port: Some(port) }),
            Ok(None) => last = format!("Sentinel {sentinel} knows no master of the name {master}").into(),
            Err(error) => last = format!("Sentinel {sentinel}: {error}").into(),
        }
    }
    Err(last)
}

async fn connect(
    config: &RedisSinkConfig,
    address: &Address,
    default_port: u16,
    settings: RedisConnectionInfo,
) -> Result<MultiplexedConnection, BoxError> {
    let pem = pem(config).await?;
    let info = place(address, default_port, pem.is_some()).into_connection_info().map_err(described)?;
    let info = info.set_redis_settings(settings).set_tcp_settings(tcp_settings());
    let client = match pem {
        Some(pem) => Client::build_with_tls(info, certificates(pem)),
        None => Client::open(info),
    };
    let client = client.map_err(described)?;
    // Calls are bounded as a whole, by whoever makes them.
    let limits = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    match timeout(config.calls.connect_timeout, client.get_multiplexed_async_connection_with_config(&limits)).await {
        Ok(connection) => connection.map_err(described),
        Err(_) => Err(format!("no connection within {:?}", config.calls.connect_timeout).into()),
    }
}

fn place(address: &Address, default_port: u16, tls: bool) -> ConnectionAddr {
    let (host, port) = (address.host.clone(), address.port_or(default_port));
    if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

/// Who the connection belongs to. Nothing is told of the client library, for which a user of its own would need rights.
fn login(username: Option<&str>, password: &Secrets) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(username) = username {
        settings = settings.set_username(username);
    }
    if let Some(password) = password.first() {
        // The configuration has seen to it that it is text.
        settings = settings.set_password(String::from_utf8_lossy(password.expose()));
    }
    settings
}

async fn pem(config: &RedisSinkConfig) -> Result<Option<Pem>, BoxError> {
    let Some(files) = &config.tls else { return Ok(None) };
    use_ring();
    files.load().await.map(Some)
}

fn certificates(pem: Pem) -> TlsCertificates {
    let client_tls =
        pem.client.map(|(client_cert, key)| ClientTlsConfig { client_cert, client_key: key.as_slice().to_vec() });
    TlsCertificates { client_tls, root_cert: pem.ca }
}

fn tcp_settings() -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3))
}
