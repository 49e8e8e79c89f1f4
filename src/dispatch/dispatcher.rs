//! The loop of a sink: reads the journal, calls the sink, settles what became of events.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::lanes::{Bounds, Call, CallId, Failure, Lanes, News, Next, Step};
use super::sieve::{Sieve, Sifted};
use crate::config::DeliveryConfig;
use crate::event::Lane;
use crate::journal::{Consumer, Journal, JournalError, Outcome, Ticket};
use crate::metrics::{Metrics, SinkLabels};
use crate::names::SinkName;
use crate::sinks::{Blame, Limits, Sink, SinkError, Undelivered};

/// Raw bytes a sink's window holds, but for the last event read.
const WINDOW_BYTES: usize = 64 * 1024 * 1024;

/// Characters of a cause that are kept for logs and dead letters.
const MAX_CAUSE: usize = 500;

/// A read that takes longer keeps nothing waiting that is at hand, however little it is.
const QUICK: Duration = Duration::from_millis(10);

/// Why the loop of a sink ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A call to the sink ended without a result, which only the end of the runtime can cause.
    #[error("a call was lost: {0}")]
    Lost(#[from] JoinError),
}

/// Hands the events of the journal to one sink.
pub struct Dispatcher {
    /// The sink's name.
    pub sink: SinkName,
    /// The sink.
    pub target: Arc<dyn Sink>,
    /// How it is treated.
    pub delivery: DeliveryConfig,
    /// Where events come from.
    pub journal: Arc<dyn Journal>,
    /// Makes what the sink is handed of records.
    pub sieve: Arc<Sieve>,
    /// Where deliveries and failures are counted.
    pub metrics: Arc<Metrics>,
}

impl Dispatcher {
    /// Runs until `stop`; then makes no new calls, waits for those under way (bound it from outside by dropping the
    /// future) and makes what was settled durable. Does not close the sink: [`super::supervise`] does.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), DispatchError> {
        while !stop.is_cancelled() {
            let mut consumer = self.journal.consumer(&self.sink).await?;
            let mut lanes = Lanes::new(self.bounds());
            lanes.restore(consumer.parked().await?);
            let moved = consumer.moved();
            let calls = Calls { of: self, lanes, under_way: JoinSet::new(), limits: self.limits(), called: None };
            let mut run = Run { of: self, consumer, calls, told_full: false };
            let ended = run.until(stop, &moved).await;
            // Also where the journal failed: what got through meanwhile is not to come again. Where others are to have
            // some of the events, it goes on with the rest.
            let finished = run.finish().await;
            ended?;
            finished?;
        }
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            window: self.delivery.window.max(1),
            window_bytes: WINDOW_BYTES,
            max_parked: self.delivery.max_parked.max(1),
            max_attempts: self.delivery.max_attempts.max(1),
            backoff: Backoff { initial: self.delivery.retry_initial, max: self.delivery.retry_max },
        }
    }

    fn limits(&self) -> Limits {
        let limits = self.target.limits();
        Limits {
            max_events: limits.max_events.max(1),
            max_bytes: limits.max_bytes.max(1),
            concurrency: limits.concurrency.max(1),
            timeout: limits.timeout,
            linger: limits.linger,
        }
    }

    fn labels(&self) -> SinkLabels {
        SinkLabels { sink: self.sink.to_string() }
    }
}

/// What a call came to.
type Ended = (CallId, Result<(), Failure>);

/// One run of a dispatcher.
struct Run<'a> {
    of: &'a Dispatcher,
    consumer: Box<dyn Consumer>,
    calls: Calls<'a>,
    /// Whether it was said that too much is parked.
    told_full: bool,
}

/// The calls of a run: all that goes on while the consumer is busy.
struct Calls<'a> {
    of: &'a Dispatcher,
    lanes: Lanes,
    under_way: JoinSet<Ended>,
    limits: Limits,
    /// When the last call began.
    called: Option<Instant>,
}

/// What keeps further calls from being made.
enum Needs {
    /// This parked event.
    Event(Lane, Ticket),
    /// Time, if nothing else happens.
    Time(Instant),
    /// That a call ends or entries come.
    News,
}

impl Run<'_> {
    async fn until(&mut self, stop: &CancellationToken, moved: &CancellationToken) -> Result<(), DispatchError> {
        // Whether the journal may have something that was not read.
        let mut more = true;
        while !stop.is_cancelled() && !moved.is_cancelled() {
            // The sink is to have something to do while more is read, but not less than would fill a call.
            if self.calls.lanes.at_hand() >= self.calls.limits.max_events {
                self.call().await?;
            }
            if more && let Some(room) = self.calls.lanes.room() {
                let Some(read) = self.read(room, stop, moved).await? else { break };
                more = read;
            }
            let wake = self.call().await?;
            let step = self.calls.lanes.relieve();
            if !step.outcomes.is_empty() {
                self.settle(step).await?;
                continue;
            }
            self.tell_full();
            let room = self.calls.lanes.room().is_some();
            if more && room {
                // What the sieve drops takes no room, so that this may go on for long.
                if let Some(ended) = self.calls.under_way.try_join_next() {
                    self.ended(ended?).await?;
                }
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = moved.cancelled() => break,
                Some(ended) = self.calls.under_way.join_next() => self.ended(ended?).await?,
                () = self.consumer.ready(), if !more && room => more = true,
                () = sleep_until(wake), if wake.is_some() => {}
            }
        }
        Ok(())
    }

    /// Reads as many events and bytes at most, and makes calls meanwhile. Whether there were any; nothing, if it is to
    /// stop, or others are to have some of them.
    async fn read(
        &mut self,
        (events, bytes): (usize, usize),
        stop: &CancellationToken,
        moved: &CancellationToken,
    ) -> Result<Option<bool>, DispatchError> {
        // The journal is told when it has been read.
        let mut step = Step::default();
        let read = {
            let Self { of, consumer, calls, .. } = self;
            let mut reading = pin!(async {
                let entries = consumer.read(events, bytes).await?;
                let any = !entries.is_empty();
                Ok::<_, DispatchError>(Some((any, of.sieve.sift(entries).await?)))
            });
            let mut wake = Instant::now() + QUICK;
            loop {
                tokio::select! {
                    // What is not settled is read again, by whoever has it then.
                    () = stop.cancelled() => break Ok(None),
                    () = moved.cancelled() => break Ok(None),
                    read = &mut reading => break read,
                    Some(ended) = calls.under_way.join_next() => {
                        step.append(calls.take_in(ended?)?);
                        calls.start_all();
                    }
                    () = sleep_until(Some(wake)) => {
                        let next = Instant::now() + QUICK;
                        wake = if let Needs::Time(at) = calls.start_all() { next.max(at) } else { next };
                    }
                }
            }
        };
        self.settle(step).await?;
        let Some((any, Sifted { wanted, outcomes })) = read? else { return Ok(None) };
        if !outcomes.is_empty() {
            self.consumer.settle(outcomes).await?;
        }
        let step = self.calls.lanes.add(wanted);
        self.settle(step).await?;
        Ok(Some(any))
    }

    /// Makes all calls that can be made now. When there will be more, if nothing else happens.
    async fn call(&mut self) -> Result<Option<Instant>, DispatchError> {
        loop {
            match self.calls.start_all() {
                Needs::Event(lane, ticket) => {
                    let record = self.consumer.load(ticket).await?.map(|entry| entry.record);
                    if record.is_none() {
                        warn!(sink = %self.of.sink, ?ticket, "a parked event is not in the journal any more");
                        self.consumer.settle(vec![(ticket, Outcome::LetGo)]).await?;
                    }
                    self.calls.lanes.loaded(&lane, ticket, record);
                }
                Needs::Time(until) => return Ok(Some(until)),
                Needs::News => return Ok(None),
            }
        }
    }

    /// Takes in a call that ended, and all others that did, and tells the journal.
    async fn ended(&mut self, first: Ended) -> Result<(), DispatchError> {
        let step = self.calls.take_in(first)?;
        self.settle(step).await
    }

    /// Tells the journal and the log.
    async fn settle(&mut self, step: Step) -> Result<(), DispatchError> {
        if !step.outcomes.is_empty() {
            self.consumer.settle(step.outcomes).await?;
        }
        if step.delivered > 0 {
            self.of.metrics.sink_delivered.get_or_create(&self.of.labels()).inc_by(step.delivered as u64);
        }
        let sink = &self.of.sink;
        for news in step.news {
            match news {
                News::Down { cause } => warn!(%sink, %cause, "the sink is down; its events wait in the journal"),
                News::Up { lasted } => info!(%sink, down_seconds = lasted.as_secs(), "the sink is up again"),
                News::Dead { id, kind, attempts, cause } => {
                    warn!(%sink, event = %id, %kind, attempts, %cause, "gave up on an event; it is a dead letter now");
                }
            }
        }
        Ok(())
    }

    fn tell_full(&mut self) {
        let lanes = &self.calls.lanes;
        if lanes.parked_low() {
            self.told_full = false;
        }
        if lanes.parked_full() && !self.told_full {
            self.told_full = true;
            warn!(
                sink = %self.of.sink,
                max_parked = self.of.delivery.max_parked,
                "as many events are parked as may be; nothing further is read until some get through"
            );
        }
    }

    /// Lets calls under way end, and makes everything settled durable.
    async fn finish(mut self) -> Result<(), DispatchError> {
        while let Some(ended) = self.calls.under_way.join_next().await {
            self.ended(ended?).await?;
        }
        Ok(self.consumer.flush().await?)
    }
}

impl Calls<'_> {
    /// Makes calls until something is needed for the next one.
    fn start_all(&mut self) -> Needs {
        loop {
            let now = Instant::now();
            let gathered = self.called.map(|called| called + self.limits.linger).filter(|gathered| *gathered > now);
            if let Some(gathered) = gathered
                && self.lanes.held() < self.limits.max_events
                && self.lanes.room().is_some()
            {
                return Needs::Time(gathered);
            }
            match self.lanes.next(now, &self.limits) {
                Next::Call(call) => {
                    self.called = Some(now);
                    self.start(call);
                }
                Next::Load(lane, ticket) => return Needs::Event(lane, ticket),
                Next::Wait(until) => return Needs::Time(until),
                Next::Idle => return Needs::News,
            }
        }
    }

    /// Starts a call as a task of its own, so that encoding for one sink uses more than one core.
    fn start(&mut self, Call { id, records }: Call) {
        let (target, sieve, timeout) = (self.of.target.clone(), self.of.sieve.clone(), self.limits.timeout);
        self.under_way.spawn(async move {
            let call = async {
                let events = sieve.events(records).await.map_err(|(position, cause)| unsent(position, cause))?;
                match tokio::time::timeout(timeout, target.deliver(&events)).await {
                    Ok(result) => result.map_err(failure),
                    Err(_) => Err(unknown(format!("no result within {timeout:?}"))),
                }
            };
            // A panic fails the call, so that an event that causes it is found like any other poison.
            let result = AssertUnwindSafe(call).catch_unwind().await;
            (id, result.unwrap_or_else(|_| Err(unknown("the sink panicked".to_owned()))))
        });
    }

    /// Takes in a call that ended, and all others that did; the journal is yet to be told.
    fn take_in(&mut self, first: Ended) -> Result<Step, JoinError> {
        let mut step = Step::default();
        let mut next = Some(first);
        while let Some((id, result)) = next {
            if let Err(failure) = &result {
                debug!(sink = %self.of.sink, delivered = failure.delivered, cause = %failure.cause, "a call failed");
                self.of.metrics.sink_retries.get_or_create(&self.of.labels()).inc();
            }
            step.append(self.lanes.done(id, result, Instant::now(), rand::random()));
            next = self.under_way.try_join_next().transpose()?;
        }
        Ok(step)
    }
}

async fn sleep_until(wake: Option<Instant>) {
    if let Some(wake) = wake {
        tokio::time::sleep_until(wake.into()).await;
    }
}

/// The event at this position cannot be sent, and those before it were not.
fn unsent(position: usize, cause: String) -> Failure {
    let blame = if position == 0 { Blame::Event } else { Blame::Unknown };
    Failure { delivered: 0, blame, permanent: position == 0, retry_after: None, cause }
}

fn unknown(cause: String) -> Failure {
    Failure { delivered: 0, blame: Blame::Unknown, permanent: false, retry_after: None, cause }
}

fn failure(undelivered: Undelivered) -> Failure {
    let Undelivered { delivered, blame, cause } = undelivered;
    let text = cause.to_string().chars().take(MAX_CAUSE).collect();
    match cause {
        SinkError::Transient { retry_after, .. } => {
            Failure { delivered, blame, permanent: false, retry_after, cause: text }
        }
        SinkError::Permanent { .. } => Failure { delivered, blame, permanent: true, retry_after: None, cause: text },
    }
}
