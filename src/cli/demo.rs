use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use clap::Args;
use hooksink::app::{App, Listeners, OwnSink};
use hooksink::config::{self, Inputs, Loaded, LogConfig, LogFormat};
use hooksink::names::SourceType;
use hooksink::secret::Secret;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::console::Console;
use super::exit::{Failure, Outcome};
use super::fresh::freshen;
use super::output::print;
use super::post::Sender;
use super::samples::SAMPLES;
use super::serve::stop_on_signal;
use super::telemetry;

/// The last event arrives a moment after the last answer; a machine under load may need longer.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// See it work: the server on loopback with generated secrets, every sample sent through its door, each event as it
/// reaches a sink
///
/// It keeps its journal in ./data/demo, reads no configuration, and stays until Ctrl-C.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// End after the last event, with a status that says whether all arrived
    #[arg(long)]
    exit: bool,
}

/// Generated for one run.
struct Secrets {
    verify_token: String,
    app_secret: String,
    signature_secret: String,
}

impl Demo {
    pub(crate) fn run(self) -> Outcome {
        // Warnings only: the console belongs to the events.
        telemetry::start(&LogConfig { format: LogFormat::Text, level: "warn".into(), request_lines: 0 })?;
        let random = || hex::encode(rand::random::<[u8; 16]>());
        let secrets = Secrets { verify_token: random(), app_secret: random(), signature_secret: random() };
        let loaded = load(&secrets)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(loaded.config.server.worker_threads)
            .enable_all()
            .build()
            .map_err(|error| Failure::internal(format!("cannot start: {error}")))?;
        runtime.block_on(self.demonstrate(loaded, &secrets))
    }

    async fn demonstrate(self, loaded: Loaded, secrets: &Secrets) -> Outcome {
        let console = Arc::new(Console::new(Utc::now()));
        let arrived = console.arrived();
        let name = "console".parse().map_err(|error| Failure::internal(format!("{error}")))?;
        let app = App::build(loaded.config, vec![OwnSink::new(name, console)]).await?;
        let listeners = Listeners { public: listen(8080).await?, admin: listen(9090).await? };
        let (public, admin) = listeners.addresses().map_err(|error| Failure::internal(error.to_string()))?;
        let stop = stop_on_signal()?;
        let serving = tokio::spawn(app.serve(listeners, stop.clone()));

        print(&format!(
            "hooksink listens on http://{public}, its admin listener on http://{admin}.\n\
             Every sample is now signed and posted as its sender would. Events as they reach a sink:\n\n"
        ))?;
        let outcome = tokio::select! {
            outcome = send_all(public, secrets, arrived) => outcome,
            () = stop.cancelled() => Err(Failure::internal("stopped before every event had arrived")),
        };
        if let Ok(sent) = &outcome {
            print(sent)?;
            if !self.exit {
                print(&next_steps(public, admin, secrets))?;
                stop.cancelled().await;
            }
        }
        stop.cancel();
        serving.await.map_err(|error| Failure::internal(format!("the server failed: {error}")))?;
        outcome.map(|_| ())
    }
}

/// Posts every sample and waits until each of their events has arrived.
async fn send_all(public: SocketAddr, secrets: &Secrets, mut arrived: watch::Receiver<u64>) -> Result<String, Failure> {
    let sender = |source_type, name: &str, secret: &str| {
        let url = format!("http://{public}/webhooks/{name}");
        let url = url.parse().map_err(|error| Failure::internal(format!("{url}: {error}")))?;
        Sender::new(source_type, url, Some(Secret::new(secret)))
    };
    let senders = [
        sender(SourceType::Meta, "messenger", &secrets.app_secret)?,
        sender(SourceType::WebexConnect, "connect", &secrets.signature_secret)?,
    ];
    let (mut accepted, mut duplicates) = (0, 0);
    for sample in SAMPLES {
        let Some(sender) = senders.iter().find(|sender| sender.source_type.as_str() == sample.source_type) else {
            continue;
        };
        let answer = sender.post(freshen(sample.body, Uuid::new_v4(), Utc::now())).await;
        let answer = answer.map_err(|failure| Failure::internal(format!("sample {}: {failure}", sample.name)))?;
        accepted += answer.accepted;
        duplicates += answer.duplicates;
    }
    let all =
        timeout(ARRIVAL_TIMEOUT, arrived.wait_for(|arrived| *arrived >= accepted)).await.is_ok_and(|all| all.is_ok());
    let arrived = *arrived.borrow();
    if !all || arrived != accepted {
        return Err(Failure::internal(format!("{accepted} events were accepted, {arrived} arrived")));
    }
    Ok(format!(
        "\n{} payloads sent, {accepted} events accepted ({duplicates} recognized as copies), {arrived} arrived.\n",
        SAMPLES.len()
    ))
}

fn load(secrets: &Secrets) -> Result<Loaded, Failure> {
    let Secrets { verify_token, app_secret, signature_secret } = secrets;
    let text = format!(
        r#"
        [server]
        drain_delay = "0s"
        [journal]
        path = "data/demo/journal.db"
        backup_dir = "data/demo/backups"
        max_size = "1 GiB"
        disk_reserve = "16 MiB"
        [sources.messenger]
        type = "meta"
        verify_token = "{verify_token}"
        app_secrets = "{app_secret}"
        own_app_ids = "1517776481860111"
        [sources.connect]
        type = "webex-connect"
        signature_secrets = "{signature_secret}"
        timezone = "UTC"
        [sinks.archive]
        type = "file"
        path = "data/demo/events.jsonl"
        rotate_size = "16 MiB"
        keep_files = 2
        "#
    );
    let inputs = Inputs {
        file: Some(("demo".into(), text)),
        environment: BTreeMap::new(),
        flags: Vec::new(),
        read_secret: &|_| Err(std::io::ErrorKind::Unsupported.into()),
    };
    Ok(config::load(&inputs)?)
}

/// Listens on loopback, on this port if it is free, else on any.
async fn listen(port: u16) -> Result<TcpListener, Failure> {
    if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        return Ok(listener);
    }
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    any.map_err(|error| Failure::unavailable(format!("cannot listen on 127.0.0.1: {error}")))
}

fn next_steps(public: SocketAddr, admin: SocketAddr, secrets: &Secrets) -> String {
    let Secrets { verify_token, app_secret, signature_secret } = secrets;
    let hooksink = std::env::args().next().unwrap_or_else(|| "hooksink".into());
    format!(
        r#"
What to try next, in another terminal:

  Meta's subscription check, which is answered with its challenge
    curl "http://{public}/webhooks/messenger?hub.mode=subscribe&hub.verify_token={verify_token}&hub.challenge=hello"
  A sample of your choice; the second command sends the same bytes twice, and the copy is a duplicate
    {hooksink} send meta --list
    {hooksink} send meta echo.text --exact --count 2 --url http://{public}/webhooks/messenger --secret {app_secret}
    {hooksink} send webex-connect delivery.delivered --url http://{public}/webhooks/connect --secret {signature_secret}
  A forged one, which is refused
    {hooksink} send meta echo.text --url http://{public}/webhooks/messenger --secret wrong
  How far the sinks are, everything once more, and a copy of the journal
    {hooksink} sinks list --admin http://{admin}
    {hooksink} replay --sink console --from 1h --admin http://{admin}
    {hooksink} journal backup copy.db --admin http://{admin}
  Health and metrics
    curl http://{admin}/readyz?verbose
    curl http://{admin}/metrics
  The events as JSON lines
    data/demo/events.jsonl

Ctrl-C ends it. A configuration of your own begins with `{hooksink} schema config`.
"#
    )
}
