//! The servers: the bare handler, and the real program.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::post;

use crate::payload::{Payload, SECRET};
use crate::support::daemon::free_port;
use crate::{Arguments, Failure, process};

/// How long a server may take to start, and a sink to drain.
const PATIENCE: Duration = Duration::from_secs(600);

/// The bare handler in a process of its own, which ends when this is dropped; what sinks deliver to.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    process: Running,
}

impl Target {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(address: SocketAddr) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["bare", &address.to_string()])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()?;
        let stdout = process.stdout.take().ok_or("no stdout")?;
        let process = Running(process);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Self { address: line.trim().parse()?, process })
    }
}

/// A server of its own process, which ends when this is dropped.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// hooksink's.
    admin: Option<SocketAddr>,
    process: Running,
    /// From its start until it answered.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// The bare handler.
    pub(crate) fn bare() -> Result<Self, Failure> {
        let began = Instant::now();
        let Target { address, process } = Target::start(free_address())?;
        let name = "bare axum handler".to_owned();
        Ok(Self { name, address, admin: None, process, ready_after: began.elapsed() })
    }

    /// The real program, with its journal in this folder, which may hold one already. `settings` are sinks and what
    /// differs from the default.
    pub(crate) fn hooksink(arguments: &Arguments, name: &str, folder: &Path, settings: &str) -> Result<Self, Failure> {
        fs::create_dir_all(folder)?;
        let (address, admin) = (free_address(), free_address());
        let config = folder.join("hooksink.toml");
        let text = format!(
            r#"
            server.listen = "{address}"
            admin.listen = "{admin}"
            sources.messenger = {{ type = "meta", verify_token = "bench", app_secrets = ["{SECRET}"] }}
            sources.connect = {{ type = "webex-connect", signature_secrets = ["{SECRET}"] }}
            {settings}
            "#
        );
        fs::write(&config, text)?;
        let log = folder.join("stderr.log");
        let began = Instant::now();
        let process = Command::new(&arguments.program)
            .args(["serve", "--config", "hooksink.toml"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        let mut process = Running(process);
        while !matches!(get(admin, "/readyz"), Ok((200, _))) {
            if process.0.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                return Err(format!("hooksink did not start; it said:\n{}", fs::read_to_string(&log)?).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let ready_after = began.elapsed();
        Ok(Self { name: format!("hooksink, {name}"), address, admin: Some(admin), process, ready_after })
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Whether it is hooksink.
    pub(crate) fn is_hooksink(&self) -> bool {
        self.admin.is_some()
    }

    /// CPU time so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, Failure> {
        process::cpu_seconds(self.id())
    }

    /// Resident memory in MiB, now and at most.
    pub(crate) fn resident(&self) -> Result<(f64, f64), Failure> {
        process::resident(self.id())
    }

    fn ask(&self, path: &str) -> Result<serde_json::Value, Failure> {
        let Some(admin) = self.admin else { return Err("the bare handler has nothing to ask".into()) };
        match get(admin, path)? {
            (200, body) => Ok(serde_json::from_slice(&body)?),
            (status, _) => Err(format!("{path} was answered {status}").into()),
        }
    }

    /// The positions of the oldest event that the journal holds and of the newest; none are held where the first is
    /// the larger.
    pub(crate) fn positions(&self) -> Result<(u64, u64), Failure> {
        let status = self.ask("/api/v1/status")?;
        let number = |name: &str| status[name].as_u64().ok_or("no such number in the status");
        let (events, last) = (number("events")?, number("last_seq")?);
        Ok((last + 1 - events, last))
    }

    /// Events that the journal holds.
    pub(crate) fn held(&self) -> Result<u64, Failure> {
        let (oldest, newest) = self.positions()?;
        Ok(newest + 1 - oldest)
    }

    /// Events that sinks are still owed, of the one that is owed most.
    pub(crate) fn lag(&self) -> Result<u64, Failure> {
        if self.admin.is_none() { Ok(0) } else { self.lag_where(|_| true) }
    }

    /// Events that this sink is still owed.
    pub(crate) fn lag_of(&self, sink: &str) -> Result<u64, Failure> {
        self.lag_where(|name| name == sink)
    }

    fn lag_where(&self, meant: impl Fn(&str) -> bool) -> Result<u64, Failure> {
        let sinks = self.ask("/api/v1/sinks")?;
        let sinks = sinks.as_array().ok_or("no list of sinks")?;
        if sinks.iter().any(|sink| sink["dead_letters"].as_u64() != Some(0)) {
            return Err("a sink has dead letters".into());
        }
        let meant = sinks.iter().filter(|sink| sink["sink"].as_str().is_some_and(&meant));
        Ok(meant.filter_map(|sink| sink["lag_events"].as_u64()).max().ok_or("no such sink")?)
    }

    /// Waits until sinks are owed nothing.
    pub(crate) fn drain(&self) -> Result<Duration, Failure> {
        let began = Instant::now();
        while self.lag()? > 0 {
            if began.elapsed() > PATIENCE {
                return Err("a sink did not drain".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(began.elapsed())
    }
}

/// A process that is killed when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that nobody listens on.
pub(crate) fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// A GET: status and body.
fn get(address: SocketAddr, path: &str) -> Result<(u16, Vec<u8>), Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let status = answer.get(9..12).and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no whole answer")?;
    Ok((status.ok_or("no status")?, answer.split_off(end + 4)))
}

/// The folder for a server of this name.
pub(crate) fn folder(parent: &Path, name: &str) -> PathBuf {
    parent.join(name.replace([' ', ','], "-"))
}

/// The bare handler's own process: it reads the body and answers 200.
pub(crate) async fn bare(address: SocketAddr) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    let answer = |body: Bytes| async move { if body.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::OK } };
    let [echo, delivery] = [Payload::Echo, Payload::Delivery].map(Payload::path);
    let routes = Router::new().route(echo, post(answer)).route(delivery, post(answer)).route("/in", post(answer));
    // Batches of a sink are larger than what axum takes by default.
    axum::serve(listener, routes.layer(DefaultBodyLimit::disable())).await?;
    Ok(())
}
