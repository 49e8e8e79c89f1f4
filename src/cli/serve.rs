use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hooksink::app::{App, Handle, StartError};
use hooksink::config::Loaded;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::check::too_little_space;
use super::config_args::ConfigArgs;
use super::exit::{Failure, Outcome};
use super::telemetry;

/// What is left of threads that may block when everything has stopped.
const LAST_MOMENTS: Duration = Duration::from_millis(500);

/// Receive webhooks, keep them, and hand them on
///
/// SIGTERM or Ctrl-C stops, a second one at once. SIGHUP reopens the files of sinks and reads secrets anew.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Serve {
    pub(crate) fn run(self) -> Outcome {
        let loaded = self.config.load()?;
        telemetry::start(&loaded.config.log)?;
        let file = self.config.file().map(|path| path.display().to_string());
        tracing::info!(version = env!("CARGO_PKG_VERSION"), config = file, "hooksink starts");
        for warning in loaded.warnings.iter().chain(&too_little_space(&loaded.config)) {
            tracing::warn!(key = warning.key, "{}", warning.message);
        }
        if let Err(error) = hooksink::http::raise_fd_limit() {
            tracing::warn!(%error, "the limit of file descriptors cannot be raised");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(loaded.config.server.worker_threads)
            .enable_all()
            .build()
            .map_err(|error| Failure::internal(format!("cannot start: {error}")))?;
        let outcome = runtime.block_on(serve(self.config, loaded));
        // A thread that may block, and does, holds up no stop.
        runtime.shutdown_timeout(LAST_MOMENTS);
        outcome
    }
}

async fn serve(args: ConfigArgs, loaded: Loaded) -> Outcome {
    // Before anything else: opening a journal may take long, and a signal that nobody listens for ends the process.
    let hang_up = listen(SignalKind::hangup())?;
    let stop = stop_on_signal()?;
    // Nobody waits for it: that it is listened for makes a write past a limit of file sizes fail as on a full disk,
    // where it would end the process.
    let _file_too_large = listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let app = App::build(loaded.config.clone(), Vec::new()).await?;
    let listeners = app.bind().await?;
    tokio::spawn(reload_on(hang_up, args, Arc::new(loaded), app.handle()));
    app.serve(listeners, stop).await;
    Ok(())
}

/// Is cancelled by SIGTERM or SIGINT; a second one ends the process at once, since what was answered 200 is on disk.
pub(crate) fn stop_on_signal() -> Result<CancellationToken, Failure> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        let mut either = async || tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () };
        either().await;
        stopping.cancel();
        either().await;
        tracing::warn!("stopped at once by a second signal");
        telemetry::flush();
        std::process::exit(super::exit::Exit::Internal.status().into());
    });
    Ok(stop)
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::internal(format!("cannot listen for signals: {error}")))
}

/// Reads the configuration anew on each signal: secrets take their new values at once.
async fn reload_on(mut hang_up: Signal, args: ConfigArgs, loaded: Arc<Loaded>, handle: Handle) {
    while hang_up.recv().await.is_some() {
        handle.reopen_sinks().await;
        let (args, loaded) = (args.clone(), Arc::clone(&loaded));
        let reloaded = tokio::task::spawn_blocking(move || loaded.reload(&args.inputs()?)).await;
        match reloaded {
            Ok(Ok(changes)) => {
                tracing::info!(rotated = ?changes.rotated, "sink files reopened, secrets read anew");
                for key in changes.restart {
                    tracing::warn!(key, "this setting has changed, which needs a restart");
                }
            }
            Ok(Err(errors)) => {
                for error in errors.0 {
                    tracing::error!(%error, "the configuration is wrong; the old one stays");
                }
            }
            Err(error) => tracing::error!(%error, "the configuration could not be read anew; the old one stays"),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Journal(_) | StartError::Sinks(_) | StartError::Sink { .. } | StartError::Bind { .. } => {
                Self::unavailable(error.to_string())
            }
        }
    }
}
