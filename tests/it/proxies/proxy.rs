//! A proxy process with one of the shipped configurations, in a folder of its own.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use crate::programs::{find_or_skip, signal};
use crate::support::server::eventually;
use crate::wire::Wire;

/// The proxies of `config/`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Caddy,
    Nginx,
}

/// A running proxy.
pub(crate) struct Proxy {
    address: SocketAddr,
    /// What its clients trust, where it speaks TLS.
    certificate: Option<CertificateDer<'static>>,
    folder: TempDir,
    process: Child,
}

impl Proxy {
    /// Starts a proxy in front of a listener; none where it is not installed, which is said in `test`'s name.
    pub(crate) fn start(kind: Kind, upstream: SocketAddr, test: &str) -> Option<Self> {
        Self::start_before(kind, &[upstream], test)
    }

    /// The same in front of several, which nginx knows how to choose from; it has the file of the cluster then.
    pub(crate) fn start_before(kind: Kind, upstreams: &[SocketAddr], test: &str) -> Option<Self> {
        let name = match kind {
            Kind::Caddy => "caddy",
            Kind::Nginx => "nginx",
        };
        let program = find_or_skip(&format!("{test} behind {name}"), name)?;
        // A free port may be gone before the proxy listens on it.
        for _ in 0..5 {
            let folder = tempfile::tempdir().expect("a folder");
            // nginx started by root gives up its rights, and then still needs its folder.
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a folder of ours");
            let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
            let mut command = Command::new(&program);
            let certificate = match kind {
                Kind::Caddy => caddy(&mut command, address, upstreams[0], folder.path()),
                Kind::Nginx => nginx(&mut command, address, upstreams, folder.path()),
            };
            let stderr = File::create(folder.path().join("stderr.log")).expect("a file");
            let stdout = File::create(folder.path().join("stdout.log")).expect("a file");
            let process = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().expect("it starts");
            let mut proxy = Self { address, certificate, folder, process };
            if proxy.listens() {
                return Some(proxy);
            }
            eprintln!("{name} did not start:\n{}", proxy.logs());
        }
        panic!("{name} does not start");
    }

    /// Waits until it listens, or has ended.
    fn listens(&mut self) -> bool {
        eventually("it listens or ends", || match TcpStream::connect(self.address) {
            Ok(_) => Some(true),
            Err(_) => (!matches!(self.process.try_wait(), Ok(None))).then_some(false),
        })
    }

    /// A connection to it from an address of the loopback network.
    pub(crate) fn connect(&self, from: Ipv4Addr) -> io::Result<Wire> {
        Wire::connect(from, self.address, self.certificate.as_ref())
    }

    /// Its logs as soon as something holds for them; a request's line may come after its answer.
    pub(crate) fn logs_once(&self, holds: impl Fn(&str) -> bool) -> String {
        eventually("the logs say it", || Some(self.logs()).filter(|logs| holds(logs)))
    }

    /// Everything it has written so far, into logs and to its outputs.
    fn logs(&self) -> String {
        let mut all = String::new();
        for entry in fs::read_dir(self.folder.path()).expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "log") {
                all.push_str(&String::from_utf8_lossy(&fs::read(&path).expect("a log")));
            }
        }
        all
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx's master takes its workers along only when it is asked to leave.
        signal(&self.process, Signal::TERM);
        let _ = self.process.wait();
    }
}

/// Caddy takes its site and upstream from the environment. Without TLS, for its certificates come from elsewhere.
fn caddy(
    command: &mut Command,
    address: SocketAddr,
    upstream: SocketAddr,
    folder: &Path,
) -> Option<CertificateDer<'static>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/Caddyfile");
    command.args(["run", "--adapter", "caddyfile", "--config", file]);
    command
        .env("HOOKSINK_SITE", format!("http://localhost:{}", address.port()))
        .env("HOOKSINK_UPSTREAM", upstream.to_string());
    for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(variable, folder);
    }
    None
}

/// The two files for nginx, and the replicas that the second passes requests to.
const NGINX: &str = include_str!("../../../config/nginx.conf");
const NGINX_OF_CLUSTER: &str = include_str!("../../../config/nginx.cluster.conf");
pub(crate) const REPLICAS: [&str; 3] = ["172.30.81.11:8080", "172.30.81.12:8080", "172.30.81.13:8080"];

/// What stands before the block that differs between machines, the block, and what stands after it.
fn parts(file: &'static str) -> [&'static str; 3] {
    let (before, rest) = file.split_once("    # >>> yours").expect("the block begins");
    let (block, after) = rest.split_once("    # <<< yours").expect("the block ends");
    // The rest of the line, which is a comment, goes.
    let (_, block) = block.split_once('\n').expect("lines");
    [before, block, after]
}

#[test]
fn the_two_files_for_nginx_differ_in_what_is_yours() {
    let [[before, block, after], [before_cluster, block_of_cluster, after_cluster]] =
        [NGINX, NGINX_OF_CLUSTER].map(parts);
    // Nor in what they begin with, but for a comment.
    let begins = |text: &'static str| text.split_once("\n\n").expect("a comment above").1;
    assert_eq!((begins(before), after), (begins(before_cluster), after_cluster));
    assert_ne!(block, block_of_cluster);
}

/// nginx keeps what differs between machines in one marked block, whose values are replaced here.
fn nginx(
    command: &mut Command,
    address: SocketAddr,
    upstreams: &[SocketAddr],
    folder: &Path,
) -> Option<CertificateDer<'static>> {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.join("certificate.pem"), key.cert.pem()).expect("a file");
    fs::write(folder.join("key.pem"), key.signing_key.serialize_pem()).expect("a file");

    // One replica is behind the file for one machine, several are behind that of the cluster.
    let folder_name = folder.display().to_string();
    let logs = ["access.log", "error.log"].map(|name| format!("{folder_name}/{name}"));
    let (file, servers, logs) = match upstreams.len() {
        1 => {
            let ours = [("/var/log/nginx/hooksink.log", &*logs[0]), ("/var/log/nginx/hooksink-error.log", &*logs[1])];
            (NGINX, &["127.0.0.1:8080"] as &[&str], ours.to_vec())
        }
        // Its logs are the outputs, which are files here.
        _ => (NGINX_OF_CLUSTER, &REPLICAS as &[&str], Vec::new()),
    };
    let [before, block, after] = parts(file);
    let line = |address: &dyn ToString| format!("        server {} max_fails=0;\n", address.to_string());
    let lines: [String; 2] =
        [servers.iter().map(|server| line(server)).collect(), upstreams.iter().map(|server| line(server)).collect()];
    let mut block = block.to_owned();
    for (theirs, ours) in [
        (&*lines[0], &*lines[1]),
        ("        listen [::]:443 ssl;\n", ""),
        ("listen 443 ssl", &format!("listen {address} ssl")),
        ("hooks.example.com;", "localhost;"),
        ("/etc/letsencrypt/live/hooks.example.com/fullchain.pem", &format!("{folder_name}/certificate.pem")),
        ("/etc/letsencrypt/live/hooks.example.com/privkey.pem", &format!("{folder_name}/key.pem")),
    ]
    .into_iter()
    .chain(logs)
    {
        assert_eq!(block.matches(theirs).count(), 1, "{theirs} in {block}");
        block = block.replace(theirs, ours);
    }
    // Where it may write, whoever runs it.
    for what in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        block = format!("\n{what}_temp_path {folder_name}/{what};{block}");
    }
    let file = folder.join("nginx.conf");
    fs::write(&file, [before, &*block, after].concat()).expect("a file");
    command.arg("-c").arg(&file).arg("-p").arg(folder);
    command.arg("-g").arg(format!("daemon off; pid {folder_name}/nginx.pid;"));
    Some(key.cert.der().clone())
}
