//! Three nats-servers that form a cluster on loopback, each of which can be killed, paused and started again.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream;
use rustix::process::Signal;
use tempfile::TempDir;

use super::daemon::{Daemon, free_port};
use super::hosts::Hosts;
use super::server::eventually;
use crate::programs;

/// How many there are.
const NODES: usize = 3;

/// The servers.
pub(crate) struct NatsCluster {
    program: PathBuf,
    folder: TempDir,
    ports: Vec<u16>,
    nodes: Vec<Daemon>,
    /// Where they run, if not on loopback. Dropped after them.
    hosts: Option<Hosts>,
}

impl NatsCluster {
    /// Starts them, each with these lines in its configuration; `None` where there is no nats-server, which was said
    /// then.
    pub(crate) fn start(test: &str, lines: &str) -> Option<Self> {
        Self::start_with(test, "", lines)
    }

    /// The same, with more in the part about JetStream.
    pub(crate) fn start_with(test: &str, jetstream: &str, lines: &str) -> Option<Self> {
        Self::start_on(test, jetstream, lines, None)
    }

    /// The same, each on a host of its own, which can be cut off; `None` where there are none.
    pub(crate) fn start_apart(test: &str, lines: &str) -> Option<Self> {
        programs::find_or_skip(test, "nats-server")?;
        let hosts = Hosts::make(test, NODES)?;
        Self::start_on(test, "", lines, Some(hosts))
    }

    fn start_on(test: &str, jetstream: &str, lines: &str, hosts: Option<Hosts>) -> Option<Self> {
        let program = programs::find_or_skip(test, "nats-server")?;
        let folder = tempfile::tempdir().expect("a folder");
        let ports: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        let routes: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        let address = |node: usize| hosts.as_ref().map_or(Ipv4Addr::LOCALHOST, |hosts| hosts.address(node));
        let routes: Vec<SocketAddr> =
            routes.into_iter().enumerate().map(|(node, port)| (address(node), port).into()).collect();
        for (node, port) in ports.iter().enumerate() {
            let listen = (address(node), *port).into();
            configure(&folder.path().join(node.to_string()), node, listen, &routes, jetstream, lines);
        }
        let start = |node: usize| daemon(&program, &folder.path().join(node.to_string()), hosts.as_ref(), node);
        let nodes = (0..NODES).map(start).collect();
        let mut cluster = Self { program, folder, ports, nodes, hosts };
        (0..NODES).for_each(|node| cluster.wait(node));
        Some(cluster)
    }

    fn address(&self, node: usize) -> SocketAddr {
        let host = self.hosts.as_ref().map_or(Ipv4Addr::LOCALHOST, |hosts| hosts.address(node));
        (host, self.ports[node]).into()
    }

    /// Cuts a node off from all others and from this machine, or connects it again.
    pub(crate) fn connect(&self, node: usize, connected: bool) {
        self.hosts.as_ref().expect("it was started apart").connect(node, connected);
    }

    /// Where clients reach them.
    pub(crate) fn urls(&self) -> Vec<String> {
        (0..NODES).map(|node| format!("nats://{}", self.address(node))).collect()
    }

    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        self.nodes[node].signal(signal);
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a node that was killed, with what it has on disk.
    pub(crate) fn restart(&mut self, node: usize) {
        self.nodes[node].kill();
        self.nodes[node] = daemon(&self.program, &self.folder.path().join(node.to_string()), self.hosts.as_ref(), node);
        self.wait(node);
    }

    fn wait(&mut self, node: usize) {
        let address = self.address(node);
        eventually("nats-server listens", || {
            assert!(!self.nodes[node].has_ended(), "it should not end by itself");
            TcpStream::connect(address).ok()
        });
    }

    /// What a test itself asks them with.
    pub(crate) async fn context(&self) -> jetstream::Context {
        let options = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .connection_timeout(Duration::from_secs(2))
            .request_timeout(Some(Duration::from_secs(5)));
        jetstream::new(options.connect(self.urls()).await.expect("some listen"))
    }

    /// The node that leads a stream, once all of its copies are up to date.
    pub(crate) async fn settled(&self, context: &jetstream::Context, stream: &str) -> usize {
        let settled = async {
            loop {
                if let Ok(stream) = context.get_stream(stream).await
                    && let Some(cluster) = &stream.cached_info().cluster
                    && let Some(leader) = &cluster.leader
                    && cluster.replicas.len() == NODES - 1
                    && cluster.replicas.iter().all(|replica| replica.current && !replica.offline)
                {
                    return leader["node-".len()..].parse().expect("our own name");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(super::DEADLINE, settled).await.expect("the stream should be whole")
    }
}

impl Drop for NatsCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test has failed already: what the servers said helps to see why.
            for node in 0..NODES {
                let log = fs::read_to_string(self.folder.path().join(node.to_string()).join("log")).unwrap_or_default();
                eprintln!("--- log of {node}, port {}\n{log}", self.ports[node]);
            }
        }
    }
}

fn configure(folder: &Path, node: usize, listen: SocketAddr, routes: &[SocketAddr], jetstream: &str, lines: &str) {
    fs::create_dir(folder).expect("a new folder");
    let others: Vec<String> = routes.iter().map(|route| format!("nats://{route}")).collect();
    let text = format!(
        "listen: \"{listen}\"\nserver_name: node-{node}\njetstream {{ store_dir: {:?}, {jetstream} }}\nlog_file: {:?}\n\
         cluster {{ name: it, listen: \"{}\", routes: {others:?} }}\n{lines}\n",
        folder.join("store"),
        folder.join("log"),
        routes[node],
    );
    fs::write(folder.join("nats.conf"), text).expect("a file");
}

fn daemon(program: &Path, folder: &Path, hosts: Option<&Hosts>, node: usize) -> Daemon {
    let output = || File::options().create(true).append(true).open(folder.join("output")).expect("a file");
    let mut command = match hosts {
        Some(hosts) => hosts.command(node),
        None => Command::new(program),
    };
    if hosts.is_some() {
        command.arg(program);
    }
    Daemon::start(command.arg("-c").arg(folder.join("nats.conf")).stdout(output()).stderr(output()))
}
