//! The client: a process that prepares its requests, says `ready`, waits for a line, sends for the given time, and
//! prints what it measured.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;
use crate::payload::{Payload, Template};

/// What a client measured.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    /// Latencies in milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) longest: f64,
}

/// A client process that has prepared its requests.
pub(crate) struct Ready {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Ready {
    /// Starts a client and waits until its requests are signed. `run` makes them differ from those of other runs.
    pub(crate) fn start(
        to: SocketAddr,
        payload: Payload,
        connections: usize,
        seconds: f64,
        run: u64,
    ) -> Result<Self, Failure> {
        let numbers = [connections.to_string(), seconds.to_string(), run.to_string()];
        let mut process = Command::new(std::env::current_exe()?)
            .args(["client", &to.to_string(), payload.name()])
            .args(numbers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(process.stdout.take().ok_or("no stdout")?).lines();
        let mut ready = Self { process, lines };
        if ready.line()? != "ready" {
            return Err("the client did not get ready".into());
        }
        Ok(ready)
    }

    fn line(&mut self) -> Result<String, Failure> {
        Ok(self.lines.next().unwrap_or_else(|| Ok("nothing".into()))?)
    }

    /// Lets it send; what it measured.
    pub(crate) fn go(mut self) -> Result<Measured, Failure> {
        self.process.stdin.take().ok_or("no stdin")?.write_all(b"go\n")?;
        let line = self.line()?;
        if !self.process.wait()?.success() {
            return Err(line.into());
        }
        let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let [requests, seconds, p50, p99, p999, longest] = numbers[..] else { return Err(line.into()) };
        Ok(Measured { requests, seconds, p50, p99, p999, longest })
    }
}

/// The client's own process.
pub(crate) async fn run(
    to: SocketAddr,
    payload: Payload,
    connections: usize,
    duration: Duration,
    run: u64,
) -> Result<(), Failure> {
    let mut template = Template::new(payload, run);
    let prepared = (payload.prepared_per_second() as f64 * duration.as_secs_f64()) as usize;
    let signatures: Vec<[u8; 64]> = (0..prepared)
        .map(|number| {
            template.number(number);
            template.sign()
        })
        .collect();
    let signatures = Arc::new(signatures);
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;

    let next = Arc::new(AtomicUsize::new(0));
    let accepted: Arc<str> = format!(r#""accepted":{},"#, payload.items()).into();
    let began = Instant::now();
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let (template, signatures, next) = (template.clone(), signatures.clone(), next.clone());
            tokio::spawn(connection(stream, template, signatures, next, began + duration, accepted.clone()))
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
    let [p50, p99, p999, longest] = [0.5, 0.99, 0.999, 1.0].map(percentile);
    println!("{} {} {p50} {p99} {p999} {longest}", latencies.len(), elapsed.as_secs_f64());
    Ok(())
}

/// Sends one request after the other until the time or the prepared requests are over.
async fn connection(
    mut stream: TcpStream,
    mut template: Template,
    signatures: Arc<Vec<[u8; 64]>>,
    next: Arc<AtomicUsize>,
    until: Instant,
    accepted: Arc<str>,
) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::new();
    let mut answer = Vec::with_capacity(4096);
    while Instant::now() < until {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(signature) = signatures.get(number) else { break };
        template.number(number);
        template.set_signature(signature);
        let began = Instant::now();
        stream.write_all(&template.bytes).await?;
        answer.clear();
        let body = loop {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err("the server closed a connection".into());
            }
            if let Some(body) = whole_body(&answer) {
                break body;
            }
        };
        latencies.push(began.elapsed());
        // The bare handler answers with nothing; hooksink with what it stored, which must be new.
        let new = body.is_empty() || contains(body, accepted.as_bytes());
        if !answer.starts_with(b"HTTP/1.1 200 ") || !new {
            println!("unexpected answer: {}", String::from_utf8_lossy(&answer).replace(['\r', '\n'], " "));
            return Err("unexpected answer".into());
        }
    }
    Ok(latencies)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The body of an answer, if all of it has come.
fn whole_body(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let length = answer[..end].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(b"content-length:".len())?;
        let value = name.eq_ignore_ascii_case(b"content-length:").then_some(value)?;
        str::from_utf8(value).ok()?.trim().parse::<usize>().ok()
    });
    let body = &answer[end + 4..];
    (body.len() >= length.unwrap_or(0)).then_some(body)
}
