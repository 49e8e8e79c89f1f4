//! Starts the loop of a sink again when it fails, so that none dies for good.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::backoff::Backoff;
use super::dispatcher::Dispatcher;

const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(30) };

/// A loop that ran for so long before it failed is started again as if it had never failed.
const SOUND: Duration = Duration::from_secs(60);

/// Runs the dispatcher until `stop`, again and again if it fails or panics, and closes the sink at the end. Calls under
/// way when it stops may end; to bound that, drop the future.
pub async fn supervise(dispatcher: Dispatcher, stop: CancellationToken) {
    let sink = &dispatcher.sink;
    let mut failures = 0;
    while !stop.is_cancelled() {
        let started = Instant::now();
        match AssertUnwindSafe(dispatcher.run(&stop)).catch_unwind().await {
            Ok(Ok(())) => break,
            Ok(Err(cause)) => error!(%sink, %cause, "delivery to the sink failed and is started again"),
            Err(_) => error!(%sink, "delivery to the sink panicked and is started again"),
        }
        failures = if started.elapsed() > SOUND { 1 } else { failures + 1 };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(BACKOFF.delay(failures, rand::random())) => {}
        }
    }
    match AssertUnwindSafe(dispatcher.target.close()).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => warn!(%sink, %cause, "the sink could not be closed in order"),
        Err(_) => warn!(%sink, "the sink panicked when it was closed"),
    }
}
