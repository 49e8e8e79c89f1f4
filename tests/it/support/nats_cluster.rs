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
}

impl NatsCluster {
    /// Starts them, each with these lines in its configuration; `None` where there is no nats-server, which was said
    /// then.
    pub(crate) fn start(test: &str, lines: &str) -> Option<Self> {
        Self::start_with(test, "", lines)
    }

    /// The same, with more in the part about JetStream.
    pub(crate) fn start_with(test: &str, jetstream: &str, lines: &str) -> Option<Self> {
        let program = programs::find_or_skip(test, "nats-server")?;
        let folder = tempfile::tempdir().expect("a folder");
        let ports: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        let routes: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        for (node, port) in ports.iter().enumerate() {
            configure(&folder.path().join(node.to_string()), node, *port, &routes, jetstream, lines);
        }
        let nodes = (0..NODES).map(|node| daemon(&program, &folder.path().join(node.to_string()))).collect();
        let cluster = Self { program, folder, ports, nodes };
        (0..NODES).for_each(|node| cluster.wait(node));
        Some(cluster)
    }

    fn address(&self, node: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[node]).into()
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
        self.nodes[node] = daemon(&self.program, &self.folder.path().join(node.to_string()));
        self.wait(node);
    }

    fn wait(&self, node: usize) {
        eventually("nats-server listens", || TcpStream::connect(self.address(node)).ok());
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

fn configure(folder: &Path, node: usize, port: u16, routes: &[u16], jetstream: &str, lines: &str) {
    fs::create_dir(folder).expect("a new folder");
    let others: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\nserver_name: node-{node}\njetstream {{ store_dir: {:?}, {jetstream} }}\nlog_file: {:?}\n\
         cluster {{ name: it, listen: \"127.0.0.1:{}\", routes: {others:?} }}\n{lines}\n",
        folder.join("store"),
        folder.join("log"),
        routes[node],
    );
    fs::write(folder.join("nats.conf"), text).expect("a file");
}

fn daemon(program: &Path, folder: &Path) -> Daemon {
    let output = || File::options().create(true).append(true).open(folder.join("output")).expect("a file");
    let mut command = Command::new(program);
    Daemon::start(command.arg("-c").arg(folder.join("nats.conf")).stdout(output()).stderr(output()))
}
