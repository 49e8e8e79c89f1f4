//! A thread for blocking writes. One a sink, so that a write that hangs (a full pipe, a lost network disk) holds one
//! thread and not the runtime's pool, and does not keep the process from ending.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{mpsc, oneshot};

/// The thread is busy, ended or panicked, and did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the writing thread gave no result")]
pub(super) struct NoResult;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// A thread that owns `T` and works on it, one job after another. It ends when this is dropped.
pub(super) struct Worker<T> {
    jobs: mpsc::Sender<Job<T>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts the thread.
    pub(super) fn start(name: String, mut owned: T) -> io::Result<Self> {
        let (jobs, mut todo) = mpsc::channel::<Job<T>>(1);
        std::thread::Builder::new().name(name).spawn(move || {
            while let Some(job) = todo.blocking_recv() {
                // A job that panics drops its answer, which its caller notices; the next one still runs.
                let _ = catch_unwind(AssertUnwindSafe(|| job(&mut owned)));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Has the thread do something and waits for the result. If the future is dropped before the job began, the job is
    /// left out; if it began, it runs to its end.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, NoResult> {
        let (answer, result) = oneshot::channel();
        let job = Box::new(move |owned: &mut T| {
            if !answer.is_closed() {
                let _ = answer.send(work(owned));
            }
        });
        self.jobs.send(job).await.map_err(|_| NoResult)?;
        result.await.map_err(|_| NoResult)
    }
}
