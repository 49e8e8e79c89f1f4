//! Durable POSTs to hooksink beside the same POSTs to a bare axum handler, in one run, on loopback.
//!
//! `cargo bench --bench throughput [-- --seconds 5 --connections 16,64,256]`
//!
//! Three processes, so that nobody's work counts as another's: this one, which reports; the server, which is the bare
//! handler or the real program with its journal on the disk of `target/`; and the client. The client keeps its
//! connections open and one request at a time under way on each. Every request is a Meta echo of its own, signed
//! before the clock starts. hooksink runs with its default settings, its diagnostics going to /dev/null.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use clap::{Parser, Subcommand};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime;

type Failure = Box<dyn Error + Send + Sync>;

const SECRET: &str = "secret of the throughput bench";
const PATH: &str = "/webhooks/messenger";

/// Requests a second that the client is ready for; a faster server ends the run early, and the rate is still right.
const PREPARED_PER_SECOND: usize = 60_000;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Seconds a run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Connections at once, a run each.
    #[arg(long, value_delimiter = ',', default_values_t = [16, 64, 256])]
    connections: Vec<usize>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Role {
    /// The bare handler.
    Bare,
    /// The client.
    Client { to: SocketAddr, connections: usize, seconds: u64, run: u64 },
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    match arguments.role {
        None => report(&arguments),
        Some(Role::Bare) => runtime::Runtime::new()?.block_on(bare()),
        Some(Role::Client { to, connections, seconds, run }) => runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(client(to, connections, Duration::from_secs(seconds), run)),
    }
}

// ---- the report

fn report(arguments: &Arguments) -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    println!("{} cores; a synced write of 4 KiB takes {:.0?} here", std::thread::available_parallelism()?, {
        synced_write(folder.path())?
    });
    println!("{:9} {:31} {:>9} {:>8} {:>8} {:>8} {:>12} {:>8}", "", "", "", "ms", "ms", "ms", "CPU s", "of bare");
    println!(
        "{:>9} {:31} {:>9} {:>8} {:>8} {:>8} {:>12} {:>8}",
        "clients", "server", "requests/s", "p50", "p99", "p99.9", "per 1,000", ""
    );
    let servers = [
        Server::bare()?,
        Server::hooksink(folder.path(), "no event wanted")?,
        Server::hooksink(folder.path(), "file")?,
    ];
    let mut run = 0;
    for server in &servers {
        run += 1;
        measure(server, 16, 1, run)?; // warm-up
    }
    for &connections in &arguments.connections {
        let mut bare = None;
        for server in &servers {
            run += 1;
            let measured = measure(server, connections, arguments.seconds, run)?;
            let bare = *bare.get_or_insert(measured.per_second);
            println!(
                "{connections:9} {:31} {:9.0} {:8.2} {:8.2} {:8.2} {:12.4} {:7.0}%",
                server.name,
                measured.per_second,
                measured.p50,
                measured.p99,
                measured.p999,
                measured.cpu_per_thousand,
                100.0 * measured.per_second / bare
            );
        }
    }
    Ok(())
}

struct Measured {
    per_second: f64,
    /// Latencies in milliseconds.
    p50: f64,
    p99: f64,
    p999: f64,
    /// CPU seconds of the server for a thousand requests.
    cpu_per_thousand: f64,
}

fn measure(server: &Server, connections: usize, seconds: u64, run: u64) -> Result<Measured, Failure> {
    let mut client = Command::new(std::env::current_exe()?)
        .args(["client", &server.address.to_string(), &connections.to_string(), &seconds.to_string(), &run.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(client.stdout.take().ok_or("no stdout")?).lines();
    let mut next = || lines.next().unwrap_or_else(|| Ok("nothing".into()));
    if next()? != "ready" {
        return Err("the client did not get ready".into());
    }
    let cpu_before = cpu_seconds(server.process.id())?;
    client.stdin.take().ok_or("no stdin")?.write_all(b"go\n")?;
    let line = next()?;
    let cpu = cpu_seconds(server.process.id())? - cpu_before;
    if !client.wait()?.success() {
        return Err(format!("{}: {line}", server.name).into());
    }
    let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let [requests, elapsed, p50, p99, p999] = numbers[..] else { return Err(line.into()) };
    Ok(Measured { per_second: requests / elapsed, p50, p99, p999, cpu_per_thousand: cpu / requests * 1000.0 })
}

/// The median time of a 4 KiB write with its sync: what the disk asks of every commit.
fn synced_write(folder: &Path) -> Result<Duration, Failure> {
    let path = folder.join("probe");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    fs::remove_file(path)?;
    times.sort();
    Ok(times[times.len() / 2])
}

/// User and system time of a process so far; Linux counts both in hundredths of a second.
fn cpu_seconds(process: u32) -> Result<f64, Failure> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit_once(')').ok_or("unreadable stat")?.1;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

// ---- the servers

struct Server {
    name: String,
    address: SocketAddr,
    process: Child,
}

impl Server {
    fn bare() -> Result<Self, Failure> {
        let mut process =
            Command::new(std::env::current_exe()?).arg("bare").stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        Ok(Self { name: "bare axum handler".into(), address: line.trim().parse()?, process })
    }

    /// The real program with one sink, which wants every event or none.
    fn hooksink(folder: &Path, sink: &str) -> Result<Self, Failure> {
        let folder: PathBuf = folder.join(sink.replace(' ', "-"));
        fs::create_dir(&folder)?;
        let (address, admin) = (free_address()?, free_address()?);
        let kinds = if sink == "file" { "*" } else { "webex_connect.postback" };
        let config = folder.join("hooksink.toml");
        fs::write(
            &config,
            format!(
                r#"
                server.listen = "{address}"
                admin.listen = "{admin}"
                journal.path = {journal:?}
                [sources.messenger]
                type = "meta"
                verify_token = "bench"
                app_secrets = ["{SECRET}"]
                [sinks.archive]
                type = "file"
                path = {events:?}
                kinds = ["{kinds}"]
                "#,
                journal = folder.join("journal.db"),
                events = folder.join("events.jsonl"),
            ),
        )?;
        let mut process = Command::new(env!("CARGO_BIN_EXE_hooksink"))
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            if process.try_wait()?.is_some() || Instant::now() > deadline {
                process.kill()?;
                return Err("hooksink did not start; `hooksink check` may say why".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { name: format!("hooksink, sink: {sink}"), address, process })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn bare() -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let handler =
        post(|body: Bytes| async move { if body.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::OK } });
    axum::serve(listener, Router::new().route(PATH, handler)).await?;
    Ok(())
}

// ---- the client

/// A request with the places of what differs between one and the next.
#[derive(Clone)]
struct Template {
    bytes: Vec<u8>,
    signature: usize,
    body: usize,
}

const NUMBER: &str = "0000000000";

impl Template {
    fn new(run: u64) -> Self {
        let body = format!(
            r#"{{"object":"page","entry":[{{"id":"1906385232743451","time":1762000000123,"messaging":[{{"sender":{{"id":"1906385232743451"}},"recipient":{{"id":"{NUMBER}"}},"timestamp":1762000000000,"message":{{"mid":"m_bench-{run}-{NUMBER}","is_echo":true,"text":"Your parcel left the depot at 9:40 and will be with you today. Track it at https:\/\/example.com\/t\/8812","app_id":1517776481860111,"metadata":"order 8812"}}}}]}}]}}"#
        );
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nUser-Agent: facebookexternalua\r\nContent-Length: {}\r\nX-Hub-Signature-256: sha256={}\r\n\r\n",
            body.len(),
            "0".repeat(64)
        );
        let signature = head.len() - 4 - 64;
        Self { bytes: [head.as_bytes(), body.as_bytes()].concat(), signature, body: head.len() }
    }

    /// Writes the number into both of its places, so that each request has its own person and message.
    fn number(&mut self, number: usize) {
        let digits = format!("{number:010}");
        let body = &mut self.bytes[self.body..];
        for marker in [&br#""recipient":{"id":""#[..], &b"m_bench-"[..]] {
            let found = body.windows(marker.len()).position(|window| window == marker);
            let mut at = found.unwrap_or_default() + marker.len();
            if marker.ends_with(b"-") {
                at += body[at..].iter().position(|byte| *byte == b'-').unwrap_or_default() + 1;
            }
            body[at..at + NUMBER.len()].copy_from_slice(digits.as_bytes());
        }
    }

    fn sign(&self) -> [u8; 64] {
        let mut signature = [0; 64];
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()) {
            mac.update(&self.bytes[self.body..]);
            // 32 bytes are 64 digits.
            let _ = hex::encode_to_slice(mac.finalize().into_bytes(), &mut signature);
        }
        signature
    }
}

async fn client(to: SocketAddr, connections: usize, duration: Duration, run: u64) -> Result<(), Failure> {
    let mut template = Template::new(run);
    let signatures: Vec<[u8; 64]> = (0..PREPARED_PER_SECOND * duration.as_secs() as usize)
        .map(|number| {
            template.number(number);
            template.sign()
        })
        .collect();
    let signatures = Arc::new(signatures);
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = tokio::net::TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;

    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let (template, signatures, next) = (template.clone(), signatures.clone(), next.clone());
            tokio::spawn(connection(stream, template, signatures, next, began + duration))
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.append(&mut task.await??);
    }
    let elapsed = began.elapsed();
    latencies.sort();
    let percentile = |of: f64| {
        let at = ((latencies.len() as f64 * of) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(at).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    let (p50, p99, p999) = (percentile(0.5), percentile(0.99), percentile(0.999));
    println!("{} {} {p50} {p99} {p999}", latencies.len(), elapsed.as_secs_f64());
    Ok(())
}

/// Sends one request after the other until the time or the prepared requests are over.
async fn connection(
    mut stream: tokio::net::TcpStream,
    mut template: Template,
    signatures: Arc<Vec<[u8; 64]>>,
    next: Arc<AtomicUsize>,
    until: Instant,
) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::new();
    let mut answer = Vec::with_capacity(4096);
    while Instant::now() < until {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(signature) = signatures.get(number) else { break };
        template.number(number);
        let at = template.signature;
        template.bytes[at..at + 64].copy_from_slice(signature);
        let began = Instant::now();
        stream.write_all(&template.bytes).await?;
        answer.clear();
        while !is_whole(&answer) {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err("the server closed a connection".into());
            }
        }
        latencies.push(began.elapsed());
        // The bare handler answers with nothing; hooksink with what it stored, which must be new.
        let text = String::from_utf8_lossy(&answer);
        if !text.starts_with("HTTP/1.1 200 ") || (text.contains("duplicates") && !text.contains(r#""accepted":1"#)) {
            println!("unexpected answer: {text}");
            return Err("unexpected answer".into());
        }
    }
    Ok(latencies)
}

/// Whether an answer has come with all of its body.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    answer.len() >= end + 4 + length.unwrap_or(0)
}
