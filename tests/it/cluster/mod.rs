//! Several replicas of hooksink, the real binary, on three real nats-servers that form a cluster: whatever of these is
//! killed, paused or started again, under load. Each fault has a file of its own.

mod behind_nginx;
mod faults;
mod forming;
mod load;
mod network;

use std::net::SocketAddr;

use tokio::sync::{Mutex, MutexGuard};

use crate::support::mock_target::MockTarget;
use crate::support::nats_cluster::NatsCluster;
use crate::support::senders::SOURCE;
use crate::support::server::TestServer;

/// Above what a body may be here.
const LIMITS: &str = "max_payload: 8MB";

/// How many replicas of hooksink.
const REPLICAS: usize = 3;

/// These tests start many processes each, and would wait for each other's anyway.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The replicas, their servers, and the target that they deliver to.
struct Bench {
    // Dropped in this order: replicas stop well, which needs servers.
    replicas: Vec<Option<TestServer>>,
    config: String,
    servers: NatsCluster,
    target: MockTarget,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    /// All of it, running; `None` where there is no nats-server.
    async fn start(test: &str, settings: &str) -> Option<Self> {
        let alone = ALONE.lock().await;
        let servers = NatsCluster::start(test, LIMITS)?;
        Some(Self::start_on(servers, settings, alone).await)
    }

    /// The same with servers that can be cut off; `None` where there is no nats-server, or no network namespaces.
    async fn start_apart(test: &str) -> Option<Self> {
        let alone = ALONE.lock().await;
        let servers = NatsCluster::start_apart(test, LIMITS)?;
        Some(Self::start_on(servers, "", alone).await)
    }

    async fn start_on(servers: NatsCluster, settings: &str, alone: MutexGuard<'static, ()>) -> Self {
        let target = MockTarget::start().await;
        let config = format!(
            r#"
            [journal]
            engine = "jetstream"
            servers = {:?}
            start_timeout = "100s"
            lease = "3s"
            {settings}
            {SOURCE}
            [sinks.crm]
            type = "http"
            url = "{}"
            from = "start"
            concurrency = 8
            retry_initial = "20ms"
            retry_max = "500ms"
            "#,
            servers.urls(),
            target.url("/")
        );
        let replicas = (0..REPLICAS).map(|_| Some(TestServer::start(&config))).collect();
        Self { replicas, config, servers, target, _alone: alone }
    }

    fn replica(&self, number: usize) -> &TestServer {
        self.replicas[number].as_ref().expect("it runs")
    }

    /// SIGKILL to a replica.
    fn kill(&mut self, number: usize) {
        self.replicas[number].take().expect("it runs").crash();
    }

    /// SIGTERM to a replica, which has to stop as it should.
    fn stop(&mut self, number: usize) {
        self.replicas[number].take().expect("it runs").stop();
    }

    /// Starts a replica that was killed or stopped, on other ports, in a new folder: it has nothing of its own.
    fn start_again(&mut self, number: usize) {
        self.replicas[number] = Some(TestServer::start(&self.config));
    }

    /// The same on the port that it had, where a proxy looks for it.
    fn start_again_at(&mut self, number: usize, address: SocketAddr) {
        self.replicas[number] = Some(TestServer::start_at(address, &self.config));
    }
}
